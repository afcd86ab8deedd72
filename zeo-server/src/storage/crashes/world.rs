//! A storage whose disk and index fail, and what must be true of it nonetheless.

use std::collections::BTreeSet;

use zeo_proto::{Oid, Outcome, OutcomeQuery, Tid};

use crate::storage::disk::{Random, SimDisk};
use crate::storage::index::MapIndex;
use crate::storage::testing::{IDENTITY, Model, NOW, Simulated, query, tiny};
use crate::storage::{Applied, Commit, JournalStorage, OpenError, Operation, Refused, Storage};

/// How often the storage is opened in one run.
const LIVES: u64 = 6;

/// A disk, an index, and what must be true of them.
pub(super) struct World {
    random: Random,
    pub(super) disk: SimDisk,
    pub(super) index: MapIndex,
    /// What was acknowledged.
    model: Model,
    /// Commits whose outcome is unknown, in the order in which they were sent.
    unknown: Vec<Commit>,
    /// Commits that were refused for other reasons than a conflict.
    refused: Vec<Commit>,
    oids: BTreeSet<Oid>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            disk: SimDisk::new(random.next_u64()),
            random,
            index: MapIndex::default(),
            model: Model::default(),
            unknown: Vec::new(),
            refused: Vec::new(),
            oids: BTreeSet::new(),
        }
    }

    /// Lives through several misfortunes. Returns a few words on how it went.
    pub(super) fn run(mut self) -> (Tid, u64, usize) {
        for life in 0..LIVES {
            if self.random.below(2) == 0 {
                self.order_misfortune(12);
            }
            if let Ok(storage) = self.open() {
                self.forgive();
                self.settle(&storage);
                self.order_misfortune(60);
                self.live(&storage, NOW + life);
            }
            self.end_life();
        }
        let storage = self.open().unwrap();
        self.settle(&storage);
        (storage.last_tid(), self.disk.used(), self.oids.len())
    }

    /// Does the same things whatever fails, opening again where that is needed. Returns whether
    /// the misfortune that was ordered has come.
    pub(super) fn run_script(mut self, power_fails_at_the_end: bool) -> bool {
        for life in 0..3 {
            self.live_by_script(life);
        }
        let came = !self.disk.is_waiting_to_fail() && !self.index.is_waiting_to_fail();
        self.forgive();
        if power_fails_at_the_end {
            self.disk.crash();
            self.index.crash(&mut self.random);
        }
        let storage = self.open().unwrap();
        self.find_out(&storage);
        assert!(self.commit(&storage, NOW + 9), "it goes on");
        self.model.check(&storage);
        came
    }

    /// Lives one life of the script.
    pub(super) fn live_by_script(&mut self, life: u64) {
        let storage = self.open_at_last();
        self.find_out(&storage);
        for step in 0..10 {
            let goes_on = match step % 7 {
                3 => storage.index_some().is_ok(),
                5 => storage.prepare().is_ok(),
                6 => self.reserve(&storage),
                _ => self.commit(&storage, NOW + life),
            };
            if !goes_on {
                break;
            }
        }
        if life == 1 {
            drop(storage.close());
        }
        drop(storage);
        self.repair();
    }

    pub(super) fn open(&self) -> Result<Simulated, OpenError> {
        let index = self.index.clone();
        JournalStorage::open(self.disk.clone(), || Ok(index), tiny(), IDENTITY.uuid)
    }

    /// Opens as soon as that is possible: what fails, fails once.
    fn open_at_last(&mut self) -> Simulated {
        if let Ok(storage) = self.open() {
            return storage;
        }
        self.repair();
        self.open().unwrap()
    }

    fn order_misfortune(&mut self, within: u64) {
        let moment = self.random.below(within);
        match self.random.below(6) {
            0 => self.disk.fail_change_in(moment),
            1 => self.disk.fill_up_in(moment),
            2 => self.index.fail_change_in(moment),
            _ => self.disk.cut_power_in(1 + moment),
        }
    }

    fn forgive(&self) {
        if self.disk.has_power() {
            self.disk.forgive();
        }
        self.index.forgive();
    }

    /// Ends a life with a power cut, or, where there is power, sometimes only with that of the
    /// process.
    fn end_life(&mut self) {
        if self.random.below(3) > 0 {
            self.disk.crash();
            self.index.crash(&mut self.random);
        }
        self.repair();
        self.forgive();
    }

    /// Puts power and room back.
    fn repair(&mut self) {
        if !self.disk.has_power() {
            self.disk.crash();
            self.index.crash(&mut self.random);
        }
        self.disk.set_capacity(None);
    }

    /// Finds out what became of the commits that the last misfortune caught, and checks the rest.
    pub(super) fn settle(&mut self, storage: &Simulated) {
        self.find_out(storage);
        self.model.check(storage);
    }

    fn find_out(&mut self, storage: &Simulated) {
        let mut lost = false;
        for commit in std::mem::take(&mut self.unknown) {
            match outcome(storage, &commit) {
                Outcome::Committed(tid) => {
                    assert!(!lost, "a commit survived the loss of one before it");
                    self.model.answered(&commit, &Ok(Applied::Committed(tid)));
                }
                Outcome::NotCommitted | Outcome::TooOldToKnow => {
                    lost |= !self.model.conflicts(&commit);
                }
            }
        }
        for commit in std::mem::take(&mut self.refused) {
            let outcome = outcome(storage, &commit);
            assert!(!matches!(outcome, Outcome::Committed(_)), "{commit:?}: {outcome:?}");
        }
    }

    /// Commits and does chores until commits fail, or a while.
    fn live(&mut self, storage: &Simulated, now: u64) {
        for _ in 0..40 {
            let goes_on = match self.random.below(8) {
                0 => storage.index_some().is_ok() || self.disk.has_power(),
                1 => storage.prepare().is_ok() || self.disk.has_power(),
                2 => self.reserve(storage),
                _ => self.commit(storage, now),
            };
            if !goes_on {
                return;
            }
        }
        if self.random.below(2) == 0 {
            drop(storage.close());
        }
    }

    fn commit(&mut self, storage: &Simulated, now: u64) -> bool {
        let count = 1 + self.random.below(4);
        let commits: Vec<_> =
            (0..count).map(|_| self.model.random_commit(&mut self.random)).collect();
        let group: Vec<_> = commits.iter().map(|commit| self.as_sent(storage, commit)).collect();
        let answers = storage.apply(&group, now);
        let mut goes_on = true;
        for (commit, answer) in commits.into_iter().zip(answers) {
            match answer {
                Err(Refused::Unknown(_)) => self.unknown.push(commit),
                Err(Refused::Failed(_)) => self.refused.push(commit),
                Err(Refused::DiskFull) => {
                    self.refused.push(commit);
                    continue;
                }
                answer => {
                    self.model.answered(&commit, &answer);
                    continue;
                }
            }
            goes_on = false;
        }
        goes_on
    }

    /// A commit, the data of which sometimes waits in a file, where there is room for one.
    fn as_sent(&mut self, storage: &Simulated, commit: &Commit) -> Operation {
        let mut spilled = commit.clone();
        if self.random.below(8) == 0
            && let Ok(Some(mut file)) = storage.spill_file()
            && file.spill(&mut spilled.records).is_ok()
        {
            return Operation::Commit(spilled);
        }
        Operation::Commit(commit.clone())
    }

    fn reserve(&mut self, storage: &Simulated) -> bool {
        let count = self.random.below(700);
        let group = vec![Operation::ReserveOids(u32::try_from(count).unwrap())];
        let first = match storage.apply(&group, NOW).pop() {
            Some(Ok(Applied::Reserved(first))) => first,
            answer => return answer == Some(Err(Refused::DiskFull)),
        };
        for number in first.number()..first.number() + count {
            assert!(self.oids.insert(Oid::new(number)), "{number} was handed out before");
        }
        true
    }
}

/// The outcome of a commit; asked for again if the index failed at the first time.
fn outcome(storage: &Simulated, commit: &Commit) -> Outcome {
    let query = OutcomeQuery { id: commit.id, snapshot: commit.snapshot, ..query(0) };
    let ask = || storage.apply(&[Operation::Outcome(query)], NOW).pop().unwrap();
    match ask().or_else(|_| ask()) {
        Ok(Applied::Outcome(outcome)) => outcome,
        answer => panic!("{answer:?}"),
    }
}
