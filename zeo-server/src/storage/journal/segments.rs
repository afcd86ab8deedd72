//! The journal's files: their names, and those that are open for reading.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use super::buffers::Buffers;
use super::format::Position;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::{OpenError, StorageError};

/// The open segment files of a journal.
#[derive(Debug)]
pub(super) struct Segments<D: Disk> {
    pub(super) disk: D,
    /// What they are read into.
    pub(super) buffers: Buffers,
    open: RwLock<BTreeMap<u32, Arc<D::File>>>,
}

impl<D: Disk> Segments<D> {
    /// Opens every segment file there is.
    pub(super) fn open(disk: D) -> io::Result<Self> {
        let mut open = BTreeMap::new();
        for name in disk.list()? {
            if let Some(number) = number_of(&name) {
                open.insert(number, Arc::new(disk.open(&name)?));
            }
        }
        Ok(Self { disk, buffers: Buffers::new(), open: RwLock::new(open) })
    }

    /// The file of a segment, if there is one.
    pub(super) fn file(&self, number: u32) -> Option<Arc<D::File>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// The numbers of all segments, in order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    pub(super) fn insert(&self, number: u32, file: Arc<D::File>) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(number, file);
    }

    /// Creates an empty file for a segment that nothing was ever committed to.
    pub(super) fn create(&self, number: u32) -> io::Result<Arc<D::File>> {
        let name = file_name(number);
        let file = match self.disk.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left_over = self.disk.open(&name)?;
                left_over.set_len(0)?;
                left_over
            }
            created => created?,
        };
        self.disk.sync_dir()?;
        Ok(Arc::new(file))
    }

    /// Removes the file of a segment that nothing was ever committed to.
    pub(super) fn remove(&self, number: u32) -> io::Result<()> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.disk.remove(&file_name(number))
    }
}

/// The file of a segment, as a message names it.
pub(super) fn shown(segment: u32) -> String {
    format!("journal/{}", file_name(segment))
}

/// Turns a failure of the disk into an error that says what was being done.
pub(super) fn failed(what: &str, at: Position) -> impl Fn(io::Error) -> StorageError {
    // Not before it has failed: the text takes longer than a small read.
    move |source| {
        let what = format!("{what} {} at byte {}", shown(at.segment), at.offset);
        StorageError::Io { what, source }
    }
}

/// The same while opening.
pub(super) fn cannot(what: &str, segment: u32) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { what: format!("{what} {}", shown(segment)), source }
}

fn file_name(segment: u32) -> String {
    format!("{segment:08}.log")
}

fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_segments() {
        assert_eq!(number_of("00000012.log"), Some(12));
        assert_eq!(number_of(&file_name(u32::MAX)), Some(u32::MAX));
        for stranger in ["12.log", "00000012.log.bak", "+0000012.log", "lock"] {
            assert_eq!(number_of(stranger), None, "{stranger}");
        }
    }
}
