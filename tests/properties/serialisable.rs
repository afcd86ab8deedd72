//! Transactions that say what they depend on are serialisable, however they are made at once: in
//! one round trip, in two phases, with conflicts resolved, over two storages together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, InDoubt, NotCommitted, Oid, Outcome, ResolvableConflict, Tid,
    TogetherError, Transaction, commit_together_async,
};
use zeo_server::storage::disk::Random;

use crate::for_seeds;
use crate::graph::{Disorder, Done, Graph, Object, Versions};
use crate::party::{Party, Work, answer};

#[test]
fn transactions_that_say_what_they_read_are_serialisable() {
    for_seeds(60, |seed| {
        let life = Life { seed, storages: 1, declares: true, breaks: false };
        assert_eq!(life.run(), Ok(()));
    });
}

/// Nor does it matter which of them are lost, asked about, and made again.
#[test]
fn so_are_those_whose_connections_break() {
    for_seeds(40, |seed| {
        let life = Life { seed, storages: 1, declares: true, breaks: true };
        assert_eq!(life.run(), Ok(()));
    });
}

#[test]
fn so_are_those_over_two_storages() {
    for_seeds(40, |seed| {
        let life = Life { seed, storages: 2, declares: true, breaks: false };
        assert_eq!(life.run(), Ok(()));
    });
}

/// The checker is worth something: what nobody forbids, it finds.
#[test]
fn write_skew_is_found_where_transactions_do_not_say_what_they_read() {
    for storages in [1, 2] {
        let skew = |seed| {
            let life = Life { seed, storages, declares: false, breaks: false };
            matches!(life.run(), Err(Disorder::Cycle(_)))
        };
        assert!((0..20).any(skew), "{storages} storages");
    }
}

/// Some clients, each of which makes some transactions.
struct Life {
    seed: u64,
    storages: usize,
    /// Whether a transaction says of what it only reads that it must still be current.
    declares: bool,
    /// Whether connections break now and then.
    breaks: bool,
}

/// What all workers put their transactions into.
type Log = RefCell<Vec<Done>>;

impl Life {
    fn run(&self) -> Result<(), Disorder> {
        let names = &NAMES[..self.storages];
        let mut party = Party::new(self.seed, names);
        let first: Vec<Client> = names.iter().map(|name| party.client(name)).collect();
        for client in &first {
            party.ask(make_objects(client));
        }
        let mut workers: Vec<Worker<'_>> = Vec::new();
        for number in 0..WORKERS {
            let clients = names.iter().map(|name| party.client(name)).collect();
            let random = Random::new(self.seed << 8 | number);
            workers.push(Worker { life: self, clients, random });
        }
        let log = Log::default();
        party.set_breaking(self.breaks);
        party.run(workers.iter_mut().map(|it| Box::pin(it.work(&log)) as Work<'_>).collect());
        party.set_breaking(false);
        let done = log.into_inner();
        assert!(done.len() > 10, "hardly anything was committed: {}", done.len());
        let mut versions = Versions::new();
        for (storage, client) in first.iter().enumerate() {
            versions.extend(party.ask(history(storage, client)));
        }
        Graph::new(&done, &versions).check()
    }
}

/// Somebody who makes one transaction after the other, with a client of each storage.
struct Worker<'a> {
    life: &'a Life,
    clients: Vec<Client>,
    random: Random,
}

/// How a transaction is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    OneTrip,
    TwoPhases,
    Resolving,
}

impl Worker<'_> {
    async fn work(&mut self, log: &Log) {
        for client in &self.clients {
            answer(client.nb().sync()).await.unwrap();
        }
        for _ in 0..TRANSACTIONS {
            // None where it conflicted: that is the price, and no disorder.
            let done = match self.below(self.clients.len() + 1) {
                storage if storage < self.clients.len() => self.alone(storage).await,
                _ => self.together().await,
            };
            log.borrow_mut().extend(done);
        }
    }

    /// A transaction of one storage.
    async fn alone(&mut self, storage: usize) -> Option<Done> {
        let way = [Way::OneTrip, Way::TwoPhases, Way::Resolving][self.below(3)];
        let client = self.clients[storage].clone();
        let mut done = Done::default();
        // Where there are two storages, nobody sees both as of one moment: then all write.
        let writes = self.below(4) > 0 || self.clients.len() > 1;
        let mut txn = self.prepare(storage, &mut done, writes).await;
        if !writes {
            done.tids.insert(storage, txn.snapshot());
            return Some(done);
        }
        if way == Way::Resolving {
            return resolving(&client, storage, txn, done).await;
        }
        txn.set_user("alone").unwrap();
        let tid = self.commit(&client, way, txn).await?;
        done.tids.insert(storage, tid);
        Some(done)
    }

    async fn commit(&mut self, client: &Client, way: Way, txn: Transaction) -> Option<Tid> {
        if way == Way::OneTrip {
            return made(client, answer(client.nb().commit(txn)).await).await;
        }
        let voted = unless_refused(answer(client.nb().vote(txn)).await)?.ok()?;
        for _ in 0..self.below(4) {
            answer(client.nb().ping()).await.unwrap();
        }
        if self.below(8) == 0 {
            voted.abort();
            return None;
        }
        made(client, answer(client.nb().finish(voted)).await).await
    }

    /// A transaction over all storages.
    async fn together(&mut self) -> Option<Done> {
        let mut done = Done::default();
        let mut txns = Vec::new();
        for storage in 0..self.clients.len() {
            txns.push(self.prepare(storage, &mut done, true).await);
        }
        match commit_together_async(txns).await {
            Ok(tids) => done.tids.extend(tids.into_iter().enumerate()),
            Err(TogetherError::NotCommitted { why, .. }) => {
                assert!(unless_refused(Err::<(), _>(why)).is_none());
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        Some(done)
    }

    /// Reads some objects, increments some of them, and depends on the others.
    async fn prepare(&mut self, storage: usize, done: &mut Done, writes: bool) -> Transaction {
        let client = self.clients[storage].clone();
        let mut txn = client.begin().unwrap();
        let mut must_write = writes;
        for oid in self.some_objects() {
            let before = txn.snapshot().next();
            let found = answer(client.nb().load_before(oid, before)).await.unwrap();
            txn.saw(oid, found.tid);
            done.reads.insert((storage, oid), found.tid);
            if writes && (std::mem::take(&mut must_write) || self.below(4) == 0) {
                txn.store(oid, one_more(&found.data)).unwrap();
                done.writes.insert((storage, oid));
            } else if self.life.declares {
                txn.read_current(oid).unwrap();
            }
        }
        txn
    }

    fn some_objects(&mut self) -> BTreeSet<Oid> {
        (0..=self.below(3)).map(|_| Oid::new(self.random.below(OBJECTS))).collect()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }
}

/// Commits a transaction that adds to what others have made of its objects meanwhile.
async fn resolving(
    client: &Client,
    storage: usize,
    txn: Transaction,
    mut done: Done,
) -> Option<Done> {
    let resolve = |conflict: &ResolvableConflict| {
        done.reads.insert((storage, conflict.oid), conflict.theirs.tid);
        Some(one_more(&conflict.theirs.data))
    };
    let result = client.nb().commit_resolving(txn, resolve).await;
    let tid = made(client, result).await?;
    done.tids.insert(storage, tid);
    Some(done)
}

/// The tid that a transaction was made at; none where it was refused, or lost.
async fn made(client: &Client, result: Result<Tid, CommitError>) -> Option<Tid> {
    match unless_refused(result)? {
        Ok(tid) => Some(tid),
        Err(doubt) => match answer(client.nb().outcome(&doubt)).await.unwrap() {
            Outcome::Committed(tid) => Some(tid),
            Outcome::NotCommitted => None,
            Outcome::TooOldToKnow => panic!("{doubt:?} is not that old"),
        },
    }
}

/// What a step came to, unless there was a conflict or it was lost with its connection: nothing
/// else may go wrong.
fn unless_refused<T>(result: Result<T, CommitError>) -> Option<Result<T, InDoubt>> {
    match result {
        Ok(done) => Some(Ok(done)),
        Err(CommitError::Unknown(doubt)) => Some(Err(doubt)),
        Err(CommitError::Conflict(_) | CommitError::NotCommitted(NotCommitted::Lost)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn make_objects(client: &Client) {
    answer(client.nb().sync()).await.unwrap();
    let mut txn = client.begin().unwrap();
    for oid in 0..OBJECTS {
        txn.store_new(Oid::new(oid), "1").unwrap();
    }
    answer(client.nb().commit(txn)).await.unwrap();
}

/// The tids of all revisions, of which each says that it is one more than the one before it.
async fn history(storage: usize, client: &Client) -> BTreeMap<Object, BTreeSet<Tid>> {
    answer(client.nb().sync()).await.unwrap();
    let mut versions = BTreeMap::new();
    for oid in (0..OBJECTS).map(Oid::new) {
        let (mut tids, mut before) = (BTreeSet::new(), Tid::MAX);
        let newest = answer(client.nb().load(oid)).await.unwrap();
        let mut count: u64 = number(&newest.data);
        while count > 0 {
            let revision = answer(client.nb().load_before(oid, before)).await.unwrap();
            assert_eq!(number(&revision.data), count, "an increment of {oid} was lost");
            tids.insert(revision.tid);
            (before, count) = (revision.tid, count - 1);
        }
        assert!(answer(client.nb().load_before(oid, before)).await.is_err(), "{oid} is older");
        versions.insert((storage, oid), tids);
    }
    versions
}

fn one_more(data: &[u8]) -> Bytes {
    (number(data) + 1).to_string().into()
}

fn number(data: &[u8]) -> u64 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

const NAMES: [&str; 2] = ["one", "two"];
const OBJECTS: u64 = 5;
const WORKERS: u64 = 4;
const TRANSACTIONS: u32 = 12;
