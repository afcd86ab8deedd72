//! Any history of commits, deletions and undos is, in every storage, that of the model.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use zeo_proto::{Oid, Tid};

use super::wire::Wire;
use super::{Kind, Memory, OnDisk, Simulated};
use crate::storage::disk::Random;
use crate::storage::testing::{Model, commit, committed};
use crate::storage::{Commit, Record, Storage, UndoLimits, UndoRefused};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_in_memory_is_that_of_the_model(steps in vec(step(), 1..60)) {
        Life::new(&Memory).live(steps);
    }

    #[test]
    fn any_history_on_a_simulated_disk_is_that_of_the_model(steps in vec(step(), 1..60)) {
        Life::new(&Simulated::new()).live(steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_history_on_disk_is_that_of_the_model(steps in vec(step(), 1..60)) {
        Life::new(&OnDisk::new()).live(steps);
    }

    #[test]
    fn any_history_through_the_wire_is_that_of_the_model(
        steps in vec(step(), 1..30),
        seed in any::<u64>(),
    ) {
        Life::new(&Wire::simulated(seed)).live(steps);
    }
}

/// What happens to a storage.
#[derive(Debug, Clone)]
enum Step {
    /// Objects get one of a few data, or are deleted.
    Commit(Vec<(u64, Option<u8>)>),
    /// Some earlier transactions are undone, all at once.
    Undo(Vec<Index>),
    Chores,
    Reopen,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec((0..6_u64, option::weighted(0.8, 0..4_u8)), 0..5).prop_map(Step::Commit),
        8 => vec(any::<Index>(), 1..4).prop_map(Step::Undo),
        2 => Just(Step::Chores),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

/// A storage and the model that it is held against.
struct Life<'a, K: Kind> {
    kind: &'a K,
    storage: K::Storage,
    model: Model,
    tids: Vec<Tid>,
}

impl<'a, K: Kind> Life<'a, K> {
    fn new(kind: &'a K) -> Self {
        Self { kind, storage: kind.open(), model: Model::default(), tids: Vec::new() }
    }

    fn live(mut self, steps: Vec<Step>) {
        for step in steps {
            self = self.step(step);
        }
        self.model.check(&self.storage);
        self = self.step(Step::Reopen);
        self.model.check(&self.storage);
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Commit(writes) => self.write(&writes),
            Step::Undo(which) if !self.tids.is_empty() => self.undo(&which),
            Step::Undo(_) => {}
            Step::Chores => {
                self.storage.index_some().unwrap();
                self.storage.prepare().unwrap();
            }
            Step::Reopen => self.storage = self.kind.reopen(self.storage),
            Step::Crash(seed) => {
                self.storage = self.kind.crash(self.storage, &mut Random::new(seed));
                self.model.check_past(&self.storage);
            }
        }
        self
    }

    fn write(&mut self, writes: &[(u64, Option<u8>)]) {
        let record = |&(oid, data): &(u64, Option<u8>)| {
            let oid = Oid::new(oid);
            let serial = Some(self.model.current(oid));
            let Some(data) = data else { return Record::delete(oid, serial) };
            let refs = (data > 1).then(|| vec![oid; data.into()]);
            Record::store(oid, serial, Bytes::from(vec![data; usize::from(data) * 150]), refs)
        };
        let records = writes.iter().map(record).collect();
        self.commit(records);
    }

    fn undo(&mut self, which: &[Index]) {
        let tids: Vec<Tid> = which.iter().map(|index| *index.get(&self.tids)).collect();
        let limits = UndoLimits { objects: 99, bytes: 1 << 20, spill_bytes: 500 };
        let found = self.storage.undo(&tids, limits).unwrap();
        match self.model.undo(&tids.into_iter().collect::<BTreeSet<_>>()) {
            Err(in_the_way) => assert_eq!(found, Err(UndoRefused::InTheWay(in_the_way))),
            Ok(expected) => {
                let serials = |records: &[Record]| {
                    records.iter().map(|record| (record.oid, record.serial)).collect::<Vec<_>>()
                };
                let records = found.unwrap();
                assert_eq!(serials(&records), serials(&expected));
                self.model_writes(expected, records);
            }
        }
    }

    fn commit(&mut self, records: Vec<Record>) {
        self.model_writes(records.clone(), records);
    }

    /// Commits records, which the model says are `expected`; whether they are shows later.
    fn model_writes(&mut self, expected: Vec<Record>, records: Vec<Record>) {
        let id = self.tids.len() as u64 + 1;
        let snapshot = self.model.last_tid();
        let tid = committed(&self.storage, Commit { snapshot, ..commit(id, records) });
        self.model.insert(&Commit { snapshot, ..commit(id, expected) }, tid);
        self.tids.push(tid);
    }
}
