//! Every bound, reached and passed.

use std::fmt::Debug;

use bytes::Bytes;
use zeo_proto::{
    Begin, Call, CatchUp, ClientEvent, ClientMessage, Failure, FrameReader, Goodbye, Head,
    HistoryItem, HistoryRecord, Loaded, MAX_BATCH, MAX_FRAME, MAX_IN_THE_WAY, MAX_ITEMS, MAX_META,
    MAX_NEW_OIDS, MAX_OBJECT, MAX_PAGE, MAX_REASON, ObjectsPage, Oid, PINNED_MAX, Reply,
    ServerEvent, ServerMessage, Store, Tid, TransactionsPage, TxnId, TxnMeta, Validity, WireError,
    decode, encode, encode_head, fuzzing, write_frame,
};

#[test]
fn a_frame_that_announces_too_much_is_refused_as_soon_as_its_length_is_there() {
    let mut reader = FrameReader::new();
    reader.receive(&[0xff, 0xff, 0xff]);
    assert_eq!(reader.next_frame(MAX_FRAME), Ok(None));
    reader.receive(&[0xff]);
    let error = WireError::FrameTooLong { found: 0xffff_ffff, max: MAX_FRAME };
    assert_eq!(reader.next_frame(MAX_FRAME), Err(error.clone()));
    assert_eq!(reader.next_frame(MAX_FRAME), Err(error));
}

#[test]
fn an_announced_frame_takes_no_memory_before_it_arrives() {
    let mut reader = FrameReader::new();
    reader.receive(&u32::try_from(MAX_FRAME).unwrap().to_be_bytes());
    assert_eq!(reader.next_frame(MAX_FRAME), Ok(None));
    assert!(reader.memory() < 100);
}

#[test]
fn a_frame_keeps_no_more_than_its_share_of_a_buffer_alive() {
    let mut input = Vec::new();
    write_frame(&[1; 100], &mut input).unwrap();
    write_frame(&vec![2; 100_000], &mut input).unwrap();
    let mut reader = FrameReader::new();
    reader.receive(&input);
    let memory = reader.memory();
    let small = reader.next_frame(MAX_FRAME).unwrap().unwrap();
    assert!(memory > 100 * PINNED_MAX);
    assert!(small.is_unique(), "a small frame is a copy");
    let large = reader.next_frame(MAX_FRAME).unwrap().unwrap();
    assert!(memory <= 100_000 * PINNED_MAX);
    assert!(!large.is_unique(), "a large one is a slice");
}

#[test]
fn what_is_left_of_a_large_buffer_moves_to_a_small_one() {
    let mut input = Vec::new();
    write_frame(&vec![1; 100_000], &mut input).unwrap();
    input.extend_from_slice(&[0, 0]);
    let mut reader = FrameReader::new();
    reader.receive(&input);
    assert!(reader.next_frame(MAX_FRAME).unwrap().is_some());
    assert_eq!(reader.next_frame(MAX_FRAME), Ok(None));
    assert!(reader.memory() < 100);
    reader.receive(&[0, 1, 7]);
    assert_eq!(reader.next_frame(MAX_FRAME), Ok(Some(Bytes::from_static(&[7]))));
}

#[test]
fn a_handshake_frame_is_short() {
    let mut input = 4_097_u32.to_be_bytes().to_vec();
    let error = WireError::FrameTooLong { found: 4_097, max: 4_096 };
    let events = fuzzing::server_events([input.as_slice()]);
    assert_eq!(events, [ServerEvent::Broken(error.clone())]);
    let events = fuzzing::client_events([input.as_slice()]);
    assert_eq!(events, [ClientEvent::Broken(error.clone())]);
    input.splice(..0, crate::pair::greeting_and_welcome().drain(..13));
    let events = fuzzing::client_events([input.as_slice()]);
    assert_eq!(events.last(), Some(&ClientEvent::Broken(error)));
}

#[test]
fn a_length_that_the_frame_does_not_have_is_refused() {
    for length in [1, 1_024, 65_536, 1 << 20, 1 << 32, u64::MAX] {
        for message in before_a_length() {
            let frame = [message, length.to_le_bytes().to_vec()].concat();
            decode::<ClientMessage>(Bytes::from(frame)).unwrap_err();
        }
    }
}

/// Messages of a client, up to where a length comes.
fn before_a_length() -> [Vec<u8>; 4] {
    let call = [&[0; 4][..], &[0; 8]].concat();
    let load_many = [&call, &[2, 0, 0, 0][..], &[0; 8]].concat();
    let user = [&[1, 0, 0, 0][..], &[0; 4], &[0; 16], &[0; 8]].concat();
    let extension = [&user, &[0; 8][..], &[0; 8]].concat();
    let refs = [&[2, 0, 0, 0][..], &[0; 4], &[0; 8], &[0], &[1]].concat();
    [load_many, user, extension, refs]
}

#[test]
fn a_batch_has_its_bound() {
    let batch = |count| ClientMessage::Call(7, Call::LoadMany(Tid::MAX, oids(count)));
    bounded(batch, MAX_BATCH, &[0xff; 8]);
    let page =
        |count| ServerMessage::Reply(7, Reply::LoadedMany(vec![Loaded::Absent; count], true));
    bounded(page, MAX_BATCH, &[0; 4]);
}

#[test]
fn a_page_has_its_bound() {
    let through = Tid::MAX;
    bounded(|count| ServerMessage::Invalidate(through, oids(count), true), MAX_PAGE, &[0xff; 8]);
    let page = |count| CatchUp::Page { through, oids: oids(count), more: true };
    let page = |count| ServerMessage::Reply(7, Reply::CatchUp(page(count)));
    bounded(page, MAX_PAGE, &[0xff; 8]);
}

#[test]
fn an_object_has_its_bound_and_so_have_its_references() {
    let store = |count| {
        let (oid, serial) = (Oid::ROOT, Some(Tid::MAX));
        ClientMessage::Store(7, Store { oid, serial, refs: Some(oids(count)) })
    };
    bounded(store, MAX_PAGE, &[0xff; 8]);
    assert_eq!(store(MAX_PAGE).check(MAX_OBJECT), Ok(()));
    encode_head(&store(MAX_PAGE), MAX_OBJECT, &mut Vec::new()).unwrap();
    let error = WireError::ObjectTooLong { found: MAX_OBJECT + 1, max: MAX_OBJECT };
    assert_eq!(store(0).check(MAX_OBJECT + 1), Err(error));
}

#[test]
fn new_oids_have_their_bound() {
    for (count, fits) in [(0, false), (1, true), (MAX_NEW_OIDS, true), (MAX_NEW_OIDS + 1, false)] {
        let call = ClientMessage::Call(1, Call::NewOids(count));
        let reply = ServerMessage::Reply(1, Reply::NewOids(Oid::ROOT, count));
        assert_eq!((call.check(0).is_ok(), reply.check(0).is_ok()), (fits, fits), "{count}");
    }
}

#[test]
fn a_page_that_is_asked_for_has_its_bound() {
    for (count, fits) in [(0, false), (1, true), (1_024, true), (1_025, false)] {
        let history = ClientMessage::Call(1, Call::History(Oid::ROOT, Tid::MAX, count));
        let objects = ClientMessage::Call(1, Call::Objects(Oid::ROOT, Tid::MAX, count));
        assert_eq!((history.check(0).is_ok(), objects.check(0).is_ok()), (fits, fits), "{count}");
    }
}

#[test]
fn pages_of_history_have_their_bound() {
    let page =
        |count| Box::new(ObjectsPage { objects: vec![(Oid::ROOT, Tid::MAX); count], next: None });
    let objects = |count| ServerMessage::Reply(7, Reply::Objects(page(count)));
    bounded(objects, MAX_BATCH, &[0xff; 16]);
    let refused = |count| ServerMessage::Failure(7, Failure::UndoRefused(oids(count)));
    bounded(refused, MAX_IN_THE_WAY, &[0xff; 8]);
    let record = HistoryRecord { oid: Oid::ROOT, previous: Tid::ZERO, data_len: None, refs: None };
    let page = |count| {
        let items = vec![HistoryItem::Record(record.clone()); count];
        ServerMessage::Reply(
            7,
            Reply::Transactions(Box::new(TransactionsPage { items, next: None })),
        )
    };
    bounded(page, MAX_ITEMS, &[[1, 0, 0, 0].as_slice(), &[0; 18]].concat());
}

#[test]
fn what_is_kept_with_a_transaction_has_one_bound_together() {
    let begin = |user: usize, description: usize, extension: usize| {
        let meta = TxnMeta {
            user: "u".repeat(user),
            description: "d".repeat(description),
            extension: vec![0; extension],
        };
        ClientMessage::TpcBegin(7, Begin { id: TxnId::default(), snapshot: Tid::ZERO, meta })
    };
    bounded(|length| begin(length, 0, 0), MAX_META, b"u");
    bounded(|length| begin(0, length, 0), MAX_META, b"d");
    bounded(|length| begin(0, 0, length), MAX_META, &[0]);
    accepted(&begin(1, MAX_META - 2, 1), 0);
    let error = WireError::MetaTooLong { found: MAX_META + 1, max: MAX_META };
    assert_eq!(begin(1, MAX_META - 1, 1).check(0), Err(error));
}

#[test]
fn a_text_that_says_why_is_cut_between_characters() {
    let why = |text: String| ServerMessage::Failure(1, Failure::StorageFailed(text));
    let mut out = Vec::new();
    encode(&why("é".repeat(600) + "x"), &[], &mut out).unwrap();
    let (there, _) = decode::<ServerMessage>(Bytes::from(out).slice(4..)).unwrap();
    assert_eq!(there, why("é".repeat(MAX_REASON / 2)));
    let goodbye = |text: &[u8]| {
        let length = (text.len() as u64).to_le_bytes();
        let head = [&[6, 0, 0, 0, 2, 0, 0, 0], &length[..], text].concat();
        decode::<ClientMessage>(Bytes::from(head))
    };
    goodbye(&[b'x'; MAX_REASON]).unwrap();
    goodbye(&[b'x'; MAX_REASON + 1]).unwrap_err();
}

#[test]
fn a_tail_has_the_length_that_the_head_calls_for() {
    let validity = Validity { serial: Tid::ZERO, end: None };
    let revision = |length| Loaded::Revision(validity, length);
    let loaded = ServerMessage::Reply(1, Reply::Loaded(revision(3)));
    let page = vec![revision(2), Loaded::Deleted(validity), Loaded::Absent, revision(5)];
    let page = ServerMessage::Reply(1, Reply::LoadedMany(page, false));
    for (message, length) in [(loaded, 3), (page, 7)] {
        accepted(&message, length);
        for found in [0, length - 1, length + 1] {
            let error = WireError::TailLength { expected: length, found };
            assert_eq!(message.check(found), Err(error));
        }
    }
    let endless = vec![revision(u32::MAX); MAX_BATCH];
    ServerMessage::Reply(1, Reply::LoadedMany(endless, false)).check(0).unwrap_err();
}

#[test]
fn most_messages_have_no_tail() {
    let error = Err(WireError::TailLength { expected: 0, found: 1 });
    for message in [
        ClientMessage::Call(1, Call::Ping),
        ClientMessage::Call(1, Call::NewOids(1)),
        ClientMessage::Delete(1, Oid::ROOT, Tid::ZERO),
        ClientMessage::Goodbye(Goodbye::Closed),
    ] {
        assert_eq!(message.check(1), error);
    }
    for message in [
        ServerMessage::Reply(1, Reply::Pong),
        ServerMessage::Reply(1, Reply::Loaded(Loaded::Absent)),
        ServerMessage::Invalidate(Tid::ZERO, vec![], false),
        ServerMessage::Failure(1, Failure::Busy),
    ] {
        assert_eq!(message.check(1), error);
    }
}

#[test]
fn a_message_that_does_not_fit_leaves_the_output_as_it_was() {
    let mut out = b"before".to_vec();
    let batch = ClientMessage::Call(1, Call::LoadMany(Tid::MAX, oids(MAX_BATCH + 1)));
    encode(&batch, &[], &mut out).unwrap_err();
    let status = ServerMessage::Reply(1, Reply::Status);
    encode_head(&status, MAX_FRAME, &mut out).unwrap_err();
    encode_head(&status, usize::MAX, &mut out).unwrap_err();
    assert_eq!(out, b"before");
}

#[test]
fn heads_are_small() {
    assert!(size_of::<ClientMessage>() <= 104, "{}", size_of::<ClientMessage>());
    assert!(size_of::<ServerMessage>() <= 48, "{}", size_of::<ServerMessage>());
}

fn oids(count: usize) -> Vec<Oid> {
    vec![Oid::MAX; count]
}

/// It can be sent, and is read as what was sent.
fn accepted<M: Head + PartialEq + Debug>(message: &M, tail: usize) {
    let mut out = Vec::new();
    encode(message, &vec![7; tail], &mut out).unwrap();
    let (there, data) = decode::<M>(Bytes::from(out).slice(4..)).unwrap();
    assert!(there == *message && data.len() == tail);
}

/// The longest list that a message may have passes; one element more can neither be sent nor, if
/// somebody sends it all the same, be read.
fn bounded<M: Head + PartialEq + Debug>(message: impl Fn(usize) -> M, max: usize, element: &[u8]) {
    accepted(&message(max), 0);
    let too_long = format!("a length of {}, where at most {max} is allowed", max + 1);
    let too_long = WireError::NotAMessage(too_long);
    encode(&message(max + 1), &[], &mut Vec::new()).unwrap_err();
    let mut frame = Vec::new();
    encode(&message(max), &[], &mut frame).unwrap();
    let length = (max as u64).to_le_bytes();
    let place = frame.windows(8).position(|window| window == length).unwrap();
    let longer = [&(max as u64 + 1).to_le_bytes(), element].concat();
    frame.splice(place..place + 8, longer);
    assert_eq!(decode::<M>(Bytes::from(frame).slice(4..)), Err(too_long));
}
