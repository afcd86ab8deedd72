//! The fuzz targets over the inputs that are kept, and over random ones.

use std::fs;
use std::path::Path;

use super::history::{History, Script};
use super::{damaged_journal, disk_with, journal, open};
use crate::storage::OpenError;
use crate::storage::disk::Random;
use crate::storage::index::MapIndex;
use crate::storage::journal::craft::repair;

#[test]
fn any_journal_is_refused_or_opened() {
    for data in kept("journal") {
        journal(&data);
    }
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let script = random_bytes(&mut random, 30);
        let history = History::make(&mut Script(&script));
        let mut data: Vec<u8> = history.files.into_values().flatten().collect();
        for _ in 0..random.below(4) {
            let at = usize::try_from(random.below(data.len() as u64)).unwrap();
            data[at] ^= random_bytes(&mut random, 1)[0];
        }
        journal(&data);
    }
}

#[test]
fn a_damaged_journal_is_read_up_to_the_damage_or_around_it() {
    for data in kept("damaged_journal") {
        damaged_journal(&data);
    }
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let len = 10 + random.below(40);
        damaged_journal(&random_bytes(&mut random, len));
    }
}

/// A record with the tid of another transaction was taken as it came. Whether it superseded another
/// then depended on which of the two was in the index and which in the overlay: a fuzzed journal
/// gave other answers when it was opened again. Now it is damage.
#[test]
fn a_transaction_out_of_order_is_damage() {
    let history = History::make(&mut Script(&[3, 0, 8, 8, 8, 8]));
    let mut file = history.files[&1].clone();
    let [first, last] = [1, 3].map(|group| history.groups[group].tid.to_bytes());
    for at in 0..file.len() - 8 {
        if file[at..].starts_with(&last) {
            file[at..at + 8].copy_from_slice(&first);
        }
    }
    repair(1, &mut file);
    let disk = disk_with(&[(1, file)].into());
    let Err(OpenError::Damaged(damage)) = open(&disk, &MapIndex::default()) else { panic!() };
    assert_eq!(damage.offset, u64::from(history.groups[3].at.offset));
    assert_eq!(damage.what, "a group whose transactions are not in order");
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(corpus).expect("inputs are kept");
    let kept: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!kept.is_empty());
    kept
}

fn random_bytes(random: &mut Random, len: u64) -> Vec<u8> {
    (0..len).map(|_| random.next_u64().to_be_bytes()[7]).collect()
}
