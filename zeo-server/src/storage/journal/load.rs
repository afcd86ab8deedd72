//! Reads single records by their place.

use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::{MAX_OBJECT, MAX_PAGE, Oid, Tid};

use super::parse::{self, RECORD_HEAD};
use super::segments::{Segments, failed, shown};
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::index::Place;
use crate::storage::{HistoryRecord, StorageError, TransactionHead};

/// Bytes of the longest record that there can be.
pub(super) const MAX_RECORD: usize = MAX_OBJECT + 8 * MAX_PAGE + RECORD_HEAD;

impl<D: Disk> Segments<D> {
    /// The data of one record, with one read.
    pub(super) fn load(&self, place: Place, oid: Oid, tid: Tid) -> Result<Bytes, StorageError> {
        let wanted = Wanted { place, oid, tid };
        parse::record_data(&self.bytes(&wanted)?, oid, tid).map_err(|what| wanted.damaged(what))
    }

    /// All of one record, with one read.
    pub(super) fn record(
        &self,
        place: Place,
        oid: Oid,
        tid: Tid,
    ) -> Result<HistoryRecord, StorageError> {
        let wanted = Wanted { place, oid, tid };
        let bytes = self.bytes(&wanted)?;
        let found = parse::record(&bytes).map_err(|what| wanted.damaged(what))?;
        if (found.record.oid, found.tid) != (oid, tid) {
            return Err(wanted.damaged(parse::ANOTHER));
        }
        let data = found.data_offset.map(|from| bytes.slice(from..));
        Ok(HistoryRecord { data, ..found.record })
    }

    /// Bytes of data in one record, which is not read and so not known to be whole.
    pub(super) fn data_len(&self, place: Place, oid: Oid, tid: Tid) -> Result<u32, StorageError> {
        let wanted = Wanted { place, oid, tid };
        let file = self.file_of(&wanted)?;
        let mut head = [0; RECORD_HEAD];
        let read = file.read_at(&mut head, u64::from(place.at.offset));
        read.map_err(failed("read", place.at))?;
        parse::data_len(&head, place.len, (oid, tid)).map_err(|what| wanted.damaged(what))
    }

    /// A transaction's head, with one read.
    pub(super) fn transaction(&self, place: Place) -> Result<TransactionHead, StorageError> {
        let wanted = Wanted { place, oid: Oid::ROOT, tid: Tid::ZERO };
        parse::transaction(&self.bytes(&wanted)?).map_err(|what| wanted.damaged(what))
    }

    fn bytes(&self, wanted: &Wanted) -> Result<Bytes, StorageError> {
        let Place { at, len, .. } = wanted.place;
        let file = self.file_of(wanted)?;
        let len = usize::try_from(len).ok().filter(|&len| len <= MAX_RECORD);
        let mut bytes = vec![0; len.ok_or_else(|| wanted.damaged("no record is that long"))?];
        file.read_at(&mut bytes, u64::from(at.offset)).map_err(failed("read", at))?;
        Ok(bytes.into())
    }

    fn file_of(&self, wanted: &Wanted) -> Result<Arc<D::File>, StorageError> {
        self.file(wanted.place.at.segment).ok_or_else(|| wanted.damaged("its file is missing"))
    }
}

/// A record that somebody asks for, and where it should be.
struct Wanted {
    place: Place,
    oid: Oid,
    tid: Tid,
}

impl Wanted {
    fn damaged(&self, what: &str) -> StorageError {
        let Self { place: Place { at, .. }, oid, tid } = self;
        let (file, offset) = (shown(at.segment), at.offset);
        let whose = format!("object {oid} of transaction {tid}");
        StorageError::Damaged(format!("{file} at byte {offset}, {whose}: {what}"))
    }
}
