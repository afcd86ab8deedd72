//! Reads single records by their place.

use bytes::Bytes;
use zeo_proto::{MAX_OBJECT, MAX_PAGE, Oid, Tid};

use super::parse::{self, RECORD_HEAD};
use super::segments::{Segments, failed, shown};
use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::index::Place;

/// Bytes of the longest record that there can be.
const MAX_RECORD: usize = MAX_OBJECT + 8 * MAX_PAGE + RECORD_HEAD;

impl<D: Disk> Segments<D> {
    /// The data of one record, with one read.
    pub(super) fn load(&self, place: Place, oid: Oid, tid: Tid) -> Result<Bytes, StorageError> {
        let at = place.at;
        let damaged = |what: &str| {
            let (file, offset) = (shown(at.segment), at.offset);
            let whose = format!("object {oid} of transaction {tid}");
            StorageError::Damaged(format!("{file} at byte {offset}, {whose}: {what}"))
        };
        let file = self.file(at.segment).ok_or_else(|| damaged("its file is missing"))?;
        let len = usize::try_from(place.len).ok().filter(|&len| len <= MAX_RECORD);
        let mut record = vec![0; len.ok_or_else(|| damaged("no record is that long"))?];
        file.read_at(&mut record, u64::from(at.offset)).map_err(failed("read", at))?;
        parse::record_data(&record.into(), oid, tid).map_err(damaged)
    }
}
