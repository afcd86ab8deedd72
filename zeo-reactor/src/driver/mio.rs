//! The real driver, on [mio](https://docs.rs/mio).
//!
//! mio's traps, stated once: readiness is edge-triggered, so a stream is read until it would block
//! (or until a short read, which on the stream sockets used here means the same unless the end of
//! input has been announced); there is one `Waker` for a poll; spurious events are normal; a
//! connect is done when the stream is writable *and* `take_error` is empty *and* it has a peer.

use std::{
    fmt,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, Waker, event::Event};

use super::{
    Driver, ListenerToken, Pool, Readiness, Ready, StreamToken, Wake,
    pool::ThreadPool,
    socket::Stream,
    sockets::{Clocks, Sockets, forget, seed},
};
use crate::{Address, StageConfig, Time};

/// Real sockets, the machine's clocks, real threads.
pub struct MioDriver {
    poll: Poll,
    events: Events,
    waker: Arc<dyn Wake>,
    clocks: Clocks,
    sockets: Sockets<()>,
}

impl MioDriver {
    /// A driver of its own: nothing is shared with any other.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker,
            clocks: Clocks::start(),
            sockets: Sockets::new(),
        })
    }

    fn add_stream(&mut self, token: StreamToken, mut stream: Stream) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, stream_token(token), interest)?;
        self.sockets.add(token, stream, ());
        Ok(())
    }
}

impl Driver for MioDriver {
    fn now(&self) -> Time {
        self.clocks.now()
    }

    fn unix_micros(&self) -> u64 {
        Clocks::unix_micros()
    }

    fn seed(&mut self) -> u64 {
        seed()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poll.registry().as_fd())
    }

    fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Ok(()) => ready.extend(self.events.iter().filter_map(translate)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn listen(&mut self, token: ListenerToken, at: &Address) -> io::Result<Address> {
        let (listener, address) = self.sockets.listen(token, at)?;
        self.poll.registry().register(listener, listener_token(token), Interest::READABLE)?;
        Ok(address)
    }

    fn accept(&mut self, from: ListenerToken, stream: StreamToken) -> io::Result<Address> {
        let (accepted, peer) = self.sockets.accept(from)?;
        self.add_stream(stream, accepted)?;
        Ok(peer)
    }

    fn close_listener(&mut self, token: ListenerToken) {
        if let Some(mut listener) = self.sockets.take_listener(token) {
            forget(self.poll.registry().deregister(&mut listener));
        }
    }

    fn connect(&mut self, token: StreamToken, to: &Address) -> io::Result<()> {
        self.add_stream(token, Stream::connect(to)?)
    }

    fn finish_connect(&mut self, token: StreamToken) -> io::Result<()> {
        self.sockets.finish_connect(token)
    }

    fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize> {
        self.sockets.read(token, into)
    }

    fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sockets.write(token, from)
    }

    fn shutdown(&mut self, token: StreamToken) {
        self.sockets.shutdown(token);
    }

    fn close_stream(&mut self, token: StreamToken) {
        if let Some(mut stream) = self.sockets.take_stream(token) {
            forget(self.poll.registry().deregister(&mut stream));
        }
    }

    fn start_stage(&mut self, config: &StageConfig) -> io::Result<Box<dyn Pool>> {
        Ok(Box::new(ThreadPool::start(config)?))
    }
}

impl Wake for Waker {
    fn wake(&self) {
        if let Err(error) = Self::wake(self) {
            tracing::error!(%error, "cannot wake a reactor");
        }
    }
}

impl fmt::Debug for MioDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MioDriver").finish_non_exhaustive()
    }
}

/// Streams have even tokens, listeners odd ones.
const fn stream_token(token: StreamToken) -> Token {
    Token(token.0 << 1)
}

const fn listener_token(token: ListenerToken) -> Token {
    Token((token.0 << 1) | 1)
}

fn translate(event: &Event) -> Option<Ready> {
    let Token(token) = event.token();
    if event.token() == WAKER {
        return None;
    }
    if token & 1 == 1 {
        return Some(Ready::Accept(ListenerToken(token >> 1)));
    }
    let ended = event.is_error() || event.is_read_closed();
    let readiness = Readiness {
        readable: event.is_readable() || ended,
        read_closed: ended,
        writable: event.is_writable() || event.is_error(),
    };
    Some(Ready::Stream(StreamToken(token >> 1), readiness))
}

const WAKER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;
