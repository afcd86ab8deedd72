//! Torn tails, damage, and files that do not belong together.

mod every_byte;

use zeo_proto::{Oid, Outcome, Tid};

use super::disk::Disk;
use super::testing::{
    World, changes, commit, committed, load, new, objects, outcome, revision, update,
};
use super::{Found, OpenError, Record, Storage, StorageError};

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let whole = world.segment(1);
    committed(&storage, commit(2, [update(1, first, "b")]));
    drop(storage);
    let torn = world.segment(1);
    for cut in whole.len()..torn.len() - PADDING {
        let world = World::new(1);
        world.put_segment(1, &torn[..cut]);
        let storage = world.open().unwrap();
        assert!(world.segment(1)[whole.len()..].iter().all(|&byte| byte == 0), "wiped");
        assert_eq!(load(&storage, 1), revision(first, None, "a"));
        committed(&storage, commit(3, [new(3, "c")]));
        world.disk.crash();
        let storage = world.open().unwrap();
        assert_eq!(outcome(&storage, 2), Outcome::NotCommitted);
        assert!(matches!(load(&storage, 3), Found::Revision(..)));
    }
}

#[test]
fn damage_before_what_is_durable_is_located_and_nothing_is_cut() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "a")]));
    let end_of_first = world.segment(1).len();
    committed(&storage, commit(2, [update(1, first, "b")]));
    let end_of_second = world.segment(1).len();
    committed(&storage, commit(3, [new(3, "c")]));
    drop(storage);
    let sound = world.segment(1);
    for offset in end_of_first..end_of_second - PADDING {
        let world = World::new(1);
        world.put_segment(1, &sound);
        world.disk.damage("00000001.log", offset);
        let before = world.segment(1);
        let OpenError::Damaged(damage) = world.open().unwrap_err() else { panic!() };
        assert_eq!(damage.file, "journal/00000001.log");
        assert_eq!((damage.offset, damage.after), (end_of_first as u64, first));
        assert_eq!(world.segment(1), before, "nothing was changed");
    }
}

#[test]
fn damage_at_the_start_of_a_segment_is_not_a_new_storage() {
    for offset in [0, 9, 40, 70, 130] {
        let world = World::new(1);
        let storage = world.open().unwrap();
        committed(&storage, commit(1, [new(1, "a")]));
        drop(storage);
        world.disk.damage("00000001.log", offset);
        let refused = world.open().unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{offset}: {refused}");
    }
}

#[test]
fn a_lost_segment_is_damage() {
    let world = World::new(1);
    let storage = world.filled(20);
    let last = storage.last_tid();
    drop(storage);
    let names = world.disk.list().unwrap();
    assert!(names.len() > 3, "{names:?}");
    for name in &names[..names.len() - 1] {
        let copy = world.copy();
        copy.disk.remove(name).unwrap();
        let refused = copy.open().unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{name}: {refused}");
    }
    assert_eq!(world.copy().open().unwrap().last_tid(), last, "the copies are sound");
}

#[test]
fn a_damaged_record_is_reported_where_it_is_and_the_others_are_read() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    let first = committed(&storage, commit(1, [new(1, "damaged"), new(2, "sound")]));
    storage.close().unwrap();
    drop(storage);
    let sound = world.segment(1);
    let at = sound.windows(7).position(|bytes| bytes == b"damaged").unwrap();
    world.disk.damage("00000001.log", at);
    let storage = world.open().unwrap();
    let error = storage.load_before(Oid::new(1), Tid::MAX, Tid::MAX).unwrap_err();
    assert!(matches!(error, StorageError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("journal/00000001.log at byte"), "{error}");
    assert_eq!(load(&storage, 2), revision(first, None, "sound"));
}

#[test]
fn data_that_looks_like_the_journal_is_only_data() {
    let world = World::new(1);
    let storage = world.open().unwrap();
    committed(&storage, commit(1, [new(1, "a")]));
    committed(&storage, commit(2, [new(2, "b")]));
    let whole = world.segment(1);
    let copy = Record::store(Oid::new(3), Some(Tid::ZERO), whole.clone().into(), None);
    committed(&storage, commit(3, [copy]));
    drop(storage);
    let torn = world.segment(1);
    let torn = if torn.len() > whole.len() { torn } else { return };
    let world = World::new(1);
    world.put_segment(1, &torn[..torn.len() - 9]);
    let storage = world.open().unwrap();
    assert_eq!(outcome(&storage, 3), Outcome::NotCommitted);
}

#[test]
fn a_newer_format_and_a_foreign_segment_are_refused() {
    let world = World::new(1);
    drop(world.filled(20));
    let mut header = world.segment(2);
    header[8..12].copy_from_slice(&2_u32.to_be_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_be_bytes());
    let newer = world.copy();
    newer.put_segment(2, &header);
    let refused = newer.open().unwrap_err().to_string();
    assert_eq!(refused, "journal/00000002.log has format 2; this version reads up to 1");
    let other = World { uuid: [9; 16], ..World::new(2) };
    drop(other.filled(20));
    let mixed = world.copy();
    mixed.put_segment(2, &other.segment(2));
    let refused = mixed.open().unwrap_err().to_string();
    assert_eq!(refused, "journal/00000002.log belongs to another storage");
}

#[test]
fn an_index_that_does_not_fit_is_made_anew() {
    let world = World::new(1);
    let storage = world.filled(30);
    let last = storage.last_tid();
    storage.close().unwrap();
    drop(storage);
    let foreign = World { uuid: [9; 16], ..World::new(2) };
    foreign.filled(30).close().unwrap();
    let older = World::new(1);
    older.filled(60).close().unwrap();
    for index in [&foreign.index, &older.index] {
        let mixed = World { index: index.clone(), ..world.copy() };
        let storage = mixed.open().unwrap();
        assert_eq!(mixed.index.resets(), 1);
        assert_eq!(storage.last_tid(), last);
        assert_eq!(changes(&storage, Tid::ZERO), objects(1..=30));
    }
}

#[test]
fn an_index_that_is_lost_is_filled_again() {
    let world = World::new(1);
    let storage = world.filled(30);
    let all: Vec<_> = (1..=30).map(|oid| load(&storage, oid)).collect();
    storage.close().unwrap();
    drop(storage);
    world.index.lose_all();
    let storage = world.open().unwrap();
    assert_eq!((1..=30).map(|oid| load(&storage, oid)).collect::<Vec<_>>(), all);
    assert_eq!(outcome(&storage, 7), Outcome::Committed(storage_tid(&all[6])));
}

/// Bytes at the end of a group that may be padding, which nothing depends on.
const PADDING: usize = 7;

fn storage_tid(found: &Found) -> Tid {
    let Found::Revision(validity, _) = found else { panic!("{found:?}") };
    validity.serial
}
