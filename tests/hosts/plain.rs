//! Hosts that have no loop of their own: a plain thread, and a callback of the client itself.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use zeo_client::LoadError;

use crate::{Fixture, increment, number, within_time};

#[test]
fn a1_a_plain_thread_needs_no_loop() {
    within_time(|| {
        let fixture = Fixture::new();
        assert_eq!(increment(&fixture.db, fixture.counter), 1);
        assert_eq!(increment(&fixture.stranger(), fixture.counter), 2);
    });
}

#[test]
fn a1_the_library_takes_no_signals() {
    within_time(|| {
        let before = signals_caught();
        let fixture = Fixture::new();
        increment(&fixture.db, fixture.counter);
        assert_eq!(signals_caught(), before);
    });
}

#[test]
fn a1_the_client_ends_with_its_last_handle() {
    within_time(|| {
        let fixture = Fixture::new();
        let stranger = fixture.stranger();
        let deferred = stranger.nb().load(fixture.counter);
        drop(stranger);
        // Answered, or ended; not hanging.
        drop(deferred.wait());
    });
}

#[test]
fn a3_an_invalidation_callback_may_call_the_client() {
    within_time(|| {
        let fixture = Fixture::new();
        let (tell, told) = mpsc::sync_channel(100);
        let (db, counter) = (fixture.stranger(), fixture.counter);
        db.load(counter).unwrap();
        let inner = db.clone();
        let subscription = db.on_invalidation(move |_| {
            // A load that has to ask the server, and a commit, from inside the callback.
            let data = inner.load(counter).unwrap().data;
            let mut txn = inner.begin().unwrap();
            txn.create("noted").unwrap();
            txn.commit().unwrap();
            tell.send(number(&data)).unwrap();
        });
        increment(&fixture.db, counter);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(1));
        drop(subscription);
    });
}

#[test]
fn a3_a_thread_that_must_not_block_is_told_so() {
    within_time(|| {
        let fixture = Fixture::new();
        let stranger = fixture.stranger();
        let guard = zeo_reactor::forbid_blocking();
        assert!(matches!(stranger.load(fixture.counter), Err(LoadError::WouldDeadlock)));
        drop(guard);
        assert!(stranger.load(fixture.counter).is_ok());
    });
}

/// The mask of signals that this process handles.
fn signals_caught() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("SigCgt")).unwrap().to_owned()
}
