//! `--ruok` and `--status`: ask a running server how it is, for health checks and people.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use zeo_proto::{
    Call, ClientConnection, ClientEvent, ClientMessage, Goodbye, Hello, Reply, ServerMessage,
};
use zeo_reactor::Address;

use crate::trouble::{Kind, Trouble};

/// What a server is asked.
#[derive(Debug)]
pub(crate) enum Question {
    /// How it is: in short, without a session.
    Ruok,
    /// The same with all its sessions; asked by a session of its own, in the storage of that name.
    Status(String),
}

/// What the server at that address says of itself, in JSON; takes five seconds at most.
pub(crate) fn ask(address: &Address, question: Question) -> Result<String, Trouble> {
    let (sender, answer) = bounded(1);
    let to = address.clone();
    // A thread of its own, so that all steps together have one limit.
    let ask = move || sender.send(connect_and_ask(&to, question));
    let spawned = thread::Builder::new().name("zeo-ruok".to_owned()).spawn(ask);
    let answer = spawned.and_then(|_| answer.recv_timeout(LIMIT).map_err(io::Error::other)?);
    answer.map_err(|error| Trouble::new(Kind::Failed, format!("{address} is not well: {error}")))
}

fn connect_and_ask(address: &Address, question: Question) -> io::Result<String> {
    match address {
        Address::Tcp(to) => converse(TcpStream::connect(to)?, question),
        Address::Unix(path) => converse(UnixStream::connect(path)?, question),
    }
}

fn converse(mut stream: impl Read + Write, question: Question) -> io::Result<String> {
    match question {
        Question::Ruok => ruok(&mut stream),
        Question::Status(storage) => status(&mut stream, &storage),
    }
}

/// The question goes out at once; the server's greeting comes before its answer.
fn ruok(stream: &mut (impl Read + Write)) -> io::Result<String> {
    stream.write_all(b"\0\0\0\x04ruok")?;
    read_frame(stream)?;
    String::from_utf8(read_frame(stream)?).map_err(io::Error::other)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u64::from(u32::from_be_bytes(length));
    let mut frame = Vec::new();
    let read = stream.take(length.min(MAX_ANSWER)).read_to_end(&mut frame)?;
    if read as u64 == length { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Begins a session, asks in it, and ends it.
fn status(stream: &mut (impl Read + Write), storage: &str) -> io::Result<String> {
    let mut hello = Hello::new(storage).map_err(io::Error::other)?;
    (hello.label, hello.read_only) = (LABEL.to_owned(), true);
    let mut machine = ClientConnection::new(hello);
    loop {
        match machine.poll() {
            Some(ClientEvent::Greeted) => {
                let mut hello = Vec::new();
                machine.take_output(&mut hello);
                stream.write_all(&hello)?;
            }
            Some(ClientEvent::Welcomed(_)) => say(stream, &ClientMessage::Call(1, Call::Status))?,
            Some(ClientEvent::Message(ServerMessage::Reply(1, Reply::Status), json)) => {
                say(stream, &ClientMessage::Goodbye(Goodbye::Closed))?;
                return String::from_utf8(json.into()).map_err(io::Error::other);
            }
            // Somebody has committed something.
            Some(ClientEvent::Message(ServerMessage::Invalidate(..), _)) => {}
            Some(ClientEvent::Refused(refusal)) => return Err(io::Error::other(refusal.text)),
            Some(other) => return Err(io::Error::other(format!("it says {other:?}"))),
            None => receive(stream, &mut machine)?,
        }
    }
}

fn say(stream: &mut impl Write, message: &ClientMessage) -> io::Result<()> {
    let mut frame = Vec::new();
    zeo_proto::encode(message, &[], &mut frame).map_err(io::Error::other)?;
    stream.write_all(&frame)
}

fn receive(stream: &mut impl Read, machine: &mut ClientConnection) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    machine.receive(buffer.get(..count).unwrap_or_default());
    Ok(())
}

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of a short answer; a storage takes a few KiB of it.
const MAX_ANSWER: u64 = 4 << 20;

/// How the session calls itself.
const LABEL: &str = "zeo-server --status";
