//! Commits: one contiguous write each, as far as the connection takes it, and one answer.
//!
//! A transaction goes out as `tpc_begin`, its stores, and a `tpc_vote` that says "then finish".
//! What is larger than the output may hold is fed as the output drains, in turn with others. Until
//! its vote has been handed to the transport nothing can have been committed, and after a lost
//! connection the transaction is simply sent again; from then on it is *in doubt* until the server
//! has answered (see [`outcome`](super::outcome)).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use zeo_proto::{Begin, Call, ClientMessage, Failure, Oid, Store, Tid, TxnId, TxnMeta, TxnNumber};
use zeo_reactor::DeferredSender;

use crate::dispatcher::{Changed, Invalidation};
use crate::error::{CallError, CommitError, InDoubt, NotCommitted};
use crate::shared::Snapshot;

use super::calls::Asked;
use super::{Cx, State, Waiter, call_error};

/// A transaction as its client wants it committed.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) snapshot: Snapshot,
    pub(crate) meta: TxnMeta,
    pub(crate) steps: Vec<Step>,
}

/// One message of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Store(Store, Bytes),
    ReadCurrent(Oid, Tid),
    Delete(Oid, Tid),
}

/// Where a commit's answer goes.
pub(crate) type CommitSender = DeferredSender<Result<Tid, CommitError>>;

/// The transactions that are being committed.
#[derive(Debug, Default)]
pub(super) struct Commits {
    table: BTreeMap<u64, Commit>,
    last: u64,
    last_txn: TxnNumber,
    /// Those that are being sent, each in its turn.
    feeding: VecDeque<u64>,
}

/// One transaction on its way.
#[derive(Debug)]
pub(super) struct Commit {
    request: CommitRequest,
    pub(super) id: TxnId,
    pub(super) progress: Progress,
    /// How many connections were lost while it was on them.
    losses: u32,
    /// `None` once whoever waits has been told.
    waiter: Option<Waiter<Result<Tid, CommitError>>>,
}

/// How far a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was sent on the present connection.
    Waiting,
    /// So many of its steps were sent, and no vote.
    Feeding(TxnNumber, usize),
    /// The vote was handed over, in this epoch; its answer has not come.
    Voted(u64),
    /// The vote was handed over to a connection that was lost, or that gave no clear answer.
    InDoubt(u64),
}

impl Commit {
    /// What is needed to find out, if it may have been committed.
    pub(super) fn doubt(&self) -> Option<InDoubt> {
        match self.progress {
            Progress::Voted(epoch) | Progress::InDoubt(epoch) => {
                Some(InDoubt::new(self.id, self.request.snapshot.tid, epoch))
            }
            Progress::Waiting | Progress::Feeding(..) => None,
        }
    }

    /// The error to end with when no answer comes, and `why` one is not waited for.
    fn given_up(&self, why: CommitError) -> CommitError {
        self.doubt().map_or(why, CommitError::Unknown)
    }

    pub(super) fn answer(&mut self, cx: &mut Cx, result: Result<Tid, CommitError>) {
        if let Some(waiter) = self.waiter.take() {
            waiter.send(cx, result);
        }
    }

    /// The history that it began in.
    pub(super) fn generation(&self) -> u64 {
        self.request.snapshot.generation
    }

    /// Whether it has cost so many connections that it may well be why they were lost.
    pub(super) fn is_hopeless(&self) -> bool {
        self.losses >= LOSSES_MAX
    }

    /// Its connection is lost: once voted on it is in doubt, and before that it is sent again.
    fn lost(&mut self) {
        let was_on_it = matches!(self.progress, Progress::Feeding(..) | Progress::Voted(_));
        self.losses += u32::from(was_on_it);
        self.progress = match self.progress {
            Progress::Voted(epoch) | Progress::InDoubt(epoch) => Progress::InDoubt(epoch),
            Progress::Waiting | Progress::Feeding(..) => Progress::Waiting,
        };
    }

    pub(super) fn oids(&self) -> impl Iterator<Item = Oid> {
        self.request.steps.iter().filter_map(Step::written)
    }
}

/// However a reactor ends, nobody is told that nothing was sent when something was.
impl Drop for Commit {
    fn drop(&mut self) {
        let doubt = self.doubt();
        if let Some((waiter, doubt)) = self.waiter.take().zip(doubt) {
            waiter.sender.send(Err(CommitError::Unknown(doubt)));
        }
    }
}

impl Step {
    fn written(&self) -> Option<Oid> {
        match self {
            Self::Store(store, _) => Some(store.oid),
            Self::Delete(oid, _) => Some(*oid),
            Self::ReadCurrent(..) => None,
        }
    }
}

impl Commits {
    pub(super) fn is_feeding(&self) -> bool {
        !self.feeding.is_empty()
    }

    /// It is the turn of others: of those that are open, or not open yet while there is room.
    fn put_back(&mut self, number: u64) {
        let behind = self.feeding.len().min(OPEN_MAX - 1);
        self.feeding.insert(behind, number);
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Commit> {
        self.table.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Commit> {
        self.feeding.retain(|other| *other != number);
        self.table.remove(&number)
    }

    pub(super) fn in_doubt(&self) -> Vec<u64> {
        let in_doubt = |commit: &Commit| matches!(commit.progress, Progress::InDoubt(_));
        self.table.iter().filter(|(_, commit)| in_doubt(commit)).map(|(n, _)| *n).collect()
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
        if let Some(refusal) = self.commit_refusal(&request) {
            return sender.send(Err(refusal));
        }
        self.commits.last += 1;
        let number = self.commits.last;
        let late = move |state: &mut Self, cx: &mut Cx| state.commit_is_late(cx, number);
        let waiter = Some(Waiter::new(cx, sender, self.call_timeout, late));
        let (id, progress) = (txn_id(cx), Progress::Waiting);
        let commit = Commit { request, id, progress, losses: 0, waiter };
        self.commits.table.insert(number, commit);
        self.start_feeding(cx, number);
    }

    /// Why a commit must fail at once, if it must.
    fn commit_refusal(&self, request: &CommitRequest) -> Option<CommitError> {
        if let Some(refusal) = self.refusal() {
            return Some(refusal.into());
        }
        if request.snapshot.generation != self.shared.generation() {
            return Some(NotCommitted::HistoryChanged.into());
        }
        let full = self.commits.table.len() >= COMMITS_MAX;
        full.then(|| NotCommitted::Busy.into())
    }

    /// Sends a transaction, or has it sent once there is a connection.
    pub(super) fn start_feeding(&mut self, cx: &mut Cx, number: u64) {
        if self.ready_conn().is_some() {
            self.commits.feeding.push_back(number);
            self.feed(cx);
        }
    }

    /// Sends what the output takes of the transactions that are being sent.
    pub(super) fn feed(&mut self, cx: &mut Cx) {
        let Some(conn) = self.ready_conn() else { return };
        while cx.transport(conn).is_some_and(|transport| transport.output_len() < OUTPUT_HIGH) {
            let Some(number) = self.commits.feeding.pop_front() else { return };
            if !self.feed_one(cx, number) {
                self.commits.put_back(number);
            }
        }
    }

    /// Sends some steps of a transaction, and its vote after the last; says whether it was.
    fn feed_one(&mut self, cx: &mut Cx, number: u64) -> bool {
        let Some((txn, mut next)) = self.begin(cx, number) else { return true };
        let mut written = 0;
        while written < SHARE {
            let Some(commit) = self.commits.get_mut(number) else { return true };
            let Some(step) = commit.request.steps.get(next).cloned() else {
                commit.progress = Progress::Voted(self.shared.identity().epoch);
                self.voted(number);
                self.call(cx, Asked::Vote(number), Call::TpcVote(txn, true));
                return true;
            };
            next += 1;
            commit.progress = Progress::Feeding(txn, next);
            written += self.send_step(cx, txn, step);
        }
        false
    }

    /// The transaction's number on this connection, and its next step.
    fn begin(&mut self, cx: &mut Cx, number: u64) -> Option<(TxnNumber, usize)> {
        let commit = self.commits.table.get_mut(&number)?;
        if let Progress::Feeding(txn, next) = commit.progress {
            return Some((txn, next));
        }
        self.commits.last_txn = self.commits.last_txn.wrapping_add(1);
        let txn = self.commits.last_txn;
        commit.progress = Progress::Feeding(txn, 0);
        let snapshot = commit.request.snapshot.tid;
        let begin = Begin { id: commit.id, snapshot, meta: commit.request.meta.clone() };
        self.send(cx, &ClientMessage::TpcBegin(txn, begin));
        Some((txn, 0))
    }

    /// Sends one step, and says how many bytes it takes, about.
    fn send_step(&mut self, cx: &mut Cx, txn: TxnNumber, step: Step) -> usize {
        const HEAD: usize = 64;
        match step {
            Step::Store(store, data) => {
                let bytes = HEAD + data.len();
                self.send_data(cx, &ClientMessage::Store(txn, store), data);
                return bytes;
            }
            Step::ReadCurrent(oid, serial) => {
                self.send(cx, &ClientMessage::ReadCurrent(txn, oid, serial));
            }
            Step::Delete(oid, serial) => {
                self.send(cx, &ClientMessage::Delete(txn, oid, serial));
            }
        }
        HEAD
    }

    /// The transaction is committed: what it wrote into the cache, then `last_tid`, then whoever
    /// waits.
    pub(super) fn finished(&mut self, cx: &mut Cx, number: u64, tid: Tid) {
        let Some(mut commit) = self.commits.remove(number) else { return };
        for step in &commit.request.steps {
            self.wrote(step, tid);
        }
        self.shared.advance(tid);
        self.announce_own(tid, &commit);
        commit.answer(cx, Ok(tid));
    }

    /// With a rule left out, the cache believes that what was voted on is committed.
    fn voted(&mut self, number: u64) {
        let early = self.commits.get_mut(number).filter(|_| !self.rules.cache_finished);
        let steps = early.map(|commit| commit.request.steps.clone()).unwrap_or_default();
        for step in &steps {
            self.wrote(step, self.shared.last_tid().next());
        }
    }

    fn wrote(&mut self, step: &Step, tid: Tid) {
        let Some(oid) = step.written() else { return };
        self.loads.changed(oid, tid);
        match step {
            // A later commit may have changed it, should its invalidation have come first.
            Step::Store(_, data) if tid > self.shared.last_tid() => {
                self.cache.supersede(oid, tid, Some(data.clone()));
            }
            Step::Store(..) | Step::Delete(..) | Step::ReadCurrent(..) => {
                self.cache.invalidate(oid, tid);
            }
        }
    }

    fn announce_own(&self, tid: Tid, commit: &Commit) {
        if self.shared.dispatcher.is_listened_to() {
            let changed = Changed::Objects(commit.oids().collect());
            self.shared.dispatcher.invalidated(Invalidation { tid, changed, own: true });
        }
    }

    /// The transaction was refused, or its outcome is not known.
    pub(super) fn vote_failed(&mut self, cx: &mut Cx, number: u64, failure: &Failure) {
        if let Failure::Conflict(conflict) = failure {
            self.cache.evict_older(conflict.oid, conflict.committed);
        }
        match refused(failure) {
            Some(error) => self.commit_ended(cx, number, error),
            None => self.unresolved(cx, number),
        }
    }

    pub(super) fn commit_ended(&mut self, cx: &mut Cx, number: u64, error: CommitError) {
        if let Some(mut commit) = self.commits.remove(number) {
            commit.answer(cx, Err(error));
        }
    }

    /// The time limit has ended. What was voted on stays in its table: when it turns out to be
    /// committed, the cache must hear of it.
    fn commit_is_late(&mut self, cx: &mut Cx, number: u64) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        let error = commit.given_up(NotCommitted::Timeout.into());
        match commit.progress {
            Progress::Voted(_) => commit.answer(cx, Err(error)),
            Progress::Waiting | Progress::Feeding(..) | Progress::InDoubt(_) => {
                self.withdraw(cx, number, error);
            }
        }
    }

    /// Ends a commit whose vote is not on the present connection.
    fn withdraw(&mut self, cx: &mut Cx, number: u64, error: CommitError) {
        let Some(mut commit) = self.commits.remove(number) else { return };
        if let Progress::Feeding(txn, _) = commit.progress {
            self.send(cx, &ClientMessage::TpcAbort(txn));
        }
        commit.answer(cx, Err(error));
    }

    /// The connection is lost: what was voted on is in doubt, the rest is sent again.
    pub(super) fn commits_lost(&mut self) {
        self.commits.feeding.clear();
        // Nobody waits for these any more, and verification brings what they changed.
        self.commits.table.retain(|_, commit| commit.waiter.is_some());
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
        self.end_commits(cx, &NotCommitted::HistoryChanged.into(), |c| c.doubt().is_none());
    }

    pub(super) fn fail_commits(&mut self, cx: &mut Cx, why: &CallError) {
        self.end_commits(cx, &why.clone().into(), |_| true);
    }

    fn end_commits(&mut self, cx: &mut Cx, why: &CommitError, which: impl Fn(&Commit) -> bool) {
        let ended: Vec<_> = self.commits.table.extract_if(.., |_, c| which(c)).collect();
        for (number, mut commit) in ended {
            self.commits.feeding.retain(|other| *other != number);
            let error = commit.given_up(why.clone());
            commit.answer(cx, Err(error));
        }
    }
}

/// What a failure of the vote says; `None` when it says that nobody knows.
fn refused(failure: &Failure) -> Option<CommitError> {
    let why = match failure {
        Failure::Conflict(conflict) => return Some((*conflict).into()),
        Failure::OutcomeUnknown(_) => return None,
        Failure::Busy => NotCommitted::Busy,
        Failure::ReadOnly => NotCommitted::ReadOnly,
        Failure::DiskFull => NotCommitted::DiskFull,
        Failure::TransactionTooLarge(max) => NotCommitted::TooLarge(*max),
        Failure::Fenced
        | Failure::NoSuchTransaction
        | Failure::StorageFailed(_)
        | Failure::Damaged(_)
        | Failure::Unsupported
        | Failure::Stopping
        | Failure::UndoRefused(_)
        | Failure::NoSuchTid(_)
        | Failure::Locked(..)
        | Failure::QuotaExceeded(_)
        | Failure::TidOutOfOrder(_) => NotCommitted::Refused(call_error(failure).to_string()),
    };
    Some(why.into())
}

/// A random name. The simulation's come from its seed.
pub(super) fn txn_id(cx: &mut Cx) -> TxnId {
    let number = u128::from(cx.random()) << 64 | u128::from(cx.random());
    TxnId::from_bytes(number.to_be_bytes())
}

/// Transactions that may wait for their commit; more are [`NotCommitted::Busy`].
const COMMITS_MAX: usize = 4_096;
/// Connections that a transaction may cost; then it is [`NotCommitted::Lost`].
const LOSSES_MAX: u32 = 5;
/// Transactions of which a part was sent; others wait until one of them has been sent whole. A
/// server takes 1,024.
const OPEN_MAX: usize = 64;
/// Bytes of output beyond which no more of a transaction is written until it has drained.
const OUTPUT_HIGH: usize = 1 << 20;
/// Bytes of one transaction after which it is another one's turn.
const SHARE: usize = 256 << 10;
