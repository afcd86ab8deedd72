//! A reactor in a thread of its own, beside whatever the host does.

use std::{
    fmt, io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, Builder, ThreadId},
    time::Duration,
};

use crossbeam_channel::bounded;

use crate::{Context, Deferred, Handle, Reactor, stage::message};

/// Runs a reactor in a named thread: start, stop, join, start again.
///
/// Dropping it stops the reactor and joins the thread; on the reactor's own thread it only stops
/// it.
pub struct ReactorThread<S: Send + 'static> {
    name: String,
    handle: Handle<S>,
    place: Arc<Place<S>>,
}

/// Where the reactor is. The thread holds it too, so its end needs nobody else.
struct Place<S: 'static> {
    state: Mutex<State<S>>,
    ended: Condvar,
}

enum State<S: 'static> {
    Idle(Box<Reactor<S>>),
    Running(ThreadId),
    Gone(String),
}

impl<S: Send + 'static> ReactorThread<S> {
    /// Keeps a reactor until [`start`](Self::start).
    pub fn new(name: impl Into<String>, reactor: Reactor<S>) -> Self {
        let (name, handle) = (name.into(), reactor.handle());
        let state = Mutex::new(State::Idle(Box::new(reactor)));
        Self { name, handle, place: Arc::new(Place { state, ended: Condvar::new() }) }
    }

    /// [`new`](Self::new) and [`start`](Self::start).
    pub fn spawn(name: impl Into<String>, reactor: Reactor<S>) -> Result<Self, StartError> {
        let thread = Self::new(name, reactor);
        thread.start()?;
        Ok(thread)
    }

    /// Starts the reactor in a new thread; after a stop, it starts again (see
    /// [`Reactor::restart`]).
    ///
    /// # Errors
    ///
    /// When it is running, when it is gone because it has panicked, and when there can be no
    /// thread; then it can be started later.
    pub fn start(&self) -> Result<(), StartError> {
        let mut state = self.place.lock();
        match &*state {
            State::Running(_) => return Err(StartError::Running),
            State::Gone(why) => return Err(StartError::Gone(why.clone())),
            State::Idle(_) => {}
        }
        let (give, take) = bounded::<Box<Reactor<S>>>(1);
        let place = Arc::clone(&self.place);
        let thread = Builder::new().name(self.name.clone()).spawn(move || {
            if let Ok(reactor) = take.recv() {
                place.run(reactor);
            }
        })?;
        let running = State::Running(thread.thread().id());
        if let State::Idle(mut reactor) = mem::replace(&mut *state, running) {
            reactor.restart();
            give.send(reactor).expect("the thread waits for it");
        }
        Ok(())
    }

    /// Asks the reactor to stop, and returns at once.
    ///
    /// # Errors
    ///
    /// [`NotRunning`], also when it has stopped already.
    pub fn stop(&self) -> Result<(), NotRunning> {
        if !self.is_running() {
            return Err(NotRunning);
        }
        self.handle.stop();
        Ok(())
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        matches!(*self.place.lock(), State::Running(_))
    }

    /// Waits until the thread has ended, for no longer than `limit`. `Ok` when it was not running.
    pub fn join(&self, limit: Option<Duration>) -> Result<(), JoinError> {
        let mut state = self.place.lock();
        if state.runs_here() {
            return Err(JoinError::OwnThread);
        }
        let runs = |state: &mut State<S>| matches!(state, State::Running(_));
        state = match limit {
            None => {
                self.place.ended.wait_while(state, runs).unwrap_or_else(PoisonError::into_inner)
            }
            Some(limit) => {
                let waited = self.place.ended.wait_timeout_while(state, limit, runs);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match &*state {
            State::Idle(_) => Ok(()),
            State::Running(_) => Err(JoinError::TimedOut),
            State::Gone(why) => Err(JoinError::Gone(why.clone())),
        }
    }

    /// The name of its thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What other threads may hold.
    pub fn handle(&self) -> Handle<S> {
        self.handle.clone()
    }

    /// Runs `f` with the reactor: in one of its turns when it runs, and otherwise, before a start
    /// and after a stop alike, directly. Then `f` must not use this `ReactorThread`.
    ///
    /// The result is dropped when the reactor is gone or stops first.
    pub fn call_in_reactor<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut S, &mut Context<S>) -> R + Send + 'static,
    ) -> Deferred<R> {
        match &mut *self.place.lock() {
            State::Idle(reactor) => Deferred::ready(reactor.with(f)),
            State::Running(_) => self.handle.ask(f),
            State::Gone(_) => crate::deferred().1,
        }
    }
}

impl<S: Send + 'static> Drop for ReactorThread<S> {
    fn drop(&mut self) {
        self.handle.stop();
        match self.join(None) {
            // The thread may hold the place for a moment longer; the reactor is not to outlive this.
            Ok(()) => drop(mem::replace(&mut *self.place.lock(), State::Gone(String::new()))),
            Err(JoinError::OwnThread) => {}
            Err(error) => tracing::error!(%error, thread = self.name, "a reactor has failed"),
        }
    }
}

impl<S: Send + 'static> fmt::Debug for ReactorThread<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorThread").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<S: 'static> Place<S> {
    /// A poisoned lock means that a direct call has panicked; the reactor is still whole.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, reactor: Box<Reactor<S>>) {
        let state = run(reactor);
        *self.lock() = state;
        self.ended.notify_all();
    }
}

impl<S> State<S> {
    fn runs_here(&self) -> bool {
        matches!(self, Self::Running(id) if *id == thread::current().id())
    }
}

/// Runs the reactor to its end. A panic drops it, so that everybody who waits for it hears of it.
fn run<S>(mut reactor: Box<Reactor<S>>) -> State<S> {
    let result = catch_unwind(AssertUnwindSafe(move || {
        let result = reactor.run();
        (reactor, result)
    }));
    match result {
        Ok((reactor, Ok(()))) => State::Idle(reactor),
        Ok((_, Err(error))) => State::Gone(error.to_string()),
        Err(panic) => State::Gone(message(&*panic)),
    }
}

/// Why a reactor's thread was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It runs.
    #[error("the reactor is running already")]
    Running,
    /// The reactor has failed before, with this message.
    #[error("the reactor has failed: {0}")]
    Gone(String),
    /// There can be no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The reactor's thread does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reactor is not running")]
pub struct NotRunning;

/// Why a reactor's thread was not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The limit has passed.
    #[error("the reactor did not stop in time")]
    TimedOut,
    /// A thread cannot wait for its own end.
    #[error("the reactor's own thread cannot join it")]
    OwnThread,
    /// The reactor has panicked, or could not wait for events, with this message.
    #[error("the reactor has failed: {0}")]
    Gone(String),
}
