//! The queue before the commit stage, and the way of its operations into the stage.
//!
//! The stage takes what waits as one group with one sync. Large transactions wait apart from small
//! ones and go to the stage in turn with them, so that somebody who commits ten thousand objects
//! at a time costs the others at most one such commit, not all that wait. What asks about others'
//! commits (an outcome, a check) never passes one that came before it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use zeo_proto::{Failure, OutcomeQuery};
use zeo_reactor::{ConnId, Context, Time};

use crate::database::{DatabaseId, begin_job};
use crate::locks::LockId;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Applied, Operation, Refused, Room};
use crate::under_way::Passage;
use crate::writes::Writes;

/// What became of a group, in its order, and what each operation of it writes.
pub(crate) type Results = Vec<(Result<Applied, Refused>, Writes)>;

/// Operations of one database that wait for the commit stage, or are in it.
///
/// Bounded by the calls in flight of all sessions, and their data by
/// [`buffered_bytes`](crate::Limits::buffered_bytes).
#[derive(Debug, Default)]
pub(crate) struct CommitQueue {
    small: VecDeque<Queued>,
    /// Large commits, and what must not pass one of them.
    large: VecDeque<Queued>,
    last: u64,
    /// The last group was of small ones, while large ones waited.
    large_is_next: bool,
    /// A group is in the stage.
    pub(crate) applying: bool,
    /// The stage has panicked: what it had made durable was not published, so nothing else may be.
    pub(crate) broken: bool,
    /// The index cannot take more: what was said to whoever waits for it, until it can.
    pub(crate) index_failure: Option<String>,
}

/// An operation and who waits for it.
#[derive(Debug)]
struct Queued {
    /// Counts up in the order of arrival.
    order: u64,
    operation: Operation,
    waiter: Waiter,
    bytes: u64,
    since: Time,
}

/// What goes to the stage at once.
type Taken = (Vec<Operation>, Vec<Waiter>);

impl CommitQueue {
    /// Nothing waits and nothing is in the stage.
    pub(crate) fn is_idle(&self) -> bool {
        self.len() == 0 && !self.applying
    }

    /// How many operations wait.
    pub(crate) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// Puts an operation at the end; `bytes` is how long it is, and more than `large_bytes` are
    /// large.
    fn push(
        &mut self,
        now: Time,
        (operation, waiter): (Operation, Waiter),
        bytes: u64,
        large_bytes: u64,
    ) {
        self.last += 1;
        let is_large = is_large(&operation) || bytes > large_bytes;
        let is_behind = is_large || (asks(&operation) && !self.large.is_empty());
        let queue = if is_behind { &mut self.large } else { &mut self.small };
        queue.push_back(Queued { order: self.last, operation, waiter, bytes, since: now });
    }

    /// With a rule left out, a question passes all that came before it.
    fn push_first(&mut self, now: Time, operation: Operation, waiter: Waiter) {
        self.last += 1;
        let queued = Queued { order: self.last, operation, waiter, bytes: 0, since: now };
        self.small.push_front(queued);
    }

    /// Takes a group, within its bounds: of small commits, or one large one; in turn, where there
    /// are both and large ones may be taken.
    fn take_group(&mut self, max_operations: usize, max_bytes: u64, takes_large: bool) -> Taken {
        let mut group = (Vec::new(), Vec::new());
        if self.large_is_next || self.small.is_empty() {
            self.take_large(&mut group, takes_large);
        }
        if group.0.is_empty() {
            self.take_small(&mut group, max_operations, max_bytes);
            self.large_is_next = !self.large.is_empty();
        } else {
            self.large_is_next = false;
        }
        group
    }

    /// Whether the oldest large one has waited for the index long enough.
    fn large_has_waited(&self, now: Time) -> bool {
        self.large.front().is_some_and(|queued| now - queued.since >= LARGE_WAIT)
    }

    fn take_small(&mut self, group: &mut Taken, max_operations: usize, max_bytes: u64) {
        let mut total = 0;
        while let Some(queued) = self.small.pop_front() {
            total += queued.bytes;
            add(group, queued);
            if group.0.len() == max_operations || total >= max_bytes {
                break;
            }
        }
    }

    /// One large commit, if they may be taken, and the questions before it whose turn it is.
    fn take_large(&mut self, group: &mut Taken, takes_large: bool) {
        let first_small = self.small.front().map_or(u64::MAX, |queued| queued.order);
        while let Some(queued) = self.large.pop_front_if(|queued| {
            if asks(&queued.operation) { queued.order < first_small } else { takes_large }
        }) {
            let was_question = asks(&queued.operation);
            add(group, queued);
            if !was_question {
                break;
            }
        }
    }

    /// Takes all that waits.
    fn drain(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        let (small, large) = (core::mem::take(&mut self.small), core::mem::take(&mut self.large));
        small.into_iter().chain(large).map(|queued| queued.waiter)
    }
}

fn add(group: &mut Taken, queued: Queued) {
    group.0.push(queued.operation);
    group.1.push(queued.waiter);
}

/// Whether an operation is about what others commit.
fn asks(operation: &Operation) -> bool {
    match operation {
        Operation::Outcome(_) | Operation::Check(_) => true,
        Operation::Commit(_) | Operation::ReserveOids(_) => false,
    }
}

/// Whether a commit has so many objects that others notice how long it takes the stage.
fn is_large(operation: &Operation) -> bool {
    matches!(operation, Operation::Commit(commit) if commit.records.len() > LARGE_OBJECTS)
}

/// Who waits for an operation, and what its completion needs.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A client's commit.
    Commit(Committing),
    /// A vote whose transaction holds its locks.
    Check(LockId),
    /// The pool of oids, which wanted that many.
    Oids(u32),
    /// A client's question.
    Outcome(Caller),
}

/// A commit on its way through the stage, as its publication needs it.
#[derive(Debug)]
pub(crate) struct Committing {
    pub(crate) caller: Caller,
    /// Bytes that it holds in memory.
    pub(crate) memory: u64,
    /// How long it is, in bytes.
    pub(crate) bytes: u64,
    /// The object locks that it holds, if it was voted on before.
    pub(crate) lock: Option<LockId>,
    /// What keeps votes on its objects from being held against what is published.
    pub(crate) passage: Passage,
    /// Its writer does not know what it changes, and is told like everybody else.
    pub(crate) tells_writer: bool,
}

impl Waiter {
    fn bytes(&self) -> u64 {
        if let Self::Commit(commit) = self { commit.bytes } else { 0 }
    }
}

impl Server {
    /// What became of a transaction; the question passes through the commit stage, behind every
    /// commit that came before it.
    pub(crate) fn outcome(&mut self, cx: &mut Context<Self>, caller: Caller, query: OutcomeQuery) {
        let Some(id) = self.database_of(caller.conn) else { return };
        if self.is_stopping() {
            return self.fail(cx, caller, Failure::Stopping);
        }
        let now = cx.now();
        let session = self.sessions.get_mut(&caller.conn);
        if session.is_some_and(|session| session.fenced.lately(now) >= MAX_FENCED) {
            return self.fail(cx, caller, Failure::Busy);
        }
        self.enqueue(cx, id, Operation::Outcome(query), Waiter::Outcome(caller));
    }

    /// Puts an operation before the commit stage.
    pub(crate) fn enqueue(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        operation: Operation,
        waiter: Waiter,
    ) {
        let (bytes, large_bytes) = (waiter.bytes(), self.limits.large_commit_bytes);
        let now = cx.now();
        let commits = &mut self.databases.at_mut(id).commits;
        if asks(&operation) && !self.rules.check_behind {
            commits.push_first(now, operation, waiter);
        } else {
            commits.push(now, (operation, waiter), bytes, large_bytes);
        }
        self.pump_commits(cx, id);
    }

    /// Hands the next group to the commit stage, unless one is in it or the index is behind.
    pub(crate) fn pump_commits(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let (max_operations, max_bytes) = (self.limits.group_operations, self.limits.group_bytes);
        let database = self.databases.at_mut(id);
        if database.commits.applying || database.commits.len() == 0 {
            return;
        }
        if database.commits.broken {
            return self.refuse_waiting(cx, id, "the commit stage has panicked before");
        }
        let room = database.storage.chores().room;
        if room == Room::None {
            if let Some(failure) = database.commits.index_failure.clone() {
                self.refuse_waiting(cx, id, &failure);
            }
            return;
        }
        // What the index still takes in is kept for small commits, as long as large ones can wait.
        let takes_large = room == Room::Enough || database.commits.large_has_waited(cx.now());
        let (operations, waiters) =
            database.commits.take_group(max_operations, max_bytes, takes_large);
        if operations.is_empty() {
            return;
        }
        let storage = Arc::clone(&database.storage);
        let unix_micros = cx.unix_micros();
        database.commits.applying = true;
        database.groups.sizes.add(operations.len() as u64);
        let work = move || {
            let results = storage.apply(&operations, unix_micros);
            let written = |(result, operation): (Result<_, _>, &Operation)| {
                let made = result.is_ok();
                (result, if made { Writes::of(operation) } else { Writes::default() })
            };
            results.into_iter().zip(&operations).map(written).collect()
        };
        let then = move |server: &mut Self, cx: &mut Context<Self>, done| {
            server.applied(cx, id, waiters, done);
        };
        begin_job(cx, database.stages.commit, work, then);
    }

    fn refuse_waiting(&mut self, cx: &mut Context<Self>, id: DatabaseId, failure: &str) {
        for waiter in self.databases.at_mut(id).commits.drain() {
            let refused = Err(Refused::Failed(failure.to_owned()));
            self.complete(cx, id, waiter, (refused, Writes::default()));
        }
    }

    /// Which database a connection's session uses.
    pub(crate) fn database_of(&self, conn: ConnId) -> Option<DatabaseId> {
        self.sessions.get(&conn).map(|session| session.database)
    }
}

/// Transactions that a session may have fenced lately; then it is told `Busy`. A client asks once for each
/// commit whose answer was lost, and a connection carries 256 at once. All fences together have a
/// bound as well, beyond which the oldest are kept through a floor that others may meet.
const MAX_FENCED: u64 = 1_024;
/// How long large commits wait for the index to catch up with what has been committed.
const LARGE_WAIT: Duration = Duration::from_secs(1);
/// What makes a commit a large one, however short: it takes the stage some hundred microseconds.
const LARGE_OBJECTS: usize = 256;

#[cfg(test)]
mod tests {
    use zeo_proto::{Oid, OutcomeQuery, Tid, TxnId, TxnMeta};

    use super::*;
    use crate::storage::{Commit, Record};

    #[test]
    fn small_commits_wait_for_one_large_one_at_most() {
        let mut queue = CommitQueue::default();
        for number in 1..=3 {
            push(&mut queue, number, LARGE_OBJECTS + 1);
        }
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [1]);
        push(&mut queue, 4, 1);
        push(&mut queue, 5, 1);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [4, 5]);
        push(&mut queue, 6, 1);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [2], "nor do large ones starve");
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [6]);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [3]);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_question_passes_no_commit_that_came_before_it() {
        let mut queue = CommitQueue::default();
        push(&mut queue, 1, LARGE_OBJECTS + 1);
        push(&mut queue, 2, 1);
        push(&mut queue, 3, 1);
        ask(&mut queue, 4);
        push(&mut queue, 5, LARGE_OBJECTS + 1);
        push(&mut queue, 6, 1);
        assert_eq!(numbers(queue.take_group(1, u64::MAX, true)), [2]);
        assert_eq!(numbers(queue.take_group(1, u64::MAX, true)), [1]);
        assert_eq!(numbers(queue.take_group(1, u64::MAX, true)), [3]);
        assert_eq!(numbers(queue.take_group(1, u64::MAX, true)), [4, 5]);
        assert_eq!(numbers(queue.take_group(1, u64::MAX, true)), [6]);
        ask(&mut queue, 7);
        push(&mut queue, 8, 1);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [7, 8]);
        assert!(queue.is_idle());
    }

    #[test]
    fn large_commits_can_be_held_back_and_small_ones_go_on() {
        let mut queue = CommitQueue::default();
        push(&mut queue, 1, LARGE_OBJECTS + 1);
        ask(&mut queue, 2);
        assert!(numbers(queue.take_group(9, u64::MAX, false)).is_empty());
        push(&mut queue, 3, 1);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, false)), [3]);
        assert!(!queue.large_has_waited(Time::default()));
        assert!(queue.large_has_waited(Time::default() + LARGE_WAIT));
        assert_eq!(numbers(queue.take_group(9, u64::MAX, true)), [1]);
        assert_eq!(numbers(queue.take_group(9, u64::MAX, false)), [2], "it only asks");
        assert!(queue.is_idle());
    }

    #[test]
    fn a_group_has_its_bounds() {
        let mut queue = CommitQueue::default();
        for number in 1..=5 {
            push(&mut queue, number, 1);
        }
        assert_eq!(numbers(queue.take_group(2, u64::MAX, true)), [1, 2]);
        assert_eq!(numbers(queue.take_group(9, 150, true)), [3, 4], "100 bytes each");
        assert_eq!(numbers(queue.take_group(9, 1, true)), [5]);
    }

    fn push(queue: &mut CommitQueue, number: u8, objects: usize) {
        let operation = Operation::Commit(Commit {
            id: TxnId::from_bytes([number; 16]),
            snapshot: Tid::ZERO,
            meta: TxnMeta::default(),
            records: vec![Record::delete(Oid::ROOT, None); objects],
            read_current: Vec::new(),
            restore: None,
        });
        queue.push(Time::default(), (operation, Waiter::Oids(0)), 100, 1_000);
    }

    fn ask(queue: &mut CommitQueue, number: u8) {
        let id = TxnId::from_bytes([number; 16]);
        let query = OutcomeQuery { id, snapshot: Tid::ZERO, epoch: 1 };
        queue.push(Time::default(), (Operation::Outcome(query), Waiter::Oids(0)), 0, 1_000);
    }

    fn numbers((operations, _): Taken) -> Vec<u8> {
        let number = |operation: Operation| match operation {
            Operation::Commit(commit) => commit.id.to_bytes()[0],
            Operation::Outcome(query) => query.id.to_bytes()[0],
            Operation::Check(_) | Operation::ReserveOids(_) => panic!("none was pushed"),
        };
        operations.into_iter().map(number).collect()
    }
}
