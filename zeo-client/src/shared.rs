//! What a client's callers and its reactor have in common: the cache, the last tid, and whether
//! there is a connection. Callers only look; the reactor is the one that changes it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use zeo_proto::{Identity, Oid, Tid};

use crate::cache::Cache;
use crate::dispatcher::Dispatcher;
use crate::error::CallError;
use crate::revision::Revision;

/// The common state.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cache: Arc<Cache>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) counters: Counters,
    oids: Mutex<OidPool>,
    last_tid: AtomicU64,
    generation: AtomicU64,
    max_transaction: AtomicU64,
    connected: AtomicBool,
    identity: Mutex<Identity>,
    /// What was voted on, and whose callers have let go of it; as many as they held, at most.
    abandoned: Mutex<Vec<u64>>,
    has_abandoned: AtomicBool,
    /// Set once, when no call will be answered any more.
    ended: OnceLock<CallError>,
}

/// A moment in the database's history: what a transaction sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The last tid seen.
    pub(crate) tid: Tid,
    /// Which history it is a tid of: counts how often this client saw it replaced.
    pub(crate) generation: u64,
}

/// How often things happened. On cache lines of their own: they change with every load, and what
/// lies beside them is read with every load.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) round_trips: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) conflicts_resolved: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        Self::add(counter, 1);
    }

    pub(crate) fn add(counter: &AtomicU64, number: usize) {
        counter.fetch_add(number as u64, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(cache: Arc<Cache>, dispatcher: Arc<Dispatcher>) -> Self {
        Self {
            cache,
            dispatcher,
            counters: Counters::default(),
            oids: Mutex::default(),
            last_tid: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            max_transaction: AtomicU64::new(u64::MAX),
            connected: AtomicBool::new(false),
            identity: Mutex::default(),
            abandoned: Mutex::default(),
            has_abandoned: AtomicBool::new(false),
            ended: OnceLock::new(),
        }
    }

    /// The last tid whose changes have been applied to the cache.
    pub(crate) fn last_tid(&self) -> Tid {
        Tid::new(self.last_tid.load(Ordering::Acquire))
    }

    /// What is newest now. The generation is read first and moves last, so a snapshot of a new
    /// generation never has a tid of an old one; the reverse is refused when it commits.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let generation = self.generation();
        Snapshot { tid: self.last_tid(), generation }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The revision that a reader of `before` sees, if it is in memory. The last tid is read before
    /// the cache: what is current there is current at least up to it.
    pub(crate) fn find(&self, oid: Oid, before: Tid) -> Option<Revision> {
        let last = self.last_tid();
        let found = self.cache.find(oid, before, last);
        let counter = if found.is_some() { &self.counters.hits } else { &self.counters.misses };
        Counters::count(counter);
        found
    }

    /// Leaves what was voted on to the reactor, which ends it.
    pub(crate) fn abandon(&self, number: u64) {
        self.abandoned().push(number);
        self.has_abandoned.store(true, Ordering::Release);
    }

    /// What was left to the reactor.
    pub(crate) fn take_abandoned(&self) -> Vec<u64> {
        // Asked with every call: most often nobody has to be stopped from looking.
        if !self.has_abandoned.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.has_abandoned.store(false, Ordering::Release);
        std::mem::take(&mut *self.abandoned())
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<u64>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no call will be answered any more, once that is so.
    pub(crate) fn ended(&self) -> Option<CallError> {
        self.ended.get().cloned()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(crate) fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the largest transaction that the server takes.
    pub(crate) fn max_transaction(&self) -> u64 {
        self.max_transaction.load(Ordering::Relaxed)
    }

    /// The pool of names for new objects.
    pub(crate) fn oids(&self) -> MutexGuard<'_, OidPool> {
        self.oids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes that all changes up to `tid` have been applied. Never goes back.
    pub(crate) fn advance(&self, tid: Tid) {
        self.last_tid.fetch_max(tid.number(), Ordering::AcqRel);
    }

    /// Goes on from `tid` of another history. The cache is empty by now.
    pub(crate) fn replace_history(&self, tid: Tid) {
        self.last_tid.store(tid.number(), Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn set_server(&self, identity: Identity, max_transaction: u64) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        self.max_transaction.store(max_transaction, Ordering::Relaxed);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// Says that no call will be answered any more. The first reason stays.
    pub(crate) fn end(&self, why: CallError) -> CallError {
        self.ended.get_or_init(|| why).clone()
    }
}

/// Names for new objects that were fetched ahead.
#[derive(Debug, Default)]
pub(crate) struct OidPool {
    /// At most a few: more is fetched only when little is left.
    runs: VecDeque<Range<u64>>,
    left: u64,
}

impl OidPool {
    /// The next name, if there is one.
    pub(crate) fn take(&mut self) -> Option<Oid> {
        while let Some(run) = self.runs.front_mut() {
            if let Some(number) = run.next() {
                self.left -= 1;
                return Some(Oid::new(number));
            }
            self.runs.pop_front();
        }
        None
    }

    /// Adds names, counting up from the first.
    pub(crate) fn add(&mut self, first: Oid, count: u32) {
        let first = first.number();
        let run = first..first.saturating_add(count.into());
        self.left += run.end - run.start;
        self.runs.push_back(run);
    }

    /// Whether it is time to fetch more, which is so once while some are left.
    pub(crate) fn is_low(&self) -> bool {
        self.left == LOW
    }

    /// Forgets them all: another history may give the same names to others.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How many names are left when the next ones are fetched.
const LOW: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_counts_up_and_ends() {
        let mut pool = OidPool::default();
        assert_eq!(pool.take(), None);
        pool.add(Oid::new(100), 2);
        pool.add(Oid::new(200), 1);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).map(Oid::number).collect();
        assert_eq!(taken, [100, 101, 200]);
        pool.add(Oid::new(300), 2);
        pool.clear();
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn names_end_where_there_are_no_more_numbers() {
        let mut pool = OidPool::default();
        pool.add(Oid::new(u64::MAX - 1), 5);
        assert_eq!(pool.take(), Some(Oid::new(u64::MAX - 1)));
        assert_eq!(pool.take(), None);
    }
}
