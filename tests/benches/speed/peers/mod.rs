//! Other databases, for orientation: they promise other things, and each is asked in its own way.
//!
//! A commit is one object of 1 KiB, synced to disk before it is answered; a load is one that the
//! client has not and the server has in memory. A peer that is not installed is left out.

mod postgres;
mod process;
mod redis;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeo_client::Client;

use crate::commit::{CALLERS, commit};
use crate::measure;
use crate::plan::Plan;
use crate::store::Store;
use crate::table::{Aim, Figure, Row};

use postgres::Postgres;
use redis::Redis;

/// A database server, started for this.
trait Peer {
    /// How many one-object commits a second that many clients make.
    fn commits(&self, slice: Duration, clients: usize) -> f64;

    /// How many objects a second that many clients load.
    fn loads(&self, slice: Duration, clients: usize) -> f64;
}

pub(crate) fn peers(plan: &Plan) -> Vec<Row> {
    if !plan.with_peers {
        return Vec::new();
    }
    let zeo = Zeo::start(plan);
    let mut rows = Vec::new();
    match Redis::start(plan) {
        Ok(redis) => rows.extend(compare(plan, &zeo, (&redis, "redis, appendfsync always"))),
        Err(why) => rows.push(Row::absent("redis-server", &why)),
    }
    match Postgres::start(plan) {
        Ok(postgres) => {
            rows.extend(compare(plan, &zeo, (&postgres, "PostgreSQL, prepared, by pgbench")));
        }
        Err(why) => rows.push(Row::absent("postgres", &why)),
    }
    rows
}

fn compare(plan: &Plan, zeo: &Zeo, (peer, name): (&dyn Peer, &'static str)) -> Vec<Row> {
    let at = |clients| {
        let [commits, theirs] = measure::rounds(
            plan,
            [&mut || zeo.commits(plan.slice, clients), &mut || peer.commits(plan.slice, clients)],
        );
        let what = format!("durable commits, {clients} at once");
        let commits = Row::beside(what, rate(commits), (rate(theirs), name), Aim::None);
        let [loads, theirs] = measure::rounds(
            plan,
            [&mut || zeo.loads(plan.slice, clients), &mut || peer.loads(plan.slice, clients)],
        );
        let what = format!("loads, cold, {clients} at once");
        [commits, Row::beside(what, rate(loads), (rate(theirs), name), Aim::None)]
    };
    [1, CALLERS].into_iter().flat_map(at).collect()
}

fn rate(rounds: Vec<f64>) -> Figure {
    Figure::new(crate::table::Unit::PerSecond, rounds)
}

/// Our own side, by the same rules. All callers share one client.
struct Zeo {
    store: Store,
    /// Every load of it is cold.
    cold: Client,
    writer: Client,
    next: AtomicUsize,
}

impl Zeo {
    fn start(plan: &Plan) -> Self {
        let store = Store::on_disk(plan, OBJECTS);
        let (cold, writer) = (store.forgetful_client(), store.client());
        Self { store, cold, writer, next: AtomicUsize::new(0) }
    }
}

impl Peer for Zeo {
    fn commits(&self, slice: Duration, clients: usize) -> f64 {
        let commit = |caller| commit(&self.writer, &self.store.oids[caller..=caller]);
        measure::callers(slice, clients, commit).rate
    }

    fn loads(&self, slice: Duration, clients: usize) -> f64 {
        let load = |_| {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % OBJECTS;
            drop(self.cold.load(self.store.oids[next]).unwrap());
        };
        measure::callers(slice, clients, load).rate
    }
}

/// What each server has in it.
const OBJECTS: usize = 10_000;
