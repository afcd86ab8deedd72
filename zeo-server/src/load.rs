//! Loads: from memory in the same turn, else from the storage in the load stage; sealed before
//! they are sent.
//!
//! A load is done as of the last tid *published* when it was asked. By the time its result is back
//! in the reactor, more may have been published, and the reader may have been told: so the result
//! is *sealed*, its revision ended at the first commit of that object that the load did not see,
//! and a reader who asked for what is newest gets another load instead. That is done when the
//! result is back, and again when it leaves its lane, which may be later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::{Failure, Loaded, MAX_BATCH, Oid, Reply, ServerMessage, Tid, Validity};
use zeo_reactor::{ConnId, Context, JobPanicked};

use crate::batch::Page;
use crate::database::{Database, DatabaseId, begin_job};
use crate::lane::{Answer, Outgoing, Wanted};
use crate::memory::Part;
use crate::outgoing::send;
use crate::recent::Since;
use crate::rules::Rules;
use crate::server::Server;
use crate::session::{Caller, Session};
use crate::storage::{Found, Storage, StorageError};

/// What a job of the load stage found, in the order of what was wanted; the last may be missing.
type Results = Vec<Result<Found, StorageError>>;

/// Loads of one database that wait for a thread of the load stage.
///
/// Bounded by what the sessions' lanes let through. A thread takes what has gathered while it was
/// busy, so that a hand-over between threads is paid once for many loads; of each session one, then
/// of each another, so that who wants one object does not wait for who wants a thousand.
#[derive(Debug, Default)]
pub(crate) struct LoadQueue {
    /// In the order asked, of each session; none is empty.
    waiting: BTreeMap<ConnId, VecDeque<Wanted>>,
    /// Whose turn is next.
    turns: VecDeque<ConnId>,
    /// How many loads wait.
    len: usize,
    /// How many loads of which sessions are in the stage.
    in_stage: BTreeMap<ConnId, usize>,
    /// Jobs in the stage now; at most one a thread.
    jobs: usize,
}

impl LoadQueue {
    /// Puts a load behind those of its session.
    fn push(&mut self, wanted: Wanted) {
        let conn = wanted.target.caller().conn;
        let of_session = self.waiting.entry(conn).or_default();
        if of_session.is_empty() {
            self.turns.push_back(conn);
        }
        of_session.push_back(wanted);
        self.len += 1;
    }

    /// How many threads may work now. Sessions for which one works already leave another to those
    /// who may come, if there are `others`: they would wait for large objects of somebody else.
    fn share_of(&self, threads: usize, others: bool) -> usize {
        let leaves_one = others && !self.some_have_none();
        threads.saturating_sub(usize::from(leaves_one)).max(1)
    }

    /// Whether a session waits for which no thread works.
    fn some_have_none(&self) -> bool {
        self.turns.iter().any(|conn| !self.in_stage.contains_key(conn))
    }

    /// Takes a thread's share of the loads that somebody still waits for; first of those sessions
    /// for which no other thread works.
    fn take_job(&mut self, threads: usize, sessions: &BTreeMap<ConnId, Session>) -> Vec<Wanted> {
        let share = self.len.div_ceil(threads).min(LOADS_PER_JOB);
        let some_have_none = self.some_have_none();
        let (mut job, mut later) = (Vec::with_capacity(share), VecDeque::new());
        while job.len() < share
            && let Some(conn) = self.turns.pop_front()
        {
            if !sessions.contains_key(&conn) {
                self.len -= self.waiting.remove(&conn).map_or(0, |unwanted| unwanted.len());
            } else if some_have_none && self.in_stage.contains_key(&conn) {
                later.push_back(conn);
            } else {
                job.extend(self.take_one(conn));
            }
        }
        later.append(&mut self.turns);
        self.turns = later;
        for wanted in &job {
            *self.in_stage.entry(wanted.target.caller().conn).or_default() += 1;
        }
        job
    }

    /// A job came back from the stage.
    fn end_job(&mut self, job: &[Wanted]) {
        self.jobs -= 1;
        for wanted in job {
            let conn = wanted.target.caller().conn;
            if let Some(count) = self.in_stage.get_mut(&conn) {
                *count -= 1;
                if *count == 0 {
                    self.in_stage.remove(&conn);
                }
            }
        }
    }

    /// Takes the next load of a session, which then waits for its next turn.
    fn take_one(&mut self, conn: ConnId) -> Option<Wanted> {
        let of_session = self.waiting.get_mut(&conn)?;
        let wanted = of_session.pop_front();
        if of_session.is_empty() {
            self.waiting.remove(&conn);
        } else {
            self.turns.push_back(conn);
        }
        self.len -= usize::from(wanted.is_some());
        wanted
    }

    /// Nothing is in the stage.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs == 0
    }
}

impl Server {
    pub(crate) fn load_before(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        oid: Oid,
        before: Tid,
    ) {
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        session.lane.push(caller, oid, before);
        self.advance_lane(cx, caller.conn);
    }

    pub(crate) fn load_many(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        before: Tid,
        oids: Vec<Oid>,
    ) {
        debug_assert!(oids.len() <= MAX_BATCH, "the codec checks it");
        if oids.is_empty() {
            return self.reply(cx, caller, Reply::LoadedMany(Vec::new(), false));
        }
        let Some(session) = self.sessions.get_mut(&caller.conn) else { return };
        session.lane.push_batch(caller, before, oids);
        if let Some(transport) = cx.transport(caller.conn) {
            transport.yield_turn();
        }
        self.advance_lane(cx, caller.conn);
    }

    /// Answers or begins the loads that a session waits for, as long as its peer takes in what is
    /// sent to it; called again when that, or the number of its loads in the stage, has changed.
    /// When they are many, it goes on in the next turn, after the others.
    pub(crate) fn advance_lane(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn) else { return };
        if session.lane.advances_later {
            return;
        }
        let id = session.database;
        let steps = (0..STEPS_PER_TURN).take_while(|_| self.advance_once(cx, (id, conn))).count();
        if steps == STEPS_PER_TURN {
            self.advance_later(cx, conn);
        }
        self.pump_loads(cx, id);
        let memory = self.sessions.get_mut(&conn).and_then(|session| session.lane.memory_anew());
        if let Some(bytes) = memory {
            self.holds(cx, conn, Part::Loads, bytes);
        }
    }

    /// Answers or begins one load; whether there was one.
    fn advance_once(&mut self, cx: &mut Context<Self>, (id, conn): (DatabaseId, ConnId)) -> bool {
        if cx.transport(conn).is_none_or(|transport| transport.output_len() >= CONGESTED) {
            return false;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return false };
        let (database, rules) = (self.databases.at_mut(id), self.rules);
        let outgoing = session.lane.pop_outgoing(|answer| seal(database, rules, answer));
        if let Some(outgoing) = outgoing {
            self.send_outgoing(cx, outgoing);
            return true;
        }
        let Some(wanted) = session.lane.next() else { return false };
        if let Some(found) = load_hot(database, &wanted) {
            session.lane.answered(Answer { wanted, found, as_of: database.published });
        } else {
            session.lane.sent();
            database.loads.push(wanted);
        }
        true
    }

    fn advance_later(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.lane.advances_later = true;
        cx.call_soon(move |server: &mut Self, cx| {
            let Some(session) = server.sessions.get_mut(&conn) else { return };
            session.lane.advances_later = false;
            server.advance_lane(cx, conn);
            server.regulate(cx, conn);
        });
    }

    fn send_outgoing(&mut self, cx: &mut Context<Self>, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Found(caller, found) => {
                let (loaded, data) = found.into_outgoing();
                self.reply_with(cx, caller, Reply::Loaded(loaded), &data);
            }
            Outgoing::Page(caller, Page { loaded, data }, true) => {
                let message = ServerMessage::Reply(caller.call, Reply::LoadedMany(loaded, true));
                send(cx, caller.conn, &message, &data.into());
            }
            Outgoing::Page(caller, Page { loaded, data }, false) => {
                self.reply_with(cx, caller, Reply::LoadedMany(loaded, false), &data.into());
            }
            Outgoing::Failed(caller, failure) => self.fail(cx, caller, failure),
        }
    }

    /// Gives waiting loads to the stage, as many jobs as it has threads.
    fn pump_loads(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let threads = self.limits.load_threads;
        let others = self.sessions.len() > 1;
        let database = self.databases.at_mut(id);
        while database.loads.jobs < database.loads.share_of(threads, others) {
            let job = database.loads.take_job(threads, &self.sessions);
            if job.is_empty() {
                return;
            }
            let names = job.iter().map(|wanted| (wanted.oid, wanted.before)).collect();
            let (storage, as_of) = (Arc::clone(&database.storage), database.published);
            let work = move || load_some(&*storage, names, as_of);
            let then = move |server: &mut Self, cx: &mut Context<Self>, results| {
                server.loaded(cx, id, as_of, (job, results));
            };
            database.loads.jobs += 1;
            begin_job(cx, database.stages.load, work, then);
        }
    }

    fn loaded(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        as_of: Tid,
        (job, results): (Vec<Wanted>, Result<Results, JobPanicked>),
    ) {
        self.databases.at_mut(id).loads.end_job(&job);
        match results {
            Ok(results) => {
                let mut job = job.into_iter();
                // The results first: where they end, the job's next load must not be taken.
                for (result, wanted) in results.into_iter().zip(job.by_ref()) {
                    self.seal_and_return(cx, id, as_of, (wanted, result));
                }
                for wanted in job.rev() {
                    self.undone(cx, wanted);
                }
            }
            Err(panicked) => {
                tracing::error!("a load panicked: {panicked}");
                for wanted in job {
                    let failure = Failure::StorageFailed("the load panicked".to_owned());
                    self.load_failed(cx, wanted, failure);
                }
            }
        }
        self.pump_loads(cx, id);
        self.advance_stop(cx);
    }

    fn seal_and_return(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        as_of: Tid,
        (wanted, result): (Wanted, Result<Found, StorageError>),
    ) {
        let found = match result {
            Ok(found) => found,
            Err(error) => return self.load_failed(cx, wanted, load_failure(wanted.oid, &error)),
        };
        let database = self.databases.at_mut(id);
        match seal(database, self.rules, Answer { wanted, found, as_of }) {
            Ok(answer) => {
                if let Found::Revision(Validity { serial, end: None }, data) = &answer.found {
                    database.hot.insert(wanted.oid, *serial, data);
                }
                self.returned(cx, answer);
            }
            Err(wanted) => database.loads.push(wanted),
        }
    }

    /// A load came back from the stage: there is room for another of its session.
    fn returned(&mut self, cx: &mut Context<Self>, answer: Answer) {
        let conn = answer.wanted.target.caller().conn;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.lane.returned(answer);
        self.advance_lane(cx, conn);
    }

    fn load_failed(&mut self, cx: &mut Context<Self>, wanted: Wanted, failure: Failure) {
        let conn = wanted.target.caller().conn;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.lane.failed(wanted.target, failure);
        self.advance_lane(cx, conn);
    }

    /// The job had enough with what it loaded before this one.
    fn undone(&mut self, cx: &mut Context<Self>, wanted: Wanted) {
        let conn = wanted.target.caller().conn;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.lane.undone(wanted);
        self.advance_lane(cx, conn);
    }
}

/// The current revision from memory, if that is what the reader wants.
fn load_hot(database: &mut Database, wanted: &Wanted) -> Option<Found> {
    database.counters.loads += 1;
    let record = database.hot.find(wanted.oid, wanted.before)?;
    database.counters.hot_loads += 1;
    let validity = Validity { serial: record.serial, end: None };
    Some(Found::Revision(validity, record.data.clone()))
}

/// Ends a revision at the first commit that its load did not see. The error is a load to be done
/// again: its reader asked for something newer than was found.
fn seal(database: &Database, rules: Rules, answer: Answer) -> Result<Answer, Wanted> {
    let Answer { wanted, found, as_of } = answer;
    let published = database.published;
    if published == as_of || !rules.seal {
        return Ok(Answer { wanted, found, as_of });
    }
    let end = match database.recent.first_after(wanted.oid, as_of) {
        Since::Unchanged => return Ok(Answer { wanted, found, as_of: published }),
        Since::ChangedAt(tid) => tid,
        Since::Forgotten => as_of.next(),
    };
    if end < wanted.before {
        return Err(wanted);
    }
    let found = match found {
        Found::Absent => Found::Absent,
        Found::Deleted(validity) => Found::Deleted(end_at(validity, end)),
        Found::Revision(validity, data) => Found::Revision(end_at(validity, end), data),
    };
    Ok(Answer { wanted, found, as_of: published })
}

fn end_at(validity: Validity, end: Tid) -> Validity {
    Validity { end: validity.end.or(Some(end)), ..validity }
}

/// The work of one job: as many of the loads as give a bounded amount of data, at least one.
fn load_some(storage: &dyn Storage, names: Vec<(Oid, Tid)>, as_of: Tid) -> Results {
    let (mut results, mut bytes) = (Vec::with_capacity(names.len()), 0);
    for (oid, before) in names {
        let result = storage.load_before(oid, before, as_of);
        if let Ok(Found::Revision(_, data)) = &result {
            bytes += data.len();
        }
        results.push(result);
        if bytes >= BYTES_PER_JOB {
            break;
        }
    }
    results
}

fn load_failure(oid: Oid, error: &StorageError) -> Failure {
    tracing::error!(%oid, "load: {error}");
    match error {
        StorageError::Damaged(_) => Failure::Damaged(error.to_string()),
        StorageError::Io { .. } | StorageError::Index(_) => {
            Failure::StorageFailed(error.to_string())
        }
    }
}

impl Found {
    /// What a reply says of it, and the data that goes with that.
    pub(crate) fn into_outgoing(self) -> (Loaded, Bytes) {
        match self {
            Self::Absent => (Loaded::Absent, Bytes::new()),
            Self::Deleted(validity) => (Loaded::Deleted(validity), Bytes::new()),
            Self::Revision(validity, data) => {
                let length = u32::try_from(data.len()).expect("an object fits a frame");
                (Loaded::Revision(validity, length), data)
            }
        }
    }
}

/// Answers and loads of one lane in one turn.
const STEPS_PER_TURN: usize = 64;
/// A job takes at most so many loads, so that a long queue is shared among the threads.
const LOADS_PER_JOB: usize = 32;
/// Bytes after which a job leaves the rest of its loads undone, for others' loads to come before them:
/// 512 KiB.
const BYTES_PER_JOB: usize = 512 << 10;
/// Bytes of waiting output at which a session's loads wait too, and it is not read: 512 KiB. The largest answer on top
/// of that is within the bound for a peer's output.
pub(crate) const CONGESTED: usize = 512 << 10;
/// Bytes to which the output must have fallen before they go on.
pub(crate) const UNCONGESTED: usize = CONGESTED / 4;
