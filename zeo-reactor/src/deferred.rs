//! One result on its way from one thread to another: wait for it, await it, poll it, or have it
//! call back.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
    thread::{self, Thread},
    time::Duration,
};

use crate::{
    blocking::{is_blocking_forbidden, is_running, spin_until},
    signal::Signal,
    time::monotonic,
};

/// A result and the one who waits for it, delivered by nobody in particular.
///
/// ```
/// let (sender, deferred) = zeo_reactor::deferred();
/// sender.send(42);
/// assert_eq!(deferred.wait(), Ok(42));
/// ```
pub fn deferred<T>() -> (DeferredSender<T>, Deferred<T>) {
    Slot::pair(None, None)
}

/// Like [`deferred`], but what is given to [`Deferred::then`] runs in `executor`.
pub fn deferred_on<T>(executor: Arc<dyn Executor>) -> (DeferredSender<T>, Deferred<T>) {
    Slot::pair(None, Some(executor))
}

/// One that only the reactor of `signal` can fire, so nobody may wait for it there.
pub(crate) fn deferred_by<T>(signal: Arc<Signal>) -> (DeferredSender<T>, Deferred<T>) {
    Slot::pair(Some(signal), None)
}

/// A place where callbacks run.
pub trait Executor: Send + Sync {
    /// Runs `job` later, or drops it when nothing runs here any more.
    fn execute(&self, job: Box<dyn FnOnce() + Send>);
}

/// The sender was dropped without a result: disconnect, stop and panic all look like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the result will never come")]
pub struct Dropped;

/// Why [`Deferred::wait`] has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The sender was dropped without a result.
    #[error("the result will never come")]
    Dropped,
    /// This thread must not block, or would have to deliver the result itself.
    #[error("waiting here would block what is waited for")]
    WouldDeadlock,
    /// The limit has passed; the result may still come.
    #[error("the result did not come in time")]
    TimedOut,
}

impl From<Dropped> for WaitError {
    fn from(_: Dropped) -> Self {
        Self::Dropped
    }
}

/// The end that fires. Dropping it without sending is how an answer fails.
#[must_use = "dropping the sender tells the receiver that no result will come"]
pub struct DeferredSender<T> {
    slot: Option<Arc<Slot<T>>>,
}

impl<T> DeferredSender<T> {
    /// Fires. A value that nobody waits for any more is dropped.
    pub fn send(mut self, value: T) {
        if let Some(slot) = self.slot.take() {
            slot.fire(Ok(value));
        }
    }

    /// Whether nobody waits for the result any more.
    pub fn is_abandoned(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| matches!(*slot.lock(), State::Taken))
    }
}

impl<T> Drop for DeferredSender<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.fire(Err(Dropped));
        }
    }
}

/// The end that receives. Dropping it abandons the result.
#[must_use = "dropping a deferred abandons its result"]
pub struct Deferred<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Deferred<T> {
    /// A result that is already there.
    pub fn ready(value: T) -> Self {
        let (sender, deferred) = deferred();
        sender.send(value);
        deferred
    }

    /// Blocks this thread until the result is there.
    ///
    /// Spins briefly first, where that has paid. A result that is already there is returned
    /// whatever the thread; otherwise the thread must be one that may block: not under
    /// [`forbid_blocking`](crate::forbid_blocking), not running a private reactor, and not running
    /// the reactor that would deliver the result.
    pub fn wait(mut self) -> Result<T, WaitError> {
        self.wait_for(None)
    }

    /// Like [`wait`](Self::wait), but no longer than `limit`. After
    /// [`WaitError::TimedOut`] one may go on waiting.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<T, WaitError> {
        self.wait_for(Some(limit))
    }

    /// The result, if it is there. Once it has been taken, it is `Dropped`.
    pub fn try_take(&mut self) -> Option<Result<T, WaitError>> {
        if !self.slot.done.load(Acquire) {
            return None;
        }
        Some(self.slot.take().map_err(WaitError::from))
    }

    /// Calls `f` with the result: where the maker of this deferred chose (see [`deferred_on`]),
    /// and otherwise on the thread that fires, or on this one when it has fired already. An
    /// executor that has stopped drops `f`.
    pub fn then(self, f: impl FnOnce(Result<T, Dropped>) + Send + 'static)
    where
        T: Send + 'static,
    {
        let callback = self.slot.placed(f);
        let mut state = self.slot.lock();
        if let State::Pending(listener) = &mut *state {
            *listener = Listener::Callback(callback);
            return;
        }
        drop(state);
        callback(self.slot.take());
    }

    fn wait_for(&mut self, limit: Option<Duration>) -> Result<T, WaitError> {
        if let Some(result) = self.try_take() {
            return result;
        }
        if self.would_deadlock() {
            return Err(WaitError::WouldDeadlock);
        }
        if spin_until(|| self.slot.done.load(Acquire)) || self.park(limit) {
            return self.slot.take().map_err(WaitError::from);
        }
        Err(WaitError::TimedOut)
    }

    fn would_deadlock(&self) -> bool {
        is_blocking_forbidden() || self.slot.reactor.as_ref().is_some_and(is_running)
    }

    /// Whether the slot was fired within the limit.
    fn park(&self, limit: Option<Duration>) -> bool {
        let end = limit.and_then(|limit| monotonic().checked_add(limit));
        self.slot.listen(|| Listener::Thread(thread::current()));
        while !self.slot.done.load(Acquire) {
            match end.map(|end| end.saturating_duration_since(monotonic())) {
                None => thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }
}

impl<T> Future for Deferred<T> {
    type Output = Result<T, Dropped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.listen(|| Listener::Task(cx.waker().clone()));
        if self.slot.done.load(Acquire) { Poll::Ready(self.slot.take()) } else { Poll::Pending }
    }
}

impl<T> Drop for Deferred<T> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if !matches!(*state, State::Pending(Listener::Callback(_))) {
            let abandoned = mem::replace(&mut *state, State::Taken);
            drop(state);
            drop(abandoned);
        }
    }
}

impl<T> fmt::Debug for DeferredSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fired = self.slot.done.load(Acquire);
        f.debug_struct("Deferred").field("fired", &fired).finish_non_exhaustive()
    }
}

struct Slot<T> {
    /// Set when the result is there: a look without the lock.
    done: AtomicBool,
    state: Mutex<State<T>>,
    /// The reactor that fires, when only one can.
    reactor: Option<Arc<Signal>>,
    executor: Option<Arc<dyn Executor>>,
}

enum State<T> {
    Pending(Listener<T>),
    Fired(Result<T, Dropped>),
    /// The result was taken, or the receiver has gone.
    Taken,
}

enum Listener<T> {
    None,
    Thread(Thread),
    Task(Waker),
    Callback(Callback<T>),
}

type Callback<T> = Box<dyn FnOnce(Result<T, Dropped>) + Send>;

impl<T> Slot<T> {
    fn pair(
        reactor: Option<Arc<Signal>>,
        executor: Option<Arc<dyn Executor>>,
    ) -> (DeferredSender<T>, Deferred<T>) {
        let state = Mutex::new(State::Pending(Listener::None));
        let slot = Arc::new(Self { done: AtomicBool::new(false), state, reactor, executor });
        (DeferredSender { slot: Some(Arc::clone(&slot)) }, Deferred { slot })
    }

    /// Nothing of the user's runs under the lock, so it is never poisoned.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fire(&self, result: Result<T, Dropped>) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Taken) {
            State::Pending(Listener::Callback(callback)) => {
                drop(state);
                callback(result);
            }
            State::Pending(listener) => {
                *state = State::Fired(result);
                // Under the lock: who finds the state fired need not listen any more.
                self.done.store(true, Release);
                drop(state);
                listener.wake();
            }
            State::Fired(_) | State::Taken => {}
        }
    }

    fn take(&self) -> Result<T, Dropped> {
        match mem::replace(&mut *self.lock(), State::Taken) {
            State::Fired(result) => result,
            State::Pending(_) | State::Taken => Err(Dropped),
        }
    }

    fn listen(&self, listener: impl FnOnce() -> Listener<T>) {
        let mut state = self.lock();
        if let State::Pending(old) = &mut *state {
            let old = mem::replace(old, listener());
            drop(state);
            drop(old);
        }
    }
}

impl<T: Send + 'static> Slot<T> {
    /// Makes `f` run where it should.
    fn placed(&self, f: impl FnOnce(Result<T, Dropped>) + Send + 'static) -> Callback<T> {
        match &self.executor {
            None => Box::new(f),
            Some(executor) => {
                let executor = Arc::clone(executor);
                Box::new(move |result| executor.execute(Box::new(move || f(result))))
            }
        }
    }
}

impl<T> Listener<T> {
    fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
            Self::None | Self::Callback(_) => {}
        }
    }
}
