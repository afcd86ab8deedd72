//! Loads, batches, and catching up.

use zeo_proto::{Call, CatchUp, Hello, Identity, Loaded, Oid, RefusalReason, Reply, Tid, Validity};
use zeo_proto::{ClientEvent, Failure};
use zeo_server::{Limits, Server};

use crate::peer::{Peer, Txn};

#[test]
fn every_revision_is_found_by_its_time() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, Some(Tid::ZERO), b"one")]).unwrap();
    let second = peer.commit(&Txn::new(2, 0, first), &[(1, Some(first), b"two")]).unwrap();
    assert_eq!(peer.load(1, first).0, Loaded::Absent);
    let old = Loaded::Revision(Validity { serial: first, end: Some(second) }, 3);
    assert_eq!(peer.load(1, second), (old, "one".into()));
    let current = Loaded::Revision(Validity { serial: second, end: None }, 3);
    assert_eq!(peer.load(1, Tid::MAX), (current, "two".into()));
    assert_eq!(peer.load(2, Tid::MAX).0, Loaded::Absent);
}

#[test]
fn a_batch_is_answered_in_the_order_asked() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let large = vec![7; 30_000];
    let stores: Vec<_> = (1..=10).map(|oid| (oid, None, &large[..])).collect();
    let tid = peer.commit(&Txn::new(1, 0, Tid::ZERO), &stores).unwrap();
    let id = peer.ask(Call::LoadMany(tid.next(), (0..=11).map(Oid::new).collect()));
    let (mut found, mut data, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (Reply::LoadedMany(page, more), tail) = peer.answer(id).unwrap() else { panic!() };
        found.extend(page);
        data += tail.len();
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!((found.len(), data, pages), (12, 300_000, 3), "four of them fill a page");
    assert_eq!((found[0], found[11]), (Loaded::Absent, Loaded::Absent));
}

/// Twice as much was asked for as may wait for one peer. The answers were made all at once, and
/// the peer disconnected for not taking them in; now they are made as the peer takes them.
#[test]
fn a_peer_may_ask_for_more_than_may_wait_for_it() {
    let limits = Limits { output_bytes: 8 << 20, hot_bytes: 0, ..Limits::default() };
    let address = "127.0.0.1:0".parse().unwrap();
    let server =
        Server::builder().memory_storage("main").limits(limits).listen(address).start().unwrap();
    let mut peer = Peer::connect(&server);
    let large = vec![7; 1 << 20];
    let stores: Vec<_> = (0..16).map(|oid| (oid, None, &large[..])).collect();
    peer.commit(&Txn::new(1, 0, Tid::ZERO), &stores).unwrap();
    let oids: Vec<Oid> = (0..16).map(Oid::new).collect();
    let batches: Vec<_> =
        (0..10).map(|_| peer.ask(Call::LoadMany(Tid::MAX, oids.clone()))).collect();
    let single: Vec<_> =
        (0..16).map(|oid| peer.ask(Call::LoadBefore(Oid::new(oid), Tid::MAX))).collect();
    for batch in batches {
        let mut data = 0;
        loop {
            let (Reply::LoadedMany(_, more), tail) = peer.answer(batch).unwrap() else { panic!() };
            data += tail.len();
            if !more {
                break;
            }
        }
        assert_eq!(data, 16 << 20);
    }
    for call in single {
        assert_eq!(peer.answer(call).unwrap().1.len(), 1 << 20);
    }
}

#[test]
fn a_returning_client_is_told_what_changed() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let second = peer.commit(&Txn::new(2, 0, first), &[(2, None, b"b")]).unwrap();
    let through =
        peer.commit(&Txn::new(3, 0, second), &[(3, None, b"c"), (2, None, b"d")]).unwrap();
    let mut since = |tid| match peer.call(Call::InvalidationsSince(tid)).unwrap().0 {
        Reply::CatchUp(catch_up) => catch_up,
        other => panic!("{other:?}"),
    };
    let oids = vec![Oid::new(2), Oid::new(3)];
    assert_eq!(since(first), CatchUp::Page { through, oids, more: false });
    assert_eq!(since(through), CatchUp::Page { through, oids: vec![], more: false });
    assert_eq!(since(first.next()), CatchUp::NotOfThisHistory { through });
    assert_eq!(since(through.next()), CatchUp::NotOfThisHistory { through });
}

#[test]
fn a_long_absence_is_told_in_pages() {
    let server = Server::in_memory().unwrap();
    let mut peer = Peer::connect(&server);
    let first = peer.commit(&Txn::new(1, 0, Tid::ZERO), &[(1, None, b"a")]).unwrap();
    let mut through = first;
    for number in 0..10 {
        let stores: Vec<_> =
            (0..10_000).map(|oid| (1 + number * 9_000 + oid, None, &b"a"[..])).collect();
        let txn = Txn::new(2 + u32::try_from(number).unwrap(), 0, through);
        through = peer.commit(&txn, &stores).unwrap();
    }
    let call = peer.ask(Call::InvalidationsSince(first));
    let mut all = Vec::new();
    loop {
        let (Reply::CatchUp(CatchUp::Page { through: to, oids, more }), _) =
            peer.answer(call).unwrap()
        else {
            panic!()
        };
        assert_eq!(to, through);
        all.extend(oids);
        if !more {
            break;
        }
    }
    assert_eq!(all, (1..=91_000).map(Oid::new).collect::<Vec<_>>());
}

#[test]
fn a_client_of_another_database_is_refused() {
    let server = Server::in_memory().unwrap();
    let here = Peer::connect(&server).welcome.identity;
    let known = Identity { uuid: [9; 16], epoch: 1 };
    let mut hello = Hello::new("main").unwrap();
    hello.known = Some(known);
    let Err(ClientEvent::Refused(refusal)) = Peer::introduce(&server, hello) else { panic!() };
    assert_eq!(refusal.reason, RefusalReason::OtherDatabase { known, here });
    assert!(refusal.text.contains(&here.to_string()));
    let mut hello = Hello::new("main").unwrap();
    hello.known = Some(here);
    assert!(Peer::introduce(&server, hello).is_ok());
}

#[test]
fn an_unknown_storage_is_refused_with_the_known_ones() {
    let server = Server::in_memory().unwrap();
    let hello = Hello::new("mian").unwrap();
    let Err(ClientEvent::Refused(refusal)) = Peer::introduce(&server, hello) else { panic!() };
    assert_eq!(refusal.reason, RefusalReason::UnknownStorage);
    assert!(refusal.text.contains("mian") && refusal.text.contains("main"), "{}", refusal.text);
}

#[test]
fn a_read_only_session_does_not_write() {
    let server = Server::in_memory().unwrap();
    let mut hello = Hello::new("main").unwrap();
    hello.read_only = true;
    let mut peer = Peer::introduce(&server, hello).unwrap();
    let txn = Txn::new(1, 0, Tid::ZERO);
    assert_eq!(peer.commit(&txn, &[(1, None, b"a")]), Err(Failure::ReadOnly));
    assert_eq!(peer.call(Call::NewOids(1)), Err(Failure::ReadOnly));
    assert_eq!(peer.load(1, Tid::MAX).0, Loaded::Absent);
}
