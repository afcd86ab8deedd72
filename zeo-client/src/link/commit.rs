//! Commits: one contiguous write each, as far as the connection takes it, and one answer.
//!
//! A transaction goes out as `tpc_begin`, its stores, and a `tpc_vote` (see [`feed`](super::feed)),
//! most often one that says "then finish". Until such a vote, or a finish, has been handed to the
//! transport nothing can have been committed, and after a lost connection the transaction is simply
//! sent again; from then on it is *in doubt* until the server has answered (see
//! [`outcome`](super::outcome)). One that was voted on and not finished ends with its connection
//! (see [`two_phase`](super::two_phase)).

use std::collections::{BTreeMap, VecDeque};

use zeo_proto::{ClientMessage, Failure, Tid, TxnNumber};

use crate::dispatcher::{Changed, Invalidation};
use crate::error::{CallError, CommitError, NotCommitted};

use super::answer::{CommitSender, Waiting};
use super::feed::Step;
use super::in_flight::{Commit, CommitRequest, Progress};
use super::{Cx, State, call_error};

/// The transactions that are being committed.
#[derive(Debug, Default)]
pub(super) struct Commits {
    table: BTreeMap<u64, Commit>,
    last: u64,
    pub(super) last_txn: TxnNumber,
    /// Those that are being sent, each in its turn.
    pub(super) feeding: VecDeque<u64>,
}

impl Commits {
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Commit> {
        self.table.get_mut(&number)
    }

    pub(super) fn progress(&self, number: u64) -> Option<Progress> {
        self.table.get(&number).map(|commit| commit.progress)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Commit> {
        self.feeding.retain(|other| *other != number);
        self.table.remove(&number)
    }

    pub(super) fn in_doubt(&self) -> Vec<u64> {
        let in_doubt = |commit: &Commit| commit.progress == Progress::InDoubt;
        self.table.iter().filter(|(_, commit)| in_doubt(commit)).map(|(n, _)| *n).collect()
    }

    /// Whether there is no room for another one.
    fn is_full(&self, sender: &CommitSender) -> bool {
        let two_phase = || self.table.values().filter(|commit| commit.is_two_phase()).count();
        match sender {
            CommitSender::Finish(_) => self.table.len() >= COMMITS_MAX,
            CommitSender::Vote(_) | CommitSender::Attempt(_) => {
                self.table.len() >= COMMITS_MAX || two_phase() >= TWO_PHASE_MAX
            }
        }
    }
}

#[cfg(feature = "sim")]
impl Commits {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

impl State {
    pub(crate) fn commit(&mut self, cx: &mut Cx, request: CommitRequest, sender: CommitSender) {
        if let Some(refusal) = self.commit_refusal(&request, &sender) {
            return sender.fail(refusal);
        }
        self.commits.last += 1;
        let number = self.commits.last;
        let waiting = self.waiting(cx, number, sender);
        let commit = Commit::new(cx, request, waiting);
        self.commits.table.insert(number, commit);
        self.start_feeding(cx, number);
    }

    /// Someone who waits for a step of a transaction, no longer than a call may take.
    pub(super) fn waiting(&self, cx: &mut Cx, number: u64, sender: CommitSender) -> Waiting {
        let late = move |state: &mut Self, cx: &mut Cx| state.commit_is_late(cx, number);
        let timer = self.call_timeout.map(|limit| cx.call_later(limit, late));
        Waiting { sender, timer, doubt: None }
    }

    /// Why a commit must fail at once, if it must.
    fn commit_refusal(
        &self,
        request: &CommitRequest,
        sender: &CommitSender,
    ) -> Option<CommitError> {
        if let Some(refusal) = self.refusal() {
            return Some(refusal.into());
        }
        if request.snapshot.generation != self.shared.generation() {
            return Some(NotCommitted::HistoryChanged.into());
        }
        self.commits.is_full(sender).then(|| NotCommitted::Busy.into())
    }

    /// The transaction is committed: what it wrote into the cache, then `last_tid`, then whoever
    /// waits.
    pub(super) fn finished(&mut self, cx: &mut Cx, number: u64, tid: Tid) {
        if matches!(self.commits.progress(number), Some(Progress::Voting(_))) {
            return self.confused(cx, "a finish to a vote");
        }
        let Some(mut commit) = self.commits.remove(number) else { return };
        for step in &commit.request.steps {
            self.wrote(step, tid);
        }
        self.shared.advance(tid);
        self.announce_own(tid, &commit);
        commit.succeed(cx, tid);
    }

    /// With a rule left out, the cache believes that what was voted on is committed.
    pub(super) fn believe_early(&mut self, number: u64) {
        let early = self.commits.get_mut(number).filter(|_| !self.rules.cache_finished);
        let steps = early.map(|commit| commit.request.steps.clone()).unwrap_or_default();
        for step in &steps {
            self.wrote(step, self.shared.last_tid().next());
        }
    }

    fn wrote(&mut self, step: &Step, tid: Tid) {
        let Some(oid) = step.written() else { return };
        self.loads.changed(oid, tid);
        // A later commit may have changed it, should its invalidation have come first.
        if let Step::Store(_, data) = step
            && tid > self.shared.last_tid()
        {
            self.cache.supersede(oid, tid, Some(data.clone()));
        } else {
            self.cache.invalidate(oid, tid);
        }
    }

    /// Of one that undoes, the server has announced all that it changed.
    fn announce_own(&self, tid: Tid, commit: &Commit) {
        if !commit.undoes() && self.shared.dispatcher.is_listened_to() {
            let changed = Changed::Objects(commit.oids().collect());
            self.shared.dispatcher.invalidated(Invalidation { tid, changed, own: true });
        }
    }

    /// The transaction was refused, or its outcome is not known.
    pub(super) fn vote_failed(&mut self, cx: &mut Cx, number: u64, failure: &Failure) {
        if let Failure::Conflict(conflict) = failure {
            self.cache.evict_older(conflict.oid, conflict.committed);
        }
        let Some(commit) = self.commits.get_mut(number) else { return };
        // Of one that was sent again, it may be the first that was committed.
        let doubt = commit.doubt().filter(|_| commit.is_repeated());
        let refused = refused(failure, commit.doubt().is_some());
        match doubt.map(CommitError::Unknown).or(refused) {
            Some(error) => self.commit_ended(cx, number, error),
            None => self.unresolved(cx, number),
        }
    }

    pub(super) fn commit_ended(&mut self, cx: &mut Cx, number: u64, error: CommitError) {
        if let Some(mut commit) = self.commits.remove(number) {
            commit.fail(cx, error);
        }
    }

    /// The time limit has ended. What may be committed stays in its table: when it turns out to
    /// be, the cache must hear of it.
    fn commit_is_late(&mut self, cx: &mut Cx, number: u64) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        let error = commit.given_up(NotCommitted::Timeout.into());
        if matches!(commit.progress, Progress::Finishing(_)) {
            commit.fail(cx, error);
        } else {
            self.withdraw(cx, number, error);
        }
    }

    /// Ends a transaction that nothing asks the present connection to commit.
    pub(super) fn withdraw(&mut self, cx: &mut Cx, number: u64, error: CommitError) {
        let Some(mut commit) = self.commits.remove(number) else { return };
        if let Some(txn) = commit.open_txn() {
            self.send(cx, &ClientMessage::TpcAbort(txn));
        }
        commit.fail(cx, error);
    }

    /// The connection is lost: what may have been committed is in doubt, the rest is sent again.
    pub(super) fn commits_lost(&mut self) {
        self.commits.feeding.clear();
        // R18: what was voted on ends with its connection. And of what nobody waits for any more,
        // verification brings what it changed.
        self.commits.table.retain(|_, commit| commit.waiting.is_some());
        self.commits.table.values_mut().for_each(Commit::lost);
    }

    /// A connection was verified: asks about what is in doubt, and sends the rest.
    pub(super) fn resend_commits(&mut self, cx: &mut Cx) {
        for number in self.commits.in_doubt() {
            if self.rules.ask {
                self.resolve(cx, number);
            } else {
                self.was_not_committed(cx, number);
            }
        }
        self.end_commits(cx, &NotCommitted::Lost.into(), |commit| {
            commit.progress == Progress::Waiting && commit.is_hopeless()
        });
        let waiting = |commit: &Commit| commit.progress == Progress::Waiting;
        let numbers = self.commits.table.iter().filter(|(_, commit)| waiting(commit));
        self.commits.feeding = numbers.map(|(number, _)| *number).collect();
        self.feed(cx);
    }

    /// The database has another history: what was not sent yet began in the old one.
    pub(super) fn commits_outlived_history(&mut self, cx: &mut Cx) {
        let unsent = |commit: &Commit| commit.progress == Progress::Waiting;
        self.end_commits(cx, &NotCommitted::HistoryChanged.into(), unsent);
    }

    pub(super) fn fail_commits(&mut self, cx: &mut Cx, why: &CallError) {
        self.end_commits(cx, &why.clone().into(), |_| true);
    }

    fn end_commits(&mut self, cx: &mut Cx, why: &CommitError, which: impl Fn(&Commit) -> bool) {
        let ended: Vec<_> = self.commits.table.extract_if(.., |_, c| which(c)).collect();
        for (number, mut commit) in ended {
            self.commits.feeding.retain(|other| *other != number);
            let error = commit.given_up(why.clone());
            commit.fail(cx, error);
        }
    }
}

/// What a failure of a step says; `None` when it says that nobody knows, of a step that finishes.
fn refused(failure: &Failure, finishes: bool) -> Option<CommitError> {
    let why = match failure {
        Failure::Conflict(conflict) => return Some((*conflict).into()),
        Failure::OutcomeUnknown(_) if finishes => return None,
        Failure::Busy => NotCommitted::Busy,
        Failure::ReadOnly => NotCommitted::ReadOnly,
        Failure::DiskFull => NotCommitted::DiskFull,
        Failure::TransactionTooLarge(max) => NotCommitted::TooLarge(*max),
        Failure::UndoRefused(oids) => NotCommitted::UndoRefused(oids.clone()),
        Failure::NoSuchTid(tid) => NotCommitted::NoSuchTransaction(*tid),
        Failure::Locked(oid, by) => NotCommitted::Locked { oid: *oid, by: by.clone() },
        Failure::QuotaExceeded(bytes) => NotCommitted::QuotaExceeded(*bytes),
        Failure::TidOutOfOrder(last) => NotCommitted::OutOfOrder(*last),
        Failure::Fenced
        | Failure::NoSuchTransaction
        | Failure::StorageFailed(_)
        | Failure::OutcomeUnknown(_)
        | Failure::Damaged(_)
        | Failure::Unsupported
        | Failure::Stopping => NotCommitted::Refused(call_error(failure).to_string()),
    };
    Some(why.into())
}

/// Transactions that may wait for their commit; more are [`NotCommitted::Busy`].
const COMMITS_MAX: usize = 4_096;
/// Transactions that a server keeps open between their votes, or is asked to; more are
/// [`NotCommitted::Busy`]. A session of it may have 1,024 open.
const TWO_PHASE_MAX: usize = 512;
