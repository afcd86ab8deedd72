//! Invalidations: other clients' commits, applied one whole transaction at a time.

use std::mem;

use zeo_proto::{Oid, Tid};

use crate::dispatcher::{Changed, Invalidation};

use super::{Cx, Phase, State};

/// What changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Objects(Vec<Oid>),
    /// Too much to list.
    Everything,
}

impl Default for Change {
    fn default() -> Self {
        Self::Objects(Vec::new())
    }
}

impl Change {
    /// Adds objects; too many become everything.
    pub(super) fn add(&mut self, more: Vec<Oid>) {
        let Self::Objects(oids) = self else { return };
        if oids.is_empty() {
            *oids = more;
        } else if oids.len() + more.len() <= OIDS_MAX {
            oids.extend(more);
        } else {
            *self = Self::Everything;
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Objects(oids) => oids.len(),
            Self::Everything => 0,
        }
    }
}

/// A transaction's invalidation whose last page has not come.
#[derive(Debug, Default)]
pub(super) struct Pages(Option<(Tid, Change)>);

impl Pages {
    /// Adds a page. `Err` when it belongs to another transaction than the page before.
    fn add(&mut self, tid: Tid, oids: Vec<Oid>) -> Result<(), &'static str> {
        let (begun, change) = self.0.get_or_insert_with(|| (tid, Change::default()));
        if *begun != tid {
            return Err("a transaction's invalidation within another's");
        }
        change.add(oids);
        Ok(())
    }

    fn take(&mut self) -> Option<(Tid, Change)> {
        self.0.take()
    }
}

impl State {
    pub(super) fn invalidated(&mut self, cx: &mut Cx, tid: Tid, oids: Vec<Oid>, more: bool) {
        if let Err(what) = self.pages.add(tid, oids) {
            return self.confused(cx, what);
        }
        if more {
            return;
        }
        let Some((tid, change)) = self.pages.take() else { return };
        match &mut self.phase {
            Phase::Verifying(_, verification) if self.rules.queue => {
                verification.queue(tid, change);
            }
            Phase::Verifying(..) | Phase::Ready(_) => self.apply(cx, tid, change),
            Phase::Disconnected | Phase::Greeting(_) | Phase::Ended => {}
        }
    }

    /// Applies a transaction: the cache, then `last_tid`, then those who want to hear of it. What
    /// is not newer than `last_tid` has been applied.
    pub(super) fn apply(&mut self, cx: &mut Cx, tid: Tid, change: Change) {
        if tid <= self.shared.last_tid() {
            return;
        }
        if !self.rules.apply_first {
            self.shared.advance(tid);
            return cx.call_soon(move |state, _| state.apply_now(tid, change));
        }
        self.apply_now(tid, change);
    }

    fn apply_now(&mut self, tid: Tid, change: Change) {
        match &change {
            Change::Objects(oids) => oids.iter().for_each(|oid| self.apply_one(*oid, tid)),
            Change::Everything => {
                self.cache.clear();
                self.loads.all_changed(tid);
            }
        }
        self.shared.advance(tid);
        self.announce(tid, change);
    }

    fn apply_one(&mut self, oid: Oid, tid: Tid) {
        self.cache.invalidate(oid, tid);
        self.loads.changed(oid, tid);
    }

    /// Tells the application of somebody else's changes.
    pub(super) fn announce(&self, tid: Tid, change: Change) {
        if self.shared.dispatcher.is_listened_to() {
            let changed = match change {
                Change::Objects(oids) => Changed::Objects(oids.into()),
                Change::Everything => Changed::Everything,
            };
            self.shared.dispatcher.invalidated(Invalidation { tid, changed, own: false });
        }
    }

    pub(super) fn forget_pages(&mut self) {
        drop(mem::take(&mut self.pages));
    }
}

/// Objects of one transaction, or of one verification, that are remembered one by one.
pub(super) const OIDS_MAX: usize = 4 << 20;
