//! What undoing must do in every storage.

use bytes::Bytes;
use zeo_proto::{Conflict, Oid, Tid};

use super::{Kind, Memory, OnDisk, Simulated};
use crate::storage::testing::{apply, commit, committed, delete, load, new, revision, update};
use crate::storage::{Found, Record, Refused, Storage, UndoLimits, UndoRefused};

contract! {
    undoing_a_change_puts_back_what_was_before
    undoing_a_creation_deletes
    undoing_a_deletion_puts_the_object_back
    an_undo_can_be_undone
    transactions_can_be_undone_one_after_the_other
    several_transactions_are_undone_at_once
    what_others_wrote_since_is_in_the_way
    what_has_the_same_data_again_is_not_in_the_way
    a_transaction_that_is_not_there_cannot_be_undone
    a_commit_that_comes_in_between_is_a_conflict
    references_come_back_with_the_data
    too_large_an_undo_is_refused
    a_large_undo_waits_in_a_file
    at_most_a_thousand_objects_in_the_way_are_named
}

fn undoing_a_change_puts_back_what_was_before(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b")]));
    let second = committed(&storage, commit(2, [update(1, first, "c")]));
    assert_eq!(undo(&storage, [second]), Ok(vec![Record { serial: Some(second), ..new(1, "a") }]));
    let third = undone(&storage, 3, [second]);
    assert_eq!(load(&storage, 1), revision(third, None, "a"));
    assert_eq!(load(&storage, 2), revision(first, None, "b"));
}

fn undoing_a_creation_deletes(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    assert_eq!(undo(&storage, [first]), Ok(vec![delete(1, first)]));
    undone(&storage, 2, [first]);
    assert!(matches!(load(&storage, 1), Found::Deleted(_)));
    assert_eq!(storage.size().objects, 0);
}

fn undoing_a_deletion_puts_the_object_back(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [delete(1, first)]));
    let third = undone(&storage, 3, [second]);
    assert_eq!(load(&storage, 1), revision(third, None, "a"));
    assert_eq!(storage.size().objects, 1);
    let storage = kind.reopen(storage);
    assert_eq!(storage.size().objects, 1);
    assert_eq!(undo(&storage, [third]), Ok(vec![delete(1, third)]));
}

fn an_undo_can_be_undone(kind: &impl Kind) {
    let mut storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let mut last = committed(&storage, commit(2, [update(1, first, "b"), new(2, "c")]));
    for id in 3..9 {
        last = undone(&storage, id, [last]);
        let (changed, made) = if id % 2 == 1 { ("a", None) } else { ("b", Some("c")) };
        assert_eq!(load(&storage, 1), revision(last, None, changed));
        match made {
            Some(data) => assert_eq!(load(&storage, 2), revision(last, None, data)),
            None => assert!(matches!(load(&storage, 2), Found::Deleted(_))),
        }
        storage = kind.reopen(storage);
    }
}

fn transactions_can_be_undone_one_after_the_other(kind: &impl Kind) {
    let storage = kind.open();
    let mut tids = vec![committed(&storage, commit(1, [new(1, "0")]))];
    for id in 2..6 {
        let last = *tids.last().unwrap();
        tids.push(committed(&storage, commit(id, [update(1, last, &id.to_string())])));
    }
    for (id, &tid) in (10..).zip(tids[1..].iter().rev()) {
        undone(&storage, id, [tid]);
    }
    let last = storage.last_tid();
    assert_eq!(load(&storage, 1), revision(last, None, "0"));
    undone(&storage, 20, [tids[0]]);
    assert!(matches!(load(&storage, 1), Found::Deleted(_)));
    let refused = undo(&storage, [tids[2]]);
    assert_eq!(refused, Err(UndoRefused::InTheWay(vec![Oid::new(1)])));
}

fn several_transactions_are_undone_at_once(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b")]));
    let second = committed(&storage, commit(2, [update(1, first, "c")]));
    let third = committed(&storage, commit(3, [update(1, second, "d"), update(2, first, "e")]));
    let fourth = committed(&storage, commit(4, [new(3, "f")]));
    let storage = kind.reopen(storage);
    let fifth = undone(&storage, 5, [third, fourth, second, third]);
    assert_eq!(load(&storage, 1), revision(fifth, None, "a"));
    assert_eq!(load(&storage, 2), revision(fifth, None, "b"));
    assert!(matches!(load(&storage, 3), Found::Deleted(_)));
    assert_eq!(undo(&storage, []), Ok(vec![]));
}

fn what_others_wrote_since_is_in_the_way(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(2, "a"), new(1, "b"), new(3, "c")]));
    let second = committed(&storage, commit(2, [update(1, first, "d"), update(2, first, "e")]));
    let third = committed(&storage, commit(3, [update(2, second, "f")]));
    let refused = |tids: &[Tid]| undo(&storage, tids.iter().copied());
    let in_the_way =
        |oids: &[u64]| Err(UndoRefused::InTheWay(oids.iter().copied().map(Oid::new).collect()));
    assert_eq!(refused(&[second]), in_the_way(&[2]));
    assert_eq!(refused(&[first]), in_the_way(&[1, 2]));
    assert_eq!(refused(&[first, third]), in_the_way(&[1, 2]));
    assert_eq!(refused(&[first, second]), in_the_way(&[2]));
    assert_eq!(refused(&[first, second, third]).unwrap().len(), 3);
}

fn what_has_the_same_data_again_is_not_in_the_way(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    let third = committed(&storage, commit(3, [delete(1, second)]));
    let fourth = committed(&storage, commit(4, [update(1, third, "b")]));
    let fifth = committed(&storage, commit(5, [delete(1, fourth)]));
    let target = |tids: &[Tid]| undo(&storage, tids.iter().copied()).unwrap().remove(0);
    // The deletion that is current is as good as the first one, and that one's predecessor as the
    // object that was made again.
    assert_eq!(target(&[third]), update_as(fifth, "b"));
    assert_eq!(target(&[fifth]), update_as(fifth, "b"));
    assert_eq!(target(&[fifth, second]), Record { serial: Some(fifth), ..new(1, "a") });
}

fn a_transaction_that_is_not_there_cannot_be_undone(kind: &impl Kind) {
    let storage = kind.open();
    let nothing = |tid| Err(UndoRefused::NoSuchTransaction(tid));
    assert_eq!(undo(&storage, [Tid::ZERO]), nothing(Tid::ZERO));
    assert_eq!(undo(&storage, [Tid::MAX]), nothing(Tid::MAX));
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, []));
    for tid in [first.previous(), second.next(), Tid::MAX, Tid::ZERO] {
        assert_eq!(undo(&storage, [second, first, tid]), nothing(tid));
    }
    assert_eq!(undo(&storage, [second]), Ok(vec![]), "it wrote nothing");
}

fn a_commit_that_comes_in_between_is_a_conflict(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let second = committed(&storage, commit(2, [update(1, first, "b")]));
    let undo = undo(&storage, [second]).unwrap();
    let third = committed(&storage, commit(3, [update(1, second, "c")]));
    let conflict = Conflict { oid: Oid::new(1), committed: third, read: second };
    assert_eq!(apply(&storage, commit(4, undo)), Err(Refused::Conflict(conflict)));
}

fn references_come_back_with_the_data(kind: &impl Kind) {
    let storage = kind.open();
    let record = |refs| Record::store(Oid::new(1), Some(Tid::ZERO), Bytes::new(), refs);
    for (id, refs) in [(1, None), (2, Some(vec![])), (3, Some(vec![Oid::new(7); 3]))] {
        let last = storage.last_tid();
        let before = Record { serial: Some(last), ..record(refs.clone()) };
        let first = committed(&storage, commit(id, [before]));
        let second = committed(&storage, commit(id + 10, [delete(1, first)]));
        let back = Record { serial: Some(second), ..record(refs.clone()) };
        assert_eq!(undo(&storage, [second]), Ok(vec![back]));
        undone(&storage, id + 20, [second]);
    }
}

fn too_large_an_undo_is_refused(kind: &impl Kind) {
    let storage = kind.open();
    let objects = || (1..=9).map(|oid| new(oid, "ten bytes."));
    let first = committed(&storage, commit(1, objects()));
    let second = committed(
        &storage,
        commit(2, objects().map(|object| Record { serial: Some(first), ..object })),
    );
    let limited = |objects, bytes| {
        let limits = UndoLimits { objects, bytes, spill_bytes: 1 << 20 };
        storage.undo(&[second], limits).unwrap().map(|records| records.len())
    };
    assert_eq!(limited(9, 90), Ok(9));
    assert_eq!(limited(8, 90), Err(UndoRefused::TooLarge));
    assert_eq!(limited(9, 89), Err(UndoRefused::TooLarge));
}

fn a_large_undo_waits_in_a_file(kind: &impl Kind) {
    let storage = kind.open();
    let data = |oid: u64| Bytes::from(vec![7; usize::try_from(oid * 10_000).unwrap()]);
    let object =
        |oid| Record::store(Oid::new(oid), Some(Tid::ZERO), data(oid), Some(vec![Oid::ROOT; 3]));
    let first = committed(&storage, commit(1, (1..=9).map(object)));
    let second = committed(&storage, commit(2, (1..=9).map(|oid| delete(oid, first))));
    let limits = UndoLimits { objects: 99, bytes: 1 << 20, spill_bytes: 100_000 };
    let records = storage.undo(&[second], limits).unwrap().unwrap();
    let held = records.iter().filter_map(|record| record.body.held()).map(Bytes::len);
    let held = held.sum::<usize>();
    assert!(held <= 100_000 || storage.spill_file().unwrap().is_none(), "{held}");
    let third = committed(&storage, commit(3, records));
    let storage = kind.reopen(storage);
    for oid in 1..=9 {
        let record = storage.load_record(Oid::new(oid), third).unwrap().unwrap();
        assert_eq!(record.data, Some(data(oid)));
        assert_eq!(record.refs, Some(vec![Oid::ROOT; 3]));
    }
}

fn at_most_a_thousand_objects_in_the_way_are_named(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, (1..=1_500).map(|oid| new(oid, "a"))));
    committed(&storage, commit(2, (1..=1_500).map(|oid| update(oid, first, "b"))));
    let Err(UndoRefused::InTheWay(oids)) = undo(&storage, [first]) else { panic!() };
    assert_eq!(oids, (1..=1_000).map(Oid::new).collect::<Vec<_>>());
}

fn undo(
    storage: &dyn Storage,
    tids: impl IntoIterator<Item = Tid>,
) -> Result<Vec<Record>, UndoRefused> {
    let limits = UndoLimits { objects: 10_000, bytes: 1 << 30, spill_bytes: 1 << 30 };
    storage.undo(&tids.into_iter().collect::<Vec<_>>(), limits).unwrap()
}

/// Commits what undoing these transactions writes.
fn undone(storage: &dyn Storage, id: u64, tids: impl IntoIterator<Item = Tid>) -> Tid {
    committed(storage, commit(id, undo(storage, tids).unwrap()))
}

fn update_as(serial: Tid, data: &str) -> Record {
    update(1, serial, data)
}
