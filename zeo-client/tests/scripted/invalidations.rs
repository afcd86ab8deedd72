//! What the application hears of changes.

use std::sync::{Arc, Mutex};

use zeo_client::{Changed, Invalidation, Oid, Subscription};
use zeo_proto::{Call, CatchUp, ClientMessage, Reply};

use crate::scene::{Scene, tid};

#[test]
fn changes_of_others_and_our_own_are_told_in_order() {
    let mut scene = Scene::new();
    let (heard, _subscription) = listen(&scene);
    let mut commit = scene.client.nb().commit(scene.change());
    let vote = loop {
        if let (ClientMessage::Call(call, _), _) = scene.message() {
            break call;
        }
    };
    scene.invalidate(12, &[2, 3]);
    scene.reply(vote, Reply::Finished(tid(13)));
    scene.take(&mut commit).unwrap();
    scene.client.deliver();
    let theirs = Invalidation { tid: tid(12), changed: objects(&[2, 3]), own: false };
    let ours = Invalidation { tid: tid(13), changed: objects(&[1]), own: true };
    assert_eq!(*heard.lock().unwrap(), [theirs, ours]);
}

#[test]
fn what_was_missed_is_told_after_the_reconnect() {
    let mut scene = Scene::new();
    let (heard, _subscription) = listen(&scene);
    for through in [12, 15] {
        scene.welcome_at(through);
        scene.cut();
        scene.hello();
        let (call, _) = scene.call();
        let oids = vec![Oid::new(4)];
        let answer = match through {
            12 => CatchUp::Page { through: tid(12), oids, more: false },
            _ => CatchUp::TooOld { through: tid(15) },
        };
        scene.reply(call, Reply::CatchUp(answer));
        scene.until(|scene| scene.client.is_connected());
    }
    scene.client.deliver();
    let listed = Invalidation { tid: tid(12), changed: objects(&[4]), own: false };
    let all = Invalidation { tid: tid(15), changed: Changed::Everything, own: false };
    assert_eq!(*heard.lock().unwrap(), [listed, all]);
}

#[test]
fn a_callback_may_make_calls_and_sees_the_change() {
    let mut scene = Scene::new();
    let client = scene.client.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let _subscription = scene.client.on_invalidation(move |change| {
        assert!(client.last_tid() >= change.tid);
        notes.lock().unwrap().push(client.nb().load(Oid::new(1)));
    });
    scene.invalidate(12, &[1]);
    scene.until(|scene| scene.last_tid() == 12);
    scene.client.deliver();
    let call = scene.expect(&Call::LoadBefore(Oid::new(1), tid(13)));
    scene.reply_loaded(call, 12, None);
    let mut load = seen.lock().unwrap().pop().unwrap();
    assert_eq!(scene.take(&mut load).unwrap().tid, tid(12));
}

#[test]
fn the_callback_of_a_result_runs_where_callbacks_run() {
    let mut scene = Scene::new();
    let heard = Arc::new(Mutex::new(None));
    let note = Arc::clone(&heard);
    scene.client.nb().ping().then(move |result| *note.lock().unwrap() = Some(result));
    let (call, _) = scene.call();
    scene.reply(call, Reply::Pong);
    scene.flow();
    assert_eq!(*heard.lock().unwrap(), None);
    scene.client.deliver();
    assert_eq!(*heard.lock().unwrap(), Some(Ok(Ok(()))));
}

type Heard = Arc<Mutex<Vec<Invalidation>>>;

fn listen(scene: &Scene) -> (Heard, Subscription) {
    let heard = Heard::default();
    let notes = Arc::clone(&heard);
    let note = move |change: &Invalidation| notes.lock().unwrap().push(change.clone());
    (heard, scene.client.on_invalidation(note))
}

fn objects(oids: &[u64]) -> Changed {
    Changed::Objects(oids.iter().copied().map(Oid::new).collect())
}
