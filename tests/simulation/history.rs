//! The history that a storage has in the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_proto::{Oid, Tid};
use zeo_server::storage::{Found, Storage};

use crate::undone;

/// The history of every object, as the storage has it; a deletion has no data.
pub(crate) struct History {
    pub(crate) revisions: BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>>,
    /// Those that undo others: what they say of themselves.
    pub(crate) undoes: BTreeMap<Tid, String>,
    last_tid: Tid,
}

impl History {
    /// Walks every object back through time.
    pub(crate) fn of(storage: &dyn Storage, oids: impl Iterator<Item = Oid>) -> Self {
        let walk = |oid| {
            let (mut revisions, mut before) = (BTreeMap::new(), Tid::MAX);
            loop {
                let (serial, data) = match storage.load_before(oid, before, Tid::MAX).unwrap() {
                    Found::Revision(validity, data) => (validity.serial, Some(data)),
                    Found::Deleted(validity) => (validity.serial, None),
                    Found::Absent => return (oid, revisions),
                };
                revisions.insert(serial, data);
                before = serial;
            }
        };
        let revisions: BTreeMap<_, _> = oids.map(walk).collect();
        let undoes = undone::described(storage, revisions.keys().copied());
        Self { revisions, undoes, last_tid: storage.last_tid() }
    }

    pub(crate) fn last_tid(&self) -> Tid {
        self.last_tid
    }

    /// All changes of an object; a deletion has no data.
    pub(crate) fn changes(&self, oid: Oid) -> &BTreeMap<Tid, Option<Bytes>> {
        &self.revisions[&oid]
    }

    pub(crate) fn oids(&self) -> impl Iterator<Item = Oid> {
        self.revisions.keys().copied()
    }

    /// The tids of all commits that wrote something.
    pub(crate) fn tids(&self) -> BTreeSet<Tid> {
        self.revisions.values().flat_map(|revisions| revisions.keys().copied()).collect()
    }

    /// The revision that a reader with that `before` sees.
    pub(crate) fn at(&self, oid: Oid, before: Tid) -> Option<(Tid, &Bytes)> {
        let (tid, data) = self.latest(oid, before)?;
        Some((tid, data.as_ref()?))
    }

    /// The last change before a tid; without data where it was a deletion.
    pub(crate) fn latest(&self, oid: Oid, before: Tid) -> Option<(Tid, &Option<Bytes>)> {
        let revisions = self.revisions.get(&oid)?;
        revisions.range(..before).next_back().map(|(&tid, data)| (tid, data))
    }

    /// When an object last changed, if it ever did.
    pub(crate) fn last_change(&self, oid: Oid) -> Option<Tid> {
        self.latest(oid, Tid::MAX).map(|(tid, _)| tid)
    }
}
