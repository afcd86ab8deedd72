//! The native messages: what a client and a server say to each other once the handshake is done.
//!
//! A message is a *head*, one of the enums here in bincode, and a *tail*, the object data as raw
//! bytes: data never passes through a serialiser. [`ClientMessage`] and [`ServerMessage`] are the
//! two directions. A *call* is answered by exactly one reply or failure (a paged reply counts as
//! one, its last page says so); a *notice* is never answered. The order of variants is the wire
//! format: new ones are added at the end, none is removed. PROTOCOL.md has the table.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::bounded::{Binary, List, OptionalList, Reason, Text};
use crate::{MAX_BATCH, MAX_IN_THE_WAY, MAX_ITEMS, MAX_META, MAX_PAGE, Oid, Tid, TxnId};

/// Names a call on its connection; chosen by the caller, unique among its calls in flight.
pub type CallId = u64;

/// Names a transaction on its connection, from `tpc_begin` to its end; chosen by the client.
pub type TxnNumber = u32;

/// From client to server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// A call, which gets exactly one answer.
    Call(CallId, Call),
    /// Begins a transaction; nothing is locked or checked yet.
    TpcBegin(TxnNumber, Begin),
    /// Stores one object in a transaction. Tail: the object's data.
    Store(TxnNumber, Store),
    /// The transaction depends on this object still being at this serial when it commits.
    ReadCurrent(TxnNumber, Oid, Tid),
    /// Deletes an object that was read at this serial.
    Delete(TxnNumber, Oid, Tid),
    /// Ends a transaction without a trace; one that is not known is ignored.
    TpcAbort(TxnNumber),
    /// The last message: the client leaves, and why.
    Goodbye(Goodbye),
    /// The transaction undoes what this earlier one did; of several, all together. It writes what
    /// its objects were before, once it is voted on.
    Undo(TxnNumber, Tid),
    /// The transaction gets this tid, and nothing of it is checked: it is a copy of one that was
    /// committed elsewhere.
    Restore(TxnNumber, Tid),
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Is the server there? Answer: [`Reply::Pong`].
    Ping,
    /// The revision valid just before a tid. Answer: [`Reply::Loaded`].
    LoadBefore(Oid, Tid),
    /// The same for up to [`MAX_BATCH`] objects. Answer: [`Reply::LoadedMany`],
    /// in pages.
    LoadMany(Tid, #[serde(with = "List::<MAX_BATCH>")] Vec<Oid>),
    /// Names for that many new objects (1 to [`MAX_NEW_OIDS`](crate::MAX_NEW_OIDS)). Answer:
    /// [`Reply::NewOids`].
    NewOids(u32),
    /// The last tid that the server has published. Answer: [`Reply::LastTid`].
    LastTid,
    /// Which objects changed after a tid. Answer: [`Reply::CatchUp`], in pages.
    InvalidationsSince(Tid),
    /// What became of a transaction. Answer: [`Reply::Outcome`].
    Outcome(OutcomeQuery),
    /// Votes on a transaction; `true` says "then finish", which makes a commit one round trip.
    /// Answer: [`Reply::Finished`], or [`Reply::Voted`] where it is `false`.
    TpcVote(TxnNumber, bool),
    /// Makes a voted transaction permanent. Answer: [`Reply::Finished`].
    TpcFinish(TxnNumber),
    /// The server's state for an operator. Answer: [`Reply::Status`].
    Status,
    /// Like [`Call::TpcVote`], for a client that can resolve conflicts. Where there are any, the
    /// answer is [`Reply::Conflicts`]: the transaction stays open and keeps its object locks until
    /// its next vote.
    TpcVoteResolving(TxnNumber, bool),
    /// The transactions that wrote an object before a tid, newest first, at most that many. Answer:
    /// [`Reply::History`].
    History(Oid, Tid, u32),
    /// All transactions from a place on, in order, up to and including a tid, as far as they fit
    /// one answer: [`Reply::Transactions`].
    Transactions(Cursor, Tid),
    /// The objects from one on, in order, that a reader with that `before` sees; at most that many.
    /// Answer: [`Reply::Objects`].
    Objects(Oid, Tid, u32),
    /// How large the storage is. Answer: [`Reply::Size`].
    Size,
}

/// A place among all transactions and their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// The first transaction that is wanted is this one, or the next after it.
    pub tid: Tid,
    /// How many of its records come before this place; 0 is the start of the transaction itself.
    pub record: u32,
}

impl Cursor {
    /// The start of the first transaction at or after a tid.
    pub const fn from_tid(tid: Tid) -> Self {
        Self { tid, record: 0 }
    }
}

/// How a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The name under which its outcome can be asked for.
    pub id: TxnId,
    /// The last tid that the transaction's reads saw. A store without a serial is checked against
    /// it, and an outcome is looked for after it.
    pub snapshot: Tid,
    /// Who, what, and anything else, kept with the transaction.
    pub meta: TxnMeta,
}

/// What is kept with a transaction beside its objects; at most
/// [`MAX_META`] bytes together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnMeta {
    /// Who made it.
    #[serde(with = "Text::<MAX_META>")]
    pub user: String,
    /// What it does.
    #[serde(with = "Text::<MAX_META>")]
    pub description: String,
    /// Whatever else the application keeps with it.
    #[serde(with = "Binary::<MAX_META>")]
    pub extension: Vec<u8>,
}

impl TxnMeta {
    /// Bytes of user, description and extension together.
    pub fn size(&self) -> usize {
        self.user.len() + self.description.len() + self.extension.len()
    }
}

/// One object in a transaction, without its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The object.
    pub oid: Oid,
    /// The serial that was read, [`Tid::ZERO`] for a new object; `None` where it was written
    /// without being read, which conflicts with any commit after the snapshot.
    pub serial: Option<Tid>,
    /// The oids that the data refers to, where the client knows: garbage collection then does not
    /// depend on how data is serialised.
    #[serde(with = "OptionalList::<MAX_PAGE>")]
    pub refs: Option<Vec<Oid>>,
}

/// A question about a transaction whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeQuery {
    /// The transaction.
    pub id: TxnId,
    /// The snapshot that it began with.
    pub snapshot: Tid,
    /// The epoch of the database that it was sent to.
    pub epoch: u64,
}

/// From server to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The answer to a call. Tail: object data, where the reply says so.
    Reply(CallId, Reply),
    /// The call failed.
    Failure(CallId, Failure),
    /// A commit by somebody else, one transaction whole: its tid and the objects that it wrote.
    /// `true` says that more oids of the same transaction follow in the next `Invalidate`; they
    /// are applied together.
    Invalidate(Tid, #[serde(with = "List::<MAX_PAGE>")] Vec<Oid>, bool),
    /// The last message: the server leaves, and why.
    Goodbye(Goodbye),
}

/// Answers to calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Call::Ping`].
    Pong,
    /// To [`Call::LoadBefore`]. Tail: the data, if there is any.
    Loaded(Loaded),
    /// To [`Call::LoadMany`], in the order asked. Tail: the data of each, one after the other.
    /// `true` says that another page follows.
    LoadedMany(#[serde(with = "List::<MAX_BATCH>")] Vec<Loaded>, bool),
    /// To [`Call::NewOids`]: that many oids, counting up from the first.
    NewOids(Oid, u32),
    /// To [`Call::LastTid`].
    LastTid(Tid),
    /// To [`Call::InvalidationsSince`].
    CatchUp(CatchUp),
    /// To [`Call::Outcome`].
    Outcome(Outcome),
    /// To [`Call::TpcVote`] without finish: the object locks are held.
    Voted,
    /// The transaction is durable and published at this tid.
    Finished(Tid),
    /// To [`Call::Status`]. Tail: JSON in UTF-8.
    Status,
    /// To [`Call::TpcVoteResolving`]: these objects were changed by somebody else. Tail: the
    /// committed data of each, one after the other, where [`ConflictFound::found`] says so.
    Conflicts(#[serde(with = "List::<MAX_BATCH>")] Vec<ConflictFound>),
    /// To [`Call::History`]; an empty list says that there is nothing more.
    History(#[serde(with = "List::<MAX_BATCH>")] Vec<HistoryEntry>),
    /// To [`Call::Transactions`]. Tail: the data of each record, one after the other.
    Transactions(Box<TransactionsPage>),
    /// To [`Call::Objects`].
    Objects(Box<ObjectsPage>),
    /// To [`Call::Size`].
    Size(Size),
}

/// A conflict, with what is needed to resolve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictFound {
    /// The object and its serials.
    pub conflict: Conflict,
    /// What is committed; `None` where there is no room for it in this answer, and it has to be
    /// loaded.
    pub found: Option<Loaded>,
}

/// A transaction that wrote an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was committed.
    pub tid: Tid,
    /// Bytes of the object's data; 0 where it was deleted.
    pub data_len: u32,
    /// Whether it deleted the object.
    pub deleted: bool,
    /// Who, what, and anything else.
    pub meta: TxnMeta,
}

/// Some transactions in order, the first and the last perhaps in part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionsPage {
    /// Transactions, each before its records.
    #[serde(with = "List::<MAX_ITEMS>")]
    pub items: Vec<HistoryItem>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// What a page of transactions consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryItem {
    /// A transaction; its records follow.
    Transaction(TransactionHead),
    /// A record of the transaction before it, or, at the start of a page, of the cursor's.
    Record(HistoryRecord),
}

/// A transaction without its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionHead {
    /// When it was committed.
    pub tid: Tid,
    /// The name that its client gave it.
    pub id: TxnId,
    /// The last tid that its reads saw.
    pub snapshot: Tid,
    /// How many records follow, in this page and those after it.
    pub records: u32,
    /// Who, what, and anything else.
    pub meta: TxnMeta,
}

/// What a transaction did to one object, without the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// The object.
    pub oid: Oid,
    /// The serial of what it replaced; [`Tid::ZERO`] where the object is new.
    pub previous: Tid,
    /// How many bytes of the tail are its data; `None` where the object was deleted.
    pub data_len: Option<u32>,
    /// The oids that the data refers to, where they are known.
    #[serde(with = "OptionalList::<MAX_PAGE>")]
    pub refs: Option<Vec<Oid>>,
}

/// Some objects in the order of their oids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsPage {
    /// Objects with their serials. A page may be empty and not the last.
    #[serde(with = "List::<MAX_BATCH>")]
    pub objects: Vec<(Oid, Tid)>,
    /// Where to go on if there may be more.
    pub next: Option<Oid>,
}

/// How large a storage is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Objects that are there now.
    pub objects: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What was found of an object before a tid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loaded {
    /// It had no revision yet, or never has.
    Absent,
    /// It was deleted at `serial`; `end` as below.
    Deleted(Validity),
    /// A revision, and how many bytes of the tail are its data.
    Revision(Validity, u32),
}

/// When a revision is what a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// The tid that wrote it.
    pub serial: Tid,
    /// The tid that superseded it, or a tid up to which alone it is known to be valid; `None` for
    /// what is current.
    pub end: Option<Tid>,
}

/// One page of the objects that changed after a tid, or why they cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUp {
    /// These objects changed, up to and including `through`; `more` pages follow.
    Page {
        /// The last tid that the whole answer covers; the same in every page.
        through: Tid,
        /// Objects that changed; none comes twice.
        #[serde(with = "List::<MAX_PAGE>")]
        oids: Vec<Oid>,
        /// Whether another page follows.
        more: bool,
    },
    /// There were too many: drop the cache and go on from `through`.
    TooOld {
        /// The tid from which to go on.
        through: Tid,
    },
    /// The tid asked about is not one of this history: drop the cache and go on from `through`.
    NotOfThisHistory {
        /// The tid from which to go on.
        through: Tid,
    },
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was committed at this tid.
    Committed(Tid),
    /// It was not, and never will be: its id is fenced.
    NotCommitted,
    /// It began before what is remembered of outcomes, or in another epoch.
    TooOldToKnow,
}

/// Why a call failed. Texts are for people, and cut to [`MAX_REASON`](crate::MAX_REASON) bytes when sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// An object was changed by somebody else; nothing was committed.
    Conflict(Conflict),
    /// The transaction's id is fenced: its client was told that it was not committed.
    Fenced,
    /// The transaction outgrew this many bytes; nothing was committed.
    TransactionTooLarge(u64),
    /// No such transaction on this connection, or not in a state for this step.
    NoSuchTransaction,
    /// A queue of the server is full; ask again later.
    Busy,
    /// The storage or the server is read-only.
    ReadOnly,
    /// The disk is full; nothing was committed.
    DiskFull,
    /// The storage refuses to go on until it is reopened; nothing of this call was committed.
    StorageFailed(#[serde(with = "Reason")] String),
    /// The storage failed in the middle of the commit; whether it is durable is not known.
    OutcomeUnknown(#[serde(with = "Reason")] String),
    /// What is stored of this object is damaged.
    Damaged(#[serde(with = "Reason")] String),
    /// The server knows this message but does not serve it (yet).
    Unsupported,
    /// The server is stopping.
    Stopping,
    /// The transactions cannot be undone, because later ones changed these objects; not all are
    /// listed where there are more than [`MAX_IN_THE_WAY`].
    UndoRefused(#[serde(with = "List::<MAX_IN_THE_WAY>")] Vec<Oid>),
    /// There is no transaction with this tid.
    NoSuchTid(Tid),
    /// Others held this object's lock for too long; the text says who. Nothing was committed.
    Locked(Oid, #[serde(with = "Reason")] String),
    /// The storage has reached its quota of so many bytes; nothing was committed.
    QuotaExceeded(u64),
    /// A transaction that is to be restored must be newer than the last one, which has this tid,
    /// and not newer than the server's clock allows.
    TidOutOfOrder(Tid),
}

/// An object that a transaction wrote or depended on was changed after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The object.
    pub oid: Oid,
    /// The serial that is current.
    pub committed: Tid,
    /// The serial that the transaction had read, or its snapshot where it gave none.
    pub read: Tid,
}

/// Why one side ends the connection. Texts are for people, and cut to [`MAX_REASON`](crate::MAX_REASON) bytes when
/// sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goodbye {
    /// It was closed in order.
    Closed,
    /// The server is stopping; come back later.
    Stopping,
    /// The other side broke the protocol; the text says how.
    ProtocolError(#[serde(with = "Reason")] String),
    /// The other side held object locks, memory or a place too long.
    TookTooLong(#[serde(with = "Reason")] String),
}
