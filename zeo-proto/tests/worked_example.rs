//! The worked example of PROTOCOL.md, read from that file: it and the code cannot drift apart.

use bytes::Bytes;
use zeo_proto::{
    Begin, Call, ClientConnection, ClientEvent, ClientMessage, Goodbye, Greeting, Hello, Identity,
    Loaded, Oid, Reply, ServerConnection, ServerEvent, ServerMessage, Store, Tid, TxnId, TxnMeta,
    Validity, Welcome, encode, welcome,
};

use crate::golden::hex;

#[test]
fn both_machines_understand_the_worked_example() {
    let mut client = ClientConnection::new(asking());
    let mut server = ServerConnection::new(Greeting::default());
    for Frame { to_server, bytes } in example() {
        if to_server { server.receive(&bytes) } else { client.receive(&bytes) }
    }
    let heard = std::iter::from_fn(|| client.poll());
    assert_eq!(heard.collect::<Vec<_>>(), what_the_client_hears());
    let heard = std::iter::from_fn(|| server.poll());
    assert_eq!(heard.collect::<Vec<_>>(), what_the_server_hears());
}

#[test]
fn both_sides_make_the_bytes_of_the_worked_example() {
    let (to_server, to_client): (Vec<_>, Vec<_>) = example().partition(|frame| frame.to_server);
    assert_eq!(joined(to_server), what_the_client_sends());
    assert_eq!(joined(to_client), what_the_server_sends());
}

/// A frame of the example, with its length.
struct Frame {
    to_server: bool,
    bytes: Vec<u8>,
}

/// The frames of the only block of hexadecimal in the document. A line begins a frame by saying its
/// direction, or goes on with one; what follows a semicolon is for the reader.
fn example() -> impl Iterator<Item = Frame> {
    let document = include_str!("../../PROTOCOL.md");
    let (_, block) = document.split_once("```hex\n").unwrap();
    let (block, rest) = block.split_once("```").unwrap();
    assert!(!rest.contains("```hex"));
    let mut frames: Vec<Frame> = Vec::new();
    for line in block.lines() {
        let (direction, text) = line.split_at(3);
        let bytes = hex(text.split(';').next().unwrap());
        match direction {
            "C>S" => frames.push(Frame { to_server: true, bytes }),
            "S>C" => frames.push(Frame { to_server: false, bytes }),
            _ => frames.last_mut().unwrap().bytes.extend(bytes),
        }
    }
    frames.into_iter()
}

fn what_the_client_hears() -> Vec<ClientEvent> {
    let messages = said_by_server().into_iter();
    [ClientEvent::Greeted, ClientEvent::Welcomed(session())]
        .into_iter()
        .chain(messages.map(|(message, tail)| ClientEvent::Message(message, Bytes::from(tail))))
        .collect()
}

fn what_the_server_hears() -> Vec<ServerEvent> {
    let messages = said_by_client().into_iter();
    [ServerEvent::Hello(asking())]
        .into_iter()
        .chain(messages.map(|(message, tail)| ServerEvent::Message(message, Bytes::from(tail))))
        .collect()
}

fn what_the_client_sends() -> Vec<u8> {
    let mut greeting = Vec::new();
    ServerConnection::new(Greeting::default()).greet(&mut greeting);
    let mut client = ClientConnection::new(asking());
    client.receive(&greeting);
    assert_eq!(client.poll(), Some(ClientEvent::Greeted));
    let mut out = Vec::new();
    client.take_output(&mut out);
    for (message, tail) in said_by_client() {
        encode(&message, tail.as_bytes(), &mut out).unwrap();
    }
    out
}

fn what_the_server_sends() -> Vec<u8> {
    let mut out = Vec::new();
    ServerConnection::new(Greeting::default()).greet(&mut out);
    welcome(&session(), &mut out);
    for (message, tail) in said_by_server() {
        encode(&message, tail.as_bytes(), &mut out).unwrap();
    }
    out
}

fn said_by_client() -> Vec<(ClientMessage, &'static str)> {
    let mut id = [0; 16];
    (0xa0..).zip(&mut id).for_each(|(value, byte)| *byte = value);
    let meta = TxnMeta { user: "ann".to_owned(), ..TxnMeta::default() };
    let begin = Begin { id: TxnId::from_bytes(id), snapshot: LAST_TID, meta };
    let store = Store { oid: CREATED, serial: Some(Tid::ZERO), refs: None };
    vec![
        (ClientMessage::Call(1, Call::NewOids(100)), ""),
        (ClientMessage::TpcBegin(1, begin), ""),
        (ClientMessage::Store(1, store), "hello"),
        (ClientMessage::Call(2, Call::TpcVote(1, true)), ""),
        (ClientMessage::Call(3, Call::LoadBefore(CREATED, Tid::MAX)), ""),
        (ClientMessage::Goodbye(Goodbye::Closed), ""),
    ]
}

fn said_by_server() -> Vec<(ServerMessage, &'static str)> {
    let loaded = Loaded::Revision(Validity { serial: COMMITTED, end: None }, 5);
    vec![
        (ServerMessage::Reply(1, Reply::NewOids(CREATED, 100)), ""),
        (ServerMessage::Reply(2, Reply::Finished(COMMITTED)), ""),
        (ServerMessage::Invalidate(BY_ANOTHER, vec![Oid::ROOT], false), ""),
        (ServerMessage::Reply(3, Reply::Loaded(loaded)), "hello"),
    ]
}

fn asking() -> Hello {
    let mut hello = Hello::new("main").unwrap();
    hello.label.push_str("doc");
    hello
}

fn session() -> Welcome {
    Welcome {
        identity: Identity {
            uuid: [0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255],
            epoch: 1,
        },
        last_tid: LAST_TID,
        features: 0,
        max_frame: 64 << 20,
        max_transaction: 1 << 30,
        max_calls: 256,
    }
}

fn joined(frames: Vec<Frame>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| frame.bytes).collect()
}

const CREATED: Oid = Oid::new(0x65);
const LAST_TID: Tid = Tid::new(0x040d_2750_9bbb_bbbb);
const COMMITTED: Tid = Tid::new(0x040d_2751_0000_0000);
const BY_ANOTHER: Tid = Tid::new(0x040d_2751_8000_0000);
