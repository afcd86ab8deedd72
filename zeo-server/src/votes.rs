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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use zeo_proto::{Conflict, ConflictFound, Failure, Goodbye, Loaded, Reply, Tid, TxnNumber};
use zeo_reactor::{ConnId, Context, JobPanicked, Time, TimerId};

use crate::commit_queue::{Committing, Waiter};
use crate::database::DatabaseId;
use crate::locks::{LockId, Locks, Wants};
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Applied, Operation, Refused, Storage};
use crate::transaction::OpenTransaction;

/// A transaction that is voted on, and how.
#[derive(Debug)]
pub(crate) struct Ballot {
    /// Who waits for the answer.
    pub(crate) caller: Caller,
    /// The transaction's number on that connection.
    pub(crate) number: TxnNumber,
    pub(crate) mode: VoteMode,
    pub(crate) transaction: OpenTransaction,
}

/// How a vote goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VoteMode {
    /// If there are no conflicts, it finishes at once.
    pub(crate) then_finish: bool,
    /// If there are any, its client resolves them.
    pub(crate) resolving: bool,
}

impl VoteMode {
    /// It needs no locks beyond the commit stage.
    fn is_one_trip(self) -> bool {
        self.then_finish && !self.resolving
    }
}

/// The votes of one database that hold object locks or wait for them.
///
/// Those that wait are bounded by [`waiting_votes`](crate::Limits::waiting_votes), those that hold
/// by the transactions that sessions may have open.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    locks: Locks,
    table: BTreeMap<LockId, Vote>,
    /// Those that wait, in the order in which they came.
    waiting: BTreeSet<LockId>,
    /// Bytes that those will write that have been told that they may, or are about to be.
    promised: u64,
}

/// A vote that holds object locks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    /// Whose it is. The connection may be gone while it finishes.
    pub(crate) conn: ConnId,
    /// Since when it holds them.
    pub(crate) since: Time,
    /// How many objects it has locked; `None` if it is all there are.
    pub(crate) objects: Option<usize>,
}

#[derive(Debug)]
struct Vote {
    conn: ConnId,
    number: TxnNumber,
    /// Since when it waits, or holds its locks.
    since: Time,
    state: State,
    /// Ends the waiting, or the holding.
    timer: Option<TimerId>,
}

#[derive(Debug)]
enum State {
    /// It waits for locks.
    Waiting(Ballot),
    /// It is being compared with what is committed, or what it conflicts with is being loaded.
    Checking(Ballot),
    /// Its client has it again, with the conflicts.
    Resolving,
    /// It was found to be without conflicts, and keeps them away.
    Voted(Ballot),
    /// It is before the commit stage, or in it. Its connection may be gone.
    Finishing,
}

impl State {
    /// Bytes that nobody else should be promised.
    fn promised(&self) -> u64 {
        match self {
            Self::Checking(ballot) | Self::Voted(ballot) => ballot.transaction.bytes(),
            Self::Waiting(_) | Self::Resolving | Self::Finishing => 0,
        }
    }
}

impl Vote {
    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }
}

impl Votes {
    /// Nobody holds a lock or waits for one.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// How many hold locks or wait for them.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many wait for locks.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the one that came first waits for locks.
    pub(crate) fn oldest_wait(&self) -> Option<Time> {
        let first = self.waiting.first()?;
        self.table.get(first).map(|vote| vote.since)
    }

    /// Who holds locks, in the order in which they asked for them.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Holder> {
        let holding = self.table.iter().filter(|(_, vote)| !vote.is_waiting());
        holding.map(|(&lock, vote)| Holder {
            conn: vote.conn,
            since: vote.since,
            objects: self.locks.objects_of(lock),
        })
    }

    /// Whether a vote waits for its locks.
    pub(crate) fn waits(&self, lock: LockId) -> bool {
        self.table.get(&lock).is_some_and(Vote::is_waiting)
    }

    /// How many objects are locked or waited for.
    pub(crate) fn locked_objects(&self) -> usize {
        self.locks.len()
    }

    /// Who waits for the answer of a vote, if somebody does.
    pub(crate) fn caller(&self, lock: LockId) -> Option<Caller> {
        match &self.table.get(&lock)?.state {
            State::Waiting(ballot) | State::Checking(ballot) => Some(ballot.caller),
            State::Resolving | State::Voted(_) | State::Finishing => None,
        }
    }

    /// The locks of all votes that have not come to their finish.
    fn unfinished(&self) -> Vec<LockId> {
        let unfinished = |vote: &Vote| !matches!(vote.state, State::Finishing);
        self.table.iter().filter(|(_, vote)| unfinished(vote)).map(|(&lock, _)| lock).collect()
    }
}

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
            self.grant(cx, id, VecDeque::from([lock]));
        }
    }

    /// Puts a vote in the queue for its locks.
    fn queue_vote(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        wants: Wants,
        ballot: Ballot,
    ) -> LockId {
        let (conn, number) = (ballot.caller.conn, ballot.number);
        let votes = &mut self.databases.at_mut(id).votes;
        let lock = votes.locks.request(wants);
        let limit = self.limits.lock_wait;
        let timer = cx.call_later(limit, move |server, cx| server.waited_too_long(cx, id, lock));
        let (since, state, timer) = (cx.now(), State::Waiting(ballot), Some(timer));
        votes.table.insert(lock, Vote { conn, number, since, state, timer });
        votes.waiting.insert(lock);
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.votes.insert(number, lock);
        }
        self.regulate(cx, conn);
        lock
    }

    /// Goes on with votes that have got their locks, and with those that get theirs by that.
    fn grant(&mut self, cx: &mut Context<Self>, id: DatabaseId, mut granted: VecDeque<LockId>) {
        while let Some(lock) = granted.pop_front() {
            granted.extend(self.granted(cx, id, lock));
        }
    }

    /// A vote has its locks; returns who gets his because it needs them no more.
    fn granted(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) -> Vec<LockId> {
        let Some(ballot) = self.take_ballot(id, lock) else { return Vec::new() };
        if ballot.mode.is_one_trip() {
            let free = self.let_go(cx, id, lock);
            self.enqueue_commit(cx, id, ballot, None);
            return free;
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
        Vec::new()
    }

    /// Takes up a vote whose client has resolved its conflicts, and whose locks it still holds.
    fn vote_again(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId, ballot: Ballot) {
        if let Some(session) = self.sessions.get_mut(&ballot.caller.conn) {
            session.votes.insert(ballot.number, lock);
        }
        self.check(cx, id, lock, ballot);
    }

    /// Compares a transaction that has its locks with what is committed, behind every commit that
    /// came before it.
    fn check(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId, ballot: Ballot) {
        let mut check = ballot.transaction.check();
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

    /// A transaction has no conflicts, and none can come while it holds its locks.
    fn voted(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId, ballot: Ballot) {
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
            self.grant(cx, id, granted.into());
        }
        self.reply(cx, caller, Reply::Voted);
    }

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
    fn finish(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId, ballot: Ballot) {
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
    fn enqueue_commit(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        Ballot { caller, transaction, .. }: Ballot,
        lock: Option<LockId>,
    ) {
        let commit = Committing {
            caller,
            writes: transaction.writes(),
            memory: transaction.memory(),
            bytes: transaction.bytes(),
            lock,
            tells_writer: !transaction.undoes().is_empty(),
        };
        let operation = Operation::Commit(transaction.into_commit());
        self.enqueue(cx, id, operation, Waiter::Commit(commit));
    }

    /// Loads what a transaction conflicts with; it keeps its locks.
    fn load_conflicts(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        (lock, ballot): (LockId, Ballot),
        conflicts: Vec<Conflict>,
    ) {
        self.set_state(id, lock, State::Checking(ballot));
        let as_of = self.databases.at(id).published;
        let work = move |storage: &dyn Storage| found(storage, conflicts, as_of);
        let then = move |server: &mut Self, cx: &mut Context<Self>, found| {
            server.conflicts_loaded(cx, id, lock, found);
        };
        self.read(cx, id, work, then);
    }

    fn conflicts_loaded(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        lock: LockId,
        found: Result<(Vec<ConflictFound>, Bytes), JobPanicked>,
    ) {
        let Some(mut ballot) = self.take_ballot(id, lock) else { return };
        let (found, data) = match found {
            Ok(found) => found,
            Err(panicked) => {
                tracing::error!("loading conflicts panicked: {panicked}");
                let refused = Refused::Failed(panicked.to_string());
                return self.end_vote(cx, id, (lock, ballot), refused);
            }
        };
        self.set_state(id, lock, State::Resolving);
        ballot.transaction.keep_lock(lock);
        let database = self.databases.at_mut(id);
        database.counters.conflicts += 1;
        database.open_transactions += 1;
        if let Some(session) = self.sessions.get_mut(&ballot.caller.conn) {
            session.votes.remove(&ballot.number);
            session.transactions.insert(ballot.number, ballot.transaction);
        }
        self.reply_with(cx, ballot.caller, Reply::Conflicts(found), &data);
    }

    /// Lets go of the locks of a vote, held or waited for, and of all that it still has.
    pub(crate) fn release(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
        let granted = self.let_go(cx, id, lock);
        if self.rules.hand_over {
            self.grant(cx, id, granted.into());
        }
    }

    /// The same; returns who gets his locks by that.
    fn let_go(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) -> Vec<LockId> {
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

    fn forget_ballot(&mut self, ballot: &Ballot) {
        self.buffered_bytes -= ballot.transaction.memory();
    }

    /// A vote has waited for its locks as long as one may.
    fn waited_too_long(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
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
    fn describe(&self, cx: &Context<Self>, vote: &Vote) -> String {
        let seconds = (cx.now() - vote.since).as_secs();
        let who = self.sessions.get(&vote.conn).map_or_else(
            || "a client that has gone".to_owned(),
            |session| format!("{:?} at {}", session.label, session.peer),
        );
        format!("{who}, for {seconds} s")
    }

    /// A client holds locks and does not finish: its transaction is aborted, and it is closed.
    fn held_too_long(&mut self, cx: &mut Context<Self>, id: DatabaseId, lock: LockId) {
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
    fn end_vote(
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

    /// Ends the votes of a database that have not come to their finish: their clients hear that the
    /// server is stopping.
    pub(crate) fn abort_votes(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        for lock in self.databases.at(id).votes.unfinished() {
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

    fn set_state(&mut self, id: DatabaseId, lock: LockId, state: State) {
        let votes = &mut self.databases.at_mut(id).votes;
        if let Some(vote) = votes.table.get_mut(&lock) {
            votes.promised += state.promised();
            vote.state = state;
        }
    }

    /// Takes the ballot of a vote, unless its client or the commit stage has it.
    fn take_ballot(&mut self, id: DatabaseId, lock: LockId) -> Option<Ballot> {
        let votes = &mut self.databases.at_mut(id).votes;
        votes.waiting.remove(&lock);
        let vote = votes.table.get_mut(&lock)?;
        votes.promised -= vote.state.promised();
        match core::mem::replace(&mut vote.state, State::Resolving) {
            State::Waiting(ballot) | State::Checking(ballot) | State::Voted(ballot) => Some(ballot),
            State::Resolving => None,
            State::Finishing => {
                vote.state = State::Finishing;
                None
            }
        }
    }
}

/// What is committed of the objects in conflict, as far as it fits an answer.
fn found(
    storage: &dyn Storage,
    conflicts: Vec<Conflict>,
    as_of: Tid,
) -> (Vec<ConflictFound>, Bytes) {
    let mut data = Vec::new();
    let found = conflicts.into_iter().map(|conflict| {
        let room = CONFLICT_BYTES.saturating_sub(data.len());
        let found = (room > 0)
            .then(|| storage.load_before(conflict.oid, Tid::MAX, as_of).ok())
            .flatten()
            .map(crate::storage::Found::into_outgoing)
            .filter(|(_, bytes)| bytes.len() <= room);
        let loaded = found.map(|(loaded, bytes): (Loaded, Bytes)| {
            data.extend_from_slice(&bytes);
            loaded
        });
        ConflictFound { conflict, found: loaded }
    });
    (found.collect(), data.into())
}

/// How often a client may resolve the conflicts of one transaction. Its locks keep new ones away
/// from what it has locked, so it is what it writes in addition that it needs more rounds for.
const MOST_ROUNDS: u32 = 10;
/// Bytes of committed data in one answer; of objects beyond it, the client loads them. 4 MiB.
const CONFLICT_BYTES: usize = 4 << 20;
