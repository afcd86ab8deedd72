//! The event loop: one turn after another, each a well-defined step that a caller may drive.

use std::{
    fmt, io, mem,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::{
    Context, Handle, Phase, SystemEvent, Time,
    blocking::Running,
    driver::{Driver, Ready},
    handle::Mailbox,
    kind::{AnyKind, KindId},
    signal::Signal,
};

mod flush;
mod guest;
mod input;
mod stop;
mod wait;

/// An event loop and the state `S` that its callbacks share.
///
/// A turn: wait; take the time once; the first time, fire the triggers of startup; run the calls that were queued before the turn; run due
/// timers; act on input; start connects; flush what was written, and end what is to be ended. Work
/// made in a turn runs in the next one.
///
/// Whoever owns the reactor drives it: with [`run`](Self::run), with [`turn`](Self::turn) from a
/// loop of its own, or through a [`ReactorThread`](crate::ReactorThread).
pub struct Reactor<S: 'static> {
    cx: Context<S>,
    shared: S,
    ready: Vec<Ready>,
    /// All connections are read into this, one after the other.
    buffer: Box<[u8]>,
    polling: wait::Polling,
    private: bool,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnReport {
    /// Whether anything was done.
    pub worked: bool,
    /// When the next timer is due.
    pub next_deadline: Option<Time>,
    /// Whether the reactor has stopped, now or before.
    pub stopped: bool,
}

impl<S: 'static> Reactor<S> {
    /// A reactor that does nothing until it is driven. Calls may be queued at once.
    pub fn new(driver: impl Driver + 'static, shared: S) -> Self {
        let mailbox = Arc::new(Mailbox::new(Signal::new(driver.waker())));
        Self {
            cx: Context::new(driver, mailbox),
            shared,
            ready: Vec::new(),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            polling: wait::Polling::new(),
            private: false,
        }
    }

    /// Marks the reactor as one that a library hides: its thread may never wait for any
    /// [`Deferred`](crate::Deferred), so no two such reactors can wait for each other.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// What other threads may hold.
    pub fn handle(&self) -> Handle<S> {
        self.cx.handle()
    }

    /// Lends the reactor to `f` between turns, on this thread.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut S, &mut Context<S>) -> R) -> R {
        let _running = Running::enter(&self.cx.mailbox.signal, self.private);
        self.cx.now = self.cx.driver.now();
        f(&mut self.shared, &mut self.cx)
    }

    /// One turn. It waits for something to do for no longer than `wait`, or without limit.
    ///
    /// After a stop it does nothing, until [`restart`](Self::restart).
    ///
    /// # Errors
    ///
    /// When the driver cannot wait, which leaves nothing to be done but to drop the reactor.
    pub fn turn(&mut self, wait: Option<Duration>) -> io::Result<TurnReport> {
        if self.is_stopped() {
            return Ok(self.report(false));
        }
        let _running = Running::enter(&self.cx.mailbox.signal, self.private);
        self.wait(wait)?;
        self.cx.now = self.cx.driver.now();
        if self.cx.mailbox.stop_requested.load(SeqCst) {
            self.cx.stop();
        }
        self.start_up();
        // What is recorded from here on is for the next turn.
        let mark = self.cx.timers.mark();
        let worked = [self.run_calls(), self.run_timers(mark), self.input(), self.flush()];
        self.shut_down();
        Ok(self.report(worked.contains(&true)))
    }

    /// Turns until the reactor is stopped.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.turn(None)?.stopped {}
        Ok(())
    }

    /// Whether the reactor has stopped.
    pub fn is_stopped(&self) -> bool {
        self.cx.mailbox.signal.is_stopped()
    }

    /// Lets a stopped reactor run again: it has no connections, timers, calls or stages, and its
    /// state is what the stop left. Its handles are good again.
    pub fn restart(&mut self) {
        if self.is_stopped() {
            self.cx.mailbox.reopen();
        }
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.cx.next_deadline()
    }

    /// Whether a turn would find something to do at once. For drivers whose clock somebody moves
    /// by hand; a real driver's sockets are only known to a turn.
    pub fn is_due(&self) -> bool {
        let mailbox = &self.cx.mailbox;
        let due = self.cx.has_work()
            || mailbox.len() > 0
            || mailbox.signal.is_notified()
            || self.cx.driver.is_ready()
            || self.next_deadline().is_some_and(|at| at <= self.cx.driver.now());
        due && !self.is_stopped()
    }

    /// The state that callbacks share.
    pub fn shared(&self) -> &S {
        &self.shared
    }

    /// The state that callbacks share.
    pub fn shared_mut(&mut self) -> &mut S {
        &mut self.shared
    }

    fn start_up(&mut self) {
        if !mem::replace(&mut self.cx.started, true) {
            for phase in [Phase::Before, Phase::During, Phase::After] {
                self.fire(SystemEvent::Startup, phase);
            }
        }
    }

    fn fire(&mut self, event: SystemEvent, phase: Phase) {
        while let Some(call) = self.cx.mailbox.triggers.take(event, phase) {
            call(&mut self.shared, &mut self.cx);
        }
    }

    fn report(&self, worked: bool) -> TurnReport {
        let (next_deadline, stopped) = (self.next_deadline(), self.is_stopped());
        TurnReport { worked, next_deadline, stopped }
    }

    fn run_calls(&mut self) -> bool {
        let soon = mem::take(&mut self.cx.soon);
        let waiting = self.cx.mailbox.len();
        let worked = !soon.is_empty() || waiting > 0;
        for call in soon {
            call(&mut self.shared, &mut self.cx);
        }
        for _ in 0..waiting {
            let Some(call) = self.cx.mailbox.take() else { break };
            call(&mut self.shared, &mut self.cx);
        }
        worked
    }

    fn run_timers(&mut self, mark: u64) -> bool {
        let mut worked = false;
        while let Some(call) = self.cx.timers.pop_due(self.cx.now, mark) {
            call(&mut self.shared, &mut self.cx);
            worked = true;
        }
        worked
    }

    /// Lends the kind, the state and the context to `f`.
    fn with_kind<R>(
        &mut self,
        id: KindId,
        f: impl FnOnce(&mut dyn AnyKind<S>, &mut S, &mut Context<S>) -> R,
    ) -> Option<R> {
        let mut kind = self.cx.kinds.lend(id)?;
        let result = f(&mut *kind, &mut self.shared, &mut self.cx);
        self.cx.kinds.put_back(id, kind);
        Some(result)
    }
}

/// A reactor that is dropped without a stop calls nobody back: its sockets close, its jobs end,
/// and every result that it owed fails.
impl<S: 'static> Drop for Reactor<S> {
    fn drop(&mut self) {
        self.cx.mailbox.close();
        self.cx.mailbox.triggers.close();
        self.end_stages();
    }
}

impl<S: 'static> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

const BUFFER_LEN: usize = 64 * 1024;
