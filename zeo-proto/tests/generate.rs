//! Arbitrary messages, each with a tail that fits it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use zeo_proto::{
    Begin, Call, CatchUp, ClientMessage, Conflict, Failure, Goodbye, Loaded, Oid, Outcome,
    OutcomeQuery, Reply, ServerMessage, Store, Tid, TxnId, TxnMeta, Validity,
};

pub(crate) fn client_message() -> impl Strategy<Value = (ClientMessage, Vec<u8>)> {
    let without_tail = prop_oneof![
        (any::<u64>(), call()).prop_map(|(id, call)| ClientMessage::Call(id, call)),
        (any::<u32>(), begin()).prop_map(|(txn, begin)| ClientMessage::TpcBegin(txn, begin)),
        (any::<u32>(), oid(), tid()).prop_map(|(n, o, t)| ClientMessage::ReadCurrent(n, o, t)),
        (any::<u32>(), oid(), tid()).prop_map(|(n, o, t)| ClientMessage::Delete(n, o, t)),
        any::<u32>().prop_map(ClientMessage::TpcAbort),
        goodbye().prop_map(ClientMessage::Goodbye),
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
    ]
}

fn begin() -> impl Strategy<Value = Begin> {
    (txn_id(), tid(), text(), text(), data()).prop_map(
        |(id, snapshot, user, description, extension)| Begin {
            id,
            snapshot,
            meta: TxnMeta { user, description, extension },
        },
    )
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
    ];
    prop_oneof![
        without_tail.prop_map(|reply| (reply, Vec::new())),
        loaded().prop_map(|(loaded, data)| (Reply::Loaded(loaded), data)),
        (vec(loaded(), 0..5), any::<bool>()).prop_map(|(page, more)| {
            let (page, data): (Vec<_>, Vec<_>) = page.into_iter().unzip();
            (Reply::LoadedMany(page, more), data.concat())
        }),
        data().prop_map(|json| (Reply::Status, json)),
    ]
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
        (oid(), tid(), tid())
            .prop_map(|(oid, committed, read)| Conflict { oid, committed, read })
            .prop_map(Failure::Conflict),
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
