//! Errors of the disk, damage, and files that do not belong together.

use zeo_proto::{Oid, Outcome, Tid};

use super::disk::{Disk, DiskFile, Random, SimDisk};
use super::index::MapIndex;
use super::testing::{
    IDENTITY, Model, NOW, apply, changes, commit, committed, load, new, objects, outcome, revision,
    tiny, update,
};
use super::{
    Applied, Found, JournalStorage, OpenError, OpenOptions, Operation, Refused, Storage,
    StorageError,
};

#[test]
fn a_full_disk_refuses_commits_and_nothing_else() {
    for spare in 0..120 {
        let world = World::new(spare);
        let storage = world.open().unwrap();
        let mut model = Model::default();
        let mut random = Random::new(spare);
        world.disk.set_capacity(Some(world.disk.used() + spare * 67));
        let mut refused = 0;
        for round in 0..60 {
            if round == 40 {
                world.disk.set_capacity(None);
            }
            let commit = model.random_commit(&mut random);
            match apply(&storage, commit.clone()) {
                Err(Refused::DiskFull) => {
                    assert!(round < 40, "there is room again");
                    refused += 1;
                }
                answer => model.answered(&commit, &answer),
            }
            if random.below(4) == 0 {
                drop(storage.prepare());
                storage.index_some().unwrap();
            }
        }
        assert!(refused > 0, "the disk was never full");
        model.check(&storage);
        world.disk.crash();
        model.check(&world.open().unwrap());
    }
}

#[test]
fn all_that_depended_on_a_refused_group_is_refused_with_it() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    world.disk.set_capacity(Some(world.disk.used()));
    let group = || {
        vec![
            Operation::Commit(commit(2, [update(1, first, "b")])),
            Operation::Commit(commit(3, [update(1, first, "c")])),
            Operation::Outcome(super::testing::query(2)),
            Operation::Commit(commit(4, [new(1, "d")])),
        ]
    };
    let answers = storage.apply(group(), NOW);
    assert_eq!(answers, vec![Err(Refused::DiskFull); 4]);
    assert_eq!(load(&storage, 1), revision(first, None, "a"));
    world.disk.set_capacity(None);
    assert!(matches!(storage.apply(group(), NOW)[0], Ok(Applied::Committed(_))));
}

#[test]
fn a_failed_sync_leaves_its_commits_unknown_and_refuses_the_next() {
    let mut survived = 0;
    for seed in 0..40 {
        let world = World::new(seed);
        let storage = world.open().unwrap();
        let first = committed(&storage, commit(1, [new(1, "a")]));
        world.disk.fail_sync_in(0);
        let unknown = apply(&storage, commit(2, [update(1, first, "b")]));
        assert!(matches!(unknown, Err(Refused::Unknown(_))), "{unknown:?}");
        assert_refuses_to_write(&storage);
        assert_eq!(load(&storage, 1), revision(first, None, "a"));
        assert_eq!(changes(&storage, Tid::ZERO), objects([1]));
        drop(storage);
        let reopened = world.open().unwrap();
        let found = outcome(&reopened, 2);
        world.disk.crash();
        let storage = world.open().unwrap();
        if let Outcome::Committed(tid) = found {
            assert_eq!(load(&storage, 1), revision(tid, None, "b"));
            survived += 1;
        } else {
            assert_eq!(load(&storage, 1), revision(first, None, "a"));
        }
        committed(&storage, commit(9, [new(9, "goes on")]));
    }
    assert_eq!(survived, 40, "what the page cache still had was saved by reopening");
}

#[test]
fn a_failed_write_is_like_a_failed_sync() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    world.disk.fail_write_in(0);
    let group = vec![
        Operation::Commit(commit(2, [update(1, first, "b")])),
        Operation::Commit(commit(3, [update(1, first, "c")])),
    ];
    let answers = storage.apply(group, NOW);
    assert!(matches!(answers[0], Err(Refused::Unknown(_))), "{answers:?}");
    assert!(matches!(answers[1], Err(Refused::Failed(_))), "surely not committed: {answers:?}");
    assert_refuses_to_write(&storage);
    drop(storage);
    let storage = world.open().unwrap();
    assert_eq!(outcome(&storage, 2), Outcome::NotCommitted);
    assert_eq!(load(&storage, 1), revision(first, None, "a"));
    committed(&storage, commit(4, [update(1, first, "d")]));
}

#[test]
fn nobody_is_told_not_committed_while_that_is_unknown() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    world.disk.fail_sync_in(0);
    apply(&storage, commit(1, [new(1, "a")])).unwrap_err();
    let answers = storage.apply(vec![Operation::Outcome(super::testing::query(1))], NOW);
    assert!(matches!(answers[0], Err(Refused::Failed(_))), "{answers:?}");
}

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let whole = world.segment(1);
    committed(&storage, commit(2, [update(1, first, "b")]));
    drop(storage);
    let torn = world.segment(1);
    for cut in whole.len()..torn.len() - PADDING {
        let world = World::new(1);
        world.put_segment(1, &torn[..cut]);
        let storage = world.open().unwrap();
        assert!(world.segment(1)[whole.len()..].iter().all(|&byte| byte == 0), "wiped");
        assert_eq!(load(&storage, 1), revision(first, None, "a"));
        committed(&storage, commit(3, [new(3, "c")]));
        world.disk.crash();
        let storage = world.open().unwrap();
        assert_eq!(outcome(&storage, 2), Outcome::NotCommitted);
        assert!(matches!(load(&storage, 3), Found::Revision(..)));
    }
}

#[test]
fn damage_before_what_is_durable_is_located_and_nothing_is_cut() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let end_of_first = world.segment(1).len();
    committed(&storage, commit(2, [update(1, first, "b")]));
    let end_of_second = world.segment(1).len();
    committed(&storage, commit(3, [new(3, "c")]));
    drop(storage);
    let sound = world.segment(1);
    for offset in end_of_first..end_of_second - PADDING {
        let world = World::new(1);
        world.put_segment(1, &sound);
        world.disk.damage("00000001.log", offset);
        let before = world.segment(1);
        let OpenError::Damaged(damage) = world.open().unwrap_err() else { panic!() };
        assert_eq!(damage.file, "journal/00000001.log");
        assert_eq!((damage.offset, damage.after), (end_of_first as u64, first));
        assert_eq!(world.segment(1), before, "nothing was changed");
    }
}

#[test]
fn damage_at_the_start_of_a_segment_is_not_a_new_storage() {
    for offset in [0, 9, 40, 70, 130] {
        let world = World::new(1);
        let storage = world.open().unwrap();
        committed(&storage, commit(1, [new(1, "a")]));
        drop(storage);
        world.disk.damage("00000001.log", offset);
        let refused = world.open().unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{offset}: {refused}");
    }
}

#[test]
fn a_lost_segment_is_damage() {
    let world = World::new(1);
    let storage = world.filled(20);
    let last = storage.last_tid();
    drop(storage);
    let names = world.disk.list().unwrap();
    assert!(names.len() > 3, "{names:?}");
    for name in &names[..names.len() - 1] {
        let copy = world.copy();
        copy.disk.remove(name).unwrap();
        let refused = copy.open().unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{name}: {refused}");
    }
    assert_eq!(world.copy().open().unwrap().last_tid(), last, "the copies are sound");
}

#[test]
fn a_damaged_record_is_reported_where_it_is_and_the_others_are_read() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "damaged"), new(2, "sound")]));
    storage.close().unwrap();
    drop(storage);
    let sound = world.segment(1);
    let at = sound.windows(7).position(|bytes| bytes == b"damaged").unwrap();
    world.disk.damage("00000001.log", at);
    let storage = world.open().unwrap();
    let error = storage.load_before(Oid::new(1), Tid::MAX, Tid::MAX).unwrap_err();
    assert!(matches!(error, StorageError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("journal/00000001.log at byte"), "{error}");
    assert_eq!(load(&storage, 2), revision(first, None, "sound"));
}

#[test]
fn data_that_looks_like_the_journal_is_only_data() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    committed(&storage, commit(1, [new(1, "a")]));
    committed(&storage, commit(2, [new(2, "b")]));
    let whole = world.segment(1);
    let mut copy = new(3, "");
    copy.data = Some(whole.clone().into());
    committed(&storage, commit(3, [copy]));
    drop(storage);
    let torn = world.segment(1);
    let torn = if torn.len() > whole.len() { torn } else { return };
    let world = World::new(1);
    world.put_segment(1, &torn[..torn.len() - 9]);
    let storage = world.open().unwrap();
    assert_eq!(outcome(&storage, 3), Outcome::NotCommitted);
}

#[test]
fn a_newer_format_and_a_foreign_segment_are_refused() {
    let world = World::new(1);
    drop(world.filled(20));
    let mut header = world.segment(2);
    header[8..12].copy_from_slice(&2_u32.to_be_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_be_bytes());
    let newer = world.copy();
    newer.put_segment(2, &header);
    let refused = newer.open().unwrap_err().to_string();
    assert_eq!(refused, "journal/00000002.log has format 2; this version reads up to 1");
    let other = World { uuid: [9; 16], ..World::new(2) };
    drop(other.filled(20));
    let mixed = world.copy();
    mixed.put_segment(2, &other.segment(2));
    let refused = mixed.open().unwrap_err().to_string();
    assert_eq!(refused, "journal/00000002.log belongs to another storage");
}

#[test]
fn an_index_that_does_not_fit_is_made_anew() {
    let world = World::new(1);
    let storage = world.filled(30);
    let last = storage.last_tid();
    storage.close().unwrap();
    drop(storage);
    let foreign = World { uuid: [9; 16], ..World::new(2) };
    foreign.filled(30).close().unwrap();
    let older = World::new(1);
    older.filled(60).close().unwrap();
    for index in [&foreign.index, &older.index] {
        let mixed = World { index: index.clone(), ..world.copy() };
        let storage = mixed.open().unwrap();
        assert_eq!(mixed.index.resets(), 1);
        assert_eq!(storage.last_tid(), last);
        assert_eq!(changes(&storage, Tid::ZERO), objects(1..=30));
    }
}

#[test]
fn an_index_that_is_lost_is_filled_again() {
    let world = World::new(1);
    let storage = world.filled(30);
    let all: Vec<_> = (1..=30).map(|oid| load(&storage, oid)).collect();
    storage.close().unwrap();
    drop(storage);
    world.index.lose_all();
    let storage = world.open().unwrap();
    assert_eq!((1..=30).map(|oid| load(&storage, oid)).collect::<Vec<_>>(), all);
    assert_eq!(outcome(&storage, 7), Outcome::Committed(storage_tid(&all[6])));
}

#[test]
fn a_second_opener_is_refused_with_the_holder() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let pid = std::process::id();
    let refused = world.open().unwrap_err().to_string();
    assert_eq!(refused, format!("simulated disk is in use by process {pid}"));
    drop(storage);
    world.open().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let open = || super::open(dir.path(), OpenOptions::new(IDENTITY.uuid));
    let storage = open().unwrap();
    let refused = open().unwrap_err().to_string();
    assert_eq!(refused, format!("{} is in use by process {pid}", dir.path().display()));
    drop(storage);
    open().unwrap();
}

#[test]
fn the_overlay_stays_bounded_when_nobody_does_the_chores() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let mut fullest = 0;
    for id in 1..200 {
        committed(&storage, commit(id, [new(id, "a"), new(id + 1_000, "b")]));
        fullest = fullest.max(storage.overlay_len());
    }
    assert!(fullest < tiny().overlay_entries + 4, "{fullest}");
    assert_eq!(changes(&storage, Tid::ZERO), objects((1..200).chain(1_001..1_200)));
}

#[test]
fn loads_go_on_beside_commits_and_chores() {
    let dir = tempfile::tempdir().unwrap();
    let storage = super::open(dir.path(), OpenOptions::new(IDENTITY.uuid)).unwrap();
    let first = committed(&storage, commit(1, [new(1, "x"), new(2, "x")]));
    let over = std::sync::atomic::AtomicBool::new(false);
    let running = || !over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while running() {
                storage.index_some().unwrap()
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while running() {
                    let as_of = storage.last_tid();
                    let load = |oid| storage.load_before(Oid::new(oid), Tid::MAX, as_of).unwrap();
                    assert_eq!(load(1), load(2), "both are always written together");
                }
            });
        }
        let mut last = first;
        for id in 2..200 {
            let data = id.to_string();
            last =
                committed(&storage, commit(id, [update(1, last, &data), update(2, last, &data)]));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Bytes at the end of a group that may be padding, which nothing depends on.
const PADDING: usize = 7;

struct World {
    disk: SimDisk,
    index: MapIndex,
    uuid: [u8; 16],
}

type Simulated = JournalStorage<SimDisk, MapIndex>;

impl World {
    fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), index: MapIndex::default(), uuid: IDENTITY.uuid }
    }

    fn open(&self) -> Result<Simulated, OpenError> {
        let index = self.index.clone();
        JournalStorage::open(self.disk.clone(), || Ok(index), tiny(), self.uuid)
    }

    /// A storage with that many commits.
    fn filled(&self, commits: u64) -> Simulated {
        let storage = self.open().unwrap();
        for id in 1..=commits {
            committed(&storage, commit(id, [new(id, &"data ".repeat(40))]));
        }
        storage
    }

    /// The same files on another disk, without the index.
    fn copy(&self) -> Self {
        let copy = Self { uuid: self.uuid, ..Self::new(1) };
        for name in self.disk.list().unwrap() {
            let number = name.trim_end_matches(".log").parse().unwrap();
            copy.put_segment(number, &self.segment(number));
        }
        copy
    }

    fn segment(&self, number: u32) -> Vec<u8> {
        let file = self.disk.open(&format!("{number:08}.log")).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn put_segment(&self, number: u32, bytes: &[u8]) {
        let name = format!("{number:08}.log");
        let file = self.disk.open(&name).or_else(|_| self.disk.create(&name)).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        self.disk.sync_dir().unwrap();
    }
}

fn assert_refuses_to_write(storage: &Simulated) {
    let refused = apply(storage, commit(90, [new(90, "x")]));
    assert!(matches!(refused, Err(Refused::Failed(_))), "{refused:?}");
    let refused = storage.apply(vec![Operation::ReserveOids(1)], NOW);
    assert!(matches!(refused[0], Err(Refused::Failed(_))), "{refused:?}");
}

fn storage_tid(found: &Found) -> Tid {
    let Found::Revision(validity, _) = found else { panic!("{found:?}") };
    validity.serial
}
