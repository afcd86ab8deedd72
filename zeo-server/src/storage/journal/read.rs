//! Reads the journal item by item, from any place on, each by its own checksum.
//!
//! A group's own checksum is not looked at: whoever begins in the middle of a long group need not
//! read what is before. What was read is not copied; the data of records shares its memory.

use bytes::Bytes;
use zeo_proto::Tid;

use super::format::{GROUP_HEADER, GroupHeader, Position};
use super::load::MAX_RECORD;
use super::parse::{self, Item};
use super::segments::shown;
use super::walk::{ItemError, Walker};
use super::{unreadable, vanished};
use crate::storage::disk::Disk;
use crate::storage::{HistoryRecord, StorageError, TransactionHead};

/// A place in the journal that moves from item to item.
#[derive(Debug)]
pub(in crate::storage) struct Reader<'a, D: Disk> {
    /// At the end of the group that is being read.
    walker: Walker<'a, D>,
    /// The durable end.
    limit: Position,
    group: Position,
    /// What is left of the group's items.
    at: u32,
    end: u32,
    passed: u64,
}

/// The item that is next, as its first bytes say; whether it is whole is not known yet.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Ahead {
    pub(in crate::storage) item: Item,
    pub(in crate::storage) len: u32,
    /// The group, and where in it the item is.
    pub(in crate::storage) group: Position,
    pub(in crate::storage) offset: u32,
}

impl<'a, D: Disk> Reader<'a, D> {
    /// Starts with a walker at the end of a group, and ends at `limit`; `step` bytes are read at
    /// once.
    pub(super) fn new(mut walker: Walker<'a, D>, limit: Position, step: u32) -> Self {
        walker.set_step(step);
        let group = walker.at();
        Self { walker, limit, group, at: 0, end: 0, passed: 0 }
    }

    /// Reads so many bytes at once from now on.
    pub(in crate::storage) fn set_step(&mut self, step: u32) {
        self.walker.set_step(step);
    }

    /// Goes to the group in which the first transaction that is not before `tid` may be: the last
    /// that begins before it, and before any damage.
    pub(in crate::storage) fn seek(&mut self, tid: Tid) -> Result<(), StorageError> {
        loop {
            match self.next_header() {
                Ok(Some(header)) if header.tid_before < tid => self.open(&header),
                Ok(_) | Err(StorageError::Damaged(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes to an item whose place is said to be known; false if there is none.
    pub(in crate::storage) fn enter(
        &mut self,
        group: Position,
        offset: u32,
    ) -> Result<bool, StorageError> {
        let header = self.walker.any_header_at(group).map_err(unreadable(group))?;
        let limit = self.limit;
        let is_durable = |header: &GroupHeader| header.end().is_some_and(|end| end <= limit);
        let Some(header) = header.filter(is_durable) else { return Ok(false) };
        self.open(&header);
        let at = group.offset.checked_add(offset);
        let at = at.filter(|&at| offset >= GROUP_HEADER && at < self.end);
        self.at = at.unwrap_or(self.end);
        Ok(at.is_some())
    }

    /// What comes next; `None` at the end.
    #[inline]
    pub(in crate::storage) fn peek(&mut self) -> Result<Option<Ahead>, StorageError> {
        while self.at == self.end {
            let Some(header) = self.next_header()? else { return Ok(None) };
            self.open(&header);
        }
        let group = self.group;
        let (item, len) = match self.walker.item(group, self.at..self.end) {
            Ok(item) => item,
            Err(ItemError::Malformed) => return Err(self.damaged("it is no item")),
            Err(ItemError::Io(error)) => return Err(unreadable(self.place())(error)),
        };
        Ok(Some(Ahead { item, len, group, offset: self.at - group.offset }))
    }

    /// Passes over what comes next.
    pub(in crate::storage) fn skip(&mut self, ahead: &Ahead) {
        self.at += ahead.len;
        self.passed += u64::from(ahead.len);
    }

    /// How many bytes of items and headers have been passed over.
    pub(in crate::storage) fn passed(&self) -> u64 {
        self.passed
    }

    /// Takes a record, which must be one of the transaction `tid`.
    #[inline]
    pub(in crate::storage) fn record(
        &mut self,
        ahead: &Ahead,
        tid: Tid,
    ) -> Result<HistoryRecord, StorageError> {
        let parsed = parse::record(self.bytes(ahead)?);
        let parsed = parsed.map_err(|what| self.damaged(what))?;
        if parsed.tid != tid {
            return Err(self.damaged("it is a record of another transaction"));
        }
        let data = parsed.data_offset.map(|from| self.data(ahead, from)).transpose()?;
        self.skip(ahead);
        Ok(HistoryRecord { data, ..parsed.record })
    }

    /// Takes a transaction's head.
    pub(in crate::storage) fn transaction(
        &mut self,
        ahead: &Ahead,
    ) -> Result<TransactionHead, StorageError> {
        let head = parse::transaction(self.bytes(ahead)?);
        let head = head.map_err(|what| self.damaged(what))?;
        self.skip(ahead);
        Ok(head)
    }

    /// Takes what is neither.
    pub(in crate::storage) fn other(&mut self, ahead: &Ahead) -> Result<(), StorageError> {
        let whole = parse::whole(self.bytes(ahead)?).map(drop);
        whole.map_err(|what| self.damaged(what))?;
        self.skip(ahead);
        Ok(())
    }

    /// What comes next is not as it should be.
    pub(in crate::storage) fn damaged(&self, what: &str) -> StorageError {
        damaged(self.place(), what)
    }

    #[inline]
    fn bytes(&mut self, ahead: &Ahead) -> Result<&[u8], StorageError> {
        let at = self.place();
        if ahead.len as usize > MAX_RECORD {
            return Err(damaged(at, "no item is that long"));
        }
        let bytes = self.walker.bytes(at, ahead.len).map_err(unreadable(at))?;
        bytes.ok_or_else(|| damaged(at, "it is cut off"))
    }

    /// The data of a record, which begins that far into it, in the memory that it was read into.
    fn data(&mut self, ahead: &Ahead, from: usize) -> Result<Bytes, StorageError> {
        let (at, from) = (self.place(), u32::try_from(from).unwrap_or(ahead.len));
        let place = Position { offset: at.offset.saturating_add(from), ..at };
        let data = self.walker.slice(place, ahead.len.saturating_sub(from));
        data.map_err(unreadable(at))?.ok_or_else(|| damaged(at, "it is cut off"))
    }

    fn place(&self) -> Position {
        Position { offset: self.at, ..self.group }
    }

    fn next_header(&mut self) -> Result<Option<GroupHeader>, StorageError> {
        let at = self.walker.at();
        if at >= self.limit {
            return Ok(None);
        }
        match self.walker.next_header().map_err(unreadable(at))? {
            Some(header) => Ok(Some(header)),
            None => Err(vanished(self.walker.next_place().map_err(unreadable(at))?)),
        }
    }

    fn open(&mut self, header: &GroupHeader) {
        let (Some(start), Some(end)) = (header.items_start(), header.end()) else { return };
        self.walker.go_to(end);
        self.passed += u64::from(GROUP_HEADER);
        (self.group, self.at) = (header.at, start);
        self.end = start.saturating_add(header.items_len);
    }
}

fn damaged(at: Position, what: &str) -> StorageError {
    StorageError::Damaged(format!("{} at byte {}: {what}", shown(at.segment), at.offset))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zeo_proto::{Oid, Tid};

    use crate::storage::testing::{World, commit, committed, new, transactions};
    use crate::storage::{Cursor, HistoryItem, Record, Storage};

    /// A transaction of many MiB must not be read from its beginning for each page.
    #[test]
    fn a_page_in_a_long_group_takes_a_few_reads_wherever_it_begins() {
        let world = World::new(1);
        let storage = world.open().unwrap();
        let large = |oid| {
            let data = Bytes::from(vec![7; 64 << 10]);
            Record::store(Oid::new(oid), Some(Tid::ZERO), data, None)
        };
        committed(&storage, commit(1, (1..=200).map(large)));
        committed(&storage, commit(2, [new(201, "small")]));
        let (mut next, mut records) = (Some(Cursor::new(Tid::ZERO)), 0);
        while let Some(cursor) = next {
            world.disk.fail_read_in(8);
            let page = storage.transactions(&cursor, Tid::MAX, 400_000).unwrap();
            assert!(world.disk.is_waiting_to_fail(), "more than 8 reads for {cursor:?}");
            records += page.items.iter().filter(|item| is_record(item)).count();
            next = page.next;
        }
        world.disk.forgive();
        assert_eq!(records, 201);
    }

    /// The data of a page is in the memory that it was read into.
    #[test]
    fn the_data_of_a_page_is_not_copied() {
        let world = World::new(1);
        let storage = world.open().unwrap();
        committed(&storage, commit(1, (1..=9).map(|oid| new(oid, "some data"))));
        let items = transactions(&storage);
        let data: Vec<_> = items.iter().filter_map(data_of).collect();
        let apart = |pair: &[&Bytes]| pair[1].as_ptr() as usize - pair[0].as_ptr() as usize;
        assert!(data.windows(2).all(|pair| apart(pair) == 40 + 9));
    }

    fn is_record(item: &HistoryItem) -> bool {
        matches!(item, HistoryItem::Record(_))
    }

    fn data_of(item: &HistoryItem) -> Option<&Bytes> {
        match item {
            HistoryItem::Record(record) => record.data.as_ref(),
            HistoryItem::Transaction(_) => None,
        }
    }
}
