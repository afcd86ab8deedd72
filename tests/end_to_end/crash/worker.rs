//! Somebody who uses the database in every way, whatever happens to its server.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zeo_client::{CallError, Client, CommitError, InDoubt, LoadError, NotCommitted, Transaction};
use zeo_proto::{Oid, Outcome, Tid};
use zeo_server::storage::disk::Random;

use super::ledger::{Content, Made};

/// What the workers and who directs them have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Commits known to be made.
    made: AtomicU64,
    over: AtomicBool,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    /// Commits whose answer was lost, and which turned out to be made.
    pub(super) found_committed: u64,
    /// The same, not made.
    pub(super) found_lost: u64,
    pub(super) conflicts: u64,
    pub(super) aborted: u64,
    pub(super) loads: u64,
}

/// A client and what it knows of its objects, which nobody else writes; and one that all write.
pub(super) struct Worker {
    db: Client,
    random: Random,
    objects: Vec<Oid>,
    /// What this worker's objects are now.
    current: BTreeMap<Oid, (Tid, Option<Content>)>,
    made: Vec<Made>,
    tally: Tally,
}

impl Shared {
    /// Waits until that many more commits are known to be made.
    pub(super) fn await_commits(&self, count: u64) {
        let start = Instant::now();
        let goal = self.made.load(Ordering::Relaxed) + count;
        while self.made.load(Ordering::Relaxed) < goal {
            assert!(start.elapsed() < Duration::from_mins(2), "no commits for two minutes");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Worker {
    pub(super) fn new(db: &Client, seed: u64) -> Self {
        Self {
            db: db.clone(),
            random: Random::new(seed),
            objects: Vec::new(),
            current: BTreeMap::new(),
            made: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Does one thing after the other until it is over.
    pub(super) fn work(&mut self, shared: &Shared) {
        while !shared.over.load(Ordering::Relaxed) {
            let before = self.made.len();
            if let Err(Disconnected) = self.do_something() {
                thread::park_timeout(Duration::from_millis(5));
            }
            shared.made.fetch_add((self.made.len() - before) as u64, Ordering::Relaxed);
        }
    }

    /// The commits known to be made since the last time.
    pub(super) fn take_made(&mut self) -> Vec<Made> {
        std::mem::take(&mut self.made)
    }

    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Makes objects in one commit.
    pub(super) fn create(&mut self, count: usize) -> Tried {
        let mut draft = self.begin()?;
        for _ in 0..count {
            let oid = self.db.new_oid()?;
            let content = Content { seed: self.random.next_u64(), len: 24 };
            draft.txn.store_new(oid, content.bytes()).unwrap();
            draft.writes.insert(oid, Some(content));
        }
        self.commit(draft)
    }

    fn do_something(&mut self) -> Tried {
        if self.objects.is_empty() {
            self.create(OBJECTS)?;
            self.objects = self.current.keys().copied().collect();
        }
        match self.random.below(16) {
            0 => self.abort(),
            1..=3 => self.load_some(),
            4..=5 => self.load_all(),
            _ => self.change(),
        }
    }

    /// Changes and deletes some of this worker's objects, and sometimes the one that all write.
    fn change(&mut self) -> Tried {
        let mut draft = self.begin()?;
        for _ in 0..=self.random.below(3) {
            let oid = self.any_object();
            self.change_one(&mut draft, oid)?;
        }
        if self.random.below(4) == 0 {
            // Everybody's; missing until somebody has made it.
            draft.load(Oid::ROOT)?;
            let content = Content { seed: self.random.next_u64(), len: 100 };
            draft.txn.store(Oid::ROOT, content.bytes()).unwrap();
            draft.writes.insert(Oid::ROOT, Some(content));
        }
        self.commit(draft)
    }

    fn change_one(&mut self, draft: &mut Draft, oid: Oid) -> Tried {
        if draft.writes.contains_key(&oid) {
            return Ok(());
        }
        let found = draft.load(oid)?;
        let known = self.current.get(&oid).and_then(|(_, content)| *content);
        assert_eq!(found.is_some(), known.is_some(), "{oid}");
        if found.is_some() && self.random.below(16) == 0 {
            draft.txn.delete(oid).unwrap();
            draft.writes.insert(oid, None);
            return Ok(());
        }
        let content = self.any_content();
        draft.txn.store(oid, content.bytes()).unwrap();
        draft.writes.insert(oid, Some(content));
        Ok(())
    }

    fn abort(&mut self) -> Tried {
        let mut draft = self.begin()?;
        let oid = self.any_object();
        self.change_one(&mut draft, oid)?;
        draft.txn.abort();
        self.tally.aborted += 1;
        Ok(())
    }

    /// Loads an object as it is, or as it was before it was changed last.
    fn load_some(&mut self) -> Tried {
        let oid = self.any_object();
        let Some(&(tid, content)) = self.current.get(&oid) else { return Ok(()) };
        self.tally.loads += 1;
        if self.random.below(2) == 0 {
            match self.db.load_before(oid, tid) {
                Ok(old) => assert_eq!(old.end, Some(tid), "{oid}"),
                Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
        match self.db.load(oid) {
            Ok(found) => assert_eq!(Some(found.data), content.map(Content::bytes), "{oid}"),
            Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => {
                assert_eq!(content, None, "{oid}")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn load_all(&mut self) -> Tried {
        let found = self.db.load_many(&self.objects)?;
        for (oid, found) in self.objects.iter().zip(found) {
            let (tid, content) = self.current.get(oid).copied().unwrap_or_default();
            let expected = content.map(|content| (tid, content.bytes()));
            assert_eq!(found.map(|found| (found.tid, found.data)), expected, "{oid}");
        }
        self.tally.loads += self.objects.len() as u64;
        Ok(())
    }

    fn begin(&self) -> Result<Draft, Disconnected> {
        Ok(Draft { txn: self.db.begin()?, writes: BTreeMap::new() })
    }

    /// Commits, and finds out what became of it, however long that takes.
    fn commit(&mut self, draft: Draft) -> Tried {
        let Draft { txn, writes } = draft;
        let connections = self.db.statistics().reconnects;
        let result = if self.random.below(3) == 0 {
            txn.vote().and_then(zeo_client::Voted::finish)
        } else {
            txn.commit()
        };
        match result {
            Ok(tid) => {
                let found_out = connections != self.db.statistics().reconnects;
                self.tally.found_committed += u64::from(found_out);
                self.made(tid, writes);
            }
            Err(CommitError::Conflict(_)) => self.tally.conflicts += 1,
            Err(CommitError::NotCommitted(NotCommitted::Disconnected)) => return Err(Disconnected),
            Err(CommitError::NotCommitted(NotCommitted::Lost)) => self.tally.found_lost += 1,
            Err(CommitError::Unknown(doubt)) => self.find_out(doubt, writes),
            Err(error) => panic!("{error}"),
        }
        Ok(())
    }

    fn find_out(&mut self, doubt: InDoubt, writes: BTreeMap<Oid, Option<Content>>) {
        match persist(|| self.db.outcome(&doubt)) {
            Outcome::Committed(tid) => {
                self.tally.found_committed += 1;
                self.made(tid, writes);
            }
            Outcome::NotCommitted => self.tally.found_lost += 1,
            Outcome::TooOldToKnow => panic!("a question of this moment is not too old"),
        }
        // What comes next is to see it.
        persist(|| self.db.sync());
    }

    fn made(&mut self, tid: Tid, writes: BTreeMap<Oid, Option<Content>>) {
        self.current.extend(writes.iter().map(|(&oid, &content)| (oid, (tid, content))));
        self.made.push(Made { tid, writes });
        self.tally.acknowledged += 1;
    }

    fn any_object(&mut self) -> Oid {
        let place = self.random.below(self.objects.len() as u64);
        self.objects[usize::try_from(place).unwrap()]
    }

    /// Mostly small; 1 in 64 of 100 KB, 1 in 512 longer than a segment.
    fn any_content(&mut self) -> Content {
        let len = match self.random.below(512) {
            0 => 400_000,
            1..=8 => 100_000,
            9..=40 => 9_000,
            41..=200 => 1_000,
            _ => 30,
        };
        Content { seed: self.random.next_u64(), len }
    }
}

/// A transaction, and what it writes.
struct Draft {
    txn: Transaction,
    writes: BTreeMap<Oid, Option<Content>>,
}

impl Draft {
    /// What the transaction sees of an object.
    fn load(&mut self, oid: Oid) -> Result<Option<Tid>, Disconnected> {
        match self.txn.load(oid) {
            Ok(found) => Ok(Some(found.tid)),
            Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

type Tried = Result<(), Disconnected>;

/// There was no server for a while: try again.
#[derive(Debug)]
pub(super) struct Disconnected;

impl From<CallError> for Disconnected {
    fn from(error: CallError) -> Self {
        assert_eq!(error, CallError::Disconnected);
        Self
    }
}

impl From<LoadError> for Disconnected {
    fn from(error: LoadError) -> Self {
        assert_eq!(error, LoadError::Disconnected);
        Self
    }
}

/// Asks until there is an answer.
fn persist<T>(ask: impl Fn() -> Result<T, CallError>) -> T {
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(CallError::Disconnected) => thread::park_timeout(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.found_committed += other.found_committed;
        self.found_lost += other.found_lost;
        self.conflicts += other.conflicts;
        self.aborted += other.aborted;
        self.loads += other.loads;
    }
}

/// How many objects a worker has.
const OBJECTS: usize = 8;
