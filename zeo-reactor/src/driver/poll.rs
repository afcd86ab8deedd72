//! Another real driver, on `poll(2)`: for systems without epoll and kqueue, and to show that nothing
//! above a driver knows which one it is.
//!
//! `poll` reports what *is* ready, a driver what has *become* so. Therefore a stream is asked about
//! only after a read or a write on it came to its end, and each answer ends the question. Waiting
//! costs time in proportion to the number of sockets.

use std::{
    fmt,
    io::{self, IoSlice, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Driver, ListenerToken, Pool, Readiness, Ready, StreamToken, Wake,
    pool::ThreadPool,
    socket::Stream,
    sockets::{Clocks, Sockets, seed},
};
use crate::{Address, StageConfig, Time};

/// Real sockets asked about with `poll(2)`, the machine's clocks, real threads.
pub struct PollDriver {
    clocks: Clocks,
    sockets: Sockets<Asked>,
    waker: Arc<Waker>,
    woken: UnixStream,
}

/// What a stream is asked about.
#[derive(Clone, Copy, Debug)]
struct Asked {
    readable: bool,
    writable: bool,
}

/// Writes a byte that the driver's wait sees.
struct Waker(UnixStream);

impl PollDriver {
    /// A driver of its own: nothing is shared with any other.
    pub fn new() -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self {
            clocks: Clocks::start(),
            sockets: Sockets::new(),
            waker: Arc::new(Waker(waker)),
            woken,
        })
    }

    /// Asks the system, and says which of the sockets are ready for what.
    fn ask(&self, limit: Option<Duration>) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Waker];
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        for (token, listener) in self.sockets.listeners() {
            sources.push(Source::Listener(token));
            fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        for (token, (stream, asked)) in self.sockets.streams() {
            if asked.readable || asked.writable {
                sources.push(Source::Stream(token));
                fds.push(PollFd::from_borrowed_fd(stream.as_fd(), asked.flags()));
            }
        }
        let limit = limit.map(Timespec::try_from).transpose().unwrap_or(None);
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let answers = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(answers.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn stream_ready(&mut self, token: StreamToken, flags: PollFlags) -> Option<Ready> {
        let (_, asked) = self.sockets.stream(token).ok()?;
        let ended = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let readiness = Readiness {
            readable: ended || flags.contains(PollFlags::IN),
            read_closed: ended,
            writable: ended || flags.contains(PollFlags::OUT),
        };
        asked.readable &= !readiness.readable;
        asked.writable &= !readiness.writable;
        Some(Ready::Stream(token, readiness))
    }

    fn add_stream(&mut self, token: StreamToken, stream: Stream) {
        self.sockets.add(token, stream, Asked { readable: true, writable: true });
    }
}

/// What was asked about.
#[derive(Clone, Copy, Debug)]
enum Source {
    Waker,
    Listener(ListenerToken),
    Stream(StreamToken),
}

impl Asked {
    fn flags(self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.readable);
        flags.set(PollFlags::OUT, self.writable);
        flags
    }
}

impl Driver for PollDriver {
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
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        for (source, flags) in self.ask(limit)? {
            match source {
                Source::Waker => drain(&self.woken),
                Source::Listener(token) => ready.push(Ready::Accept(token)),
                Source::Stream(token) => ready.extend(self.stream_ready(token, flags)),
            }
        }
        Ok(())
    }

    fn listen(&mut self, token: ListenerToken, at: &Address) -> io::Result<Address> {
        Ok(self.sockets.listen(token, at)?.1)
    }

    fn accept(&mut self, from: ListenerToken, stream: StreamToken) -> io::Result<Address> {
        let (accepted, peer) = self.sockets.accept(from)?;
        self.add_stream(stream, accepted);
        Ok(peer)
    }

    fn close_listener(&mut self, token: ListenerToken) {
        drop(self.sockets.take_listener(token));
    }

    fn connect(&mut self, token: StreamToken, to: &Address) -> io::Result<()> {
        self.add_stream(token, Stream::connect(to)?);
        Ok(())
    }

    fn finish_connect(&mut self, token: StreamToken) -> io::Result<()> {
        let result = self.sockets.finish_connect(token);
        if let (Err(error), Ok((_, asked))) = (&result, self.sockets.stream(token)) {
            asked.writable |= error.kind() == io::ErrorKind::WouldBlock;
        }
        result
    }

    fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize> {
        let result = self.sockets.read(token, into);
        let asked = &mut self.sockets.stream(token)?.1;
        asked.readable |= !matches!(result, Ok(read) if read == into.len());
        result
    }

    fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = self.sockets.write(token, from);
        let asked = &mut self.sockets.stream(token)?.1;
        let whole: usize = from.iter().map(|part| part.len()).sum();
        asked.writable |= !matches!(result, Ok(written) if written == whole);
        result
    }

    fn shutdown(&mut self, token: StreamToken) {
        self.sockets.shutdown(token);
    }

    fn close_stream(&mut self, token: StreamToken) {
        drop(self.sockets.take_stream(token));
    }

    fn start_stage(&mut self, config: &StageConfig) -> io::Result<Box<dyn Pool>> {
        Ok(Box::new(ThreadPool::start(config)?))
    }
}

impl Wake for Waker {
    fn wake(&self) {
        match (&self.0).write(&[1]) {
            Ok(_) => {}
            // So many wakes wait already that one more makes no difference.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::error!(%error, "cannot wake a reactor"),
        }
    }
}

/// Takes the wakes that have come.
fn drain(mut woken: &UnixStream) {
    let mut bytes = [0; 64];
    while woken.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
}

impl fmt::Debug for PollDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollDriver").finish_non_exhaustive()
    }
}
