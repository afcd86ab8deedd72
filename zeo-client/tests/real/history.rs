//! Reading history, page by page behind plain iterators.

use zeo_client::{CallError, LoadError, Oid, Record, Tid, forbid_blocking};

use crate::{change, client, create, delete, server};

#[test]
fn the_history_of_an_object_comes_newest_first_however_many_pages_it_has() {
    let server = server();
    let db = client(&server);
    let mut txn = db.begin().unwrap();
    txn.set_user("Ada").unwrap();
    txn.set_extension(*b"more").unwrap();
    let oid = txn.create("0").unwrap();
    let mut tids = vec![txn.commit().unwrap()];
    tids.extend((0..1_500).map(|_| change(&db, oid, "1")));
    tids.push(delete(&db, oid));
    let entries: Vec<_> = db.history(oid).collect::<Result<_, _>>().unwrap();
    assert_eq!(entries.iter().rev().map(|entry| entry.tid).collect::<Vec<_>>(), tids);
    let (first, last) = (&entries[0], &entries[tids.len() - 1]);
    assert_eq!((first.deleted, first.data_len), (true, 0));
    assert_eq!((last.meta.user.as_str(), &last.meta.extension[..]), ("Ada", &b"more"[..]));
    assert_eq!((last.deleted, last.data_len), (false, 1));
    assert!(db.history(Oid::new(u64::MAX - 7)).next().is_none());
}

#[test]
fn a_transaction_of_many_records_is_read_whole_and_its_neighbours_once() {
    let server = server();
    let db = client(&server);
    let small = create(&db, "small");
    let mut txn = db.begin().unwrap();
    let many: Vec<_> = (0..3_000).map(|n| txn.create(format!("{n:1000}")).unwrap()).collect();
    txn.commit().unwrap();
    let last = change(&db, small, "again");
    let txns: Vec<_> = db.transactions(..).collect::<Result<_, _>>().unwrap();
    let [first, large, third] = &txns[..] else { panic!("{} transactions", txns.len()) };
    assert_eq!((first.head.records, large.head.records, third.head.tid), (1, 3_000, last));
    assert!(large.rest.is_some(), "it does not fit a page");
    let records: Vec<Record> = db.records(large).collect::<Result<_, _>>().unwrap();
    assert_eq!(records.iter().map(|record| record.oid).collect::<Vec<_>>(), many);
    assert!(records[2_999].data.as_ref().unwrap().ends_with(b"2999"));
    let [record] = &third.records[..] else { panic!() };
    assert_eq!((record.oid, record.previous), (small, first.head.tid));
}

#[test]
fn reading_transactions_goes_on_where_it_was() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "0");
    let tids: Vec<_> = (0..10).map(|_| change(&db, oid, "1")).collect();
    let range = tids[2]..=tids[7];
    let mut reading = db.transactions(range.clone());
    let first = reading.by_ref().take(2).map(|txn| txn.unwrap().head.tid).collect::<Vec<_>>();
    let rest = client(&server).transactions(reading.position()..=tids[7]);
    let rest = rest.map(|txn| txn.unwrap().head.tid).collect::<Vec<_>>();
    assert_eq!([first, rest].concat(), tids[2..=7]);
    assert_eq!(db.transactions(tids[2]..tids[3]).count(), 1);
    assert_eq!(db.transactions(tids[9].next()..).count(), 0);
}

#[test]
fn objects_are_those_of_the_moment_when_their_listing_began() {
    let server = server();
    let db = client(&server);
    let mut txn = db.begin().unwrap();
    let oids: Vec<_> = (0..2_500).map(|_| txn.create("here").unwrap()).collect();
    let tid = txn.commit().unwrap();
    let mut listing = db.objects(Oid::ROOT);
    let mut listed = vec![listing.next().unwrap().unwrap()];
    delete(&db, oids[2_000]);
    change(&db, oids[2_001], "changed");
    create(&db, "new");
    listed.extend(listing.map(Result::unwrap));
    assert_eq!(listed, oids.iter().map(|oid| (*oid, tid)).collect::<Vec<_>>());
    let now: Vec<_> = db.objects(oids[2_000]).take(1).map(Result::unwrap).collect();
    assert_eq!(now[0].0, oids[2_001]);
    assert_eq!(db.size().unwrap().objects, 2_500);
}

#[test]
fn r32_deleted_and_never_created_are_told_apart() {
    let server = server();
    let db = client(&server);
    let (oid, never) = (create(&db, "here"), db.new_oid().unwrap());
    let created = db.last_tid();
    let tid = delete(&db, oid);
    assert_eq!(db.load(oid), Err(LoadError::Deleted { oid, tid }));
    assert_eq!(db.load(never), Err(LoadError::NotFound(never)));
    assert_eq!(db.load_before(oid, created), Err(LoadError::NotFound(oid)));
    assert_eq!(db.load_serial(oid, created).unwrap().data, "here");
    assert_eq!(db.load_serial(oid, tid), Err(LoadError::Deleted { oid, tid }));
    assert_eq!(db.load_serial(oid, tid.next()), Err(LoadError::NotFound(oid)));
    assert_eq!(db.load_many(&[oid, never]).unwrap(), [None, None]);
    // The objects that it deleted may be made again.
    let again = change_of_deleted(&db, oid);
    assert_eq!(db.load(oid).unwrap().tid, again);
}

#[test]
fn who_must_not_wait_reads_no_history() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "here");
    let txn = db.transactions(..).next().unwrap().unwrap();
    let _forbidden = forbid_blocking();
    let refused = Some(CallError::WouldDeadlock);
    assert_eq!(db.history(oid).next().and_then(Result::err), refused);
    assert_eq!(db.transactions(..).next().and_then(Result::err), refused);
    assert_eq!(db.objects(oid).next().and_then(Result::err), refused);
    assert_eq!(db.size().err(), refused);
    assert_eq!(db.load_serial(oid, Tid::ZERO), Err(LoadError::WouldDeadlock));
    assert_eq!(db.records(&txn).count(), 1, "what came with it is here");
}

fn change_of_deleted(db: &zeo_client::Client, oid: Oid) -> Tid {
    let mut txn = db.begin().unwrap();
    txn.store(oid, "again").unwrap();
    txn.commit().unwrap()
}
