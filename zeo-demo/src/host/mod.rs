//! Two kinds of host for one application: a single-threaded event loop, and plain threads.
//!
//! Neither knows what the application does, and the application does not know which of them runs
//! it. Both serve one request per connection.

mod evented;
mod http1;
#[cfg(test)]
mod tests;
mod threaded;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use crate::api;
use crate::board::Board;
use crate::events::Events;

/// The kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Host {
    /// A single-threaded event loop whose handlers call the blocking client directly
    Evented,
    /// A plain thread for each request
    Threaded,
}

/// What a host serves.
#[derive(Debug)]
pub(crate) struct App {
    /// The notes.
    pub(crate) board: Board,
    /// What changes; closing it stops the host.
    pub(crate) events: Arc<Events>,
}

impl Host {
    /// Serves until a [`Stopper`] says otherwise, then lets requests in progress finish.
    pub(crate) fn serve(self, listener: TcpListener, app: &Arc<App>) -> io::Result<()> {
        match self {
            Self::Evented => evented::serve(listener, app)?,
            Self::Threaded => threaded::serve(&listener, app),
        }
        Ok(())
    }
}

/// Stops a host, from any thread.
#[derive(Debug)]
pub(crate) struct Stopper {
    /// What the host serves.
    pub(crate) events: Arc<Events>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Stopper {
    /// Asks the host to stop, without waiting for it.
    pub(crate) fn stop(&self) {
        self.events.close();
        // The threaded host waits in `accept`: this wakes it. A refusal says that it has gone.
        drop(TcpStream::connect_timeout(&self.address, GRACE));
    }
}

/// Answers 503 to a connection beyond [`CONNECTIONS_MAX`]. That few bytes always fit into a fresh
/// socket's buffer, so this does not block.
fn turn_away(mut stream: &TcpStream) {
    let refusal = api::refuse(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
    drop(stream.write_all(&http1::encode(refusal.into())));
}

/// Connections at once, each with a thread of its own in the threaded host. Pages that listen to
/// events keep theirs. Those beyond are [turned away](turn_away).
const CONNECTIONS_MAX: usize = 128;

/// The longest head of a request, in bytes; a longer one is answered with 431.
const HEAD_MAX: usize = 16 * 1024;

/// How long a peer may take to send its request, and again to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait after a connection could not be accepted: most likely there are no file
/// descriptors left, and trying at once would only burn time.
const PAUSE: Duration = Duration::from_millis(50);

/// How long requests in progress may take when the host stops.
const GRACE: Duration = Duration::from_secs(2);
