//! Loads: each object and `before` is asked for once, however many wait for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use zeo_proto::{Call, Failure, Loaded, MAX_BATCH, Oid, Tid, Validity};
use zeo_reactor::DeferredSender;

use crate::error::LoadError;
use crate::revision::Revision;

use super::calls::Asked;
use super::load_many::Page;
use super::{Cx, State, Waiter, call_error};

/// What names a load: the object, and the tid before which it is to be valid.
pub(super) type Key = (Oid, Tid);
/// Where a loaded revision goes.
pub(crate) type LoadSender = DeferredSender<Result<Revision, LoadError>>;

/// The loads that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Loads {
    loads: BTreeMap<Key, Load>,
    last_waiter: u64,
}

#[derive(Debug, Default)]
struct Load {
    waiters: Vec<Loading>,
    /// The first and the last change of the object that was heard of meanwhile.
    changed: Option<(Tid, Tid)>,
}

#[derive(Debug)]
enum Loading {
    One(u64, Waiter<Result<Revision, LoadError>>),
    /// A place in a batch.
    Many(u64, usize),
}

impl Load {
    /// Until when what was loaded is valid, given the changes heard of while it was on its way.
    ///
    /// A server seals what it sends, so that a revision without an end is current. Should one not,
    /// an object that changed meanwhile still cannot end up as current.
    fn seal(&self, validity: Validity) -> Option<Tid> {
        match self.changed {
            Some((first, _)) if validity.serial < first => Some(validity.end.unwrap_or(first)),
            Some((_, last)) if validity.serial < last => {
                Some(validity.end.unwrap_or_else(|| validity.serial.next()))
            }
            Some(_) | None => validity.end,
        }
    }
}

impl Loads {
    /// Remembers that an object changed, for the loads of it that are on their way.
    pub(super) fn changed(&mut self, oid: Oid, tid: Tid) {
        for (_, load) in self.loads.range_mut((oid, Tid::ZERO)..=(oid, Tid::MAX)) {
            let first = load.changed.map_or(tid, |(first, _)| first);
            load.changed = Some((first, tid));
        }
    }

    /// Remembers that any object may have changed.
    pub(super) fn all_changed(&mut self, tid: Tid) {
        for load in self.loads.values_mut() {
            let first = load.changed.map_or(tid, |(first, _)| first);
            load.changed = Some((first, tid));
        }
    }

    /// Adds a place in a batch; says whether the load is to be sent.
    pub(super) fn join(&mut self, key: Key, batch: u64, place: usize) -> bool {
        self.add(key, Loading::Many(batch, place))
    }

    fn add(&mut self, key: Key, waiter: Loading) -> bool {
        let new = !self.loads.contains_key(&key);
        self.loads.entry(key).or_default().waiters.push(waiter);
        new
    }

    fn remove_waiter(&mut self, key: Key, number: u64) -> Option<LoadWaiter> {
        let waiters = &mut self.loads.get_mut(&key)?.waiters;
        let at = waiters.iter().position(|w| matches!(w, Loading::One(n, _) if *n == number))?;
        match waiters.swap_remove(at) {
            Loading::One(_, waiter) => Some(waiter),
            Loading::Many(..) => None,
        }
    }
}

type LoadWaiter = Waiter<Result<Revision, LoadError>>;

#[cfg(feature = "sim")]
impl Loads {
    pub(super) fn len(&self) -> usize {
        self.loads.len()
    }
}

impl State {
    /// Loads an object for a caller, whose snapshot may be of a history that was replaced since.
    pub(crate) fn load(&mut self, cx: &mut Cx, key: Key, generation: u64, sender: LoadSender) {
        if let Some(refusal) = self.load_refusal(generation) {
            return sender.send(Err(refusal));
        }
        if let Some(revision) = self.shared.cache.find(key.0, key.1, self.shared.last_tid()) {
            return sender.send(Ok(revision));
        }
        self.loads.last_waiter += 1;
        let number = self.loads.last_waiter;
        let late = move |state: &mut Self, cx: &mut Cx| state.load_is_late(cx, key, number);
        let waiter = Waiter::new(cx, sender, self.call_timeout, late);
        if self.loads.add(key, Loading::One(number, waiter)) {
            self.send_load(cx, key);
        }
    }

    /// Why a load must fail at once, if it must.
    pub(super) fn load_refusal(&self, generation: u64) -> Option<LoadError> {
        if generation != self.shared.generation() {
            return Some(LoadError::HistoryChanged);
        }
        let full = self.loads.loads.len() >= LOADS_MAX;
        self.refusal_or_full(full).map(LoadError::from)
    }

    pub(super) fn send_load(&mut self, cx: &mut Cx, key: Key) {
        if self.ready_conn().is_some() {
            self.call(cx, Asked::Load(key), Call::LoadBefore(key.0, key.1));
        }
    }

    pub(super) fn loaded(&mut self, cx: &mut Cx, key: Key, found: Loaded, data: Bytes) {
        let result = match found {
            Loaded::Absent => Err(LoadError::NotFound(key.0)),
            Loaded::Deleted(validity) => {
                Err(LoadError::Deleted { oid: key.0, tid: validity.serial })
            }
            Loaded::Revision(validity, _) => Ok(self.learn(key, validity, data)),
        };
        self.settle(cx, key, &result);
    }

    /// Puts a revision into the cache, in the order of the wire.
    fn learn(&mut self, key: Key, validity: Validity, data: Bytes) -> Revision {
        let load = self.loads.loads.get(&key);
        let load = load.filter(|_| self.rules.guard);
        let end = load.map_or(validity.end, |load| load.seal(validity));
        let revision = Revision { data, tid: validity.serial, end };
        self.cache.insert(key.0, revision.clone());
        revision
    }

    pub(super) fn load_failed(&mut self, cx: &mut Cx, key: Key, failure: &Failure) {
        self.settle(cx, key, &Err(load_error(failure)));
    }

    /// Ends a load: everybody who waits for it gets its result.
    pub(super) fn settle(&mut self, cx: &mut Cx, key: Key, result: &Result<Revision, LoadError>) {
        let Some(load) = self.loads.loads.remove(&key) else { return };
        for waiter in load.waiters {
            match waiter {
                Loading::One(_, waiter) => waiter.send(cx, result.clone()),
                Loading::Many(batch, place) => self.loaded_one_of(cx, batch, place, result),
            }
        }
    }

    /// The time limit of one who waits has ended. The load itself goes on, for the cache.
    fn load_is_late(&mut self, cx: &mut Cx, key: Key, number: u64) {
        if let Some(waiter) = self.loads.remove_waiter(key, number) {
            waiter.send(cx, Err(LoadError::Timeout));
        }
    }

    /// Sends what is waited for on a new connection, with its `before` unchanged.
    pub(super) fn resend_loads(&mut self, cx: &mut Cx) {
        self.loads.loads.retain(|_, load| !load.waiters.is_empty());
        let mut by_before = BTreeMap::<Tid, Vec<Oid>>::new();
        for (oid, before) in self.loads.loads.keys() {
            by_before.entry(*before).or_default().push(*oid);
        }
        for (before, oids) in by_before {
            for oids in oids.chunks(MAX_BATCH) {
                self.send_page(cx, Page::new(before, oids));
            }
        }
    }

    pub(super) fn fail_loads(&mut self, cx: &mut Cx, why: &LoadError) {
        self.fail_batches(cx, why);
        for load in std::mem::take(&mut self.loads.loads).into_values() {
            for waiter in load.waiters {
                if let Loading::One(_, waiter) = waiter {
                    waiter.send(cx, Err(why.clone()));
                }
            }
        }
    }
}

pub(super) fn load_error(failure: &Failure) -> LoadError {
    if let Failure::Damaged(text) = failure {
        return LoadError::Damaged(text.clone());
    }
    call_error(failure).into()
}

/// How many different loads may be waited for; more are [`LoadError::Busy`].
const LOADS_MAX: usize = 256 << 10;
