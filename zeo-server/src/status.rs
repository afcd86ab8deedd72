//! How the server is, for an operator and his tools, as JSON.
//!
//! There are two forms. The short one answers `ruok`, which a health check asks every few seconds:
//! one object a storage, with the keys that monitoring for ZEO knows and more. The long one has
//! [`details`] in addition, and answers [`Call::Status`](zeo_proto::Call::Status).
//! `deploy/OPERATING.md` says what each key means.

mod ctime;
mod details;

use std::collections::BTreeMap;

use serde::Serialize;
use zeo_proto::{Reply, Tid};
use zeo_reactor::{Context, Time};

use crate::database::{Database, DatabaseId};
use crate::histogram::Summary;
use crate::server::Server;
use crate::session::Caller;
use crate::votes::Votes;

use details::Details;

/// One storage, and what all of them share.
#[derive(Debug, Serialize)]
struct StorageStatus<'a> {
    // What ZEO says of a storage.
    connections: usize,
    loads: u64,
    stores: u64,
    commits: u64,
    aborts: u64,
    active_txns: usize,
    lock_time: Option<f64>,
    conflicts: u64,
    conflicts_resolved: u64,
    start: String,
    waiting: usize,
    #[serde(rename = "timeout-thread-is-alive")]
    timeout_thread_is_alive: bool,
    #[serde(rename = "last-transaction")]
    last_transaction: String,
    // What else there is to say of it.
    trouble: Option<&'a str>,
    read_only: bool,
    identity: String,
    objects: u64,
    journal_bytes: u64,
    index_bytes: u64,
    quota_bytes: Option<u64>,
    hot_loads: u64,
    hot_bytes: u64,
    remembered_oids: usize,
    oldest_snapshot: Option<String>,
    lock_holders: usize,
    locked_objects: usize,
    oldest_wait_s: Option<f64>,
    commit_queue: usize,
    group_sizes: Summary,
    group_micros: Summary,
    // What is said of the whole server, and so of each storage alike.
    sessions: usize,
    handshakes: usize,
    buffered_bytes: u64,
    session_bytes: usize,
    uptime_s: u64,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

impl Server {
    pub(crate) fn status(&mut self, cx: &mut Context<Self>, caller: Caller) {
        let status = self.long_status(Clock::of(cx));
        self.reply_with(cx, caller, Reply::Status, &status.into());
        // Such an answer costs as much as dozens of others.
        if let Some(transport) = cx.transport(caller.conn) {
            transport.yield_turn();
        }
    }

    /// One object a storage, under its name.
    pub(crate) fn short_status(&self, clock: Clock) -> String {
        let storages = self.databases.iter();
        json(storages.map(|database| (&*database.name, self.storage_status(database, clock))))
    }

    /// The same with details.
    fn long_status(&self, clock: Clock) -> String {
        let listed = self.listed_sessions();
        let storage = |id: DatabaseId| {
            let database = self.databases.at(id);
            let details = Some(self.details(id, &listed, clock.now));
            (&*database.name, StorageStatus { details, ..self.storage_status(database, clock) })
        };
        json(self.databases.ids().map(storage))
    }

    fn storage_status<'a>(&self, database: &'a Database, clock: Clock) -> StorageStatus<'a> {
        let (counters, votes) = (database.counters, &database.votes);
        let (usage, size) = (database.storage.usage(), database.storage.size());
        StorageStatus {
            connections: database.audience.len(),
            loads: counters.loads,
            stores: counters.stores,
            commits: counters.commits,
            aborts: counters.aborts,
            active_txns: database.open_transactions + votes.len(),
            lock_time: locked_since(votes).map(|since| clock.unix_seconds(since)),
            conflicts: counters.conflicts,
            conflicts_resolved: counters.conflicts_resolved,
            start: ctime::ctime(self.started_micros),
            waiting: votes.waiting(),
            timeout_thread_is_alive: true,
            last_transaction: database.published.to_string(),
            trouble: database.trouble.as_deref(),
            read_only: database.read_only,
            identity: database.storage.identity().to_string(),
            objects: size.objects,
            journal_bytes: usage.journal_bytes,
            index_bytes: usage.index_bytes,
            quota_bytes: usage.quota_bytes,
            hot_loads: counters.hot_loads,
            hot_bytes: database.hot.bytes(),
            remembered_oids: database.recent.len(),
            oldest_snapshot: self.oldest_snapshot(database).map(|tid| tid.to_string()),
            lock_holders: votes.len() - votes.waiting(),
            locked_objects: votes.locked_objects(),
            oldest_wait_s: votes.oldest_wait().map(|since| clock.seconds_since(since)),
            commit_queue: database.commits.len(),
            group_sizes: database.groups.sizes.summary(),
            group_micros: database.groups.micros.summary(),
            sessions: self.sessions.len(),
            handshakes: self.greeted.len(),
            buffered_bytes: self.buffered_bytes,
            session_bytes: self.memory.total(),
            uptime_s: (clock.now - self.started).as_secs(),
            version: env!("CARGO_PKG_VERSION"),
            details: None,
        }
    }

    /// The oldest snapshot that an open transaction of a storage reads.
    fn oldest_snapshot(&self, database: &Database) -> Option<Tid> {
        let sessions = database.audience.iter().filter_map(|conn| self.sessions.get(conn));
        sessions.filter_map(|session| session.transactions.oldest_snapshot()).min()
    }
}

/// The time of a status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    now: Time,
    unix_micros: u64,
}

impl Clock {
    /// The time of this turn.
    pub(crate) fn of(cx: &Context<Server>) -> Self {
        Self { now: cx.now(), unix_micros: cx.unix_micros() }
    }

    fn seconds_since(self, moment: Time) -> f64 {
        (self.now - moment).as_secs_f64()
    }

    /// The time of day of an earlier moment, in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 have 51 bits")]
    fn unix_seconds(self, moment: Time) -> f64 {
        self.unix_micros as f64 / 1e6 - self.seconds_since(moment)
    }
}

/// Since when the vote that holds its locks for longest does so, as far as those tell that asked
/// first: who holds locks for long is among them.
fn locked_since(votes: &Votes) -> Option<Time> {
    votes.holders().take(details::MOST_HOLDERS).map(|holder| holder.since).min()
}

fn json<'a>(storages: impl Iterator<Item = (&'a str, StorageStatus<'a>)>) -> String {
    let storages: BTreeMap<_, _> = storages.collect();
    serde_json::to_string(&storages).expect("all keys are texts")
}
