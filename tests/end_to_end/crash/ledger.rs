//! What was acknowledged, and whether a database holds it and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use zeo_client::{Client, Deferred, LoadError, Revision};
use zeo_proto::{Oid, Tid};
use zeo_server::storage::disk::Random;

/// Data that can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) seed: u64,
    pub(super) len: usize,
}

/// A commit that was made: what it wrote, `None` where it deleted.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) tid: Tid,
    pub(super) writes: BTreeMap<Oid, Option<Content>>,
}

/// All that was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    revisions: BTreeMap<Oid, BTreeMap<Tid, Option<Content>>>,
}

/// What a comparison has shown.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Revisions that were compared.
    pub(super) revisions: u64,
    pub(super) wrong: Vec<String>,
}

/// A revision that is being loaded, and what it should be.
struct Expected {
    oid: Oid,
    tid: Tid,
    content: Option<Content>,
    end: Option<Tid>,
    found: Deferred<Result<Revision, LoadError>>,
}

impl Content {
    pub(super) fn bytes(self) -> Bytes {
        let mut random = Random::new(self.seed);
        let words = std::iter::repeat_with(|| random.next_u64().to_be_bytes());
        words.flatten().take(self.len).collect()
    }
}

impl Ledger {
    pub(super) fn absorb(&mut self, made: Vec<Made>) {
        for Made { tid, writes } in made {
            for (oid, content) in writes {
                let twice = self.revisions.entry(oid).or_default().insert(tid, content);
                assert_eq!(twice, None, "two commits were made at {tid}");
            }
        }
    }

    /// Loads every revision of every object. That each ends where the next begins shows that there
    /// are no others between them.
    pub(super) fn verify(&self, db: &Client) -> Verdict {
        let mut verdict = Verdict::default();
        let all: Vec<_> = self.revisions.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let loads = some.iter().flat_map(|(oid, history)| load_all(db, **oid, history));
            for expected in loads.collect::<Vec<_>>() {
                verdict.revisions += u64::from(expected.content.is_some());
                verdict.wrong.extend(expected.wrong());
            }
        }
        verdict
    }
}

/// Asks for each revision of an object, and for one before the first.
fn load_all(db: &Client, oid: Oid, history: &BTreeMap<Tid, Option<Content>>) -> Vec<Expected> {
    let ends = history.keys().skip(1).map(|&end| Some(end)).chain([None]);
    let load = |((tid, content), end)| {
        let found = db.nb().load_before(oid, Tid::next(tid));
        Expected { oid, tid, content, end, found }
    };
    let revisions = history.iter().map(|(&tid, &content)| (tid, content)).zip(ends).map(load);
    let first = *history.keys().next().expect("it was written once");
    let none = db.nb().load_before(oid, first);
    let none = Expected { oid, tid: Tid::ZERO, content: None, end: None, found: none };
    revisions.chain([none]).collect()
}

impl Expected {
    /// What is wrong with what was found, if anything.
    fn wrong(self) -> Option<String> {
        let Self { oid, tid, content, end, found } = self;
        match (found.wait().unwrap(), content) {
            (Err(LoadError::NotFound(_) | LoadError::Deleted { .. }), None) => None,
            (Ok(found), Some(content)) if (found.tid, found.end) != (tid, end) => {
                let (from, to) = (found.tid, found.end);
                Some(format!("{oid} of {tid} to {end:?}, {content:?}: is of {from} to {to:?}"))
            }
            (Ok(found), Some(content)) => (found.data != content.bytes())
                .then(|| format!("{oid} of {tid}: other bytes than were committed")),
            (found, content) => {
                let found = found.map(|revision| revision.tid);
                Some(format!("{oid} of {tid}, {content:?}: {found:?}"))
            }
        }
    }
}

/// How many objects are loaded at once.
const AT_ONCE: usize = 16;
