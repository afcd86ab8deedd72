//! What must hold of a journal whatever its files contain, as functions that tests and fuzz targets
//! share.
//!
//! Not part of the crate's interface.
#![expect(clippy::panic, reason = "a fuzz target says by panicking what it found")]

mod answers;
mod damage;
mod history;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use zeo_proto::{Identity, Oid};

use super::disk::{Disk, DiskFile, SimDisk};
use super::index::MapIndex;
use super::journal::craft::{repair, segments};
use super::{JournalStorage, OpenError, Settings, Storage};
use answers::Answers;

pub use damage::damaged_journal;

/// Segment files by their numbers.
type Files = BTreeMap<u32, Vec<u8>>;
type Simulated = JournalStorage<SimDisk, MapIndex>;

/// Any bytes as segment files, one from each magic on; and the same with all checksums right.
///
/// They are refused with a reason, and then not changed; or they are opened, say the same when they
/// are opened again, with and without the index, and take a commit.
pub fn journal(data: &[u8]) {
    let mut files: Files = (1..).zip(segments(data)).collect();
    opens_or_is_refused(&files);
    for (&number, file) in &mut files {
        repair(number, file);
    }
    opens_or_is_refused(&files);
}

fn opens_or_is_refused(files: &Files) {
    let (disk, index) = (disk_with(files), MapIndex::default());
    let storage = match open(&disk, &index) {
        Ok(storage) => storage,
        Err(refused) => return is_harmless(&refused, files, &disk),
    };
    let found = Answers::of(&storage);
    storage.close().expect("nothing fails on this disk");
    drop(storage);
    let again = open(&disk, &index).expect("what was opened can be opened again");
    assert!(Answers::of(&again) == found, "other answers when opened again");
    drop(again);
    let rebuilt = open(&disk, &MapIndex::default()).expect("and without its index");
    assert!(Answers::of(&rebuilt) == found, "other answers without the index");
    history::takes_a_commit(&rebuilt, Oid::new(3));
}

/// An error has to do with the files, and they are as they were.
fn is_harmless(refused: &OpenError, files: &Files, disk: &SimDisk) {
    let named = matches!(
        refused,
        OpenError::Damaged(_) | OpenError::ForeignFile { .. } | OpenError::NewerFormat { .. }
    );
    assert!(named, "{refused}");
    assert!(*files == files_of(disk), "refused, and yet changed: {refused}");
}

fn open(disk: &SimDisk, index: &MapIndex) -> Result<Simulated, OpenError> {
    JournalStorage::open(disk.clone(), || Ok(index.clone()), TINY, IDENTITY.uuid)
}

fn disk_with(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    for (number, bytes) in files {
        let file = disk.create(&name(*number)).expect("the names differ");
        file.write_at(bytes, 0).expect("nothing fails on this disk");
    }
    disk
}

fn files_of(disk: &SimDisk) -> Files {
    let names = disk.list().expect("nothing fails on this disk");
    let number = |name: &String| name.strip_suffix(".log").and_then(|number| number.parse().ok());
    let numbers = names.iter().filter_map(number);
    numbers.map(|number| (number, bytes_of(disk, number))).collect()
}

fn bytes_of(disk: &SimDisk, number: u32) -> Vec<u8> {
    let file = disk.open(&name(number)).expect("it was listed");
    let size = file.size().expect("nothing fails on this disk");
    let mut bytes = vec![0; usize::try_from(size).expect("it is in memory")];
    file.read_at(&mut bytes, 0).expect("nothing fails on this disk");
    bytes
}

fn name(number: u32) -> String {
    format!("{number:08}.log")
}

/// Everything so small that a few commits reach every bound.
const TINY: Settings = Settings {
    segment_bytes: 2_048,
    group_bytes: 1_024,
    overlay_entries: 24,
    checkpoint_entries: 16,
    index_step: 5,
    fences: 4,
    quota_bytes: None,
};
const IDENTITY: Identity = Identity { uuid: [5; 16], epoch: 1 };
const LIMIT: usize = 10_000;
