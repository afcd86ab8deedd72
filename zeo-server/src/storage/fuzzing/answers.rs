//! All that a storage can be asked.

use std::collections::BTreeMap;

use zeo_proto::{Oid, Tid};

use super::{LIMIT, Simulated};
use crate::storage::{Changes, Found, Storage, StorageError};

/// What a storage says of everything in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answers {
    last_tid: Tid,
    /// Every revision of every object, the newest first, up to the first that cannot be followed.
    revisions: BTreeMap<Oid, Vec<Result<Found, String>>>,
}

impl Answers {
    pub(super) fn of(storage: &Simulated) -> Self {
        let last_tid = storage.last_tid();
        let changes = storage.changes_since(Tid::ZERO, last_tid, LIMIT);
        let Ok(Changes::Objects(oids)) = changes else {
            panic!("{changes:?} in a journal that was just read");
        };
        let revisions = oids.into_iter().map(|oid| (oid, revisions(storage, oid, last_tid)));
        Self { last_tid, revisions: revisions.collect() }
    }
}

fn revisions(storage: &Simulated, oid: Oid, as_of: Tid) -> Vec<Result<Found, String>> {
    let mut all = Vec::new();
    let mut before = Tid::MAX;
    loop {
        let found = storage.load_before(oid, before, as_of).map_err(damaged);
        before = match &found {
            Ok(Found::Revision(validity, _) | Found::Deleted(validity)) => validity.serial,
            Ok(Found::Absent) | Err(_) => return all,
        };
        all.push(found);
    }
}

/// The only error that there can be on a disk where nothing fails.
fn damaged(error: StorageError) -> String {
    match error {
        StorageError::Damaged(what) => what,
        error @ (StorageError::Io { .. } | StorageError::Index(_)) => panic!("{error}"),
    }
}
