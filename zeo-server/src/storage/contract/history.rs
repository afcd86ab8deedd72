//! What every storage must be able to say of its past.

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::{Kind, Memory, OnDisk, Simulated};
use crate::storage::testing::{
    NOW, commit, committed, delete, history, live, new, pages, transactions, txn_id, update,
};
use crate::storage::{
    Applied, Commit, Cursor, CursorPlace, HistoryEntry, HistoryItem, HistoryLimit, HistoryRecord,
    ObjectsPage, Operation, Record, Size, Storage, TransactionHead, TransactionsPage,
};

contract! {
    a_new_storage_has_no_past
    transactions_come_in_order_each_with_its_records
    pages_however_small_make_up_the_whole
    a_page_begins_at_any_record
    a_page_begins_at_the_first_transaction_that_is_not_before_its_cursor
    a_wrong_place_changes_nothing
    nothing_after_through_is_on_a_page
    a_transaction_without_records_is_a_head
    a_transaction_larger_than_a_page_is_on_several
    a_record_is_found_by_its_transaction
    a_history_has_the_newest_first
    a_history_is_that_of_its_reader
    a_history_is_as_long_as_asked_for
    objects_come_in_order_without_the_deleted
    objects_are_those_of_their_reader
    pages_of_objects_make_up_the_whole
    any_number_of_deleted_objects_is_passed_over_step_by_step
    an_object_with_many_revisions_is_one_object
    the_size_counts_what_is_not_deleted
}

fn a_new_storage_has_no_past(kind: &impl Kind) {
    let storage = kind.open();
    let nothing = TransactionsPage { items: vec![], next: None };
    for tid in [Tid::ZERO, Tid::new(1), Tid::MAX] {
        assert_eq!(storage.transactions(&Cursor::new(tid), Tid::MAX, 100).unwrap(), nothing);
    }
    let nothing = ObjectsPage { objects: vec![], next: None };
    for oid in [Oid::ROOT, Oid::MAX] {
        assert_eq!(storage.objects(oid, Tid::MAX, 9).unwrap(), nothing);
        assert_eq!(storage.load_record(oid, Tid::MAX).unwrap(), None);
        assert_eq!(storage.load_record(oid, Tid::ZERO).unwrap(), None);
    }
    assert_eq!(history(&storage, 1, 9), []);
    assert_eq!(storage.size().objects, 0);
}

fn transactions_come_in_order_each_with_its_records(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, fourth] = four_commits(&storage);
    let refs = Some(vec![Oid::ROOT]);
    let expected = [
        head(1, first, 2),
        record(1, Tid::ZERO, Some("a"), None),
        record(2, Tid::ZERO, Some("b"), None),
        head(2, second, 1),
        record(1, first, Some("c"), refs.clone()),
        head(3, third, 2),
        record(1, second, None, None),
        record(3, Tid::ZERO, Some(""), None),
        head(4, fourth, 1),
        record(1, third, Some("again"), refs),
    ];
    assert_eq!(transactions(&storage), expected);
    let storage = kind.reopen(storage);
    assert_eq!(transactions(&storage), expected);
}

fn pages_however_small_make_up_the_whole(kind: &impl Kind) {
    let storage = kind.open();
    many_commits(&storage);
    let check = |storage: &dyn Storage| {
        let whole = transactions(storage);
        for bytes in [0, 1, 64, 65, 70, 128, 150, 200, 1_000, 7_000] {
            let from = Cursor::new(Tid::ZERO);
            let paged = pages(storage, from, (Tid::MAX, bytes), |cursor| cursor);
            assert_eq!(paged, whole, "{bytes} bytes a page");
            let elsewhere = |cursor| Cursor { place: None, ..cursor };
            let searched = pages(storage, from, (Tid::MAX, bytes), elsewhere);
            assert_eq!(searched, whole, "{bytes} bytes a page");
        }
    };
    check(&storage);
    check(&kind.reopen(storage));
}

fn a_page_begins_at_any_record(kind: &impl Kind) {
    let storage = kind.open();
    many_commits(&storage);
    let whole = transactions(&storage);
    let mut at = Cursor::new(Tid::ZERO);
    for (number, item) in whole.iter().enumerate() {
        match item {
            HistoryItem::Transaction(head) => at = Cursor::new(head.tid),
            HistoryItem::Record(_) => at.record += 1,
        }
        // With one record left out the head is left out as well, and with none it is there.
        let from = if at.record == 0 { number } else { number + 1 };
        let rest = storage.transactions(&at, Tid::MAX, 1 << 20).unwrap();
        assert_eq!(rest.items, whole[from..], "{at:?}");
        let beyond = Cursor { record: at.record + 1_000, ..at };
        let rest = storage.transactions(&beyond, Tid::MAX, 1 << 20).unwrap();
        assert_eq!(rest.items, after(&whole, at.tid), "{beyond:?}");
    }
}

fn a_page_begins_at_the_first_transaction_that_is_not_before_its_cursor(kind: &impl Kind) {
    let storage = kind.open();
    let tids = four_commits(&storage);
    let whole = transactions(&storage);
    for tid in tids.into_iter().flat_map(|tid| [tid.previous(), tid.next()]).chain([Tid::MAX]) {
        for record in [0, 1, 9] {
            let from = Cursor { record, ..Cursor::new(tid) };
            let page = storage.transactions(&from, Tid::MAX, 1 << 20).unwrap();
            assert_eq!(page.items, after(&whole, tid), "{from:?}");
            assert_eq!(page.next, None);
        }
    }
}

fn a_wrong_place_changes_nothing(kind: &impl Kind) {
    let storage = kind.open();
    many_commits(&storage);
    let whole = transactions(&storage);
    let from = Cursor::new(Tid::ZERO);
    let mut last = None;
    for cursor in cursors(&storage) {
        // Also the place that was made for the cursor before.
        let other = std::mem::replace(&mut last, cursor.place);
        for place in [other, Some(garbage(0)), Some(garbage(0xff)), Some(garbage(7))] {
            let cursor = Cursor { place, ..cursor };
            let page = storage.transactions(&cursor, Tid::MAX, 1 << 20).unwrap();
            assert!(whole.ends_with(&page.items), "{cursor:?}");
            let right = storage.transactions(&Cursor { place: None, ..cursor }, Tid::MAX, 1 << 20);
            assert_eq!(page.items, right.unwrap().items);
        }
        for bit in cursor.place.into_iter().flat_map(every_bit_changed) {
            let cursor = Cursor { place: Some(bit), ..cursor };
            let page = storage.transactions(&cursor, cursor.tid, 1).unwrap();
            let right = Cursor { place: None, ..cursor };
            assert_eq!(page.items, storage.transactions(&right, cursor.tid, 1).unwrap().items);
        }
    }
    assert_eq!(pages(&storage, from, (Tid::MAX, 1), |cursor| cursor), whole);
}

fn nothing_after_through_is_on_a_page(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, _] = four_commits(&storage);
    let through = |from, through| {
        let page = storage.transactions(&Cursor::new(from), through, 1 << 20).unwrap();
        assert_eq!(page.next, None);
        page.items.len()
    };
    assert_eq!(through(Tid::ZERO, Tid::ZERO), 0);
    assert_eq!(through(Tid::ZERO, first.previous()), 0);
    assert_eq!(through(Tid::ZERO, first), 3);
    assert_eq!(through(Tid::ZERO, third.previous()), 5);
    assert_eq!(through(second, third), 5);
    assert_eq!(through(third, second), 0);
    let inside = Cursor { record: 1, ..Cursor::new(third) };
    assert_eq!(storage.transactions(&inside, third, 1 << 20).unwrap().items.len(), 1);
    assert_eq!(storage.transactions(&inside, second, 1 << 20).unwrap().items.len(), 0);
}

fn a_transaction_without_records_is_a_head(kind: &impl Kind) {
    let storage = kind.open();
    let expected = [1, 2, 3].map(|id| head(id, committed(&storage, commit(id, [])), 0));
    assert_eq!(transactions(&storage), expected);
    let one_by_one = pages(&storage, Cursor::new(Tid::ZERO), (Tid::MAX, 1), |cursor| cursor);
    assert_eq!(one_by_one, expected);
}

fn a_transaction_larger_than_a_page_is_on_several(kind: &impl Kind) {
    let storage = kind.open();
    let large = |oid, len| {
        let data = Bytes::from(vec![7; len]);
        Record::store(Oid::new(oid), Some(Tid::ZERO), data, Some(vec![Oid::new(oid); 3]))
    };
    let sizes = [300_000, 0, 3_000_000, 1, 70_000, 1_500_000];
    let records = sizes.iter().zip(1..).map(|(&len, oid)| large(oid, len));
    committed(&storage, commit(1, records));
    committed(&storage, commit(2, [new(9, "small")]));
    let storage = kind.reopen(storage);
    let from = Cursor::new(Tid::ZERO);
    for bytes in [1, 100_000, 1 << 20] {
        let items = pages(&storage, from, (Tid::MAX, bytes), |cursor| cursor);
        let data = |item: &HistoryItem| match item {
            HistoryItem::Record(record) => record.data.clone(),
            HistoryItem::Transaction(_) => None,
        };
        let lens: Vec<_> = items.iter().filter_map(data).map(|data| data.len()).collect();
        assert_eq!(lens, [&sizes[..], &[5]].concat());
        assert_eq!(items.len(), 9);
    }
}

fn a_record_is_found_by_its_transaction(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, _] = four_commits(&storage);
    let check = |storage: &dyn Storage| {
        let found = |oid, tid| storage.load_record(Oid::new(oid), tid).unwrap();
        let refs = Some(vec![Oid::ROOT]);
        let item = |record: Option<HistoryRecord>| record.map(HistoryItem::Record);
        assert_eq!(item(found(1, first)), Some(record(1, Tid::ZERO, Some("a"), None)));
        assert_eq!(item(found(1, second)), Some(record(1, first, Some("c"), refs)));
        assert_eq!(item(found(1, third)), Some(record(1, second, None, None)));
        for (oid, tid) in [(1, first.next()), (2, second), (9, first), (1, Tid::ZERO)] {
            assert_eq!(found(oid, tid), None);
        }
    };
    check(&storage);
    check(&kind.reopen(storage));
}

fn a_history_has_the_newest_first(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, fourth] = four_commits(&storage);
    let check = |storage: &dyn Storage| {
        let expected = [
            entry(4, fourth, Some(5)),
            entry(3, third, None),
            entry(2, second, Some(1)),
            entry(1, first, Some(1)),
        ];
        for entries in [1, 3, 99] {
            assert_eq!(history(storage, 1, entries), expected);
        }
        assert_eq!(history(storage, 3, 9), [entry(3, third, Some(0))]);
        assert_eq!(history(storage, 9, 9), []);
    };
    check(&storage);
    check(&kind.reopen(storage));
}

fn a_history_is_that_of_its_reader(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, fourth] = four_commits(&storage);
    let seen = |before, as_of| {
        let limit = HistoryLimit { entries: 9, bytes: 1 << 20 };
        let entries = storage.history(Oid::new(1), before, as_of, limit).unwrap();
        entries.into_iter().map(|entry| entry.tid).collect::<Vec<_>>()
    };
    assert_eq!(seen(Tid::MAX, Tid::MAX), [fourth, third, second, first]);
    assert_eq!(seen(Tid::MAX, third), [third, second, first]);
    assert_eq!(seen(third, third), [second, first]);
    assert_eq!(seen(third, second.previous()), [first]);
    assert_eq!(seen(first, Tid::MAX), []);
    assert_eq!(seen(Tid::MAX, Tid::ZERO), []);
}

fn a_history_is_as_long_as_asked_for(kind: &impl Kind) {
    let storage = kind.open();
    let mut last = Tid::ZERO;
    for id in 1..=30 {
        last = committed(&storage, commit(id, [update(1, last, "data")]));
    }
    let limited = |entries, bytes| {
        let limit = HistoryLimit { entries, bytes };
        storage.history(Oid::new(1), Tid::MAX, Tid::MAX, limit).unwrap().len()
    };
    assert_eq!(limited(7, 1 << 20), 7);
    assert_eq!(limited(99, 1 << 20), 30);
    let meta = commit(1, []).meta.size();
    assert_eq!(limited(99, meta * 4), 4);
    assert_eq!(limited(99, meta * 5 - 1), 4);
    assert_eq!(limited(99, 0), 1, "one at least");
}

fn objects_come_in_order_without_the_deleted(kind: &impl Kind) {
    let storage = kind.open();
    let first = committed(&storage, commit(1, [new(300, "a"), new(2, "b"), new(40, "c")]));
    let second = committed(&storage, commit(2, [delete(40, first), update(2, first, "d")]));
    let third = committed(&storage, commit(3, [new(41, "e")]));
    let check = |storage: &dyn Storage| {
        let expected = [(2, second), (41, third), (300, first)];
        let expected = expected.map(|(oid, tid)| (Oid::new(oid), tid));
        assert_eq!(live(storage, Tid::MAX, 9), expected);
        let from = |from| storage.objects(Oid::new(from), Tid::MAX, 9).unwrap().objects;
        assert_eq!(from(2), expected);
        assert_eq!(from(3), expected[1..]);
        assert_eq!(from(300), expected[2..]);
        assert_eq!(from(301), []);
    };
    check(&storage);
    let storage = kind.reopen(storage);
    check(&storage);
    let again = committed(&storage, commit(4, [update(40, second, "again")]));
    assert!(live(&storage, Tid::MAX, 9).contains(&(Oid::new(40), again)));
}

fn objects_are_those_of_their_reader(kind: &impl Kind) {
    let storage = kind.open();
    let [first, second, third, fourth] = four_commits(&storage);
    let seen = |before| {
        let objects = live(&storage, before, 9);
        objects.into_iter().map(|(oid, tid)| (oid.number(), tid)).collect::<Vec<_>>()
    };
    assert_eq!(seen(Tid::ZERO), []);
    assert_eq!(seen(first), []);
    assert_eq!(seen(first.next()), [(1, first), (2, first)]);
    assert_eq!(seen(third), [(1, second), (2, first)]);
    assert_eq!(seen(third.next()), [(2, first), (3, third)]);
    assert_eq!(seen(fourth.next()), [(1, fourth), (2, first), (3, third)]);
}

fn pages_of_objects_make_up_the_whole(kind: &impl Kind) {
    let mut storage = kind.open();
    many_commits(&storage);
    for _ in 0..3 {
        let whole = live(&storage, Tid::MAX, 1_000_000);
        assert_eq!(storage.size().objects, whole.len() as u64);
        for max in [1, 2, 63, 64, 65, 1_000] {
            assert_eq!(live(&storage, Tid::MAX, max), whole);
        }
        storage.index_some().unwrap();
        storage = kind.reopen(storage);
    }
}

fn any_number_of_deleted_objects_is_passed_over_step_by_step(kind: &impl Kind) {
    let storage = kind.open();
    let many = 20_000;
    let first = committed(&storage, commit(1, (1..=many).map(|oid| new(oid, "a"))));
    let deleted = (1..many).map(|oid| delete(oid, first));
    let second = committed(&storage, commit(2, deleted));
    let page = storage.objects(Oid::ROOT, Tid::MAX, 9).unwrap();
    assert_eq!(page.objects, []);
    assert!(page.next.is_some());
    assert_eq!(live(&storage, Tid::MAX, 9), [(Oid::new(many), first)]);
    let storage = kind.reopen(storage);
    assert_eq!(live(&storage, Tid::MAX, 9), [(Oid::new(many), first)]);
    assert_eq!(live(&storage, second, 10_000).len(), 20_000);
    assert_eq!(live(&storage, first, 9), []);
}

fn an_object_with_many_revisions_is_one_object(kind: &impl Kind) {
    let mut storage = kind.open();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b"), new(3, "c")]));
    let mut tids = vec![first];
    for id in 2..200 {
        let last = *tids.last().unwrap();
        tids.push(committed(&storage, commit(id, [update(2, last, "b")])));
    }
    for _ in 0..2 {
        for &tid in tids.iter().step_by(20) {
            let expected = [(1, first), (2, tid), (3, first)].map(|(oid, at)| (Oid::new(oid), at));
            assert_eq!(live(&storage, tid.next(), 9), expected);
        }
        storage = kind.reopen(storage);
    }
}

fn the_size_counts_what_is_not_deleted(kind: &impl Kind) {
    let mut storage = kind.open();
    let empty = storage.size();
    let first = committed(&storage, commit(1, [new(1, "a"), new(2, "b"), new(3, "c")]));
    let grown = storage.size();
    assert_eq!(grown.objects, 3);
    assert!(grown.bytes > empty.bytes);
    let second = committed(&storage, commit(2, [delete(1, first), update(2, first, "bb")]));
    let third = committed(&storage, commit(3, [update(1, second, "again"), delete(2, second)]));
    assert_eq!(storage.size().objects, 2);
    let same = [delete(2, third), delete(3, first), new(4, "d"), new(4, "d")];
    committed(&storage, commit(4, same));
    for _ in 0..2 {
        let Size { objects, bytes } = storage.size();
        assert_eq!(objects, 2);
        assert!(bytes > grown.bytes);
        storage = kind.reopen(storage);
    }
}

/// Two objects made; one changed; that one deleted and another made; the first made again.
fn four_commits(storage: &dyn Storage) -> [Tid; 4] {
    let first = committed_at(storage, 1, commit(1, [new(1, "a"), new(2, "b")]));
    let second = committed_at(storage, 2, commit(2, [update(1, first, "c")]));
    let third = committed_at(storage, 3, commit(3, [delete(1, second), new(3, "")]));
    let fourth = committed_at(storage, 4, commit(4, [update(1, third, "again")]));
    [first, second, third, fourth]
}

/// Commits so many seconds after the beginning: there is room between the tids.
fn committed_at(storage: &dyn Storage, seconds: u64, commit: Commit) -> Tid {
    let answers = storage.apply(&[Operation::Commit(commit)], NOW + seconds * 1_000_000);
    let [Ok(Applied::Committed(tid))] = answers[..] else { panic!("{answers:?}") };
    tid
}

/// So many that they are in several segments, partly in the index and partly not.
fn many_commits(storage: &dyn Storage) {
    let mut last = Tid::ZERO;
    for id in 1..=40 {
        let data = "data ".repeat(usize::try_from(id * 7 % 60).unwrap());
        let more = (1..=id % 5).map(|part| new(id * 10 + part, &data));
        let counter = if id % 7 == 3 { delete(1, last) } else { update(1, last, &data) };
        let records: Vec<_> = more.chain([counter]).collect();
        last = committed(storage, Commit { snapshot: last, ..commit(id, records) });
        if id % 9 == 0 {
            storage.index_some().unwrap();
            storage.prepare().unwrap();
        }
    }
}

/// Where the pages begin if each has as little as possible.
fn cursors(storage: &dyn Storage) -> Vec<Cursor> {
    let mut all = vec![Cursor::new(Tid::ZERO)];
    while let Some(next) = storage.transactions(all.last().unwrap(), Tid::MAX, 1).unwrap().next {
        all.push(next);
    }
    all
}

fn garbage(fill: u8) -> CursorPlace {
    CursorPlace::from_bytes([fill; CursorPlace::BYTES])
}

fn every_bit_changed(place: CursorPlace) -> impl Iterator<Item = CursorPlace> {
    (0..CursorPlace::BYTES * 8).map(move |bit| {
        let mut bytes = place.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        CursorPlace::from_bytes(bytes)
    })
}

/// What begins after that tid.
fn after(whole: &[HistoryItem], tid: Tid) -> &[HistoryItem] {
    let is_later =
        |item: &HistoryItem| matches!(item, HistoryItem::Transaction(head) if head.tid > tid);
    &whole[whole.iter().position(is_later).unwrap_or(whole.len())..]
}

fn head(id: u64, tid: Tid, records: u32) -> HistoryItem {
    let Commit { meta, snapshot, .. } = commit(id, []);
    HistoryItem::Transaction(TransactionHead { tid, id: txn_id(id), snapshot, meta, records })
}

fn record(oid: u64, previous: Tid, data: Option<&str>, refs: Option<Vec<Oid>>) -> HistoryItem {
    let data = data.map(|data| Bytes::copy_from_slice(data.as_bytes()));
    HistoryItem::Record(HistoryRecord { oid: Oid::new(oid), previous, data, refs })
}

fn entry(id: u64, tid: Tid, len: Option<u32>) -> HistoryEntry {
    let meta = commit(id, []).meta;
    HistoryEntry { tid, meta, len: len.unwrap_or(0), deleted: len.is_none() }
}
