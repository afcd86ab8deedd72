//! Holding a vote that has its locks against what is committed: in the same turn where the server
//! knows it, else in the commit stage.
//!
//! With its locks held, no commit of its objects can come any more. So where none is under way
//! either, what is published of them is what is current. That needs no pass through the commit
//! stage, in which a vote would wait for others' syncs.

use zeo_proto::{Oid, Tid};
use zeo_reactor::Context;

use super::{Ballot, State};
use crate::commit_queue::Waiter;
use crate::database::{Database, DatabaseId};
use crate::locks::LockId;
use crate::server::Server;
use crate::storage::{Applied, Check, Operation, Refused};

impl Server {
    /// Compares a transaction that has its locks with what is committed, and with every commit that
    /// came before it.
    pub(super) fn check(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        ballot: Ballot,
    ) {
        let mut check = ballot.transaction.check();
        if self.is_surely_current(id, &check) {
            return self.voted(cx, id, lock, ballot);
        }
        check.bytes = check.bytes.saturating_add(self.databases.at(id).votes.promised);
        self.set_state(id, lock, State::Checking(ballot));
        self.enqueue(cx, id, Operation::Check(check), Waiter::Check(lock));
    }

    pub(crate) fn checked(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        result: Result<Applied, Refused>,
    ) {
        // Without a ballot, its client has gone or aborted it meanwhile.
        let Some(ballot) = self.take_ballot(id, lock) else { return };
        match result {
            Ok(Applied::Checked(conflicts)) => match conflicts.first() {
                None => self.voted(cx, id, lock, ballot),
                Some(_) if ballot.mode.resolving && ballot.transaction.rounds() < MOST_ROUNDS => {
                    self.load_conflicts(cx, id, (lock, ballot), conflicts);
                }
                Some(&conflict) => {
                    self.end_vote(cx, id, (lock, ballot), Refused::Conflict(conflict))
                }
            },
            Ok(other) => unreachable!("a check was answered with {other:?}"),
            Err(refused) => self.end_vote(cx, id, (lock, ballot), refused),
        }
    }

    /// Whether it is known without the storage that a transaction has no conflicts, and nothing
    /// else is in its way.
    fn is_surely_current(&self, id: DatabaseId, check: &Check) -> bool {
        let database = self.databases.at(id);
        let reads = check.read_current.iter().map(|&(oid, read)| (oid, Some(read)));
        let mut objects = check.writes.iter().copied().chain(reads);
        check.writes.len() + check.read_current.len() <= FEW
            && database.takes_what_is_voted()
            && objects.all(|(oid, read)| {
                let under_way = self.rules.check_behind && database.under_way.has(oid);
                !under_way && is_current(database, oid, read, check.snapshot)
            })
    }
}

/// Whether an object surely is what a transaction read: at that serial, or unchanged since its
/// snapshot.
fn is_current(database: &Database, oid: Oid, read: Option<Tid>, snapshot: Tid) -> bool {
    match (database.recent.last_change(oid), read) {
        (Some(last), Some(read)) => last == read,
        (Some(last), None) => last <= snapshot,
        (None, None) => database.recent.reaches(snapshot),
        (None, Some(Tid::ZERO)) => database.recent.never_wrote(oid),
        (None, Some(read)) => {
            database.hot.find(oid, Tid::MAX).is_some_and(|record| record.serial == read)
        }
    }
}

/// Objects that are looked up in the reactor's own turn; a transaction of more goes to the stage.
const FEW: usize = 256;

/// How often a client may resolve the conflicts of one transaction. Its locks keep new ones away
/// from what it has locked, so it is what it writes in addition that it needs more rounds for.
const MOST_ROUNDS: u32 = 10;
