//! What a client does in a simulation: one transaction after the other, a step whenever something
//! it waits for is there.

use std::collections::BTreeMap;

use bytes::Bytes;
use zeo_client::{Client, CommitError, Deferred, LoadError, Revision, Transaction};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::disk::Random;

use crate::model::{Attempt, Fate, Observation, Record};

/// A worker on a client.
pub(crate) struct Task {
    name: String,
    transactions: u32,
    state: State,
}

enum State {
    /// Nothing is under way.
    Resting,
    /// Loads are, one after the other.
    Reading(Reading),
    /// A commit is.
    Committing(Attempt, Deferred<Result<Tid, CommitError>>),
}

struct Reading {
    txn: Transaction,
    wanted: Vec<Oid>,
    load: Option<(Oid, Deferred<Result<Revision, LoadError>>)>,
    reads: BTreeMap<Oid, Tid>,
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
        if let State::Committing(attempt, _) = self.state {
            record.fates.push((attempt, Fate::Unknown));
        }
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn go_on(&mut self, client: &Client, random: &mut Random, record: &mut Record) {
        self.state = match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => self.begin(client, random),
            State::Reading(reading) => self.read(reading, client, random, record),
            State::Committing(attempt, deferred) => committing(attempt, deferred, record),
        };
    }

    fn begin(&mut self, client: &Client, random: &mut Random) -> State {
        if self.transactions == 0 || random.below(4) > 0 || !client.is_connected() {
            return State::Resting;
        }
        self.transactions -= 1;
        let wanted = (0..=random.below(4)).map(|_| Oid::new(1 + random.below(OBJECTS))).collect();
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
            match load.try_take() {
                None => reading.load = Some((oid, load)),
                Some(answer) => {
                    let found = found(answer.unwrap());
                    let serial = found.as_ref().map_or(Tid::ZERO, |revision| revision.tid);
                    record.observations.push(Observation { oid, before, found });
                    if serial > Tid::ZERO {
                        reading.txn.saw(oid, serial);
                    }
                    reading.reads.insert(oid, serial);
                }
            }
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
        let snapshot = txn.snapshot();
        let tag = Bytes::from(format!("{} {}", self.name, self.transactions));
        let (mut writes, mut depends) = (BTreeMap::new(), BTreeMap::new());
        for (&oid, &serial) in &reads {
            if random.below(3) > 0 {
                let stored = match serial {
                    Tid::ZERO => txn.store_new(oid, tag.clone()),
                    _ => txn.store(oid, tag.clone()),
                };
                stored.unwrap();
                writes.insert(oid, serial);
            } else if serial > Tid::ZERO && random.below(2) == 0 {
                txn.read_current(oid).unwrap();
                depends.insert(oid, serial);
            }
        }
        let attempt = Attempt { tag, snapshot, writes, depends };
        State::Committing(attempt, client.nb().commit(txn))
    }
}

fn committing(
    attempt: Attempt,
    mut deferred: Deferred<Result<Tid, CommitError>>,
    record: &mut Record,
) -> State {
    let Some(answer) = deferred.try_take() else { return State::Committing(attempt, deferred) };
    let fate = match answer.unwrap() {
        Ok(tid) => Fate::Committed(tid),
        Err(CommitError::Conflict(_) | CommitError::NotCommitted(_)) => Fate::NotCommitted,
        Err(CommitError::Unknown(_)) => Fate::Unknown,
        Err(error) => panic!("{error}"),
    };
    record.fates.push((attempt, fate));
    State::Resting
}

fn found(answer: Result<Revision, LoadError>) -> Option<Revision> {
    match answer {
        Ok(revision) => Some(revision),
        Err(LoadError::NotFound(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The objects that everybody reads and writes.
pub(crate) const OBJECTS: u64 = 8;
