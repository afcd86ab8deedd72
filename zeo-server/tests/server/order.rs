//! What a client may believe because of the order of frames (PROTOCOL.md, section 6).

use std::collections::BTreeMap;

use zeo_proto::{Call, Loaded, Oid, Reply, ServerMessage, Tid, Validity};
use zeo_server::Limits;

use crate::faulty::Faulty;
use crate::peer::{Peer, Txn};

/// Answers of a batch wait for one another. One that was current when it was found was sent so
/// after the invalidation of its object; now it is sealed when it is sent.
#[test]
fn r5_a_batch_does_not_overlook_what_was_committed_while_it_waited() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let (mut reader, mut writer) = (Peer::connect(&server), Peer::connect(&server));
    let first = writer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a"), (2, None, b"b")]);
    let first = first.unwrap();
    storage.set(|faults| faults.held_load = Some(Oid::new(3)));
    let oids: Vec<Oid> = [1, 2, 3].map(Oid::new).into();
    let as_of = reader.ask(Call::LoadMany(first.next(), oids.clone()));
    let newest = reader.ask(Call::LoadMany(Tid::MAX, oids));
    storage.wait_until(|faults| faults.load_waited);
    let second = writer.commit(&Txn::new(2, 0, first), &[(1, Some(first), b"c")]).unwrap();
    assert_eq!(
        reader.notice(),
        ServerMessage::Invalidate(first, vec![Oid::new(1), Oid::new(2)], false)
    );
    assert_eq!(reader.notice(), ServerMessage::Invalidate(second, vec![Oid::new(1)], false));
    storage.set(|faults| faults.held_load = None);
    let ended = Loaded::Revision(Validity { serial: first, end: Some(second) }, 1);
    let unchanged = Loaded::Revision(Validity { serial: first, end: None }, 1);
    let current = Loaded::Revision(Validity { serial: second, end: None }, 1);
    assert_eq!(pages(&mut reader, as_of), [ended, unchanged, Loaded::Absent]);
    assert_eq!(pages(&mut reader, newest), [current, unchanged, Loaded::Absent]);
}

/// Answers wait in the lane of a peer that does not take them in; invalidations do not.
#[test]
fn r5_an_answer_that_waited_for_its_peer_is_not_out_of_date() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let (mut reader, mut writer) = (Peer::connect(&server), Peer::connect(&server));
    let large = vec![7; 1 << 20];
    let oids = 0..40;
    let stores: Vec<_> = oids.clone().map(|oid| (oid, None, &large[..])).collect();
    let first = writer.commit(&Txn::new(1, 0, Tid::ZERO), &stores).unwrap();
    let mut asked = BTreeMap::new();
    for oid in oids.clone() {
        let before = if oid % 2 == 0 { first.next() } else { Tid::MAX };
        asked.insert(reader.ask(Call::LoadBefore(Oid::new(oid), before)), before);
    }
    wait_for_standstill(&mut writer);
    let stores: Vec<_> = oids.map(|oid| (oid, Some(first), &b"new"[..])).collect();
    let second = writer.commit(&Txn::new(2, 0, first), &stores).unwrap();
    let mut last = Tid::ZERO;
    while !asked.is_empty() {
        match reader.receive().unwrap().0 {
            ServerMessage::Invalidate(tid, ..) => last = tid,
            ServerMessage::Reply(call, Reply::Loaded(Loaded::Revision(found, _))) => {
                let before = asked.remove(&call).unwrap();
                assert!(found.end.is_some() || found.serial == last, "{found:?} after {last}");
                assert!(found.end.is_none_or(|end| before <= end), "{found:?} before {before}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, second, "or the test has shown nothing");
}

/// Waits until the server loads nothing more, because a peer does not take in what it asked for.
fn wait_for_standstill(other: &mut Peer) {
    let (mut same, mut last) = (0, 0);
    while same < 200 {
        let (Reply::Status, status) = other.call(Call::Status).unwrap() else { panic!() };
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        let loads = status["main"]["loads"].as_u64().unwrap();
        same = if loads == last && loads > 0 { same + 1 } else { 0 };
        last = loads;
    }
}

fn pages(peer: &mut Peer, call: u64) -> Vec<Loaded> {
    let mut all = Vec::new();
    loop {
        let (Reply::LoadedMany(page, more), _) = peer.answer(call).unwrap() else { panic!() };
        all.extend(page);
        if !more {
            return all;
        }
    }
}
