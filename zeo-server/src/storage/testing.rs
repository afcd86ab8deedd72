//! What the tests of storages share: short ways to say things, and the model they are held against.

mod model;

use bytes::Bytes;
use zeo_proto::{Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId, TxnMeta, Validity};

use super::disk::{Disk, DiskFile, SimDisk};
use super::index::MapIndex;
use super::{
    Applied, Changes, Commit, Cursor, Found, HistoryEntry, HistoryItem, HistoryLimit,
    JournalStorage, OpenError, Operation, Record, Refused, Settings, Storage,
};

pub(super) use model::Model;

pub(super) const IDENTITY: Identity = Identity { uuid: [5; 16], epoch: 1 };
/// 2026-11-21 00:16:36 UTC.
pub(super) const NOW: u64 = 1_795_220_196_000_000;

/// Everything so small that a few commits reach every bound.
pub(super) fn tiny() -> Settings {
    Settings {
        segment_bytes: 2_048,
        group_bytes: 1_024,
        overlay_entries: 24,
        checkpoint_entries: 16,
        index_step: 5,
        fences: 4,
        quota_bytes: None,
    }
}

pub(super) fn new(oid: u64, data: &str) -> Record {
    let data = Bytes::copy_from_slice(data.as_bytes());
    Record::store(Oid::new(oid), Some(Tid::ZERO), data, None)
}

pub(super) fn update(oid: u64, read: Tid, data: &str) -> Record {
    let data = Bytes::copy_from_slice(data.as_bytes());
    Record::store(Oid::new(oid), Some(read), data, Some(vec![Oid::ROOT]))
}

pub(super) fn delete(oid: u64, read: Tid) -> Record {
    Record::delete(Oid::new(oid), Some(read))
}

pub(super) fn commit(id: u64, records: impl IntoIterator<Item = Record>) -> Commit {
    Commit {
        id: txn_id(id),
        snapshot: Tid::ZERO,
        meta: TxnMeta { user: "us".into(), description: "de".into(), extension: vec![1] },
        records: records.into_iter().collect(),
        read_current: Vec::new(),
        restore: None,
    }
}

pub(super) fn txn_id(id: u64) -> TxnId {
    TxnId::from_bytes(u128::from(id).to_be_bytes())
}

pub(super) fn query(id: u64) -> OutcomeQuery {
    OutcomeQuery { id: txn_id(id), snapshot: Tid::ZERO, epoch: IDENTITY.epoch }
}

pub(super) fn apply(storage: &dyn Storage, commit: Commit) -> Result<Applied, Refused> {
    storage.apply(&[Operation::Commit(commit)], NOW).pop().unwrap()
}

pub(super) fn committed(storage: &dyn Storage, commit: Commit) -> Tid {
    match apply(storage, commit) {
        Ok(Applied::Committed(tid)) => tid,
        answer => panic!("{answer:?}"),
    }
}

pub(super) fn outcome(storage: &dyn Storage, id: u64) -> Outcome {
    match storage.apply(&[Operation::Outcome(query(id))], NOW).pop().unwrap() {
        Ok(Applied::Outcome(outcome)) => outcome,
        answer => panic!("{answer:?}"),
    }
}

pub(super) fn load(storage: &dyn Storage, oid: u64) -> Found {
    storage.load_before(Oid::new(oid), Tid::MAX, Tid::MAX).unwrap()
}

pub(super) fn revision(serial: Tid, end: Option<Tid>, data: &str) -> Found {
    Found::Revision(Validity { serial, end }, Bytes::copy_from_slice(data.as_bytes()))
}

pub(super) fn changes(storage: &dyn Storage, since: Tid) -> Changes {
    sorted(storage.changes_since(since, Tid::MAX, 1_000).unwrap())
}

pub(super) fn sorted(changes: Changes) -> Changes {
    let Changes::Objects(mut oids) = changes else { return changes };
    oids.sort();
    Changes::Objects(oids)
}

pub(super) fn objects(numbers: impl IntoIterator<Item = u64>) -> Changes {
    Changes::Objects(numbers.into_iter().map(Oid::new).collect())
}

/// All transactions from a cursor on, in pages of so many bytes; between two pages the cursor may
/// be changed.
pub(super) fn pages(
    storage: &dyn Storage,
    from: Cursor,
    (through, bytes): (Tid, usize),
    between: impl Fn(Cursor) -> Cursor,
) -> Vec<HistoryItem> {
    let (mut items, mut next) = (Vec::new(), Some(from));
    while let Some(cursor) = next {
        let page = storage.transactions(&cursor, through, bytes).unwrap();
        let all: usize = page.items.iter().map(HistoryItem::size).sum();
        let first = matches!(page.items[..], [_] | [HistoryItem::Transaction(_), _] | []);
        assert!(first || all <= bytes, "{all} bytes on a page of {bytes}");
        assert!(page.next.is_none() || !page.items.is_empty());
        items.extend(page.items);
        next = page.next.map(&between);
    }
    items
}

/// All transactions.
pub(super) fn transactions(storage: &dyn Storage) -> Vec<HistoryItem> {
    pages(storage, Cursor::new(Tid::ZERO), (Tid::MAX, 1 << 20), |cursor| cursor)
}

/// All objects, and their serials.
pub(super) fn live(storage: &dyn Storage, before: Tid, max: usize) -> Vec<(Oid, Tid)> {
    let (mut all, mut next) = (Vec::new(), Some(Oid::ROOT));
    while let Some(from) = next {
        let page = storage.objects(from, before, max).unwrap();
        assert!(page.objects.len() <= max);
        assert!(page.next.is_none_or(|next| next > from));
        all.extend(page.objects);
        next = page.next;
    }
    all
}

/// The whole history of an object, so many entries at a time.
pub(super) fn history(storage: &dyn Storage, oid: u64, entries: usize) -> Vec<HistoryEntry> {
    let limit = HistoryLimit { entries, bytes: 1 << 20 };
    let (mut all, mut before) = (Vec::<HistoryEntry>::new(), Tid::MAX);
    loop {
        let some = storage.history(Oid::new(oid), before, Tid::MAX, limit).unwrap();
        assert!(some.len() <= entries);
        let Some(last) = some.last() else { return all };
        before = last.tid;
        all.extend(some);
    }
}

/// A simulated disk, and an index beside it.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) index: MapIndex,
    pub(super) uuid: [u8; 16],
}

pub(super) type Simulated = JournalStorage<SimDisk, MapIndex>;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), index: MapIndex::default(), uuid: IDENTITY.uuid }
    }

    pub(super) fn open(&self) -> Result<Simulated, OpenError> {
        self.open_with(tiny())
    }

    pub(super) fn open_with(&self, settings: Settings) -> Result<Simulated, OpenError> {
        let index = self.index.clone();
        JournalStorage::open(self.disk.clone(), || Ok(index), settings, self.uuid)
    }

    /// A storage with that many commits.
    pub(super) fn filled(&self, commits: u64) -> Simulated {
        let storage = self.open().unwrap();
        for id in 1..=commits {
            committed(&storage, commit(id, [new(id, &"data ".repeat(40))]));
        }
        storage
    }

    /// The same files on another disk, without the index.
    pub(super) fn copy(&self) -> Self {
        let copy = Self { uuid: self.uuid, ..Self::new(1) };
        for name in self.disk.list().unwrap() {
            let number = name.trim_end_matches(".log").parse().unwrap();
            copy.put_segment(number, &self.segment(number));
        }
        copy
    }

    pub(super) fn segment(&self, number: u32) -> Vec<u8> {
        let file = self.disk.open(&format!("{number:08}.log")).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub(super) fn put_segment(&self, number: u32, bytes: &[u8]) {
        let name = format!("{number:08}.log");
        let file = self.disk.open(&name).or_else(|_| self.disk.create(&name)).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        self.disk.sync_dir().unwrap();
    }
}
