//! The seam between a reactor and the world: sockets by token, a clock, a wake-up, threads, a seed.
//!
//! [`MioDriver`](crate::MioDriver) is the real one. Another event source replaces it without a
//! change to application code.

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

use crate::{Address, StageConfig, Time};

pub(crate) mod mio;
#[cfg(feature = "poll")]
pub(crate) mod poll;
mod pool;
#[cfg(feature = "sim")]
pub mod sim;
mod socket;
mod sockets;

/// A listener, as the reactor numbers them. Numbers are used again after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerToken(pub usize);

/// A connection, as the reactor numbers them. Numbers are used again after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamToken(pub usize);

/// What [`Driver::wait`] reports. Readiness is edge-triggered: it is reported once, and may be
/// reported without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Connections may be waiting to be accepted.
    Accept(ListenerToken),
    /// A connection may be read or written.
    Stream(StreamToken, Readiness),
}

/// What may be done to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// The end of the input, or an error, may be next: a short read is not the last one.
    pub read_closed: bool,
    /// There may be room to write.
    pub writable: bool,
}

/// Ends a driver's wait from another thread.
pub trait Wake: Send + Sync {
    /// Makes the wait in progress, or else the next one, return.
    fn wake(&self);
}

/// What a reactor needs of its world.
///
/// No operation blocks, except [`wait`](Self::wait); one that cannot go on fails with
/// [`io::ErrorKind::WouldBlock`]. Closing an unknown token does nothing.
pub trait Driver: Send {
    /// The monotonic clock.
    fn now(&self) -> Time;

    /// The time of day, in microseconds since 1970.
    fn unix_micros(&self) -> u64;

    /// The seed of the reactor's random numbers.
    fn seed(&mut self) -> u64;

    /// Ends this driver's wait.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Waits until something is ready or `limit` has passed, and appends what is ready.
    fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;

    /// What becomes readable when a wait would report something, where there is such a thing.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether a wait would report something; only asked where no thread ever sleeps.
    fn is_ready(&self) -> bool {
        false
    }

    /// Listens, and returns the real address.
    fn listen(&mut self, token: ListenerToken, at: &Address) -> io::Result<Address>;

    /// Takes one waiting connection as `stream`, and returns its peer.
    fn accept(&mut self, from: ListenerToken, stream: StreamToken) -> io::Result<Address>;

    /// Stops listening.
    fn close_listener(&mut self, token: ListenerToken);

    /// Starts to connect.
    fn connect(&mut self, token: StreamToken, to: &Address) -> io::Result<()>;

    /// Asked when a connecting stream is ready: is it connected?
    fn finish_connect(&mut self, token: StreamToken) -> io::Result<()>;

    /// Reads some bytes; 0 at the end. A short read means that there is no more for now.
    fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the bytes.
    fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the peer that nothing more will be written.
    fn shutdown(&mut self, token: StreamToken);

    /// Closes a connection, whatever its state.
    fn close_stream(&mut self, token: StreamToken);

    /// Starts the threads of a stage.
    fn start_stage(&mut self, config: &StageConfig) -> io::Result<Box<dyn Pool>>;
}

/// A stage's job; it returns what delivers its result.
pub type Work = Box<dyn FnOnce() -> Delivery + Send>;

/// Puts a job's result into its reactor's mailbox.
pub type Delivery = Box<dyn FnOnce() + Send>;

/// How long the jobs of a stage have waited for a thread, and how long they have had one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Jobs that have begun.
    pub begun: u64,
    /// What they have waited, all together.
    pub total: Duration,
    /// What one of them has waited at most.
    pub longest: Duration,
    /// What those that have ended have worked, all together.
    pub worked: Duration,
}

impl Waits {
    /// Counts one more job.
    pub fn add(&mut self, wait: Duration) {
        self.begun += 1;
        self.total = self.total.saturating_add(wait);
        self.longest = self.longest.max(wait);
    }

    /// Counts what a job has worked; before its result is delivered.
    pub fn add_work(&mut self, work: Duration) {
        self.worked = self.worked.saturating_add(work);
    }
}

/// The threads of a stage. How many jobs may wait is bounded by the caller.
pub trait Pool: Send {
    /// Adds a job; jobs are started in this order.
    fn submit(&mut self, job: Work);

    /// Drops the jobs that have not begun, and returns when the others have ended.
    fn shutdown(&mut self);

    /// How long jobs have waited for a thread, and worked.
    fn waits(&self) -> Waits;
}
