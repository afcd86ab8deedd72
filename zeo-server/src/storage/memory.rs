//! A storage that lives in memory and is gone with its process: for tests and simulation, and the
//! reference that the others are compared with.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use zeo_proto::{Conflict, Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId, Validity};

use super::fences::{Fences, MAX_FENCES};
use super::history::next_oid;
use super::{
    Applied, Body, Changes, Check, Commit, Cursor, Found, HistoryEntry, HistoryLimit,
    HistoryRecord, ObjectsPage, Operation, Refused, Size, Storage, StorageError, TransactionHead,
    TransactionsPage, check,
};

/// A storage in memory.
#[derive(Debug)]
pub struct MemoryStorage {
    identity: Identity,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    last_tid: Tid,
    next_oid: u64,
    revisions: BTreeMap<(Oid, Tid), HistoryRecord>,
    transactions: BTreeMap<Tid, Transaction>,
    outcomes: BTreeMap<TxnId, Tid>,
    fences: Fences,
    size: Size,
}

/// A transaction, and the objects that it wrote, in order.
#[derive(Debug)]
struct Transaction {
    head: TransactionHead,
    oids: Vec<Oid>,
}

impl MemoryStorage {
    /// An empty storage of that identity.
    pub fn new(identity: Identity) -> Self {
        let state = State {
            last_tid: Tid::ZERO,
            next_oid: 1,
            revisions: BTreeMap::new(),
            transactions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            fences: Fences::new(MAX_FENCES),
            size: Size::default(),
        };
        Self { identity, state: RwLock::new(state) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn last_tid(&self) -> Tid {
        self.read().last_tid
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let state = self.read();
        let found = revision(&state.revisions, oid, before, as_of);
        Ok(found.map_or(Found::Absent, |(validity, record)| match &record.data {
            Some(data) => Found::Revision(validity, data.clone()),
            None => Found::Deleted(validity),
        }))
    }

    fn apply(&self, group: &[Operation], unix_micros: u64) -> Vec<Result<Applied, Refused>> {
        let mut state = self.write();
        let epoch = self.identity.epoch;
        let apply = |operation: &Operation| match operation {
            Operation::Commit(commit) => state.commit(commit, unix_micros).map(Applied::Committed),
            Operation::Check(check) => Ok(Applied::Checked(state.conflicts(check))),
            &Operation::ReserveOids(count) => state.reserve(count).map(Applied::Reserved),
            &Operation::Outcome(query) => Ok(Applied::Outcome(state.outcome(query, epoch))),
        };
        group.iter().map(apply).collect()
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        let state = self.read();
        if since != Tid::ZERO && !state.transactions.contains_key(&since) {
            return Ok(Changes::NotOfThisHistory);
        }
        let newer = state.transactions.range((Bound::Excluded(since), Bound::Unbounded));
        let newer = newer.take_while(|&(&tid, _)| tid <= through);
        let oids: BTreeSet<Oid> =
            newer.flat_map(|(_, transaction)| &transaction.oids).copied().collect();
        if oids.len() > limit {
            return Ok(Changes::TooMany);
        }
        Ok(Changes::Objects(oids.into_iter().collect()))
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        Ok(self.read().history(oid, before.min(as_of.next()), limit))
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        Ok(self.read().revisions.get(&(oid, tid)).cloned())
    }

    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        self.read().page(from, through, bytes)
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        Ok(self.read().objects(from, before, max))
    }

    fn size(&self) -> Size {
        self.read().size
    }
}

impl State {
    fn commit(&mut self, commit: &Commit, unix_micros: u64) -> Result<Tid, Refused> {
        if let Some(&tid) = self.outcomes.get(&commit.id) {
            return Ok(tid);
        }
        if self.fences.is_fenced(commit.id, commit.snapshot) {
            return Err(Refused::Fenced);
        }
        let current = |oid| Ok::<_, std::convert::Infallible>(self.current(oid));
        let Ok(checked) = check::writes(commit, current);
        checked.map_err(Refused::Conflict)?;
        let tid = check::tid_of(commit, self.last_tid, unix_micros)?;
        let writes = commit.records.iter().map(|record| Ok((record.oid, data(&record.body)?)));
        let writes: Result<BTreeMap<_, _>, std::io::Error> = writes.collect();
        let writes = writes.map_err(|error| Refused::Failed(error.to_string()))?;
        self.outcomes.insert(commit.id, tid);
        let records = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        let Commit { id, snapshot, ref meta, .. } = *commit;
        let head = TransactionHead { tid, id, snapshot, meta: meta.clone(), records };
        self.insert(head, writes);
        Ok(tid)
    }

    fn conflicts(&self, check: &Check) -> Vec<Conflict> {
        let current = |oid| Ok::<_, std::convert::Infallible>(self.current(oid));
        let Ok(conflicts) = check::conflicts(check, current);
        conflicts
    }

    fn insert(&mut self, head: TransactionHead, writes: BTreeMap<Oid, Written>) {
        self.last_tid = head.tid;
        let oids = writes.keys().copied().collect();
        for (oid, (data, refs)) in writes {
            self.next_oid = self.next_oid.max(oid.number().saturating_add(1));
            let record = HistoryRecord { oid, previous: self.current(oid), data, refs };
            self.count(&record);
            self.revisions.insert((oid, head.tid), record);
        }
        self.transactions.insert(head.tid, Transaction { head, oids });
    }

    fn current(&self, oid: Oid) -> Tid {
        let all = self.revisions.range((oid, Tid::ZERO)..=(oid, Tid::MAX));
        all.last().map_or(Tid::ZERO, |(&(_, tid), _)| tid)
    }

    /// Counts a record that becomes the newest of its object.
    fn count(&mut self, record: &HistoryRecord) {
        let before = self.revisions.get(&(record.oid, record.previous));
        let was_there = before.is_some_and(|before| before.data.is_some());
        self.size.objects -= u64::from(was_there);
        self.size.objects += u64::from(record.data.is_some());
        self.size.bytes += record.data.as_ref().map_or(0, Bytes::len) as u64;
    }

    fn reserve(&mut self, count: u32) -> Result<Oid, Refused> {
        let first = Oid::new(self.next_oid);
        self.next_oid = check::oids_after(first, count)?.number();
        Ok(first)
    }

    fn outcome(&mut self, query: OutcomeQuery, epoch: u64) -> Outcome {
        if query.epoch != epoch {
            return Outcome::TooOldToKnow;
        }
        if let Some(&tid) = self.outcomes.get(&query.id) {
            return Outcome::Committed(tid);
        }
        self.fences.answer(query, self.last_tid)
    }
}

/// The data of a revision, `None` if it is a deletion, and what it refers to.
type Written = (Option<Bytes>, Option<Vec<Oid>>);

fn data(body: &Body) -> std::io::Result<Written> {
    match body {
        Body::Deleted => Ok((None, None)),
        Body::Held { data, refs } => Ok((Some(data.clone()), refs.clone())),
        Body::Spilled(spilled) => spilled.read().map(|(data, refs)| (Some(data), refs)),
    }
}

/// Of revisions in order, the one that was valid just before `before`, as seen at `as_of`.
pub(super) fn revision<T>(
    revisions: &BTreeMap<(Oid, Tid), T>,
    oid: Oid,
    before: Tid,
    as_of: Tid,
) -> Option<(Validity, &T)> {
    let bound = before.min(as_of.next());
    let (&(_, serial), found) = revisions.range((oid, Tid::ZERO)..(oid, bound)).next_back()?;
    let newer = (Bound::Excluded((oid, serial)), Bound::Included((oid, as_of)));
    let end = revisions.range(newer).next().map(|(&(_, tid), _)| tid);
    Some((Validity { serial, end }, found))
}

/// The objects from `from` on, in order, each with its last revision before `before`, if it has one.
pub(super) fn latest<T>(
    revisions: &BTreeMap<(Oid, Tid), T>,
    from: Oid,
    before: Tid,
) -> impl Iterator<Item = (Oid, Option<(Tid, &T)>)> {
    let first = |from| revisions.range((from, Tid::ZERO)..).next().map(|(&(oid, _), _)| oid);
    let oids = std::iter::successors(first(from), move |&oid| first(next_oid(oid)?));
    oids.map(move |oid| {
        let last = revisions.range((oid, Tid::ZERO)..(oid, before)).next_back();
        (oid, last.map(|(&(_, tid), found)| (tid, found)))
    })
}
