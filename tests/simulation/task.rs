//! What a client does in a simulation: one transaction after the other, a step whenever something
//! it waits for is there.

use std::time::Duration;

use bytes::Bytes;
use zeo_client::{
    CallError, Client, CommitError, Deferred, InDoubt, LoadError, NotCommitted, Outcome, Revision,
    Transaction,
};
use zeo_proto::{Oid, Tid};
use zeo_reactor::Time;
use zeo_server::storage::disk::Random;

use crate::commit::Committing;
use crate::errand::Errand;
use crate::record::{Attempt, Fate, Record};
use crate::workload::{Seen, Step, Workload};

/// A worker on a client.
pub(crate) struct Task {
    name: String,
    workload: &'static dyn Workload,
    transactions: u32,
    /// How long the server lets somebody hold object locks.
    lock_limit: Duration,
    state: State,
    /// Since when it is not resting.
    since: Time,
}

enum State {
    /// Nothing is under way.
    Resting,
    /// Something else than a transaction is.
    Erring(Errand),
    /// Loads are, one after the other.
    Reading(Reading),
    /// A commit is.
    Committing(Attempt, Committing),
    /// The question is what became of one.
    Asking(Attempt, InDoubt, Deferred<Result<Outcome, CallError>>),
}

struct Reading {
    txn: Transaction,
    wanted: Vec<Oid>,
    load: Option<(Oid, Deferred<Result<Revision, LoadError>>)>,
    seen: Seen,
}

impl Task {
    /// A worker that will make so many transactions of a workload.
    pub(crate) fn new(
        name: String,
        workload: &'static dyn Workload,
        transactions: u32,
        lock_limit: Duration,
    ) -> Self {
        let (state, since) = (State::Resting, Time::default());
        Self { name, workload, transactions, lock_limit, state, since }
    }

    /// It has nothing under way and will begin nothing.
    pub(crate) fn is_done(&self) -> bool {
        self.transactions == 0 && matches!(self.state, State::Resting)
    }

    pub(crate) fn is_committing(&self) -> bool {
        matches!(self.state, State::Committing(..))
    }

    /// Since when something is under way, if it is.
    pub(crate) fn busy_since(&self) -> Option<Time> {
        (!matches!(self.state, State::Resting)).then_some(self.since)
    }

    /// Its client died: nobody will hear what became of what is under way.
    pub(crate) fn died(self, record: &mut Record) {
        match self.state {
            State::Committing(mut attempt, commit) => {
                let may_be = commit.died(&mut attempt);
                record.ended(attempt, if may_be { Fate::Unknown } else { Fate::NotCommitted });
            }
            State::Asking(attempt, doubt, _) => record.orphans.push((attempt, doubt)),
            State::Resting | State::Erring(_) | State::Reading(_) => {}
        }
    }

    /// Its client was closed: everything under way has ended, one way or another.
    pub(crate) fn closed(mut self, client: &Client, random: &mut Random, record: &mut Record) {
        self.transactions = 0;
        let mut late = self.since;
        for _ in 0..ANSWERS_MAX {
            late = late + PATIENCE;
            self.go_on(client, late, random, record);
        }
        assert!(self.is_done(), "{}: a call of a closed client hangs", self.name);
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn go_on(
        &mut self,
        client: &Client,
        now: Time,
        random: &mut Random,
        record: &mut Record,
    ) {
        self.state = match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => {
                self.since = now;
                self.begin(client, random, record)
            }
            State::Erring(errand) => {
                errand.go_on(client, self.workload, record).map_or(State::Resting, State::Erring)
            }
            State::Reading(reading) => self.read(reading, client, random, record),
            State::Committing(attempt, commit) => {
                committing((attempt, commit), client, now, record)
            }
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
            return State::Erring(Errand::begin(client, self.workload, random, record));
        }
        self.transactions -= 1;
        if self.workload.can_be_undone() && random.below(6) == 0 {
            return self.undo(client, random, record);
        }
        let (txn, wanted) = (client.begin().unwrap(), self.workload.reads(random));
        State::Reading(Reading { txn, wanted, load: None, seen: Seen::new() })
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
            let Ok(found) = record.found(answer.unwrap()) else { return State::Resting };
            record.observe(oid, before, found.clone());
            if let Some(revision) = &found {
                reading.txn.saw(oid, revision.tid);
            }
            reading.seen.insert(oid, found);
            return State::Reading(reading);
        }
        if let Some(oid) = reading.wanted.pop() {
            reading.load = Some((oid, client.nb().load_before(oid, before)));
            return State::Reading(reading);
        }
        self.workload.check(&reading.seen);
        self.commit(reading, client, random)
    }

    /// Writes some of what was read; depends on some of the rest.
    fn commit(&self, reading: Reading, client: &Client, random: &mut Random) -> State {
        let Reading { mut txn, seen, .. } = reading;
        let name = format!("{}, transaction {}", self.name, self.transactions);
        let mut attempt = Attempt::new(name, txn.snapshot());
        attempt.can_be_undone = self.workload.can_be_undone();
        for (oid, step) in self.workload.steps(&seen, random) {
            let serial = seen[&oid].as_ref().map(|revision| revision.tid);
            take_step(&mut txn, &mut attempt, (oid, serial), (step, padding(random)));
        }
        self.commit_somehow(client, txn, attempt, random)
    }

    fn commit_somehow(
        &self,
        client: &Client,
        txn: Transaction,
        attempt: Attempt,
        random: &mut Random,
    ) -> State {
        let limits = (random, self.lock_limit);
        let commit = Committing::begin(client, (txn, &attempt), self.workload, limits);
        State::Committing(attempt, commit)
    }

    /// Undoes one of the last transactions, if there is one.
    fn undo(&self, client: &Client, random: &mut Random, record: &Record) -> State {
        let back = usize::try_from(random.below(6)).unwrap();
        let Some(&undone) = record.undoable.iter().nth_back(back) else { return State::Resting };
        let mut txn = client.begin().unwrap();
        let name = format!("{}, transaction {} undoes {undone}", self.name, self.transactions);
        txn.undo(undone).unwrap();
        txn.set_description(&name).unwrap();
        let mut attempt = Attempt::new(name, txn.snapshot());
        (attempt.undoes, attempt.can_be_undone) = (Some(undone), true);
        self.commit_somehow(client, txn, attempt, random)
    }
}

/// Does something with an object that was read, or found missing.
fn take_step(
    txn: &mut Transaction,
    attempt: &mut Attempt,
    (oid, serial): (Oid, Option<Tid>),
    (step, padding): (Step, usize),
) {
    let mut base = serial;
    match step {
        Step::Store(value) => {
            let data = data(&value, &attempt.name, padding);
            txn.store(oid, data.clone()).unwrap();
            attempt.stores.insert(oid, data);
        }
        Step::New(value) => {
            let data = data(&value, &attempt.name, padding);
            txn.store_new(oid, data.clone()).unwrap();
            attempt.stores.insert(oid, data);
            // What is deleted by that is never new again.
            attempt.can_be_undone = false;
            base = Some(Tid::ZERO);
        }
        Step::Delete => {
            txn.delete(oid).unwrap();
            attempt.deletes.insert(oid);
        }
        Step::Depend => txn.read_current(oid).unwrap(),
    }
    attempt.bases.insert(oid, base);
}

/// A value, and what makes it different from everybody else's.
fn data(value: &str, name: &str, padding: usize) -> Bytes {
    let mut data = format!("{value} {name}").into_bytes();
    data.resize(data.len() + padding, b'.');
    data.into()
}

/// What is large is not in small caches, so that it comes from the server while its neighbours
/// come from the cache.
fn padding(random: &mut Random) -> usize {
    let padding = [0, 0, 0, 0, 0, 100, 1_000, 10_000];
    padding[usize::try_from(random.below(8)).unwrap()]
}

fn committing(
    (mut attempt, commit): (Attempt, Committing),
    client: &Client,
    now: Time,
    record: &mut Record,
) -> State {
    let answer = match commit.go_on(client, now, &mut attempt, record) {
        Err(commit) => return State::Committing(attempt, commit),
        Ok(answer) => answer,
    };
    let fate = match answer {
        Ok(tid) => {
            assert!(client.last_tid() >= tid, "{tid} is committed, and its client does not see it");
            Fate::Committed(tid)
        }
        Err(CommitError::Unknown(doubt)) => return ask(attempt, doubt, client),
        Err(CommitError::NotCommitted(NotCommitted::DiskFull | NotCommitted::HistoryChanged))
            if !record.disk_fails =>
        {
            panic!("the disk is well, but {} was refused", attempt.name)
        }
        Err(CommitError::NotCommitted(why)) => {
            refused(&why, &attempt, record);
            Fate::NotCommitted
        }
        Err(CommitError::Conflict(_) | CommitError::Closed) => Fate::NotCommitted,
        Err(error) => panic!("{error}"),
    };
    record.ended(attempt, fate);
    State::Resting
}

/// A reason that is given is one.
fn refused(why: &NotCommitted, Attempt { name, undoes, .. }: &Attempt, record: &mut Record) {
    match why {
        NotCommitted::Locked { oid, by } => {
            // Whoever has gone may be in the commit stage, but not for long.
            let may_go = record.disk_fails || !by.contains("has gone") || by.ends_with("for 0 s");
            let is_held = !by.is_empty() && may_go;
            assert!(is_held, "{name} has waited too long for {oid}, locked by {by:?}");
        }
        NotCommitted::UndoRefused(oids) => {
            record.refusals.push((undoes.expect("it undoes something"), oids.clone()));
        }
        NotCommitted::NoSuchTransaction(tid) => panic!("{name}: there is no {tid}"),
        _ => {}
    }
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

/// Longer than anything is held.
const PATIENCE: Duration = Duration::from_hours(24);
/// More than a task ever waits for.
const ANSWERS_MAX: usize = 32;
