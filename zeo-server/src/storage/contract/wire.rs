//! The contract through the wire: a storage that is asked over a connection.
//!
//! Each call of the trait becomes what a client would send, to the server of this crate, which
//! serves another storage beneath; all of it runs on one thread in a simulated world, with bytes
//! that arrive late and in pieces. So the suite says of the whole way what it says of a storage.
//! What a client cannot say, [`BEYOND_THE_WIRE`] lists.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod line;
mod peer;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use zeo_proto::{Call, CallId, CatchUp, Failure, Identity, Loaded, Oid, Reply, Tid, Validity};

use super::{Kind, Memory, Simulated};
use crate::Limits;
use crate::storage::disk::Random;
use crate::storage::history::PageBuilder;
use crate::storage::{
    Applied, Changes, Commit, Cursor, Found, HistoryEntry, HistoryItem, HistoryLimit,
    HistoryRecord, ObjectsPage, Operation, Record, Refused, Size, Storage, StorageError,
    TransactionsPage, UndoLimits, UndoRefused, undo,
};

use line::{Line, expect_reply};
use words::{applied, count, cursor, entry_of, item_of};

/// The tests of the contract that cannot hold through the wire, and why.
const BEYOND_THE_WIRE: [(&str, &str); 1] =
    [("a_history_is_as_long_as_asked_for", "how many bytes a page has is up to the server")];

/// Runs a test of the contract, or sees that it fails where it must.
pub(super) fn run<K: Kind>(name: &str, test: impl FnOnce(&Wire<K>), kind: &Wire<K>) {
    if BEYOND_THE_WIRE.iter().all(|(beyond, _)| *beyond != name) {
        return test(kind);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| test(kind)));
    assert!(outcome.is_err(), "it holds through the wire as well: take it off the list");
}

/// A kind of storage behind a server.
#[derive(Debug)]
pub(super) struct Wire<K> {
    kind: K,
    limits: Limits,
    /// Of the world: which bytes arrive when, and in which pieces.
    seed: u64,
}

impl Wire<Memory> {
    /// In memory, with all the room that a server has.
    pub(super) fn memory() -> Self {
        Self { kind: Memory, limits: Limits::default(), seed: 5 }
    }
}

impl Wire<Simulated> {
    /// On a simulated disk, by a server that has room for next to nothing: its answers come from
    /// the storage, and large transactions wait in files. Those are overtaken by what comes behind
    /// them, so no group of the contract has any.
    pub(super) fn simulated(seed: u64) -> Self {
        let limits = Limits {
            hot_bytes: 0,
            remembered_oids: 4,
            calls_in_flight: 2,
            spill_bytes: 100_000,
            group_operations: 2,
            ..Limits::default()
        };
        Self { kind: Simulated::new(), limits, seed }
    }
}

impl<K: Kind> Wire<K> {
    fn serve(&self, storage: K::Storage) -> Served<K::Storage> {
        let storage = Arc::new(storage);
        let line = Line::start(self.seed, Arc::clone(&storage) as _, self.limits.clone());
        Served { line: Mutex::new(line), undone: Mutex::default(), storage }
    }
}

/// The server's program ends at once; what becomes of the storage is a matter of its kind.
impl<K: Kind> Kind for Wire<K> {
    type Storage = Served<K::Storage>;

    fn open(&self) -> Self::Storage {
        self.serve(self.kind.open())
    }

    fn reopen(&self, served: Self::Storage) -> Self::Storage {
        self.serve(self.kind.reopen(served.into_storage()))
    }

    fn crash(&self, served: Self::Storage, random: &mut Random) -> Self::Storage {
        self.serve(self.kind.crash(served.into_storage(), random))
    }
}

/// A storage as a client sees it.
#[derive(Debug)]
pub(super) struct Served<S> {
    line: Mutex<Line>,
    /// The undo that was worked out last, and the last tid then.
    undone: Mutex<Option<(Tid, Undone)>>,
    storage: Arc<S>,
}

/// Transactions, and what undoing them writes.
type Undone = (Vec<Tid>, Vec<Record>);

impl<S: Storage> Served<S> {
    fn into_storage(self) -> S {
        drop(self.line);
        Arc::into_inner(self.storage).expect("the server and its jobs are gone")
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    fn ask(&self, call: Call) -> Result<(Reply, Bytes), StorageError> {
        self.line().ask(call).map_err(|failure| match failure {
            Failure::Damaged(text) => StorageError::Damaged(text),
            failure => panic!("{failure:?}"),
        })
    }

    /// What a client has to know before it can ask for an operation.
    fn prepare_to_ask(&self, operation: Operation) -> (Operation, Option<Vec<Tid>>) {
        let Operation::Commit(commit) = operation else { return (operation, None) };
        let commit = self.with_serials(commit);
        let undoes = self.undoes(&commit);
        (Operation::Commit(commit), undoes)
    }

    /// A client that deletes says what it has read: at its snapshot, if it does not say.
    fn with_serials(&self, mut commit: Commit) -> Commit {
        let snapshot = commit.snapshot;
        for record in commit.records.iter_mut().filter(|record| record.body.is_deleted()) {
            record.serial.get_or_insert_with(|| {
                match self.load_before(record.oid, snapshot.next(), Tid::MAX).unwrap() {
                    Found::Absent => Tid::ZERO,
                    Found::Deleted(validity) | Found::Revision(validity, _) => validity.serial,
                }
            });
        }
        commit
    }

    /// The transactions that this commit undoes, if it is the undo that was worked out last and
    /// nothing has come in between.
    fn undoes(&self, commit: &Commit) -> Option<Vec<Tid>> {
        let (last_tid, (tids, records)) = self.undone.lock().unwrap().take()?;
        (last_tid == self.last_tid() && records == commit.records).then_some(tids)
    }

    fn page(
        &self,
        from: zeo_proto::Cursor,
        through: Tid,
    ) -> Result<(Vec<HistoryItem>, Option<zeo_proto::Cursor>), StorageError> {
        let (reply, mut data) = self.ask(Call::Transactions(from, through))?;
        let Reply::Transactions(page) = reply else { panic!("{reply:?}") };
        let items = page.items.into_iter().map(|item| item_of(item, &mut data)).collect();
        assert!(data.is_empty(), "{} bytes belong to no record", data.len());
        Ok((items, page.next))
    }

    /// What a server says of an undo must be what was found out by reading.
    fn compare_undo(&self, tids: &[Tid], found: &Result<Vec<Record>, UndoRefused>) {
        let answer = {
            let mut line = self.line();
            let call = line.with(|to| to.try_undo(tids));
            line.answer(call)
        };
        match (found, answer) {
            (Ok(_), Ok((Reply::Voted, _))) | (Err(UndoRefused::TooLarge), _) => {}
            (Err(UndoRefused::InTheWay(oids)), Err(Failure::UndoRefused(told))) => {
                assert_eq!(*oids, told);
            }
            (Err(UndoRefused::NoSuchTransaction(tid)), Err(Failure::NoSuchTid(told))) => {
                assert_eq!(*tid, told);
            }
            (found, told) => panic!("{found:?}, but the server says {told:?}"),
        }
    }
}

/// A client says with `before` what it may see, and looks itself whether it knows of an end.
impl<S: Storage> Storage for Served<S> {
    fn identity(&self) -> Identity {
        self.line().identity()
    }

    fn last_tid(&self) -> Tid {
        expect_reply!(self.line().ask(Call::LastTid), Reply::LastTid(tid) => tid)
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let (reply, data) = self.ask(Call::LoadBefore(oid, before.min(as_of.next())))?;
        let Reply::Loaded(loaded) = reply else { panic!("{reply:?}") };
        let known = |validity: Validity| Validity {
            end: validity.end.filter(|&end| end <= as_of),
            ..validity
        };
        Ok(match loaded {
            Loaded::Absent => Found::Absent,
            Loaded::Deleted(validity) => Found::Deleted(known(validity)),
            Loaded::Revision(validity, len) => {
                assert_eq!(data.len(), len as usize);
                Found::Revision(known(validity), data)
            }
        })
    }

    fn apply(&self, group: &[Operation], unix_micros: u64) -> Vec<Result<Applied, Refused>> {
        self.line().set_clock(unix_micros);
        let group: Vec<_> = group.iter().map(|one| self.prepare_to_ask(one.clone())).collect();
        let mut line = self.line();
        let calls: Vec<CallId> = line.with(|to| {
            let sent =
                group.into_iter().map(|(operation, undoes)| to.begin(operation, undoes.as_deref()));
            sent.collect()
        });
        calls.into_iter().map(|call| applied(line.answer(call))).collect()
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        let mut line = self.line();
        let call = line.with(|to| to.ask(Call::InvalidationsSince(since)));
        let mut changed = Vec::new();
        loop {
            match expect_reply!(line.answer(call), Reply::CatchUp(catch_up) => catch_up) {
                CatchUp::Page { oids, more, through: last } => {
                    changed.extend(oids);
                    if !more {
                        drop(line);
                        return self.changes_through(changed, (since, through, last), limit);
                    }
                }
                CatchUp::TooOld { .. } => return Ok(Changes::TooMany),
                CatchUp::NotOfThisHistory { .. } => return Ok(Changes::NotOfThisHistory),
            }
        }
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        let call = Call::History(oid, before.min(as_of.next()), count(limit.entries));
        let (reply, _) = self.ask(call)?;
        let Reply::History(entries) = reply else { panic!("{reply:?}") };
        Ok(entries.into_iter().map(entry_of).collect())
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        let mut next = Some(zeo_proto::Cursor::from_tid(tid));
        while let Some(from) = next {
            let (items, after) = self.page(from, tid)?;
            let found = items.into_iter().find_map(|item| match item {
                HistoryItem::Record(record) if record.oid == oid => Some(record),
                HistoryItem::Record(_) | HistoryItem::Transaction(_) => None,
            });
            if found.is_some() {
                return Ok(found);
            }
            next = after;
        }
        Ok(None)
    }

    /// A server's pages are as long as it likes. Whoever wants shorter ones goes on where he
    /// stopped, which is a place that no page of the server ended at.
    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        let mut at = zeo_proto::Cursor { tid: from.tid, record: from.record };
        let (items, next) = self.page(at, through)?;
        let mut page = PageBuilder::new(bytes);
        for item in items {
            if let HistoryItem::Transaction(head) = &item {
                at = zeo_proto::Cursor::from_tid(head.tid);
            }
            if !page.has_room(item.size()) {
                return Ok(page.cut(cursor(at)));
            }
            match item {
                HistoryItem::Transaction(head) => page.transaction(head, cursor(at)),
                HistoryItem::Record(record) => {
                    page.record(record);
                    at.record += 1;
                }
            }
        }
        Ok(match next {
            Some(next) => page.cut(cursor(next)),
            None => page.end(),
        })
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        let (reply, _) = self.ask(Call::Objects(from, before, count(max)))?;
        let Reply::Objects(page) = reply else { panic!("{reply:?}") };
        Ok(ObjectsPage { objects: page.objects, next: page.next })
    }

    fn size(&self) -> Size {
        let size = expect_reply!(self.line().ask(Call::Size), Reply::Size(size) => size);
        Size { objects: size.objects, bytes: size.bytes }
    }

    /// The wire does not show what an undo writes before it is committed: that is worked out from
    /// the history, and if it is what is committed next, the server is told to undo.
    fn undo(
        &self,
        tids: &[Tid],
        limits: UndoLimits,
    ) -> Result<Result<Vec<Record>, UndoRefused>, StorageError> {
        let found = undo::undo(self, tids, limits)?;
        self.compare_undo(tids, &found);
        let undone = found.clone().ok().map(|records| (self.last_tid(), (tids.to_vec(), records)));
        *self.undone.lock().unwrap() = undone;
        Ok(found)
    }

    fn index_some(&self) -> Result<(), StorageError> {
        self.storage.index_some()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.storage.prepare()
    }
}

impl<S: Storage> Served<S> {
    /// What changed up to a tid, where the server has told all up to its last: what came later is
    /// in the history.
    fn changes_through(
        &self,
        changed: Vec<Oid>,
        (since, through, last): (Tid, Tid, Tid),
        limit: usize,
    ) -> Result<Changes, StorageError> {
        let mut oids = changed;
        if through < last {
            oids = self.written(since.next(), through)?;
        }
        Ok(if oids.len() > limit { Changes::TooMany } else { Changes::Objects(oids) })
    }

    /// The objects that some transactions wrote, each once.
    fn written(&self, from: Tid, through: Tid) -> Result<Vec<Oid>, StorageError> {
        let (mut oids, mut next) = (Vec::new(), Some(zeo_proto::Cursor::from_tid(from)));
        while let Some(from) = next {
            let (items, after) = self.page(from, through)?;
            oids.extend(items.into_iter().filter_map(|item| match item {
                HistoryItem::Record(record) => Some(record.oid),
                HistoryItem::Transaction(_) => None,
            }));
            next = after;
        }
        oids.sort_unstable();
        oids.dedup();
        Ok(oids)
    }
}
