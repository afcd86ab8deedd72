//! Votes: from the object locks that one needs to its finish or abort.
//!
//! ```text
//! tpc_vote ─▶ waiting for locks ─▶ checking ─▶ voted ─▶ finishing ─▶ locks let go
//!                                     │  ▲        └── tpc_abort, or held too long
//!                                     ▼  │ the next vote
//!                                  resolving, on the client's side
//! ```
//!
//! A vote that finishes at once and whose objects nobody has locked goes straight to the commit
//! stage: it holds nothing while its client is waited for. Every other one is here from its vote to
//! its end, under the name of its locks.

mod check;
mod finish;
mod release;
mod resolve;
mod table;

use zeo_proto::{Failure, Reply};
use zeo_reactor::Context;

pub(crate) use table::{Ballot, Holder, VoteMode, Votes};
use table::{State, Vote};

use crate::database::DatabaseId;
use crate::locks::{LockId, Wants};
use crate::server::Server;

impl Server {
    /// Votes on a transaction that is complete: at once, or when it has its locks.
    pub(crate) fn vote(&mut self, cx: &mut Context<Self>, id: DatabaseId, mut ballot: Ballot) {
        let one_trip = ballot.mode.is_one_trip();
        let is_unlocked = self.databases.at(id).votes.locks.is_empty();
        if one_trip && (is_unlocked || !self.rules.respect_locks) {
            return self.enqueue_commit(cx, id, ballot, None);
        }
        let wants = ballot.transaction.wants();
        if let Some(lock) = ballot.transaction.take_lock() {
            if self.databases.at(id).votes.locks.covers(lock, &wants) {
                return self.vote_again(cx, id, lock, ballot);
            }
            // It waits for the others, and may not hold what they wait for meanwhile.
            self.release(cx, id, lock);
        }
        let votes = &self.databases.at(id).votes;
        let is_free = votes.locks.would_grant(&wants);
        if one_trip && is_free {
            return self.enqueue_commit(cx, id, ballot, None);
        }
        if !self.sessions.contains_key(&ballot.caller.conn) {
            // Nobody is there to finish it, or to be told.
            return self.forget_ballot(&ballot);
        }
        if !is_free && votes.waiting() >= self.limits.waiting_votes {
            return self.refuse_vote(cx, id, ballot, Failure::Busy);
        }
        let lock = self.queue_vote(cx, id, wants, ballot);
        if is_free {
            self.grant(cx, id, vec![lock]);
        } else {
            self.await_locks(cx, id, lock);
        }
    }

    /// Puts a vote in the queue for its locks.
    pub(super) fn queue_vote(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        wants: Wants,
        ballot: Ballot,
    ) -> LockId {
        let (conn, number) = (ballot.caller.conn, ballot.number);
        let votes = &mut self.databases.at_mut(id).votes;
        let lock = votes.locks.request(wants);
        let (since, state) = (cx.now(), State::Waiting(ballot));
        votes.table.insert(lock, Vote { conn, number, since, state, timer: None });
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.votes.insert(number, lock);
        }
        self.regulate(cx, conn);
        lock
    }

    /// A vote does not get its locks at once.
    fn await_locks(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let limit = self.limits.lock_wait;
        let timer = cx.call_later(limit, move |server, cx| server.waited_too_long(cx, id, lock));
        let votes = &mut self.databases.at_mut(id).votes;
        votes.waiting.insert(lock);
        if let Some(vote) = votes.table.get_mut(&lock) {
            vote.timer = Some(timer);
        }
    }

    /// Goes on with votes that have got their locks, and with those that get theirs by that: one
    /// after the other, since each may let go of what a thousand others wait for in a row.
    pub(super) fn grant(&mut self, cx: &mut Context<Self>, id: DatabaseId, granted: Vec<LockId>) {
        let votes = &mut self.databases.at_mut(id).votes;
        votes.granted.extend(granted);
        if core::mem::replace(&mut votes.is_granting, true) {
            return;
        }
        while let Some(lock) = self.databases.at_mut(id).votes.granted.pop_front() {
            self.granted(cx, id, lock);
        }
        self.databases.at_mut(id).votes.is_granting = false;
    }

    /// A vote has its locks.
    fn granted(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let Some(ballot) = self.take_ballot(id, lock) else { return };
        if ballot.mode.is_one_trip() {
            let granted = self.let_go(cx, id, lock);
            self.enqueue_commit(cx, id, ballot, None);
            return self.grant(cx, id, granted);
        }
        let limit = self.limits.lock_hold;
        let timer = cx.call_later(limit, move |server, cx| server.held_too_long(cx, id, lock));
        let now = cx.now();
        if let Some(vote) = self.databases.at_mut(id).votes.table.get_mut(&lock) {
            vote.since = now;
            if let Some(timer) = vote.timer.replace(timer) {
                cx.cancel(timer);
            }
        }
        self.check(cx, id, lock, ballot);
    }

    /// Takes up a vote whose client has resolved its conflicts, and whose locks it still holds.
    pub(super) fn vote_again(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        ballot: Ballot,
    ) {
        if let Some(session) = self.sessions.get_mut(&ballot.caller.conn) {
            session.votes.insert(ballot.number, lock);
        }
        self.check(cx, id, lock, ballot);
    }

    /// A transaction has no conflicts, and none can come while it holds its locks.
    pub(super) fn voted(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        ballot: Ballot,
    ) {
        if ballot.transaction.rounds() > 0 {
            self.databases.at_mut(id).counters.conflicts_resolved += 1;
        }
        if ballot.mode.then_finish {
            return self.finish(cx, id, lock, ballot);
        }
        let caller = ballot.caller;
        self.set_state(id, lock, State::Voted(ballot));
        if !self.rules.keep_locks {
            let granted = self.databases.at_mut(id).votes.locks.release(lock);
            self.grant(cx, id, granted);
        }
        self.reply(cx, caller, Reply::Voted);
    }
}
