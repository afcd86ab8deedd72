//! Bringing the cache up to date after a reconnect.

use zeo_client::{CommitError, LoadError, NotCommitted, Oid};
use zeo_proto::{Call, CallId, CatchUp, Failure, Reply};

use crate::scene::{Answer, Scene, UUID, tid, welcome};

#[test]
fn who_has_missed_nothing_asks_nothing() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.cut();
    scene.until(|scene| scene.client.is_connected());
    scene.expect_nothing();
    assert_eq!(scene.cached(1, 11), Some(5));
}

#[test]
fn what_changed_meanwhile_is_evicted_and_the_rest_stays() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.fill(2, 6, None);
    let call = reconnect_at(&mut scene, 15);
    page(&mut scene, call, 15, &[7], true);
    page(&mut scene, call, 15, &[1], false);
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 15);
    assert_eq!(scene.cached(1, 16), None, "it has changed");
    assert_eq!(scene.cached(1, 11), Some(5), "but not before 11");
    assert_eq!(scene.cached(2, 16), Some(6));
}

// R2: what begins after the reconnect must not see the past.
#[test]
fn r2_a_transaction_after_the_reconnect_sees_what_was_missed() {
    let mut scene = Scene::new();
    let call = reconnect_at(&mut scene, 15);
    assert!(!scene.client.is_connected());
    assert_eq!(scene.last_tid(), 10, "not before it is verified");
    page(&mut scene, call, 15, &[], false);
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.client.begin().unwrap().snapshot(), tid(15));
}

// R8: pushes may arrive between the welcome and the end of the verification.
#[test]
fn r8_what_is_pushed_during_the_verification_is_applied_after_it() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.fill(2, 6, None);
    let call = reconnect_at(&mut scene, 15);
    scene.invalidate(16, &[1]);
    scene.invalidate(17, &[2]);
    scene.flow();
    assert_eq!(scene.last_tid(), 10);
    page(&mut scene, call, 16, &[1], false);
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 17);
    assert_eq!(scene.cached(2, 17), Some(6), "ended by what was pushed");
    assert_eq!(scene.cached(2, 18), None);
    assert_eq!(scene.cached(1, 12), None, "ended by what was missed");
}

// R9: a connection that was lost while it verified must leave nothing behind.
#[test]
fn r9_what_was_pushed_on_a_lost_connection_is_forgotten_with_it() {
    let mut scene = Scene::new();
    scene.fill(2, 6, None);
    let call = reconnect_at(&mut scene, 15);
    page(&mut scene, call, 15, &[2], true);
    scene.invalidate(99, &[2]);
    scene.flow();
    let call = reconnect_at(&mut scene, 16);
    page(&mut scene, call, 16, &[], false);
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 16);
    assert_eq!(scene.cached(2, 17), Some(6));
}

#[test]
fn r10_calls_are_sent_only_after_the_verification() {
    let mut scene = Scene::new();
    let mut ping = scene.client.nb().ping();
    scene.message();
    let call = reconnect_at(&mut scene, 15);
    scene.expect_nothing();
    page(&mut scene, call, 15, &[], false);
    let call = scene.expect(&Call::Ping);
    scene.reply(call, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
}

#[test]
fn who_was_away_too_long_drops_the_cache() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let txn = scene.change();
    let call = reconnect_at(&mut scene, 15);
    scene.reply(call, Reply::CatchUp(CatchUp::TooOld { through: tid(15) }));
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 15);
    assert_eq!(scene.cached(1, 11), None);
    // The history is the same: what began before can still be tried.
    drop(scene.client.nb().commit(txn));
    scene.message();
}

#[test]
fn in_another_history_nothing_of_the_old_one_counts() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let old = scene.change();
    let mut load = scene.client.nb().load(Oid::new(3));
    scene.message();
    let call = reconnect_at(&mut scene, 8);
    scene.reply(call, Reply::CatchUp(CatchUp::NotOfThisHistory { through: tid(8) }));
    assert_history_replaced(&mut scene, old, &mut load);
}

// A server that has lost its tail is to say so; if it does not, the client must not go on as if its
// last tid were still one of the server's.
#[test]
fn a_history_that_ends_before_ours_is_another_history() {
    for page in [true, false] {
        let mut scene = Scene::new();
        scene.fill(1, 5, None);
        let old = scene.change();
        let mut load = scene.client.nb().load(Oid::new(3));
        scene.message();
        let call = reconnect_at(&mut scene, 8);
        let (through, oids, more) = (tid(8), vec![], false);
        let answer =
            if page { CatchUp::Page { through, oids, more } } else { CatchUp::TooOld { through } };
        scene.reply(call, Reply::CatchUp(answer));
        assert_history_replaced(&mut scene, old, &mut load);
    }
}

#[test]
fn another_epoch_is_another_history() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let old = scene.change();
    let mut load = scene.client.nb().load(Oid::new(3));
    scene.message();
    scene.answer_with(Answer::Welcome(welcome(UUID, 2, 8)));
    scene.cut();
    assert_history_replaced(&mut scene, old, &mut load);
    assert_eq!(scene.client.identity().epoch, 2);
}

#[test]
fn a_server_that_cannot_say_what_changed_may_have_changed_anything() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let old = scene.change();
    let mut load = scene.client.nb().load(Oid::new(3));
    scene.message();
    let call = reconnect_at(&mut scene, 8);
    scene.fail(call, Failure::Unsupported);
    assert_history_replaced(&mut scene, old, &mut load);
}

#[test]
fn a_busy_server_is_asked_again() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let call = reconnect_at(&mut scene, 15);
    scene.fail(call, Failure::Busy);
    let call = scene.expect(&Call::InvalidationsSince(tid(10)));
    page(&mut scene, call, 15, &[], false);
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.cached(1, 16), Some(5));
}

type Load = zeo_client::Deferred<Result<zeo_client::Revision, LoadError>>;

fn assert_history_replaced(scene: &mut Scene, old: zeo_client::Transaction, load: &mut Load) {
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 8);
    assert_eq!(scene.take(load), Err(LoadError::HistoryChanged));
    assert_eq!(scene.cached(1, 6), None);
    let mut commit = scene.client.nb().commit(old);
    let history_changed = CommitError::NotCommitted(NotCommitted::HistoryChanged);
    assert_eq!(scene.take(&mut commit), Err(history_changed));
    scene.expect_nothing();
    let new = scene.change();
    drop(scene.client.nb().commit(new));
    scene.message();
}

/// Loses the connection, and makes another at a later tid; the question what changed.
fn reconnect_at(scene: &mut Scene, last_tid: u64) -> CallId {
    scene.welcome_at(last_tid);
    scene.cut();
    scene.hello();
    scene.expect(&Call::InvalidationsSince(tid(10)))
}

fn page(scene: &mut Scene, call: CallId, through: u64, oids: &[u64], more: bool) {
    let oids = oids.iter().copied().map(Oid::new).collect();
    scene.reply(call, Reply::CatchUp(CatchUp::Page { through: tid(through), oids, more }));
}
