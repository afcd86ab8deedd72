//! Calls at startup and at shutdown, and what holds a shutdown back.
//!
//! At either event the triggers *before*, *during* and *after* it run, each group in the order in
//! which they were added. Startup is the beginning of a reactor's first turn. At shutdown the
//! triggers before it find everything as it was; as long as somebody has a [`Hold`], the reactor
//! goes on turning, so that they can finish their work; those during it are the last to see the
//! connections; those after it run when every connection is lost and every stage has ended.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{Context, handle::Call, signal::Signal};

/// What triggers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemEvent {
    /// The reactor begins to turn: for the first time, or after a restart.
    Startup,
    /// The reactor was asked to stop.
    Shutdown,
}

/// When, as seen from the event, a trigger runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Preparations; before a shutdown these may take their time (see [`Hold`]).
    Before,
    /// The event itself.
    During,
    /// What is left to do.
    After,
}

/// Names a trigger of one reactor; names nothing once it has run or was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(u64);

/// Keeps a reactor from shutting down as long as it lives, until the limit of
/// [`Context::set_shutdown_limit`](crate::Context::set_shutdown_limit). For any thread.
pub struct Hold(Arc<Holds>);

/// The triggers that have not run.
pub(crate) struct Triggers<S>(Mutex<Table<S>>);

struct Table<S> {
    waiting: BTreeMap<u64, (SystemEvent, Phase, Call<S>)>,
    next: u64,
    /// The reactor is gone: none will ever run.
    closed: bool,
}

/// Counts what holds a shutdown back.
pub(crate) struct Holds {
    count: AtomicUsize,
    signal: Arc<Signal>,
}

impl<S: 'static> Context<S> {
    /// Runs `f` once when the reactor next starts or shuts down. A trigger for a phase that is over
    /// waits for the next time.
    pub fn add_trigger(
        &mut self,
        event: SystemEvent,
        phase: Phase,
        f: impl FnOnce(&mut S, &mut Self) + Send + 'static,
    ) -> TriggerId {
        self.mailbox.triggers.add(event, phase, Box::new(f))
    }

    /// Forgets a trigger. `false` when it has run or was removed.
    pub fn remove_trigger(&mut self, trigger: TriggerId) -> bool {
        self.mailbox.triggers.remove(trigger)
    }

    /// Holds a shutdown back, this one or a later one, until the hold is dropped or the limit has
    /// passed: for a trigger *before* it whose work takes more than its own turn. Too late in a
    /// trigger *during* or *after* it.
    pub fn hold_shutdown(&self) -> Hold {
        self.mailbox.holds.hold()
    }

    /// Sets how long a shutdown may be held back (by default 10 s); then it goes on.
    pub fn set_shutdown_limit(&mut self, limit: Duration) {
        self.shutdown_limit = limit;
    }
}

impl<S> Triggers<S> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { waiting: BTreeMap::new(), next: 0, closed: false }))
    }

    pub(crate) fn add(&self, event: SystemEvent, phase: Phase, call: Call<S>) -> TriggerId {
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        if !table.closed {
            table.waiting.insert(id, (event, phase, call));
        }
        TriggerId(id)
    }

    /// Drops all of them, now and from now on.
    pub(crate) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        // Whatever they own may look here when it is dropped.
        drop(waiting);
    }

    /// `false` when it has run or was removed.
    pub(crate) fn remove(&self, trigger: TriggerId) -> bool {
        self.lock().waiting.remove(&trigger.0).is_some()
    }

    /// The next to run; one at a time, because each may add and remove others.
    pub(crate) fn take(&self, event: SystemEvent, phase: Phase) -> Option<Call<S>> {
        let mut table = self.lock();
        let is_due = |(_, (at, when, _)): &(&u64, &(SystemEvent, Phase, Call<S>))| {
            (*at, *when) == (event, phase)
        };
        let id = table.waiting.iter().find(is_due).map(|(&id, _)| id)?;
        table.waiting.remove(&id).map(|(.., call)| call)
    }

    fn lock(&self) -> MutexGuard<'_, Table<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holds {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self { count: AtomicUsize::new(0), signal }
    }

    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        self.count.fetch_add(1, SeqCst);
        Hold(Arc::clone(self))
    }

    pub(crate) fn are_none(&self) -> bool {
        self.count.load(SeqCst) == 0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, SeqCst) == 1 {
            self.0.signal.notify();
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
