//! Power cuts at any moment, over the simulated disk: what was acknowledged is there afterwards,
//! whole; what was not is wholly there or absent; nothing is damaged.

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use zeo_proto::{Oid, Outcome, OutcomeQuery, Tid};

use super::disk::{Random, SimDisk};
use super::index::MapIndex;
use super::testing::{IDENTITY, Model, NOW, query, tiny};
use super::{Applied, Commit, JournalStorage, Operation, Refused, Storage};

#[test]
fn acknowledged_commits_survive_power_cuts() {
    for seed in 0..SEEDS {
        World::new(seed).run();
    }
}

#[test]
fn leaving_out_the_sync_is_noticed() {
    let noticed = |&seed: &u64| {
        let run = || {
            let world = World::new(seed);
            world.disk.ignore_syncs();
            world.run();
        };
        catch_unwind(run).is_err()
    };
    let noticed = (0..40).filter(noticed).count();
    assert!(noticed > 30, "only {noticed} of 40 seeds noticed that nothing was ever synced");
}

#[test]
fn the_same_seed_has_the_same_history() {
    for seed in 0..5 {
        assert_eq!(World::new(seed).run(), World::new(seed).run());
    }
}

const SEEDS: u64 = 250;
/// How often the power is cut in one run.
const LIVES: u64 = 6;

/// A disk, an index, and what must be true of them.
struct World {
    random: Random,
    disk: SimDisk,
    index: MapIndex,
    /// What was acknowledged.
    model: Model,
    /// Commits whose outcome is unknown, in the order in which they were sent.
    unknown: Vec<Commit>,
    /// Commits that were refused for other reasons than a conflict.
    refused: Vec<Commit>,
    oids: BTreeSet<Oid>,
}

type Simulated = JournalStorage<SimDisk, MapIndex>;

impl World {
    fn new(seed: u64) -> Self {
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

    /// Lives through several power cuts. Returns a few words on how it went.
    fn run(mut self) -> (Tid, u64, usize) {
        for life in 0..LIVES {
            if self.random.below(2) == 0 {
                self.disk.cut_power_in(1 + self.random.below(12));
            }
            if let Ok(storage) = self.open() {
                self.settle(&storage);
                self.disk.cut_power_in(1 + self.random.below(60));
                self.live(&storage, NOW + life);
            }
            self.disk.crash();
            self.index.crash(&mut self.random);
        }
        let storage = self.open().unwrap();
        self.settle(&storage);
        (storage.last_tid(), self.disk.used(), self.oids.len())
    }

    fn open(&self) -> Result<Simulated, super::OpenError> {
        let index = self.index.clone();
        JournalStorage::open(self.disk.clone(), || Ok(index), tiny(), IDENTITY.uuid)
    }

    /// Finds out what became of the commits that the last power cut caught, and checks the rest.
    fn settle(&mut self, storage: &Simulated) {
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
            assert_eq!(outcome(storage, &commit), Outcome::NotCommitted);
        }
        self.model.check(storage);
    }

    /// Commits and does chores until the power fails, or a while.
    fn live(&mut self, storage: &Simulated, now: u64) {
        for _ in 0..40 {
            let done = match self.random.below(8) {
                0 => storage.index_some().is_ok(),
                1 => storage.prepare().is_ok(),
                2 => self.reserve(storage),
                _ => self.commit(storage, now),
            };
            if !done {
                return;
            }
        }
        if self.random.below(2) == 0 {
            storage.close().unwrap();
        }
    }

    fn commit(&mut self, storage: &Simulated, now: u64) -> bool {
        let count = 1 + self.random.below(4);
        let commits: Vec<_> =
            (0..count).map(|_| self.model.random_commit(&mut self.random)).collect();
        let group = commits.iter().cloned().map(Operation::Commit).collect();
        let answers = storage.apply(group, now);
        let mut powered = true;
        for (commit, answer) in commits.into_iter().zip(answers) {
            match answer {
                Err(Refused::Unknown(_)) => self.unknown.push(commit),
                Err(Refused::Failed(_)) => self.refused.push(commit),
                answer => {
                    self.model.answered(&commit, &answer);
                    continue;
                }
            }
            powered = false;
        }
        powered
    }

    fn reserve(&mut self, storage: &Simulated) -> bool {
        let count = self.random.below(700);
        let group = vec![Operation::ReserveOids(u32::try_from(count).unwrap())];
        let Some(Ok(Applied::Reserved(first))) = storage.apply(group, NOW).pop() else {
            return false;
        };
        for number in first.number()..first.number() + count {
            assert!(self.oids.insert(Oid::new(number)), "{number} was handed out before");
        }
        true
    }
}

fn outcome(storage: &Simulated, commit: &Commit) -> Outcome {
    let query = OutcomeQuery { id: commit.id, snapshot: commit.snapshot, ..query(0) };
    let answer = storage.apply(vec![Operation::Outcome(query)], NOW).pop().unwrap();
    let Ok(Applied::Outcome(outcome)) = answer else { panic!("{answer:?}") };
    outcome
}
