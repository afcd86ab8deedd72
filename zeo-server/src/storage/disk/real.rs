//! The operating system's files.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zeo_reactor::give_way;

use super::{Disk, DiskFile, LockError};

/// The journal's files in a storage's directory: `lock`, and all others in `journal`.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    journal: PathBuf,
}

impl RealDisk {
    /// The files in that directory, which is created where it does not exist.
    pub fn new(dir: &Path) -> io::Result<Self> {
        Self::make(dir, sync_dir)
    }

    /// The files in that directory, which must be there.
    pub fn existing(dir: &Path) -> io::Result<Self> {
        let journal = dir.join("journal");
        fs::read_dir(&journal)?;
        Ok(Self { dir: dir.to_owned(), journal })
    }

    /// Every directory that may be new is synced in the one that it is in: without that, a power
    /// cut can take the whole store. That is done at each opening, as an earlier one may have come
    /// to its end in between.
    fn make(dir: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<Self> {
        let journal = dir.join("journal");
        fs::create_dir_all(&journal)?;
        sync(dir)?;
        for above in dir.canonicalize()?.ancestors().skip(1) {
            match sync(above) {
                // What this process cannot even read it has not made, nor anything above it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        Ok(Self { dir: dir.to_owned(), journal })
    }
}

impl fmt::Display for RealDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display().fmt(f)
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = File;

    fn lock(&self) -> Result<File, LockError> {
        let path = self.dir.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = open.map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&path))),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        file.set_len(0).map_err(LockError::Io)?;
        writeln!(file, "{}", std::process::id()).map_err(LockError::Io)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let path = self.journal.join(name);
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(RealFile)
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).open(self.journal.join(name)).map(RealFile)
    }

    fn temporary(&self) -> io::Result<RealFile> {
        tempfile::tempfile_in(&self.dir).map(RealFile)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.journal.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.journal)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_dir(&self.journal)
    }
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile(File);

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            if rest.len() >= LONG {
                give_way();
            }
            let piece = rest.len().min(AT_ONCE);
            match self.0.read_at(rest.get_mut(..piece).unwrap_or_default(), offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        for (piece, at) in data.chunks(AT_ONCE).zip((offset..).step_by(AT_ONCE)) {
            if piece.len() >= LONG {
                give_way();
            }
            self.0.write_all_at(piece, at)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Bytes that are read or written at once, 256 KiB: a thread keeps its CPU until the system is done
/// with them.
const AT_ONCE: usize = 256 << 10;
/// Bytes whose copying takes the system some microseconds.
const LONG: usize = 16 << 10;

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The process that wrote its id into the lock file.
fn holder(lock: &Path) -> Option<u32> {
    fs::read_to_string(lock).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = RealDisk::new(dir.path()).unwrap();
        let second = RealDisk::new(dir.path()).unwrap();
        let lock = first.lock().unwrap();
        let refused = second.lock().unwrap_err();
        assert!(matches!(refused, LockError::Held(Some(pid)) if pid == std::process::id()));
        drop(lock);
        second.lock().unwrap();
    }

    #[test]
    fn every_directory_on_the_way_is_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let mut synced = Vec::new();
        let mut note = |path: &Path| {
            synced.push(path.to_owned());
            Ok(())
        };
        for _ in 0..2 {
            RealDisk::make(&root.join("data/main"), &mut note).unwrap();
        }
        let each = synced.len() / 2;
        assert_eq!(synced[..each], synced[each..], "an earlier opening may not have come so far");
        assert!(synced.starts_with(&[root.join("data/main"), root.join("data"), root]));
    }

    #[test]
    fn a_temporary_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.temporary().unwrap();
        file.write_at(b"zeo", 0).unwrap();
        assert_eq!(file.size().unwrap(), 3);
        let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["journal"]);
    }

    #[test]
    fn a_read_stops_at_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.create("a").unwrap();
        file.write_at(b"zeo", 2).unwrap();
        let mut buffer = [7; 8];
        assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 4);
        assert_eq!(&buffer, b"\0zeo\x07\x07\x07\x07");
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert!(disk.create("a").is_err(), "it exists");
    }
}
