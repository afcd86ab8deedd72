//! Errors of the disk, full disks, and several who want the same storage.

use zeo_proto::{Oid, Outcome, Tid};

use super::disk::Random;
use super::testing::{
    IDENTITY, Model, NOW, Simulated, World, apply, changes, commit, committed, history, live, load,
    new, objects, outcome, pages, query, revision, tiny, update,
};
use super::{Applied, Check, Cursor, OpenOptions, Operation, Refused, Storage};

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
            Operation::Outcome(query(2)),
            Operation::Commit(commit(4, [new(1, "d")])),
            Operation::Check(Check::default()),
        ]
    };
    let answers = storage.apply(&group(), NOW);
    assert_eq!(answers, vec![Err(Refused::DiskFull); 5]);
    assert_eq!(load(&storage, 1), revision(first, None, "a"));
    world.disk.set_capacity(None);
    assert!(matches!(storage.apply(&group(), NOW)[0], Ok(Applied::Committed(_))));
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
        Operation::Check(Check::default()),
    ];
    let answers = storage.apply(&group, NOW);
    assert!(matches!(answers[0], Err(Refused::Unknown(_))), "{answers:?}");
    let (lost, check) = (&answers[1], &answers[2]);
    assert!(matches!(lost, Err(Refused::Failed(_))), "surely not committed: {answers:?}");
    assert!(matches!(check, Err(Refused::Failed(_))), "what it was held against is not known");
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
    let answers = storage.apply(&[Operation::Outcome(query(1))], NOW);
    assert!(matches!(answers[0], Err(Refused::Failed(_))), "{answers:?}");
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
fn what_was_not_closed_in_order_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || super::open(dir.path(), OpenOptions::new(IDENTITY.uuid)).unwrap();
    let mut tids = Vec::new();
    for id in 1..=3 {
        let storage = open();
        tids.push(committed(&storage, commit(id, [new(id, "a")])));
        if id == 2 {
            storage.index_some().unwrap();
        }
        for (oid, &tid) in (1..).zip(&tids) {
            assert_eq!(load(&storage, oid), revision(tid, None, "a"));
        }
    }
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

/// What moves from the overlay into the index is found in one of them at every moment.
#[test]
fn the_past_is_read_beside_commits_and_chores() {
    let dir = tempfile::tempdir().unwrap();
    let storage = super::open(dir.path(), OpenOptions::new(IDENTITY.uuid)).unwrap();
    let first = committed(&storage, commit(1, (1..=20).map(|oid| new(oid, "x"))));
    let over = std::sync::atomic::AtomicBool::new(false);
    let running = || !over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while running() {
                storage.index_some().unwrap()
            }
        });
        scope.spawn(|| {
            while running() {
                let as_of = storage.last_tid();
                let objects = live(&storage, as_of.next(), 7);
                assert_eq!(objects.len(), 20);
                assert_eq!(objects[0].1, as_of);
                let from = Cursor::new(first);
                let items = pages(&storage, from, (as_of, 200), |cursor| cursor);
                let commits = (items.len() - 21) / 2;
                let history = history(&storage, 1, 9);
                assert!(history.len() > commits, "{} {commits}", history.len());
            }
        });
        let mut last = first;
        for id in 2..300 {
            last = committed(&storage, commit(id, [update(1, last, "y")]));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn assert_refuses_to_write(storage: &Simulated) {
    let refused = apply(storage, commit(90, [new(90, "x")]));
    assert!(matches!(refused, Err(Refused::Failed(_))), "{refused:?}");
    let refused = storage.apply(&[Operation::ReserveOids(1)], NOW);
    assert!(matches!(refused[0], Err(Refused::Failed(_))), "{refused:?}");
}
