//! Arbitrary messages, each with a tail that fits it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use zeo_proto::{
    Begin, Call, CatchUp, ClientMessage, Conflict, ConflictFound, Cursor, Failure, Goodbye,
    HistoryEntry, HistoryItem, HistoryRecord, Loaded, ObjectsPage, Oid, Outcome, OutcomeQuery,
    Reply, ServerMessage, Size, Store, Tid, TransactionHead, TransactionsPage, TxnId, TxnMeta,
    Validity,
};

pub(crate) fn client_message() -> impl Strategy<Value = (ClientMessage, Vec<u8>)> {
    let without_tail = prop_oneof![
        (any::<u64>(), call()).prop_map(|(id, call)| ClientMessage::Call(id, call)),
        (any::<u32>(), begin()).prop_map(|(txn, begin)| ClientMessage::TpcBegin(txn, begin)),
        (any::<u32>(), oid(), tid()).prop_map(|(n, o, t)| ClientMessage::ReadCurrent(n, o, t)),
        (any::<u32>(), oid(), tid()).prop_map(|(n, o, t)| ClientMessage::Delete(n, o, t)),
        any::<u32>().prop_map(ClientMessage::TpcAbort),
        goodbye().prop_map(ClientMessage::Goodbye),
        (any::<u32>(), tid()).prop_map(|(txn, tid)| ClientMessage::Undo(txn, tid)),
        (any::<u32>(), tid()).prop_map(|(txn, tid)| ClientMessage::Restore(txn, tid)),
    ];
    prop_oneof![
        without_tail.prop_map(|message| (message, Vec::new())),
        (any::<u32>(), store(), data())
            .prop_map(|(txn, store, data)| (ClientMessage::Store(txn, store), data)),
    ]
}

pub(crate) fn server_message() -> impl Strategy<Value = (ServerMessage, Vec<u8>)> {
    prop_oneof![
        (any::<u64>(), reply())
            .prop_map(|(id, (reply, tail))| (ServerMessage::Reply(id, reply), tail)),
        (any::<u64>(), failure())
            .prop_map(|(id, failure)| (ServerMessage::Failure(id, failure), Vec::new())),
        (tid(), oids(), any::<bool>())
            .prop_map(|(tid, oids, more)| (ServerMessage::Invalidate(tid, oids, more), Vec::new())),
        goodbye().prop_map(|goodbye| (ServerMessage::Goodbye(goodbye), Vec::new())),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::Ping),
        (oid(), tid()).prop_map(|(oid, before)| Call::LoadBefore(oid, before)),
        (tid(), oids()).prop_map(|(before, oids)| Call::LoadMany(before, oids)),
        (1_u32..=10_000).prop_map(Call::NewOids),
        Just(Call::LastTid),
        tid().prop_map(Call::InvalidationsSince),
        (txn_id(), tid(), any::<u64>())
            .prop_map(|(id, snapshot, epoch)| OutcomeQuery { id, snapshot, epoch })
            .prop_map(Call::Outcome),
        (any::<u32>(), any::<bool>()).prop_map(|(txn, finish)| Call::TpcVote(txn, finish)),
        any::<u32>().prop_map(Call::TpcFinish),
        Just(Call::Status),
        (any::<u32>(), any::<bool>()).prop_map(|(txn, finish)| Call::TpcVoteResolving(txn, finish)),
        (oid(), tid(), 1_u32..=1_024)
            .prop_map(|(oid, before, max)| Call::History(oid, before, max)),
        (cursor(), tid()).prop_map(|(cursor, through)| Call::Transactions(cursor, through)),
        (oid(), tid(), 1_u32..=1_024)
            .prop_map(|(oid, before, max)| Call::Objects(oid, before, max)),
        Just(Call::Size),
    ]
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (tid(), any::<u32>()).prop_map(|(tid, record)| Cursor { tid, record })
}

fn begin() -> impl Strategy<Value = Begin> {
    (txn_id(), tid(), meta()).prop_map(|(id, snapshot, meta)| Begin { id, snapshot, meta })
}

fn meta() -> impl Strategy<Value = TxnMeta> {
    (text(), text(), data()).prop_map(|(user, description, extension)| TxnMeta {
        user,
        description,
        extension,
    })
}

fn store() -> impl Strategy<Value = Store> {
    (oid(), option::of(tid()), option::of(oids())).prop_map(|(oid, serial, refs)| Store {
        oid,
        serial,
        refs,
    })
}

fn reply() -> impl Strategy<Value = (Reply, Vec<u8>)> {
    let without_tail = prop_oneof![
        Just(Reply::Pong),
        (oid(), 1_u32..=10_000).prop_map(|(first, count)| Reply::NewOids(first, count)),
        tid().prop_map(Reply::LastTid),
        catch_up().prop_map(Reply::CatchUp),
        outcome().prop_map(Reply::Outcome),
        Just(Reply::Voted),
        tid().prop_map(Reply::Finished),
        vec(history_entry(), 0..5).prop_map(Reply::History),
        (vec((oid(), tid()), 0..5), option::of(oid()))
            .prop_map(|(objects, next)| Reply::Objects(Box::new(ObjectsPage { objects, next }))),
        (any::<u64>(), any::<u64>())
            .prop_map(|(objects, bytes)| Reply::Size(Size { objects, bytes })),
    ];
    prop_oneof![
        without_tail.prop_map(|reply| (reply, Vec::new())),
        loaded().prop_map(|(loaded, data)| (Reply::Loaded(loaded), data)),
        (vec(loaded(), 0..5), any::<bool>()).prop_map(|(page, more)| {
            let (page, data): (Vec<_>, Vec<_>) = page.into_iter().unzip();
            (Reply::LoadedMany(page, more), data.concat())
        }),
        data().prop_map(|json| (Reply::Status, json)),
        vec((conflict(), option::of(loaded())), 0..5).prop_map(|found| {
            let (found, data): (Vec<_>, Vec<_>) = found.into_iter().map(conflict_found).unzip();
            (Reply::Conflicts(found), data.concat())
        }),
        (vec(history_item(), 0..5), option::of(cursor())).prop_map(|(items, next)| {
            let (items, data): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (Reply::Transactions(Box::new(TransactionsPage { items, next })), data.concat())
        }),
    ]
}

fn conflict_found(
    (conflict, found): (Conflict, Option<(Loaded, Vec<u8>)>),
) -> (ConflictFound, Vec<u8>) {
    let (found, data) = found.unzip();
    (ConflictFound { conflict, found }, data.unwrap_or_default())
}

fn history_entry() -> impl Strategy<Value = HistoryEntry> {
    (tid(), any::<u32>(), any::<bool>(), meta())
        .prop_map(|(tid, data_len, deleted, meta)| HistoryEntry { tid, data_len, deleted, meta })
}

fn history_item() -> impl Strategy<Value = (HistoryItem, Vec<u8>)> {
    let head = (tid(), txn_id(), tid(), any::<u32>(), meta()).prop_map(
        |(tid, id, snapshot, records, meta)| TransactionHead { tid, id, snapshot, records, meta },
    );
    let record = (oid(), tid(), option::of(data()), option::of(oids())).prop_map(
        |(oid, previous, data, refs)| {
            let data_len = data.as_ref().map(|data| u32::try_from(data.len()).unwrap());
            let record = HistoryRecord { oid, previous, data_len, refs };
            (HistoryItem::Record(record), data.unwrap_or_default())
        },
    );
    prop_oneof![head.prop_map(|head| (HistoryItem::Transaction(head), Vec::new())), record]
}

fn loaded() -> impl Strategy<Value = (Loaded, Vec<u8>)> {
    prop_oneof![
        Just((Loaded::Absent, Vec::new())),
        validity().prop_map(|validity| (Loaded::Deleted(validity), Vec::new())),
        (validity(), data()).prop_map(|(validity, data)| {
            (Loaded::Revision(validity, u32::try_from(data.len()).unwrap()), data)
        }),
    ]
}

fn catch_up() -> impl Strategy<Value = CatchUp> {
    prop_oneof![
        (tid(), oids(), any::<bool>()).prop_map(|(through, oids, more)| CatchUp::Page {
            through,
            oids,
            more
        }),
        tid().prop_map(|through| CatchUp::TooOld { through }),
        tid().prop_map(|through| CatchUp::NotOfThisHistory { through }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        tid().prop_map(Outcome::Committed),
        Just(Outcome::NotCommitted),
        Just(Outcome::TooOldToKnow),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        conflict().prop_map(Failure::Conflict),
        oids().prop_map(Failure::UndoRefused),
        tid().prop_map(Failure::NoSuchTid),
        (oid(), text()).prop_map(|(oid, who)| Failure::Locked(oid, who)),
        any::<u64>().prop_map(Failure::QuotaExceeded),
        tid().prop_map(Failure::TidOutOfOrder),
        any::<u64>().prop_map(Failure::TransactionTooLarge),
        text().prop_map(Failure::StorageFailed),
        text().prop_map(Failure::OutcomeUnknown),
        text().prop_map(Failure::Damaged),
        proptest::sample::select(vec![
            Failure::Fenced,
            Failure::NoSuchTransaction,
            Failure::Busy,
            Failure::ReadOnly,
            Failure::DiskFull,
            Failure::Unsupported,
            Failure::Stopping,
        ]),
    ]
}

fn conflict() -> impl Strategy<Value = Conflict> {
    (oid(), tid(), tid()).prop_map(|(oid, committed, read)| Conflict { oid, committed, read })
}

fn goodbye() -> impl Strategy<Value = Goodbye> {
    prop_oneof![
        Just(Goodbye::Closed),
        Just(Goodbye::Stopping),
        text().prop_map(Goodbye::ProtocolError),
        text().prop_map(Goodbye::TookTooLong),
    ]
}

fn validity() -> impl Strategy<Value = Validity> {
    (tid(), option::of(tid())).prop_map(|(serial, end)| Validity { serial, end })
}

fn oids() -> impl Strategy<Value = Vec<Oid>> {
    vec(oid(), 0..100)
}

fn oid() -> impl Strategy<Value = Oid> {
    any::<[u8; 8]>().prop_map(Oid::from_bytes)
}

fn tid() -> impl Strategy<Value = Tid> {
    any::<[u8; 8]>().prop_map(Tid::from_bytes)
}

fn txn_id() -> impl Strategy<Value = TxnId> {
    any::<[u8; 16]>().prop_map(TxnId::from_bytes)
}

/// At most 100 characters, so at most 400 bytes.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..100).prop_map(|characters| characters.into_iter().collect())
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}
