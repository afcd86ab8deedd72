//! Where the data of a large transaction waits for its vote: a file without a name, which is gone
//! with its last user.
//!
//! A record's references and data stand there as the [journal](super::journal) has them, so a
//! commit copies them from one file into the other, and memory never holds them all. Their crc is
//! taken when they are written; the copy is compared with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::Oid;

use super::disk::DiskFile;
use super::record::{Body, Record};

/// A file that takes the data of one transaction.
#[derive(Debug)]
pub struct SpillFile {
    file: Arc<dyn DiskFile>,
    len: u64,
}

/// References and data of one record, in a [`SpillFile`].
#[derive(Debug, Clone)]
pub struct Spilled {
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// Bytes of references and data.
    len: u32,
    /// How many references; `None` where the client did not say.
    refs: Option<u32>,
    crc: u32,
}

/// Spilled data did not get where it should.
#[derive(Debug)]
pub(super) enum CopyError {
    /// It cannot be read again.
    Read(io::Error),
    /// It could not be written where it should go.
    Write(io::Error),
}

impl CopyError {
    pub(super) fn into_inner(self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) => error,
        }
    }
}

impl SpillFile {
    /// Over an empty file that nobody else uses.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, len: 0 }
    }

    /// Moves the records' data into the file. After an error they are of no more use.
    pub fn spill(&mut self, records: &mut [Record]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(STEP);
        for record in records {
            if let Body::Held { data, refs } = &record.body {
                let spilled = self.put(data, refs.as_deref(), &mut buffer)?;
                record.body = Body::Spilled(spilled);
            }
        }
        self.write_out(&mut buffer)
    }

    fn put(
        &mut self,
        data: &Bytes,
        refs: Option<&[Oid]>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Spilled> {
        let (offset, start) = (self.len + buffer.len() as u64, buffer.len());
        buffer.extend(refs.unwrap_or_default().iter().flat_map(|oid| oid.to_bytes()));
        let refs_bytes = buffer.len() - start;
        let crc = crc32c::crc32c(buffer.get(start..).unwrap_or_default());
        let crc = crc32c::crc32c_append(crc, data);
        if data.len() >= STEP {
            self.write_out(buffer)?;
            self.write(data)?;
        } else {
            buffer.extend_from_slice(data);
        }
        if buffer.len() >= STEP {
            self.write_out(buffer)?;
        }
        let refs = refs.map(|refs| bounded(refs.len()));
        let len = bounded(refs_bytes + data.len());
        Ok(Spilled { file: Arc::clone(&self.file), offset, len, refs, crc })
    }

    fn write_out(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.write(buffer)?;
        buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

impl Spilled {
    pub(super) fn data_len(&self) -> usize {
        self.len() - 8 * self.refs_count().unwrap_or(0)
    }

    pub(super) fn refs_count(&self) -> Option<usize> {
        self.refs.map(|count| count as usize)
    }

    /// Bytes of references and data.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The crc of references and data.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Hands out references and data, a MiB at a time. Says only at the end whether they are what
    /// was spilled.
    pub(super) fn copy(
        &self,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CopyError> {
        let mut buffer = vec![0; self.len().min(STEP)];
        let (mut done, mut crc) = (0, 0);
        while done < self.len() {
            let step = (self.len() - done).min(STEP);
            let part = buffer.get_mut(..step).expect("a step fits into the buffer");
            let read = self.file.read_at(part, self.offset + done as u64);
            if read.map_err(CopyError::Read)? < step {
                return Err(CopyError::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            crc = crc32c::crc32c_append(crc, part);
            write(part).map_err(CopyError::Write)?;
            done += step;
        }
        if crc == self.crc { Ok(()) } else { Err(CopyError::Read(changed())) }
    }

    /// Reads data and references back into memory.
    pub(super) fn read(&self) -> io::Result<(Bytes, Option<Vec<Oid>>)> {
        let mut bytes = Vec::with_capacity(self.len());
        let copied = self.copy(|part| {
            bytes.extend_from_slice(part);
            Ok(())
        });
        copied.map_err(CopyError::into_inner)?;
        let mut refs = Bytes::from(bytes);
        let data = refs.split_off(self.len() - self.data_len());
        let oids = || refs.as_chunks().0.iter().copied().map(Oid::from_bytes).collect();
        Ok((data, self.refs.map(|_| oids())))
    }
}

/// Whether they are the same place, not whether they hold the same.
impl PartialEq for Spilled {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && (self.offset, self.len) == (other.offset, other.len)
    }
}

impl Eq for Spilled {}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file holds something else than was written")
}

fn bounded(len: usize) -> u32 {
    u32::try_from(len).expect("an object and its references are bounded to far less")
}

/// Bytes that are written or read at once.
const STEP: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use zeo_proto::Tid;

    use super::*;
    use crate::storage::disk::{Disk, SimDisk};
    use crate::storage::testing::{World, apply, commit, committed, load, new, revision, update};
    use crate::storage::{Applied, Refused, Storage};

    #[test]
    fn the_journal_is_the_same_as_without_a_file() {
        let segments = [false, true].map(|spills| {
            let world = World::new(1);
            let storage = world.open().unwrap();
            let mut records = vec![new(1, "a"), update(2, Tid::ZERO, "b"), new(3, "")];
            if spills {
                storage.spill_file().unwrap().unwrap().spill(&mut records).unwrap();
            }
            committed(&storage, commit(1, records));
            world.segment(1)
        });
        assert_eq!(segments[0], segments[1]);
    }

    #[test]
    fn data_that_cannot_be_read_again_fails_its_commit_alone() {
        let world = World::new(1);
        let storage = world.open().unwrap();
        let file = Arc::new(SimDisk::new(1).temporary().unwrap());
        let mut records = vec![new(1, "a"), new(2, "b")];
        SpillFile::new(Arc::clone(&file) as Arc<dyn DiskFile>).spill(&mut records).unwrap();
        file.write_at(b"x", 1).unwrap();
        let refused = apply(&storage, commit(1, records.clone())).unwrap_err();
        let Refused::Failed(text) = refused else { panic!("{refused:?}") };
        assert!(text.contains("something else than was written"), "{text}");
        file.set_len(1).unwrap();
        assert!(matches!(apply(&storage, commit(2, records)), Err(Refused::Failed(_))));
        let tid = committed(&storage, commit(3, [new(1, "a")]));
        drop(storage);
        assert_eq!(load(&world.open().unwrap(), 1), revision(tid, None, "a"));
    }

    #[test]
    fn a_disk_that_is_full_when_it_is_copied_refuses_the_commit() {
        let world = World::new(1);
        let storage = world.open().unwrap();
        let mut file = storage.spill_file().unwrap().unwrap();
        let data = Bytes::from(vec![7; 1_000_000]);
        let mut records = vec![Record::store(Oid::new(1), None, data.clone(), None)];
        file.spill(&mut records).unwrap();
        world.disk.set_capacity(Some(world.disk.used() + 500_000));
        assert_eq!(apply(&storage, commit(1, records.clone())), Err(Refused::DiskFull));
        let used = world.disk.used();
        world.disk.set_capacity(None);
        assert!(matches!(apply(&storage, commit(1, records)), Ok(Applied::Committed(_))));
        drop(file);
        assert!(world.disk.used() < used + 1_000_000, "the file's room is given back");
    }

    #[test]
    fn a_disk_that_is_full_takes_no_more_to_wait() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(10));
        let mut file = SpillFile::new(Arc::new(disk.temporary().unwrap()));
        let error = file.spill(&mut [new(1, "more than ten bytes")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
