//! Databases on which several clients work at once are in the end what a simple model says, at
//! every moment of their history; and so is a copy.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, Conflict, LoadError, NotCommitted, Oid, Tid, TogetherError, Transaction,
    commit_together_async,
};
use zeo_server::storage::disk::Random;

use crate::compare::{compare, history};
use crate::for_seeds;
use crate::model::{Change, Model, State};
use crate::party::{Party, Work, answer};

#[test]
fn databases_of_many_clients_and_their_copies_are_what_the_model_says() {
    for_seeds(15, live);
}

/// R31: where an object was undone several times, a copy took its data from the wrong revision.
#[test]
fn r31_a_copy_of_what_was_undone_again_and_again_is_the_same() {
    let mut party = Party::new(1, &["one", "copy"]);
    let (original, copy) = (party.client("one"), party.client("copy"));
    let mut model = Model::default();
    let mut tids = Vec::new();
    for round in 0..4 {
        let name = format!("change {round}");
        tids.push(party.ask(change(&original, &mut model, &name)));
        if round % 2 == 1 {
            // Two at once, and that in turn, and that again.
            let both = [tids[round - 1], tids[round]].into();
            let mut last = party.ask(undo(&original, &mut model, both));
            for _ in 0..3 {
                last = party.ask(undo(&original, &mut model, [last].into()));
            }
        }
    }
    party.ask(restore(&original, &copy));
    for client in [original, copy] {
        party.ask(compare(&client, &model, OBJECTS));
    }
}

async fn change(client: &Client, model: &mut Model, name: &str) -> Tid {
    answer(client.nb().sync()).await.unwrap();
    let mut txn = client.begin().unwrap();
    let mut states = BTreeMap::new();
    for oid in (0..2).map(Oid::new) {
        states.insert(oid, store(&mut txn, oid, name.to_owned().into(), None));
    }
    make(client, model, txn, Change::Write(states)).await
}

async fn undo(client: &Client, model: &mut Model, tids: BTreeSet<Tid>) -> Tid {
    let mut txn = client.begin().unwrap();
    for &tid in &tids {
        txn.undo(tid).unwrap();
    }
    make(client, model, txn, Change::Undo(tids)).await
}

async fn make(client: &Client, model: &mut Model, txn: Transaction, change: Change) -> Tid {
    let tid = answer(client.nb().commit(txn)).await.unwrap();
    model.make(tid, String::new(), &change);
    tid
}

fn live(seed: u64) {
    let mut party = Party::new(seed, &["one", "two", "copy"]);
    let mut workers: Vec<Worker> = Vec::new();
    for number in 0..WORKERS {
        let clients = ["one", "two"].map(|name| party.client(name));
        workers.push(Worker { number, clients, random: Random::new(seed << 8 | number) });
    }
    let log = RefCell::new(Log::default());
    party.run(workers.iter_mut().map(|it| Box::pin(it.work(&log)) as Work<'_>).collect());
    let Log { made, refused } = log.into_inner();
    let models = made.map(|made| {
        let mut model = Model::default();
        for (tid, (name, change)) in made {
            model.make(tid, name, &change);
        }
        model
    });
    for refused in &refused {
        refused.check(&models[refused.storage]);
    }
    for (name, model) in ["one", "two"].into_iter().zip(&models) {
        let client = party.client(name);
        party.ask(compare(&client, model, OBJECTS));
    }
    let (original, copy) = (party.client("one"), party.client("copy"));
    party.ask(restore(&original, &copy));
    party.ask(compare(&copy, &models[0], OBJECTS));
}

/// Copies a database, transaction by transaction.
async fn restore(original: &Client, copy: &Client) {
    let all = history(original).await;
    answer(copy.nb().sync()).await.unwrap();
    for (head, records) in all.clone() {
        assert_eq!(answer(copy.nb().restore(&head, records)).await, Ok(head.tid));
    }
    assert_eq!(history(copy).await, all);
}

/// What became of all transactions.
#[derive(Default)]
struct Log {
    /// What was committed in each storage: what it says of itself, and what it does.
    made: [BTreeMap<Tid, (String, Change)>; 2],
    refused: Vec<Refused>,
}

/// A transaction that was not committed.
#[derive(Debug)]
struct Refused {
    storage: usize,
    snapshot: Tid,
    change: Change,
    why: Reason,
}

#[derive(Debug)]
enum Reason {
    Conflict(Conflict),
    UndoRefused(Vec<Oid>),
}

impl Refused {
    /// There must have been a moment at which it was right to refuse it.
    fn check(&self, model: &Model) {
        match (&self.why, &self.change) {
            (Reason::Conflict(Conflict { oid, committed, read }), _) => {
                assert!(model.has_changed(*oid, *committed) && committed > read, "{self:?}");
            }
            (Reason::UndoRefused(oids), Change::Undo(tids)) => {
                let last = tids.last().copied().max(Some(self.snapshot)).unwrap();
                let mut moments = model.tids().filter(|&tid| tid >= last);
                let is_right = |as_of| model.undo(tids, as_of).as_ref() == Err(oids);
                assert!(moments.any(is_right), "{self:?}");
            }
            (Reason::UndoRefused(_), Change::Write(_)) => panic!("{self:?}"),
        }
    }
}

/// Somebody who makes one transaction after the other, with a client of each storage.
struct Worker {
    number: u64,
    clients: [Client; 2],
    random: Random,
}

impl Worker {
    async fn work(&mut self, log: &RefCell<Log>) {
        for client in &self.clients {
            answer(client.nb().sync()).await.unwrap();
        }
        for count in 0..TRANSACTIONS {
            let name = format!("{} of {}", count, self.number);
            match self.below(4) {
                0 => self.together(&name, log).await,
                _ => self.alone(&name, log).await,
            }
        }
    }

    async fn alone(&mut self, name: &str, log: &RefCell<Log>) {
        let storage = self.below(2);
        let (txn, change) = self.prepare(storage, name, log).await;
        let (snapshot, client) = (txn.snapshot(), self.clients[storage].clone());
        let result = if self.below(2) == 0 {
            answer(client.nb().commit(txn)).await
        } else {
            match answer(client.nb().vote(txn)).await {
                Ok(voted) => answer(client.nb().finish(voted)).await,
                Err(error) => Err(error),
            }
        };
        log.borrow_mut().ended(storage, snapshot, (name, change), result);
    }

    async fn together(&mut self, name: &str, log: &RefCell<Log>) {
        let (mut txns, mut changes) = (Vec::new(), Vec::new());
        for storage in 0..2 {
            let (txn, change) = self.prepare(storage, name, log).await;
            changes.push((storage, txn.snapshot(), change));
            txns.push(txn);
        }
        let identities = [&self.clients[0], &self.clients[1]].map(Client::identity);
        let log_of = |place: usize, result| {
            let (storage, snapshot, change) = changes[place].clone();
            log.borrow_mut().ended(storage, snapshot, (name, change), result);
        };
        match commit_together_async(txns).await {
            Ok(tids) => tids.into_iter().enumerate().for_each(|(at, tid)| log_of(at, Ok(tid))),
            Err(TogetherError::NotCommitted { identity, why }) => {
                let place = identities.iter().position(|it| *it == identity).unwrap();
                log_of(place, Err(why));
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Writes some objects, or undoes some transactions.
    async fn prepare(
        &mut self,
        storage: usize,
        name: &str,
        log: &RefCell<Log>,
    ) -> (Transaction, Change) {
        let made: Vec<Tid> = log.borrow().made[storage].keys().copied().collect();
        let mut txn = self.clients[storage].begin().unwrap();
        txn.set_description(name).unwrap();
        if made.is_empty() || self.below(3) > 0 {
            let change = self.write(storage, &mut txn, name).await;
            return (txn, change);
        }
        // Mostly some of the last, or else something is always in the way.
        let last = made.len().min(1 + self.below(6));
        let candidates = &made[made.len() - last..];
        let tids: BTreeSet<Tid> =
            (0..=self.below(3)).map(|_| candidates[self.below(last)]).collect();
        for &tid in &tids {
            txn.undo(tid).unwrap();
        }
        (txn, Change::Undo(tids))
    }

    async fn write(&mut self, storage: usize, txn: &mut Transaction, name: &str) -> Change {
        let mut states = BTreeMap::new();
        let oids: BTreeSet<Oid> =
            (0..=self.below(3)).map(|_| Oid::new(self.random.below(OBJECTS))).collect();
        for oid in oids {
            let before = txn.snapshot().next();
            let load = self.clients[storage].nb().load_before(oid, before);
            let is_there = match answer(load).await {
                Ok(revision) => {
                    txn.saw(oid, revision.tid);
                    true
                }
                Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => false,
                Err(error) => panic!("{error}"),
            };
            states.extend(self.write_one(txn, oid, is_there, name));
        }
        // What writes nothing is committed without a trace.
        if states.is_empty() {
            let state = store(txn, Oid::ROOT, Bytes::copy_from_slice(name.as_bytes()), None);
            states.insert(Oid::ROOT, state);
        }
        Change::Write(states)
    }

    fn write_one(
        &mut self,
        txn: &mut Transaction,
        oid: Oid,
        is_there: bool,
        name: &str,
    ) -> Option<(Oid, State)> {
        let mut data = name.as_bytes().to_vec();
        data.resize(data.len() + [0, 0, 100, 5_000][self.below(4)], b'.');
        match self.below(8) {
            0 if is_there => {
                txn.read_current(oid).unwrap();
                None
            }
            1 | 2 if is_there => {
                txn.delete(oid).unwrap();
                Some((oid, State::default()))
            }
            3 => Some((oid, store(txn, oid, data.into(), Some(vec![Oid::ROOT, oid])))),
            // The same data as somebody else's, which an undo may find in its way or not.
            4 => Some((oid, store(txn, oid, "the same".into(), None))),
            _ => Some((oid, store(txn, oid, data.into(), None))),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }
}

impl Log {
    fn ended(
        &mut self,
        storage: usize,
        snapshot: Tid,
        (name, change): (&str, Change),
        result: Result<Tid, CommitError>,
    ) {
        let why = match result {
            Ok(tid) => {
                let twin = self.made[storage].insert(tid, (name.to_owned(), change));
                return assert!(twin.is_none(), "two transactions have tid {tid}");
            }
            Err(CommitError::Conflict(conflict)) => Reason::Conflict(conflict),
            Err(CommitError::NotCommitted(NotCommitted::UndoRefused(oids))) => {
                Reason::UndoRefused(oids)
            }
            Err(error) => panic!("{error}"),
        };
        self.refused.push(Refused { storage, snapshot, change, why });
    }
}

fn store(txn: &mut Transaction, oid: Oid, data: Bytes, refs: Option<Vec<Oid>>) -> State {
    match refs.clone() {
        Some(refs) => txn.store_with_refs(oid, data.clone(), refs).unwrap(),
        None => txn.store(oid, data.clone()).unwrap(),
    }
    State { data: Some(data), refs }
}

const OBJECTS: u64 = 7;
const WORKERS: u64 = 4;
const TRANSACTIONS: u64 = 12;
