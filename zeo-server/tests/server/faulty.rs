//! A storage in memory that waits, fails or panics when a test says so.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use zeo_proto::{Identity, Oid, Tid};
use zeo_server::storage::disk::{Disk, RealDisk};
use zeo_server::storage::{
    Applied, Changes, Chores, Cursor, Found, HistoryEntry, HistoryLimit, HistoryRecord,
    MemoryStorage, ObjectsPage, Operation, Refused, Room, Size, SpillFile, Storage, StorageError,
    TransactionsPage,
};
use zeo_server::{Limits, RunningServer, Server};

/// The storage; a test holds another reference to it.
#[derive(Debug)]
pub(crate) struct Faulty {
    storage: MemoryStorage,
    faults: Mutex<Faults>,
    changed: Condvar,
}

/// What goes wrong now, and what has happened so far.
#[expect(clippy::struct_excessive_bools, reason = "switches that a test sets one by one")]
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Loads of this object wait.
    pub(crate) held_load: Option<Oid>,
    /// What was loaded, in that order.
    pub(crate) loaded: Vec<Oid>,
    /// A load is waiting, or has waited.
    pub(crate) load_waited: bool,
    /// Nothing is looked up in the history.
    pub(crate) held_history: bool,
    /// No group is applied.
    pub(crate) held_apply: bool,
    /// One waits for that, or has waited.
    pub(crate) apply_waited: bool,
    /// No commit may be applied before the index has caught up.
    pub(crate) overlay_full: bool,
    /// Large commits should wait for the index.
    pub(crate) overlay_high: bool,
    /// So many runs of the index fail; the next one catches up.
    pub(crate) index_failures: u32,
    /// So many runs of the index leave the overlay as full as it was, before one catches up.
    pub(crate) index_steps: u32,
    /// No large transaction is put into a file.
    pub(crate) held_spill: bool,
    /// One waits for that, or has waited.
    pub(crate) spill_waited: bool,
    /// There is no room for one.
    pub(crate) full: bool,
    /// There is no room for any commit.
    pub(crate) disk_full: bool,
    /// The next group is applied, and then the stage panics.
    pub(crate) panic_after_apply: bool,
    /// The storage was closed in order.
    pub(crate) closed: bool,
    /// Something was asked of it after that.
    pub(crate) used_when_closed: bool,
}

impl Faulty {
    /// A storage in which nothing is wrong yet.
    pub(crate) fn new() -> Arc<Self> {
        let storage = MemoryStorage::new(Identity { uuid: [7; 16], epoch: 1 });
        Arc::new(Self { storage, faults: Mutex::default(), changed: Condvar::new() })
    }

    /// A server of nothing else.
    pub(crate) fn serve(self: &Arc<Self>, limits: Limits) -> RunningServer {
        Server::builder()
            .storage("main", Arc::clone(self) as Arc<dyn Storage>)
            .limits(limits)
            .listen("127.0.0.1:0".parse().unwrap())
            .start()
            .unwrap()
    }

    /// Changes what goes wrong; whoever waits looks again.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults());
        self.changed.notify_all();
    }

    /// Waits until something has happened.
    pub(crate) fn wait_until(&self, happened: impl Fn(&Faults) -> bool) {
        let waits = |faults: &mut Faults| !happened(faults);
        let waited = self.changed.wait_timeout_while(self.faults(), PATIENCE, waits).unwrap();
        assert!(!waited.1.timed_out(), "it does not happen");
    }

    /// What was loaded until now, in that order.
    pub(crate) fn loaded(&self) -> Vec<Oid> {
        self.faults().loaded.clone()
    }

    fn wait_to_apply(&self) {
        let mut faults = self.used();
        faults.apply_waited |= faults.held_apply;
        self.changed.notify_all();
        let held = |now: &mut Faults| now.held_apply;
        let (faults, waited) = self.changed.wait_timeout_while(faults, PATIENCE, held).unwrap();
        drop(faults);
        assert!(!waited.timed_out(), "the test waits for what waits for this");
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    fn used(&self) -> MutexGuard<'_, Faults> {
        let mut faults = self.faults();
        faults.used_when_closed |= faults.closed;
        faults
    }
}

impl Storage for Faulty {
    fn identity(&self) -> Identity {
        self.storage.identity()
    }

    fn last_tid(&self) -> Tid {
        self.storage.last_tid()
    }

    fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Result<Found, StorageError> {
        let mut faults = self.used();
        faults.loaded.push(oid);
        if faults.held_load == Some(oid) {
            faults.load_waited = true;
            self.changed.notify_all();
            let held = |now: &mut Faults| now.held_load == Some(oid);
            // A test that fails must come to its end as well.
            drop(self.changed.wait_timeout_while(faults, PATIENCE, held).unwrap());
        } else {
            drop(faults);
        }
        self.storage.load_before(oid, before, as_of)
    }

    fn apply(&self, group: &[Operation], unix_micros: u64) -> Vec<Result<Applied, Refused>> {
        assert!(!self.used().overlay_full, "the server must wait for the index");
        self.wait_to_apply();
        if self.used().disk_full {
            return vec![Err(Refused::DiskFull); group.len()];
        }
        let results = self.storage.apply(group, unix_micros);
        let panics = std::mem::take(&mut self.used().panic_after_apply);
        assert!(!panics, "as the test wants it");
        results
    }

    fn spill_file(&self) -> Result<Option<SpillFile>, StorageError> {
        let mut faults = self.used();
        faults.spill_waited |= faults.held_spill;
        self.changed.notify_all();
        let held = |now: &mut Faults| now.held_spill;
        let faults = self.changed.wait_timeout_while(faults, PATIENCE, held).unwrap().0;
        if faults.full {
            let (what, source) = ("as the test wants it".to_owned(), ErrorKind::StorageFull.into());
            return Err(StorageError::Io { what, source });
        }
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk::new(dir.path()).unwrap().temporary().unwrap();
        Ok(Some(SpillFile::new(Arc::new(file))))
    }

    fn changes_since(
        &self,
        since: Tid,
        through: Tid,
        limit: usize,
    ) -> Result<Changes, StorageError> {
        let held = |now: &mut Faults| now.held_history;
        drop(self.changed.wait_timeout_while(self.used(), PATIENCE, held).unwrap());
        self.storage.changes_since(since, through, limit)
    }

    fn history(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        limit: HistoryLimit,
    ) -> Result<Vec<HistoryEntry>, StorageError> {
        let held = |now: &mut Faults| now.held_history;
        drop(self.changed.wait_timeout_while(self.used(), PATIENCE, held).unwrap());
        self.storage.history(oid, before, as_of, limit)
    }

    fn load_record(&self, oid: Oid, tid: Tid) -> Result<Option<HistoryRecord>, StorageError> {
        self.storage.load_record(oid, tid)
    }

    fn transactions(
        &self,
        from: &Cursor,
        through: Tid,
        bytes: usize,
    ) -> Result<TransactionsPage, StorageError> {
        self.storage.transactions(from, through, bytes)
    }

    fn objects(&self, from: Oid, before: Tid, max: usize) -> Result<ObjectsPage, StorageError> {
        self.storage.objects(from, before, max)
    }

    fn size(&self) -> Size {
        self.storage.size()
    }

    fn chores(&self) -> Chores {
        let Faults { overlay_full, overlay_high, .. } = *self.used();
        let room = match (overlay_full, overlay_high) {
            (true, _) => Room::None,
            (false, true) => Room::Little,
            (false, false) => Room::Enough,
        };
        Chores { index: room != Room::Enough, prepare: false, room }
    }

    fn index_some(&self) -> Result<(), StorageError> {
        let mut faults = self.used();
        if let Some(left) = faults.index_failures.checked_sub(1) {
            faults.index_failures = left;
            self.changed.notify_all();
            return Err(StorageError::Index("as the test wants it".to_owned()));
        }
        if let Some(left) = faults.index_steps.checked_sub(1) {
            faults.index_steps = left;
        } else {
            (faults.overlay_full, faults.overlay_high) = (false, false);
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn close(&self) -> Result<(), StorageError> {
        self.set(|faults| faults.closed = true);
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
