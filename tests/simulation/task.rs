//! What a client does in a simulation: one transaction after the other, a step whenever something
//! it waits for is there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{
    CallError, Client, CommitError, Deferred, InDoubt, LoadError, Outcome, Revision, Transaction,
};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::disk::Random;

use crate::errand::Errand;
use crate::model::{Attempt, Fate, Record};

/// A worker on a client.
pub(crate) struct Task {
    name: String,
    transactions: u32,
    state: State,
}

enum State {
    /// Nothing is under way.
    Resting,
    /// Something else than a transaction is.
    Erring(Errand),
    /// Loads are, one after the other.
    Reading(Reading),
    /// A commit is.
    Committing(Attempt, Deferred<Result<Tid, CommitError>>),
    /// The question is what became of one.
    Asking(Attempt, InDoubt, Deferred<Result<Outcome, CallError>>),
}

struct Reading {
    txn: Transaction,
    wanted: Vec<Oid>,
    load: Option<(Oid, Deferred<Result<Revision, LoadError>>)>,
    reads: BTreeMap<Oid, Option<Tid>>,
}

impl Task {
    /// A worker that will make so many transactions.
    pub(crate) fn new(name: String, transactions: u32) -> Self {
        Self { name, transactions, state: State::Resting }
    }

    /// It has nothing under way and will begin nothing.
    pub(crate) fn is_done(&self) -> bool {
        self.transactions == 0 && matches!(self.state, State::Resting)
    }

    /// Its client died: nobody will hear what became of what is under way.
    pub(crate) fn died(self, record: &mut Record) {
        match self.state {
            State::Committing(attempt, _) => record.ended(attempt, Fate::Unknown),
            State::Asking(attempt, doubt, _) => record.orphans.push((attempt, doubt)),
            State::Resting | State::Erring(_) | State::Reading(_) => {}
        }
    }

    /// Its client was closed: everything under way has ended, one way or another.
    pub(crate) fn closed(mut self, client: &Client, random: &mut Random, record: &mut Record) {
        self.transactions = 0;
        for _ in 0..ANSWERS_MAX {
            self.go_on(client, random, record);
        }
        assert!(self.is_done(), "{}: a call of a closed client hangs", self.name);
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn go_on(&mut self, client: &Client, random: &mut Random, record: &mut Record) {
        self.state = match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => self.begin(client, random, record),
            State::Erring(errand) => {
                errand.go_on(client, record).map_or(State::Resting, State::Erring)
            }
            State::Reading(reading) => self.read(reading, client, random, record),
            State::Committing(attempt, commit) => committing(attempt, commit, client, record),
            State::Asking(attempt, doubt, outcome) => asking(attempt, doubt, outcome, record),
        };
    }

    fn begin(&mut self, client: &Client, random: &mut Random, record: &mut Record) -> State {
        if self.transactions == 0 || random.below(4) > 0 {
            return State::Resting;
        }
        // Mostly it waits for a connection, so that not everything happens where there is none.
        if !client.is_connected() && random.below(64) > 0 {
            return State::Resting;
        }
        if let Some((attempt, doubt)) = record.orphans.pop() {
            return ask(attempt, doubt, client);
        }
        if random.below(3) == 0 {
            return State::Erring(Errand::begin(client, random, record));
        }
        self.transactions -= 1;
        let wanted = (0..=random.below(4)).map(|_| any_oid(random)).collect();
        let txn = client.begin().unwrap();
        State::Reading(Reading { txn, wanted, load: None, reads: BTreeMap::new() })
    }

    fn read(
        &mut self,
        mut reading: Reading,
        client: &Client,
        random: &mut Random,
        record: &mut Record,
    ) -> State {
        let before = reading.txn.snapshot().next();
        if let Some((oid, mut load)) = reading.load.take() {
            let Some(answer) = load.try_take() else {
                reading.load = Some((oid, load));
                return State::Reading(reading);
            };
            // Without an answer, the transaction is aborted.
            let Ok(found) = found(answer.unwrap()) else { return State::Resting };
            let serial = found.as_ref().map(|revision| revision.tid);
            record.observe(oid, before, found);
            if let Some(serial) = serial {
                reading.txn.saw(oid, serial);
            }
            reading.reads.insert(oid, serial);
            return State::Reading(reading);
        }
        if let Some(oid) = reading.wanted.pop() {
            reading.load = Some((oid, client.nb().load_before(oid, before)));
            return State::Reading(reading);
        }
        self.commit(reading, client, random)
    }

    /// Writes some of what was read; depends on some of the rest.
    fn commit(&self, reading: Reading, client: &Client, random: &mut Random) -> State {
        let Reading { mut txn, reads, .. } = reading;
        let mut attempt = self.attempt(txn.snapshot(), random);
        for (oid, serial) in reads {
            write(&mut txn, &mut attempt, (oid, serial), random);
        }
        State::Committing(attempt, client.nb().commit(txn))
    }

    fn attempt(&self, snapshot: Tid, random: &mut Random) -> Attempt {
        let mut tag = format!("{} {}", self.name, self.transactions).into_bytes();
        let padding = [0, 0, 0, 0, 0, 100, 1_000, 10_000];
        let padding = padding[usize::try_from(random.below(8)).unwrap()];
        tag.resize(tag.len() + padding, b'.');
        let (stores, deletes, bases) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Attempt { tag: Bytes::from(tag), snapshot, stores, deletes, bases }
    }
}

/// Does something or nothing with an object that was read, or found missing.
fn write(
    txn: &mut Transaction,
    attempt: &mut Attempt,
    (oid, serial): (Oid, Option<Tid>),
    random: &mut Random,
) {
    let (tag, mut base) = (attempt.tag.clone(), serial);
    match (random.below(8), serial) {
        // What was missing is checked against the snapshot, or must never have been there.
        (0..4, _) => {
            txn.store(oid, tag).unwrap();
            attempt.stores.insert(oid);
        }
        (4, None) => {
            txn.store_new(oid, tag).unwrap();
            attempt.stores.insert(oid);
            base = Some(Tid::ZERO);
        }
        // What is deleted is found by what is stored.
        (4, Some(_)) if !attempt.stores.is_empty() => {
            txn.delete(oid).unwrap();
            attempt.deletes.insert(oid);
        }
        (5, Some(_)) => txn.read_current(oid).unwrap(),
        _ => return,
    }
    attempt.bases.insert(oid, base);
}

fn committing(
    attempt: Attempt,
    mut commit: Deferred<Result<Tid, CommitError>>,
    client: &Client,
    record: &mut Record,
) -> State {
    let Some(answer) = commit.try_take() else { return State::Committing(attempt, commit) };
    let fate = match answer.unwrap() {
        Ok(tid) => {
            assert!(client.last_tid() >= tid, "{tid} is committed, and its client does not see it");
            Fate::Committed(tid)
        }
        Err(CommitError::Unknown(doubt)) => return ask(attempt, doubt, client),
        Err(CommitError::Conflict(_) | CommitError::NotCommitted(_) | CommitError::Closed) => {
            Fate::NotCommitted
        }
        Err(error) => panic!("{error}"),
    };
    record.ended(attempt, fate);
    State::Resting
}

fn ask(attempt: Attempt, doubt: InDoubt, client: &Client) -> State {
    State::Asking(attempt, doubt, client.nb().outcome(&doubt))
}

fn asking(
    attempt: Attempt,
    doubt: InDoubt,
    mut outcome: Deferred<Result<Outcome, CallError>>,
    record: &mut Record,
) -> State {
    let Some(answer) = outcome.try_take() else { return State::Asking(attempt, doubt, outcome) };
    match answer.unwrap() {
        Ok(Outcome::Committed(tid)) => record.ended(attempt, Fate::Committed(tid)),
        Ok(Outcome::NotCommitted) => record.ended(attempt, Fate::NotCommitted),
        Ok(Outcome::TooOldToKnow) => record.ended(attempt, Fate::Unknown),
        // Somebody else asks, another time.
        Err(_) => record.orphans.push((attempt, doubt)),
    }
    State::Resting
}

/// There was no answer, for a reason that is no fault of the client.
pub(crate) struct Unanswered;

/// What a load found.
pub(crate) fn found(answer: Result<Revision, LoadError>) -> Result<Option<Revision>, Unanswered> {
    match answer {
        Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => Ok(None),
        other => answered(other).map(Some),
    }
}

pub(crate) fn answered<T>(answer: Result<T, LoadError>) -> Result<T, Unanswered> {
    match answer {
        Ok(value) => Ok(value),
        Err(LoadError::Timeout | LoadError::Disconnected | LoadError::Closed) => Err(Unanswered),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn any_oid(random: &mut Random) -> Oid {
    Oid::new(1 + random.below(OBJECTS))
}

/// The objects that everybody reads and writes.
pub(crate) const OBJECTS: u64 = 8;
/// More than a task ever waits for.
const ANSWERS_MAX: usize = 32;
