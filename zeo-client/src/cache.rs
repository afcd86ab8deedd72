//! What this client remembers of objects: revisions by oid and time, bounded in bytes.
//!
//! Any thread reads, through [`Cache`]; only the reactor thread writes, and the one [`CacheWriter`]
//! lives there. A reader always names `before`, and a revision says until when it is valid, so a
//! revision that was superseded stays right for older snapshots. A revision without an end is
//! what is current as of the last tid that the client has published to its readers, and answers
//! no question about later ones.
//!
//! That an object does not exist is never remembered: it may be created without our hearing of it.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, Weighter};
use zeo_proto::{Oid, Tid};

use crate::revision::Revision;

/// The cache as every thread may see it.
#[derive(Debug)]
pub(crate) struct Cache {
    histories: Histories,
}

/// The right to change the cache. There is one, and the reactor thread has it.
#[derive(Debug)]
pub(crate) struct CacheWriter {
    cache: Arc<Cache>,
}

/// The revisions of one object that are in memory, newest first.
type History = Arc<[Revision]>;
type Histories = quick_cache::sync::Cache<Oid, History, Bytewise, FixedState>;

/// An empty cache that takes at most so many bytes, and the right to change it.
pub(crate) fn cache(max_bytes: usize) -> (Arc<Cache>, CacheWriter) {
    let options = OptionsBuilder::new()
        .shards(SHARDS)
        .estimated_items_capacity((max_bytes / TYPICAL_BYTES).max(1))
        .weight_capacity(max_bytes as u64)
        .build()
        .expect("both capacities are given");
    // Oids are given by the server, so nobody chooses them to collide; and a simulation repeats.
    let hasher = FixedState::default();
    let histories = Histories::with_options(options, Bytewise, hasher, DefaultLifecycle::default());
    let cache = Arc::new(Cache { histories });
    (Arc::clone(&cache), CacheWriter { cache })
}

impl Cache {
    /// The revision that a reader of `before` sees, if it is here. `last` is the last tid whose
    /// changes the reader knows to have been applied; it must have been read before this call.
    pub(crate) fn find(&self, oid: Oid, before: Tid, last: Tid) -> Option<Revision> {
        let history = self.histories.get(&oid)?;
        let revision = history.iter().find(|revision| revision.tid < before)?;
        revision.is_valid_before(before, last).then(|| revision.clone())
    }

    /// Bytes of memory that are taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.histories.weight()
    }
}

impl CacheWriter {
    /// Remembers a revision that the server sent.
    pub(crate) fn insert(&mut self, oid: Oid, revision: Revision) {
        let history = self.cache.histories.peek(&oid);
        let known = history.as_deref().unwrap_or_default();
        let superseded = known.first().is_some_and(|newest| newest.tid > revision.tid);
        if !superseded || revision.end.is_some() {
            self.cache.histories.insert(oid, merged(known, revision).into());
        }
    }

    /// Remembers what a transaction of this client wrote at `tid`; `None` for a deletion.
    pub(crate) fn supersede(&mut self, oid: Oid, tid: Tid, data: Option<Bytes>) {
        self.end(oid, tid, tid);
        if let Some(data) = data {
            self.insert(oid, Revision { data, tid, end: None });
        }
    }

    /// Ends what is current, because the object was changed at `tid`.
    pub(crate) fn invalidate(&mut self, oid: Oid, tid: Tid) {
        self.end(oid, tid, tid);
    }

    /// Ends what is current, because the object was changed at some time after `last`.
    pub(crate) fn invalidate_after(&mut self, oid: Oid, last: Tid) {
        self.end(oid, Tid::MAX, last.next());
    }

    /// Evicts what is current if it is older than `committed`, which a conflict has told us of.
    pub(crate) fn evict_older(&mut self, oid: Oid, committed: Tid) {
        let current = self.cache.histories.peek(&oid);
        if let Some(newest) = current.as_deref().and_then(<[Revision]>::first) {
            self.end(oid, committed, newest.tid.next());
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.cache.histories.clear();
    }

    /// Ends what is current if it was written before `changed`.
    fn end(&mut self, oid: Oid, changed: Tid, end: Tid) {
        let Some(history) = self.cache.histories.peek(&oid) else { return };
        if !history.first().is_some_and(|newest| newest.end.is_none() && newest.tid < changed) {
            return;
        }
        let mut revisions = history.to_vec();
        if let Some(newest) = revisions.first_mut() {
            newest.end = Some(end);
        }
        // A soft replacement does not count as use. If the entry was evicted meanwhile, by an
        // insertion of this very thread, there is nothing left to end.
        let _evicted = self.cache.histories.replace(oid, revisions.into(), true);
    }
}

/// A history with one more revision in its place. Of one revision that is known twice, the longer
/// validity counts: both are true.
fn merged(known: &[Revision], mut revision: Revision) -> Vec<Revision> {
    if let Some(same) = known.iter().find(|same| same.tid == revision.tid) {
        revision.end = same.end.zip(revision.end).map(|(one, other)| one.max(other));
    }
    let serial = revision.tid;
    let newer = known.iter().filter(|other| other.tid > serial).cloned();
    // What has a successor but no end: nobody knows how long it was valid.
    let older = known.iter().filter(|other| other.tid < serial && other.end.is_some()).cloned();
    newer.chain([revision]).chain(older).take(REVISIONS_MAX).collect()
}

/// Counts the bytes of data and what it takes to find them.
#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Oid, History> for Bytewise {
    fn weight(&self, _: &Oid, history: &History) -> u64 {
        let data: usize = history.iter().map(|revision| revision.data.len() + REVISION_BYTES).sum();
        (data + ENTRY_BYTES) as u64
    }
}

/// Readers of different shards do not meet. A power of two; an eighth of the cache is also the
/// largest object that it takes.
const SHARDS: usize = 8;
/// How large a cached object is assumed to be, for sizing tables. It may be wrong by far.
const TYPICAL_BYTES: usize = 1_024;
/// Revisions of one object that are kept.
const REVISIONS_MAX: usize = 4;
/// What a revision takes beside its data: the struct, and the allocation of its data.
const REVISION_BYTES: usize = 96;
/// What an entry takes: key, links, hash table slot, and the history's allocation.
const ENTRY_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const OID: Oid = Oid::new(7);

    #[test]
    fn r1_the_current_revision_answers_up_to_the_last_tid_and_no_further() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(3, None));
        assert_eq!(cache.find(OID, tid(6), tid(5)), Some(revision(3, None)));
        assert_eq!(cache.find(OID, tid(4), tid(5)), Some(revision(3, None)));
        assert_eq!(cache.find(OID, tid(7), tid(5)), None, "6 may have changed it");
        assert_eq!(cache.find(OID, tid(3), tid(5)), None, "it was not written yet");
        assert_eq!(cache.find(Oid::new(8), tid(6), tid(5)), None);
    }

    #[test]
    fn an_invalidated_revision_stays_right_for_older_snapshots() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(3, None));
        writer.invalidate(OID, tid(6));
        assert_eq!(cache.find(OID, tid(6), tid(6)), Some(revision(3, Some(6))));
        assert_eq!(cache.find(OID, tid(7), tid(6)), None);
        writer.insert(OID, revision(6, None));
        assert_eq!(cache.find(OID, tid(7), tid(6)), Some(revision(6, None)));
        assert_eq!(cache.find(OID, tid(6), tid(6)), Some(revision(3, Some(6))));
    }

    #[test]
    fn an_invalidation_that_what_is_current_already_contains_changes_nothing() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(6, None));
        writer.invalidate(OID, tid(6));
        writer.invalidate(OID, tid(5));
        assert_eq!(cache.find(OID, tid(7), tid(6)), Some(revision(6, None)));
    }

    #[test]
    fn a_change_at_an_unknown_time_ends_it_right_after_what_is_known() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(3, None));
        writer.invalidate_after(OID, tid(5));
        assert_eq!(cache.find(OID, tid(6), tid(9)), Some(revision(3, Some(6))));
        assert_eq!(cache.find(OID, tid(7), tid(9)), None);
    }

    #[test]
    fn an_own_commit_is_current_and_what_it_replaced_is_ended() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(3, None));
        writer.supersede(OID, tid(6), Some(data(6)));
        assert_eq!(cache.find(OID, tid(7), tid(6)), Some(revision(6, None)));
        assert_eq!(cache.find(OID, tid(6), tid(6)), Some(revision(3, Some(6))));
        writer.supersede(OID, tid(8), None);
        assert_eq!(cache.find(OID, tid(9), tid(8)), None, "deleted");
        assert_eq!(cache.find(OID, tid(8), tid(8)), Some(revision(6, Some(8))));
    }

    #[test]
    fn of_a_revision_seen_twice_the_longer_validity_counts() {
        let (cache, mut writer) = cache(1 << 20);
        for ends in [Some(5), Some(4), Some(6)] {
            writer.insert(OID, revision(3, ends));
        }
        assert_eq!(cache.find(OID, tid(6), tid(9)), Some(revision(3, Some(6))));
        writer.insert(OID, revision(3, None));
        assert_eq!(cache.find(OID, tid(10), tid(9)), Some(revision(3, None)));
    }

    #[test]
    fn what_is_older_than_a_known_revision_is_not_taken_as_current() {
        let (cache, mut writer) = cache(1 << 20);
        writer.insert(OID, revision(6, None));
        writer.insert(OID, revision(3, None));
        assert_eq!(cache.find(OID, tid(7), tid(6)), Some(revision(6, None)));
        assert_eq!(cache.find(OID, tid(6), tid(6)), None, "nobody knows when 3 ended");
        writer.insert(OID, revision(3, Some(5)));
        assert_eq!(cache.find(OID, tid(5), tid(6)), Some(revision(3, Some(5))));
    }

    #[test]
    fn the_oldest_revisions_of_an_object_go_first() {
        let (cache, mut writer) = cache(1 << 20);
        for number in 1..=6 {
            writer.supersede(OID, tid(number), Some(data(number)));
        }
        assert_eq!(cache.find(OID, tid(3), tid(6)), None);
        assert_eq!(cache.find(OID, tid(4), tid(6)), Some(revision(3, Some(4))));
    }

    #[test]
    fn memory_stays_within_its_bound() {
        let (cache, mut writer) = cache(64 << 10);
        for number in 0..1_000 {
            let data = Bytes::from(vec![0; 1_000]);
            writer.insert(Oid::new(number), Revision { data, tid: tid(1), end: None });
        }
        assert!(cache.bytes() <= 64 << 10);
        assert!(cache.bytes() > 32 << 10);
        writer.clear();
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_cache_without_room_is_empty() {
        let (cache, mut writer) = cache(0);
        writer.insert(OID, revision(3, None));
        writer.supersede(OID, tid(6), Some(data(6)));
        assert_eq!(cache.find(OID, tid(7), tid(6)), None);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_revision_too_large_for_the_cache_leaves_no_stale_one_behind() {
        let (cache, mut writer) = cache(64 << 10);
        writer.insert(OID, revision(3, None));
        writer.supersede(OID, tid(6), Some(Bytes::from(vec![0; 1 << 20])));
        assert_eq!(cache.find(OID, tid(7), tid(6)), None);
    }

    fn revision(serial: u64, end: Option<u64>) -> Revision {
        Revision { data: data(serial), tid: tid(serial), end: end.map(tid) }
    }

    fn data(number: u64) -> Bytes {
        Bytes::from(number.to_string())
    }

    fn tid(number: u64) -> Tid {
        Tid::new(number)
    }
}
