//! The seam beneath the journal: the few things that it asks of a file system.
//!
//! A [`Disk`] is one flat directory. [`RealDisk`] is the real one; `SimDisk` is a simulated one
//! that loses what was not synced, tears writes, fails and fills up.

mod real;
#[cfg(any(test, feature = "sim"))]
mod sim;

use std::fmt::{Debug, Display};
use std::io;

use super::OpenError;

pub use real::{RealDisk, RealFile};
#[cfg(any(test, feature = "sim"))]
pub use sim::{Random, SimDisk, SimFile, SimLock};

/// The files of one directory. Its `Display` is the directory's name, for messages.
pub trait Disk: Debug + Display + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// What keeps others out until it is dropped.
    type Lock: Debug + Send + Sync + 'static;

    /// Keeps every other opener out.
    fn lock(&self) -> Result<Self::Lock, LockError>;

    /// Creates a file that does not exist yet. It is sure to be there after a power cut only once
    /// [`Disk::sync_dir`] has returned.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates a file without a name, which is gone when its handle is dropped, or with its
    /// process.
    fn temporary(&self) -> io::Result<Self::File>;

    /// Removes a file; it is sure to be gone only once [`Disk::sync_dir`] has returned.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes creations and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file. Several threads may use it at once.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on as far as the file reaches; returns how many bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data`. After an error any part of it may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off at that length, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all writes that have returned durable, and the length. After an error it is unknown
    /// which of them are.
    fn sync_data(&self) -> io::Result<()>;
}

/// The lock was not to be had.
#[derive(Debug)]
pub enum LockError {
    /// Somebody holds it: the process of that id, where that could be read.
    Held(Option<u32>),
    /// The disk failed.
    Io(io::Error),
}

/// Keeps every other opener out; a refusal says who is in.
pub(super) fn locked<D: Disk>(disk: &D) -> Result<D::Lock, OpenError> {
    disk.lock().map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse { directory: disk.to_string(), pid },
        LockError::Io(source) => OpenError::Io { what: format!("lock {disk}"), source },
    })
}

/// Whether an error says that there is no room, and not that the disk is broken.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
