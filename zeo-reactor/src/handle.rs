//! What other threads hold of a reactor: a mailbox with a bound, and a signal.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    Context, Deferred, DeferredSender, Executor, Phase, SystemEvent, TriggerId,
    deferred::deferred_by,
    signal::Signal,
    triggers::{Holds, Triggers},
};

/// Something to run on a reactor's thread.
pub(crate) type Call<S> = Box<dyn FnOnce(&mut S, &mut Context<S>) + Send>;

/// Reaches a reactor from any thread. Cheap to clone; does not keep the reactor alive.
pub struct Handle<S> {
    mailbox: Arc<Mailbox<S>>,
}

impl<S> Handle<S> {
    pub(crate) const fn new(mailbox: Arc<Mailbox<S>>) -> Self {
        Self { mailbox }
    }

    /// Runs `f` in a coming turn. Calls run in the order in which they were queued.
    ///
    /// # Errors
    ///
    /// [`CallError::Full`] when 65,536 calls are waiting, [`CallError::Stopped`] after the reactor
    /// has stopped. A call that is queued when the reactor stops is dropped.
    pub fn call_from_thread(
        &self,
        f: impl FnOnce(&mut S, &mut Context<S>) + Send + 'static,
    ) -> Result<(), CallError> {
        self.mailbox.call(Box::new(f))
    }

    /// Runs `f` in a coming turn and brings its result back. When it is not run, for the reasons
    /// of [`call_from_thread`](Self::call_from_thread), the result is dropped.
    pub fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut S, &mut Context<S>) -> R + Send + 'static,
    ) -> Deferred<R> {
        let (sender, deferred) = self.deferred();
        // An error drops the call, the sender with it, and that is the answer.
        let _: Result<(), CallError> = self.call_from_thread(move |shared, cx| {
            sender.send(f(shared, cx));
        });
        deferred
    }

    /// A result that only this reactor will deliver: nobody may wait for it on its thread.
    pub fn deferred<T>(&self) -> (DeferredSender<T>, Deferred<T>) {
        deferred_by(Arc::clone(&self.mailbox.signal))
    }

    /// Runs `f` once when the reactor next starts or shuts down; also before its first start, and
    /// also when it is running. A trigger for a phase that is over waits for the next time.
    pub fn add_trigger(
        &self,
        event: SystemEvent,
        phase: Phase,
        f: impl FnOnce(&mut S, &mut Context<S>) + Send + 'static,
    ) -> TriggerId {
        self.mailbox.triggers.add(event, phase, Box::new(f))
    }

    /// Forgets a trigger. `false` when it has run or was removed.
    pub fn remove_trigger(&self, trigger: TriggerId) -> bool {
        self.mailbox.triggers.remove(trigger)
    }

    /// Stops the reactor at the end of a coming turn, when nothing [holds](crate::Hold) it back;
    /// what was queued before still runs. Does nothing when it has stopped.
    pub fn stop(&self) {
        self.mailbox.stop_requested.store(true, SeqCst);
        self.mailbox.signal.notify();
    }

    /// Whether the reactor takes calls: it has not stopped, nor is it gone.
    pub fn is_running(&self) -> bool {
        !self.mailbox.signal.is_stopped()
    }
}

/// Runs callbacks in a turn of the reactor. The bound on queued calls does not apply to them.
impl<S> Executor for Handle<S> {
    fn execute(&self, job: Box<dyn FnOnce() + Send>) {
        self.mailbox.deliver(Box::new(move |_, _| job()));
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox) }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

/// Why a call was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// As many calls are waiting as the reactor allows.
    #[error("too many calls are waiting for the reactor")]
    Full,
    /// The reactor has stopped.
    #[error("the reactor has stopped")]
    Stopped,
}

/// Calls and completions on their way to the reactor, in one order.
pub(crate) struct Mailbox<S> {
    sender: Sender<Letter<S>>,
    receiver: Receiver<Letter<S>>,
    /// Calls in the queue; completions are bounded by the stage that makes them.
    calls: AtomicUsize,
    pub(crate) signal: Arc<Signal>,
    pub(crate) stop_requested: AtomicBool,
    pub(crate) triggers: Triggers<S>,
    pub(crate) holds: Arc<Holds>,
}

enum Letter<S> {
    Call(Call<S>),
    Completion(Call<S>),
}

impl<S> Mailbox<S> {
    pub(crate) fn new(signal: Signal) -> Self {
        let (sender, receiver) = unbounded();
        let signal = Arc::new(signal);
        Self {
            triggers: Triggers::new(),
            holds: Arc::new(Holds::new(Arc::clone(&signal))),
            sender,
            receiver,
            calls: AtomicUsize::new(0),
            signal,
            stop_requested: AtomicBool::new(false),
        }
    }

    pub(crate) fn call(&self, call: Call<S>) -> Result<(), CallError> {
        if self.signal.is_stopped() {
            return Err(CallError::Stopped);
        }
        if self.calls.fetch_add(1, Relaxed) >= CALLS_MAX {
            self.calls.fetch_sub(1, Relaxed);
            return Err(CallError::Full);
        }
        self.post(Letter::Call(call))
    }

    /// Queues what must not be refused. Dropped when the reactor has stopped.
    pub(crate) fn deliver(&self, completion: Call<S>) {
        let _: Result<(), CallError> = self.post(Letter::Completion(completion));
    }

    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    pub(crate) fn take(&self) -> Option<Call<S>> {
        match self.receiver.try_recv().ok()? {
            Letter::Completion(call) => Some(call),
            Letter::Call(call) => {
                self.calls.fetch_sub(1, Relaxed);
                Some(call)
            }
        }
    }

    /// From now on nothing is queued, and nothing stays queued.
    pub(crate) fn close(&self) {
        self.signal.stop();
        self.clear();
    }

    pub(crate) fn reopen(&self) {
        self.stop_requested.store(false, SeqCst);
        self.signal.restart();
    }

    /// The reactor stops first and then clears; here the letter is queued first, and then the
    /// signal is looked at. So a letter that came too late for the one is seen by the other, and
    /// none stays behind with somebody waiting for it.
    fn post(&self, letter: Letter<S>) -> Result<(), CallError> {
        self.sender.send(letter).expect("the mailbox itself holds a receiver");
        if self.signal.notify() {
            return Ok(());
        }
        self.clear();
        Err(CallError::Stopped)
    }

    fn clear(&self) {
        while let Some(call) = self.take() {
            drop(call);
        }
    }
}

const CALLS_MAX: usize = 65_536;
