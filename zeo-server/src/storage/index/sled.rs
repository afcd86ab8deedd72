//! The index in sled 0.34, with a wall around what sled gets wrong.
//!
//! - `Db::flush` does not survive a power cut, so a checkpoint syncs sled's file itself.
//! - Even then a power cut can leave sled unreadable, or readable and wrong. So the index is only
//!   trusted if it was closed in order, or if the machine has not restarted since.
//! - A process killed while sled opens leaves a `snap.….generating` that keeps sled from ever
//!   opening again. It is removed first.
//! - Opening damaged files may panic. That is caught, and counts as "does not open".
//! - Batches of thousands grow memory to gigabytes, and large values are never synced: entries are
//!   inserted one by one, and all are small.
//!
//! An index that does not open is moved aside, and the journal fills a new one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeo_proto::{Oid, Tid, TxnId};

use super::quiet::catch_quietly;
use super::{Checkpoint, Entry, Index, IndexError, Latest, Place};
use crate::storage::history::next_oid;
use crate::storage::journal::{Fields, Position};

/// The index in sled.
#[derive(Debug)]
pub struct SledIndex {
    directory: PathBuf,
    cache_bytes: u64,
    boot_id: Option<String>,
    /// Bytes of its file when it was last synced.
    bytes: AtomicU64,
    /// `None` only while a reset replaces it.
    open: Option<Trees>,
}

#[derive(Debug)]
struct Trees {
    db: sled::Db,
    revisions: sled::Tree,
    outcomes: sled::Tree,
    milestones: sled::Tree,
}

impl SledIndex {
    /// Opens the index in that directory; an empty one where there is none, or none that can be
    /// trusted. `boot_id` names the run of the machine: another one, or `None`, is a restart.
    pub fn open(
        directory: &Path,
        cache_bytes: u64,
        boot_id: Option<String>,
    ) -> Result<Self, IndexError> {
        let directory = directory.to_owned();
        let bytes = fs::metadata(directory.join("db")).map_or(0, |file| file.len());
        let bytes = AtomicU64::new(bytes);
        let mut index = Self { directory, cache_bytes, boot_id, bytes, open: None };
        match index.distrust().map_or_else(|| index.open_files(), Err) {
            Ok(trees) => index.open = Some(trees),
            Err(reason) => index.reset(&reason)?,
        }
        Ok(index)
    }

    /// Why what is there must not be used, if so.
    fn distrust(&self) -> Option<String> {
        let opened_in = fs::read_to_string(self.marker()).ok()?;
        let same = self.boot_id.as_deref().is_some_and(|boot_id| boot_id == opened_in);
        (!same).then(|| "the machine restarted before it was closed".to_owned())
    }

    fn open_files(&self) -> Result<Trees, String> {
        fs::create_dir_all(&self.directory).map_err(text)?;
        remove_unfinished_snapshots(&self.directory).map_err(text)?;
        self.mark_open().map_err(text)?;
        let opened = catch_quietly(|| Trees::open(&self.directory, self.cache_bytes));
        opened.ok_or("sled panicked while opening")?.map_err(text)
    }

    /// The file that is there while the index is open; it holds the boot id.
    fn marker(&self) -> PathBuf {
        self.directory.join("opened-in-boot")
    }

    /// The marker is there as a whole or not at all, so that a kill in between costs no rebuild.
    fn mark_open(&self) -> io::Result<()> {
        let unfinished = self.marker().with_extension("new");
        fs::write(&unfinished, self.boot_id.as_deref().unwrap_or_default())?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, self.marker())?;
        File::open(&self.directory)?.sync_all()
    }

    fn trees(&self) -> Result<&Trees, IndexError> {
        self.open.as_ref().ok_or_else(|| IndexError("it is not open".to_owned()))
    }

    /// Moves the directory away; what was moved away before is deleted.
    fn set_aside(&self) -> io::Result<()> {
        let aside = self.directory.with_extension("set-aside");
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        if self.directory.exists() {
            fs::rename(&self.directory, &aside)?;
        }
        Ok(())
    }
}

impl Index for SledIndex {
    fn revision_before(&self, oid: Oid, before: Tid) -> Result<Option<(Tid, Place)>, IndexError> {
        let range = revision_key(oid, Tid::ZERO)..revision_key(oid, before);
        let Some(last) = self.trees()?.revisions.range(range).next_back() else { return Ok(None) };
        let (key, value) = last?;
        Ok(Some((tid_of(&key)?, Place::from_bytes(&value).ok_or_else(malformed)?)))
    }

    fn revision_from(&self, oid: Oid, from: Tid) -> Result<Option<Tid>, IndexError> {
        let range = revision_key(oid, from)..=revision_key(oid, Tid::MAX);
        let Some(next) = self.trees()?.revisions.range(range).next() else { return Ok(None) };
        tid_of(&next?.0).map(Some)
    }

    fn latest(&self, from: Oid, before: Tid, max: usize) -> Result<Vec<Latest>, IndexError> {
        let mut found = Vec::new();
        let mut from = Some(from);
        while let Some(oid) = from.filter(|_| found.len() < max) {
            from = self.latest_step(oid, before, max, &mut found)?;
        }
        Ok(found)
    }

    fn outcome(&self, id: TxnId) -> Result<Option<Tid>, IndexError> {
        let Some(tid) = self.trees()?.outcomes.get(id.to_bytes())? else { return Ok(None) };
        tid_of(&tid).map(Some)
    }

    fn milestone(&self, tid: Tid) -> Result<Option<(Tid, Position)>, IndexError> {
        let last = self.trees()?.milestones.range(..=tid.to_bytes()).next_back();
        let Some(last) = last else { return Ok(None) };
        let (key, value) = last?;
        let at = Fields(&value).array().map(Position::from_bytes);
        Ok(Some((tid_of(&key)?, at.ok_or_else(malformed)?)))
    }

    fn insert(&self, entry: &Entry) -> Result<(), IndexError> {
        let trees = self.trees()?;
        match *entry {
            Entry::Revision(oid, tid, place) => {
                trees.revisions.insert(revision_key(oid, tid), &place.to_bytes())?
            }
            Entry::Outcome(id, tid) => trees.outcomes.insert(id.to_bytes(), &tid.to_bytes())?,
            Entry::Milestone(tid, at) => trees.milestones.insert(tid.to_bytes(), &at.to_bytes())?,
        };
        Ok(())
    }

    fn raise(&self, tid: Tid) -> Result<(), IndexError> {
        if tid > self.raised()? {
            self.trees()?.db.insert(RAISED, &tid.to_bytes())?;
        }
        Ok(())
    }

    fn raised(&self) -> Result<Tid, IndexError> {
        let Some(tid) = self.trees()?.db.get(RAISED)? else { return Ok(Tid::ZERO) };
        tid_of(&tid)
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, IndexError> {
        let Some(bytes) = self.trees()?.db.get(CHECKPOINT)? else { return Ok(None) };
        Checkpoint::from_bytes(&bytes).map(Some).ok_or_else(malformed)
    }

    fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), IndexError> {
        self.flush()?;
        self.trees()?.db.insert(CHECKPOINT, checkpoint.to_bytes())?;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn reset(&mut self, reason: &str) -> Result<(), IndexError> {
        tracing::warn!(reason, "the index is made anew from the journal");
        self.open = None;
        self.set_aside().map_err(|error| IndexError(text(error)))?;
        self.open = Some(self.open_files().map_err(IndexError)?);
        Ok(())
    }

    fn close(&self) -> Result<(), IndexError> {
        self.flush()?;
        fs::remove_file(self.marker())?;
        Ok(File::open(&self.directory)?.sync_all()?)
    }
}

impl SledIndex {
    /// Makes all insertions durable, which sled's own flush does not.
    fn flush(&self) -> Result<(), IndexError> {
        self.trees()?.db.flush()?;
        let file = File::open(self.directory.join("db"))?;
        self.bytes.store(file.metadata()?.len(), Ordering::Relaxed);
        Ok(file.sync_data()?)
    }

    /// Goes on through the objects from `from` on until there are `max`, or to one with so many
    /// revisions that they are better passed over. Returns the next object.
    fn latest_step(
        &self,
        from: Oid,
        before: Tid,
        max: usize,
        found: &mut Vec<Latest>,
    ) -> Result<Option<Oid>, IndexError> {
        let mut current: Option<Latest> = None;
        let mut seen = 0;
        for entry in self.trees()?.revisions.range(revision_key(from, Tid::ZERO)..) {
            let (key, value) = entry?;
            let (oid, tid) = object_of(&key)?;
            if let Some((last, _)) = current.filter(|&(last, _)| last != oid) {
                found.extend(current.take());
                if found.len() >= max {
                    return Ok(next_oid(last));
                }
                seen = 0;
            }
            seen += 1;
            if seen > FEW_REVISIONS {
                found.push((oid, self.revision_before(oid, before)?));
                return Ok(next_oid(oid));
            }
            let known = current.and_then(|(_, revision)| revision);
            let place = Place::from_bytes(&value).ok_or_else(malformed)?;
            current = Some((oid, if tid < before { Some((tid, place)) } else { known }));
        }
        found.extend(current);
        Ok(None)
    }
}

impl Trees {
    fn open(directory: &Path, cache_bytes: u64) -> sled::Result<Self> {
        let config = sled::Config::new().path(directory).cache_capacity(cache_bytes);
        let db = open_when_let_go(&config.flush_every_ms(None))?;
        Ok(Self {
            revisions: db.open_tree("revisions")?,
            outcomes: db.open_tree("outcomes")?,
            milestones: db.open_tree("milestones")?,
            db,
        })
    }
}

/// Opens sled's files, as soon as an earlier user in this process has let go of them.
///
/// Nobody else has them, since the storage's own lock is held. But a thread of sled, or a child
/// between its fork and its exec, may keep sled's lock for a moment after the last user has gone;
/// that was taken for an index that does not open, and it was made anew.
fn open_when_let_go(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_ATTEMPTS {
        match config.open() {
            // It says so in this way only.
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// Together five seconds.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The run of the machine, where the system names it.
pub(in crate::storage) fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

fn remove_unfinished_snapshots(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn revision_key(oid: Oid, tid: Tid) -> [u8; 16] {
    (u128::from(oid.number()) << 64 | u128::from(tid.number())).to_be_bytes()
}

/// The tid that a key or a value ends with.
fn tid_of(bytes: &[u8]) -> Result<Tid, IndexError> {
    bytes.last_chunk().copied().map(Tid::from_bytes).ok_or_else(malformed)
}

/// The object and the tid of a key.
fn object_of(key: &[u8]) -> Result<(Oid, Tid), IndexError> {
    let oid = key.first_chunk().copied().map(Oid::from_bytes).ok_or_else(malformed)?;
    Ok((oid, tid_of(key)?))
}

fn malformed() -> IndexError {
    IndexError("an entry is malformed".to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// So many revisions of an object are looked at one by one; where there are more, the wanted one is
/// looked up.
const FEW_REVISIONS: usize = 32;
/// Where the checkpoint is, in sled's default tree.
const CHECKPOINT: &str = "checkpoint";
/// Where it is noted how new its entries may be.
const RAISED: &str = "raised";

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use zeo_proto::Identity;

    use super::*;

    #[test]
    fn closed_in_order_it_is_trusted_after_a_restart_of_the_machine() {
        let dir = filled();
        open(&dir, "boot").close().unwrap();
        assert_is_filled(&open(&dir, "another"));
    }

    #[test]
    fn killed_it_is_trusted_while_the_machine_runs() {
        let dir = filled();
        assert_is_filled(&open(&dir, "boot"));
        assert_is_filled(&open(&dir, "boot"));
    }

    #[test]
    fn killed_with_the_machine_it_is_made_anew() {
        let dir = filled();
        assert_is_new(&open(&dir, "another"));
        assert_is_new(&open(&dir, "another"));
        assert!(dir.path().join("index.set-aside").is_dir());
    }

    #[test]
    fn without_a_boot_id_it_is_only_trusted_when_closed_in_order() {
        let dir = filled();
        let path = dir.path().join("index");
        assert_is_new(&SledIndex::open(&path, CACHE, None).unwrap());
    }

    #[test]
    fn files_that_sled_refuses_are_moved_aside() {
        let dir = filled();
        let garbage = vec![0xa5; 70_000];
        fs::write(dir.path().join("index/conf"), &garbage).unwrap();
        let index = open(&dir, "boot");
        assert_is_new(&index);
        index.insert(&REVISION).unwrap();
        assert_eq!(fs::read(dir.path().join("index.set-aside/conf")).unwrap(), garbage);
    }

    #[test]
    fn files_that_sled_takes_for_empty_are_an_empty_index() {
        let dir = filled();
        fs::write(dir.path().join("index/db"), vec![0xa5; 70_000]).unwrap();
        let index = open(&dir, "boot");
        assert_is_new(&index);
        index.insert(&REVISION).unwrap();
    }

    #[test]
    fn a_reset_leaves_nothing() {
        let dir = filled();
        let mut index = open(&dir, "boot");
        index.reset("a test").unwrap();
        assert_is_new(&index);
        index.insert(&REVISION).unwrap();
        drop(index);
        assert_eq!(open(&dir, "boot").revision_from(OID, Tid::ZERO).unwrap(), Some(Tid::new(9)));
    }

    const CACHE: u64 = 1 << 20;
    const OID: Oid = Oid::new(7);
    const PLACE: Place = Place { at: Position { segment: 1, offset: 72 }, len: 99, deleted: false };
    const REVISION: Entry = Entry::Revision(OID, Tid::new(9), PLACE);
    const CHECKPOINT: Checkpoint = Checkpoint {
        identity: Identity { uuid: [5; 16], epoch: 1 },
        end: PLACE.at,
        last_group: PLACE.at,
        last_group_crc: 1,
        tid: Tid::new(9),
        next_oid: Oid::new(8),
        objects: 1,
    };

    /// What still had sled's lock for a moment cost the whole index.
    #[test]
    fn an_index_that_is_just_being_let_go_is_waited_for() {
        let dir = filled();
        let marker = dir.path().join("index/opened-in-boot");
        fs::remove_file(&marker).unwrap();
        let user = File::open(dir.path().join("index/db")).unwrap();
        user.lock().unwrap();
        let index = std::thread::scope(|scope| {
            let opening = scope.spawn(|| open(&dir, "boot"));
            while !marker.exists() {
                std::thread::yield_now();
            }
            user.unlock().unwrap();
            opening.join().unwrap()
        });
        assert_eq!(index.checkpoint().unwrap(), Some(CHECKPOINT));
    }

    fn open(dir: &TempDir, boot_id: &str) -> SledIndex {
        SledIndex::open(&dir.path().join("index"), CACHE, Some(boot_id.to_owned())).unwrap()
    }

    fn filled() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let index = open(&dir, "boot");
        index.insert(&REVISION).unwrap();
        index.insert(&Entry::Outcome(TxnId::default(), Tid::new(9))).unwrap();
        index.insert(&Entry::Milestone(Tid::new(9), PLACE.at)).unwrap();
        index.write_checkpoint(&CHECKPOINT).unwrap();
        index.flush().unwrap();
        dir
    }

    fn assert_is_filled(index: &SledIndex) {
        assert_eq!(index.checkpoint().unwrap(), Some(CHECKPOINT));
        assert_eq!(index.revision_before(OID, Tid::MAX).unwrap(), Some((Tid::new(9), PLACE)));
        assert_eq!(index.revision_before(OID, Tid::new(9)).unwrap(), None);
        assert_eq!(index.revision_from(OID, Tid::new(9)).unwrap(), Some(Tid::new(9)));
        assert_eq!(index.revision_from(OID, Tid::new(10)).unwrap(), None);
        assert_eq!(index.outcome(TxnId::default()).unwrap(), Some(Tid::new(9)));
        assert_eq!(index.milestone(Tid::new(8)).unwrap(), None);
        assert_eq!(index.milestone(Tid::MAX).unwrap(), Some((Tid::new(9), PLACE.at)));
    }

    fn assert_is_new(index: &SledIndex) {
        assert_eq!(index.checkpoint().unwrap(), None);
        assert_eq!(index.revision_before(OID, Tid::MAX).unwrap(), None);
    }
}
