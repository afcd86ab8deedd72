//! Publication: what has become durable is told, in tid order and in one turn.
//!
//! A commit is remembered, its hot records are replaced, the others are invalidated, its writer is
//! answered, its object locks are let go. The next group is already on its way to the stage by
//! then, since what it needs is durability, not publication.

use zeo_proto::{Failure, Oid, Outcome, Reply, Tid};
use zeo_reactor::{ConnId, Context, JobPanicked};

use crate::commit_queue::{Committing, Results, Waiter};
use crate::database::{Database, DatabaseId};
use crate::outgoing;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Applied, Refused};
use crate::writes::{MANY, Writes};

impl Server {
    /// A group came back from the commit stage.
    pub(crate) fn applied(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        waiters: Vec<Waiter>,
        done: Result<Results, JobPanicked>,
    ) {
        let count = waiters.len();
        let results = done.unwrap_or_else(|panicked| self.apply_panicked(id, &panicked, count));
        let database = self.databases.at_mut(id);
        database.commits.applying = false;
        // Before the next job is begun: until then the stage has worked for groups up to this one.
        if let Some(report) = cx.stage_report(database.stages.commit) {
            database.groups.worked(report.worked);
        }
        self.pump_commits(cx, id);
        answer_first(cx, &waiters);
        for (waiter, result) in waiters.into_iter().zip(results) {
            self.complete(cx, id, waiter, result);
        }
        self.run_chores(cx, id);
        self.advance_stop(cx);
    }

    pub(crate) fn complete(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        waiter: Waiter,
        (result, writes): (Result<Applied, Refused>, Writes),
    ) {
        match (waiter, result) {
            (Waiter::Commit(commit), result) => {
                self.committed(cx, id, commit, result.map(|applied| (applied, writes)));
            }
            (Waiter::Check(lock), result) => self.checked(cx, id, lock, result),
            (Waiter::Oids(count), Ok(Applied::Reserved(first))) => {
                self.reserved(cx, id, first, count);
            }
            (Waiter::Oids(_), Err(refused)) => self.not_reserved(cx, id, refused),
            (Waiter::Outcome(caller), Ok(Applied::Outcome(outcome))) => {
                let session = self.sessions.get_mut(&caller.conn);
                if let Some(session) = session.filter(|_| outcome == Outcome::NotCommitted) {
                    session.fenced.add(cx.now());
                }
                self.reply(cx, caller, Reply::Outcome(outcome));
            }
            (Waiter::Outcome(caller), Err(refused)) => self.refused(cx, id, caller, refused),
            (waiter, Ok(applied)) => unreachable!("{waiter:?} was answered with {applied:?}"),
        }
    }

    fn committed(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        commit: Committing,
        result: Result<(Applied, Writes), Refused>,
    ) {
        let Committing { caller, memory, lock, passage, tells_writer, .. } = commit;
        self.databases.at_mut(id).under_way.end(passage);
        let before = self.buffered_bytes;
        self.buffered_bytes -= memory;
        self.buffered(cx, caller.conn, before);
        match result {
            Ok((Applied::Committed(tid), writes)) => {
                // A transaction that was sent again was published the first time.
                if tid > self.databases.at(id).published {
                    let knows = (!tells_writer).then_some(caller.conn);
                    self.publish(cx, id, tid, (knows, writes));
                }
                self.finished(cx, caller, tid);
            }
            Ok((other, _)) => unreachable!("a commit was answered with {other:?}"),
            Err(refused) => self.refused(cx, id, caller, refused),
        }
        if let Some(lock) = lock {
            self.release(cx, id, lock);
        }
    }

    /// Answers the writer of a durable commit.
    fn finished(&mut self, cx: &mut Context<Self>, caller: Caller, tid: Tid) {
        if let Some(session) = self.sessions.get_mut(&caller.conn) {
            session.commits += 1;
        }
        self.reply(cx, caller, Reply::Finished(tid));
    }

    /// Makes a durable commit visible to everybody.
    fn publish(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        tid: Tid,
        (by, writes): (Option<ConnId>, Writes),
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

    /// Tells everybody of a commit but its writer, who knows what it wrote.
    fn invalidate(
        &self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        tid: Tid,
        (by, oids): (Option<ConnId>, &[Oid]),
    ) {
        if self.rules.invalidate {
            let audience = self.databases.at(id).audience.iter().copied();
            let others = audience.filter(|&conn| Some(conn) != by);
            outgoing::invalidate(cx, others, tid, self.rules.told(oids));
        }
    }

    pub(crate) fn refused(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        caller: Caller,
        refused: Refused,
    ) {
        let failure = self.failure(id, refused);
        self.fail(cx, caller, failure);
    }

    /// What a client is told of a refusal; an operator hears of it where that is for him to mend.
    pub(crate) fn failure(&mut self, id: DatabaseId, refused: Refused) -> Failure {
        let text = refused.to_string();
        match refused {
            Refused::Conflict(conflict) => {
                self.databases.at_mut(id).counters.conflicts += 1;
                Failure::Conflict(conflict)
            }
            Refused::Fenced => Failure::Fenced,
            Refused::DiskFull => {
                self.troubled(id, &text);
                Failure::DiskFull
            }
            Refused::QuotaExceeded(bytes) => {
                self.troubled(id, &text);
                Failure::QuotaExceeded(bytes)
            }
            Refused::OutOfOrder(last) => Failure::TidOutOfOrder(last),
            Refused::Failed(text) => {
                self.troubled(id, &text);
                Failure::StorageFailed(text)
            }
            Refused::Unknown(text) => {
                self.troubled(id, &text);
                Failure::OutcomeUnknown(text)
            }
        }
    }

    /// Says why commits are refused, once and not for each of them: the disk that is full may be
    /// that of the log.
    fn troubled(&mut self, id: DatabaseId, why: &str) {
        let database = self.databases.at_mut(id);
        if database.trouble.as_deref() != Some(why) {
            tracing::error!(storage = database.name, "commits are refused: {why}");
            database.trouble = Some(why.to_owned());
        }
    }

    /// Whether the group is durable is not known: that is said to everybody in it.
    fn apply_panicked(&mut self, id: DatabaseId, panicked: &JobPanicked, count: usize) -> Results {
        tracing::error!("the commit stage panicked: {panicked}");
        if self.limits.abort_on_panic {
            std::process::abort();
        }
        self.databases.at_mut(id).commits.broken = true;
        let unknown = || Err(Refused::Unknown("the commit stage panicked".to_owned()));
        std::iter::repeat_with(|| (unknown(), Writes::default())).take(count).collect()
    }
}

/// Lets the answers leave before the invalidations of this turn: a connection's output leaves in
/// the order in which connections were touched, and an audience of a thousand takes a millisecond.
fn answer_first(cx: &mut Context<Server>, waiters: &[Waiter]) {
    for waiter in waiters {
        if let Waiter::Commit(commit) = waiter {
            cx.transport(commit.caller.conn);
        }
    }
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
