//! Loads: from memory in the same turn, else from the storage in the load stage; sealed before
//! they are sent.
//!
//! A load is done as of the last tid *published* when it was asked. By the time its result is back
//! in the reactor, more may have been published, and the reader may have been told: so the result
//! is *sealed*, its revision ended at the first commit of that object that the load did not see,
//! and a reader who asked for what is newest gets another load instead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeo_proto::{Failure, Loaded, MAX_BATCH, MAX_FRAME, Oid, Reply, ServerMessage, Tid, Validity};
use zeo_reactor::{Context, JobPanicked};

use crate::database::{Database, DatabaseId};
use crate::outgoing::send;
use crate::recent::Since;
use crate::server::Server;
use crate::session::Caller;
use crate::storage::{Found, Storage, StorageError};

/// What an answered load says.
type Answer = Result<Found, Failure>;

/// What a job of the load stage found, in the order of what was wanted.
type Results = Vec<Result<Found, StorageError>>;

/// Loads of one database that wait for a thread of the load stage.
///
/// Bounded by the calls in flight of all sessions. A thread takes what has gathered while it was
/// busy, so that a hand-over between threads is paid once for many loads.
#[derive(Debug, Default)]
pub(crate) struct LoadQueue {
    waiting: VecDeque<Wanted>,
    /// Jobs in the stage now; at most one a thread.
    jobs: usize,
    batches: BTreeMap<BatchId, Batch>,
    next_batch: BatchId,
}

/// One object that somebody waits for.
#[derive(Debug)]
struct Wanted {
    oid: Oid,
    before: Tid,
    target: Target,
}

/// Where a loaded object goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// It is the answer to this call.
    Call(Caller),
    /// It is one of many, at this place in the batch.
    Batch(BatchId, usize),
}

type BatchId = u64;

/// The answer to a `LoadMany`, as far as it is there.
#[derive(Debug)]
struct Batch {
    caller: Caller,
    answers: Vec<Option<Answer>>,
    missing: usize,
}

impl LoadQueue {
    fn begin_batch(&mut self, batch: Batch) -> BatchId {
        let id = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(id, batch);
        id
    }

    /// Puts an answer in its place; the batch comes back when it was the last.
    fn fill(&mut self, id: BatchId, place: usize, answer: Answer) -> Option<Batch> {
        let batch = self.batches.get_mut(&id)?;
        *batch.answers.get_mut(place)? = Some(answer);
        batch.missing -= 1;
        if batch.missing == 0 { self.batches.remove(&id) } else { None }
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
        let Some(id) = self.database_of(caller.conn) else { return };
        if let Some(found) = self.load_hot(id, oid, before) {
            return self.answer(cx, caller, Ok(found));
        }
        let wanted = Wanted { oid, before, target: Target::Call(caller) };
        self.databases.at_mut(id).loads.waiting.push_back(wanted);
        self.pump_loads(cx, id);
    }

    pub(crate) fn load_many(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        before: Tid,
        oids: Vec<Oid>,
    ) {
        debug_assert!(oids.len() <= MAX_BATCH, "the codec checks it");
        let Some(id) = self.database_of(caller.conn) else { return };
        let answers: Vec<Option<Answer>> =
            oids.iter().map(|&oid| self.load_hot(id, oid, before).map(Ok)).collect();
        let absent: Vec<(usize, Oid)> = (0..)
            .zip(oids)
            .zip(&answers)
            .filter_map(|(wanted, answer)| answer.is_none().then_some(wanted))
            .collect();
        if absent.is_empty() {
            return self.answer_many(cx, caller, answers.into_iter().flatten());
        }
        let loads = &mut self.databases.at_mut(id).loads;
        let batch = loads.begin_batch(Batch { caller, answers, missing: absent.len() });
        loads.waiting.extend(absent.into_iter().map(|(place, oid)| Wanted {
            oid,
            before,
            target: Target::Batch(batch, place),
        }));
        self.pump_loads(cx, id);
    }

    /// The current revision from memory, if that is what the reader wants.
    fn load_hot(&mut self, id: DatabaseId, oid: Oid, before: Tid) -> Option<Found> {
        let database = self.databases.at_mut(id);
        database.counters.loads += 1;
        let record = database.hot.find(oid, before)?;
        let validity = Validity { serial: record.serial, end: None };
        let found = Found::Revision(validity, record.data.clone());
        database.counters.hot_loads += 1;
        Some(found)
    }

    /// Gives waiting loads to the stage, as many jobs as it has threads.
    fn pump_loads(&mut self, cx: &mut Context<Self>, id: DatabaseId) {
        let threads = self.limits.load_threads;
        let database = self.databases.at_mut(id);
        while database.loads.jobs < threads && !database.loads.waiting.is_empty() {
            let share = database.loads.waiting.len().div_ceil(threads).min(LOADS_PER_JOB);
            let job: Vec<Wanted> = database.loads.waiting.drain(..share).collect();
            let names = job.iter().map(|wanted| (wanted.oid, wanted.before)).collect();
            let (storage, as_of) = (Arc::clone(&database.storage), database.published);
            let work = move || load_all(&*storage, names, as_of);
            let then = move |server: &mut Self, cx: &mut Context<Self>, results| {
                server.loaded(cx, id, as_of, (job, results));
            };
            database.loads.jobs += 1;
            cx.defer_to_stage(database.stages.load, work, then)
                .expect("the stage's bound is its number of threads, which is not exceeded here");
        }
    }

    fn loaded(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        as_of: Tid,
        (job, results): (Vec<Wanted>, Result<Results, JobPanicked>),
    ) {
        self.databases.at_mut(id).loads.jobs -= 1;
        match results {
            Ok(results) => {
                for (wanted, result) in job.into_iter().zip(results) {
                    self.seal_and_deliver(cx, id, as_of, (wanted, result));
                }
            }
            Err(panicked) => {
                tracing::error!("a load panicked: {panicked}");
                for wanted in job {
                    let failure = Failure::StorageFailed("the load panicked".to_owned());
                    self.deliver(cx, id, wanted.target, Err(failure));
                }
            }
        }
        self.pump_loads(cx, id);
    }

    fn seal_and_deliver(
        &mut self,
        cx: &mut Context<Self>,
        id: DatabaseId,
        as_of: Tid,
        (wanted, result): (Wanted, Result<Found, StorageError>),
    ) {
        let rules = self.rules;
        let database = self.databases.at_mut(id);
        let answer = match result {
            Ok(found) if !rules.seal => Ok(found),
            Ok(found) => match seal(database, &wanted, as_of, found) {
                Some(found) => Ok(found),
                None => return database.loads.waiting.push_back(wanted),
            },
            Err(error) => Err(load_failure(wanted.oid, &error)),
        };
        if let Ok(Found::Revision(Validity { serial, end: None }, data)) = &answer {
            database.hot.insert(wanted.oid, *serial, data);
        }
        self.deliver(cx, id, wanted.target, answer);
    }

    fn deliver(&mut self, cx: &mut Context<Self>, id: DatabaseId, target: Target, answer: Answer) {
        match target {
            Target::Call(caller) => self.answer(cx, caller, answer),
            Target::Batch(batch, place) => {
                let loads = &mut self.databases.at_mut(id).loads;
                if let Some(batch) = loads.fill(batch, place, answer) {
                    self.answer_many(cx, batch.caller, batch.answers.into_iter().flatten());
                }
            }
        }
    }

    fn answer(&mut self, cx: &mut Context<Self>, caller: Caller, answer: Answer) {
        match answer {
            Ok(found) => {
                let (loaded, data) = outgoing(found);
                self.reply_with(cx, caller, Reply::Loaded(loaded), &data);
            }
            Err(failure) => self.fail(cx, caller, failure),
        }
    }

    /// Answers a batch, in pages that each fit a frame; one failure fails it whole.
    fn answer_many(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        answers: impl Iterator<Item = Answer>,
    ) {
        let found: Result<Vec<Found>, Failure> = answers.collect();
        let found = match found {
            Ok(found) => found,
            Err(failure) => return self.fail(cx, caller, failure),
        };
        let mut page = (Vec::with_capacity(found.len()), BytesMut::new());
        for found in found {
            let (loaded, data) = outgoing(found);
            if page.1.len() + data.len() > PAGE_BYTES && !page.0.is_empty() {
                let (head, tail) = core::mem::take(&mut page);
                let message = ServerMessage::Reply(caller.call, Reply::LoadedMany(head, true));
                send(cx, caller.conn, &message, &tail.freeze());
            }
            page.0.push(loaded);
            page.1.extend_from_slice(&data);
        }
        self.reply_with(cx, caller, Reply::LoadedMany(page.0, false), &page.1.freeze());
    }
}

/// Ends a revision at the first commit that its load did not see; `None` where the reader asked for
/// something newer than was found and has to be served by another load.
fn seal(database: &Database, wanted: &Wanted, as_of: Tid, found: Found) -> Option<Found> {
    if database.published == as_of {
        return Some(found);
    }
    let end = match database.recent.first_after(wanted.oid, as_of) {
        Since::Unchanged => return Some(found),
        Since::ChangedAt(tid) => tid,
        Since::Forgotten => as_of.next(),
    };
    if end < wanted.before {
        return None;
    }
    Some(match found {
        Found::Absent => Found::Absent,
        Found::Deleted(validity) => Found::Deleted(end_at(validity, end)),
        Found::Revision(validity, data) => Found::Revision(end_at(validity, end), data),
    })
}

fn end_at(validity: Validity, end: Tid) -> Validity {
    Validity { end: validity.end.or(Some(end)), ..validity }
}

/// The work of one job.
fn load_all(storage: &dyn Storage, names: Vec<(Oid, Tid)>, as_of: Tid) -> Results {
    names.into_iter().map(|(oid, before)| storage.load_before(oid, before, as_of)).collect()
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

fn outgoing(found: Found) -> (Loaded, Bytes) {
    match found {
        Found::Absent => (Loaded::Absent, Bytes::new()),
        Found::Deleted(validity) => (Loaded::Deleted(validity), Bytes::new()),
        Found::Revision(validity, data) => {
            let length = u32::try_from(data.len()).expect("an object fits a frame");
            (Loaded::Revision(validity, length), data)
        }
    }
}

/// A job takes at most so many loads, so that a long queue is shared among the threads.
const LOADS_PER_JOB: usize = 64;
/// A page of a batch ends at about this many bytes; one object may be larger.
const PAGE_BYTES: usize = 1 << 20;
const _: () = assert!(PAGE_BYTES < MAX_FRAME);
