//! A connection by hand, in whatever state a hostile peer leaves it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use zeo_proto::{
    Begin, Call, CatchUp, ClientConnection, ClientEvent, ClientMessage, Failure, Goodbye, Hello,
    Oid, Reply, ServerMessage, Store, Tid, TxnId, TxnMeta, TxnNumber,
};

use super::field::Field;

/// A connection that has been welcomed.
pub(crate) struct Wire {
    stream: TcpStream,
    machine: ClientConnection,
}

/// Why a connection can no longer be used, in the server's own words where it has said some.
pub(crate) type Ended = String;

impl Wire {
    /// Introduces itself.
    pub(crate) fn connect(field: &Field<'_>) -> Self {
        Self::introduce(field, Hello::new("main").unwrap()).unwrap()
    }

    /// Introduces itself as that; the error is the refusal.
    pub(crate) fn introduce(field: &Field<'_>, hello: Hello) -> Result<Self, Ended> {
        let stream = open(field);
        let mut wire = Self { stream, machine: ClientConnection::new(hello) };
        loop {
            match wire.event()? {
                ClientEvent::Greeted => {
                    let mut hello = Vec::new();
                    wire.machine.take_output(&mut hello);
                    wire.stream.write_all(&hello).map_err(|error| ended(&error))?;
                }
                ClientEvent::Welcomed(_) => return Ok(wire),
                ClientEvent::Refused(refusal) => return Err(format!("refused: {}", refusal.text)),
                event => return Err(format!("{event:?}")),
            }
        }
    }

    /// Waits for the next answer that is whole; what else is said is passed over.
    pub(crate) fn answer(&mut self) -> Result<Result<Reply, Failure>, Ended> {
        loop {
            match self.message()? {
                ServerMessage::Reply(_, reply) if !has_more(&reply) => return Ok(Ok(reply)),
                ServerMessage::Failure(_, failure) => return Ok(Err(failure)),
                _ => {}
            }
        }
    }

    /// Waits for so many answers, and says what the last was.
    pub(crate) fn last_answer(&mut self, count: usize) -> Result<String, Ended> {
        let mut last = String::new();
        for _ in 0..count {
            last = format!("{:?}", self.answer()?);
        }
        Ok(last)
    }

    /// Sends bytes, and waits until all are taken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let mut pieces = bytes.chunks(AT_ONCE);
        pieces.try_for_each(|piece| self.stream.write_all(piece)).map_err(|_| self.last_words())
    }

    /// Sends bytes as far as they are taken in a moment.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Ended> {
        self.stream.set_write_timeout(Some(MOMENT)).unwrap();
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(piece(&bytes[written..])) {
                Ok(count) => written += count,
                Err(error) if is_late(&error) => break,
                Err(_) => return Err(self.last_words()),
            }
        }
        self.stream.set_write_timeout(None).unwrap();
        Ok(written)
    }

    /// Reads one byte, and lets a moment pass.
    pub(crate) fn read_a_byte(&mut self) -> Result<(), Ended> {
        self.stream.read_exact(&mut [0]).map_err(|error| ended(&error))?;
        let_a_moment_pass();
        Ok(())
    }

    /// Says that nothing more will be said; it still listens.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Says the same over and over as fast as it is taken in, and throws away what is answered.
    pub(crate) fn flood(&mut self, field: &Field<'_>, block: &[u8]) -> Result<(), Ended> {
        let mut answers = self.stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while answers.read(&mut [0; 16_000]).is_ok_and(|n| n > 0) {});
            let result = loop {
                match self.write_whole(field, block) {
                    Ok(()) if field.goes_on() => {}
                    result => break result,
                }
            };
            // The other thread reads no more then. A connection that has ended does not matter.
            drop(self.stream.shutdown(Shutdown::Both));
            result
        })
    }

    /// Writes in turn with looking whether it should go on.
    fn write_whole(&mut self, field: &Field<'_>, block: &[u8]) -> Result<(), Ended> {
        self.stream.set_write_timeout(Some(MOMENT)).unwrap();
        let mut rest = block;
        while !rest.is_empty() {
            match self.stream.write(piece(rest)) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_late(&error) && field.goes_on() => {}
                Err(error) if is_late(&error) => return Ok(()),
                Err(error) => return Err(ended(&error)),
            }
        }
        field.strike();
        Ok(())
    }

    /// What the server says before it closes the connection.
    pub(crate) fn last_words(&mut self) -> Ended {
        loop {
            if let Err(end) = self.message() {
                return end;
            }
        }
    }

    fn message(&mut self) -> Result<ServerMessage, Ended> {
        match self.event()? {
            ClientEvent::Message(ServerMessage::Goodbye(reason), _) => Err(words(reason)),
            ClientEvent::Message(message, _) => Ok(message),
            event => Err(format!("{event:?}")),
        }
    }

    fn event(&mut self) -> Result<ClientEvent, Ended> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(event) = self.machine.poll() {
                return Ok(event);
            }
            match self.stream.read(&mut buffer).map_err(|error| ended(&error))? {
                0 => return Err("closed without a word".to_owned()),
                count => self.machine.receive(&buffer[..count]),
            }
        }
    }
}

/// A socket to the server that has said nothing. It gives up after ten seconds of silence.
pub(crate) fn open(field: &Field<'_>) -> TcpStream {
    let stream = TcpStream::connect(&field.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whoever is slow waits that long.
pub(crate) fn let_a_moment_pass() {
    thread::park_timeout(MOMENT);
}

/// Reads to the end: what the server has to say to a stranger is not understood.
pub(crate) fn read_to_end(mut stream: TcpStream) -> Ended {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => "closed".to_owned(),
        Err(error) => ended(&error),
    }
}

/// The server's status, as JSON.
pub(crate) fn status(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"\0\0\0\x04ruok").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// The frame of a message.
pub(crate) fn frame(message: &ClientMessage, tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    zeo_proto::encode(message, tail, &mut out).unwrap();
    out
}

/// The same call again and again, as bytes.
pub(crate) fn calls(count: u64, call: impl Fn(u64) -> Call) -> Vec<u8> {
    (0..count).flat_map(|n| frame(&ClientMessage::Call(n, call(n)), &[])).collect()
}

/// The frame of a `tpc_begin`.
pub(crate) fn begin(number: TxnNumber, id: u64, snapshot: Tid) -> Vec<u8> {
    let begin = Begin { id: txn_id(id), snapshot, meta: TxnMeta::default() };
    frame(&ClientMessage::TpcBegin(number, begin), &[])
}

/// The frame of a store.
pub(crate) fn store(number: TxnNumber, oid: Oid, serial: Option<Tid>, data: &[u8]) -> Vec<u8> {
    frame(&ClientMessage::Store(number, Store { oid, serial, refs: None }), data)
}

/// The frame of a vote that finishes.
pub(crate) fn vote(number: TxnNumber) -> Vec<u8> {
    frame(&ClientMessage::Call(u64::from(number), Call::TpcVote(number, true)), &[])
}

/// The frame of a vote that does not.
pub(crate) fn vote_only(number: TxnNumber) -> Vec<u8> {
    frame(&ClientMessage::Call(u64::from(number), Call::TpcVote(number, false)), &[])
}

/// A transaction's name made of a number; peers that are run one after the other share them.
pub(crate) fn txn_id(number: u64) -> TxnId {
    let mut id = [0x66; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    TxnId::from_bytes(id)
}

fn has_more(reply: &Reply) -> bool {
    match reply {
        Reply::LoadedMany(_, more) | Reply::CatchUp(CatchUp::Page { more, .. }) => *more,
        _ => false,
    }
}

fn words(goodbye: Goodbye) -> Ended {
    match goodbye {
        Goodbye::ProtocolError(text) => format!("broke the protocol: {text}"),
        Goodbye::TookTooLong(text) => format!("took too long: {text}"),
        other => format!("{other:?}"),
    }
}

fn ended(error: &io::Error) -> Ended {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "closed".to_owned(),
        _ => format!("{error}"),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn piece(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(AT_ONCE)]
}

/// What is written at once: while the system has more to do, it keeps a CPU that the others, who are
/// on the same machine here, may need.
const AT_ONCE: usize = 16 << 10;
/// How long a hostile peer waits before it goes on with what it does slowly.
const MOMENT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);
