//! Names for new objects.

use zeo_client::{CallError, Client, Oid};
use zeo_proto::{Call, CatchUp, Failure, Reply};

use crate::scene::{Scene, tid};

#[test]
fn names_are_fetched_ahead_and_handed_out_in_order() {
    let mut scene = Scene::new();
    let mut oids = [(); 3].map(|()| scene.client.nb().new_oid());
    let call = scene.expect(&Call::NewOids(129));
    scene.expect_nothing();
    scene.reply(call, Reply::NewOids(Oid::new(1_000), 129));
    assert_eq!(
        oids.each_mut().map(|oid| scene.take(oid)),
        [1_000, 1_001, 1_002].map(|number| Ok(Oid::new(number)))
    );
    assert_eq!(scene.client.nb().new_oid().wait().unwrap(), Ok(Oid::new(1_003)), "without asking");
}

#[test]
fn the_pool_is_filled_before_it_is_empty() {
    let mut scene = Scene::new();
    let mut oid = scene.client.nb().new_oid();
    let call = scene.expect(&Call::NewOids(129));
    scene.reply(call, Reply::NewOids(Oid::new(1_000), 34));
    assert_eq!(scene.take(&mut oid), Ok(Oid::new(1_000)));
    scene.expect_nothing();
    assert_eq!(scene.client.nb().new_oid().wait().unwrap(), Ok(Oid::new(1_001)));
    let call = scene.expect(&Call::NewOids(128));
    scene.reply(call, Reply::NewOids(Oid::new(2_000), 128));
    scene.flow();
    let oids = [(); 33].map(|()| scene.client.nb().new_oid().wait().unwrap().unwrap());
    assert_eq!((oids[31], oids[32]), (Oid::new(1_033), Oid::new(2_000)));
}

#[test]
fn names_that_were_being_fetched_are_fetched_again_after_a_reconnect() {
    let mut scene = Scene::new();
    let mut oid = scene.client.nb().new_oid();
    scene.expect(&Call::NewOids(129));
    scene.cut();
    let call = scene.expect(&Call::NewOids(129));
    scene.reply(call, Reply::NewOids(Oid::new(1_000), 1));
    assert_eq!(scene.take(&mut oid), Ok(Oid::new(1_000)));
}

#[test]
fn who_waits_for_a_name_hears_of_a_failure() {
    let mut scene = Scene::with(&Client::options());
    let mut oid = scene.client.nb().new_oid();
    let (call, _) = scene.call();
    scene.fail(call, Failure::Busy);
    assert_eq!(scene.take(&mut oid), Err(CallError::Busy));
}

// A restored backup does not know what was handed out after it, and would hand it out again.
#[test]
fn names_of_a_replaced_history_are_not_used() {
    let mut scene = Scene::new();
    let mut oid = scene.client.nb().new_oid();
    let (call, _) = scene.call();
    scene.reply(call, Reply::NewOids(Oid::new(1_000), 129));
    scene.take(&mut oid).unwrap();
    scene.welcome_at(8);
    scene.cut();
    let call = scene.expect(&Call::InvalidationsSince(tid(10)));
    scene.reply(call, Reply::CatchUp(CatchUp::NotOfThisHistory { through: tid(8) }));
    scene.until(|scene| scene.client.is_connected());
    drop(scene.client.nb().new_oid());
    scene.expect(&Call::NewOids(129));
}
