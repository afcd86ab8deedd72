//! The handshake: greeting, hello, and welcome or refusal.
//!
//! Its layout is frozen and written by hand, because it is what two sides that have nothing else in
//! common must understand of each other. PROTOCOL.md has the tables.
//!
//! The greeting begins as that of a ZEO 5 server does, and goes on with what a ZEO 5 client does
//! not look at, so one port serves both.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bounded::cut;
use crate::fields::{Fields, write_field};
use crate::frame::framed;
use crate::{Identity, MAX_REASON, Tid, WireError};

/// Which versions of the native protocol one side speaks: from the lowest to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

impl Versions {
    /// What this crate speaks.
    pub const SPOKEN: Self = Self { lowest: 1, highest: 1 };

    /// The highest version that both sides speak.
    pub fn common(self, theirs: Self) -> Result<u16, WireError> {
        let highest = self.highest.min(theirs.highest);
        if highest >= self.lowest.max(theirs.lowest) { Ok(highest) } else { Err(self.none(theirs)) }
    }

    fn none(self, theirs: Self) -> WireError {
        WireError::NoCommonVersion {
            theirs: (theirs.lowest, theirs.highest),
            ours: (self.lowest, self.highest),
        }
    }
}

/// The server's first frame: what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// The versions of the native protocol.
    pub versions: Versions,
}

impl Default for Greeting {
    fn default() -> Self {
        Self { versions: Versions::SPOKEN }
    }
}

impl Greeting {
    /// Appends the frame.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        write(out, |out| {
            out.extend_from_slice(b"M5");
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&self.versions.lowest.to_be_bytes());
            out.extend_from_slice(&self.versions.highest.to_be_bytes());
        });
    }

    /// Reads the frame, without its length.
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let native = frame.strip_prefix(b"M5").or_else(|| frame.strip_prefix(b"Z5"));
        let rest =
            native.and_then(|rest| rest.strip_prefix(MAGIC)).ok_or_else(|| stranger(frame))?;
        let (lowest, rest) = number(rest, "the lowest version")?;
        let (highest, rest) = number(rest, "the highest version")?;
        Fields::<0>::read(rest)?;
        Ok(Self { versions: Versions { lowest, highest } })
    }
}

/// The client's first frame: who it is, what it wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version that the client chose among those of the greeting. A client's machine sets it.
    pub version: u16,
    /// The storage that it wants to use: 1 to 255 bytes.
    storage: String,
    /// What the client calls itself, for logs and status; cut to 255 bytes when sent.
    pub label: String,
    /// The database that its cache belongs to, if it has one.
    pub known: Option<Identity>,
    /// The tid up to which its cache is good, if it has one.
    pub last_tid: Option<Tid>,
    /// It will not write.
    pub read_only: bool,
    /// The features that it knows, a bit each.
    pub features: u64,
}

impl Hello {
    /// Asks for a storage, whose name has 1 to 255 bytes; everything else is absent, and may be
    /// set.
    pub fn new(storage: &str) -> Result<Self, WireError> {
        let (found, max) = (storage.len(), MAX_NAME);
        if !(1..=max).contains(&found) {
            return Err(WireError::FieldLength { tag: hello::STORAGE, found, min: 1, max });
        }
        Ok(Self::to(storage.to_owned()))
    }

    fn to(storage: String) -> Self {
        Self {
            version: Versions::SPOKEN.highest,
            storage,
            label: String::new(),
            known: None,
            last_tid: None,
            read_only: false,
            features: 0,
        }
    }

    /// The storage that the client wants to use.
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// Appends the frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, |out| {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&self.version.to_be_bytes());
            write_field(hello::STORAGE, self.storage.as_bytes(), out);
            write_field(hello::LABEL, cut(&self.label, MAX_NAME).as_bytes(), out);
            if let Some(known) = self.known {
                write_field(hello::KNOWN, &known.to_wire(), out);
            }
            if let Some(last_tid) = self.last_tid {
                write_field(hello::LAST_TID, &last_tid.to_bytes(), out);
            }
            write_field(hello::FLAGS, &u32::from(self.read_only).to_be_bytes(), out);
            write_field(hello::FEATURES, &self.features.to_be_bytes(), out);
        });
    }

    /// Reads the frame, without its length.
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let rest = frame.strip_prefix(MAGIC).ok_or_else(|| stranger(frame))?;
        let (version, rest) = number(rest, "the version")?;
        let fields = Fields::<{ hello::FEATURES as usize }>::read(rest)?;
        let storage = fields.text(hello::STORAGE, 1, MAX_NAME)?;
        let flags = fields.fixed(hello::FLAGS)?.map_or(0, u32::from_be_bytes);
        Ok(Self {
            version,
            label: fields.text(hello::LABEL, 0, MAX_NAME)?.unwrap_or_default(),
            known: fields.fixed(hello::KNOWN)?.map(Identity::from_wire),
            last_tid: fields.fixed(hello::LAST_TID)?.map(Tid::from_bytes),
            read_only: flags & hello::READ_ONLY != 0,
            features: fields.fixed(hello::FEATURES)?.map_or(0, u64::from_be_bytes),
            ..Self::to(storage.ok_or(WireError::FieldMissing(hello::STORAGE))?)
        })
    }
}

/// What the server answers to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session begins.
    Welcome(Welcome),
    /// There will be no session; the server closes the connection.
    Refused(Refusal),
}

impl Answer {
    /// Reads the frame, without its length.
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let rest = frame.strip_prefix(MAGIC).ok_or_else(|| stranger(frame))?;
        match rest.split_first() {
            Some((&WELCOME, rest)) => Welcome::decode(rest).map(Self::Welcome),
            Some((&REFUSED, rest)) => Refusal::decode(rest).map(Self::Refused),
            Some((&kind, _)) => Err(WireError::AnswerKind(kind)),
            None => Err(WireError::HandshakeCut("the kind of answer")),
        }
    }
}

/// The session begins: which database it is with, and what may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The database.
    pub identity: Identity,
    /// The last tid published. Every later one is pushed on this connection.
    pub last_tid: Tid,
    /// The features that both sides know: those of the hello without what the server does not know.
    pub features: u64,
    /// The longest frame that the server accepts, in bytes.
    pub max_frame: u32,
    /// The largest transaction that the server accepts, in bytes.
    pub max_transaction: u64,
    /// How many calls may be in flight; the server reads no further while there are more.
    pub max_calls: u32,
}

impl Welcome {
    fn decode(rest: &[u8]) -> Result<Self, WireError> {
        let fields = Fields::<{ welcome::MAX_CALLS as usize }>::read(rest)?;
        Ok(Self {
            identity: Identity::from_wire(fields.required(welcome::IDENTITY)?),
            last_tid: Tid::from_bytes(fields.required(welcome::LAST_TID)?),
            features: fields.fixed(welcome::FEATURES)?.map_or(0, u64::from_be_bytes),
            max_frame: u32::from_be_bytes(fields.required(welcome::MAX_FRAME)?),
            max_transaction: u64::from_be_bytes(fields.required(welcome::MAX_TRANSACTION)?),
            max_calls: u32::from_be_bytes(fields.required(welcome::MAX_CALLS)?),
        })
    }
}

/// Appends the server's answer to a hello: the session begins.
pub fn welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    write(out, |out| {
        out.extend_from_slice(MAGIC);
        out.push(WELCOME);
        write_field(welcome::IDENTITY, &welcome.identity.to_wire(), out);
        write_field(welcome::LAST_TID, &welcome.last_tid.to_bytes(), out);
        write_field(welcome::FEATURES, &welcome.features.to_be_bytes(), out);
        write_field(welcome::MAX_FRAME, &welcome.max_frame.to_be_bytes(), out);
        write_field(welcome::MAX_TRANSACTION, &welcome.max_transaction.to_be_bytes(), out);
        write_field(welcome::MAX_CALLS, &welcome.max_calls.to_be_bytes(), out);
    });
}

/// There will be no session: why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What a program acts on.
    pub reason: RefusalReason,
    /// What a person reads; cut to [`MAX_REASON`] bytes when sent.
    pub text: String,
}

/// Why a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The hello could not be read.
    Malformed,
    /// The version chosen is not one of the greeting's.
    VersionUnsupported,
    /// There is no storage of that name.
    UnknownStorage,
    /// The client's cache belongs to another database.
    OtherDatabase {
        /// The one that the client named.
        known: Identity,
        /// The one that is here.
        here: Identity,
    },
    /// There are as many sessions as there may be; come back later.
    TooManySessions,
    /// The server is stopping; come back later.
    Stopping,
    /// The client wants to write, and the storage is read-only.
    ReadOnly,
    /// A code of a later version.
    Other(u16),
}

impl RefusalReason {
    fn code(self) -> u16 {
        match self {
            Self::Malformed => 1,
            Self::VersionUnsupported => 2,
            Self::UnknownStorage => 3,
            Self::OtherDatabase { .. } => 4,
            Self::TooManySessions => 5,
            Self::Stopping => 6,
            Self::ReadOnly => 7,
            Self::Other(code) => code,
        }
    }
}

impl Refusal {
    fn decode(rest: &[u8]) -> Result<Self, WireError> {
        let (code, rest) = number(rest, "the code")?;
        let fields = Fields::<{ refused::HERE as usize }>::read(rest)?;
        let text = fields.text(refused::TEXT, 0, MAX_REASON)?.unwrap_or_default();
        let reason = match code {
            1 => RefusalReason::Malformed,
            2 => RefusalReason::VersionUnsupported,
            3 => RefusalReason::UnknownStorage,
            4 => RefusalReason::OtherDatabase {
                known: Identity::from_wire(fields.required(refused::KNOWN)?),
                here: Identity::from_wire(fields.required(refused::HERE)?),
            },
            5 => RefusalReason::TooManySessions,
            6 => RefusalReason::Stopping,
            7 => RefusalReason::ReadOnly,
            other => RefusalReason::Other(other),
        };
        Ok(Self { reason, text })
    }
}

/// Appends the server's answer to a hello: there will be no session.
pub fn refuse(refusal: &Refusal, out: &mut Vec<u8>) {
    write(out, |out| {
        out.extend_from_slice(MAGIC);
        out.push(REFUSED);
        out.extend_from_slice(&refusal.reason.code().to_be_bytes());
        write_field(refused::TEXT, cut(&refusal.text, MAX_REASON).as_bytes(), out);
        if let RefusalReason::OtherDatabase { known, here } = refusal.reason {
            write_field(refused::KNOWN, &known.to_wire(), out);
            write_field(refused::HERE, &here.to_wire(), out);
        }
    });
}

impl Identity {
    fn to_wire(self) -> [u8; 24] {
        let mut wire = [0; 24];
        let (uuid, epoch) = wire.split_at_mut(16);
        uuid.copy_from_slice(&self.uuid);
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        wire
    }

    fn from_wire(wire: [u8; 24]) -> Self {
        let [uuid @ .., e0, e1, e2, e3, e4, e5, e6, e7] = wire;
        Self { uuid, epoch: u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]) }
    }
}

fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let fits = framed(out, 0, |out| {
        fill(out);
        Ok(())
    });
    fits.expect("every part of a handshake frame is bounded, far below the largest frame");
}

fn number<'a>(rest: &'a [u8], what: &'static str) -> Result<(u16, &'a [u8]), WireError> {
    let (number, rest) = rest.split_first_chunk().ok_or(WireError::HandshakeCut(what))?;
    Ok((u16::from_be_bytes(*number), rest))
}

fn stranger(frame: &[u8]) -> WireError {
    let start = frame.get(..8).unwrap_or(frame);
    WireError::NotZeo(format!("{}", start.escape_ascii()))
}

/// What every native handshake frame begins with, after the greeting's two bytes for ZEO 5.
const MAGIC: &[u8] = b"zeo";
/// Bytes of a storage's name and of a client's label.
const MAX_NAME: usize = 255;
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

/// The tags of the hello's fields.
mod hello {
    pub(super) const STORAGE: u8 = 1;
    pub(super) const LABEL: u8 = 2;
    pub(super) const KNOWN: u8 = 3;
    pub(super) const LAST_TID: u8 = 4;
    pub(super) const FLAGS: u8 = 5;
    pub(super) const FEATURES: u8 = 6;

    /// The flag of a client that will not write.
    pub(super) const READ_ONLY: u32 = 1;
}

/// The tags of the welcome's fields.
mod welcome {
    pub(super) const IDENTITY: u8 = 1;
    pub(super) const LAST_TID: u8 = 2;
    pub(super) const FEATURES: u8 = 3;
    pub(super) const MAX_FRAME: u8 = 4;
    pub(super) const MAX_TRANSACTION: u8 = 5;
    pub(super) const MAX_CALLS: u8 = 6;
}

/// The tags of the refusal's fields.
mod refused {
    pub(super) const TEXT: u8 = 1;
    pub(super) const KNOWN: u8 = 2;
    pub(super) const HERE: u8 = 3;
}
