//! All that a storage can be asked.

use std::collections::BTreeMap;

use zeo_proto::{Oid, Tid};

use super::{LIMIT, Simulated};
use crate::storage::{
    Changes, Cursor, Found, HistoryEntry, HistoryItem, HistoryLimit, Size, Storage, StorageError,
};

/// What a storage says of everything in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answers {
    last_tid: Tid,
    size: Size,
    /// Every revision of every object, the newest first, up to the first that cannot be followed.
    revisions: BTreeMap<Oid, Vec<Result<Found, String>>>,
    histories: BTreeMap<Oid, Result<Vec<HistoryEntry>, String>>,
    /// Pages of all transactions, and what cannot be read of them.
    transactions: Vec<Result<Vec<HistoryItem>, String>>,
    objects: Vec<(Oid, Tid)>,
}

impl Answers {
    pub(super) fn of(storage: &Simulated) -> Self {
        let last_tid = storage.last_tid();
        let changes = storage.changes_since(Tid::ZERO, last_tid, LIMIT);
        let Ok(Changes::Objects(oids)) = changes else {
            panic!("{changes:?} in a journal that was just read");
        };
        let all = oids.iter().map(|&oid| (oid, revisions(storage, oid, last_tid)));
        Self {
            last_tid,
            size: storage.size(),
            revisions: all.collect(),
            histories: oids.iter().map(|&oid| (oid, history(storage, oid, last_tid))).collect(),
            transactions: transactions(storage, last_tid),
            objects: objects(storage, last_tid.next()),
        }
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

fn history(storage: &Simulated, oid: Oid, as_of: Tid) -> Result<Vec<HistoryEntry>, String> {
    let limit = HistoryLimit { entries: LIMIT, bytes: 1 << 20 };
    storage.history(oid, Tid::MAX, as_of, limit).map_err(damaged)
}

/// All transactions in small pages. What cannot be read is passed over, a few times.
fn transactions(storage: &Simulated, through: Tid) -> Vec<Result<Vec<HistoryItem>, String>> {
    let (mut pages, mut errors) = (Vec::new(), 0);
    let mut next = Some(Cursor::new(Tid::ZERO));
    while let Some(cursor) = next.filter(|_| errors < 20) {
        let page = storage.transactions(&cursor, through, 200).map_err(damaged);
        next = match &page {
            Ok(page) => {
                assert!(page.next.is_none_or(|next| is_after(&next, &cursor)), "it goes on");
                page.next
            }
            Err(_) => Some(Cursor::new(cursor.tid.next())),
        };
        errors += usize::from(page.is_err());
        pages.push(page.map(|page| page.items));
    }
    pages
}

fn is_after(next: &Cursor, cursor: &Cursor) -> bool {
    (next.tid, next.record) > (cursor.tid, cursor.record)
}

fn objects(storage: &Simulated, before: Tid) -> Vec<(Oid, Tid)> {
    let (mut all, mut next) = (Vec::new(), Some(Oid::ROOT));
    while let Some(from) = next {
        let page = storage.objects(from, before, 7).expect("nothing fails in this index");
        all.extend(page.objects);
        next = page.next;
    }
    all
}

/// The only error that there can be on a disk where nothing fails.
fn damaged(error: StorageError) -> String {
    match error {
        StorageError::Damaged(what) => what,
        error @ (StorageError::Io { .. } | StorageError::Index(_)) => panic!("{error}"),
    }
}
