//! A client's and a server's machine back to back.

use std::collections::VecDeque;

use bytes::Bytes;
use zeo_proto::{
    Call, ClientConnection, ClientEvent, ClientMessage, FrameReader, Goodbye, Greeting, Hello,
    Identity, Loaded, Oid, Refusal, RefusalReason, Reply, ServerConnection, ServerEvent,
    ServerMessage, Store, Tid, Validity, Versions, Welcome, WireError, encode, fuzzing, refuse,
    welcome, write_frame,
};

/// Two machines and what is on its way between them, delivered in pieces of a fixed size.
pub(crate) struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    piece: usize,
    client_events: VecDeque<ClientEvent>,
    server_events: VecDeque<ServerEvent>,
}

impl Pair {
    fn new(piece: usize) -> Self {
        let server = ServerConnection::new(Greeting::default());
        let mut to_client = Vec::new();
        server.greet(&mut to_client);
        Self {
            client: ClientConnection::new(asking()),
            server,
            to_client,
            to_server: Vec::new(),
            piece,
            client_events: VecDeque::new(),
            server_events: VecDeque::new(),
        }
    }

    /// A pair whose handshake is done.
    fn welcomed(piece: usize) -> Self {
        let mut pair = Self::new(piece);
        pair.drive();
        welcome(&session(), &mut pair.to_client);
        pair.drive();
        pair.client_events.clear();
        pair.server_events.clear();
        pair
    }

    /// Delivers until nothing is on its way.
    fn drive(&mut self) {
        while !self.to_client.is_empty() || !self.to_server.is_empty() {
            for piece in std::mem::take(&mut self.to_client).chunks(self.piece) {
                self.client.receive(piece);
                self.client_events.extend(std::iter::from_fn(|| self.client.poll()));
                self.client.take_output(&mut self.to_server);
            }
            for piece in std::mem::take(&mut self.to_server).chunks(self.piece) {
                self.server.receive(piece);
                self.server_events.extend(std::iter::from_fn(|| self.server.poll()));
            }
        }
    }

    fn client_says(&mut self, message: &ClientMessage, tail: &[u8]) {
        encode(message, tail, &mut self.to_server).unwrap();
    }

    fn server_says(&mut self, message: &ServerMessage, tail: &[u8]) {
        encode(message, tail, &mut self.to_client).unwrap();
    }
}

#[test]
fn a_handshake_leads_to_a_session() {
    for piece in [1, 7, usize::MAX] {
        let mut pair = Pair::new(piece);
        pair.drive();
        assert_eq!(pair.client_events, [ClientEvent::Greeted]);
        assert_eq!(pair.server_events, [ServerEvent::Hello(asking())]);
        welcome(&session(), &mut pair.to_client);
        pair.drive();
        assert_eq!(pair.client_events, [ClientEvent::Greeted, ClientEvent::Welcomed(session())]);
    }
}

#[test]
fn a_refusal_reaches_the_client_and_is_the_last_event() {
    for piece in [1, usize::MAX] {
        let mut pair = Pair::new(piece);
        pair.drive();
        let here = Identity { uuid: [9; 16], epoch: 2 };
        let refusal = Refusal {
            reason: RefusalReason::OtherDatabase { known: session().identity, here },
            text: "main is another database".to_owned(),
        };
        refuse(&refusal, &mut pair.to_client);
        pair.server_says(&ServerMessage::Goodbye(Goodbye::Closed), &[]);
        pair.drive();
        assert_eq!(pair.client_events, [ClientEvent::Greeted, ClientEvent::Refused(refusal)]);
    }
}

#[test]
fn calls_and_replies_pass_with_their_data() {
    for piece in [1, 11, usize::MAX] {
        let mut pair = Pair::welcomed(piece);
        let call = ClientMessage::Call(1, Call::LoadBefore(Oid::ROOT, Tid::MAX));
        let store = Store { oid: Oid::new(5), serial: Some(Tid::ZERO), refs: None };
        let store = ClientMessage::Store(2, store);
        pair.client_says(&call, &[]);
        pair.client_says(&store, b"written");
        let reply = Loaded::Revision(Validity { serial: Tid::new(3), end: None }, 4);
        let reply = ServerMessage::Reply(1, Reply::Loaded(reply));
        pair.server_says(&reply, b"read");
        pair.drive();
        let written = Bytes::from_static(b"written");
        assert_eq!(
            pair.server_events,
            [ServerEvent::Message(call, Bytes::new()), ServerEvent::Message(store, written)]
        );
        let read = Bytes::from_static(b"read");
        assert_eq!(pair.client_events, [ClientEvent::Message(reply, read)]);
    }
}

#[test]
fn messages_sent_before_the_welcome_follow_the_hello() {
    let ping = ClientMessage::Call(1, Call::Ping);
    let mut input = hello();
    encode(&ping, &[], &mut input).unwrap();
    assert_eq!(
        fuzzing::server_events([input.as_slice()]),
        [ServerEvent::Hello(asking()), ServerEvent::Message(ping, Bytes::new())]
    );
}

#[test]
fn a_message_instead_of_a_hello_breaks_the_connection_once() {
    let mut server = ServerConnection::new(Greeting::default());
    let mut input = Vec::new();
    encode(&ClientMessage::TpcAbort(1), &[], &mut input).unwrap();
    server.receive(&input);
    assert!(matches!(server.poll(), Some(ServerEvent::Broken(WireError::NotZeo(_)))));
    server.receive(&hello());
    assert_eq!(server.poll(), None);
}

#[test]
fn a_second_hello_is_not_a_message() {
    let events = fuzzing::server_events([hello().as_slice(), hello().as_slice()]);
    assert!(matches!(
        events.as_slice(),
        [ServerEvent::Hello(_), ServerEvent::Broken(WireError::NotAMessage(_))]
    ));
}

#[test]
fn nothing_follows_a_goodbye() {
    let mut pair = Pair::welcomed(usize::MAX);
    let goodbye = ClientMessage::Goodbye(Goodbye::Closed);
    pair.client_says(&goodbye, &[]);
    pair.client_says(&ClientMessage::TpcAbort(1), &[]);
    let stopping = ServerMessage::Goodbye(Goodbye::Stopping);
    pair.server_says(&stopping, &[]);
    pair.server_says(&ServerMessage::Reply(1, Reply::Pong), &[]);
    pair.drive();
    assert_eq!(pair.server_events, [ServerEvent::Message(goodbye, Bytes::new())]);
    assert_eq!(pair.client_events, [ClientEvent::Message(stopping, Bytes::new())]);
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_how() {
    let mut pair = Pair::welcomed(usize::MAX);
    write_frame(&[0xff; 5], &mut pair.to_server).unwrap();
    pair.drive();
    let Some(ServerEvent::Broken(error)) = pair.server_events.pop_front() else { panic!() };
    pair.server.dismiss(&error, &mut pair.to_client);
    pair.drive();
    let goodbye = ServerMessage::Goodbye(Goodbye::ProtocolError(error.to_string()));
    assert_eq!(pair.client_events, [ClientEvent::Message(goodbye, Bytes::new())]);
}

#[test]
fn a_client_whose_hello_cannot_be_served_is_refused() {
    let future = Versions { lowest: 2, highest: 3 };
    let mut server = ServerConnection::new(Greeting { versions: future });
    server.receive(&hello());
    let Some(ServerEvent::Broken(error)) = server.poll() else { panic!() };
    assert_eq!(error, WireError::NoCommonVersion { theirs: (1, 1), ours: (2, 3) });
    let mut pair = Pair::new(usize::MAX);
    server.dismiss(&error, &mut pair.to_client);
    pair.drive();
    let reason = RefusalReason::VersionUnsupported;
    let refusal = Refusal { reason, text: error.to_string() };
    assert_eq!(pair.client_events, [ClientEvent::Greeted, ClientEvent::Refused(refusal)]);
}

#[test]
fn a_client_finds_no_version_in_the_greeting_of_the_future() {
    let greeting = Greeting { versions: Versions { lowest: 2, highest: 9 } };
    let mut input = Vec::new();
    ServerConnection::new(greeting).greet(&mut input);
    let events = fuzzing::client_events([input.as_slice()]);
    let error = WireError::NoCommonVersion { theirs: (2, 9), ours: (1, 1) };
    assert_eq!(events, [ClientEvent::Broken(error)]);
}

#[test]
fn ruok_is_no_session() {
    let events = fuzzing::server_events([b"\0\0\0\x04ruok".as_slice()]);
    assert_eq!(events, [ServerEvent::Ruok]);
}

#[test]
fn a_zeo_5_client_is_handed_over_with_all_that_it_sent() {
    for first in [b"\0\0\0\x02M5", b"\0\0\0\x02Z5"] {
        let mut server = ServerConnection::new(Greeting::default());
        server.receive(first);
        server.receive(b"\0\0\0\x01x");
        assert_eq!(server.poll(), Some(ServerEvent::Zeo5Client));
        assert_eq!(server.poll(), None);
        assert_eq!(drain(server.into_reader()), [&first[4..], b"x"]);
    }
}

#[test]
fn a_zeo_5_server_is_known_by_its_greeting() {
    let mut client = ClientConnection::new(asking());
    client.receive(b"\0\0\0\x02M5");
    assert_eq!(client.poll(), Some(ClientEvent::ServerIsZeo5));
    assert_eq!(client.poll(), None);
    let mut output = Vec::new();
    client.take_output(&mut output);
    assert!(output.is_empty());
    assert_eq!(drain(client.into_reader()), ["M5"]);
}

#[test]
fn a_reader_that_is_not_polled_decodes_nothing() {
    let mut pair = Pair::welcomed(usize::MAX);
    let mut input = Vec::new();
    encode(&ClientMessage::TpcAbort(1), &[], &mut input).unwrap();
    write_frame(b"rubbish", &mut input).unwrap();
    pair.server.receive(&input);
    assert!(pair.server.memory() >= input.len());
    assert!(matches!(pair.server.poll(), Some(ServerEvent::Message(..))));
    assert!(matches!(pair.server.poll(), Some(ServerEvent::Broken(_))));
    assert_eq!(pair.server.memory(), 0);
}

#[test]
fn an_idle_connection_holds_no_memory() {
    let mut pair = Pair::welcomed(usize::MAX);
    pair.client_says(&ClientMessage::TpcAbort(1), &[]);
    pair.server_says(&ServerMessage::Reply(1, Reply::Pong), &[]);
    pair.drive();
    assert_eq!((pair.server.memory(), pair.client.memory()), (0, 0));
}

fn drain(mut reader: FrameReader) -> Vec<Bytes> {
    std::iter::from_fn(|| reader.next_frame(100).unwrap()).collect()
}

/// What the clients of these tests ask for.
fn asking() -> Hello {
    let mut hello = Hello::new("main").unwrap();
    hello.label.push_str("test");
    hello.known = Some(session().identity);
    hello.last_tid = Some(Tid::new(17));
    hello
}

/// The hello's frame.
pub(crate) fn hello() -> Vec<u8> {
    let mut input = Vec::new();
    ServerConnection::new(Greeting::default()).greet(&mut input);
    let mut client = ClientConnection::new(asking());
    client.receive(&input);
    assert_eq!(client.poll(), Some(ClientEvent::Greeted));
    let mut hello = Vec::new();
    client.take_output(&mut hello);
    hello
}

/// The frames of a server's part of a handshake.
pub(crate) fn greeting_and_welcome() -> Vec<u8> {
    let mut input = Vec::new();
    ServerConnection::new(Greeting::default()).greet(&mut input);
    welcome(&session(), &mut input);
    input
}

fn session() -> Welcome {
    Welcome {
        identity: Identity { uuid: [7; 16], epoch: 1 },
        last_tid: Tid::new(17),
        features: 0,
        max_frame: 64 << 20,
        max_transaction: 1 << 30,
        max_calls: 256,
    }
}
