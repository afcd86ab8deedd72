//! Peers that break the protocol: each is closed, and a well-behaved neighbour does not notice.

use std::io::{Read, Write};
use std::time::Duration;

use zeo_proto::{
    Begin, Call, ClientMessage, Failure, Goodbye, Oid, Reply, ServerMessage, Tid, TxnId, TxnMeta,
};
use zeo_server::{Limits, RunningServer, Server};

use crate::faulty::Faulty;
use crate::peer::{Peer, Txn, connect, frame, store};

#[test]
fn a_peer_that_breaks_the_protocol_is_closed_and_told_why() {
    let server = Server::in_memory().unwrap();
    let mut neighbour = Peer::connect(&server);
    let ping = frame(&ClientMessage::Call(1, Call::Ping), &[]);
    let mut trailing = frame(&ClientMessage::Call(1, Call::Ping), &[]);
    trailing[3] += 1;
    trailing.push(0);
    let mut unknown = ping.clone();
    unknown[4] = 99;
    let mut cut = ping.clone();
    cut[3] -= 1;
    cut.pop();
    let twice = [Txn::new(1, 0, Tid::ZERO).begin(), Txn::new(1, 1, Tid::ZERO).begin()].concat();
    let begin = Txn::new(1, 0, Tid::ZERO).begin();
    let last_oid = [begin, store(1, u64::MAX - 1, None, b"data")].concat();
    let begin = Txn::new(1, 0, Tid::ZERO).begin();
    let delete = frame(&ClientMessage::Delete(1, Oid::new(u64::MAX - 1), Tid::ZERO), &[]);
    let delete_last = [begin, delete].concat();
    let cases: [(&str, Vec<u8>); 10] = [
        ("a frame that is too large", vec![0xff, 0xff, 0xff, 0xff]),
        ("a frame that says it is 64 MiB and one byte", vec![0x04, 0x00, 0x00, 0x01]),
        ("an empty frame", vec![0, 0, 0, 0]),
        ("an unknown kind", unknown),
        ("trailing bytes", trailing),
        ("a truncated message", cut),
        ("a store outside of a transaction", store(5, 1, None, b"data")),
        ("a transaction begun twice", twice),
        ("an oid that would leave none for others", last_oid),
        ("the deletion of such an oid", delete_last),
    ];
    for (what, bytes) in cases {
        let mut peer = Peer::connect(&server);
        peer.write(&bytes);
        let Some((ServerMessage::Goodbye(Goodbye::ProtocolError(_)), _)) = peer.receive() else {
            panic!("{what}: no goodbye")
        };
        assert_eq!(peer.receive(), None, "{what}: not closed");
        assert_eq!(neighbour.call(Call::Ping).unwrap().0, Reply::Pong, "{what}");
    }
}

/// Beginning a transaction twice breaks the protocol; what the first had gathered stayed counted
/// for ever, so that a few such peers took the memory for transactions from everybody.
#[test]
fn what_a_broken_session_had_gathered_is_given_back() {
    let server = Server::in_memory().unwrap();
    let mut neighbour = Peer::connect(&server);
    let begin = Txn::new(1, 0, Tid::ZERO).begin();
    let mut peer = Peer::connect(&server);
    peer.write(&[&begin[..], &store(1, 1, None, &vec![7; 100_000]), &begin].concat());
    assert!(matches!(peer.receive(), Some((ServerMessage::Goodbye(_), _))));
    drop(peer);
    while status(&mut neighbour)["main"]["connections"] != 1 {}
    let status = status(&mut neighbour);
    assert_eq!(
        (&status["main"]["buffered_bytes"], &status["main"]["active_txns"]),
        (&0.into(), &0.into())
    );
}

/// Only the extension was counted, and nothing was refused before the first store.
#[test]
fn what_a_transaction_is_begun_with_counts() {
    let server = start(Limits { buffered_bytes: 100_000, ..Limits::default() });
    let mut peer = Peer::connect(&server);
    let text = || "x".repeat(20_000);
    let meta = TxnMeta { user: text(), description: text(), extension: text().into_bytes() };
    for number in 0..100 {
        let id = TxnId::from_bytes([7; 16]);
        let begin = Begin { id, snapshot: Tid::ZERO, meta: meta.clone() };
        peer.say(&ClientMessage::TpcBegin(number, begin));
    }
    let buffered = status(&mut peer)["main"]["buffered_bytes"].as_u64().unwrap();
    assert!((60_000..=100_000).contains(&buffered), "{buffered}");
    assert_eq!(peer.call(Call::TpcVote(99, true)), Err(Failure::Busy));
    assert!(peer.call(Call::TpcVote(0, true)).is_ok());
}

#[test]
fn a_stranger_is_closed() {
    let server = Server::in_memory().unwrap();
    let mut neighbour = Peer::connect(&server);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..50 {
        let mut stream = connect(&server);
        let noise: Vec<u8> = (0..100)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random.to_be_bytes()[0]
            })
            .collect();
        // A first byte that is not zero makes the frame larger than a handshake's.
        stream.write_all(&[&[1], &noise[..]].concat()).unwrap();
        assert_closed(&mut stream);
    }
    let mut web = connect(&server);
    web.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_closed(&mut web);
    assert_eq!(neighbour.call(Call::Ping).unwrap().0, Reply::Pong);
}

#[test]
fn a_peer_that_says_nothing_is_closed() {
    let server = short_handshake();
    let mut stream = connect(&server);
    assert_closed(&mut stream);
}

/// A thousand who said nothing kept everybody else out.
#[test]
fn strangers_who_say_nothing_keep_nobody_out() {
    let server = start(Limits { handshakes: 4, ..Limits::default() });
    let mut strangers: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    let mut peer = Peer::connect(&server);
    assert_eq!(peer.call(Call::Ping).unwrap().0, Reply::Pong);
    assert_closed(&mut strangers[0]);
}

#[test]
fn a_session_that_asks_too_much_at_once_is_read_again_later() {
    let limits = Limits { calls_in_flight: 4, ..Limits::default() };
    let server = start(limits);
    let mut peer = Peer::connect(&server);
    let calls: Vec<_> =
        (0..1_000).map(|n| peer.ask(Call::LoadBefore(Oid::new(n), Tid::MAX))).collect();
    for call in calls {
        peer.answer(call).unwrap();
    }
}

/// Answers that nobody takes in pile up to a bound, and then the peer was disconnected; for all
/// peers together that is more than there is. Now such a peer is not read.
#[test]
fn a_peer_that_does_not_read_is_not_read_either() {
    let server = start(Limits { output_bytes: 2 << 20, ..Limits::default() });
    let (mut peer, mut neighbour) = (Peer::connect(&server), Peer::connect(&server));
    let ballast = ballast();
    let (mut asked, mut stuck) = (0, 0);
    while stuck < 20 {
        assert!(asked < 100_000, "it is read for ever");
        if peer.try_ask(&ballast, Call::Status) {
            (asked, stuck) = (asked + 1, 0);
        } else {
            neighbour.call(Call::Ping).unwrap();
            stuck += 1;
        }
    }
    for call in 1..=asked {
        peer.answer(call).unwrap();
    }
}

/// Messages without an answer, so that a few questions fill whatever the system buffers.
fn ballast() -> Vec<u8> {
    let meta = TxnMeta { description: "-".repeat(4_000), ..TxnMeta::default() };
    let begin = Begin { id: TxnId::default(), snapshot: Tid::ZERO, meta };
    let mut bytes = frame(&ClientMessage::TpcBegin(1, begin), &[]);
    bytes.extend(frame(&ClientMessage::TpcAbort(1), &[]));
    bytes
}

/// Such a question may read much of the journal, in a stage of one thread.
#[test]
fn a_session_catches_up_once_at_a_time() {
    let storage = Faulty::new();
    let server = storage.serve(Limits::default());
    let (mut greedy, mut other) = (Peer::connect(&server), Peer::connect(&server));
    storage.set(|faults| faults.held_history = true);
    let unknown = || Call::InvalidationsSince(Tid::new(1));
    let first = greedy.ask(unknown());
    for _ in 0..10 {
        assert_eq!(greedy.call(unknown()), Err(Failure::Busy));
    }
    let waiting = other.ask(unknown());
    storage.set(|faults| faults.held_history = false);
    for (peer, call) in [(&mut greedy, first), (&mut other, waiting)] {
        assert!(matches!(peer.answer(call), Ok((Reply::CatchUp(_), _))));
        assert!(matches!(peer.call(unknown()), Ok((Reply::CatchUp(_), _))));
    }
}

#[test]
fn one_session_too_many_is_refused_with_the_reason() {
    let server = start(Limits { sessions: 1, ..Limits::default() });
    let first = Peer::connect(&server);
    let hello = || zeo_proto::Hello::new("main").unwrap();
    let Err(zeo_proto::ClientEvent::Refused(refusal)) = Peer::introduce(&server, hello()) else {
        panic!()
    };
    assert_eq!(refusal.reason, zeo_proto::RefusalReason::TooManySessions);
    drop(first);
    // The server notices the end of the first a moment later.
    while Peer::introduce(&server, hello()).is_err() {}
}

#[test]
fn the_status_is_told_without_a_handshake() {
    let server = Server::in_memory().unwrap();
    let _peer = Peer::connect(&server);
    let mut stream = connect(&server);
    stream.write_all(b"\0\0\0\x04ruok").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let greeting = 4 + usize::from(all[3]);
    let status: serde_json::Value = serde_json::from_slice(&all[greeting + 4..]).unwrap();
    assert_eq!(status["main"]["connections"], 1);
    assert_eq!(status["main"]["last-transaction"], "0000000000000000");
}

fn start(limits: Limits) -> RunningServer {
    let address = "127.0.0.1:0".parse().unwrap();
    Server::builder().memory_storage("main").limits(limits).listen(address).start().unwrap()
}

fn status(peer: &mut Peer) -> serde_json::Value {
    serde_json::from_slice(&peer.call(Call::Status).unwrap().1).unwrap()
}

fn short_handshake() -> RunningServer {
    start(Limits { handshake: Duration::from_millis(50), ..Limits::default() })
}

/// Reads to the end; the socket gives up after ten seconds of silence.
fn assert_closed(stream: &mut std::net::TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}
