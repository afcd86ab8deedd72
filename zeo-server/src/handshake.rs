//! From a new connection to a session: greeting, hello, and welcome or refusal.

use std::collections::{BTreeMap, BTreeSet};

use zeo_proto::{Hello, MAX_FRAME, Refusal, RefusalReason, Welcome};
use zeo_reactor::{ConnId, Context};

use crate::database::DatabaseId;
use crate::lane::Lane;
use crate::load::UNCONGESTED;
use crate::memory::Told;
use crate::open_transactions::OpenTransactions;
use crate::server::{Server, peer};
use crate::session::{Fenced, Session};
use crate::status::Clock;

impl Server {
    /// A connection was made: it has a limited time to introduce itself.
    pub(crate) fn greeted(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if self.greeted.len() >= self.limits.handshakes {
            self.give_up_oldest(cx);
        }
        let timer = cx.call_later(self.limits.handshake, move |server: &mut Self, cx| {
            server.give_up(cx, conn, "no handshake in time");
        });
        self.greeted.insert(conn, (cx.now(), timer));
        let max = self.limits.output_bytes;
        if let Some(transport) = cx.transport(conn) {
            transport.set_output_limits(UNCONGESTED, max);
        }
    }

    /// Who says nothing must not keep out who would.
    fn give_up_oldest(&mut self, cx: &mut Context<Self>) {
        let oldest = self.greeted.iter().min_by_key(|&(_, &(since, _))| since);
        if let Some((&conn, _)) = oldest {
            self.give_up(cx, conn, "others want to introduce themselves");
        }
    }

    fn give_up(&mut self, cx: &mut Context<Self>, conn: ConnId, why: &str) {
        self.complain(cx, conn, why);
        self.introduced(cx, conn);
        if let Some(transport) = cx.transport(conn) {
            transport.abort();
        }
    }

    /// The connection introduced itself, or it is too late for that.
    pub(crate) fn introduced(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if let Some((_, timer)) = self.greeted.remove(&conn) {
            cx.cancel(timer);
        }
    }

    pub(crate) fn hello(&mut self, cx: &mut Context<Self>, conn: ConnId, hello: Hello) {
        self.introduced(cx, conn);
        match self.admit(&hello) {
            Ok(id) => self.welcome(cx, conn, id, hello),
            Err(refusal) => self.refuse(cx, conn, &refusal),
        }
    }

    fn admit(&self, hello: &Hello) -> Result<DatabaseId, Refusal> {
        let refusal = |reason, text: String| Err(Refusal { reason, text });
        if self.is_stopping() {
            return refusal(RefusalReason::Stopping, "the server is stopping".to_owned());
        }
        if self.sessions.len() >= self.limits.sessions {
            let text = format!("the server has {} sessions already", self.sessions.len());
            return refusal(RefusalReason::TooManySessions, text);
        }
        let Some(id) = self.databases.named(hello.storage()) else {
            let names: Vec<_> = self.databases.iter().map(|d| d.name.as_str()).collect();
            let text =
                format!("no storage {:?} here; there is {}", hello.storage(), names.join(", "));
            return refusal(RefusalReason::UnknownStorage, text);
        };
        let database = self.databases.at(id);
        if database.read_only && !hello.read_only {
            let text = format!("the storage {:?} is read-only", hello.storage());
            return refusal(RefusalReason::ReadOnly, text);
        }
        let here = database.storage.identity();
        match hello.known {
            Some(known) if known.uuid != here.uuid => {
                let text = format!("this is database {here}, the client knows {known}");
                refusal(RefusalReason::OtherDatabase { known, here }, text)
            }
            _ => Ok(id),
        }
    }

    fn welcome(&mut self, cx: &mut Context<Self>, conn: ConnId, id: DatabaseId, hello: Hello) {
        let peer = peer(cx, conn);
        let database = self.databases.at_mut(id);
        database.audience.insert(conn);
        let welcome = Welcome {
            identity: database.storage.identity(),
            last_tid: database.published,
            features: hello.features & FEATURES,
            max_frame: u32::try_from(MAX_FRAME).expect("it is 64 MiB"),
            max_transaction: self.limits.transaction_bytes,
            max_calls: u32::try_from(self.limits.calls_in_flight).unwrap_or(u32::MAX),
        };
        tracing::info!(%conn, peer, label = hello.label, storage = database.name, "session up");
        let mut out = Vec::new();
        zeo_proto::welcome(&welcome, &mut out);
        if let Some(transport) = cx.transport(conn) {
            transport.write(&out);
        }
        let session = Session {
            database: id,
            label: hello.label,
            peer,
            since: cx.now(),
            calls: 0,
            commits: 0,
            read_only: hello.read_only,
            is_paused: false,
            outrun: BTreeSet::new(),
            is_catching_up: false,
            is_reading_history: false,
            history_place: None,
            fenced: Fenced::default(),
            calls_in_flight: 0,
            lane: Lane::default(),
            transactions: OpenTransactions::default(),
            votes: BTreeMap::new(),
            buffered: 0,
            buffered_told: Told::default(),
        };
        self.sessions.insert(conn, session);
    }

    fn refuse(&mut self, cx: &mut Context<Self>, conn: ConnId, refusal: &Refusal) {
        tracing::info!(%conn, peer = peer(cx, conn), "refused: {}", refusal.text);
        let mut out = Vec::new();
        zeo_proto::refuse(refusal, &mut out);
        self.close(cx, conn, &out);
    }

    pub(crate) fn zeo5_client(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.introduced(cx, conn);
        self.complain(cx, conn, "ZEO 5 is not served yet");
        self.close(cx, conn, &[]);
    }

    /// An operator's question, instead of a handshake. It is not worth a line in the log.
    pub(crate) fn ruok(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.introduced(cx, conn);
        let status = self.short_status(Clock::of(cx));
        let mut out = Vec::new();
        if let Err(error) = zeo_proto::write_frame(status.as_bytes(), &mut out) {
            tracing::error!("the status does not fit a frame: {error}");
        }
        self.close(cx, conn, &out);
    }

    /// The connection is gone.
    pub(crate) fn connection_lost(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: &str) {
        self.introduced(cx, conn);
        self.end_session(cx, conn, reason);
        self.holds_nothing(cx, conn);
    }

    /// Forgets a session: its transactions, its loads, and its place in the audience. Votes that
    /// have not come to their finish are aborted, and their locks let go of.
    pub(crate) fn end_session(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: &str) {
        let Some(session) = self.sessions.remove(&conn) else { return };
        let Session { database: id, peer, label, calls, commits, transactions, votes, .. } =
            session;
        let database = self.databases.at_mut(id);
        database.audience.remove(&conn);
        database.open_transactions -= transactions.len();
        database.counters.aborts += (transactions.len() + votes.len()) as u64;
        self.buffered_bytes -= transactions.memory();
        let seconds = (cx.now() - session.since).as_secs();
        let storage = &database.name;
        tracing::info!(
            %conn, peer, label, storage, reason, seconds, calls, commits, "session down"
        );
        let kept = transactions.into_values().filter_map(|mut txn| txn.take_lock());
        self.release_all(cx, id, votes.into_values().chain(kept).collect());
    }
}

/// Features of the native protocol that this server has; none is optional yet.
const FEATURES: u64 = 0;
