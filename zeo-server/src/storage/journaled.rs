//! The storage on disk: a journal that holds the truth, and an index beside it.

use std::marker::PhantomData;

use zeo_proto::{Identity, Oid, Tid};

use super::{
    Applied, Changes, Chores, Found, MemoryStorage, Operation, Refused, Storage, StorageError,
};

/// A storage whose truth is a journal on a `D` and whose index is an `I`.
#[derive(Debug)]
pub struct JournalStorage<D, I> {
    memory: MemoryStorage,
    parts: PhantomData<fn() -> (D, I)>,
}

impl<D, I> JournalStorage<D, I> {
    pub(super) fn stand_in(uuid: [u8; 16]) -> Self {
        let memory = MemoryStorage::new(Identity { uuid, epoch: 1 });
        Self { memory, parts: PhantomData }
    }
}

impl<D: std::fmt::Debug + 'static, I: std::fmt::Debug + 'static> Storage for JournalStorage<D, I> {
    fn identity(&self) -> Identity {
        self.memory.identity()
    }

    fn last_tid(&self) -> Tid {
        self.memory.last_tid()
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        self.memory.load_before(oid, before, as_of)
    }

    fn apply(&self, group: Vec<Operation>, unix_micros: u64) -> Vec<Result<Applied, Refused>> {
        self.memory.apply(group, unix_micros)
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        self.memory.changes_since(since, through, limit)
    }

    fn chores(&self) -> Chores {
        self.memory.chores()
    }

    fn index_some(&self) -> Result<(), StorageError> {
        self.memory.index_some()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.memory.prepare()
    }

    fn close(&self) -> Result<(), StorageError> {
        self.memory.close()
    }
}
