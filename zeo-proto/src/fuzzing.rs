//! What must hold of any bytes from a peer, as functions that tests and fuzz targets share.
//!
//! Not part of the crate's interface.

use alloc::vec::Vec;
use core::fmt::Debug;

use bytes::Bytes;

use crate::{
    ClientConnection, ClientEvent, ClientMessage, Greeting, Head, Hello, ServerConnection,
    ServerEvent, ServerMessage, codec,
};

/// A frame from a client is refused, or is exactly what encoding its message makes.
pub fn client_frame(frame: &[u8]) {
    round_trip::<ClientMessage>(frame);
}

/// A frame from a server is refused, or is exactly what encoding its message makes.
pub fn server_frame(frame: &[u8]) {
    round_trip::<ServerMessage>(frame);
}

fn round_trip<M: Head + Debug>(frame: &[u8]) {
    let Ok((message, tail)) = codec::decode::<M>(Bytes::copy_from_slice(frame)) else { return };
    let mut again = Vec::new();
    codec::encode(&message, &tail, &mut again).expect("what was decoded can be encoded");
    assert_eq!(again.get(4..), Some(frame), "{message:?} has one encoding");
}

/// What a client sends makes the same events in pieces of any size, and nothing follows the last.
pub fn server_input(input: &[u8], piece: usize) {
    let events = server_events([input]);
    assert_eq!(events, server_events(input.chunks(piece.max(1))));
    let ends = events.iter().position(server_ends);
    assert!(ends.is_none_or(|place| place + 1 == events.len()));
}

/// What a server sends makes the same events in pieces of any size, and nothing follows the last.
pub fn client_input(input: &[u8], piece: usize) {
    let events = client_events([input]);
    assert_eq!(events, client_events(input.chunks(piece.max(1))));
    let ends = events.iter().position(client_ends);
    assert!(ends.is_none_or(|place| place + 1 == events.len()));
}

/// The events of a server that receives these pieces.
pub fn server_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ServerEvent> {
    let mut server = ServerConnection::new(Greeting::default());
    let mut events = Vec::new();
    for piece in pieces {
        server.receive(piece);
        events.extend(core::iter::from_fn(|| server.poll()));
    }
    events
}

/// The events of a client that receives these pieces.
pub fn client_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ClientEvent> {
    let mut client = ClientConnection::new(Hello::new("main").expect("a name that is allowed"));
    let mut events = Vec::new();
    for piece in pieces {
        client.receive(piece);
        events.extend(core::iter::from_fn(|| client.poll()));
    }
    events
}

fn server_ends(event: &ServerEvent) -> bool {
    match event {
        ServerEvent::Hello(_) => false,
        ServerEvent::Message(message, _) => matches!(message, ClientMessage::Goodbye(_)),
        ServerEvent::Ruok | ServerEvent::Zeo5Client | ServerEvent::Broken(_) => true,
    }
}

fn client_ends(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Greeted | ClientEvent::Welcomed(_) => false,
        ClientEvent::Message(message, _) => matches!(message, ServerMessage::Goodbye(_)),
        ClientEvent::Refused(_) | ClientEvent::ServerIsZeo5 | ClientEvent::Broken(_) => true,
    }
}
