//! Messages as bytes: the one module that knows which serialiser is used.
//!
//! A frame holds a head, which is a [`ClientMessage`] or [`ServerMessage`] in bincode's *legacy*
//! layout and says itself where it ends, and a tail, which is object data and all the rest of the
//! frame. PROTOCOL.md writes the layout down and golden vectors pin it, so that what stands in this
//! module can be exchanged without a change on the wire.

use alloc::string::ToString;
use alloc::vec::Vec;

use bincode::config::{self, Config};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bytes::{Buf, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::framed;
use crate::{
    Call, ClientMessage, ConflictFound, HistoryItem, Loaded, MAX_BATCH, MAX_FRAME, MAX_META,
    MAX_NEW_OIDS, MAX_OBJECT, Reply, ServerMessage, TxnMeta, WireError,
};

/// A message's head: [`ClientMessage`] or [`ServerMessage`], and nothing else.
pub trait Head: Serialize + DeserializeOwned + sealed::Sealed {
    /// Checks what the layout alone does not: whether a tail of that length may follow, and the
    /// bounds that involve more than one field.
    fn check(&self, tail: usize) -> Result<(), WireError>;
}

/// Appends a whole frame to `out`.
///
/// A message that does not fit into the protocol is an error, and `out` is as it was.
pub fn encode<M: Head>(message: &M, tail: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    encode_head(message, tail.len(), out)?;
    out.extend_from_slice(tail);
    Ok(())
}

/// Appends a frame to `out` up to where its tail begins: the caller sends the `tail` bytes that
/// are missing right after it, from wherever they are.
///
/// A message that does not fit into the protocol is an error, and `out` is as it was.
pub fn encode_head<M: Head>(message: &M, tail: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    message.check(tail)?;
    framed(out, tail, |out| {
        let start = out.len();
        bincode::serde::encode_into_writer(message, Appending(out), layout())
            .map_err(unsendable)?;
        if out.len() - start > HEAD_MAX {
            return Err(WireError::HeadTooLong { max: HEAD_MAX });
        }
        Ok(())
    })
}

/// Takes a frame (without its length) apart into message and tail; the tail is a slice of it.
///
/// The frame must be used up exactly, and every bound of the message is checked.
pub fn decode<M: Head>(mut frame: Bytes) -> Result<(M, Bytes), WireError> {
    let (message, head) = decode_head(&frame)?;
    frame.advance(head);
    Ok((message, frame))
}

/// The message of a frame, and how many bytes its head takes; the rest has been found to be a tail
/// that fits it.
pub(crate) fn decode_head<M: Head>(frame: &[u8]) -> Result<(M, usize), WireError> {
    let (message, head): (M, usize) =
        bincode::serde::decode_from_slice(frame, layout()).map_err(unreadable)?;
    message.check(frame.len() - head)?;
    Ok((message, head))
}

impl Head for ClientMessage {
    fn check(&self, tail: usize) -> Result<(), WireError> {
        match self {
            Self::Store(..) => return check_object(tail),
            Self::TpcBegin(_, begin) => check_meta(&begin.meta)?,
            Self::Call(_, Call::NewOids(count)) => check_count(*count)?,
            Self::Call(_, Call::History(_, _, count) | Call::Objects(_, _, count)) => {
                check_page(*count)?;
            }
            Self::Call(..)
            | Self::ReadCurrent(..)
            | Self::Delete(..)
            | Self::TpcAbort(_)
            | Self::Goodbye(_)
            | Self::Undo(..)
            | Self::Restore(..) => {}
        }
        check_tail(0, tail)
    }
}

impl Head for ServerMessage {
    fn check(&self, tail: usize) -> Result<(), WireError> {
        match self {
            Self::Reply(_, reply) => reply.check(tail),
            Self::Failure(..) | Self::Invalidate(..) | Self::Goodbye(_) => check_tail(0, tail),
        }
    }
}

impl Reply {
    fn check(&self, tail: usize) -> Result<(), WireError> {
        match self {
            Self::Loaded(loaded) => check_tail(loaded.data_len(), tail),
            Self::LoadedMany(page, _) => check_tails(page.iter().map(Loaded::data_len), tail),
            Self::Conflicts(page) => {
                let data_len = |found: &ConflictFound| found.found.map_or(0, |it| it.data_len());
                check_tails(page.iter().map(data_len), tail)
            }
            Self::History(page) => {
                page.iter().try_for_each(|entry| check_meta(&entry.meta))?;
                check_tail(0, tail)
            }
            Self::Transactions(page) => {
                page.items.iter().try_for_each(HistoryItem::check)?;
                check_tails(page.items.iter().map(HistoryItem::data_len), tail)
            }
            Self::NewOids(_, count) => check_count(*count).and_then(|()| check_tail(0, tail)),
            Self::Status => Ok(()),
            Self::Pong
            | Self::LastTid(_)
            | Self::CatchUp(_)
            | Self::Outcome(_)
            | Self::Voted
            | Self::Finished(_)
            | Self::Objects(..)
            | Self::Size(_) => check_tail(0, tail),
        }
    }
}

impl Loaded {
    /// How many bytes of the tail are this one's data.
    pub fn data_len(&self) -> usize {
        match self {
            Self::Absent | Self::Deleted(_) => 0,
            Self::Revision(_, length) => in_memory(*length),
        }
    }
}

impl HistoryItem {
    /// How many bytes of the tail are this one's data.
    pub fn data_len(&self) -> usize {
        match self {
            Self::Transaction(_) => 0,
            Self::Record(record) => record.data_len.map_or(0, in_memory),
        }
    }

    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Transaction(head) => check_meta(&head.meta),
            Self::Record(_) => Ok(()),
        }
    }
}

fn in_memory(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn check_object(found: usize) -> Result<(), WireError> {
    let max = MAX_OBJECT;
    if found <= max { Ok(()) } else { Err(WireError::ObjectTooLong { found, max }) }
}

fn check_tail(expected: usize, found: usize) -> Result<(), WireError> {
    if found == expected { Ok(()) } else { Err(WireError::TailLength { expected, found }) }
}

/// A tail that is several objects' data, one after the other.
fn check_tails(expected: impl Iterator<Item = usize>, found: usize) -> Result<(), WireError> {
    check_tail(expected.fold(0, usize::saturating_add), found)
}

fn check_meta(meta: &TxnMeta) -> Result<(), WireError> {
    let (found, max) = (meta.size(), MAX_META);
    if found <= max { Ok(()) } else { Err(WireError::MetaTooLong { found, max }) }
}

fn check_count(found: u32) -> Result<(), WireError> {
    let max = MAX_NEW_OIDS;
    if (1..=max).contains(&found) { Ok(()) } else { Err(WireError::OidCount { found, max }) }
}

fn check_page(found: u32) -> Result<(), WireError> {
    let max = MAX_BATCH;
    if (1..=max).contains(&in_memory(found)) {
        Ok(())
    } else {
        Err(WireError::PageLength { found, max })
    }
}

/// Integers of fixed size, least significant byte first, as bincode 1 wrote them.
fn layout() -> impl Config {
    config::legacy().with_limit::<HEAD_MAX>()
}

fn unreadable(error: DecodeError) -> WireError {
    if matches!(error, DecodeError::UnexpectedEnd { .. }) {
        WireError::HeadCut
    } else if matches!(error, DecodeError::LimitExceeded) {
        WireError::HeadTooLong { max: HEAD_MAX }
    } else if let DecodeError::OtherString(text) = error {
        WireError::NotAMessage(text)
    } else {
        WireError::NotAMessage(error.to_string())
    }
}

/// Only a field beyond its bound makes the serialiser fail.
fn unsendable(error: EncodeError) -> WireError {
    let EncodeError::OtherString(text) = error else {
        return WireError::NotAMessage(error.to_string());
    };
    WireError::NotAMessage(text)
}

/// Lets bincode append to a buffer.
struct Appending<'a>(&'a mut Vec<u8>);

impl Writer for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else can implement Head")]
    pub trait Sealed {}
    impl Sealed for super::ClientMessage {}
    impl Sealed for super::ServerMessage {}
}

/// Bytes of a head: what a frame has beside the largest object.
const HEAD_MAX: usize = MAX_FRAME - MAX_OBJECT;
