//! Sound journals as fuzzed bytes ask for them, and what is in them.

use std::ops::Range;

use bytes::Bytes;
use zeo_proto::{Oid, Tid, TxnId, TxnMeta};

use super::{Files, IDENTITY, LIMIT, Simulated, TINY, disk_with, files_of, open};
use crate::storage::disk::SimDisk;
use crate::storage::index::{Index, MapIndex, Place};
use crate::storage::journal::craft::items_of;
use crate::storage::journal::{Item, Opening, Position, START};
use crate::storage::{Applied, Changes, Commit, Found, Operation, Record, Refused, Storage};

/// A journal, the index as its last process left it, and all that was committed.
#[derive(Debug)]
pub(super) struct History {
    pub(super) files: Files,
    pub(super) index: MapIndex,
    pub(super) groups: Vec<Span>,
    pub(super) revisions: Vec<Revision>,
}

/// Where a group and its items are, and the last transaction up to its end.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) at: Position,
    pub(super) items: Range<u32>,
    pub(super) end: Position,
    pub(super) tid: Tid,
}

/// One revision of an object: where its record is, in which group, and what it holds.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) oid: Oid,
    pub(super) serial: Tid,
    pub(super) place: Place,
    pub(super) group: usize,
    pub(super) found: Found,
}

impl History {
    /// Commits what the script asks for; the storage is closed in order, or not.
    pub(super) fn make(script: &mut Script<'_>) -> Self {
        let (disk, index) = (SimDisk::new(1), MapIndex::default());
        let storage = open(&disk, &index).expect("there is nothing yet");
        let (commits, style) = (1 + script.byte() % 24, script.byte());
        for number in 0..commits {
            live(&storage, number, script.byte(), style);
        }
        if style & 0x80 == 0 {
            storage.close().expect("nothing fails on this disk");
        }
        drop(storage);
        let files = files_of(&disk);
        let groups = groups(&disk, &files);
        let revisions = revisions(&files, &groups);
        Self { files, index, groups, revisions }
    }

    /// How many groups the index's checkpoint covers.
    pub(super) fn covered(&self) -> usize {
        let checkpoint = self.index.checkpoint().expect("nothing fails in this index");
        let covered = |group: &Span| checkpoint.is_some_and(|it| group.end <= it.end);
        self.groups.iter().take_while(|group| covered(group)).count()
    }

    /// Where the first `count` groups end, and the last transaction until there.
    pub(super) fn end(&self, count: usize) -> (Position, Tid) {
        let last = count.checked_sub(1).and_then(|at| self.groups.get(at));
        last.map_or((Position { offset: 0, ..START }, Tid::ZERO), |group| (group.end, group.tid))
    }
}

/// One or two transactions in one group, and chores.
fn live(storage: &Simulated, number: u8, what: u8, style: u8) {
    let mut group = vec![Operation::Commit(commit(number, what))];
    if what & 0x40 != 0 {
        group.push(Operation::Commit(commit(number + 100, what ^ 9)));
    }
    for answer in storage.apply(&group, NOW) {
        assert!(matches!(answer, Ok(Applied::Committed(_))), "{answer:?}");
    }
    if style & 1 != 0 && number % 4 == style >> 1 & 3 {
        storage.index_some().expect("nothing fails in this index");
    }
    if style & 8 != 0 {
        storage.prepare().expect("nothing fails on this disk");
    }
}

fn commit(number: u8, what: u8) -> Commit {
    let len = [0, 5, 60, 900].get(usize::from(what >> 3 & 3)).copied().unwrap_or(0);
    let oid = Oid::new(u64::from(what % 6));
    let data = |len| Bytes::from(vec![number; len]);
    let first = match what & 0x20 {
        0 => Record::store(oid, None, data(len), Some(vec![oid; usize::from(what % 3)])),
        _ => Record::delete(oid, None),
    };
    let second = Record::store(Oid::new(oid.number() + 10), None, data(8), None);
    Commit {
        id: TxnId::from_bytes([number; 16]),
        snapshot: Tid::MAX,
        meta: TxnMeta { user: "u".into(), description: String::new(), extension: vec![what] },
        records: vec![first, second],
        read_current: Vec::new(),
        restore: None,
    }
}

/// Commits to an object, which is then what was committed; unless there is no tid left, or a
/// transaction of that name.
pub(super) fn takes_a_commit(storage: &Simulated, oid: Oid) {
    let data = Bytes::from_static(b"new");
    let records = vec![Record::store(oid, None, data.clone(), None)];
    let last = storage.last_tid();
    let id = TxnId::from_bytes((1_u128 << 64 | u128::from(last.number())).to_be_bytes());
    let commit = Commit { id, records, ..commit(0, 0) };
    match storage.apply(&[Operation::Commit(commit)], NOW).pop() {
        Some(Ok(Applied::Committed(tid))) if tid > last => {
            let found = storage.load_before(oid, Tid::MAX, tid);
            let is_new =
                matches!(&found, Ok(Found::Revision(now, it)) if now.serial == tid && *it == data);
            assert!(is_new, "{found:?}");
        }
        Some(Ok(Applied::Committed(_)) | Err(Refused::Failed(_))) => {}
        other => panic!("{other:?}"),
    }
}

fn groups(disk: &SimDisk, files: &Files) -> Vec<Span> {
    let opening = Opening::find(disk.clone(), [0; 16], TINY.segment_bytes).expect("it is sound");
    let mut walker = opening.walk(START);
    let (mut groups, mut tid) = (Vec::new(), Tid::ZERO);
    while let Some(group) = walker.next().expect("nothing fails on this disk") {
        for item in group.items {
            if let Ok(Item::Transaction { tid: next, .. }) = item {
                tid = next;
            }
        }
        let (at, end) = (group.at, group.end);
        let file = files.get(&at.segment).map(Vec::as_slice).unwrap_or_default();
        let items = items_of(file, at.offset, IDENTITY.uuid).expect("it is sound");
        groups.push(Span { at, items, end, tid });
    }
    groups
}

/// All revisions, as a new index of the same files knows them.
fn revisions(files: &Files, groups: &[Span]) -> Vec<Revision> {
    let index = MapIndex::default();
    let storage = open(&disk_with(files), &index).expect("it is sound");
    storage.close().expect("nothing fails in this index");
    let Ok(Changes::Objects(oids)) = storage.changes_since(Tid::ZERO, Tid::MAX, LIMIT) else {
        panic!("it is sound, and small");
    };
    let mut all = Vec::new();
    for oid in oids {
        let mut before = Tid::MAX;
        while let Ok(Some((serial, place))) = index.revision_before(oid, before) {
            let group = groups.partition_point(|group| group.end <= place.at);
            let found = storage.load_before(oid, before, Tid::MAX).expect("it is sound");
            all.push(Revision { oid, serial, place, group, found });
            before = serial;
        }
    }
    all
}

/// Fuzzed bytes as a series of decisions; zeros once they are used up.
#[derive(Debug)]
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl Script<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `bound`; 0 if there is none.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let number = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        number.checked_rem(bound).unwrap_or(0)
    }
}

/// 2026-11-21 00:16:36 UTC.
const NOW: u64 = 1_795_220_196_000_000;
