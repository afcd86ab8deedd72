//! The memory of hot records: current revisions that a load is answered from in the same turn.

use bytes::Bytes;
use quick_cache::{Weighter, unsync::Cache};
use zeo_proto::{Oid, Tid};

/// Current revisions of the objects that were loaded or written lately, bounded in bytes.
///
/// It holds only what is published and current, on the reactor thread, so what it finds needs no
/// seal.
#[derive(Debug)]
pub(crate) struct Hot {
    cache: Cache<Oid, Record, Weight, foldhash::fast::FixedState>,
}

/// A current revision.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The tid that wrote it.
    pub(crate) serial: Tid,
    /// Its data, in an allocation of its own.
    pub(crate) data: Bytes,
}

impl Hot {
    /// Holds up to that many bytes, counting what an entry itself costs; `seed` keeps peers from
    /// choosing oids that collide.
    pub(crate) fn new(max_bytes: u64, seed: u64) -> Self {
        let entries = usize::try_from(max_bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        let options = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(max_bytes)
            .build()
            .expect("all that has no default is set");
        let lifecycle = quick_cache::unsync::DefaultLifecycle::default();
        Self { cache: Cache::with_options(options, Weight, hasher, lifecycle) }
    }

    /// The current revision, if it is here and was there before that tid.
    pub(crate) fn find(&self, oid: Oid, before: Tid) -> Option<&Record> {
        self.cache.get(&oid).filter(|record| record.serial < before)
    }

    /// Keeps a current revision. The data is copied: a slice of a larger buffer would keep all of
    /// that buffer alive.
    pub(crate) fn insert(&mut self, oid: Oid, serial: Tid, data: &Bytes) {
        if data.len() > MAX_RECORD {
            self.remove(oid);
            return;
        }
        self.cache.insert(oid, Record { serial, data: Bytes::copy_from_slice(data) });
    }

    /// Forgets an object.
    pub(crate) fn remove(&mut self, oid: Oid) {
        self.cache.remove(&oid);
    }

    /// Forgets many objects, which are in order; takes no longer than there are records for.
    pub(crate) fn remove_many(&mut self, oids: &[Oid]) {
        if oids.len() < self.cache.len() {
            for &oid in oids {
                self.remove(oid);
            }
        } else {
            self.cache.retain(|oid, _| oids.binary_search(oid).is_err());
        }
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Oid, Record> for Weight {
    fn weight(&self, _: &Oid, record: &Record) -> u64 {
        record.data.len() as u64 + ENTRY_BYTES
    }
}

/// What an entry costs beside its data: key, links, the buffer's header.
const ENTRY_BYTES: u64 = 128;
/// Sizes the table: records are expected to be about this large.
const TYPICAL_BYTES: u64 = 1024;
/// Larger records are not worth their place in memory: the file cache has them.
const MAX_RECORD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_only_by_readers_who_may_see_it() {
        let mut hot = Hot::new(1 << 20, 7);
        hot.insert(Oid::new(1), Tid::new(5), &Bytes::from_static(b"data"));
        assert!(hot.find(Oid::new(1), Tid::new(5)).is_none());
        assert_eq!(hot.find(Oid::new(1), Tid::new(6)).unwrap().data, "data");
        hot.remove(Oid::new(1));
        assert!(hot.find(Oid::new(1), Tid::MAX).is_none());
    }

    #[test]
    fn many_are_forgotten_and_the_others_stay() {
        for count in [10, 10_000] {
            let mut hot = Hot::new(1 << 20, 7);
            for number in 0..100 {
                hot.insert(Oid::new(number), Tid::new(5), &Bytes::from_static(b"data"));
            }
            let oids: Vec<Oid> = (50..50 + count).map(Oid::new).collect();
            hot.remove_many(&oids);
            let kept = (0..100).filter(|&number| hot.find(Oid::new(number), Tid::MAX).is_some());
            assert_eq!(kept.count(), usize::try_from(100 - count.min(50)).unwrap());
        }
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let mut hot = Hot::new(1 << 20, 7);
        let data = Bytes::from(vec![0; 4096]);
        for number in 0..10_000 {
            hot.insert(Oid::new(number), Tid::new(5), &data);
        }
        assert!(hot.bytes() <= 1 << 20);
        assert!(hot.bytes() > 1 << 19);
    }
}
