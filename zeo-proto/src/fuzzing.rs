//! What must hold of any bytes from a peer, as functions that tests and fuzz targets share.
//!
//! Not part of the crate's interface. The four that take `data` are the fuzz targets: its first
//! bytes say in which pieces the rest arrives.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::iter::from_fn;

use bytes::Bytes;

use crate::handshake::Answer;
use crate::{
    ClientConnection, ClientEvent, ClientMessage, FrameReader, Greeting, Head, Hello, Identity,
    PINNED_MAX, ServerConnection, ServerEvent, ServerMessage, Tid, Welcome, WireError, codec,
    refuse, welcome, write_frame,
};

/// Frames come out of a reader as they are in the stream, in whatever pieces that arrives, and the
/// reader's memory stays in proportion to what waits in it.
pub fn frames(data: &[u8]) {
    let (cuts, input) = cuts_and_input(data);
    let (max, input) = input.split_first().map_or((0, input), |(&max, rest)| (max, rest));
    let max = usize::from(max);
    let (mut reader, mut expected) = (FrameReader::new(), Frames { rest: input, max });
    let mut arrived = 0;
    for piece in pieces(input, cuts) {
        reader.receive(piece);
        arrived += piece.len();
        let end = take_frames(&mut reader, &mut expected);
        let waiting = arrived.saturating_sub(input.len() - expected.rest.len());
        let in_proportion = reader.memory() <= PINNED_MAX * (waiting + 1);
        assert!(in_proportion || end.is_some(), "{reader:?} for {waiting} bytes");
    }
    assert_eq!(take_frames(&mut reader, &mut expected), expected.next().and_then(Result::err));
}

/// Takes all frames that are there, which must be the expected ones; returns the error after them.
fn take_frames(reader: &mut FrameReader, expected: &mut Frames<'_>) -> Option<WireError> {
    loop {
        match reader.next_frame(expected.max) {
            Ok(Some(frame)) => assert_eq!(expected.next(), Some(Ok(frame.as_ref()))),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// A handshake frame that is understood is understood again when it is written down, and neither
/// side of a connection is harmed by any other, nor by any stream.
pub fn handshake(data: &[u8]) {
    let (cuts, input) = cuts_and_input(data);
    understood_again(input, Greeting::decode, |greeting, out| greeting.encode(out));
    understood_again(input, Hello::decode, Hello::encode);
    understood_again(input, Answer::decode, |answer, out| match answer {
        Answer::Welcome(session) => welcome(session, out),
        Answer::Refused(refusal) => refuse(refusal, out),
    });
    for stream in [input, &framed(input)] {
        server_input(stream, cuts);
        client_input(stream, cuts);
        client_input(&[&greeting(), stream].concat(), cuts);
    }
}

/// What a client may say once its hello was read: as one frame, and as a stream.
pub fn client_messages(data: &[u8]) {
    let (cuts, input) = cuts_and_input(data);
    client_frame(input);
    for stream in [input, &framed(input)] {
        server_input(&[&hello(), stream].concat(), cuts);
    }
}

/// What a server may say once it has welcomed a client: as one frame, and as a stream.
pub fn server_messages(data: &[u8]) {
    let (cuts, input) = cuts_and_input(data);
    server_frame(input);
    for stream in [input, &framed(input)] {
        client_input(&[&greeting(), &welcome_frame(), stream].concat(), cuts);
    }
}

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

fn understood_again<T: PartialEq + Debug>(
    frame: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, WireError>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let Ok(read) = decode(frame) else { return };
    let mut again = Vec::new();
    encode(&read, &mut again);
    assert_eq!(decode(again.get(4..).unwrap_or_default()), Ok(read));
}

/// What a client sends makes the same events in whatever pieces it arrives, nothing follows the
/// last, and a client that broke the protocol can be told.
pub fn server_input(input: &[u8], cuts: &[u8]) {
    let events = server_events([input]);
    assert_eq!(events, server_events(pieces(input, cuts)));
    let ends = events.iter().position(server_ends);
    assert!(ends.is_none_or(|place| place + 1 == events.len()));
}

/// What a server sends makes the same events in whatever pieces it arrives, and nothing follows
/// the last.
pub fn client_input(input: &[u8], cuts: &[u8]) {
    let events = client_events([input]);
    assert_eq!(events, client_events(pieces(input, cuts)));
    let ends = events.iter().position(client_ends);
    assert!(ends.is_none_or(|place| place + 1 == events.len()));
}

/// The events of a server that receives these pieces.
pub fn server_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ServerEvent> {
    let mut server = ServerConnection::new(Greeting::default());
    let mut events = Vec::new();
    for piece in pieces {
        server.receive(piece);
        events.extend(from_fn(|| server.poll()));
    }
    if let Some(ServerEvent::Broken(error)) = events.last() {
        dismissed(&server, error, events.len() > 1);
    }
    events
}

/// The last words to a client that broke the protocol are words that a client understands.
fn dismissed(server: &ServerConnection, error: &WireError, welcomed: bool) {
    let mut said = greeting();
    if welcomed {
        said.extend_from_slice(&welcome_frame());
    }
    server.dismiss(error, &mut said);
    let heard = client_events([said.as_slice()]);
    assert!(
        matches!(heard.last(), Some(ClientEvent::Refused(_) | ClientEvent::Message(..))),
        "{heard:?}"
    );
}

/// The events of a client that receives these pieces.
pub fn client_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ClientEvent> {
    let mut client = ClientConnection::new(asking());
    let mut events = Vec::new();
    for piece in pieces {
        client.receive(piece);
        events.extend(from_fn(|| client.poll()));
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

/// The frames of a stream, found without a buffer: at its end, the error if it has one.
struct Frames<'a> {
    rest: &'a [u8],
    max: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let found = u32::from_be_bytes(*length) as usize;
        if found > self.max {
            return Some(Err(WireError::FrameTooLong { found, max: self.max }));
        }
        let (frame, rest) = rest.split_at_checked(found)?;
        self.rest = rest;
        Some(Ok(frame))
    }
}

/// Takes fuzzed bytes apart: at most seven sizes of pieces, and what arrives.
fn cuts_and_input(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return (&[], &[]) };
    rest.split_at_checked(usize::from(count % 8)).unwrap_or((&[], rest))
}

/// The input in pieces: one byte more than each of `cuts` says, over and over.
fn pieces<'a>(mut input: &'a [u8], cuts: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = cuts.iter().cycle().map(|&cut| usize::from(cut) + 1);
    from_fn(move || {
        let size = sizes.next().unwrap_or(input.len()).min(input.len());
        let (piece, rest) = input.split_at(size);
        input = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn framed(input: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(input, &mut frame).expect("fuzzed input is short");
    frame
}

fn greeting() -> Vec<u8> {
    let mut frame = Vec::new();
    Greeting::default().encode(&mut frame);
    frame
}

fn hello() -> Vec<u8> {
    let mut frame = Vec::new();
    asking().encode(&mut frame);
    frame
}

fn asking() -> Hello {
    Hello::new("main").expect("a name that is allowed")
}

fn welcome_frame() -> Vec<u8> {
    let session = Welcome {
        identity: Identity { uuid: [7; 16], epoch: 1 },
        last_tid: Tid::ZERO,
        features: 0,
        max_frame: 64 << 20,
        max_transaction: 1 << 30,
        max_calls: 256,
    };
    let mut frame = Vec::new();
    welcome(&session, &mut frame);
    frame
}
