//! What holds of all messages, and of any bytes whatever.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use zeo_proto::{ClientMessage, Head, ServerMessage, decode, encode, fuzzing};

use crate::generate::{client_message, server_message};
use crate::pair::{greeting_and_welcome, hello};

proptest! {
    #[test]
    fn what_a_client_says_arrives_unchanged((message, tail) in client_message()) {
        let (there, data) = decode::<ClientMessage>(frame_of(&message, &tail)).unwrap();
        prop_assert_eq!((there, data.as_ref()), (message, tail.as_slice()));
    }

    #[test]
    fn what_a_server_says_arrives_unchanged((message, tail) in server_message()) {
        let (there, data) = decode::<ServerMessage>(frame_of(&message, &tail)).unwrap();
        prop_assert_eq!((there, data.as_ref()), (message, tail.as_slice()));
    }

    #[test]
    fn a_frame_of_random_bytes_is_refused_or_canonical(frame in vec(any::<u8>(), 0..200)) {
        fuzzing::client_frame(&frame);
        fuzzing::server_frame(&frame);
    }

    #[test]
    fn a_damaged_message_is_refused_or_canonical(
        (message, tail) in client_message(),
        (reply, data) in server_message(),
        place: Index,
        value: u8,
    ) {
        fuzzing::client_frame(&damaged(&frame_of(&message, &tail), place, value));
        fuzzing::server_frame(&damaged(&frame_of(&reply, &data), place, value));
    }

    #[test]
    fn a_message_that_is_cut_is_refused_or_another(
        (message, tail) in client_message(),
        (reply, data) in server_message(),
        end: Index,
    ) {
        let (frame, answer) = (frame_of(&message, &tail), frame_of(&reply, &data));
        fuzzing::client_frame(&frame[..end.index(frame.len())]);
        fuzzing::server_frame(&answer[..end.index(answer.len())]);
    }

    #[test]
    fn random_bytes_make_the_same_events_in_any_pieces(
        input in vec(any::<u8>(), 0..200), cuts in vec(0..50_u8, 0..8),
    ) {
        fuzzing::server_input(&input, &cuts);
        fuzzing::client_input(&input, &cuts);
        fuzzing::server_input(&[hello(), input.clone()].concat(), &cuts);
        fuzzing::client_input(&[greeting_and_welcome(), input].concat(), &cuts);
    }

    #[test]
    fn messages_make_the_same_events_in_any_pieces(
        sent in vec(client_message(), 0..10),
        answered in vec(server_message(), 0..10),
        cuts in vec(any::<u8>(), 0..8),
    ) {
        let mut input = hello();
        for (message, tail) in &sent {
            encode(message, tail, &mut input).unwrap();
        }
        fuzzing::server_input(&input, &cuts);
        let mut input = greeting_and_welcome();
        for (message, tail) in &answered {
            encode(message, tail, &mut input).unwrap();
        }
        fuzzing::client_input(&input, &cuts);
    }

    #[test]
    fn a_damaged_handshake_does_no_harm(
        place: Index, value: u8, cuts in vec(0..50_u8, 0..8),
    ) {
        fuzzing::server_input(&damaged(&hello(), place, value), &cuts);
        fuzzing::client_input(&damaged(&greeting_and_welcome(), place, value), &cuts);
    }
}

/// The frame of a message, without its length.
fn frame_of(message: &impl Head, tail: &[u8]) -> Bytes {
    let mut out = Vec::new();
    encode(message, tail, &mut out).unwrap();
    Bytes::from(out).slice(4..)
}

/// The same bytes, but for one.
fn damaged(bytes: &[u8], place: Index, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let place = place.index(bytes.len());
    *bytes.get_mut(place).unwrap() = value;
    bytes
}
