//! A damaged storage, for reading only: whatever is whole of it.
//!
//! It changes nothing on the disk and uses no index. Where the newest revision of an object is
//! damaged, an older one looks like the current one: that is why it has to be asked for.

mod history;

use std::collections::BTreeMap;

use zeo_proto::{Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId};

use super::disk::{Disk, locked};
use super::index::Place;
use super::journal::{Item, Remains};
use super::memory::revision;
use super::{
    Applied, Changes, Cursor, Found, HistoryEntry, HistoryLimit, HistoryRecord, ObjectsPage,
    OpenError, Operation, Refused, Size, Storage, StorageError, TransactionsPage,
};

/// What is whole of a damaged storage.
#[derive(Debug)]
pub struct SalvagedStorage<D: Disk> {
    identity: Identity,
    last_tid: Tid,
    revisions: BTreeMap<(Oid, Tid), Place>,
    transactions: BTreeMap<Tid, Transaction>,
    outcomes: BTreeMap<TxnId, Tid>,
    journal: Remains<D>,
    damage: Vec<String>,
    size: Size,
    /// Dropped last: until then nobody else may open the directory.
    _lock: D::Lock,
}

/// What is whole of a transaction.
#[derive(Debug, Default)]
struct Transaction {
    head: Option<Place>,
    oids: Vec<Oid>,
}

impl<D: Disk> SalvagedStorage<D> {
    /// Reads what there is on a disk. Takes memory for every revision, about 100 bytes.
    pub fn open(disk: D) -> Result<Self, OpenError> {
        let lock = locked(&disk)?;
        let (journal, salvaged) = Remains::find(disk)?;
        let mut storage = Self {
            identity: Identity { uuid: journal.uuid(), epoch: 1 },
            last_tid: Tid::ZERO,
            revisions: BTreeMap::new(),
            transactions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            journal,
            damage: salvaged.places(),
            size: Size::default(),
            _lock: lock,
        };
        for (group, item) in salvaged.items {
            storage.take(group, item);
        }
        storage.size = storage.count();
        Ok(storage)
    }

    /// Where something is missing.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    fn take(&mut self, group: super::Position, item: Item) {
        match item {
            Item::Transaction { tid, id, span } => {
                self.outcomes.insert(id, tid);
                let place = span.in_group(group, false);
                self.transactions.entry(tid).or_default().head = Some(place);
                self.last_tid = self.last_tid.max(tid);
            }
            Item::Record { oid, tid, deleted, span, .. } => {
                self.transactions.entry(tid).or_default().oids.push(oid);
                self.revisions.insert((oid, tid), span.in_group(group, deleted));
                self.last_tid = self.last_tid.max(tid);
            }
            Item::Epoch(epoch) => self.identity.epoch = epoch,
            Item::Reserved(_) => {}
        }
    }

    fn answer(&self, operation: &Operation) -> Result<Applied, Refused> {
        match operation {
            Operation::Outcome(OutcomeQuery { id, .. }) => Ok(Applied::Outcome(
                self.outcomes.get(id).map_or(Outcome::TooOldToKnow, |&tid| Outcome::Committed(tid)),
            )),
            Operation::Commit(_) | Operation::Check(_) | Operation::ReserveOids(_) => {
                Err(Refused::Failed("the storage is damaged, and is only read".to_owned()))
            }
        }
    }
}

impl<D: Disk> Storage for SalvagedStorage<D> {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn last_tid(&self) -> Tid {
        self.last_tid
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let Some((validity, &place)) = revision(&self.revisions, oid, before, as_of) else {
            return Ok(Found::Absent);
        };
        if place.deleted {
            return Ok(Found::Deleted(validity));
        }
        Ok(Found::Revision(validity, self.journal.load(place, oid, validity.serial)?))
    }

    fn apply(&self, group: &[Operation], _: u64) -> Vec<Result<Applied, Refused>> {
        group.iter().map(|operation| self.answer(operation)).collect()
    }

    /// What is missing may have changed anything.
    fn changes_since(&self, _: Tid, _: Tid, _: usize) -> Result<Changes, StorageError> {
        Ok(Changes::TooMany)
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        self.history_of(oid, before.min(as_of.next()), limit)
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        let place = self.revisions.get(&(oid, tid));
        place.map(|&place| self.journal.record(place, oid, tid)).transpose()
    }

    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        self.page(from, through, bytes)
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        Ok(self.objects_from(from, before, max))
    }

    fn size(&self) -> Size {
        self.size
    }

    fn is_read_only(&self) -> bool {
        true
    }
}
