//! Who holds locks, and what each session has under way: what an operator wants to see when
//! something is wrong.
//!
//! Sessions are listed up to a bound for all storages together, those first that hold most memory:
//! a status has its place in a turn, and there may be ten thousand of them.

use std::collections::BTreeSet;

use serde::Serialize;
use zeo_reactor::{ConnId, Time};

use crate::database::DatabaseId;
use crate::memory::Part;
use crate::server::Server;
use crate::session::Session;
use crate::votes::Holder;

/// What the long form says of a storage in addition.
#[derive(Debug, Serialize)]
pub(super) struct Details<'a> {
    holders: Vec<HolderStatus<'a>>,
    holders_left_out: usize,
    sessions: Vec<SessionStatus<'a>>,
    sessions_left_out: usize,
}

/// A vote that holds object locks.
#[derive(Debug, Serialize)]
struct HolderStatus<'a> {
    label: &'a str,
    address: &'a str,
    age_s: f64,
    objects: Option<usize>,
}

#[derive(Debug, Serialize)]
struct SessionStatus<'a> {
    label: &'a str,
    address: &'a str,
    read_only: bool,
    connected_s: u64,
    calls: u64,
    commits: u64,
    calls_in_flight: usize,
    input_bytes: usize,
    output_bytes: usize,
    load_bytes: usize,
    transaction_bytes: usize,
    open_transactions: usize,
    votes: usize,
    oldest_snapshot: Option<String>,
}

impl Server {
    /// The sessions that are listed.
    pub(super) fn listed_sessions(&self) -> BTreeSet<ConnId> {
        let holds_most = self.memory.by_size().filter(|conn| self.sessions.contains_key(conn));
        let mut listed: BTreeSet<ConnId> = holds_most.take(MOST_SESSIONS).collect();
        let others = self.sessions.keys().filter(|conn| !listed.contains(conn)).copied();
        let others: Vec<ConnId> = others.take(MOST_SESSIONS - listed.len()).collect();
        listed.extend(others);
        listed
    }

    pub(super) fn details(
        &self,
        id: DatabaseId,
        listed: &BTreeSet<ConnId>,
        now: Time,
    ) -> Details<'_> {
        let database = self.databases.at(id);
        let votes = &database.votes;
        let holders: Vec<_> =
            votes.holders().take(MOST_HOLDERS).map(|holder| self.holder(holder, now)).collect();
        let listed = listed.iter().filter_map(|&conn| Some((conn, self.sessions.get(&conn)?)));
        let sessions: Vec<_> = listed
            .filter(|(_, session)| session.database == id)
            .map(|(conn, session)| self.session(conn, session, now))
            .collect();
        Details {
            holders_left_out: (votes.len() - votes.waiting()).saturating_sub(holders.len()),
            holders,
            sessions_left_out: database.audience.len().saturating_sub(sessions.len()),
            sessions,
        }
    }

    fn holder(&self, holder: Holder, now: Time) -> HolderStatus<'_> {
        let session = self.sessions.get(&holder.conn);
        HolderStatus {
            label: session.map_or("", |session| &session.label),
            address: session.map_or(GONE, |session| &session.peer),
            age_s: (now - holder.since).as_secs_f64(),
            objects: holder.objects,
        }
    }

    fn session<'a>(&self, conn: ConnId, session: &'a Session, now: Time) -> SessionStatus<'a> {
        let holds = |part| self.memory.part(conn, part);
        SessionStatus {
            label: &session.label,
            address: &session.peer,
            read_only: session.read_only,
            connected_s: (now - session.since).as_secs(),
            calls: session.calls,
            commits: session.commits,
            calls_in_flight: session.calls_in_flight,
            input_bytes: holds(Part::Input),
            output_bytes: holds(Part::Output),
            load_bytes: holds(Part::Loads),
            transaction_bytes: holds(Part::Transactions),
            open_transactions: session.transactions.len(),
            votes: session.votes.len(),
            oldest_snapshot: session.transactions.oldest_snapshot().map(|tid| tid.to_string()),
        }
    }
}

/// Votes that are listed as holders of locks, per storage; those that asked first.
pub(super) const MOST_HOLDERS: usize = 100;
/// Sessions that are listed, of all storages together.
const MOST_SESSIONS: usize = 1_000;
/// The address of a client that has gone while its transaction finishes.
const GONE: &str = "gone";
