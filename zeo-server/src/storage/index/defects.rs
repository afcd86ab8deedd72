//! What is known to go wrong with sled 0.34, and with directories put together by hand: in every
//! case the store opens, says why the index is made anew and how far it has come, and has lost
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use zeo_proto::{Oid, Outcome, Tid};

use crate::storage::disk::RealDisk;
use crate::storage::index::SledIndex;
use crate::storage::index::quiet::catch_quietly;
use crate::storage::testing::{IDENTITY, commit, committed, load, new, outcome, revision};
use crate::storage::{Found, JournalStorage, OpenOptions, Settings, Storage, open};

/// A kill while sled opens leaves a file with which it never opens again.
#[test]
fn a_left_over_unfinished_snapshot_is_removed() {
    let store = Store::killed();
    let left_over = store.index().join("snap.00000000000000AB.generating");
    fs::write(&left_over, b"half a snapshot").unwrap();
    sled::open(store.copy_of_index()).expect_err("sled does not open with it");
    let log = store.reopen();
    assert!(!log.contains("made anew"), "{log}");
    assert!(!left_over.exists());
}

#[test]
fn an_index_that_does_not_open_is_made_anew() {
    let store = Store::killed();
    fs::write(store.index().join("conf"), [0xa5; 70]).unwrap();
    store.assert_made_anew("");
}

/// Damaged pages make sled panic, not fail.
#[test]
fn an_index_that_panics_while_it_opens_is_made_anew() {
    let store = Store::closed();
    damage_until_it_panics(&store.index());
    store.assert_made_anew("sled panicked while opening");
}

/// An index is not written where a commit waits, so a kill may cost it what was last.
#[test]
fn an_index_that_has_lost_its_tail_is_filled_up() {
    let mut store = Store::killed();
    let earlier = store.copy_of_index();
    store.commit_some();
    put_back(&earlier, &store.index());
    let log = store.reopen();
    assert!(!log.contains("made anew"), "{log}");
}

#[test]
fn an_index_whose_file_is_cut_off_anywhere_costs_nothing() {
    let store = Store::closed();
    let db = fs::read(store.index().join("db")).unwrap();
    let sound = store.copy_of_index();
    for part in 0..8 {
        put_back(&sound, &store.index());
        fs::write(store.index().join("db"), &db[..db.len() / 8 * part]).unwrap();
        store.reopen();
    }
}

#[test]
fn an_index_of_another_store_is_made_anew() {
    let (store, other) = (Store::closed(), Store::of([9; 16]));
    other.open().close().unwrap();
    put_back(&other.copy_of_index(), &store.index());
    store.assert_made_anew("it is that of another storage");
}

/// sled does not survive a power cut, so nothing that may have been through one is trusted.
#[test]
fn an_index_from_before_a_restart_of_the_machine_is_made_anew() {
    let store = Store::killed();
    fs::write(store.index().join("opened-in-boot"), "another boot").unwrap();
    store.assert_made_anew("the machine restarted before it was closed");
}

#[test]
fn an_index_that_is_newer_than_a_journal_put_back_is_made_anew() {
    let mut store = Store::closed();
    let (journal, earlier) = (store.copy_of("journal"), store.commits.clone());
    store.commit_some();
    store.open().close().unwrap();
    put_back(&journal, &store.part("journal"));
    store.commits = earlier;
    store.assert_made_anew("its position is not in the journal");
}

/// Its checkpoint is in the journal, entries that came after it are not. They were found, and the
/// records that they named were not there.
#[test]
fn an_index_with_entries_that_a_journal_put_back_does_not_have_is_made_anew() {
    let mut store = Store::killed();
    let (journal, earlier) = (store.copy_of("journal"), store.commits.clone());
    let storage = store.open();
    for _ in 0..20 {
        store.commit_one(&storage);
    }
    while storage.overlay_len() > 0 {
        storage.index_some().unwrap();
    }
    drop(storage);
    put_back(&journal, &store.part("journal"));
    store.commits = earlier;
    store.assert_made_anew("it is newer than the journal");
}

/// Its checkpoint did not say yet how many objects there are.
#[test]
fn an_index_of_an_older_version_is_made_anew() {
    let store = Store::closed();
    let db = sled::open(store.index()).unwrap();
    let checkpoint = db.get("checkpoint").unwrap().unwrap();
    db.insert("checkpoint", &checkpoint[..checkpoint.len() - 8]).unwrap();
    db.flush().unwrap();
    drop(db);
    store.assert_made_anew("an entry is malformed");
}

/// A store on disk, and what was committed to it.
struct Store {
    dir: TempDir,
    uuid: [u8; 16],
    commits: Vec<Tid>,
}

impl Store {
    /// As a killed process leaves it.
    fn killed() -> Self {
        Self::of(IDENTITY.uuid)
    }

    fn closed() -> Self {
        let store = Self::killed();
        store.open().close().unwrap();
        store
    }

    fn of(uuid: [u8; 16]) -> Self {
        let mut store = Self { dir: tempfile::tempdir().unwrap(), uuid, commits: Vec::new() };
        store.commit_some();
        store
    }

    /// Commits more than a segment holds; much of it gets into the index.
    fn commit_some(&mut self) {
        let storage = self.open();
        for _ in 0..150 {
            self.commit_one(&storage);
        }
        while storage.chores().index {
            storage.index_some().unwrap();
        }
    }

    fn commit_one(&mut self, storage: &OnDisk) {
        let id = self.commits.len() as u64 + 1;
        let records = (0..4).map(|part| new(id + part * 1_000_000, &data(id)));
        self.commits.push(committed(storage, commit(id, records)));
    }

    fn open(&self) -> OnDisk {
        let options = OpenOptions::new(self.uuid);
        let options =
            OpenOptions { settings: Settings::small(), index_cache_bytes: 1 << 20, ..options };
        open(&self.part("."), options).unwrap()
    }

    /// Opens it, compares all there is, goes on, and closes it. Returns what was logged meanwhile.
    fn reopen(&self) -> String {
        let log = self.part("log");
        let file = Arc::new(fs::File::create(&log).unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(file);
        tracing::subscriber::with_default(subscriber.finish(), || {
            let storage = self.open();
            self.assert_whole(&storage);
            drop(storage);
            let storage = self.open();
            self.assert_whole(&storage);
            storage.close().unwrap();
        });
        fs::read_to_string(log).unwrap()
    }

    fn assert_made_anew(&self, reason: &str) {
        let log = self.reopen();
        let anew = "the index is made anew from the journal";
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(anew)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN") && lines[0].contains(reason), "{log}");
        assert!(log.contains("read this far in the journal"), "{log}");
    }

    fn assert_whole(&self, storage: &OnDisk) {
        assert_eq!(storage.last_tid(), *self.commits.last().unwrap());
        assert_eq!(storage.size().objects, 4 * self.commits.len() as u64);
        for (id, &tid) in (1..).zip(&self.commits) {
            assert_eq!(load(storage, id), revision(tid, None, &data(id)));
            assert_eq!(load(storage, id + 3_000_000), revision(tid, None, &data(id)));
            assert_eq!(outcome(storage, id), Outcome::Committed(tid));
        }
        let beyond = Oid::new(self.commits.len() as u64 + 1);
        assert_eq!(storage.load_before(beyond, Tid::MAX, Tid::MAX).unwrap(), Found::Absent);
    }

    fn part(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn index(&self) -> PathBuf {
        self.part("index")
    }

    fn copy_of_index(&self) -> PathBuf {
        self.copy_of("index")
    }

    fn copy_of(&self, name: &str) -> PathBuf {
        let copy = self.part(&format!("{name}.copy"));
        put_back(&self.part(name), &copy);
        copy
    }
}

type OnDisk = JournalStorage<RealDisk, SledIndex>;

fn data(id: u64) -> String {
    format!("{id} ").repeat(200)
}

/// Fills several of sled's segments, and overwrites a page with zeros that it panics without.
fn damage_until_it_panics(index: &Path) {
    let db = sled::open(index).unwrap();
    for key in 0..10_000_u32 {
        db.insert(key.to_be_bytes(), vec![1; 100]).unwrap();
    }
    // Dropping it leaves some of it to threads of its own, which may still be writing.
    db.flush().unwrap();
    drop(db);
    let (sound, copy) = (fs::read(index.join("db")).unwrap(), index.with_extension("damaged"));
    let without = |start: usize| {
        let mut damaged = sound.clone();
        damaged[start..start + PAGE].fill(0);
        damaged
    };
    let panics = |&start: &usize| {
        put_back(index, &copy);
        fs::write(copy.join("db"), without(start)).unwrap();
        catch_quietly(|| sled::open(&copy).map(drop)).is_none()
    };
    let starts = |step| (0..sound.len() - PAGE).step_by(step * PAGE);
    let start = starts(8).chain(starts(1)).find(panics).expect("sled panics");
    fs::write(index.join("db"), without(start)).unwrap();
}

const PAGE: usize = 4_096;

/// Makes a directory the same as another one.
fn put_back(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            put_back(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
