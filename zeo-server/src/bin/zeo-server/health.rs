//! `--ruok`: asks a running server how it is, for health checks and people.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use zeo_reactor::Address;

use crate::trouble::{Kind, Trouble};

/// What the server at that address says of itself, in JSON; takes five seconds at most.
pub(crate) fn ask(address: &Address) -> Result<String, Trouble> {
    let (sender, answer) = bounded(1);
    let to = address.clone();
    // A thread of its own, so that all steps together have one limit.
    let ask = move || sender.send(connect_and_ask(&to));
    let spawned = thread::Builder::new().name("zeo-ruok".to_owned()).spawn(ask);
    let answer = spawned.and_then(|_| answer.recv_timeout(LIMIT).map_err(io::Error::other)?);
    answer.map_err(|error| Trouble::new(Kind::Failed, format!("{address} is not well: {error}")))
}

fn connect_and_ask(address: &Address) -> io::Result<String> {
    match address {
        Address::Tcp(to) => converse(TcpStream::connect(to)?),
        Address::Unix(path) => converse(UnixStream::connect(path)?),
    }
}

/// The question goes out at once; the server's greeting comes before its answer.
fn converse(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"\0\0\0\x04ruok")?;
    read_frame(&mut stream)?;
    String::from_utf8(read_frame(&mut stream)?).map_err(io::Error::other)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u64::from(u32::from_be_bytes(length));
    let mut frame = Vec::new();
    let read = stream.take(length.min(MAX_ANSWER)).read_to_end(&mut frame)?;
    if read as u64 == length { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of an answer; a storage takes less than one KiB of it.
const MAX_ANSWER: u64 = 1 << 20;
