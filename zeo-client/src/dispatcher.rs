//! Tells the application of changes, on a thread of its own where blocking calls are allowed.
//!
//! The reactor puts invalidations and the callbacks of deferred results into a mailbox and never
//! waits; the dispatcher thread takes them out in order. The mailbox is bounded: when invalidations
//! gather faster than callbacks take them, all that wait become one that says *everything may have
//! changed, up to this tid*, so nothing is lost silently. Callbacks of deferred results are never
//! dropped; while too many wait, the client takes no new calls.
//!
//! The thread is started when the first subscription or callback is made. A client that is driven
//! by a simulation starts none: its driver calls [`Dispatcher::deliver`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use zeo_proto::{Oid, Tid};
use zeo_reactor::Executor;

/// Objects changed: one transaction, or several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// The transaction that changed them, or the last of several. The client's `last_tid` has
    /// reached it.
    pub tid: Tid,
    /// Which objects.
    pub changed: Changed,
    /// Whether a transaction of this client did it.
    pub own: bool,
}

/// Which objects an [`Invalidation`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Objects(Arc<[Oid]>),
    /// Any object may have changed: there were too many changes to list, or the database's history
    /// was replaced.
    Everything,
}

impl Invalidation {
    /// Whether the object may have changed.
    pub fn concerns(&self, oid: Oid) -> bool {
        match &self.changed {
            Changed::Objects(oids) => oids.contains(&oid),
            Changed::Everything => true,
        }
    }

    fn weight(&self) -> usize {
        match &self.changed {
            Changed::Objects(oids) => oids.len(),
            Changed::Everything => 0,
        }
    }
}

/// The mailbox and who is to be called; shared by the reactor, the dispatcher thread and the
/// subscriptions.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    mailbox: Mutex<Mailbox>,
    wake: Condvar,
    /// Callbacks of deferred results that wait.
    callbacks: AtomicUsize,
    /// Whether something else than a thread of our own delivers.
    driven: bool,
}

#[derive(Default)]
struct Mailbox {
    queue: VecDeque<Item>,
    /// How many invalidations the queue has, and how many oids they name together.
    invalidations: usize,
    oids: usize,
    subscribers: BTreeMap<u64, Subscriber>,
    next_subscriber: u64,
    running: bool,
    closed: bool,
}

enum Item {
    Invalidation(Invalidation),
    Callback(Box<dyn FnOnce() + Send>),
}

type Subscriber = Arc<Mutex<dyn FnMut(&Invalidation) + Send>>;

/// A callback's place among those to be called; dropping it takes it out.
///
/// A call that is in progress on the dispatcher thread goes on; no new one begins.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    number: u64,
    dispatcher: Weak<Dispatcher>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(dispatcher) = self.dispatcher.upgrade() {
            // The callback may own anything, also what locks the mailbox when dropped.
            let callback = dispatcher.mailbox().subscribers.remove(&self.number);
            drop(callback);
        }
    }
}

/// Where the callbacks of a client's deferred results run.
pub(crate) struct Callbacks(pub(crate) Arc<Dispatcher>);

impl Executor for Callbacks {
    fn execute(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.call(job);
    }
}

impl Dispatcher {
    /// A dispatcher without a thread yet; `driven` when [`deliver`](Self::deliver) stands in for
    /// one.
    pub(crate) fn new(driven: bool) -> Self {
        let (mailbox, callbacks) = (Mutex::default(), AtomicUsize::new(0));
        Self { mailbox, wake: Condvar::new(), callbacks, driven }
    }

    /// Has `callback` called with every invalidation from now on.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        callback: impl FnMut(&Invalidation) + Send + 'static,
    ) -> Subscription {
        let callback: Subscriber = Arc::new(Mutex::new(callback));
        let mut mailbox = self.mailbox();
        let number = mailbox.next_subscriber;
        mailbox.next_subscriber += 1;
        if !mailbox.closed {
            mailbox.subscribers.insert(number, callback);
            self.ensure_running(&mut mailbox);
        }
        Subscription { number, dispatcher: Arc::downgrade(self) }
    }

    /// Whether anybody wants to hear of invalidations.
    pub(crate) fn is_listened_to(&self) -> bool {
        !self.mailbox().subscribers.is_empty()
    }

    /// Puts an invalidation into the mailbox.
    pub(crate) fn invalidated(&self, invalidation: Invalidation) {
        let mut mailbox = self.mailbox();
        if mailbox.closed || mailbox.subscribers.is_empty() {
            return;
        }
        mailbox.invalidated(invalidation);
        self.wake.notify_one();
    }

    /// Has `callback` called on the dispatcher thread; drops it when that has ended.
    pub(crate) fn call(self: &Arc<Self>, callback: Box<dyn FnOnce() + Send>) {
        let mut mailbox = self.mailbox();
        if mailbox.closed {
            drop(mailbox);
            return drop(callback);
        }
        self.callbacks.fetch_add(1, Ordering::Relaxed);
        mailbox.queue.push_back(Item::Callback(callback));
        self.ensure_running(&mut mailbox);
        self.wake.notify_one();
    }

    /// Whether so many callbacks of deferred results wait that no more should be made.
    pub(crate) fn is_full(&self) -> bool {
        self.callbacks.load(Ordering::Relaxed) >= CALLBACKS_MAX
    }

    /// Makes what waits the last that is delivered.
    pub(crate) fn close(&self) {
        let mut mailbox = self.mailbox();
        mailbox.closed = true;
        // Callbacks may own clients: they are dropped where dropping one waits for nothing of ours.
        let subscribers = std::mem::take(&mut mailbox.subscribers);
        drop(mailbox);
        drop(subscribers);
        self.wake.notify_all();
    }

    /// Delivers all that waits, on this thread.
    pub(crate) fn deliver(&self) {
        loop {
            let mut mailbox = self.mailbox();
            let Some(item) = mailbox.take() else { return };
            drop(mailbox);
            self.deliver_one(item);
        }
    }

    fn deliver_one(&self, item: Item) {
        match item {
            Item::Callback(callback) => {
                self.callbacks.fetch_sub(1, Ordering::Relaxed);
                guarded(callback);
            }
            Item::Invalidation(invalidation) => self.announce(&invalidation),
        }
    }

    fn announce(&self, invalidation: &Invalidation) {
        let subscribers: Vec<_> =
            self.mailbox().subscribers.iter().map(|(n, s)| (*n, Arc::clone(s))).collect();
        for (number, subscriber) in subscribers {
            let mut callback = subscriber.lock().unwrap_or_else(PoisonError::into_inner);
            let subscribed = self.mailbox().subscribers.contains_key(&number);
            if subscribed && !guarded(|| callback(invalidation)) {
                drop(self.mailbox().subscribers.remove(&number));
            }
        }
    }

    fn ensure_running(self: &Arc<Self>, mailbox: &mut Mailbox) {
        if mailbox.running || self.driven {
            return;
        }
        let dispatcher = Arc::clone(self);
        let thread = thread::Builder::new().name("zeo-dispatcher".to_owned());
        match thread.spawn(move || dispatcher.run()) {
            Ok(_detached) => mailbox.running = true,
            Err(error) => tracing::error!(%error, "no dispatcher thread: callbacks are not called"),
        }
    }

    fn run(&self) {
        while let Some(item) = self.next() {
            self.deliver_one(item);
        }
    }

    fn next(&self) -> Option<Item> {
        let mut mailbox = self.mailbox();
        loop {
            if let Some(item) = mailbox.take() {
                return Some(item);
            }
            if mailbox.closed {
                return None;
            }
            mailbox = self.wake.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    fn invalidated(&mut self, mut invalidation: Invalidation) {
        let full = self.invalidations >= INVALIDATIONS_MAX
            || self.oids.saturating_add(invalidation.weight()) > OIDS_MAX;
        if full {
            self.queue.retain(|item| matches!(item, Item::Callback(_)));
            (self.invalidations, self.oids) = (0, 0);
            invalidation.changed = Changed::Everything;
            invalidation.own = false;
        }
        self.invalidations += 1;
        self.oids += invalidation.weight();
        self.queue.push_back(Item::Invalidation(invalidation));
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        if let Item::Invalidation(invalidation) = &item {
            self.invalidations -= 1;
            self.oids -= invalidation.weight();
        }
        Some(item)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("queued", &self.queue.len())
            .field("subscribers", &self.subscribers.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Calls into the application; a panic there must not end the thread that serves others. Says
/// whether there was none.
fn guarded(call: impl FnOnce()) -> bool {
    let result = catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!("a callback of the application panicked; it will not be called again");
    }
    result.is_ok()
}

/// Callbacks of deferred results that wait before new calls are refused.
const CALLBACKS_MAX: usize = 65_536;
/// Invalidations that wait at most, and oids that they name together.
const INVALIDATIONS_MAX: usize = 1_024;
const OIDS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_hear_in_order_until_they_unsubscribe() {
        let dispatcher = Arc::new(Dispatcher::new(true));
        let (heard, subscription) = listener(&dispatcher);
        dispatcher.invalidated(invalidation(1, 1));
        dispatcher.invalidated(invalidation(2, 1));
        dispatcher.deliver();
        drop(subscription);
        dispatcher.invalidated(invalidation(3, 1));
        dispatcher.deliver();
        assert_eq!(*heard.lock().unwrap(), [invalidation(1, 1), invalidation(2, 1)]);
        assert!(!dispatcher.is_listened_to());
    }

    #[test]
    fn when_the_mailbox_is_full_everything_has_changed() {
        let dispatcher = Arc::new(Dispatcher::new(true));
        let (heard, _subscription) = listener(&dispatcher);
        let count = INVALIDATIONS_MAX as u64 + 2;
        (1..=count).for_each(|tid| dispatcher.invalidated(invalidation(tid, 1)));
        dispatcher.deliver();
        let everything =
            Invalidation { tid: Tid::new(count - 1), changed: Changed::Everything, own: false };
        assert_eq!(*heard.lock().unwrap(), [everything, invalidation(count, 1)]);
    }

    #[test]
    fn oids_that_wait_are_bounded_too() {
        let dispatcher = Arc::new(Dispatcher::new(true));
        let (heard, _subscription) = listener(&dispatcher);
        dispatcher.invalidated(invalidation(1, OIDS_MAX));
        dispatcher.invalidated(invalidation(2, 1));
        dispatcher.deliver();
        assert_eq!(heard.lock().unwrap().len(), 1);
        assert!(heard.lock().unwrap()[0].concerns(Oid::MAX));
    }

    #[test]
    fn a_callback_that_panics_is_not_called_again_and_others_are() {
        let dispatcher = Arc::new(Dispatcher::new(true));
        let _panics = dispatcher.subscribe(|_| panic!("on purpose"));
        let (heard, _subscription) = listener(&dispatcher);
        dispatcher.invalidated(invalidation(1, 1));
        dispatcher.invalidated(invalidation(2, 1));
        dispatcher.deliver();
        assert_eq!(heard.lock().unwrap().len(), 2);
        assert_eq!(dispatcher.mailbox().subscribers.len(), 1);
    }

    #[test]
    fn what_waits_when_it_closes_is_still_delivered() {
        let dispatcher = Arc::new(Dispatcher::new(false));
        let (called, calls) = crossbeam_channel::bounded(1);
        dispatcher.call(Box::new(move || called.send(thread::current().name().is_some()).unwrap()));
        dispatcher.close();
        assert_eq!(calls.recv(), Ok(true));
        let (called, calls) = crossbeam_channel::bounded::<bool>(1);
        dispatcher.call(Box::new(move || called.send(true).unwrap()));
        assert!(calls.recv().is_err(), "dropped, not called");
    }

    type Heard = Arc<Mutex<Vec<Invalidation>>>;

    fn listener(dispatcher: &Arc<Dispatcher>) -> (Heard, Subscription) {
        let heard = Heard::default();
        let notes = Arc::clone(&heard);
        let subscription = dispatcher.subscribe(move |i| notes.lock().unwrap().push(i.clone()));
        (heard, subscription)
    }

    fn invalidation(tid: u64, objects: usize) -> Invalidation {
        let changed = Changed::Objects(vec![Oid::ROOT; objects].into());
        Invalidation { tid: Tid::new(tid), changed, own: false }
    }
}
