//! Verification: bringing the cache up to the server's last tid on every connection but the first.
//!
//! The server is asked what changed since the last tid that was applied. What it pushes meanwhile
//! is queued with the connection, and applied after the answer, so far as it is newer. Only then
//! are calls sent, and `last_tid` is what the answer reaches to.

use zeo_proto::{Call, CallId, CatchUp, Failure, Tid, Welcome};
use zeo_reactor::ConnId;

use crate::error::{CallError, LoadError, OtherDatabase};

use super::calls::Asked;
use super::invalidation::{Change, OIDS_MAX};
use super::{Cx, Phase, State};

/// A verification in progress.
#[derive(Debug, Default)]
pub(super) struct Verification {
    /// What the pages of the answer listed so far.
    changed: Change,
    /// The last tid of the welcome.
    last_tid: Tid,
    /// What was pushed meanwhile, in order.
    queued: Vec<(Tid, Change)>,
    queued_oids: usize,
}

impl Verification {
    /// Keeps what was pushed; too much becomes "everything, up to this tid".
    pub(super) fn queue(&mut self, tid: Tid, change: Change) {
        self.queued_oids += change.len() + 1;
        if self.queued_oids <= OIDS_MAX {
            return self.queued.push((tid, change));
        }
        self.queued = vec![(tid, Change::Everything)];
        self.queued_oids = 1;
    }
}

impl State {
    /// The session begins. Is it the database that we know, and how far behind are we?
    pub(super) fn welcomed(&mut self, cx: &mut Cx, conn: ConnId, welcome: &Welcome) {
        let here = welcome.identity;
        let known = self.connecting.met(here);
        if let Some(known) = known.filter(|known| known.uuid != here.uuid) {
            let other = OtherDatabase { known, found: here };
            return self.end(cx, CallError::OtherDatabase(other));
        }
        self.stop_timer(cx);
        self.watch(cx);
        self.shared.set_server(here, welcome.max_transaction);
        match known {
            None => self.shared.advance(welcome.last_tid),
            Some(known) if known.epoch != here.epoch => {
                self.history_replaced(cx, welcome.last_tid);
            }
            Some(_) if self.shared.last_tid() == welcome.last_tid => {}
            Some(_) => return self.verify(cx, conn, welcome.last_tid),
        }
        self.ready(cx, conn);
    }

    fn verify(&mut self, cx: &mut Cx, conn: ConnId, last_tid: Tid) {
        let verification = Verification { last_tid, ..Verification::default() };
        self.phase = Phase::Verifying(conn, verification);
        self.call(cx, Asked::CatchUp, Call::InvalidationsSince(self.shared.last_tid()));
    }

    pub(super) fn caught_up(&mut self, cx: &mut Cx, call: CallId, page: CatchUp) {
        let Phase::Verifying(_, verification) = &mut self.phase else { return };
        let last = self.shared.last_tid();
        match page {
            // A history that ends before ours is not ours, whatever else is said of it.
            CatchUp::Page { through, .. } | CatchUp::TooOld { through } if through < last => {
                self.begin_anew(cx, through);
            }
            CatchUp::Page { through, oids, more } => {
                verification.changed.add(oids);
                if more {
                    return self.unanswered(cx, call, Asked::CatchUp);
                }
                self.evict_changed(through);
                self.verified(cx);
            }
            CatchUp::TooOld { through } => {
                verification.changed = Change::Everything;
                self.evict_changed(through);
                self.verified(cx);
            }
            CatchUp::NotOfThisHistory { through } => self.begin_anew(cx, through),
        }
    }

    /// A busy server is asked again with the next connection. One that cannot say what changed
    /// may have changed anything.
    pub(super) fn catch_up_failed(&mut self, cx: &mut Cx, failure: &Failure) {
        let Phase::Verifying(_, verification) = &self.phase else { return };
        if *failure == Failure::Busy {
            return self.give_up(cx, "the server is too busy to say what changed");
        }
        tracing::warn!(?failure, "the server cannot say what changed: the cache is dropped");
        let through = verification.last_tid;
        self.begin_anew(cx, through);
    }

    fn begin_anew(&mut self, cx: &mut Cx, through: Tid) {
        self.history_replaced(cx, through);
        self.verified(cx);
    }

    /// Ends what is listed as changed, and goes on from `through`.
    fn evict_changed(&mut self, through: Tid) {
        let Phase::Verifying(_, verification) = &mut self.phase else { return };
        let change = std::mem::take(&mut verification.changed);
        let last = self.shared.last_tid();
        match &change {
            Change::Objects(oids) => {
                for oid in oids {
                    self.cache.invalidate_after(*oid, last);
                }
            }
            Change::Everything => self.cache.clear(),
        }
        self.shared.advance(through);
        self.announce(through, change);
    }

    /// Applies what was pushed during the verification and is newer than its answer, and sends
    /// what waits.
    fn verified(&mut self, cx: &mut Cx) {
        let Phase::Verifying(conn, verification) = &mut self.phase else { return };
        let (conn, queued) = (*conn, std::mem::take(&mut verification.queued));
        let kept = if self.rules.keep { queued } else { Vec::new() };
        for (tid, change) in kept {
            self.apply(cx, tid, change);
        }
        self.ready(cx, conn);
    }

    /// The database is the same and its past is not: a backup was restored. Nothing that is known
    /// of it counts any more, and what began in the old history cannot end in the new one.
    fn history_replaced(&mut self, cx: &mut Cx, last_tid: Tid) {
        tracing::warn!(%last_tid, "the database's history was replaced: the cache is dropped");
        self.cache.clear();
        self.shared.oids().clear();
        self.shared.replace_history(last_tid);
        self.fail_loads(cx, &LoadError::HistoryChanged);
        self.fail_browsing(cx, &CallError::HistoryChanged);
        self.commits_outlived_history(cx);
        self.announce(last_tid, Change::Everything);
    }
}
