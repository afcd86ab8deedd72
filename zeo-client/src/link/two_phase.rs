//! Transactions between a vote and the next step, which their client decides on.
//!
//! The server keeps their object locks, on this connection alone. When it is lost the transaction
//! is gone from the table, so whatever step comes next finds nothing, and says so. Numbers are
//! never used twice.

use bytes::Bytes;
use zeo_proto::{Call, ConflictFound, Loaded, Oid, Store, Tid, TxnNumber};
use zeo_reactor::DeferredSender;

use crate::error::{CommitError, NotCommitted};
use crate::revision::Revision;
use crate::shared::Counters;

use super::answer::{Attempt, Clash, CommitSender};
use super::calls::Asked;
use super::feed::Step;
use super::in_flight::{Commit, Progress};
use super::load_many::unpinned;
use super::{Cx, State};

/// An object whose conflict was resolved: what is committed, and what is to be stored instead.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) oid: Oid,
    pub(crate) serial: Tid,
    pub(crate) data: Bytes,
}

impl State {
    /// The object locks are held.
    pub(super) fn voted(&mut self, cx: &mut Cx, number: u64) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        let (Progress::Voting(txn), Some(waiting)) = (commit.progress, commit.waiting.take())
        else {
            return self.confused(cx, "a vote's answer to something else");
        };
        commit.undecided(txn);
        if let CommitSender::Vote(sender) = waiting.take(cx) {
            sender.send(Ok(number));
        }
    }

    /// Nothing is committed, and the object locks are held.
    pub(super) fn conflicts(
        &mut self,
        cx: &mut Cx,
        number: u64,
        found: Vec<ConflictFound>,
        tail: Bytes,
    ) {
        let Some(commit) = self.commits.get_mut(number) else { return };
        let Progress::Finishing(txn) = commit.progress else {
            return self.confused(cx, "conflicts to something else");
        };
        commit.undecided(txn);
        let clashes = clashes(commit, found, tail);
        for Clash { conflict, .. } in &clashes {
            self.cache.evict_older(conflict.oid, conflict.committed);
        }
        let waiting = self.commits.get_mut(number).and_then(|commit| commit.waiting.take());
        match waiting.map(|waiting| waiting.take(cx)) {
            Some(CommitSender::Attempt(sender)) => {
                sender.send(Ok(Attempt::Conflicts(number, clashes)));
            }
            Some(CommitSender::Finish(_) | CommitSender::Vote(_)) => {
                self.confused(cx, "conflicts to who cannot resolve any");
            }
            // They were told that it is not known, before this was.
            None => self.withdraw(cx, number, NotCommitted::Timeout.into()),
        }
    }

    /// Makes permanent what was voted on.
    pub(crate) fn finish(
        &mut self,
        cx: &mut Cx,
        number: u64,
        sender: DeferredSender<Result<Tid, CommitError>>,
    ) {
        let Some(txn) = self.undecided(number) else {
            return sender.send(Err(NotCommitted::Lost.into()));
        };
        let waiting = self.waiting(cx, number, CommitSender::Finish(sender));
        let epoch = self.shared.identity().epoch;
        if let Some(commit) = self.commits.get_mut(number) {
            commit.hand_over(txn, epoch);
            commit.waiting = Some(waiting);
        }
        self.call(cx, Asked::Vote(number), Call::TpcFinish(txn));
    }

    /// Stores what conflicts were resolved to, and votes again.
    pub(crate) fn vote_again(
        &mut self,
        cx: &mut Cx,
        number: u64,
        resolved: Vec<Resolved>,
        sender: DeferredSender<Result<Attempt, CommitError>>,
    ) {
        let Some(txn) = self.undecided(number) else {
            return sender.send(Err(NotCommitted::Lost.into()));
        };
        let waiting = self.waiting(cx, number, CommitSender::Attempt(sender));
        let Some(commit) = self.commits.get_mut(number) else { return };
        commit.waiting = Some(waiting);
        let count = resolved.len();
        commit.replace(resolved);
        let first = commit.request.steps.len() - count;
        commit.progress = Progress::Feeding(txn, first);
        Counters::add(&self.shared.counters.conflicts_resolved, count);
        self.start_feeding(cx, number);
    }

    /// Says whether a vote is still good: its connection was not lost.
    pub(crate) fn is_voted(&self, number: u64, sender: DeferredSender<Result<(), CommitError>>) {
        let lost = || NotCommitted::Lost.into();
        sender.send(self.undecided(number).map(drop).ok_or_else(lost));
    }

    /// Ends what was voted on, and whose client has let go of it.
    pub(crate) fn end_abandoned(&mut self, cx: &mut Cx) {
        for number in self.shared.take_abandoned() {
            self.withdraw(cx, number, NotCommitted::Lost.into());
        }
    }

    /// The number on the present connection of a transaction that waits for its next step.
    fn undecided(&self, number: u64) -> Option<TxnNumber> {
        match self.commits.progress(number) {
            Some(Progress::Undecided(txn)) => Some(txn),
            _ => None,
        }
    }
}

impl Commit {
    /// Puts what was resolved behind all other steps, instead of what was stored before.
    fn replace(&mut self, mut resolved: Vec<Resolved>) {
        resolved.sort_by_key(|it| it.oid);
        let is_resolved = |oid| resolved.binary_search_by_key(&oid, |it| it.oid).is_ok();
        self.request.steps.retain(|step| !step.written().is_some_and(is_resolved));
        self.request.steps.extend(resolved.into_iter().map(|Resolved { oid, serial, data }| {
            let store = Store { oid, serial: Some(serial), refs: None };
            Step::Store(store, data)
        }));
    }

    /// What this transaction stores of an object.
    fn stored(&self, oid: Oid) -> Option<Bytes> {
        let data = |step: &Step| match step {
            Step::Store(store, data) => (store.oid == oid).then(|| data.clone()),
            Step::ReadCurrent(..) | Step::Delete(..) | Step::Undo(_) | Step::Restore(_) => None,
        };
        self.request.steps.iter().find_map(data)
    }
}

/// The conflicts, each with the data of both sides.
fn clashes(commit: &Commit, found: Vec<ConflictFound>, mut tail: Bytes) -> Vec<Clash> {
    let page = tail.len();
    let clash = |ConflictFound { conflict, found }: ConflictFound| {
        let length = found.map_or(0, |found| found.data_len()).min(tail.len());
        let data = unpinned(tail.split_to(length), page);
        let is_gone = matches!(found, Some(Loaded::Absent | Loaded::Deleted(_)));
        let mine = commit.stored(conflict.oid).filter(|_| !is_gone);
        let theirs = match found {
            Some(Loaded::Revision(validity, _)) => {
                Some(Revision { data, tid: validity.serial, end: validity.end })
            }
            Some(Loaded::Absent | Loaded::Deleted(_)) | None => None,
        };
        Clash { conflict, mine, theirs }
    };
    found.into_iter().map(clash).collect()
}
