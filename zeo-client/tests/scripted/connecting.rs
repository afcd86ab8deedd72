//! Connecting: the first time, again, and to what is not the server that it was.

use std::time::Duration;

use zeo_client::{CallError, Client, CommitError, LoadError, NotCommitted, Oid, OtherDatabase};
use zeo_proto::{Call, Goodbye, Identity, Refusal, RefusalReason, Reply, ServerMessage};

use crate::scene::{ADDRESS, Answer, Scene, UUID, tid, welcome};

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
fn another_database_ends_the_client_and_the_error_names_both() {
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
