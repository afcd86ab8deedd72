//! A host without an event loop: one thread accepts, and each request gets a thread of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;

use super::http1::{self, NoRequest};
use super::{App, CONNECTIONS_MAX, GRACE, PATIENCE, PAUSE, turn_away};
use crate::api::{self, Answer};
use crate::events::{self, Events, GREETING, HEARTBEAT, News};

/// Serves until the application's events are closed and one more connection comes.
pub(super) fn serve(listener: &TcpListener, app: &Arc<App>) {
    let slots = Arc::new(Slots::default());
    loop {
        let accepted = listener.accept();
        let news = app.events.latest();
        match accepted {
            _ if news == News::Closed => break,
            Ok((stream, _)) => begin(stream, app, &slots),
            Err(_) => drop(app.events.wait(news, PAUSE)),
        }
    }
    slots.wait_until_free(GRACE);
}

fn begin(stream: TcpStream, app: &Arc<App>, slots: &Arc<Slots>) {
    let Some(slot) = slots.take() else { return turn_away(&stream) };
    let app = Arc::clone(app);
    let talk = move || {
        let _slot = slot;
        // How a connection ended is its peer's affair.
        drop(converse(&stream, &app));
    };
    // Where no thread can be had, the connection is closed with what was to run on it.
    drop(thread::Builder::new().name("demo-request".to_owned()).spawn(talk));
}

fn converse(stream: &TcpStream, app: &App) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = match http1::read_request(&mut Timed::new(stream, PATIENCE)) {
        Ok(request) => api::answer(&app.board, &request),
        Err(NoRequest::Refused(refusal)) => refusal.into(),
        Err(NoRequest::Lost(error)) => return Err(error),
    };
    match answer {
        Answer::Reply(reply) => send(stream, reply),
        Answer::Events(head) => feed(stream, &head, &app.events),
    }
}

/// Then takes in what the peer still sends, for a moment: closing with bytes unread would reset the
/// connection, and the peer might never see its answer.
fn send(stream: &TcpStream, reply: Response<Bytes>) -> io::Result<()> {
    Timed::new(stream, PATIENCE).write_all(&http1::encode(reply))?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut Timed::new(stream, GRACE), &mut io::sink()).map(drop)
}

/// Ends with the events, or when a sign of life finds that the connection is gone.
fn feed(stream: &TcpStream, head: &Response<()>, events: &Events) -> io::Result<()> {
    let mut seen = events.latest();
    Timed::new(stream, PATIENCE).write_all(&http1::encode_head(head))?;
    let mut piece = Some(GREETING);
    while let Some(text) = piece {
        Timed::new(stream, PATIENCE).write_all(&text)?;
        let news = events.wait(seen, HEARTBEAT);
        piece = events::tell(&mut seen, news);
    }
    Ok(())
}

/// A connection, all of whose reads and writes together may take only so long.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a TcpStream, limit: Duration) -> Self {
        Self { stream, until: now() + limit }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "threads that wait for peers have only the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Counts the connections, so that there are never more threads than [`CONNECTIONS_MAX`].
#[derive(Default)]
struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// The right to one thread; dropping it frees its place.
struct Slot(Arc<Slots>);

impl Slots {
    fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut taken = self.taken();
        if *taken == CONNECTIONS_MAX {
            return None;
        }
        *taken += 1;
        Some(Slot(Arc::clone(self)))
    }

    fn wait_until_free(&self, limit: Duration) {
        drop(self.freed.wait_timeout_while(self.taken(), limit, |taken| *taken > 0));
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.taken() -= 1;
        self.0.freed.notify_all();
    }
}
