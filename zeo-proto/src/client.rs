//! The client's side of a connection, as a machine: bytes in, events out.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::handshake::Answer;
use crate::{
    FrameReader, Greeting, HANDSHAKE_MAX, Hello, MAX_FRAME, Refusal, ServerMessage, Versions,
    Welcome, WireError, codec,
};

/// The client's side of one connection.
///
/// Give what arrives to [`receive`](Self::receive), take events from [`poll`](Self::poll) until
/// there is none, and then send what [`take_output`](Self::take_output) appends. Messages may be
/// sent from [`ClientEvent::Greeted`] on, without waiting for the answer to the hello: a server
/// that refuses does not look at them. Whoever does not want the next message yet does not poll,
/// and stops receiving.
#[derive(Debug)]
pub struct ClientConnection {
    hello: Hello,
    output: Vec<u8>,
    reader: FrameReader,
    phase: Phase,
}

/// What a server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// It speaks a version that this side speaks; the hello waits in
    /// [`ClientConnection::take_output`].
    Greeted,
    /// The session begins.
    Welcomed(Welcome),
    /// There will be no session. This is the last event.
    Refused(Refusal),
    /// It sent a message, and the object data that goes with it. A goodbye is the last one.
    Message(ServerMessage, Bytes),
    /// It speaks ZEO 5 only. This is the last event; [`ClientConnection::into_reader`] has all its
    /// bytes.
    ServerIsZeo5,
    /// It broke the protocol, or speaks no version that this side speaks. This is the last event.
    Broken(WireError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has been received.
    Greeting,
    /// The hello has been made.
    Answer,
    /// A welcome has been received.
    Open,
    /// The last event has been given.
    Ended,
}

impl ClientConnection {
    /// A connection that has just been made, and what to say on it; the hello's version is chosen
    /// when the server has said which it speaks.
    pub fn new(hello: Hello) -> Self {
        Self { hello, output: Vec::new(), reader: FrameReader::new(), phase: Phase::Greeting }
    }

    /// Takes what has arrived; after the last event it is thrown away.
    pub fn receive(&mut self, data: &[u8]) {
        if self.phase != Phase::Ended {
            self.reader.receive(data);
        }
    }

    /// The next event, if what has arrived makes one.
    pub fn poll(&mut self) -> Option<ClientEvent> {
        let event = match self.phase {
            Phase::Greeting => self.poll_greeting(),
            Phase::Answer => self.poll_answer(),
            Phase::Open => self.poll_message(),
            Phase::Ended => return None,
        };
        event.unwrap_or_else(|error| Some(self.end(ClientEvent::Broken(error))))
    }

    fn poll_greeting(&mut self) -> Result<Option<ClientEvent>, WireError> {
        if let Some(b"M5" | b"Z5") = self.reader.peek(HANDSHAKE_MAX)? {
            return Ok(Some(self.end(ClientEvent::ServerIsZeo5)));
        }
        let Some(greeting) = self.reader.next_whole(HANDSHAKE_MAX, Greeting::decode)? else {
            return Ok(None);
        };
        self.hello.version = Versions::SPOKEN.common(greeting.versions)?;
        self.hello.encode(&mut self.output);
        self.phase = Phase::Answer;
        Ok(Some(ClientEvent::Greeted))
    }

    fn poll_answer(&mut self) -> Result<Option<ClientEvent>, WireError> {
        let Some(answer) = self.reader.next_whole(HANDSHAKE_MAX, Answer::decode)? else {
            return Ok(None);
        };
        Ok(Some(match answer {
            Answer::Welcome(welcome) => self.welcomed(welcome),
            Answer::Refused(refusal) => self.end(ClientEvent::Refused(refusal)),
        }))
    }

    /// A server may not switch on what this side does not know.
    fn welcomed(&mut self, mut welcome: Welcome) -> ClientEvent {
        welcome.features &= self.hello.features;
        self.phase = Phase::Open;
        ClientEvent::Welcomed(welcome)
    }

    fn poll_message(&mut self) -> Result<Option<ClientEvent>, WireError> {
        let next = self.reader.next_with(MAX_FRAME, codec::decode_head)?;
        let Some((message, tail)) = next else { return Ok(None) };
        let last = matches!(message, ServerMessage::Goodbye(_));
        let event = ClientEvent::Message(message, tail);
        Ok(Some(if last { self.end(event) } else { event }))
    }

    /// Gives the last event. Only for a ZEO 5 server is there a use for what it has sent.
    fn end(&mut self, last: ClientEvent) -> ClientEvent {
        if last != ClientEvent::ServerIsZeo5 {
            self.reader = FrameReader::new();
        }
        self.phase = Phase::Ended;
        last
    }

    /// Moves what this machine itself has to send, the hello, to the end of `out`.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    /// Bytes of memory that this connection holds for what was not polled yet.
    pub fn memory(&self) -> usize {
        self.reader.memory()
    }

    /// All that was received and did not become an event; after [`ClientEvent::ServerIsZeo5`], all
    /// that was received.
    pub fn into_reader(self) -> FrameReader {
        self.reader
    }
}
