//! The past of a storage on disk: what each object was, and the journal page by page.

use std::collections::BTreeMap;

use zeo_proto::{Oid, Tid};

use super::JournalStorage;
use crate::storage::disk::Disk;
use crate::storage::history::{Entries, ITEM, PageBuilder, objects_page};
use crate::storage::index::{Index, IndexError, Place};
use crate::storage::journal::{Ahead, Item, RECORD_HEAD, Reader};
use crate::storage::{
    Cursor, CursorPlace, HistoryEntry, HistoryLimit, ObjectsPage, StorageError, TransactionHead,
    TransactionsPage,
};

impl<D: Disk, I: Index> JournalStorage<D, I> {
    /// The transactions that wrote an object, the newest first, before `bound`.
    pub(super) fn history_of(
        &self,
        oid: Oid,
        mut bound: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        let mut entries = Entries::new(limit);
        let mut searched = 0;
        while let Some((tid, place)) = self.last_before(oid, bound)? {
            let (head, passed) = self.head(tid)?;
            searched += passed;
            let len = if place.deleted { 0 } else { self.journal.data_len(place, oid, tid)? };
            let entry = HistoryEntry { tid, meta: head.meta, len, deleted: place.deleted };
            if !entries.push(entry) || searched > MOST_SEARCHED {
                break;
            }
            bound = tid;
        }
        Ok(entries.list)
    }

    /// The head of a transaction that is there, and how many bytes of the journal were passed over
    /// on the way to it.
    fn head(&self, tid: Tid) -> Result<(TransactionHead, u64), StorageError> {
        let mut reader = self.search(&Cursor::new(tid), LEAST_READ)?;
        match reader.peek()? {
            Some(ahead) if is_transaction(&ahead, tid) => {
                Ok((reader.transaction(&ahead)?, reader.passed()))
            }
            Some(_) | None => Err(reader.damaged(&format!("transaction {tid} is missing"))),
        }
    }

    /// The objects from `from` on for who knows of no commit from `before` on.
    pub(super) fn objects_from(
        &self,
        from: Oid,
        before: Tid,
        max: usize,
    ) -> Result<ObjectsPage, StorageError> {
        Ok(objects_page(from, max, |from, count| self.latest(from, before, count))?)
    }

    /// The first `count` objects, each with its serial if it is there. The overlay is looked at
    /// first: what leaves it is in the index by then.
    fn latest(
        &self,
        from: Oid,
        before: Tid,
        count: usize,
    ) -> Result<Vec<(Oid, Option<Tid>)>, IndexError> {
        let recent = self.overlay().latest(from, before, count);
        let mut all: BTreeMap<Oid, Option<(Tid, Place)>> =
            self.index.latest(from, before, count)?.into_iter().collect();
        for (oid, last) in recent {
            let known = all.entry(oid).or_default();
            *known = last.or(*known);
        }
        let serial = |(tid, place): (Tid, Place)| (!place.deleted).then_some(tid);
        Ok(all.into_iter().take(count).map(|(oid, last)| (oid, last.and_then(serial))).collect())
    }

    /// A page of transactions.
    pub(super) fn page(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        let page = PageBuilder::new(bytes);
        if from.tid > through {
            return Ok(page.end());
        }
        let step = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(LEAST_READ, MOST_READ);
        let reader = match self.known_place(from, step)? {
            Some(reader) => reader,
            None => self.search(from, step)?,
        };
        let uuid = self.identity.uuid;
        let next = Cursor { place: None, ..*from };
        Paging { reader, uuid, through, page, next }.run()
    }

    /// A reader at the place that comes with a cursor, if that is right.
    fn known_place(&self, from: &Cursor, step: u32) -> Result<Option<Reader<'_, D>>, StorageError> {
        let own = |place: &CursorPlace| place.crc == crc(self.identity.uuid, from, place);
        let Some(place) = from.place.filter(own) else { return Ok(None) };
        let mut reader = self.journal.read(place.group, step);
        if !reader.enter(place.group, place.offset)? {
            return Ok(None);
        }
        let is_there = match reader.peek() {
            Ok(Some(ahead)) if from.record == 0 => is_transaction(&ahead, from.tid),
            Ok(Some(ahead)) => {
                matches!(ahead.item, Item::Record { tid, .. } if tid == from.tid)
            }
            Ok(None) | Err(_) => false,
        };
        Ok(is_there.then_some(reader))
    }

    /// A reader at the item that a cursor is about. What is passed over may be damaged.
    fn search(&self, from: &Cursor, step: u32) -> Result<Reader<'_, D>, StorageError> {
        let first = from.tid.max(Tid::ZERO.next());
        let (_, at) = self.milestone(first.previous())?;
        let mut reader = self.journal.read(at, step);
        reader.seek(first)?;
        while let Some(ahead) = reader.peek()? {
            match ahead.item {
                Item::Transaction { tid, .. } if tid >= first => {
                    if tid == from.tid && from.record > 0 {
                        reader.skip(&ahead);
                        skip_records(&mut reader, from.record)?;
                    }
                    break;
                }
                Item::Record { tid, .. } if tid >= first => {
                    return Err(reader.damaged("a record without its transaction"));
                }
                Item::Transaction { .. }
                | Item::Record { .. }
                | Item::Reserved(_)
                | Item::Epoch(_) => reader.skip(&ahead),
            }
        }
        Ok(reader)
    }
}

fn skip_records<D: Disk>(reader: &mut Reader<'_, D>, count: u32) -> Result<(), StorageError> {
    for _ in 0..count {
        match reader.peek()? {
            Some(ahead) if matches!(ahead.item, Item::Record { .. }) => reader.skip(&ahead),
            Some(_) | None => break,
        }
    }
    Ok(())
}

fn is_transaction(ahead: &Ahead, wanted: Tid) -> bool {
    matches!(ahead.item, Item::Transaction { tid, .. } if tid == wanted)
}

/// A page in the making, and where in the journal it has come to.
struct Paging<'a, D: Disk> {
    reader: Reader<'a, D>,
    uuid: [u8; 16],
    through: Tid,
    page: PageBuilder,
    /// The next record: of which transaction, and its number. Before the first transaction, what
    /// the page was asked for.
    next: Cursor,
}

impl<D: Disk> Paging<'_, D> {
    fn run(mut self) -> Result<TransactionsPage, StorageError> {
        loop {
            match self.step() {
                Ok(Step::On) => {}
                Ok(Step::End) => return Ok(self.page.end()),
                Ok(Step::Full(next)) => return Ok(self.page.cut(next)),
                Err(error) => {
                    let page = self.page.cut(self.next);
                    return if page.items.is_empty() { Err(error) } else { Ok(page) };
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, StorageError> {
        self.reader.set_step(read_at_once(self.page.room()));
        let Some(ahead) = self.reader.peek()? else { return Ok(Step::End) };
        match ahead.item {
            Item::Transaction { .. } => self.transaction(&ahead),
            Item::Record { .. } => self.record(&ahead),
            Item::Reserved(_) | Item::Epoch(_) => self.reader.other(&ahead).map(|()| Step::On),
        }
    }

    fn transaction(&mut self, ahead: &Ahead) -> Result<Step, StorageError> {
        let head = self.reader.transaction(ahead)?;
        if head.tid < self.next.tid {
            return Err(self.reader.damaged("a transaction that is not in order"));
        }
        if head.tid > self.through {
            return Ok(Step::End);
        }
        let at = self.cursor(head.tid, 0, ahead);
        if !self.page.has_room(head.size()) {
            return Ok(Step::Full(at));
        }
        self.next = Cursor { record: 0, place: None, tid: head.tid };
        self.page.transaction(head, at);
        Ok(Step::On)
    }

    fn record(&mut self, ahead: &Ahead) -> Result<Step, StorageError> {
        let Cursor { tid, record, .. } = self.next;
        if !self.page.has_room(record_size(ahead)) {
            return Ok(Step::Full(self.cursor(tid, record, ahead)));
        }
        self.page.record(self.reader.record(ahead, tid)?);
        self.next.record = record.saturating_add(1);
        Ok(Step::On)
    }

    fn cursor(&self, tid: Tid, record: u32, ahead: &Ahead) -> Cursor {
        let place = CursorPlace { group: ahead.group, offset: ahead.offset, crc: 0 };
        let cursor = Cursor { tid, record, place: None };
        let place = CursorPlace { crc: crc(self.uuid, &cursor, &place), ..place };
        Cursor { place: Some(place), ..cursor }
    }
}

/// What became of one item.
enum Step {
    On,
    /// There is nothing more.
    End,
    /// It is for the next page.
    Full(Cursor),
}

/// How much to read at once for a page that has so much room: no more than can be of use.
fn read_at_once(room: usize) -> u32 {
    u32::try_from(room).unwrap_or(u32::MAX).clamp(LEAST_AHEAD, MOST_READ)
}

/// What a record counts for, by its length in the journal.
fn record_size(ahead: &Ahead) -> usize {
    (ahead.len as usize).saturating_sub(RECORD_HEAD) + ITEM
}

/// Ties a place to the storage and the cursor that it was made for: one of a backup that was put
/// back since, or of another storage, is not taken for ours by accident.
fn crc(uuid: [u8; 16], cursor: &Cursor, place: &CursorPlace) -> u32 {
    let fields: [&[u8]; 5] = [
        &uuid,
        &cursor.tid.to_bytes(),
        &cursor.record.to_be_bytes(),
        &place.group.to_bytes(),
        &place.offset.to_be_bytes(),
    ];
    fields.iter().fold(0, |crc, field| crc32c::crc32c_append(crc, field))
}

/// Bytes of the journal that one page reads at once: as many as it has, within these. What has just
/// been read is looked at while it is in the CPU's own cache.
const LEAST_READ: u32 = 64 << 10;
const MOST_READ: u32 = 256 << 10;
/// Where a page is almost full: as many as say what comes next.
const LEAST_AHEAD: u32 = 4 << 10;
/// Bytes of the journal that are passed over for one part of an object's history: 64 MiB.
const MOST_SEARCHED: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use zeo_proto::{Oid, Tid};

    use super::*;
    use crate::storage::testing::{
        IDENTITY, NOW, World, commit, committed, new, pages, transactions, update,
    };
    use crate::storage::{Applied, HistoryItem, Operation, Position, Storage};

    /// Whoever knows how a place is made finds nothing that was not committed.
    #[test]
    fn a_forged_place_leads_to_whole_items_or_is_not_taken() {
        let world = World::new(1);
        let storage = world.filled(4);
        let last = committed(&storage, commit(9, [new(9, "a"), new(10, "b"), new(11, "c")]));
        committed(&storage, commit(12, [new(12, "not published yet")]));
        let whole = pages(&storage, Cursor::new(Tid::ZERO), (last, 1 << 20), |cursor| cursor);
        for (group, offset) in (0..world.segment(1).len()).flat_map(|at| [(64, at), (at, 48)]) {
            let group = Position { segment: 1, offset: u32::try_from(group).unwrap() };
            let offset = u32::try_from(offset).unwrap();
            for from in [Cursor::new(last), Cursor { record: 2, ..Cursor::new(last) }] {
                let place = CursorPlace { group, offset, crc: 0 };
                let place = CursorPlace { crc: crc(IDENTITY.uuid, &from, &place), ..place };
                let forged = Cursor { place: Some(place), ..from };
                let page = storage.transactions(&forged, last, 1 << 20).unwrap();
                assert!(whole.ends_with(&page.items), "{forged:?}");
            }
        }
    }

    /// Several transactions of one group, and an object that most of them write.
    #[test]
    fn a_history_is_found_in_the_middle_of_a_group() {
        let world = World::new(1);
        let storage = world.filled(9);
        let mut group = vec![Operation::Commit(commit(20, [new(99, "a")]))];
        group.extend((21..29).map(|id| Operation::Commit(commit(id, [new(id, "b")]))));
        let [Ok(Applied::Committed(first)), ..] = storage.apply(&group, NOW)[..] else { panic!() };
        let second = committed(&storage, commit(30, [update(99, first, "c")]));
        let limit = HistoryLimit { entries: 9, bytes: 1 << 20 };
        let entries = storage.history(Oid::new(99), Tid::MAX, Tid::MAX, limit).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.tid).collect::<Vec<_>>(), [second, first]);
        let is_head = |item: &&HistoryItem| matches!(item, HistoryItem::Transaction(_));
        assert_eq!(transactions(&storage).iter().filter(is_head).count(), 9 + 9 + 1);
    }
}
