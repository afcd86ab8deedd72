//! Closing: everybody who waits is told the truth.

use std::sync::{Arc, Mutex};

use zeo_client::{CallError, CommitError, LoadError, Oid};
use zeo_proto::{Call, ClientMessage, Goodbye, Reply};

use crate::scene::Scene;

#[test]
fn r33_whoever_waits_when_the_client_closes_is_told() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let mut many = scene.client.nb().load_many(&[2, 3].map(Oid::new));
    let mut oid = scene.client.nb().new_oid();
    let mut sync = scene.client.nb().sync();
    scene.flow();
    scene.client.close();
    assert_eq!(scene.take(&mut load), Err(LoadError::Closed));
    assert_eq!(scene.take(&mut many), Err(LoadError::Closed));
    assert_eq!(scene.take(&mut oid), Err(CallError::Closed));
    assert_eq!(scene.take(&mut sync), Err(CallError::Closed));
}

#[test]
fn a_commit_that_may_have_happened_is_unknown_when_the_client_closes() {
    let mut scene = Scene::new();
    let mut sent = scene.client.nb().commit(scene.change());
    let (ClientMessage::TpcBegin(_, begin), _) = scene.message() else { panic!() };
    let mut unsent = scene.client.nb().commit(scene.change());
    scene.client.close();
    let Err(CommitError::Unknown(doubt)) = scene.take(&mut sent) else { panic!() };
    assert_eq!(doubt.id(), begin.id);
    assert!(matches!(scene.take(&mut unsent), Err(CommitError::Unknown(_) | CommitError::Closed)));
}

#[test]
fn a_commit_of_which_nothing_was_sent_is_closed() {
    let mut scene = Scene::new();
    scene.cut();
    let mut commit = scene.client.nb().commit(scene.change());
    scene.flow();
    scene.client.close();
    assert_eq!(scene.take(&mut commit), Err(CommitError::Closed));
}

#[test]
fn a_closed_client_answers_at_once_and_may_be_closed_again() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    scene.client.close();
    scene.client.close();
    assert_eq!(scene.client.load(Oid::new(1)), Err(LoadError::Closed));
    assert_eq!(scene.client.nb().ping().wait().unwrap(), Err(CallError::Closed));
    assert_eq!(scene.client.begin().unwrap_err(), CallError::Closed);
}

#[test]
fn a_closed_client_has_no_names_left() {
    let mut scene = Scene::new();
    let mut oid = scene.client.nb().new_oid();
    let call = scene.expect(&Call::NewOids(129));
    scene.reply(call, Reply::NewOids(Oid::new(1_000), 129));
    scene.take(&mut oid).unwrap();
    scene.client.close();
    assert_eq!(scene.client.new_oid(), Err(CallError::Closed));
}

// The place where callbacks run was closed before the reactor had told anybody.
#[test]
fn the_callback_of_a_result_hears_that_the_client_was_closed() {
    let mut scene = Scene::new();
    let heard = Arc::new(Mutex::new(None));
    let note = Arc::clone(&heard);
    let load = scene.client.nb().load(Oid::new(1));
    load.then(move |result| *note.lock().unwrap() = Some(result));
    scene.flow();
    scene.client.close();
    scene.flow();
    scene.client.deliver();
    assert_eq!(*heard.lock().unwrap(), Some(Ok(Err(LoadError::Closed))));
}

// Nobody keeps the cache up to date any more, should the reactor's thread have panicked.
#[test]
fn a_client_whose_reactor_is_gone_does_not_serve_what_it_remembers() {
    let mut scene = Scene::new();
    scene.fill(1, 5, None);
    let client = scene.crash();
    assert_eq!(client.load(Oid::new(1)), Err(LoadError::Closed));
    assert_eq!(client.begin().unwrap_err(), CallError::Closed);
    assert!(!client.is_connected());
}

#[test]
fn the_server_is_told_goodbye() {
    let mut scene = Scene::new();
    drop(scene.client.nb().ping());
    scene.expect(&Call::Ping);
    scene.client.close();
    assert_eq!(scene.message().0, ClientMessage::Goodbye(Goodbye::Closed));
}

#[test]
fn a_reactor_that_is_dropped_leaves_nobody_waiting() {
    let mut scene = Scene::new();
    let mut load = scene.client.nb().load(Oid::new(1));
    let mut commit = scene.client.nb().commit(scene.change());
    scene.flow();
    drop(scene.crash());
    assert!(load.try_take().unwrap().is_err());
    let Some(Ok(Err(CommitError::Unknown(_)))) = commit.try_take() else { panic!() };
}
