//! Storages whose journal may become only so long.

use zeo_proto::{Outcome, Tid};

use super::testing::{
    NOW, World, apply, commit, committed, delete, load, new, query, revision, tiny, update,
};
use super::{Applied, Check, Operation, Refused, Settings, Storage, UndoLimits};

#[test]
fn a_quota_refuses_what_would_go_beyond_it_and_writes_nothing() {
    let world = World::new(1);
    let storage = world.open_with(with_quota(5_000)).unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let large = "data ".repeat(400);
    let refused = (2..9).find_map(|oid| apply(&storage, commit(oid, [new(oid, &large)])).err());
    let refused = refused.expect("it is smaller than all of them");
    assert_eq!(refused, Refused::QuotaExceeded(5_000));
    let before = storage.usage().journal_bytes;
    let check = Check { bytes: 2_000, ..Check::default() };
    let answers = storage.apply(
        &[
            Operation::Check(check),
            Operation::Check(Check::default()),
            Operation::Outcome(query(1)),
            Operation::Outcome(query(90)),
        ],
        NOW,
    );
    assert_eq!(answers[0], Err(refused));
    assert_eq!(answers[1], Ok(Applied::Checked(Vec::new())), "it has room");
    assert_eq!(answers[2], Ok(Applied::Outcome(Outcome::Committed(first))));
    assert_eq!(answers[3], Ok(Applied::Outcome(Outcome::NotCommitted)));
    assert_eq!(load(&storage, 1), revision(first, None, "a"));
    assert_eq!(storage.usage().journal_bytes, before);
}

#[test]
fn a_full_quota_refuses_deletes_undos_and_oids_until_it_is_raised() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let used = storage.usage().journal_bytes;
    drop(storage);
    let storage = world.open_with(with_quota(used)).unwrap();
    let limits = UndoLimits { objects: 9, bytes: 99, spill_bytes: 99 };
    let undo = storage.undo(&[first], limits).unwrap().unwrap();
    let refused = vec![Err(Refused::QuotaExceeded(used)); 3];
    let group = || {
        vec![
            Operation::Commit(commit(2, [delete(1, first)])),
            Operation::Commit(commit(3, undo.clone())),
            Operation::ReserveOids(100_000),
        ]
    };
    assert_eq!(storage.apply(&group(), NOW), refused);
    assert_eq!(storage.usage().journal_bytes, used);
    drop(storage);
    let storage = world.open_with(with_quota(used + 1_000)).unwrap();
    assert!(matches!(storage.apply(&group(), NOW)[0], Ok(Applied::Committed(_))));
}

/// A vote that holds is a promise: what is committed must not need more room than was asked for.
#[test]
fn what_a_check_has_room_for_a_commit_has_room_for() {
    for spare in 0..400 {
        let world = World::new(spare);
        let storage = world.open().unwrap();
        let first = committed(&storage, commit(1, [new(1, "a")]));
        let quota = storage.usage().journal_bytes + spare;
        drop(storage);
        let storage = world.open_with(with_quota(quota)).unwrap();
        let commit = commit(2, [update(1, first, "some data"), new(2, "more"), new(3, "")]);
        let writes = commit.records.iter().map(|record| (record.oid, record.serial));
        let data: u64 = commit.records.iter().map(|record| record.body.size()).sum();
        let check = Check {
            snapshot: Tid::ZERO,
            writes: writes.collect(),
            read_current: Vec::new(),
            bytes: data + commit.meta.size() as u64,
        };
        let checked = storage.apply(&[Operation::Check(check)], NOW);
        let done = apply(&storage, commit);
        assert_eq!(checked[0].is_ok(), done.is_ok(), "{spare}");
        assert!(storage.usage().journal_bytes <= quota, "{spare}");
        assert!(done.is_ok() || spare < 390);
    }
}

fn with_quota(bytes: u64) -> Settings {
    Settings { quota_bytes: Some(bytes), ..tiny() }
}
