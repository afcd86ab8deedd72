//! What every storage must do: one suite, run over each of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::{Conflict, Oid, Outcome, OutcomeQuery, Tid, Validity};

use super::disk::{Disk, Random, SimDisk};
use super::testing::{
    IDENTITY, Model, NOW, apply, changes, commit, committed, delete, load, new, objects, outcome,
    query, revision, sorted, update,
};
use super::{
    Applied, Changes, Check, Commit, Found, Operation, Record, Refused, SpillFile, Storage,
};
use kinds::{Kind, Memory, OnDisk, Simulated};

/// Runs each test of the contract over each kind of storage.
macro_rules! contract {
    ($($name:ident)*) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&super::Memory); })*
        }
        mod simulated_journal_and_map {
            $(#[test] fn $name() { super::$name(&super::Simulated::new()); })*
        }
        mod journal_and_sled {
            $(#[test] fn $name() { super::$name(&super::OnDisk::new()); })*
        }
        mod memory_through_the_wire {
            use crate::storage::contract::wire::{Wire, run};
            $(#[test] fn $name() { run(stringify!($name), super::$name, &Wire::memory()); })*
        }
        mod simulated_journal_and_map_through_the_wire {
            use crate::storage::contract::wire::{Wire, run};
            $(#[test] fn $name() { run(stringify!($name), super::$name, &Wire::simulated(5)); })*
        }
    };
}

mod history;
mod kinds;
mod properties;
mod undo;
mod wire;

contract! {
    a_new_storage_is_empty
    a_commit_is_what_is_loaded
    a_stale_serial_is_a_conflict
    a_store_without_serial_is_checked_against_the_snapshot
    a_dependency_that_changed_is_a_conflict
    a_check_finds_every_conflict_and_writes_nothing
    a_check_sees_what_was_committed_before_it_in_its_group
    a_restored_transaction_has_its_tid_and_is_not_checked
    a_restored_transaction_is_newer_than_the_last_and_not_of_the_future
    r32_a_deleted_object_is_deleted_and_not_absent
    the_later_of_two_records_counts
    a_refused_commit_leaves_nothing
    commits_of_one_group_see_each_other
    nothing_is_visible_after_as_of
    tids_grow_when_the_clock_does_not
    a_transaction_without_records_takes_a_tid
    a_commit_sent_twice_is_applied_once
    a_commit_sent_again_is_known_however_much_is_indexed
    the_outcome_of_a_commit_is_its_tid
    a_transaction_said_not_to_be_committed_never_is
    an_outcome_of_another_epoch_is_too_old
    oids_are_never_handed_out_twice
    an_oid_chosen_by_a_client_is_not_handed_out
    changes_are_listed_once_each
    changes_since_a_foreign_tid_are_not_of_this_history
    large_objects_survive
    data_that_waited_in_a_file_is_committed_like_any_other
    every_load_of_a_random_history_is_that_of_the_model
}

fn a_new_storage_is_empty(kind: &impl Kind) {
    let storage = kind.open();
    assert_eq!(storage.last_tid(), Tid::ZERO);
    assert_eq!(storage.identity(), IDENTITY);
    assert_eq!(load(&storage, 1), Found::Absent);
    assert_eq!(changes(&storage, Tid::ZERO), Changes::Objects(vec![]));
    let foreign = storage.changes_since(Tid::new(1), Tid::MAX, 9).unwrap();
    assert_eq!(foreign, Changes::NotOfThisHistory);
}

fn a_commit_is_what_is_loaded(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b")]));
    let second = committed(&storage, commit(2, [update(1, first, "c")]));
    assert!(Tid::ZERO < first && first < second);
    let check = |storage: &dyn Storage| {
        assert_eq!(storage.last_tid(), second);
        assert_eq!(load(storage, 1), revision(second, None, "c"));
        assert_eq!(load(storage, 2), revision(first, None, "b"));
        let old = storage.load_before(Oid::new(1), second, Tid::MAX).unwrap();
        assert_eq!(old, revision(first, Some(second), "a"));
        let none = storage.load_before(Oid::new(1), first, Tid::MAX).unwrap();
        assert_eq!(none, Found::Absent);
    };
    check(&storage);
    check(&kind.reopen(storage));
}

fn a_stale_serial_is_a_conflict(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    let conflict =
        |read| Err(Refused::Conflict(Conflict { oid: Oid::new(1), committed: second, read }));
    assert_eq!(apply(&storage, commit(3, [update(1, first, "c")])), conflict(first));
    assert_eq!(apply(&storage, commit(4, [new(1, "d")])), conflict(Tid::ZERO));
    let future = second.next();
    assert_eq!(apply(&storage, commit(5, [update(1, future, "e")])), conflict(future));
    assert_eq!(load(&storage, 1), revision(second, None, "b"));
}

fn a_store_without_serial_is_checked_against_the_snapshot(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let blind = || Record { serial: None, ..new(1, "b") };
    let refused = apply(&storage, commit(2, [blind()]));
    let conflict = Conflict { oid: Oid::new(1), committed: first, read: Tid::ZERO };
    assert_eq!(refused, Err(Refused::Conflict(conflict)));
    committed(&storage, Commit { snapshot: first, ..commit(3, [blind()]) });
}

fn a_dependency_that_changed_is_a_conflict(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let depending =
        |id, read| Commit { read_current: vec![(Oid::new(1), read)], ..commit(id, [new(id, "b")]) };
    committed(&storage, depending(2, first));
    let second = committed(&storage, commit(3, [update(1, first, "c")]));
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    assert_eq!(apply(&storage, depending(4, first)), Err(Refused::Conflict(conflict)));
    assert_eq!(load(&storage, 4), Found::Absent);
}

fn a_check_finds_every_conflict_and_writes_nothing(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b"), new(3, "c")]));
    let second = committed(&storage, commit(2, [update(1, first, "d"), delete(3, first)]));
    let check = Check {
        snapshot: first,
        writes: vec![(Oid::new(1), Some(first)), (Oid::new(2), Some(first)), (Oid::new(4), None)],
        read_current: vec![(Oid::new(3), first), (Oid::new(2), first)],
        bytes: 0,
    };
    let conflict = |oid| Conflict { oid: Oid::new(oid), committed: second, read: first };
    let found = storage.apply(&[Operation::Check(check)], NOW);
    assert_eq!(found, [Ok(Applied::Checked(vec![conflict(1), conflict(3)]))]);
    let blind = Check { snapshot: first, writes: vec![(Oid::new(1), None)], ..Check::default() };
    let found = storage.apply(&[Operation::Check(blind)], NOW);
    assert_eq!(found, [Ok(Applied::Checked(vec![conflict(1)]))]);
    assert_eq!(storage.last_tid(), second);
}

fn a_check_sees_what_was_committed_before_it_in_its_group(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let check = |serial| {
        let writes = vec![(Oid::new(1), Some(serial))];
        Operation::Check(Check { writes, ..Check::default() })
    };
    let group =
        vec![check(first), Operation::Commit(commit(2, [update(1, first, "b")])), check(first)];
    let answers = storage.apply(&group, NOW);
    let second = storage.last_tid();
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    assert_eq!(answers[0], Ok(Applied::Checked(vec![])));
    assert_eq!(answers[2], Ok(Applied::Checked(vec![conflict])));
}

fn a_restored_transaction_has_its_tid_and_is_not_checked(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let tid = Tid::new(first.number() + 1_000);
    let stale = Oid::new(1);
    let read_current = vec![(stale, Tid::new(1))];
    let copy =
        Commit { restore: Some(tid), read_current, ..commit(2, [new(1, "b"), delete(7, tid)]) };
    assert_eq!(committed(&storage, copy), tid);
    let check = |storage: &dyn Storage| {
        assert_eq!(storage.last_tid(), tid);
        assert_eq!(load(storage, 1), revision(tid, None, "b"));
        assert_eq!(outcome(storage, 2), Outcome::Committed(tid));
    };
    check(&storage);
    let storage = kind.reopen(storage);
    check(&storage);
    assert!(committed(&storage, commit(3, [new(2, "c")])) > tid);
}

fn a_restored_transaction_is_newer_than_the_last_and_not_of_the_future(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let two_days = NOW + 48 * 3_600 * 1_000_000;
    let older = Tid::new(first.number() - 1);
    for tid in [first, older, Tid::ZERO.next_at(two_days), Tid::MAX] {
        let copy = Commit { restore: Some(tid), ..commit(2, [new(2, "b")]) };
        assert_eq!(apply(&storage, copy), Err(Refused::OutOfOrder(first)));
    }
    assert_eq!(load(&storage, 2), Found::Absent);
}

fn r32_a_deleted_object_is_deleted_and_not_absent(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [delete(1, first)]));
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    assert_eq!(
        apply(&storage, commit(3, [update(1, first, "b")])),
        Err(Refused::Conflict(conflict))
    );
    let check = |storage: &dyn Storage| {
        let deleted = Validity { serial: second, end: None };
        assert_eq!(load(storage, 1), Found::Deleted(deleted));
        let before = storage.load_before(Oid::new(1), second, Tid::MAX).unwrap();
        assert_eq!(before, revision(first, Some(second), "a"));
    };
    check(&storage);
    let storage = kind.reopen(storage);
    check(&storage);
    let third = committed(&storage, commit(4, [update(1, second, "again")]));
    assert_eq!(load(&storage, 1), revision(third, None, "again"));
    let deleted = Validity { serial: second, end: Some(third) };
    assert_eq!(storage.load_before(Oid::new(1), third, Tid::MAX).unwrap(), Found::Deleted(deleted));
}

fn the_later_of_two_records_counts(kind: &impl Kind) {
    let storage = kind.open();
    let tid = committed(&storage, commit(1, [update(1, Tid::new(7), "a"), new(1, "b")]));
    assert_eq!(load(&storage, 1), revision(tid, None, "b"));
}

fn a_refused_commit_leaves_nothing(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    apply(&storage, commit(2, [new(2, "b"), update(1, Tid::new(9), "c")])).unwrap_err();
    let check = |storage: &dyn Storage| {
        assert_eq!(storage.last_tid(), first);
        assert_eq!(load(storage, 1), revision(first, None, "a"));
        assert_eq!(load(storage, 2), Found::Absent);
    };
    check(&storage);
    let storage = kind.reopen(storage);
    check(&storage);
    committed(&storage, commit(2, [new(2, "b")]));
}

fn commits_of_one_group_see_each_other(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let group = vec![
        Operation::Commit(commit(2, [update(1, first, "b")])),
        Operation::Commit(commit(3, [update(1, first, "c")])),
        Operation::Commit(commit(4, [new(2, "d")])),
        Operation::Outcome(query(2)),
        Operation::Outcome(query(3)),
        Operation::Commit(commit(2, [update(1, first, "b")])),
    ];
    let answers = storage.apply(&group, NOW);
    let Ok(Applied::Committed(second)) = answers[0] else { panic!("{answers:?}") };
    let Ok(Applied::Committed(third)) = answers[2] else { panic!("{answers:?}") };
    assert!(first < second && second < third);
    let conflict = Conflict { oid: Oid::new(1), committed: second, read: first };
    assert_eq!(answers[1], Err(Refused::Conflict(conflict)));
    assert_eq!(answers[3], Ok(Applied::Outcome(Outcome::Committed(second))));
    assert_eq!(answers[4], Ok(Applied::Outcome(Outcome::NotCommitted)));
    assert_eq!(answers[5], Ok(Applied::Committed(second)));
    let storage = kind.reopen(storage);
    assert_eq!(load(&storage, 1), revision(second, None, "b"));
    assert_eq!(load(&storage, 2), revision(third, None, "d"));
}

fn nothing_is_visible_after_as_of(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    let third = committed(&storage, commit(3, [update(1, second, "c")]));
    let as_of = |as_of, before| storage.load_before(Oid::new(1), before, as_of).unwrap();
    assert_eq!(as_of(Tid::ZERO, Tid::MAX), Found::Absent);
    assert_eq!(as_of(first.previous(), Tid::MAX), Found::Absent);
    assert_eq!(as_of(first, Tid::MAX), revision(first, None, "a"));
    assert_eq!(as_of(first, second), revision(first, None, "a"));
    assert_eq!(as_of(second, second), revision(first, Some(second), "a"));
    assert_eq!(as_of(second, third), revision(second, None, "b"));
    assert_eq!(as_of(third.previous(), Tid::MAX), revision(second, None, "b"));
    assert_eq!(as_of(third, third), revision(second, Some(third), "b"));
    assert_eq!(as_of(Tid::MAX, Tid::MAX), revision(third, None, "c"));
    assert_eq!(as_of(Tid::MAX, Tid::ZERO), Found::Absent);
}

fn tids_grow_when_the_clock_does_not(kind: &impl Kind) {
    let storage = kind.open();
    let at = |id, micros| {
        let answers = storage.apply(&[Operation::Commit(commit(id, []))], micros);
        let Ok(Applied::Committed(tid)) = answers[0] else { panic!("{answers:?}") };
        tid
    };
    let first = at(1, NOW);
    assert_eq!(first, Tid::from_unix_micros(NOW));
    assert_eq!(at(2, NOW), first.next());
    assert_eq!(at(3, NOW - 1_000_000), first.next().next());
    assert_eq!(at(4, NOW + 1_000_000), Tid::from_unix_micros(NOW + 1_000_000));
}

fn a_transaction_without_records_takes_a_tid(kind: &impl Kind) {
    let storage = kind.open();
    let tid = committed(&storage, commit(1, []));
    let storage = kind.reopen(storage);
    assert_eq!(storage.last_tid(), tid);
    assert_eq!(outcome(&storage, 1), Outcome::Committed(tid));
}

fn a_commit_sent_twice_is_applied_once(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    assert_eq!(committed(&storage, commit(1, [new(1, "a")])), first);
    let storage = kind.reopen(storage);
    assert_eq!(committed(&storage, commit(2, [update(1, first, "b")])), second);
    assert_eq!(storage.last_tid(), second);
}

fn a_commit_sent_again_is_known_however_much_is_indexed(kind: &impl Kind) {
    let mut storage = kind.open();
    let mut sent = Vec::new();
    for number in 1..=24 {
        let commit = Commit { snapshot: storage.last_tid(), ..commit(number, [new(number, "a")]) };
        sent.push((commit.clone(), committed(&storage, commit)));
        if number % 3 == 0 {
            storage.index_some().unwrap();
        }
        if number % 10 == 0 {
            storage = kind.reopen(storage);
        }
        for (commit, tid) in &sent {
            assert_eq!(committed(&storage, commit.clone()), *tid);
        }
    }
}

fn the_outcome_of_a_commit_is_its_tid(kind: &impl Kind) {
    let storage = kind.open();
    let tid = committed(&storage, commit(1, [new(1, "a")]));
    assert_eq!(outcome(&storage, 1), Outcome::Committed(tid));
    let storage = kind.reopen(storage);
    assert_eq!(outcome(&storage, 1), Outcome::Committed(tid));
}

fn a_transaction_said_not_to_be_committed_never_is(kind: &impl Kind) {
    let storage = kind.open();
    assert_eq!(outcome(&storage, 1), Outcome::NotCommitted);
    assert_eq!(apply(&storage, commit(1, [new(1, "a")])), Err(Refused::Fenced));
    assert_eq!(outcome(&storage, 1), Outcome::NotCommitted);
    committed(&storage, commit(2, [new(1, "b")]));
    assert_eq!(apply(&storage, commit(1, [new(2, "a")])), Err(Refused::Fenced));
    assert_eq!(load(&storage, 2), Found::Absent);
}

fn an_outcome_of_another_epoch_is_too_old(kind: &impl Kind) {
    let storage = kind.open();
    committed(&storage, commit(1, [new(1, "a")]));
    let foreign = OutcomeQuery { epoch: 7, ..query(1) };
    let answers = storage.apply(&[Operation::Outcome(foreign)], NOW);
    assert_eq!(answers, [Ok(Applied::Outcome(Outcome::TooOldToKnow))]);
}

fn oids_are_never_handed_out_twice(kind: &impl Kind) {
    let mut storage = kind.open();
    let mut taken = BTreeSet::from([Oid::ROOT]);
    for count in [1, 7, 5_000, 1, 0, 10_000] {
        let answers = storage.apply(&[(); 2].map(|()| Operation::ReserveOids(count)), NOW);
        for answer in answers {
            let Ok(Applied::Reserved(first)) = answer else { panic!("{answer:?}") };
            for number in 0..u64::from(count) {
                assert!(taken.insert(Oid::new(first.number() + number)));
            }
        }
        if storage.last_tid() == Tid::ZERO {
            storage = kind.reopen(storage);
        }
    }
}

fn an_oid_chosen_by_a_client_is_not_handed_out(kind: &impl Kind) {
    let storage = kind.open();
    committed(&storage, commit(1, [new(9_000, "a")]));
    let storage = kind.reopen(storage);
    let answers = storage.apply(&[Operation::ReserveOids(1)], NOW);
    assert!(matches!(answers[0], Ok(Applied::Reserved(oid)) if oid > Oid::new(9_000)));
}

fn changes_are_listed_once_each(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b")]));
    let second = committed(&storage, commit(2, [update(1, first, "c"), new(3, "d")]));
    let third = committed(&storage, commit(3, [update(1, second, "e"), delete(2, first)]));
    let check = |storage: &dyn Storage| {
        assert_eq!(changes(storage, Tid::ZERO), objects([1, 2, 3]));
        assert_eq!(changes(storage, first), objects([1, 2, 3]));
        assert_eq!(changes(storage, second), objects([1, 2]));
        assert_eq!(changes(storage, third), objects([]));
        let part = |through, limit| storage.changes_since(first, through, limit).unwrap();
        assert_eq!(sorted(part(second, 9)), objects([1, 3]));
        assert_eq!(part(first, 9), objects([]));
        assert_eq!(part(third, 2), Changes::TooMany);
        assert_eq!(sorted(part(third, 3)), objects([1, 2, 3]));
        assert_eq!(storage.changes_since(third, first, 9).unwrap(), objects([]));
    };
    check(&storage);
    check(&kind.reopen(storage));
}

fn changes_since_a_foreign_tid_are_not_of_this_history(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    for foreign in [first.previous(), first.next(), second.previous(), second.next(), Tid::MAX] {
        if foreign != first && foreign != second {
            assert_eq!(changes(&storage, foreign), Changes::NotOfThisHistory);
        }
    }
}

fn large_objects_survive(kind: &impl Kind) {
    let storage = kind.open();
    let large = |fill, len| Bytes::from(vec![fill; len]);
    let record = |oid, data| Record::store(Oid::new(oid), Some(Tid::ZERO), data, None);
    let sizes = [0, 1, 65_535, 65_536, 3_000_000];
    let records = sizes.iter().zip(1..).map(|(&len, oid)| record(oid, large(7, len)));
    let tid = committed(&storage, commit(1, records));
    let small = committed(&storage, commit(2, [new(9, "small")]));
    let storage = kind.reopen(storage);
    for (&len, oid) in sizes.iter().zip(1..) {
        let validity = Validity { serial: tid, end: None };
        assert_eq!(load(&storage, oid), Found::Revision(validity, large(7, len)));
    }
    assert_eq!(load(&storage, 9), revision(small, None, "small"));
}

fn data_that_waited_in_a_file_is_committed_like_any_other(kind: &impl Kind) {
    let storage = kind.open();
    let elsewhere = || SpillFile::new(Arc::new(SimDisk::new(1).temporary().unwrap()));
    let mut file = storage.spill_file().unwrap().unwrap_or_else(elsewhere);
    let large = Bytes::from(vec![7; 3_000_000]);
    let refs = Some(vec![Oid::new(2); 1_000]);
    let large_record = Record::store(Oid::new(3), Some(Tid::ZERO), large.clone(), refs);
    let mut records = vec![new(1, "a"), update(2, Tid::ZERO, "b"), large_record];
    file.spill(&mut records).unwrap();
    assert!(records.iter().all(|record| record.body.held().is_none()));
    // What came after the last spill is still in memory.
    let tid = committed(&storage, commit(1, records.into_iter().chain([new(4, "d")])));
    let storage = kind.reopen(storage);
    assert_eq!(load(&storage, 1), revision(tid, None, "a"));
    assert_eq!(load(&storage, 2), revision(tid, None, "b"));
    assert_eq!(load(&storage, 3), Found::Revision(Validity { serial: tid, end: None }, large));
    assert_eq!(load(&storage, 4), revision(tid, None, "d"));
}

fn every_load_of_a_random_history_is_that_of_the_model(kind: &impl Kind) {
    let mut random = Random::new(1);
    let mut model = Model::default();
    let mut storage = kind.open();
    for round in 0..60 {
        let commits: Vec<_> =
            (0..=random.below(4)).map(|_| model.random_commit(&mut random)).collect();
        let group: Vec<_> = commits.iter().cloned().map(Operation::Commit).collect();
        let answers = storage.apply(&group, NOW + round);
        commits.iter().zip(&answers).for_each(|(commit, answer)| model.answered(commit, answer));
        if random.below(3) == 0 {
            storage.index_some().unwrap();
        }
        if random.below(6) == 0 {
            storage.prepare().unwrap();
        }
        if round % 20 == 19 {
            model.check(&storage);
            storage = kind.reopen(storage);
            model.check(&storage);
        }
    }
}
