//! From a vote to the commit stage.

use zeo_proto::{Failure, TxnNumber};
use zeo_reactor::Context;

use super::{Ballot, State, Vote};
use crate::commit_queue::{Committing, Waiter};
use crate::database::DatabaseId;
use crate::locks::LockId;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::Operation;
use crate::under_way::Passage;

impl Server {
    pub(crate) fn tpc_finish(&mut self, cx: &mut Context<Self>, caller: Caller, number: TxnNumber) {
        let Some(session) = self.sessions.get(&caller.conn) else { return };
        let (id, lock) = (session.database, session.votes.get(&number).copied());
        let table = &self.databases.at(id).votes.table;
        let vote = lock.and_then(|lock| Some((lock, table.get(&lock)?)));
        let Some((lock, Vote { state: State::Voted(_), .. })) = vote else {
            return self.fail(cx, caller, Failure::NoSuchTransaction);
        };
        if let Some(ballot) = self.take_ballot(id, lock) {
            self.finish(cx, id, lock, Ballot { caller, ..ballot });
        }
    }

    /// Commits a transaction under its locks. From here on it does not depend on its connection.
    pub(super) fn finish(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        ballot: Ballot,
    ) {
        if let Some(vote) = self.databases.at_mut(id).votes.table.get_mut(&lock) {
            vote.state = State::Finishing;
            if let Some(timer) = vote.timer.take() {
                cx.cancel(timer);
            }
        }
        if let Some(session) = self.sessions.get_mut(&ballot.caller.conn) {
            session.votes.remove(&ballot.number);
        }
        self.enqueue_commit(cx, id, ballot, Some(lock));
    }

    /// Puts a transaction before the commit stage.
    pub(super) fn enqueue_commit(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        Ballot { caller, transaction, .. }: Ballot,
        lock: Option<LockId>,
    ) {
        let (memory, bytes) = (transaction.memory(), transaction.bytes());
        let tells_writer = !transaction.undoes().is_empty();
        let commit = transaction.into_commit();
        let under_way = &mut self.databases.at_mut(id).under_way;
        let written = commit.records.iter().map(|record| record.oid);
        let passage = lock.map_or_else(|| under_way.begin(written), |_| Passage::Locked);
        let operation = Operation::Commit(commit);
        let commit = Committing { caller, memory, bytes, lock, passage, tells_writer };
        self.enqueue(cx, id, operation, Waiter::Commit(commit));
    }
}
