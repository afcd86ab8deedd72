//! Sessions over plain sockets, which cost their own side nothing but the socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use zeo_proto::{ClientConnection, ClientEvent, Hello};

/// That many sessions, each a socket after its handshake.
pub fn sessions(address: &str, storage: &str, count: usize) -> io::Result<Vec<TcpStream>> {
    (0..count).map(|_| session(address, storage)).collect()
}

fn session(address: &str, storage: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    let mut machine = ClientConnection::new(Hello::new(storage).map_err(io::Error::other)?);
    let mut output = Vec::new();
    loop {
        match machine.poll() {
            Some(ClientEvent::Greeted) => {
                machine.take_output(&mut output);
                socket.write_all(&output)?;
            }
            Some(ClientEvent::Welcomed(_)) => return Ok(socket),
            Some(other) => return Err(io::Error::other(format!("{other:?}"))),
            None => machine.receive(&some(&mut socket)?),
        }
    }
}

fn some(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << 10];
    let read = socket.read(&mut bytes)?;
    bytes.truncate(read);
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// The server's answer to `ruok`, with the greeting before it.
pub fn ruok(address: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(b"\0\0\0\x04ruok")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Lets this process open that many files, sockets among them.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let allowed = rlimit::increase_nofile_limit(count)?;
    if allowed < count {
        let why = format!("this system lets a process open {allowed} files; {count} are needed");
        return Err(io::Error::other(why));
    }
    Ok(())
}
