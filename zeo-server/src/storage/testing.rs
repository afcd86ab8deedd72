//! What the tests of storages share: short ways to say things, and the model they are held against.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_proto::{Identity, Oid, Outcome, OutcomeQuery, Tid, TxnId, TxnMeta, Validity};

use super::disk::{Disk, DiskFile, Random, SimDisk};
use super::index::MapIndex;
use super::{
    Applied, Changes, Commit, Cursor, Found, HistoryEntry, HistoryItem, HistoryLimit,
    JournalStorage, OpenError, Operation, Record, Refused, Settings, Storage,
};

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
    storage.apply(vec![Operation::Commit(commit)], NOW).pop().unwrap()
}

pub(super) fn committed(storage: &dyn Storage, commit: Commit) -> Tid {
    match apply(storage, commit) {
        Ok(Applied::Committed(tid)) => tid,
        answer => panic!("{answer:?}"),
    }
}

pub(super) fn outcome(storage: &dyn Storage, id: u64) -> Outcome {
    match storage.apply(vec![Operation::Outcome(query(id))], NOW).pop().unwrap() {
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

/// What a storage should hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    revisions: BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>>,
    transactions: BTreeMap<Tid, BTreeSet<Oid>>,
    outcomes: BTreeMap<TxnId, Tid>,
    ids: u64,
}

impl Model {
    pub(super) fn last_tid(&self) -> Tid {
        self.transactions.last_key_value().map_or(Tid::ZERO, |(&tid, _)| tid)
    }

    /// A commit of a few objects, mostly one that should succeed.
    pub(super) fn random_commit(&mut self, random: &mut Random) -> Commit {
        self.ids += 1;
        let count = random.below(4);
        let records = (0..count).map(|_| self.random_record(random)).collect::<Vec<_>>();
        let snapshot = self.last_tid();
        let read_current = match random.below(4) {
            0 => vec![(Oid::new(3), self.current(Oid::new(3)))],
            _ => Vec::new(),
        };
        Commit { snapshot, read_current, ..commit(self.ids, records) }
    }

    fn random_record(&self, random: &mut Random) -> Record {
        let oid = Oid::new(random.below(12));
        let serial = match random.below(12) {
            0 => Some(Tid::new(random.below(9))),
            1 => None,
            _ => Some(self.current(oid)),
        };
        let len = [3, 40, 700, 3_000][usize::try_from(random.below(4)).unwrap()];
        if random.below(9) == 0 {
            return Record::delete(oid, serial);
        }
        Record::store(oid, serial, random_bytes(random, len), (len > 3).then(|| vec![oid; 3]))
    }

    /// Takes note of an answer, which must be the one that the rules demand.
    pub(super) fn answered(&mut self, commit: &Commit, answer: &Result<Applied, Refused>) {
        match answer {
            Ok(Applied::Committed(tid)) => {
                assert!(!self.conflicts(commit), "{commit:?} was committed");
                assert!(*tid > self.last_tid());
                self.insert(commit, *tid);
            }
            Err(Refused::Conflict(_)) => assert!(self.conflicts(commit), "{commit:?} was not"),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn insert(&mut self, commit: &Commit, tid: Tid) {
        let oids = self.transactions.entry(tid).or_default();
        for record in &commit.records {
            oids.insert(record.oid);
            self.revisions.entry(record.oid).or_default().insert(tid, record.body.held().cloned());
        }
        self.outcomes.insert(commit.id, tid);
    }

    pub(super) fn conflicts(&self, commit: &Commit) -> bool {
        let later = |oid| commit.records.iter().rfind(|record| record.oid == oid).unwrap();
        let stale = |oid| match later(oid).serial {
            Some(read) => self.current(oid) != read,
            None => self.current(oid) > commit.snapshot,
        };
        let depends = |&(oid, read): &(Oid, Tid)| self.current(oid) != read;
        commit.records.iter().any(|record| stale(record.oid))
            || commit.read_current.iter().any(depends)
    }

    fn current(&self, oid: Oid) -> Tid {
        let last = self.revisions.get(&oid).and_then(BTreeMap::last_key_value);
        last.map_or(Tid::ZERO, |(&tid, _)| tid)
    }

    fn found(&self, oid: Oid, before: Tid, as_of: Tid) -> Found {
        let Some(all) = self.revisions.get(&oid) else { return Found::Absent };
        let seen = all.range(..=as_of).rev().find(|&(&tid, _)| tid < before);
        let Some((&serial, data)) = seen else { return Found::Absent };
        let end =
            all.range(serial.next()..).next().map(|(&tid, _)| tid).filter(|&end| end <= as_of);
        let validity = Validity { serial, end };
        match data {
            Some(data) => Found::Revision(validity, data.clone()),
            None => Found::Deleted(validity),
        }
    }

    /// Compares every load at every tid, every outcome, and what changed since some tids.
    pub(super) fn check(&self, storage: &dyn Storage) {
        assert_eq!(storage.last_tid(), self.last_tid());
        let tids = || self.transactions.keys().copied();
        for oid in (0..12).map(Oid::new) {
            for tid in tids().chain([Tid::MAX]) {
                for (before, as_of) in [(tid, Tid::MAX), (Tid::MAX, tid), (tid, tid)] {
                    let found = storage.load_before(oid, before, as_of).unwrap();
                    assert_eq!(found, self.found(oid, before, as_of), "{oid} {before} {as_of}");
                }
            }
        }
        for since in tids().step_by(9).chain([Tid::ZERO]) {
            let newer = self.transactions.range(since.next()..).flat_map(|(_, oids)| oids);
            let oids: BTreeSet<Oid> = newer.copied().collect();
            assert_eq!(changes(storage, since), objects(oids.iter().map(|oid| oid.number())));
        }
        self.check_outcomes(storage);
    }

    fn check_outcomes(&self, storage: &dyn Storage) {
        for (&id, &tid) in &self.outcomes {
            let query = OutcomeQuery { id, ..query(0) };
            let answers = storage.apply(vec![Operation::Outcome(query)], NOW);
            assert_eq!(answers, [Ok(Applied::Outcome(Outcome::Committed(tid)))]);
        }
    }
}

fn random_bytes(random: &mut Random, len: usize) -> Bytes {
    std::iter::repeat_with(|| random.next_u64().to_be_bytes()[7]).take(len).collect()
}
