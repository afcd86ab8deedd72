//! Votes that hold object locks, and what lets go of them.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crossbeam_channel::{Sender, bounded};
use zeo_client::{CommitError, Oid, Transaction, Voted, forbid_blocking};

use crate::{Client, client, create, server};

#[test]
fn who_comes_second_waits_for_the_lock_and_then_has_a_conflict() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&db, "0");
    other.sync().unwrap();
    let (first, second) = (store(&db, oid, "1"), store(&other, oid, "2"));
    let voted = first.vote().unwrap();
    let mut waits = other.nb().commit(second);
    other.ping().unwrap();
    assert!(waits.try_take().is_none(), "the object is locked");
    let tid = voted.finish().unwrap();
    let Err(CommitError::Conflict(conflict)) = waits.wait().unwrap() else { panic!() };
    assert_eq!((conflict.oid, conflict.committed), (oid, tid));
}

#[test]
fn whoever_lets_go_of_a_vote_lets_others_commit() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&db, "0");
    other.sync().unwrap();
    let ends: [fn(Client, Voted); 3] =
        [|_, voted| drop(voted), |_, voted| voted.abort(), |db, _voted| db.close()];
    for end in ends {
        let db = client(&server);
        let voted = store(&db, oid, "1").vote().unwrap();
        let waits = other.nb().commit(store(&other, oid, "2"));
        end(db, voted);
        waits.wait().unwrap().unwrap();
    }
}

// R19: a lock was handed to a waiter that was gone.
#[test]
fn r19_a_lock_is_not_handed_to_a_waiter_that_is_gone() {
    let server = server();
    let (db, last) = (client(&server), client(&server));
    let oid = create(&db, "0");
    last.sync().unwrap();
    let voted = store(&db, oid, "1").vote().unwrap();
    let gone: Vec<_> = (0..4).map(|_| client(&server)).collect();
    let waiting: Vec<_> = gone.iter().map(|db| db.nb().vote(store(db, oid, "2"))).collect();
    for db in &gone {
        db.ping().unwrap();
        db.close();
    }
    let waits = last.nb().vote(store(&last, oid, "3"));
    last.ping().unwrap();
    voted.abort();
    waits.wait().unwrap().unwrap().finish().unwrap();
    db.sync().unwrap();
    assert_eq!(db.load(oid).unwrap().data, "3");
    drop(waiting);
}

// A server stops reading a connection that has 256 calls in flight; were these votes among them, the
// finish that they wait for would wait for them.
#[test]
fn a_finish_passes_by_all_the_votes_that_wait_for_it() {
    let server = server();
    let db = client(&server);
    let oid = create(&db, "0");
    let voted = store(&db, oid, "1").vote().unwrap();
    let waiting: Vec<_> = (0..400).map(|_| db.nb().vote(store(&db, oid, "2"))).collect();
    db.nb().finish(voted).wait().unwrap().unwrap();
    for vote in waiting {
        assert!(matches!(vote.wait().unwrap(), Err(CommitError::Conflict(_))));
    }
}

// The locks of disjoint objects do not meet; a shared one (`read_current`) meets an exclusive one.
#[test]
fn a_commit_in_one_round_trip_passes_between_anothers_vote_and_finish() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let (one, two, read) = (create(&db, "0"), create(&db, "0"), create(&db, "0"));
    other.sync().unwrap();
    let mut txn = store(&db, one, "1");
    txn.load(read).unwrap();
    txn.read_current(read).unwrap();
    let voted = txn.vote().unwrap();
    let between = store(&other, two, "1").commit().unwrap();
    let mut writes_read = other.nb().commit(store(&other, read, "1"));
    other.ping().unwrap();
    assert!(writes_read.try_take().is_none(), "what was only read is locked as well");
    let tid = voted.finish().unwrap();
    assert!(tid > between);
    assert!(writes_read.wait().unwrap().unwrap() > tid);
}

#[test]
fn who_must_not_wait_is_told_so_and_nothing_stays_locked() {
    let server = server();
    let (db, other) = (client(&server), client(&server));
    let oid = create(&db, "0");
    other.sync().unwrap();
    let (txn, resolving) = (store(&db, oid, "1"), store(&db, oid, "1"));
    let voted = store(&db, oid, "1").vote().unwrap();
    let forbidden = forbid_blocking();
    assert_eq!(txn.vote().map(drop), Err(CommitError::WouldDeadlock));
    assert_eq!(resolving.commit_resolving(|_| None), Err(CommitError::WouldDeadlock));
    assert_eq!(voted.finish(), Err(CommitError::WouldDeadlock));
    drop(forbidden);
    store(&other, oid, "2").commit().unwrap();
}

// What is dropped there must wait for nobody.
#[test]
fn a_vote_can_be_dropped_on_its_own_reactors_thread_with_the_last_client() {
    let server = server();
    let other = client(&server);
    let oid = create(&other, "0");
    let db = client(&server);
    let voted = store(&db, oid, "1").vote().unwrap();
    let (ended, end) = bounded(1);
    let mut ping = pin!(db.nb().ping());
    drop(db);
    let waker = Waker::from(Arc::new(Drops { voted: Mutex::new(Some(voted)), ended }));
    let poll = ping.as_mut().poll(&mut Context::from_waker(&waker));
    drop(waker);
    if poll.is_pending() {
        end.recv().unwrap();
    }
    store(&other, oid, "2").commit().unwrap();
}

fn store(db: &Client, oid: Oid, data: &'static str) -> Transaction {
    let mut txn = db.begin().unwrap();
    txn.load(oid).unwrap();
    txn.store(oid, data).unwrap();
    txn
}

struct Drops {
    voted: Mutex<Option<Voted>>,
    ended: Sender<()>,
}

impl Wake for Drops {
    fn wake(self: Arc<Self>) {
        drop(self.voted.lock().unwrap().take());
        self.ended.try_send(()).ok();
    }
}
