//! The kinds of storage that the contract runs over, and what becomes of each when it is closed or
//! crashes.

use tempfile::TempDir;

use crate::storage::disk::{Random, RealDisk, SimDisk};
use crate::storage::index::{MapIndex, SledIndex};
use crate::storage::testing::{IDENTITY, tiny};
use crate::storage::{JournalStorage, MemoryStorage, OpenOptions, Storage};

/// A kind of storage, and how to get at it again after closing it.
pub(super) trait Kind {
    type Storage: Storage;

    fn open(&self) -> Self::Storage;

    fn reopen(&self, storage: Self::Storage) -> Self::Storage {
        storage.close().unwrap();
        drop(storage);
        self.open()
    }

    /// What a crash leaves of it.
    fn crash(&self, storage: Self::Storage, _random: &mut Random) -> Self::Storage {
        drop(storage);
        self.open()
    }
}

#[derive(Debug)]
pub(super) struct Memory;

impl Kind for Memory {
    type Storage = MemoryStorage;

    fn open(&self) -> MemoryStorage {
        MemoryStorage::new(IDENTITY)
    }

    fn reopen(&self, storage: MemoryStorage) -> MemoryStorage {
        storage
    }

    fn crash(&self, storage: MemoryStorage, _: &mut Random) -> MemoryStorage {
        storage
    }
}

#[derive(Debug)]
pub(super) struct Simulated {
    disk: SimDisk,
    index: MapIndex,
}

impl Simulated {
    pub(super) fn new() -> Self {
        Self { disk: SimDisk::new(1), index: MapIndex::default() }
    }
}

impl Kind for Simulated {
    type Storage = JournalStorage<SimDisk, MapIndex>;

    fn open(&self) -> Self::Storage {
        let (disk, index) = (self.disk.clone(), self.index.clone());
        JournalStorage::open(disk, || Ok(index), tiny(), IDENTITY.uuid).unwrap()
    }

    fn crash(&self, storage: Self::Storage, random: &mut Random) -> Self::Storage {
        drop(storage);
        self.disk.crash();
        self.index.crash(random);
        self.open()
    }
}

#[derive(Debug)]
pub(super) struct OnDisk(TempDir);

impl OnDisk {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Kind for OnDisk {
    type Storage = JournalStorage<RealDisk, SledIndex>;

    fn open(&self) -> Self::Storage {
        crate::storage::open(self.0.path(), OpenOptions::new(IDENTITY.uuid)).unwrap()
    }
}
