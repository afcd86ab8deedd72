//! Couriers carry money from one database to another, each time in two transactions that are
//! committed together; some lock the databases in the wrong order, by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use zeo_client::{
    Client, CommitError, LoadError, State, TogetherError, Transaction, commit_together_async,
};
use zeo_proto::{Identity, Oid, Tid};
use zeo_reactor::sim::World;
use zeo_reactor::{Address, Reactor, Time};

use crate::history::History;
use crate::plan::Plan;

/// A courier with a client of each database, on hosts of their own.
pub(crate) struct Courier {
    pub(crate) hosts: [String; 2],
    pub(crate) clients: [Client; 2],
    pub(crate) reactors: [Reactor<State>; 2],
    left: u32,
    /// What is under way, its name, and since when.
    errand: Option<(Errand, String, Time)>,
    ends: BTreeMap<String, Ends>,
}

/// What became of a transfer in each database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Committed(Tid),
    NotCommitted,
    Unknown,
}

type Ends = [End; 2];
type Errand = Pin<Box<dyn Future<Output = Ends>>>;

impl Courier {
    pub(crate) fn new(world: &World, plan: &Plan, address: &Address, number: usize) -> Self {
        let hosts = STORAGES.map(|storage| format!("courier {number} at {storage}"));
        let client = |place: usize| {
            let options = plan.courier_options().storage(STORAGES[place]);
            let driver = world.driver(&hosts[place]);
            Client::on_driver(driver, &options, vec![address.clone()]).unwrap()
        };
        let [(here, one), (there, other)] = [0, 1].map(client);
        let (clients, reactors) = ([here, there], [one, other]);
        Self { hosts, clients, reactors, left: TRANSFERS, errand: None, ends: BTreeMap::new() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.errand.is_none()
    }

    pub(crate) fn busy_since(&self) -> Option<Time> {
        self.errand.as_ref().map(|(.., since)| *since)
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn go_on(&mut self, now: Time) {
        let Some((errand, name, _)) = &mut self.errand else { return self.begin(now) };
        let Poll::Ready(ends) = errand.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            return;
        };
        self.ends.insert(name.clone(), ends);
        self.errand = None;
    }

    fn begin(&mut self, now: Time) {
        if self.left == 0 || !self.clients.iter().all(Client::is_connected) {
            return;
        }
        self.left -= 1;
        let is_foreign = self.left.is_multiple_of(3);
        let how = if is_foreign { BY_HAND } else { "together" };
        let name = format!("{}, transfer {} {how}", self.hosts[0], self.left);
        let errand = Box::pin(carry(self.clients.clone(), name.clone(), is_foreign));
        self.errand = Some((errand, name, now));
    }

    /// Its clients leave.
    pub(crate) fn close(self) {
        for (client, mut reactor) in self.clients.into_iter().zip(self.reactors) {
            client.close();
            reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
            assert!(reactor.is_stopped());
        }
    }
}

/// Carries one from here to there.
async fn carry(clients: [Client; 2], name: String, is_foreign: bool) -> Ends {
    let Ok(txns) = withdraw_and_deposit(&clients, &name).await else { return NOTHING };
    if is_foreign {
        return commit_by_hand(&clients, txns).await;
    }
    let identities = clients.each_ref().map(Client::identity);
    match commit_together_async(txns).await {
        Ok(tids) => [End::Committed(tids[0]), End::Committed(tids[1])],
        Err(TogetherError::NotCommitted { .. }) => NOTHING,
        Err(TogetherError::PartlyCommitted { committed, not_committed, .. }) => {
            identities.map(|identity| end_of(identity, &committed, &not_committed))
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn end_of(
    identity: Identity,
    committed: &[(Identity, Tid)],
    not_committed: &[(Identity, CommitError)],
) -> End {
    match committed.iter().find(|(other, _)| *other == identity) {
        Some((_, tid)) => End::Committed(*tid),
        None if not_committed.iter().any(|(other, _)| *other == identity) => End::NotCommitted,
        None => End::Unknown,
    }
}

async fn withdraw_and_deposit(
    clients: &[Client; 2],
    name: &str,
) -> Result<[Transaction; 2], LoadError> {
    let [here, there] = clients;
    Ok([change(here, -1, name).await?, change(there, 1, name).await?])
}

async fn change(client: &Client, amount: i64, name: &str) -> Result<Transaction, LoadError> {
    let mut txn = client.begin()?;
    let found = client.nb().load_before(ACCOUNT, txn.snapshot().next()).await.unwrap();
    let data = |balance: i64| format!("{balance} {name}");
    match found {
        Ok(revision) => {
            txn.saw(ACCOUNT, revision.tid);
            txn.store(ACCOUNT, data(balance(&revision.data) + amount)).unwrap();
        }
        Err(LoadError::NotFound(_)) => txn.store_new(ACCOUNT, data(BALANCE + amount)).unwrap(),
        Err(error) => return Err(error),
    }
    Ok(txn)
}

/// Votes in the wrong order: who does this and who does not wait for each other, for a while.
async fn commit_by_hand(clients: &[Client; 2], [one, other]: [Transaction; 2]) -> Ends {
    let Ok(there) = clients[1].nb().vote(other).await.unwrap() else { return NOTHING };
    let Ok(here) = clients[0].nb().vote(one).await.unwrap() else { return NOTHING };
    let (here, there) = (clients[0].nb().finish(here), clients[1].nb().finish(there));
    [end(&here.await.unwrap()), end(&there.await.unwrap())]
}

fn end(answer: &Result<Tid, CommitError>) -> End {
    match answer {
        Ok(tid) => End::Committed(*tid),
        Err(CommitError::Unknown(_)) => End::Unknown,
        Err(_) => End::NotCommitted,
    }
}

/// Holds what couriers were told against the histories of both databases.
pub(crate) fn check<'a>(
    couriers: impl Iterator<Item = &'a Courier>,
    histories: [&History; 2],
    anything_fails: bool,
) {
    let found = histories.map(transfers);
    let mut known = BTreeSet::new();
    for (name, ends) in couriers.flat_map(|courier| &courier.ends) {
        known.insert(name);
        for (end, found) in ends.iter().zip(&found) {
            match end {
                End::Committed(tid) => assert_eq!(found.get(name), Some(tid), "{name}"),
                End::NotCommitted => assert_eq!(found.get(name), None, "{name}"),
                End::Unknown => {}
            }
        }
        let is_whole = found[0].contains_key(name) == found[1].contains_key(name);
        // By hand, nobody looks whether the first vote has outlived the wait for the second.
        let may_tear = anything_fails || name.ends_with(BY_HAND);
        assert!(is_whole || may_tear, "{name}: {ends:?}, where nothing fails");
        let is_sure = ends.iter().all(|end| *end == End::NotCommitted);
        assert!(is_whole || !is_sure, "{name} is there in part, and said to be nowhere");
    }
    assert!(found.iter().flat_map(BTreeMap::keys).all(|name| known.contains(name)));
}

/// Who changed the account, and when; each changed it by one.
fn transfers(history: &History) -> BTreeMap<String, Tid> {
    let mut last = BALANCE;
    let mut transfers = BTreeMap::new();
    for (&tid, data) in history.changes(ACCOUNT) {
        let data = data.as_ref().expect("nobody deletes it");
        let now = balance(data);
        assert_eq!((now - last).abs(), 1, "money came or went at {tid}");
        last = now;
        let name = text(data).split_once(' ').unwrap().1.to_owned();
        assert_eq!(transfers.insert(name, tid), None, "carried twice");
    }
    transfers
}

fn balance(data: &Bytes) -> i64 {
    text(data).split(' ').next().unwrap().parse().unwrap()
}

fn text(data: &Bytes) -> &str {
    std::str::from_utf8(data).unwrap()
}

/// The account, in both databases.
pub(crate) const ACCOUNT: Oid = Oid::new(801);
pub(crate) const STORAGES: [&str; 2] = ["main", "other"];
const BY_HAND: &str = "by hand";
const NOTHING: Ends = [End::NotCommitted; 2];
const BALANCE: i64 = 100;
/// Transfers of each courier.
const TRANSFERS: u32 = 8;
