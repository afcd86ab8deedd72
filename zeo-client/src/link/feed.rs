//! Feeding: transactions are sent as the output drains, in turn with others, up to their vote.

use bytes::Bytes;
use zeo_proto::{Begin, Call, ClientMessage, Oid, Store, Tid, TxnNumber};

use super::answer::CommitSender;
use super::calls::Asked;
use super::commit::Commits;
use super::in_flight::Progress;
use super::{Cx, State};

/// One message of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Store(Store, Bytes),
    ReadCurrent(Oid, Tid),
    Delete(Oid, Tid),
    Undo(Tid),
    Restore(Tid),
}

impl Step {
    /// The object that it writes; which ones an undo writes, only the server knows.
    pub(super) fn written(&self) -> Option<Oid> {
        match self {
            Self::Store(store, _) => Some(store.oid),
            Self::Delete(oid, _) => Some(*oid),
            Self::ReadCurrent(..) | Self::Undo(_) | Self::Restore(_) => None,
        }
    }

    /// Its message, and the data that goes with it.
    fn message(self, txn: TxnNumber) -> (ClientMessage, Option<Bytes>) {
        let message = match self {
            Self::Store(store, data) => return (ClientMessage::Store(txn, store), Some(data)),
            Self::ReadCurrent(oid, serial) => ClientMessage::ReadCurrent(txn, oid, serial),
            Self::Delete(oid, serial) => ClientMessage::Delete(txn, oid, serial),
            Self::Undo(tid) => ClientMessage::Undo(txn, tid),
            Self::Restore(tid) => ClientMessage::Restore(txn, tid),
        };
        (message, None)
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
}

impl State {
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
                self.vote(cx, number, txn);
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
        let last = self.commits.last_txn;
        let commit = self.commits.get_mut(number)?;
        if let Progress::Feeding(txn, next) = commit.progress {
            return Some((txn, next));
        }
        let txn = last.wrapping_add(1);
        commit.progress = Progress::Feeding(txn, 0);
        let snapshot = commit.request.snapshot.tid;
        let begin = Begin { id: commit.id, snapshot, meta: commit.request.meta.clone() };
        self.commits.last_txn = txn;
        self.send(cx, &ClientMessage::TpcBegin(txn, begin));
        Some((txn, 0))
    }

    /// Sends one step, and says how many bytes it takes, about.
    fn send_step(&mut self, cx: &mut Cx, txn: TxnNumber, step: Step) -> usize {
        const HEAD: usize = 64;
        let (message, data) = step.message(txn);
        let Some(data) = data else {
            self.send(cx, &message);
            return HEAD;
        };
        let bytes = HEAD + data.len();
        self.send_data(cx, &message, data);
        bytes
    }

    /// Hands the vote over, of the kind that whoever waits has asked for.
    fn vote(&mut self, cx: &mut Cx, number: u64, txn: TxnNumber) {
        let epoch = self.shared.identity().epoch;
        let Some(commit) = self.commits.get_mut(number) else { return };
        let (call, finishes) = match commit.sender() {
            Some(CommitSender::Vote(_)) => (Call::TpcVote(txn, false), false),
            Some(CommitSender::Attempt(_)) => (Call::TpcVoteResolving(txn, true), true),
            Some(CommitSender::Finish(_)) | None => (Call::TpcVote(txn, true), true),
        };
        if finishes {
            commit.hand_over(txn, epoch);
        } else {
            commit.progress = Progress::Voting(txn);
        }
        self.believe_early(number);
        self.call(cx, Asked::Vote(number), call);
    }
}

/// Transactions of which a part was sent; others wait until one of them has been sent whole. A
/// server takes 1,024, of which others are voted on.
const OPEN_MAX: usize = 64;
/// Bytes of output beyond which no more of a transaction is written until it has drained.
const OUTPUT_HIGH: usize = 1 << 20;
/// Bytes of one transaction after which it is another one's turn.
const SHARE: usize = 256 << 10;
