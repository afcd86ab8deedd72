//! The thread that writes the log, and the queue before it.
//!
//! A disk that is full or slow, or a pipe that nobody reads, holds up this thread and nobody else:
//! when the queue is full, lines are dropped and counted, and the count is logged when lines can
//! be written again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tracing_subscriber::fmt::MakeWriter;

use super::line::one_line;
use super::sink::{LogTarget, Sink};
use crate::trouble::{Kind, Trouble};

/// The log, as those who write into it have it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    queue: Sender<Entry>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The file is to be opened anew before anything else is written.
    reopen: AtomicBool,
    /// Lines that were dropped and not yet told of.
    lost: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Line(Box<[u8]>),
    /// Look whether the file is to be opened anew.
    Look,
    /// Say when everything before this was written.
    Flush(Sender<()>),
}

impl Log {
    /// Opens the log and starts its thread.
    pub(crate) fn start(target: LogTarget) -> Result<Self, Trouble> {
        let mut sink = Sink::open(target)?;
        let (sender, queue) = bounded(QUEUE_LINES);
        let log = Self { queue: sender, shared: Arc::default() };
        let shared = Arc::clone(&log.shared);
        let write = move || write_all(&queue, &mut sink, &shared);
        thread::Builder::new().name("zeo-log".to_owned()).spawn(write).map_err(|error| {
            Trouble::new(Kind::System, format!("no thread for the log: {error}"))
        })?;
        Ok(log)
    }

    /// Opens the file anew before the next line, without waiting.
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // A full queue has lines before which it will be seen.
        drop(self.queue.try_send(Entry::Look));
    }

    /// Waits until what was logged before is written, for a second at most.
    pub(crate) fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.queue.send_timeout(Entry::Flush(done), FLUSH / 2).is_ok() {
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(FLUSH / 2);
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Takes a whole event at once, and never fails: there is nobody to tell.
impl io::Write for &Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(one_line(event))).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(queue: &Receiver<Entry>, sink: &mut Sink, shared: &Shared) {
    for entry in queue {
        if shared.reopen.swap(false, Ordering::Acquire) {
            reopen(sink);
        }
        match entry {
            Entry::Line(line) => match sink.write(&line) {
                Ok(()) if queue.is_empty() => tell_of_lost_lines(shared),
                Ok(()) => {}
                Err(_) => _ = shared.lost.fetch_add(1, Ordering::Relaxed),
            },
            Entry::Look => {}
            // Whoever asked may have given up.
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

fn reopen(sink: &mut Sink) {
    match sink.reopen() {
        Ok(()) => tracing::info!("log file opened anew"),
        Err(error) => tracing::error!("log file not opened anew, the old one is kept: {error}"),
    }
}

/// When lines can be written again, and there is room in the queue for one that says so.
fn tell_of_lost_lines(shared: &Shared) {
    let lost = shared.lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(lost, "log lines were lost, because they could not be written in time");
    }
}

/// Lines that wait to be written; with one more, it is dropped.
const QUEUE_LINES: usize = 4_096;

/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(1);
