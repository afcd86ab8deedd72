//! The queue before the commit stage, and publication behind it.
//!
//! The stage takes every operation that waits, as one group with one sync. When a group comes back
//! it is published in one turn and in tid order: remembered, hot records replaced, the others
//! invalidated, the writers answered. The next group is already on its way by then, since what it
//! needs is durability, not publication.

use std::collections::VecDeque;
use std::sync::Arc;

use zeo_proto::{Failure, Oid, Outcome, OutcomeQuery, Reply, Tid};
use zeo_reactor::{ConnId, Context, JobPanicked};

use crate::database::{Database, DatabaseId, begin_job};
use crate::outgoing;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Applied, Operation, Refused};
use crate::writes::{MANY, Writes};

/// What became of a group, in its order.
type Results = Vec<Result<Applied, Refused>>;

/// Operations of one database that wait for the commit stage, or are in it.
///
/// Bounded by the calls in flight of all sessions, and their data by
/// [`buffered_bytes`](crate::Limits::buffered_bytes).
#[derive(Debug, Default)]
pub(crate) struct CommitQueue {
    waiting: VecDeque<(Operation, Waiter)>,
    /// A group is in the stage.
    applying: bool,
    /// The stage has panicked: what it had made durable was not published, so nothing else may be.
    broken: bool,
    /// The index cannot take more: what was said to whoever waits for it, until it can.
    pub(crate) index_failure: Option<String>,
}

impl CommitQueue {
    /// Nothing waits and nothing is in the stage.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.applying
    }

    /// How many operations wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Who waits for an operation, and what its completion needs.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A client's commit: what it writes, with the data that is in memory; the bytes that it
    /// holds there; and how long it is.
    Commit { caller: Caller, writes: Writes, memory: u64, bytes: u64 },
    /// The pool of oids, which wanted that many.
    Oids(u32),
    /// A client's question.
    Outcome(Caller),
}

impl Waiter {
    /// Lends what is written to the stage.
    fn take_writes(&mut self) -> Writes {
        match self {
            Self::Commit { writes, .. } => core::mem::take(writes),
            Self::Oids(_) | Self::Outcome(_) => Writes::default(),
        }
    }

    /// Gives it back.
    fn set_writes(&mut self, settled: Writes) {
        if let Self::Commit { writes, .. } = self {
            *writes = settled;
        }
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
        if self.sessions.get(&caller.conn).is_some_and(|session| session.fenced >= MAX_FENCED) {
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
        self.databases.at_mut(id).commits.waiting.push_back((operation, waiter));
        self.pump_commits(cx, id);
    }

    /// Hands the next group to the commit stage, unless one is in it or the index is behind.
    pub(crate) fn pump_commits(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let (max_operations, max_bytes) = (self.limits.group_operations, self.limits.group_bytes);
        let database = self.databases.at_mut(id);
        if database.commits.applying || database.commits.waiting.is_empty() {
            return;
        }
        if database.commits.broken {
            return self.refuse_waiting(cx, id, "the commit stage has panicked before");
        }
        if database.storage.chores().overlay_full {
            if let Some(failure) = database.commits.index_failure.clone() {
                self.refuse_waiting(cx, id, &failure);
            }
            return;
        }
        let (operations, mut waiters) =
            take_group(&mut database.commits, max_operations, max_bytes);
        let storage = Arc::clone(&database.storage);
        let unix_micros = cx.unix_micros();
        database.commits.applying = true;
        database.counters.groups += 1;
        let mut writes: Vec<Writes> = waiters.iter_mut().map(Waiter::take_writes).collect();
        let work = move || {
            let results = storage.apply(operations, unix_micros);
            writes.iter_mut().for_each(Writes::settle);
            (results, writes)
        };
        let then = move |server: &mut Self, cx: &mut Context<Self>, done| {
            server.applied(cx, id, waiters, done);
        };
        begin_job(cx, database.stages.commit, work, then);
    }

    fn applied(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        mut waiters: Vec<Waiter>,
        done: Result<(Results, Vec<Writes>), JobPanicked>,
    ) {
        let results = match done {
            Ok((results, writes)) => {
                waiters.iter_mut().zip(writes).for_each(|(waiter, w)| waiter.set_writes(w));
                results
            }
            Err(panicked) => self.apply_panicked(id, &panicked, waiters.len()),
        };
        self.databases.at_mut(id).commits.applying = false;
        self.pump_commits(cx, id);
        answer_first(cx, &waiters);
        for (waiter, result) in waiters.into_iter().zip(results) {
            self.complete(cx, id, waiter, result);
        }
        self.run_chores(cx, id);
        self.advance_stop(cx);
    }

    fn complete(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        waiter: Waiter,
        result: Result<Applied, Refused>,
    ) {
        match (waiter, result) {
            (Waiter::Commit { caller, writes, memory, .. }, result) => {
                let before = self.buffered_bytes;
                self.buffered_bytes -= memory;
                self.buffered(cx, caller.conn, before);
                match result {
                    Ok(Applied::Committed(tid)) => self.finished(cx, id, caller, (tid, writes)),
                    Ok(other) => unreachable!("a commit was answered with {other:?}"),
                    Err(refused) => self.refused(cx, id, caller, refused),
                }
            }
            (Waiter::Oids(count), Ok(Applied::Reserved(first))) => {
                self.reserved(cx, id, first, count);
            }
            (Waiter::Oids(_), Err(refused)) => self.not_reserved(cx, id, &refused),
            (Waiter::Outcome(caller), Ok(Applied::Outcome(outcome))) => {
                if let Some(session) = self.sessions.get_mut(&caller.conn) {
                    session.fenced += usize::from(outcome == Outcome::NotCommitted);
                }
                self.reply(cx, caller, Reply::Outcome(outcome));
            }
            (Waiter::Outcome(caller), Err(refused)) => self.refused(cx, id, caller, refused),
            (waiter, Ok(applied)) => unreachable!("{waiter:?} was answered with {applied:?}"),
        }
    }

    /// Publishes a durable commit and answers its writer.
    fn finished(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        caller: Caller,
        (tid, writes): (Tid, Writes),
    ) {
        // A transaction that was sent again was published the first time.
        if tid > self.databases.at(id).published {
            self.publish(cx, id, tid, (caller.conn, writes));
        }
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.commits += 1;
        }
        self.reply(cx, caller, Reply::Finished(tid));
    }

    fn publish(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        tid: Tid,
        (by, writes): (ConnId, Writes),
    ) {
        let database = self.databases.at_mut(id);
        let oids = writes.oids();
        replace_hot(database, tid, &oids, writes);
        database.published = tid;
        database.counters.commits += 1;
        if database.trouble.take().is_some() {
            tracing::info!(storage = database.name, "commits are made again");
        }
        if self.rules.unsplit {
            self.invalidate(cx, id, tid, (by, &oids));
        } else {
            let oids = oids.clone();
            cx.call_soon(move |server: &mut Self, cx| server.invalidate(cx, id, tid, (by, &oids)));
        }
        self.databases.at_mut(id).recent.remember(tid, oids);
    }

    /// Tells everybody but the writer of a commit.
    fn invalidate(
        &self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        tid: Tid,
        (by, oids): (ConnId, &[Oid]),
    ) {
        if self.rules.invalidate {
            let others = self.databases.at(id).audience.iter().copied().filter(|&conn| conn != by);
            outgoing::invalidate(cx, others, tid, self.rules.told(oids));
        }
    }

    fn refused(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        caller: Caller,
        refused: Refused,
    ) {
        let failure = match refused {
            Refused::Conflict(conflict) => {
                self.databases.at_mut(id).counters.conflicts += 1;
                Failure::Conflict(conflict)
            }
            Refused::Fenced => Failure::Fenced,
            Refused::DiskFull => {
                self.troubled(id, "no space left on the disk");
                Failure::DiskFull
            }
            Refused::QuotaExceeded(bytes) => Failure::QuotaExceeded(bytes),
            Refused::OutOfOrder(last) => Failure::TidOutOfOrder(last),
            Refused::Failed(text) => {
                self.troubled(id, &text);
                Failure::StorageFailed(text)
            }
            Refused::Unknown(text) => {
                self.troubled(id, &text);
                Failure::OutcomeUnknown(text)
            }
        };
        self.fail(cx, caller, failure);
    }

    /// Says why commits are refused once, and not for each of them: the disk that is full may be
    /// that of the log.
    fn troubled(&mut self, id: DatabaseId, why: &str) {
        let database = self.databases.at_mut(id);
        if database.trouble.as_deref() != Some(why) {
            tracing::error!(storage = database.name, "commits are refused: {why}");
            database.trouble = Some(why.to_owned());
        }
    }

    /// Whether the group is durable is not known: that is said to everybody in it.
    fn apply_panicked(
        &mut self,
        id: DatabaseId,
        panicked: &JobPanicked,
        count: usize,
    ) -> Vec<Result<Applied, Refused>> {
        tracing::error!("the commit stage panicked: {panicked}");
        if self.limits.abort_on_panic {
            std::process::abort();
        }
        self.databases.at_mut(id).commits.broken = true;
        vec![Err(Refused::Unknown("the commit stage panicked".to_owned())); count]
    }

    fn refuse_waiting(&mut self, cx: &mut Context<Self>, id: DatabaseId, failure: &str) {
        let waiting = core::mem::take(&mut self.databases.at_mut(id).commits.waiting);
        for (_, waiter) in waiting {
            self.complete(cx, id, waiter, Err(Refused::Failed(failure.to_owned())));
        }
    }

    /// Which database a connection's session uses.
    pub(crate) fn database_of(&self, conn: ConnId) -> Option<DatabaseId> {
        self.sessions.get(&conn).map(|session| session.database)
    }
}

/// Lets the answers leave before the invalidations of this turn: a connection's output leaves in
/// the order in which connections were touched, and an audience of a thousand takes a millisecond.
fn answer_first(cx: &mut Context<Server>, waiters: &[Waiter]) {
    for waiter in waiters {
        if let Waiter::Commit { caller, .. } = waiter {
            cx.transport(caller.conn);
        }
    }
}

/// Takes what waits, up to a group's bounds; at least one operation.
fn take_group(
    queue: &mut CommitQueue,
    max_operations: usize,
    max_bytes: u64,
) -> (Vec<Operation>, Vec<Waiter>) {
    let (mut group, mut total) = ((Vec::new(), Vec::new()), 0);
    while let Some((operation, waiter)) = queue.waiting.pop_front() {
        if let Waiter::Commit { bytes, .. } = waiter {
            total += bytes;
        }
        group.0.push(operation);
        group.1.push(waiter);
        if group.0.len() == max_operations || total >= max_bytes {
            break;
        }
    }
    group
}

/// What was just written is what will be read; what waited in a file is not worth the memory.
fn replace_hot(database: &mut Database, tid: Tid, oids: &[Oid], writes: Writes) {
    if oids.len() > MANY {
        return database.hot.remove_many(oids);
    }
    for (oid, data) in writes.into_data() {
        match data {
            Some(data) => database.hot.insert(oid, tid, &data),
            None => database.hot.remove(oid),
        }
    }
}

/// Transactions that a session may have fenced; then it is told `Busy`. A client asks once for each
/// commit whose answer was lost, and a connection carries 256 at once. All fences together have a
/// bound as well, beyond which the oldest are kept through a floor that others may meet.
const MAX_FENCED: usize = 1_024;
