//! TCP and Unix sockets behind one pair of types.

use std::{
    fs,
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::Address;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "dropping it removes the socket's file")] SocketFile,
    ),
}

impl Listener {
    pub(crate) fn bind(at: &Address) -> io::Result<(Self, Address)> {
        match at {
            Address::Tcp(address) => {
                let listener = bind_tcp(*address)?;
                let address = Address::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                Ok((Self::Unix(listener, SocketFile::at(path)?), at.clone()))
            }
        }
    }

    pub(crate) fn accept(&mut self) -> io::Result<(Stream, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::tcp(stream), Address::Tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (stream, peer) = listener.accept()?;
                let path = peer.as_pathname().unwrap_or_else(|| Path::new(""));
                Ok((Stream::Unix(stream), Address::Unix(path.to_owned())))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener, _) => listener,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn connect(to: &Address) -> io::Result<Self> {
        match to {
            Address::Tcp(address) => TcpStream::connect(*address).map(Self::tcp),
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// `WouldBlock` while it is not known yet whether there is a connection.
    pub(crate) fn finish_connect(&self) -> io::Result<()> {
        let (error, peer) = match self {
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            (None, peer) => peer,
        }
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn tcp(stream: TcpStream) -> Self {
        // A connection that cannot turn Nagle's algorithm off is slower, not wrong.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
        // A peer whose machine has gone says nothing, and nothing may have to be said to it.
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE) {
            tracing::debug!(%error, "TCP keep-alive refused");
        }
        Self::Tcp(stream)
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(from),
            Self::Unix(stream) => stream.write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! delegate_source {
    ($($socket:ty),*) => {$(
        impl Source for $socket {
            fn register(&mut self, to: &Registry, token: Token, on: Interest) -> io::Result<()> {
                self.source().register(to, token, on)
            }

            fn reregister(&mut self, to: &Registry, token: Token, on: Interest) -> io::Result<()> {
                self.source().reregister(to, token, on)
            }

            fn deregister(&mut self, from: &Registry) -> io::Result<()> {
                self.source().deregister(from)
            }
        }
    )*};
}

delegate_source!(Listener, Stream);

fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Replaces the file of a socket that nobody answers; a live one stays, and is `AddrInUse`.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && matches!(probe(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Does not block, even when the listener's backlog is full.
fn probe(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A socket's file, removed with its listener unless somebody has put another in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    place: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), place: place(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if place(&self.path).is_ok_and(|place| place == self.place)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a socket's file");
        }
    }
}

fn place(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

const BACKLOG: i32 = 1024;

/// A silent peer is asked whether it is there after a minute, and then every 15 s; the system gives
/// up after some of these (9 on Linux).
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15));

#[cfg(test)]
mod tests {
    use super::*;

    /// The session of a client whose machine had gone stayed until something was sent to it.
    #[test]
    fn a_silent_peer_is_asked_whether_it_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let Stream::Tcp(stream) = Stream::tcp(TcpStream::from_std(stream)) else { panic!() };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_mins(1));
    }
}
