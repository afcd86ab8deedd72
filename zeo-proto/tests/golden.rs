//! The bytes of every message, written down: what has once been on a wire stays as it was.

use std::fmt::Debug;

use bytes::Bytes;
use zeo_proto::{
    Begin, Call, CatchUp, ClientMessage, Conflict, ConflictFound, Cursor, Failure, Goodbye, Head,
    HistoryEntry, HistoryItem, HistoryRecord, Loaded, ObjectsPage, Oid, Outcome, OutcomeQuery,
    Reply, ServerMessage, Size, Store, Tid, TransactionHead, TransactionsPage, TxnId, TxnMeta,
    Validity, decode, encode,
};

#[test]
fn what_a_client_says_has_these_bytes() {
    for (message, tail, bytes) in client_messages() {
        holds(&message, tail, bytes);
    }
}

#[test]
fn what_a_server_says_has_these_bytes() {
    for (message, tail, bytes) in
        server_messages().into_iter().chain(history_messages()).chain(failures())
    {
        holds(&message, tail, bytes);
    }
}

#[test]
fn every_kind_of_message_is_listed_here() {
    let call = "00000000 0700000000000000";
    for (before, kinds) in [("", 9), (call, 15), ("06000000", 4)] {
        next_kind_is_unknown::<ClientMessage>(before, kinds);
    }
    for (before, kinds) in [("", 4), (call, 15), ("01000000 0700000000000000", 17)] {
        next_kind_is_unknown::<ServerMessage>(before, kinds);
    }
    for (reply, kinds) in [("01000000", 3), ("05000000", 3), ("06000000", 3)] {
        next_kind_is_unknown::<ServerMessage>(&(call.to_owned() + reply), kinds);
    }
    next_kind_is_unknown::<ServerMessage>("03000000", 4);
}

fn next_kind_is_unknown<M: Head + Debug>(before: &str, kinds: u32) {
    let frame = [hex(before), kinds.to_le_bytes().to_vec()].concat();
    let error = decode::<M>(Bytes::from(frame)).unwrap_err();
    assert!(error.to_string().ends_with(&format!("variant index 0 <= i < {kinds}")), "{error}");
}

fn holds<M: Head + PartialEq + Debug>(message: &M, tail: &[u8], bytes: &str) {
    let mut frame = Vec::new();
    encode(message, tail, &mut frame).unwrap();
    assert_eq!(frame, hex(bytes), "{message:?}");
    let (there, data) = decode::<M>(Bytes::from(frame).slice(4..)).unwrap();
    assert_eq!((&there, data.as_ref()), (message, tail));
}

/// Message, tail, and the whole frame, a group for each field.
#[rustfmt::skip]
fn client_messages() -> Vec<(ClientMessage, &'static [u8], &'static str)> {
    vec![
        (ClientMessage::Call(7, Call::Ping), b"",
         "00000010 00000000 0700000000000000 00000000"),
        (ClientMessage::Call(7, Call::LoadBefore(OID, TID)), b"",
         "00000020 00000000 0700000000000000 01000000 0102030405060708 1112131415161718"),
        (ClientMessage::Call(7, Call::LoadMany(TID, vec![OID, OTHER])), b"",
         "00000030 00000000 0700000000000000 02000000 1112131415161718 0200000000000000
          0102030405060708 3132333435363738"),
        (ClientMessage::Call(7, Call::NewOids(10_000)), b"",
         "00000014 00000000 0700000000000000 03000000 10270000"),
        (ClientMessage::Call(7, Call::LastTid), b"",
         "00000010 00000000 0700000000000000 04000000"),
        (ClientMessage::Call(7, Call::InvalidationsSince(TID)), b"",
         "00000018 00000000 0700000000000000 05000000 1112131415161718"),
        (ClientMessage::Call(7, Call::Outcome(OutcomeQuery { id: ID, snapshot: TID, epoch: 3 })), b"",
         "00000030 00000000 0700000000000000 06000000 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
          1112131415161718 0300000000000000"),
        (ClientMessage::Call(7, Call::TpcVote(5, true)), b"",
         "00000015 00000000 0700000000000000 07000000 05000000 01"),
        (ClientMessage::Call(7, Call::TpcFinish(5)), b"",
         "00000014 00000000 0700000000000000 08000000 05000000"),
        (ClientMessage::Call(7, Call::Status), b"",
         "00000010 00000000 0700000000000000 09000000"),
        (ClientMessage::Call(7, Call::TpcVoteResolving(5, true)), b"",
         "00000015 00000000 0700000000000000 0a000000 05000000 01"),
        (ClientMessage::Call(7, Call::History(OID, TID, 100)), b"",
         "00000024 00000000 0700000000000000 0b000000 0102030405060708 1112131415161718 64000000"),
        (ClientMessage::Call(7, Call::Transactions(CURSOR, END)), b"",
         "00000024 00000000 0700000000000000 0c000000 1112131415161718 05000000 2122232425262728"),
        (ClientMessage::Call(7, Call::Objects(OID, TID, 100)), b"",
         "00000024 00000000 0700000000000000 0d000000 0102030405060708 1112131415161718 64000000"),
        (ClientMessage::Call(7, Call::Size), b"",
         "00000010 00000000 0700000000000000 0e000000"),
        (ClientMessage::TpcBegin(5, Begin { id: ID, snapshot: TID, meta: meta() }), b"",
         "00000044 01000000 05000000 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 1112131415161718
          0300000000000000 616e6e 0700000000000000 6d6f766520c3a9 0200000000000000 feff"),
        (ClientMessage::Store(5, Store { oid: OID, serial: Some(TID), refs: None }), b"data",
         "0000001e 02000000 05000000 0102030405060708 01 1112131415161718 00 64617461"),
        (ClientMessage::Store(5, Store { oid: OID, serial: None, refs: Some(vec![OTHER]) }), b"",
         "00000022 02000000 05000000 0102030405060708 00 01 0100000000000000 3132333435363738"),
        (ClientMessage::ReadCurrent(5, OID, TID), b"",
         "00000018 03000000 05000000 0102030405060708 1112131415161718"),
        (ClientMessage::Delete(5, OID, TID), b"",
         "00000018 04000000 05000000 0102030405060708 1112131415161718"),
        (ClientMessage::TpcAbort(5), b"",
         "00000008 05000000 05000000"),
        (ClientMessage::Goodbye(Goodbye::Closed), b"",
         "00000008 06000000 00000000"),
        (ClientMessage::Goodbye(Goodbye::Stopping), b"",
         "00000008 06000000 01000000"),
        (ClientMessage::Goodbye(Goodbye::ProtocolError("so".to_owned())), b"",
         "00000012 06000000 02000000 0200000000000000 736f"),
        (ClientMessage::Goodbye(Goodbye::TookTooLong("so".to_owned())), b"",
         "00000012 06000000 03000000 0200000000000000 736f"),
        (ClientMessage::Undo(5, TID), b"",
         "00000010 07000000 05000000 1112131415161718"),
        (ClientMessage::Restore(5, TID), b"",
         "00000010 08000000 05000000 1112131415161718"),
    ]
}

/// Message, tail, and the whole frame, a group for each field.
#[rustfmt::skip]
fn server_messages() -> Vec<(ServerMessage, &'static [u8], &'static str)> {
    vec![
        (ServerMessage::Reply(7, Reply::Pong), b"",
         "00000010 00000000 0700000000000000 00000000"),
        (ServerMessage::Reply(7, Reply::Loaded(Loaded::Absent)), b"",
         "00000014 00000000 0700000000000000 01000000 00000000"),
        (ServerMessage::Reply(7, Reply::Loaded(Loaded::Deleted(CURRENT))), b"",
         "0000001d 00000000 0700000000000000 01000000 01000000 1112131415161718 00"),
        (ServerMessage::Reply(7, Reply::Loaded(Loaded::Revision(SUPERSEDED, 4))), b"data",
         "0000002d 00000000 0700000000000000 01000000 02000000 1112131415161718 01
          2122232425262728 04000000 64617461"),
        (ServerMessage::Reply(7, Reply::LoadedMany(vec![Loaded::Absent, Loaded::Revision(CURRENT, 4)], true)), b"data",
         "00000032 00000000 0700000000000000 02000000 0200000000000000 00000000 02000000
          1112131415161718 00 04000000 01 64617461"),
        (ServerMessage::Reply(7, Reply::NewOids(OID, 10_000)), b"",
         "0000001c 00000000 0700000000000000 03000000 0102030405060708 10270000"),
        (ServerMessage::Reply(7, Reply::LastTid(TID)), b"",
         "00000018 00000000 0700000000000000 04000000 1112131415161718"),
        (ServerMessage::Reply(7, Reply::CatchUp(CatchUp::Page { through: TID, oids: vec![OID, OTHER], more: true })), b"",
         "00000035 00000000 0700000000000000 05000000 00000000 1112131415161718 0200000000000000
          0102030405060708 3132333435363738 01"),
        (ServerMessage::Reply(7, Reply::CatchUp(CatchUp::TooOld { through: TID })), b"",
         "0000001c 00000000 0700000000000000 05000000 01000000 1112131415161718"),
        (ServerMessage::Reply(7, Reply::CatchUp(CatchUp::NotOfThisHistory { through: TID })), b"",
         "0000001c 00000000 0700000000000000 05000000 02000000 1112131415161718"),
        (ServerMessage::Reply(7, Reply::Outcome(Outcome::Committed(TID))), b"",
         "0000001c 00000000 0700000000000000 06000000 00000000 1112131415161718"),
        (ServerMessage::Reply(7, Reply::Outcome(Outcome::NotCommitted)), b"",
         "00000014 00000000 0700000000000000 06000000 01000000"),
        (ServerMessage::Reply(7, Reply::Outcome(Outcome::TooOldToKnow)), b"",
         "00000014 00000000 0700000000000000 06000000 02000000"),
        (ServerMessage::Reply(7, Reply::Voted), b"",
         "00000010 00000000 0700000000000000 07000000"),
        (ServerMessage::Reply(7, Reply::Finished(TID)), b"",
         "00000018 00000000 0700000000000000 08000000 1112131415161718"),
        (ServerMessage::Reply(7, Reply::Status), b"{}",
         "00000012 00000000 0700000000000000 09000000 7b7d"),
    ]
}

/// Message, tail, and the whole frame, a group for each field.
#[rustfmt::skip]
fn history_messages() -> Vec<(ServerMessage, &'static [u8], &'static str)> {
    vec![
        (ServerMessage::Reply(7, Reply::Conflicts(vec![found(Some(Loaded::Revision(CURRENT, 4))), found(None)])), b"data",
         "0000005f 00000000 0700000000000000 0a000000 0200000000000000
          0102030405060708 2122232425262728 1112131415161718 01 02000000 1112131415161718 00 04000000
          0102030405060708 2122232425262728 1112131415161718 00 64617461"),
        (ServerMessage::Reply(7, Reply::History(vec![HistoryEntry { tid: TID, data_len: 4, deleted: false, meta: meta() }])), b"",
         "00000049 00000000 0700000000000000 0b000000 0100000000000000 1112131415161718 04000000 00
          0300000000000000 616e6e 0700000000000000 6d6f766520c3a9 0200000000000000 feff"),
        (ServerMessage::Reply(7, Reply::Transactions(Box::new(transactions()))), b"data",
         "000000b5 00000000 0700000000000000 0c000000 0300000000000000
          00000000 1112131415161718 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 2122232425262728 02000000
          0300000000000000 616e6e 0700000000000000 6d6f766520c3a9 0200000000000000 feff
          01000000 0102030405060708 0000000000000000 01 04000000 01 0100000000000000 3132333435363738
          01000000 0102030405060708 1112131415161718 00 00
          01 1112131415161718 05000000 64617461"),
        (ServerMessage::Reply(7, Reply::Objects(Box::new(ObjectsPage { objects: vec![(OID, TID)], next: Some(OTHER) }))), b"",
         "00000031 00000000 0700000000000000 0d000000 0100000000000000 0102030405060708
          1112131415161718 01 3132333435363738"),
        (ServerMessage::Reply(7, Reply::Size(Size { objects: 5, bytes: 1 << 30 })), b"",
         "00000020 00000000 0700000000000000 0e000000 0500000000000000 0000004000000000"),
    ]
}

/// Message, tail, and the whole frame, a group for each field.
#[rustfmt::skip]
fn failures() -> Vec<(ServerMessage, &'static [u8], &'static str)> {
    vec![
        (ServerMessage::Failure(7, Failure::Conflict(Conflict { oid: OID, committed: END, read: TID })), b"",
         "00000028 01000000 0700000000000000 00000000 0102030405060708 2122232425262728
          1112131415161718"),
        (ServerMessage::Failure(7, Failure::Fenced), b"",
         "00000010 01000000 0700000000000000 01000000"),
        (ServerMessage::Failure(7, Failure::TransactionTooLarge(1 << 30)), b"",
         "00000018 01000000 0700000000000000 02000000 0000004000000000"),
        (ServerMessage::Failure(7, Failure::NoSuchTransaction), b"",
         "00000010 01000000 0700000000000000 03000000"),
        (ServerMessage::Failure(7, Failure::Busy), b"",
         "00000010 01000000 0700000000000000 04000000"),
        (ServerMessage::Failure(7, Failure::ReadOnly), b"",
         "00000010 01000000 0700000000000000 05000000"),
        (ServerMessage::Failure(7, Failure::DiskFull), b"",
         "00000010 01000000 0700000000000000 06000000"),
        (ServerMessage::Failure(7, Failure::StorageFailed("so".to_owned())), b"",
         "0000001a 01000000 0700000000000000 07000000 0200000000000000 736f"),
        (ServerMessage::Failure(7, Failure::OutcomeUnknown("so".to_owned())), b"",
         "0000001a 01000000 0700000000000000 08000000 0200000000000000 736f"),
        (ServerMessage::Failure(7, Failure::Damaged("so".to_owned())), b"",
         "0000001a 01000000 0700000000000000 09000000 0200000000000000 736f"),
        (ServerMessage::Failure(7, Failure::Unsupported), b"",
         "00000010 01000000 0700000000000000 0a000000"),
        (ServerMessage::Failure(7, Failure::Stopping), b"",
         "00000010 01000000 0700000000000000 0b000000"),
        (ServerMessage::Failure(7, Failure::UndoRefused(vec![OID])), b"",
         "00000020 01000000 0700000000000000 0c000000 0100000000000000 0102030405060708"),
        (ServerMessage::Failure(7, Failure::NoSuchTid(TID)), b"",
         "00000018 01000000 0700000000000000 0d000000 1112131415161718"),
        (ServerMessage::Failure(7, Failure::Locked(OID, "so".to_owned())), b"",
         "00000022 01000000 0700000000000000 0e000000 0102030405060708 0200000000000000 736f"),
        (ServerMessage::Failure(7, Failure::QuotaExceeded(1 << 30)), b"",
         "00000018 01000000 0700000000000000 0f000000 0000004000000000"),
        (ServerMessage::Failure(7, Failure::TidOutOfOrder(TID)), b"",
         "00000018 01000000 0700000000000000 10000000 1112131415161718"),
        (ServerMessage::Invalidate(TID, vec![OID, OTHER], true), b"",
         "00000025 02000000 1112131415161718 0200000000000000 0102030405060708 3132333435363738 01"),
        (ServerMessage::Goodbye(Goodbye::Stopping), b"",
         "00000008 03000000 01000000"),
    ]
}

fn found(found: Option<Loaded>) -> ConflictFound {
    ConflictFound { conflict: Conflict { oid: OID, committed: END, read: TID }, found }
}

fn transactions() -> TransactionsPage {
    let head = TransactionHead { tid: TID, id: ID, snapshot: END, records: 2, meta: meta() };
    let record = |previous, data_len, refs| {
        HistoryItem::Record(HistoryRecord { oid: OID, previous, data_len, refs })
    };
    let stored = record(Tid::ZERO, Some(4), Some(vec![OTHER]));
    let items = vec![HistoryItem::Transaction(head), stored, record(TID, None, None)];
    TransactionsPage { items, next: Some(CURSOR) }
}

fn meta() -> TxnMeta {
    let (user, description) = ("ann".to_owned(), "move é".to_owned());
    TxnMeta { user, description, extension: vec![0xfe, 0xff] }
}

/// The bytes that pairs of hexadecimal digits name; space between them means nothing.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

const OID: Oid = Oid::new(0x0102_0304_0506_0708);
const OTHER: Oid = Oid::new(0x3132_3334_3536_3738);
const TID: Tid = Tid::new(0x1112_1314_1516_1718);
const END: Tid = Tid::new(0x2122_2324_2526_2728);
const CURSOR: Cursor = Cursor { tid: TID, record: 5 };
const ID: TxnId = TxnId::from_bytes([
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
]);
const CURRENT: Validity = Validity { serial: TID, end: None };
const SUPERSEDED: Validity = Validity { serial: TID, end: Some(END) };
