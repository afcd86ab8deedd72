//! Loads, and what may pass them on the wire.

use std::collections::VecDeque;
use std::time::Duration;

use zeo_client::{Client, LoadError, Oid};
use zeo_proto::{Call, Failure, Loaded, MAX_BATCH, Reply, ServerMessage};

use crate::scene::{Scene, data, loaded, tid};

#[test]
fn a_load_asks_for_what_is_newest_and_is_remembered() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let call = scene.expect(&Call::LoadBefore(Oid::new(1), tid(11)));
    scene.reply_loaded(call, 5, None);
    let revision = scene.take(&mut load).unwrap();
    assert_eq!((revision.tid, revision.end, revision.data), (tid(5), None, data(5)));
    assert_eq!(scene.cached(1, 11), Some(5));
    let statistics = scene.client.statistics();
    assert_eq!((statistics.hits, statistics.misses), (1, 1));
}

#[test]
fn everybody_who_waits_for_the_same_shares_one_question() {
    let mut scene = Scene::new();
    let mut loads = [(); 3].map(|()| scene.client.nb().load(Oid::new(1)));
    let (call, _) = scene.call();
    scene.expect_nothing();
    scene.reply_loaded(call, 5, None);
    for load in &mut loads {
        assert_eq!(scene.take(load).unwrap().tid, tid(5));
    }
}

// R11: it may be created without our hearing of it.
#[test]
fn r11_that_an_object_does_not_exist_is_not_remembered() {
    let mut scene = Scene::new();
    let oid = Oid::new(1);
    for (absent, error) in [
        (Loaded::Absent, LoadError::NotFound(oid)),
        (Loaded::Deleted(validity(4)), LoadError::Deleted { oid, tid: tid(4) }),
    ] {
        let mut load = scene.client.nb().load(oid);
        let (call, _) = scene.call();
        scene.reply(call, Reply::Loaded(absent));
        assert_eq!(scene.take(&mut load), Err(error));
    }
}

// R4: the reply's effect on the cache must not wait for whoever awaits it.
#[test]
fn r4_a_reply_and_the_invalidation_after_it_take_effect_in_that_order() {
    let mut scene = Scene::new();
    let load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    scene.reply_loaded(call, 5, None);
    scene.invalidate(12, &[1]);
    scene.until(|scene| scene.last_tid() == 12);
    assert_eq!(load.wait().unwrap().unwrap().end, None, "as of when it was loaded");
    assert_eq!(scene.cached(1, 12), Some(5));
    assert_eq!(scene.cached(1, 13), None);
}

// R5: a server that does not seal what it sends must not leave us with a stale object.
#[test]
fn r5_what_changed_while_it_was_loaded_does_not_become_current() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    scene.invalidate(12, &[1]);
    scene.invalidate(14, &[1]);
    scene.reply_loaded(call, 5, None);
    assert_eq!(scene.take(&mut load).unwrap().end, Some(tid(12)));
    assert_eq!(scene.cached(1, 15), None);
    assert_eq!(scene.cached(1, 12), Some(5));
}

#[test]
fn what_was_loaded_after_it_changed_becomes_current() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    scene.invalidate(12, &[1]);
    scene.reply_loaded(call, 12, None);
    assert_eq!(scene.take(&mut load).unwrap().end, None);
    assert_eq!(scene.cached(1, 13), Some(12));
}

// R14: a reader that saw half of a transaction would see a broken structure.
#[test]
fn r14_pages_of_an_invalidation_are_applied_together() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.fill(2, 5, None);
    scene.say(&ServerMessage::Invalidate(tid(12), vec![Oid::new(1)], true), &[]);
    scene.flow();
    assert_eq!(scene.last_tid(), 10);
    assert_eq!((scene.cached(1, 11), scene.cached(2, 11)), (Some(5), Some(5)));
    scene.say(&ServerMessage::Invalidate(tid(12), vec![Oid::new(2)], false), &[]);
    scene.until(|scene| scene.last_tid() == 12);
    assert_eq!((scene.cached(1, 13), scene.cached(2, 13)), (None, None));
    assert_eq!((scene.cached(1, 12), scene.cached(2, 12)), (Some(5), Some(5)));
}

#[test]
fn a_load_in_flight_survives_a_reconnect_unchanged() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    scene.expect(&Call::LoadBefore(Oid::new(1), tid(11)));
    scene.cut();
    let call = scene.expect(&Call::LoadBefore(Oid::new(1), tid(11)));
    scene.reply_loaded(call, 5, None);
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5));
}

#[test]
fn loads_in_flight_return_in_batches_of_the_same_moment() {
    let mut scene = Scene::new();
    let mut loads = [1, 2].map(|oid| scene.client.nb().load(Oid::new(oid)));
    let mut other = scene.client.nb().load_before(Oid::new(1), tid(4));
    scene.flow();
    scene.cut();
    scene.hello();
    let call = scene.expect(&Call::LoadBefore(Oid::new(1), tid(4)));
    scene.reply_loaded(call, 3, Some(5));
    let call = scene.expect(&Call::LoadMany(tid(11), vec![Oid::new(1), Oid::new(2)]));
    reply_many(&mut scene, call, &[loaded(5, None), loaded(6, None)], false);
    assert_eq!(scene.take(&mut other).unwrap().tid, tid(3));
    assert_eq!(loads.each_mut().map(|load| scene.take(load).unwrap().tid), [tid(5), tid(6)]);
}

#[test]
fn a_load_that_takes_too_long_is_given_up_and_its_late_answer_remembered() {
    let mut scene = Scene::with(&Client::options().call_timeout(Duration::from_secs(1)));
    let mut load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    assert_eq!(scene.take(&mut load), Err(LoadError::Timeout));
    let mut again = scene.client.nb().load(Oid::new(1));
    scene.expect_nothing();
    scene.reply_loaded(call, 5, None);
    assert_eq!(scene.take(&mut again).unwrap().tid, tid(5));
    assert_eq!(scene.cached(1, 11), Some(5));
}

#[test]
fn a_load_that_fails_says_why() {
    let mut scene = Scene::new();
    for (failure, error) in [
        (Failure::Busy, LoadError::Busy),
        (Failure::Damaged("bits".to_owned()), LoadError::Damaged("bits".to_owned())),
        (Failure::StorageFailed("disk".to_owned()), LoadError::Failed("disk".to_owned())),
    ] {
        let mut load = scene.client.nb().load(Oid::new(1));
        let (call, _) = scene.call();
        scene.fail(call, failure);
        assert_eq!(scene.take(&mut load), Err(error));
    }
}

#[test]
fn many_are_loaded_as_of_one_moment_in_pages() {
    let mut scene = Scene::new();
    scene.fill(2, 6, None);
    let oids = [1, 2, 3, 1].map(Oid::new);
    let mut many = scene.client.nb().load_many(&oids);
    let call = scene.expect(&Call::LoadMany(tid(11), vec![Oid::new(1), Oid::new(3)]));
    scene.invalidate(12, &[3]);
    reply_many(&mut scene, call, &[loaded(5, None)], true);
    reply_many(&mut scene, call, &[Loaded::Absent], false);
    let found = scene.take(&mut many).unwrap();
    let serials: Vec<_> = found.iter().map(|r| r.as_ref().map(|r| r.tid.number())).collect();
    assert_eq!(serials, [Some(5), Some(6), None, Some(5)]);
    assert_eq!(found[3].as_ref().unwrap().data, data(5));
}

#[test]
fn a_large_batch_goes_out_in_pieces_of_which_some_are_in_flight() {
    let mut scene = Scene::new();
    let count = 10 * MAX_BATCH as u64 + 1;
    let oids: Vec<_> = (1..=count).map(Oid::new).collect();
    let mut many = scene.client.nb().load_many(&oids);
    let mut calls: VecDeque<_> = (0..8).map(|_| scene.call()).collect();
    scene.expect_nothing();
    for answered in 0..11 {
        let (call, asked) = calls.pop_front().unwrap();
        if let Call::LoadMany(_, oids) = asked {
            reply_many(&mut scene, call, &vec![loaded(5, None); oids.len()], false);
        } else {
            scene.reply_loaded(call, 5, None);
        }
        if answered < 3 {
            calls.push_back(scene.call());
        }
    }
    let found = scene.take(&mut many).unwrap();
    assert_eq!(found.iter().flatten().count() as u64, count);
}

#[test]
fn a_batch_survives_a_reconnect_between_its_pages() {
    let mut scene = Scene::new();
    let mut many = scene.client.nb().load_many(&[1, 2, 3].map(Oid::new));
    let (call, _) = scene.call();
    reply_many(&mut scene, call, &[loaded(5, None)], true);
    scene.flow();
    scene.cut();
    let call = scene.expect(&Call::LoadMany(tid(11), vec![Oid::new(2), Oid::new(3)]));
    reply_many(&mut scene, call, &[loaded(6, None), loaded(7, None)], false);
    assert_eq!(scene.take(&mut many).unwrap().len(), 3);
}

#[test]
fn a_batch_with_an_object_that_fails_fails() {
    let mut scene = Scene::new();
    let mut many = scene.client.nb().load_many(&[1, 2].map(Oid::new));
    let (call, _) = scene.call();
    scene.fail(call, Failure::Damaged("bits".to_owned()));
    assert_eq!(scene.take(&mut many), Err(LoadError::Damaged("bits".to_owned())));
}

#[test]
fn sync_brings_everything_that_was_published_before_it() {
    let mut scene = Scene::new();
    let mut sync = scene.client.nb().sync();
    let call = scene.expect(&Call::LastTid);
    scene.invalidate(12, &[1]);
    scene.reply(call, Reply::LastTid(tid(12)));
    assert_eq!(scene.take(&mut sync), Ok(tid(12)));
    assert_eq!(scene.last_tid(), 12);
}

fn reply_many(scene: &mut Scene, call: u64, found: &[Loaded], more: bool) {
    let data: Vec<u8> = found.iter().flat_map(contents).collect();
    scene.say(&ServerMessage::Reply(call, Reply::LoadedMany(found.to_vec(), more)), &data);
}

fn contents(found: &Loaded) -> Vec<u8> {
    match found {
        Loaded::Revision(validity, _) => data(validity.serial.number()).to_vec(),
        Loaded::Absent | Loaded::Deleted(_) => Vec::new(),
    }
}

fn validity(serial: u64) -> zeo_proto::Validity {
    zeo_proto::Validity { serial: tid(serial), end: None }
}
