//! The model that storages are held against.

mod past;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_proto::{Oid, Outcome, OutcomeQuery, Tid, TxnId, Validity};

use super::{NOW, changes, commit, objects, query};
use crate::storage::disk::Random;
use crate::storage::{
    Applied, Body, Commit, Found, Operation, Record, Refused, Storage, TransactionHead,
};

/// What a storage should hold.
#[derive(Debug, Clone, Default)]
pub(in crate::storage) struct Model {
    pub(super) revisions: BTreeMap<Oid, BTreeMap<Tid, Revision>>,
    pub(super) transactions: BTreeMap<Tid, Transaction>,
    outcomes: BTreeMap<TxnId, Tid>,
    ids: u64,
}

/// Data, and what it refers to; no data is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) data: Option<Bytes>,
    pub(super) refs: Option<Vec<Oid>>,
}

/// What a transaction is called, and what it wrote.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) head: TransactionHead,
    pub(super) oids: BTreeSet<Oid>,
}

impl Model {
    pub(in crate::storage) fn last_tid(&self) -> Tid {
        self.transactions.last_key_value().map_or(Tid::ZERO, |(&tid, _)| tid)
    }

    /// A commit of a few objects, mostly one that should succeed.
    pub(in crate::storage) fn random_commit(&mut self, random: &mut Random) -> Commit {
        self.ids += 1;
        let count = random.below(4);
        let records = (0..count).map(|_| self.random_record(random)).collect::<Vec<_>>();
        let snapshot = self.last_tid();
        let read_current = match random.below(4) {
            0 => vec![(Oid::new(3), self.current(Oid::new(3)))],
            _ => Vec::new(),
        };
        Commit { snapshot, read_current, ..commit(self.ids, records) }
    }

    fn random_record(&self, random: &mut Random) -> Record {
        let oid = Oid::new(random.below(12));
        let serial = match random.below(12) {
            0 => Some(Tid::new(random.below(9))),
            1 => None,
            _ => Some(self.current(oid)),
        };
        let len = [3, 40, 700, 3_000][usize::try_from(random.below(4)).unwrap()];
        if random.below(9) == 0 {
            return Record::delete(oid, serial);
        }
        Record::store(oid, serial, random_bytes(random, len), (len > 3).then(|| vec![oid; 3]))
    }

    /// Takes note of an answer, which must be the one that the rules demand.
    pub(in crate::storage) fn answered(
        &mut self,
        commit: &Commit,
        answer: &Result<Applied, Refused>,
    ) {
        match answer {
            Ok(Applied::Committed(tid)) => {
                assert!(!self.conflicts(commit), "{commit:?} was committed");
                assert!(*tid > self.last_tid());
                self.insert(commit, *tid);
            }
            Err(Refused::Conflict(_)) => assert!(self.conflicts(commit), "{commit:?} was not"),
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::storage) fn insert(&mut self, commit: &Commit, tid: Tid) {
        for record in &commit.records {
            let revision = Revision::of(record);
            self.revisions.entry(record.oid).or_default().insert(tid, revision);
        }
        let Commit { id, snapshot, meta, records, .. } = commit.clone();
        let oids: BTreeSet<Oid> = records.iter().map(|record| record.oid).collect();
        let records = u32::try_from(oids.len()).unwrap();
        let head = TransactionHead { tid, id, snapshot, meta, records };
        self.transactions.insert(tid, Transaction { head, oids });
        self.outcomes.insert(id, tid);
    }

    pub(in crate::storage) fn conflicts(&self, commit: &Commit) -> bool {
        let later = |oid| commit.records.iter().rfind(|record| record.oid == oid).unwrap();
        let stale = |oid| match later(oid).serial {
            Some(read) => self.current(oid) != read,
            None => self.current(oid) > commit.snapshot,
        };
        let depends = |&(oid, read): &(Oid, Tid)| self.current(oid) != read;
        commit.records.iter().any(|record| stale(record.oid))
            || commit.read_current.iter().any(depends)
    }

    pub(in crate::storage) fn current(&self, oid: Oid) -> Tid {
        let last = self.revisions.get(&oid).and_then(BTreeMap::last_key_value);
        last.map_or(Tid::ZERO, |(&tid, _)| tid)
    }

    fn found(&self, oid: Oid, before: Tid, as_of: Tid) -> Found {
        let Some(all) = self.revisions.get(&oid) else { return Found::Absent };
        let seen = all.range(..=as_of).rev().find(|&(&tid, _)| tid < before);
        let Some((&serial, revision)) = seen else { return Found::Absent };
        let end =
            all.range(serial.next()..).next().map(|(&tid, _)| tid).filter(|&end| end <= as_of);
        let validity = Validity { serial, end };
        match &revision.data {
            Some(data) => Found::Revision(validity, data.clone()),
            None => Found::Deleted(validity),
        }
    }

    /// Compares every load at every tid, every outcome, what changed since some tids, and the past.
    pub(in crate::storage) fn check(&self, storage: &dyn Storage) {
        assert_eq!(storage.last_tid(), self.last_tid());
        let tids = || self.transactions.keys().copied();
        for oid in (0..12).map(Oid::new) {
            for tid in tids().chain([Tid::MAX]) {
                for (before, as_of) in [(tid, Tid::MAX), (Tid::MAX, tid), (tid, tid)] {
                    let found = storage.load_before(oid, before, as_of).unwrap();
                    assert_eq!(found, self.found(oid, before, as_of), "{oid} {before} {as_of}");
                }
            }
        }
        for since in tids().step_by(9).chain([Tid::ZERO]) {
            let newer = self
                .transactions
                .range(since.next()..)
                .flat_map(|(_, transaction)| &transaction.oids);
            let oids: BTreeSet<Oid> = newer.copied().collect();
            assert_eq!(changes(storage, since), objects(oids.iter().map(|oid| oid.number())));
        }
        self.check_outcomes(storage);
        self.check_past(storage);
    }

    fn check_outcomes(&self, storage: &dyn Storage) {
        for (&id, &tid) in &self.outcomes {
            let query = OutcomeQuery { id, ..query(0) };
            let answers = storage.apply(&[Operation::Outcome(query)], NOW);
            assert_eq!(answers, [Ok(Applied::Outcome(Outcome::Committed(tid)))]);
        }
    }
}

impl Revision {
    fn of(record: &Record) -> Self {
        match &record.body {
            Body::Deleted => Self { data: None, refs: None },
            Body::Held { data, refs } => Self { data: Some(data.clone()), refs: refs.clone() },
            Body::Spilled(spilled) => {
                let (data, refs) = spilled.read().unwrap();
                Self { data: Some(data), refs }
            }
        }
    }
}

fn random_bytes(random: &mut Random, len: usize) -> Bytes {
    std::iter::repeat_with(|| random.next_u64().to_be_bytes()[7]).take(len).collect()
}
