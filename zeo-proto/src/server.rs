//! The server's side of a connection, as a machine: bytes in, events out.

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::handshake::refuse;
use crate::{
    ClientMessage, FrameReader, Goodbye, Greeting, HANDSHAKE_MAX, Hello, MAX_FRAME, Refusal,
    RefusalReason, ServerMessage, Versions, WireError, codec,
};

/// The server's side of one connection.
///
/// Send what [`greet`](Self::greet) makes, give what arrives to [`receive`](Self::receive), and
/// then take events from [`poll`](Self::poll) until there is none. A [`ServerEvent::Hello`] is to
/// be answered with [`welcome`](crate::welcome) or [`refuse`] before anything else
/// is sent. Whoever does not want the next message yet does not poll, and stops receiving.
#[derive(Debug)]
pub struct ServerConnection {
    greeting: Greeting,
    reader: FrameReader,
    phase: Phase,
}

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// It asks for a session. Its version is one of the greeting's.
    Hello(Hello),
    /// It sent a message, and the object data that goes with it. A goodbye is the last one.
    Message(ClientMessage, Bytes),
    /// Its only frame is `ruok`: it wants the status, in a frame after the greeting, and no session.
    /// This is the last event.
    Ruok,
    /// It speaks ZEO 5. This is the last event; [`ServerConnection::into_reader`] has all its bytes.
    Zeo5Client,
    /// It broke the protocol. This is the last event; [`ServerConnection::dismiss`] makes what it
    /// should be told.
    Broken(WireError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has been received.
    Greeting,
    /// A hello has been received.
    Open,
    /// The last event has been given.
    Ended { hello: bool },
}

impl ServerConnection {
    /// A connection that has just been accepted.
    pub fn new(greeting: Greeting) -> Self {
        Self { greeting, reader: FrameReader::new(), phase: Phase::Greeting }
    }

    /// Appends the greeting, which is to be sent first.
    pub fn greet(&self, out: &mut Vec<u8>) {
        self.greeting.encode(out);
    }

    /// Takes what has arrived; after the last event it is thrown away.
    pub fn receive(&mut self, data: &[u8]) {
        if !matches!(self.phase, Phase::Ended { .. }) {
            self.reader.receive(data);
        }
    }

    /// The next event, if what has arrived makes one.
    pub fn poll(&mut self) -> Option<ServerEvent> {
        let event = match self.phase {
            Phase::Greeting => self.poll_hello(),
            Phase::Open => self.poll_message(),
            Phase::Ended { .. } => return None,
        };
        event.unwrap_or_else(|error| Some(self.end(ServerEvent::Broken(error))))
    }

    fn poll_hello(&mut self) -> Result<Option<ServerEvent>, WireError> {
        match self.reader.peek(HANDSHAKE_MAX)? {
            Some(b"ruok") => return Ok(Some(self.end(ServerEvent::Ruok))),
            Some(b"M5" | b"Z5") => return Ok(Some(self.end(ServerEvent::Zeo5Client))),
            Some(_) | None => {}
        }
        let Some(hello) = self.reader.next_whole(HANDSHAKE_MAX, Hello::decode)? else {
            return Ok(None);
        };
        let chosen = Versions { lowest: hello.version, highest: hello.version };
        self.greeting.versions.common(chosen)?;
        self.phase = Phase::Open;
        Ok(Some(ServerEvent::Hello(hello)))
    }

    fn poll_message(&mut self) -> Result<Option<ServerEvent>, WireError> {
        let next = self.reader.next_with(MAX_FRAME, codec::decode_head)?;
        let Some((message, tail)) = next else { return Ok(None) };
        let last = matches!(message, ClientMessage::Goodbye(_));
        let event = ServerEvent::Message(message, tail);
        Ok(Some(if last { self.end(event) } else { event }))
    }

    /// Gives the last event. Only for a ZEO 5 client is there a use for what it has sent.
    fn end(&mut self, last: ServerEvent) -> ServerEvent {
        if last != ServerEvent::Zeo5Client {
            self.reader = FrameReader::new();
        }
        self.phase = Phase::Ended { hello: self.phase == Phase::Open };
        last
    }

    /// Bytes of memory that this connection holds for what was not polled yet.
    pub fn memory(&self) -> usize {
        self.reader.memory()
    }

    /// Appends what a client that broke the protocol is told before its connection is closed: a
    /// refusal before its hello was read, a goodbye after.
    pub fn dismiss(&self, error: &WireError, out: &mut Vec<u8>) {
        let text = error.to_string();
        if matches!(self.phase, Phase::Greeting | Phase::Ended { hello: false }) {
            return refuse(&Refusal { reason: reason(error), text }, out);
        }
        let goodbye = ServerMessage::Goodbye(Goodbye::ProtocolError(text));
        codec::encode(&goodbye, &[], out).expect("a goodbye always fits: its text is cut");
    }

    /// All that was received and did not become an event; after [`ServerEvent::Zeo5Client`], all
    /// that was received.
    pub fn into_reader(self) -> FrameReader {
        self.reader
    }
}

fn reason(error: &WireError) -> RefusalReason {
    if matches!(error, WireError::NoCommonVersion { .. }) {
        RefusalReason::VersionUnsupported
    } else {
        RefusalReason::Malformed
    }
}
