//! Connecting: the first time, again, and to what is not the server that it was.

use std::time::Duration;

use zeo_client::{CallError, Client, CommitError, LoadError, NotCommitted, Oid, OtherDatabase};
use zeo_proto::{Call, CatchUp, Goodbye, Identity, Refusal, RefusalReason, Reply, ServerMessage};

use crate::scene::{ADDRESS, Answer, Scene, UUID, data, loaded, tid, welcome};

#[test]
fn a_new_client_has_no_past_and_begins_at_the_servers_last_tid() {
    let mut scene = Scene::unconnected(&Client::options().label("web").storage("s"), &[ADDRESS]);
    let hello = scene.hello();
    assert_eq!((hello.storage(), hello.label.as_str()), ("s", "web"));
    assert_eq!((hello.known, hello.last_tid), (None, None));
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.last_tid(), 10);
    assert_eq!(scene.client.identity(), Identity { uuid: UUID, epoch: 1 });
}

#[test]
fn a_client_that_returns_says_what_it_has() {
    let mut scene = Scene::new();
    scene.cut();
    let hello = scene.hello();
    assert_eq!(hello.known, Some(Identity { uuid: UUID, epoch: 1 }));
    assert_eq!(hello.last_tid, Some(tid(10)));
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.client.statistics().reconnects, 1);
}

#[test]
fn addresses_are_tried_in_turn() {
    let addresses = ["127.0.0.1:1", "127.0.0.1:2", ADDRESS];
    let mut scene = Scene::unconnected(&Client::options(), &addresses);
    scene.until(|scene| scene.client.is_connected());
}

#[test]
fn calls_made_before_there_is_a_connection_wait_for_it() {
    let mut scene = Scene::unconnected(&Client::options(), &[ADDRESS]);
    let mut ping = scene.client.nb().ping();
    let call = scene.expect(&Call::Ping);
    scene.reply(call, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
}

// R26: a client that went on with another database would read its objects as if they were those
// that it knows.
#[test]
fn r26_another_database_ends_the_client_and_the_error_names_both() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    scene.message();
    let known = scene.client.identity();
    let found = Identity { uuid: *b"another one.....", epoch: 3 };
    scene.answer_with(Answer::Welcome(welcome(found.uuid, found.epoch, 10)));
    scene.cut();

    let other = OtherDatabase { known, found };
    assert_eq!(scene.take(&mut load), Err(LoadError::OtherDatabase(other)));
    let mut load = scene.client.nb().load(Oid::new(1));
    assert_eq!(scene.take(&mut load), Err(LoadError::OtherDatabase(other)));
    assert_eq!(scene.client.begin().unwrap_err(), CallError::OtherDatabase(other));
    let text = other.to_string();
    assert!(text.contains(&known.to_string()) && text.contains(&found.to_string()));
}

#[test]
fn another_database_that_refuses_us_ends_the_client_too() {
    let mut scene = Scene::new();
    let known = scene.client.identity();
    let here = Identity { uuid: *b"another one.....", epoch: 3 };
    let mut ping = scene.client.nb().ping();
    scene.message();
    let reason = RefusalReason::OtherDatabase { known, here };
    scene.answer_with(Answer::Refusal(Refusal { reason, text: String::new() }));
    scene.cut();
    let other = OtherDatabase { known, found: here };
    assert_eq!(scene.take(&mut ping), Err(CallError::OtherDatabase(other)));
}

#[test]
fn a_refusal_that_passes_is_waited_out() {
    let mut scene = Scene::new();
    let text = "come back later".to_owned();
    let refusal = Refusal { reason: RefusalReason::TooManySessions, text };
    scene.answer_with(Answer::Refusal(refusal));
    scene.cut();
    scene.hello();
    scene.hello();
    scene.welcome_at(10);
    scene.until(|scene| scene.client.is_connected());
}

#[test]
fn a_server_that_stops_is_expected_back() {
    let mut scene = Scene::new();
    let mut ping = scene.client.nb().ping();
    scene.expect(&Call::Ping);
    scene.say(&ServerMessage::Goodbye(Goodbye::Stopping), &[]);
    let call = scene.expect(&Call::Ping);
    scene.reply(call, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
}

#[test]
fn a_server_that_does_not_finish_its_handshake_is_given_up() {
    let mut scene = Scene::new();
    scene.answer_with(Answer::Silence);
    scene.cut();
    scene.hello();
    scene.welcome_at(10);
    scene.until(|scene| scene.client.is_connected());
}

#[test]
fn a_server_that_falls_silent_is_asked_and_then_given_up() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    scene.message();
    scene.expect(&Call::Ping);
    scene.hello();
    let (call, _) = scene.call();
    scene.reply_loaded(call, 5, None);
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5));
}

#[test]
fn a_slow_server_that_answers_pings_is_not_given_up() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let (load_call, _) = scene.call();
    for _ in 0..5 {
        let call = scene.expect(&Call::Ping);
        scene.reply(call, Reply::Pong);
    }
    scene.reply_loaded(load_call, 5, None);
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5));
    assert_eq!(scene.client.statistics().reconnects, 0);
}

// A client that only listened would have served from its cache for ever.
#[test]
fn a_server_that_is_gone_is_noticed_by_an_idle_client_which_then_verifies_its_cache() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.pass(HEARTBEAT / 2);
    scene.invalidate(12, &[2]);
    scene.until(|scene| scene.last_tid() == 12);
    scene.silence();
    let noticed = scene.time_until(|scene| !scene.client.is_connected());
    assert!(noticed <= HEARTBEAT * 2, "{noticed:?} after it was last heard");
    assert_eq!(scene.client.load(Oid::new(1)).unwrap().tid, tid(5), "as of then");

    scene.welcome_at(15);
    scene.end_silence();
    scene.hello();
    let call = scene.expect(&Call::InvalidationsSince(tid(12)));
    let (through, oids, more) = (tid(15), vec![Oid::new(1)], false);
    scene.reply(call, Reply::CatchUp(CatchUp::Page { through, oids, more }));
    scene.until(|scene| scene.client.is_connected());
    assert_eq!(scene.cached(1, 16), None);
}

#[test]
fn a_connection_that_its_server_has_forgotten_is_noticed_when_it_is_idle() {
    let mut scene = Scene::new();
    scene.half_open();
    let noticed = scene.time_until(|scene| !scene.client.is_connected());
    assert!(noticed <= HEARTBEAT + Duration::from_secs(1), "{noticed:?}");
}

#[test]
fn an_idle_connection_to_a_server_that_lives_is_kept_at_a_ping_each_heartbeat() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        let call = scene.expect(&Call::Ping);
        scene.reply(call, Reply::Pong);
    }
    scene.pass(HEARTBEAT / 2);
    scene.expect_nothing();
    assert_eq!(scene.client.statistics().reconnects, 0);
}

#[test]
fn a_server_that_is_heard_is_not_pinged() {
    let mut scene = Scene::new();
    for at in 12..20 {
        scene.pass(HEARTBEAT * 2 / 3);
        scene.invalidate(at, &[2]);
    }
    scene.expect_nothing();
}

// A large answer over a slow line is whole only after minutes, and would never be if the
// connection were given up meanwhile.
#[test]
fn a_server_in_the_middle_of_a_message_is_alive() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    let loaded = Reply::Loaded(loaded(5, None));
    scene.say_slowly(&ServerMessage::Reply(call, loaded), &data(5), HEARTBEAT * 2 / 3);
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5));
    assert_eq!(scene.client.statistics().reconnects, 0);
}

// The ping has to wait for its turn behind what was written before it.
#[test]
fn a_server_that_reads_slowly_is_alive_and_one_that_stops_is_not() {
    let mut scene = Scene::new();
    let mut txn = scene.client.begin().unwrap();
    txn.store_new(Oid::new(1), vec![7; 600 << 10]).unwrap();
    drop(scene.client.nb().commit(txn));
    for _ in 0..8 {
        scene.stop_reading();
        scene.pass(HEARTBEAT * 2 / 3);
        scene.read_a_little();
    }
    assert_eq!(scene.client.statistics().reconnects, 0);
    scene.stop_reading();
    let noticed = scene.time_until(|scene| !scene.client.is_connected());
    assert!(noticed <= HEARTBEAT * 3, "{noticed:?}");
}

#[test]
fn patience_ends_after_the_wait_timeout_and_returns_with_the_connection() {
    let mut scene = Scene::with(&Client::options().wait_timeout(Duration::from_secs(3)));
    let mut load = scene.client.nb().load(Oid::new(1));
    scene.message();
    scene.answer_with(Answer::Silence);
    scene.cut();
    let mut commit = scene.client.nb().commit(scene.change());
    assert_eq!(scene.take(&mut load), Err(LoadError::Disconnected));
    let disconnected = CommitError::NotCommitted(NotCommitted::Disconnected);
    assert_eq!(scene.take(&mut commit), Err(disconnected));
    let mut ping = scene.client.nb().ping();
    assert_eq!(scene.take(&mut ping), Err(CallError::Disconnected), "at once");

    scene.welcome_at(10);
    scene.until(|scene| scene.client.is_connected());
    let mut ping = scene.client.nb().ping();
    let call = scene.expect(&Call::Ping);
    scene.reply(call, Reply::Pong);
    assert_eq!(scene.take(&mut ping), Ok(()));
}

#[test]
fn an_answer_that_fits_no_question_begins_a_new_connection() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let (call, _) = scene.call();
    scene.reply(call, Reply::Pong);
    let (call, _) = scene.call();
    scene.reply_loaded(call, 5, None);
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(5));
}

/// How long a server may be silent before it is pinged, and then before it is given up.
const HEARTBEAT: Duration = Duration::from_secs(30);
