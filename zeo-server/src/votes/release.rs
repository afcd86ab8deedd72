//! Every way in which locks are let go of: an end, an abort, a limit, a stop.

use zeo_proto::{Failure, Goodbye};
use zeo_reactor::Context;

use super::{Ballot, Vote};
use crate::database::DatabaseId;
use crate::locks::LockId;
use crate::server::Server;
use crate::storage::Refused;

impl Server {
    /// Lets go of the locks of a vote, held or waited for, and of all that it still has.
    pub(crate) fn release(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let granted = self.let_go(cx, id, lock);
        if self.rules.hand_over {
            self.grant(cx, id, granted);
        }
    }

    /// The same for all the votes of a session that is gone. The latest first: none of them gets
    /// what another lets go of, and goes on.
    pub(crate) fn release_all(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        mut locks: Vec<LockId>,
    ) {
        locks.sort_unstable();
        for lock in locks.into_iter().rev() {
            if self.rules.only_the_living || !self.databases.at(id).votes.waits(lock) {
                self.release(cx, id, lock);
            }
        }
    }

    /// Lets go of a vote's locks; returns who gets his by that.
    pub(super) fn let_go(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
    ) -> Vec<LockId> {
        if let Some(ballot) = self.take_ballot(id, lock) {
            self.forget_ballot(&ballot);
        }
        let votes = &mut self.databases.at_mut(id).votes;
        if let Some(Vote { conn, number, timer, .. }) = votes.table.remove(&lock) {
            if let Some(timer) = timer {
                cx.cancel(timer);
            }
            let session = self.sessions.get_mut(&conn);
            if let Some(session) = session.filter(|s| s.votes.get(&number) == Some(&lock)) {
                session.votes.remove(&number);
            }
        }
        votes.locks.release(lock)
    }

    pub(super) fn forget_ballot(&mut self, ballot: &Ballot) {
        self.buffered_bytes -= ballot.transaction.memory();
    }

    /// A vote has waited for its locks as long as one may.
    pub(super) fn waited_too_long(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let votes = &self.databases.at(id).votes;
        let in_the_way = votes.locks.in_the_way(lock);
        let holder = in_the_way.and_then(|(_, holder)| votes.table.get(&holder));
        let by = holder.map_or_else(String::new, |vote| self.describe(cx, vote));
        let oid = in_the_way.map_or(zeo_proto::Oid::ROOT, |(oid, _)| oid);
        if let Some(vote) = self.databases.at_mut(id).votes.table.get_mut(&lock) {
            vote.timer = None;
        }
        if let Some(ballot) = self.take_ballot(id, lock) {
            tracing::warn!(conn = %ballot.caller.conn, %oid, by, "waited too long for a lock");
            self.refuse_vote(cx, id, ballot, Failure::Locked(oid, by));
        }
        self.release(cx, id, lock);
    }

    /// Who holds a lock, for people.
    pub(super) fn describe(&self, cx: &Context<Self>, vote: &Vote) -> String {
        let seconds = (cx.now() - vote.since).as_secs();
        let who = self.sessions.get(&vote.conn).map_or_else(
            || "a client that has gone".to_owned(),
            |session| format!("{:?} at {}", session.label, session.peer),
        );
        format!("{who}, for {seconds} s")
    }

    /// A client holds locks and does not finish: its transaction is aborted, and it is closed.
    pub(super) fn held_too_long(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let Some(vote) = self.databases.at_mut(id).votes.table.get_mut(&lock) else { return };
        vote.timer = None;
        let conn = vote.conn;
        let seconds = self.limits.lock_hold.as_secs();
        let why = format!("held object locks for {seconds} s without a finish");
        self.complain(cx, conn, &why);
        self.dismiss(cx, conn, Goodbye::TookTooLong(why));
        self.release(cx, id, lock);
    }

    /// Ends a vote that is refused, and lets go of its locks.
    pub(super) fn end_vote(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        (lock, ballot): (LockId, Ballot),
        refused: Refused,
    ) {
        let caller = ballot.caller;
        let before = self.buffered_bytes;
        self.forget_ballot(&ballot);
        self.buffered(cx, caller.conn, before);
        self.refused(cx, id, caller, refused);
        self.release(cx, id, lock);
    }

    /// Ends the votes of a database that have not come to their finish, the latest first; their
    /// clients hear that the server is stopping.
    pub(crate) fn abort_votes(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        for lock in self.databases.at(id).votes.unfinished().into_iter().rev() {
            let waits = self.databases.at(id).votes.caller(lock);
            if let Some(ballot) = self.take_ballot(id, lock) {
                self.forget_ballot(&ballot);
            }
            if let Some(caller) = waits {
                self.fail(cx, caller, Failure::Stopping);
            }
            self.release(cx, id, lock);
        }
    }
}
