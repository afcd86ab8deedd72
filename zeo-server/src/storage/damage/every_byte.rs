//! Each byte of a small journal in turn is damaged: that is found, located and reported, or does
//! no harm, and all else is read as it was committed.

use std::cell::Cell;

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use crate::storage::disk::{Disk, DiskFile};
use crate::storage::index::{Index, MapIndex};
use crate::storage::testing::{
    IDENTITY, NOW, Simulated, World, commit, committed, delete, new, tiny, transactions, update,
};
use crate::storage::{
    Cursor, Damage, Found, HistoryItem, JournalStorage, OpenError, Operation, Refused,
    SalvagedStorage, Settings, Storage, StorageError,
};

/// An index that covers everything: nothing of the journal is read before it is needed.
#[test]
fn after_closing_in_order_only_what_is_damaged_is_lost() {
    let sound = Sound::new();
    for place in sound.every_damage() {
        match (sound.opened(&sound.full, place), sound.part(place)) {
            (Seen::Read(damaged), Part::SegmentHeader | Part::Padding) => assert_eq!(damaged, []),
            (Seen::Refused(damage), Part::Header(group) | Part::Items(group))
                if group.tid == Tid::ZERO =>
            {
                assert_eq!((damage.offset, damage.after), (0, Tid::ZERO), "{place:?}");
            }
            (Seen::Refused(damage), Part::Header(group)) if group.is_last => {
                assert_eq!((damage.offset, damage.after), (group.start as u64, group.after));
            }
            (Seen::Read(damaged), Part::Header(_)) => assert_eq!(damaged, [], "{place:?}"),
            (Seen::Read(damaged), Part::Items(group)) => {
                assert!(damaged.len() <= 1, "{place:?}: {damaged:?}");
                assert!(damaged.iter().all(|&tid| tid == group.tid), "{place:?}: {damaged:?}");
            }
            (seen, part) => panic!("{place:?} in {part:?}: {seen:?}"),
        }
    }
    assert!(sound.reported.get() > 500, "{} damaged records were read", sound.reported.get());
}

/// A rebuild of the index reads everything; it must not go on beyond what is damaged.
#[test]
fn an_index_is_not_rebuilt_over_damage() {
    let sound = Sound::new();
    for place in sound.every_damage() {
        sound.assert_found_by_reading(place, &MapIndex::default(), Tid::ZERO, false);
    }
}

/// What a killed server wrote since the last checkpoint is read again.
#[test]
fn damage_after_the_last_checkpoint_is_found_by_opening() {
    let sound = Sound::new();
    let covered = sound.halfway.checkpoint().unwrap().unwrap().tid;
    assert!(covered > sound.groups[0].tid && covered < sound.groups.last().unwrap().after);
    for place in sound.every_damage() {
        sound.assert_found_by_reading(place, &sound.halfway, covered, false);
    }
}

/// An index that has an entry of the last group proves that it was durable.
#[test]
fn the_last_group_is_not_cut_if_the_index_knows_it() {
    let sound = Sound::new();
    let covered = sound.drained.checkpoint().unwrap().unwrap().tid;
    assert!(covered < sound.last_tid);
    for place in sound.every_damage() {
        sound.assert_found_by_reading(place, &sound.drained, covered, true);
    }
}

/// Whatever keeps a storage from opening, the rest can be saved: at most a part of one commit is
/// missing, and nothing on the disk is changed.
#[test]
fn what_is_not_damaged_can_be_salvaged() {
    let sound = Sound::new();
    let mut lost_records = 0;
    for place in sound.every_damage() {
        let lost = sound.salvaged(place);
        lost_records += lost.len();
        match sound.part(place) {
            Part::SegmentHeader | Part::Padding => assert_eq!(lost, [], "{place:?}"),
            Part::Header(group) if !group.is_last => assert_eq!(lost, [], "{place:?}"),
            Part::Header(group) | Part::Items(group) => {
                assert!(lost.iter().all(|&tid| tid == group.tid), "{place:?}: {lost:?}");
            }
        }
    }
    assert!(lost_records > 500, "{lost_records}");
}

/// A sound journal of several segments, and what is in it.
struct Sound {
    world: World,
    /// An index from half-way, one that has everything, and one that was closed.
    halfway: MapIndex,
    drained: MapIndex,
    full: MapIndex,
    groups: Vec<Group>,
    /// Every revision, and what a load of it finds.
    revisions: Vec<(Oid, Tid, Found)>,
    items: Vec<HistoryItem>,
    last_tid: Tid,
    /// How many damaged records were reported.
    reported: Cell<usize>,
}

/// A group of one commit, and where it is.
#[derive(Debug, Clone, Copy)]
struct Group {
    segment: u32,
    start: usize,
    /// Its length without padding.
    len: usize,
    /// The last commit before it, and its own.
    after: Tid,
    tid: Tid,
    is_last: bool,
}

/// One byte, and what becomes of it.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u32,
    offset: usize,
    byte: u8,
}

/// What a byte belongs to.
#[derive(Debug, Clone, Copy)]
enum Part {
    SegmentHeader,
    Header(Group),
    Items(Group),
    Padding,
}

/// What came of opening a journal and reading all there is.
#[derive(Debug)]
enum Seen {
    Refused(Damage),
    /// All was right but for damaged records of these commits.
    Read(Vec<Tid>),
    /// The last commit was gone, and all else was right.
    LastIsGone,
}

impl Sound {
    fn new() -> Self {
        let world = World::new(1);
        let storage = open(&world, &world.index).unwrap();
        let mut halfway = MapIndex::default();
        let mut groups = vec![first_group(&world)];
        let mut tids = vec![Tid::ZERO];
        for id in 1..=10 {
            let last = *tids.last().unwrap();
            let records = match id {
                4 => vec![update(1, tids[1], "four"), delete(2, tids[2]), new(id, "4")],
                8 => vec![update(1, tids[4], &"eight ".repeat(20))],
                10 => vec![new(id, "ten")],
                _ => vec![new(id, &"data ".repeat(10)), new(id + 100, "more")],
            };
            let tid = committed(&storage, commit(id, records));
            groups.push(newest_group(&world, last, tid));
            tids.push(tid);
            if id == 5 {
                drain(&storage);
                halfway = world.index.copy();
            }
        }
        groups.last_mut().unwrap().is_last = true;
        let (revisions, items) = (all_revisions(&storage), transactions(&storage));
        drain(&storage);
        let drained = world.index.copy();
        storage.close().unwrap();
        let (full, last_tid) = (world.index.copy(), storage.last_tid());
        drop(storage);
        assert!(world.disk.list().unwrap().len() >= 3);
        let reported = Cell::new(0);
        Self { world, halfway, drained, full, groups, revisions, items, last_tid, reported }
    }

    /// Every byte, with a bit of it flipped, and zeroed.
    fn every_damage(&self) -> impl Iterator<Item = Place> + '_ {
        let segments = self.world.disk.list().unwrap().len();
        (1..=u32::try_from(segments).unwrap()).flat_map(|segment| {
            let bytes = self.world.segment(segment);
            bytes.into_iter().enumerate().flat_map(move |(offset, byte)| {
                let flipped = Some(byte ^ 1 << (offset % 8));
                let zeroed = (byte != 0).then_some(0);
                let damages = [flipped, zeroed].into_iter().flatten();
                damages.map(move |byte| Place { segment, offset, byte })
            })
        })
    }

    fn part(&self, place: Place) -> Part {
        let Place { segment, offset, .. } = place;
        if offset < 64 {
            return Part::SegmentHeader;
        }
        let here = |group: &&Group| group.segment == segment && group.start <= offset;
        let group = *self.groups.iter().rfind(here).unwrap();
        match offset - group.start {
            0..48 => Part::Header(group),
            within if within < group.len => Part::Items(group),
            _ => Part::Padding,
        }
    }

    /// Opens a copy that is damaged in that place, and reads everything.
    fn opened(&self, index: &MapIndex, place: Place) -> Seen {
        let world = self.world.copy();
        let name = format!("{:08}.log", place.segment);
        world.disk.open(&name).unwrap().write_at(&[place.byte], place.offset as u64).unwrap();
        match open(&world, &index.copy()) {
            Ok(storage) if storage.last_tid() == self.last_tid => {
                let header = |world: &World| world.segment(place.segment)[..64].to_vec();
                assert_eq!(header(&world), header(&self.world), "it is healed");
                self.assert_transactions_are_read_around(&storage, place);
                self.read(&storage, &name)
            }
            Ok(storage) => self.assert_only_the_last_is_gone(&storage),
            Err(OpenError::Damaged(damage)) => {
                assert_eq!(damage.file, format!("journal/{name}"), "{place:?}");
                Seen::Refused(damage)
            }
            Err(error) => panic!("{place:?}: {error}"),
        }
    }

    /// The commits of damaged records; all others must be as they were committed.
    fn read(&self, storage: &Simulated, name: &str) -> Seen {
        let mut damaged = Vec::new();
        for (oid, tid, sound) in &self.revisions {
            let record = storage.load_record(*oid, *tid);
            match storage.load_before(*oid, tid.next(), Tid::MAX) {
                Ok(Found::Deleted(_)) => {}
                Ok(found) => {
                    assert_eq!(found, *sound);
                    assert_eq!(record.unwrap().unwrap().data.as_ref(), data(sound));
                }
                Err(StorageError::Damaged(text)) => {
                    let names = [format!("journal/{name} at byte"), oid.to_string()];
                    assert!(names.iter().all(|name| text.contains(name)), "{text}");
                    assert_eq!(record.unwrap_err().to_string(), format!("damaged: {text}"));
                    damaged.push(*tid);
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.reported.set(self.reported.get() + damaged.len());
        Seen::Read(damaged)
    }

    /// All before a damaged transaction is read, and all after it; the damage itself is an error that
    /// says where it is. Behind a damaged header of a group others may be hidden as well.
    fn assert_transactions_are_read_around(&self, storage: &Simulated, place: Place) {
        let (found, error) = read_from(storage, Tid::ZERO);
        let (group, hidden) = match self.part(place) {
            Part::Header(group) | Part::Items(group) if group.tid == Tid::ZERO => {
                return assert_eq!((found, error), (self.items.clone(), None));
            }
            Part::SegmentHeader | Part::Padding => {
                return assert_eq!((found, error), (self.items.clone(), None));
            }
            Part::Header(group) => (group, true),
            Part::Items(group) => (group, false),
        };
        let is_before = |item: &&HistoryItem| tid_of(item).is_none_or(|tid| tid < group.tid);
        let before = self.items.iter().take_while(is_before).count();
        assert!(self.items.starts_with(&found) && found.len() >= before, "{place:?}");
        let names = format!("journal/{:08}.log at byte", place.segment);
        assert!(error.is_some_and(|error| error.contains(&names)), "{place:?}");
        let (rest, error) = read_from(storage, group.tid.next());
        assert!(error.is_none() || hidden, "{place:?}: {error:?}");
        let is_after = |item: &HistoryItem| tid_of(item).is_some_and(|tid| tid > group.tid);
        let after = self.items.iter().position(is_after).unwrap_or(self.items.len());
        assert!(error.is_some() || rest == self.items[after..], "{place:?}");
    }

    /// The commits of which something is missing when what is whole is read.
    fn salvaged(&self, place: Place) -> Vec<Tid> {
        let world = self.world.copy();
        let name = format!("{:08}.log", place.segment);
        world.disk.open(&name).unwrap().write_at(&[place.byte], place.offset as u64).unwrap();
        let before = world.segment(place.segment);
        let storage = SalvagedStorage::open(world.disk.clone()).unwrap();
        let is_lost = |(oid, tid, sound): &&(Oid, Tid, Found)| {
            let found = storage.load_before(*oid, tid.next(), Tid::MAX).unwrap();
            if serial(&found) != Some(*tid) {
                return true;
            }
            assert_eq!(data(&found), data(sound), "{place:?}");
            false
        };
        let lost = self.revisions.iter().filter(is_lost).map(|&(_, tid, _)| tid).collect();
        let refused = storage.apply(&[Operation::ReserveOids(1)], NOW);
        assert!(matches!(refused[..], [Err(Refused::Failed(_))]), "{refused:?}");
        assert_eq!(world.segment(place.segment), before);
        lost
    }

    fn assert_only_the_last_is_gone(&self, storage: &Simulated) -> Seen {
        let last = self.groups.last().unwrap();
        assert_eq!(storage.last_tid(), last.after);
        for (oid, tid, sound) in self.revisions.iter().filter(|(_, tid, _)| *tid < last.tid) {
            let found = storage.load_before(*oid, tid.next(), last.after).unwrap();
            let hidden = without_end(sound, last.tid);
            assert_eq!(found, hidden);
        }
        Seen::LastIsGone
    }

    /// Asserts what must come of damage in a journal that is read from after `covered` on.
    ///
    /// In the last group it cannot be told from a torn tail unless the index knows that; what was
    /// damaged before what is read is found when it is needed.
    fn assert_found_by_reading(
        &self,
        place: Place,
        index: &MapIndex,
        covered: Tid,
        last_is_known: bool,
    ) {
        match (self.opened(index, place), self.part(place)) {
            (Seen::Read(damaged), Part::SegmentHeader | Part::Padding) => assert_eq!(damaged, []),
            (Seen::Refused(damage), Part::Header(group) | Part::Items(group))
                if group.tid == Tid::ZERO =>
            {
                assert_eq!((damage.offset, damage.after), (0, Tid::ZERO), "{place:?}");
            }
            (Seen::Read(damaged), Part::Header(group)) if group.tid < covered => {
                assert_eq!(damaged, [], "{place:?}");
            }
            (Seen::Read(damaged), Part::Items(group)) if group.tid <= covered => {
                assert!(damaged.iter().all(|&tid| tid == group.tid), "{place:?}: {damaged:?}");
            }
            (Seen::LastIsGone, Part::Header(group) | Part::Items(group))
                if group.is_last && !last_is_known => {}
            (Seen::Refused(damage), Part::Header(group) | Part::Items(group)) => {
                let found = last_is_known || !group.is_last;
                assert!(found && group.tid >= covered, "{place:?}: {damage}");
                let found = (damage.offset, damage.after);
                assert_eq!(found, (group.start as u64, group.after), "{place:?}: {damage}");
            }
            (seen, part) => panic!("{place:?} in {part:?}: {seen:?}"),
        }
    }
}

/// All transactions from one on, up to an error.
fn read_from(storage: &Simulated, tid: Tid) -> (Vec<HistoryItem>, Option<String>) {
    let (mut items, mut next) = (Vec::new(), Some(Cursor::new(tid)));
    while let Some(cursor) = next {
        match storage.transactions(&cursor, Tid::MAX, 1_000) {
            Ok(page) => {
                items.extend(page.items);
                next = page.next;
            }
            Err(StorageError::Damaged(text)) => return (items, Some(text)),
            Err(error) => panic!("{error}"),
        }
    }
    (items, None)
}

fn tid_of(item: &HistoryItem) -> Option<Tid> {
    match item {
        HistoryItem::Transaction(head) => Some(head.tid),
        HistoryItem::Record(_) => None,
    }
}

fn serial(found: &Found) -> Option<Tid> {
    match found {
        Found::Revision(validity, _) | Found::Deleted(validity) => Some(validity.serial),
        Found::Absent => None,
    }
}

fn data(found: &Found) -> Option<&Bytes> {
    match found {
        Found::Revision(_, data) => Some(data),
        Found::Deleted(_) | Found::Absent => None,
    }
}

fn drain(storage: &Simulated) {
    while storage.overlay_len() > 0 {
        storage.index_some().unwrap();
    }
}

fn open(world: &World, index: &MapIndex) -> Result<Simulated, OpenError> {
    let index = index.clone();
    let settings = Settings { segment_bytes: 640, overlay_entries: 100, index_step: 3, ..tiny() };
    JournalStorage::open(world.disk.clone(), || Ok(index), settings, IDENTITY.uuid)
}

fn first_group(world: &World) -> Group {
    let len = world.segment(1).len() - 64;
    Group { segment: 1, start: 64, len, after: Tid::ZERO, tid: Tid::ZERO, is_last: false }
}

/// The group at the end of the journal.
fn newest_group(world: &World, after: Tid, tid: Tid) -> Group {
    let segment = u32::try_from(world.disk.list().unwrap().len()).unwrap();
    let bytes = world.segment(segment);
    let is_start = |&at: &usize| bytes[at..].starts_with(b"ZGRP");
    let start = (0..bytes.len()).step_by(8).rfind(is_start).unwrap();
    let items = bytes[start + 12..start + 16].try_into().unwrap();
    let len = 48 + usize::try_from(u32::from_be_bytes(items)).unwrap();
    Group { segment, start, len, after, tid, is_last: false }
}

fn all_revisions(storage: &Simulated) -> Vec<(Oid, Tid, Found)> {
    let mut revisions = Vec::new();
    for oid in (0..120).map(Oid::new) {
        let mut before = Tid::MAX;
        loop {
            let found = storage.load_before(oid, before, Tid::MAX).unwrap();
            let (Found::Revision(validity, _) | Found::Deleted(validity)) = &found else { break };
            before = validity.serial;
            revisions.push((oid, before, found));
        }
    }
    revisions
}

/// What is found by a reader who knows nothing of the commit `end`.
fn without_end(found: &Found, end: Tid) -> Found {
    let mut found = found.clone();
    if let Found::Revision(validity, _) | Found::Deleted(validity) = &mut found {
        validity.end = validity.end.filter(|&tid| tid != end);
    }
    found
}
