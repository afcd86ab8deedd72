//! Conflicts that are resolved while their objects are locked.

use std::thread;

use zeo_client::{Client, CommitError, Oid, ResolvableConflict};

use crate::{balance, change, client, create, delete, number, server};

// Whoever resolves holds the lock, so nobody has to try again, however many they are.
#[test]
fn all_that_count_at_once_are_counted_without_another_attempt() {
    let server = server();
    let counter = create(&client(&server), "0");
    let threads = [(); 4].map(|()| {
        let db = client(&server);
        thread::Builder::new().spawn(move || {
            (0..50).for_each(|_| add_one(&db, counter));
            db.statistics().conflicts_resolved
        })
    });
    let resolved: u64 = threads.into_iter().map(|it| it.unwrap().join().unwrap()).sum();
    let db = client(&server);
    assert_eq!(balance(&db, counter), 200);
    assert!(resolved <= 200, "one round each, since the lock is kept: {resolved}");
}

#[test]
fn all_conflicts_of_a_transaction_are_resolved_in_one_round() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oids: Vec<_> = (0..20).map(|_| create(&db, "0")).collect();
    let mut txn = db.begin().unwrap();
    for oid in &oids {
        txn.load(*oid).unwrap();
        txn.store(*oid, "1").unwrap();
    }
    other.sync().unwrap();
    for oid in &oids {
        change(&other, *oid, "5");
    }
    let before = db.statistics().round_trips;
    txn.commit_resolving(sum).unwrap();
    assert_eq!(db.statistics().round_trips, before + 2);
    assert_eq!(db.statistics().conflicts_resolved, 20);
    assert!(oids.iter().all(|oid| balance(&db, *oid) == 6));
}

#[test]
fn what_cannot_be_resolved_is_a_conflict_and_leaves_nothing_locked() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    for deletes in [true, false] {
        let oid = create(&db, "0");
        let mut txn = db.begin().unwrap();
        txn.load(oid).unwrap();
        txn.store(oid, "1").unwrap();
        other.sync().unwrap();
        let theirs = if deletes { delete(&other, oid) } else { change(&other, oid, "5") };
        let resolve = |it: &ResolvableConflict| if deletes { sum(it) } else { None };
        let Err(CommitError::Conflict(conflict)) = txn.commit_resolving(resolve) else { panic!() };
        assert_eq!((conflict.oid, conflict.committed), (oid, theirs));
        let mut txn = other.begin().unwrap();
        txn.store(oid, "6").unwrap();
        txn.commit().unwrap();
    }
}

#[test]
fn two_that_make_the_same_object_have_no_common_beginning() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let mut txn = db.begin().unwrap();
    txn.store_new(Oid::ROOT, "mine").unwrap();
    other.run(|txn| txn.store(Oid::ROOT, "theirs")).unwrap();
    let resolved = txn.commit_resolving(|it| {
        assert_eq!(it.base, None);
        Some([&it.theirs.data[..], b" and ", &it.mine].concat().into())
    });
    let tid = resolved.unwrap();
    let found = db.load(Oid::ROOT).unwrap();
    assert_eq!((found.tid, &found.data[..]), (tid, &b"theirs and mine"[..]));
}

fn add_one(db: &Client, counter: Oid) {
    let mut txn = db.begin().unwrap();
    let count = number(&txn.load(counter).unwrap().data);
    txn.store(counter, (count + 1).to_string()).unwrap();
    txn.commit_resolving(sum).unwrap();
}

/// What both have added, added up.
fn sum(conflict: &ResolvableConflict) -> Option<bytes::Bytes> {
    let base = number(&conflict.base.as_ref()?.data);
    let sum = number(&conflict.theirs.data) + number(&conflict.mine) - base;
    Some(sum.to_string().into())
}
