//! Commits in doubt: those that may have been carried out, and whose answer was lost.
//!
//! After the next connection has been verified, the server is asked. It answers *committed*; or it
//! answers *not committed*, and from then on refuses that transaction, should its bytes still
//! arrive: then the same stores are sent again under another name. So a commit happens once,
//! whatever becomes of its connection.

use std::time::Duration;

use zeo_proto::{Call, Failure, Outcome, Tid, TxnId};

use crate::error::NotCommitted;

use super::calls::Asked;
use super::in_flight::{Commit, Progress, txn_id};
use super::{Cx, State};

impl State {
    /// The server answered a vote, and does not know its outcome itself. It may after it has
    /// opened its storage again, so it is asked after the next connection; but not for ever.
    pub(super) fn unresolved(&mut self, cx: &mut Cx, number: u64) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        commit.progress = Progress::InDoubt;
        let id = commit.id;
        let Some(waiting) = &mut commit.waiting else { return };
        let limit = self.connecting.wait_timeout();
        let timer = cx.call_later(limit, move |state, cx| state.doubt_remains(cx, number, id));
        if let Some(former) = waiting.doubt.replace(timer) {
            cx.cancel(former);
        }
    }

    /// Asks what became of a commit.
    pub(super) fn resolve(&mut self, cx: &mut Cx, number: u64) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        let (id, doubt) = (commit.id, commit.doubt());
        if let Some(doubt) = doubt.filter(|_| self.ready_conn().is_some()) {
            self.call(cx, Asked::Resolve(number, id), Call::Outcome(doubt.query()));
        }
    }

    pub(super) fn resolved(&mut self, cx: &mut Cx, number: u64, id: TxnId, outcome: Outcome) {
        if self.in_doubt(number, id).is_none() {
            return;
        }
        match outcome {
            Outcome::Committed(tid) => self.was_committed(cx, number, tid),
            Outcome::NotCommitted => self.was_not_committed(cx, number),
            Outcome::TooOldToKnow => self.doubt_remains(cx, number, id),
        }
    }

    /// The commit had happened. Verification, or an invalidation since, has told the cache as if
    /// somebody else had made it.
    fn was_committed(&mut self, cx: &mut Cx, number: u64, tid: Tid) {
        let Some(mut commit) = self.commits.remove(number) else { return };
        for oid in commit.oids() {
            self.cache.invalidate(oid, tid);
            self.loads.changed(oid, tid);
        }
        self.shared.advance(tid);
        commit.succeed(cx, tid);
    }

    /// It had not, and never will under that name.
    pub(super) fn was_not_committed(&mut self, cx: &mut Cx, number: u64) {
        let generation = self.shared.generation();
        let Some(commit) = self.commits.get_mut(number) else { return };
        commit.begin_again(txn_id(cx));
        if commit.generation() != generation {
            self.commit_ended(cx, number, NotCommitted::HistoryChanged.into());
        } else if commit.is_hopeless() {
            self.commit_ended(cx, number, NotCommitted::Lost.into());
        } else {
            self.start_feeding(cx, number);
        }
    }

    pub(super) fn resolve_failed(
        &mut self,
        cx: &mut Cx,
        number: u64,
        id: TxnId,
        failure: &Failure,
    ) {
        if *failure == Failure::Busy {
            cx.call_later(BUSY_PAUSE, move |state, cx| state.resolve_again(cx, number, id));
        } else {
            self.doubt_remains(cx, number, id);
        }
    }

    fn resolve_again(&mut self, cx: &mut Cx, number: u64, id: TxnId) {
        if self.in_doubt(number, id).is_some() {
            self.resolve(cx, number);
        }
    }

    /// Nobody can say, or nobody has said in time.
    fn doubt_remains(&mut self, cx: &mut Cx, number: u64, id: TxnId) {
        let doubt = self.in_doubt(number, id).and_then(|commit| commit.doubt());
        if let Some(doubt) = doubt {
            self.commit_ended(cx, number, doubt.into());
        }
    }

    /// The commit, if it is still in doubt under that name.
    fn in_doubt(&mut self, number: u64, id: TxnId) -> Option<&mut Commit> {
        let in_doubt =
            |commit: &&mut Commit| commit.progress == Progress::InDoubt && commit.id == id;
        self.commits.get_mut(number).filter(in_doubt)
    }
}

/// How long to wait before a busy server is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
