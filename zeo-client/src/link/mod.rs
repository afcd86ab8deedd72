//! The reactor's side of a client: one connection at a time, what is in flight on it, and the one
//! writer of the cache.
//!
//! Everything here runs on the client's private reactor thread and waits for nobody. What callers
//! wait for is kept in tables that outlive a connection ([`load`], [`ask`], [`commit`], [`oids`]);
//! what was sent on the present connection is in [`calls`] and ends with it. So a lost connection
//! needs no bookkeeping of its own: after the next one has been verified, the tables are sent
//! again. The exception is a commit that may have been carried out; [`outcome`] asks first.
//!
//! Messages are applied in the order of the wire, inside their dispatch: the cache, then
//! `last_tid`, then whoever waits.

mod answer;
mod ask;
mod browse;
mod calls;
mod commit;
mod connection;
mod feed;
#[cfg(feature = "sim")]
mod held;
mod in_flight;
mod invalidation;
mod load;
mod load_many;
mod oids;
mod outcome;
mod reconnect;
mod two_phase;
mod verify;

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, mem};

use bytes::Bytes;
use zeo_proto::{CallId, ClientEvent, Failure, Reply, ServerMessage};
use zeo_reactor::{ConnId, Context, DeferredSender, TimerId};

use crate::cache::CacheWriter;
use crate::error::CallError;
use crate::options::Options;
use crate::rules::Rules;
use crate::shared::Shared;

pub(crate) use self::answer::{Attempt, Clash, CommitSender};
use self::ask::Asks;
use self::browse::Browsing;
pub(crate) use self::browse::{Found, PageSender};
use self::calls::{Asked, Calls};
use self::commit::Commits;
pub(crate) use self::feed::Step;
#[cfg(feature = "sim")]
pub use self::held::Held;
pub(crate) use self::in_flight::CommitRequest;
use self::invalidation::Pages;
use self::load::Loads;
pub(crate) use self::load_many::BatchRequest;
use self::load_many::{Batches, objects};
use self::oids::OidRequests;
use self::reconnect::Connecting;
pub(crate) use self::reconnect::Server;
pub(crate) use self::two_phase::Resolved;
use self::verify::Verification;

/// The state of a client's private reactor.
///
/// Public only so that a simulation can hold the reactor of a client; it can do nothing with it.
pub struct State {
    shared: Arc<Shared>,
    cache: CacheWriter,
    call_timeout: Option<Duration>,
    rules: Rules,
    phase: Phase,
    connecting: Connecting,
    calls: Calls,
    pages: Pages,
    loads: Loads,
    batches: Batches,
    asks: Asks,
    browsing: Browsing,
    oids: OidRequests,
    commits: Commits,
}

/// The reactor, as it is lent to this client's callbacks.
pub(crate) type Cx = Context<State>;

/// How far the connection is.
#[derive(Debug)]
enum Phase {
    /// There is none; an attempt or its back-off is in progress.
    Disconnected,
    /// It is made, and the server has not welcomed us.
    Greeting(ConnId),
    /// The cache is being brought up to date.
    Verifying(ConnId, Verification),
    /// Calls are sent.
    Ready(ConnId),
    /// No call will be answered any more.
    Ended,
}

impl State {
    pub(crate) fn new(
        shared: Arc<Shared>,
        cache: CacheWriter,
        server: Server,
        options: &Options,
    ) -> Self {
        Self {
            shared,
            cache,
            call_timeout: options.call_timeout,
            rules: options.rules,
            phase: Phase::Disconnected,
            connecting: Connecting::new(server),
            calls: Calls::default(),
            pages: Pages::default(),
            loads: Loads::default(),
            batches: Batches::default(),
            asks: Asks::default(),
            browsing: Browsing::default(),
            oids: OidRequests::default(),
            commits: Commits::default(),
        }
    }

    /// Whether `conn` is the present connection. A connection that was given up may have more to
    /// say, which counts no more.
    fn is_present(&self, conn: ConnId) -> bool {
        self.conn() == Some(conn)
    }

    fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Greeting(conn) | Phase::Verifying(conn, _) | Phase::Ready(conn) => Some(conn),
            Phase::Disconnected | Phase::Ended => None,
        }
    }

    /// The connection that calls may be sent on.
    fn ready_conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Ready(conn) => Some(conn),
            Phase::Disconnected | Phase::Greeting(_) | Phase::Verifying(..) | Phase::Ended => None,
        }
    }

    /// Why a new call must fail at once, if it must.
    fn refusal(&self) -> Option<CallError> {
        self.shared.ended().or_else(|| self.connecting.is_away().then_some(CallError::Disconnected))
    }

    fn refusal_or_full(&self, full: bool) -> Option<CallError> {
        self.refusal().or_else(|| full.then_some(CallError::Busy))
    }

    fn understood(&mut self, cx: &mut Cx, conn: ConnId, event: ClientEvent) {
        match event {
            ClientEvent::Greeted => {}
            ClientEvent::Welcomed(welcome) => self.welcomed(cx, conn, &welcome),
            ClientEvent::Refused(refusal) => self.refused(cx, conn, &refusal),
            ClientEvent::Message(message, tail) => self.received(cx, message, tail),
            ClientEvent::ServerIsZeo5 => self.not_understood(cx, "it speaks ZEO 5 only"),
            ClientEvent::Broken(error) => self.not_understood(cx, &error.to_string()),
        }
    }

    fn received(&mut self, cx: &mut Cx, message: ServerMessage, tail: Bytes) {
        match message {
            ServerMessage::Reply(call, reply) => self.replied(cx, call, reply, tail),
            ServerMessage::Failure(call, failure) => self.failed(cx, call, &failure),
            ServerMessage::Invalidate(tid, oids, more) => self.invalidated(cx, tid, oids, more),
            ServerMessage::Goodbye(why) => self.give_up(cx, &format!("the server left: {why:?}")),
        }
    }

    fn replied(&mut self, cx: &mut Cx, call: CallId, reply: Reply, tail: Bytes) {
        let Some(asked) = self.answered(cx, call) else { return self.confused(cx, "an answer") };
        match (asked, reply) {
            (Asked::Load(key), Reply::Loaded(found)) => self.loaded(cx, key, found, tail),
            (Asked::LoadMany(page), Reply::LoadedMany(found, more)) => {
                self.loaded_many(cx, page, objects(found, tail), more.then_some(call));
            }
            (Asked::NewOids, Reply::NewOids(first, count)) => self.new_oids(cx, first, count),
            (Asked::Ping(ask), Reply::Pong) => self.ponged(cx, ask),
            (Asked::LastTid(ask), Reply::LastTid(tid)) => self.synced(cx, ask, tid),
            (Asked::Outcome(ask), Reply::Outcome(outcome)) => self.told(cx, ask, outcome),
            (Asked::Resolve(number, id), Reply::Outcome(outcome)) => {
                self.resolved(cx, number, id, outcome);
            }
            (Asked::Vote(number), Reply::Finished(tid)) => self.finished(cx, number, tid),
            (Asked::Vote(number), Reply::Voted) => self.voted(cx, number),
            (Asked::Vote(number), Reply::Conflicts(found)) => {
                self.conflicts(cx, number, found, tail);
            }
            (Asked::Browse, reply) => self.browsed(cx, reply, tail),
            (Asked::Size(ask), Reply::Size(size)) => self.measured(cx, ask, size),
            (Asked::CatchUp, Reply::CatchUp(page)) => self.caught_up(cx, call, page),
            (Asked::Heartbeat, Reply::Pong) => {}
            (asked, reply) => {
                self.confused(cx, &format!("{reply:?} to {asked:?}"));
            }
        }
    }

    fn failed(&mut self, cx: &mut Cx, call: CallId, failure: &Failure) {
        let Some(asked) = self.answered(cx, call) else { return self.confused(cx, "a failure") };
        if *failure == Failure::Stopping {
            // What was asked stays in its table, and is asked again after the next connection.
            return self.give_up(cx, "the server is stopping");
        }
        match asked {
            Asked::Load(key) => self.load_failed(cx, key, failure),
            Asked::LoadMany(page) => self.load_many_failed(cx, &page, failure),
            Asked::NewOids => self.new_oids_failed(cx, failure),
            Asked::Ping(ask) | Asked::LastTid(ask) | Asked::Outcome(ask) | Asked::Size(ask) => {
                self.ask_failed(cx, ask, failure);
            }
            Asked::Browse => self.browse_failed(cx, failure),
            Asked::Resolve(number, id) => self.resolve_failed(cx, number, id, failure),
            Asked::Vote(number) => self.vote_failed(cx, number, failure),
            Asked::CatchUp => self.catch_up_failed(cx, failure),
            Asked::Heartbeat => {}
        }
    }

    /// The server said what makes no sense here. The next connection begins anew.
    fn confused(&mut self, cx: &mut Cx, what: &str) {
        tracing::error!(what, "the server's message fits nothing; reconnecting");
        self.give_up(cx, &format!("unexpected: {what}"));
    }

    /// Fails everything that waits, except what a verified connection could still answer about
    /// commits that may have been carried out: those are of unknown outcome.
    fn fail_all(&mut self, cx: &mut Cx, why: &CallError) {
        self.fail_loads(cx, &why.clone().into());
        self.fail_asks(cx, why);
        self.fail_browsing(cx, why);
        self.fail_oids(cx, why);
        self.fail_commits(cx, why);
    }
}

/// However a reactor ends: nobody keeps the cache up to date any more, and who still waits is told
/// before callbacks end.
impl Drop for State {
    fn drop(&mut self) {
        self.shared.end(CallError::Closed);
        self.shared.set_connected(false);
        drop((mem::take(&mut self.loads), mem::take(&mut self.batches)));
        drop((mem::take(&mut self.asks), mem::take(&mut self.oids)));
        drop((mem::take(&mut self.browsing), mem::take(&mut self.commits)));
        self.shared.dispatcher.close();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase)
            .field("loads", &self.loads)
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

/// Where an answer goes, and the timer that would go first.
#[derive(Debug)]
struct Waiter<T> {
    sender: DeferredSender<T>,
    timer: Option<TimerId>,
}

impl<T> Waiter<T> {
    /// Someone who waits no longer than `limit`; then `late` is called.
    fn new(
        cx: &mut Cx,
        sender: DeferredSender<T>,
        limit: Option<Duration>,
        late: impl FnOnce(&mut State, &mut Cx) + Send + 'static,
    ) -> Self {
        let timer = limit.map(|limit| cx.call_later(limit, late));
        Self { sender, timer }
    }

    fn send(self, cx: &mut Cx, value: T) {
        if let Some(timer) = self.timer {
            cx.cancel(timer);
        }
        self.sender.send(value);
    }
}

/// A failure that has no meaning of its own for a call.
fn call_error(failure: &Failure) -> CallError {
    match failure {
        Failure::Busy => CallError::Busy,
        Failure::StorageFailed(text) | Failure::OutcomeUnknown(text) | Failure::Damaged(text) => {
            CallError::Failed(text.clone())
        }
        Failure::Unsupported => CallError::Failed("the server does not support this".to_owned()),
        Failure::ReadOnly => CallError::Failed("the database is read-only".to_owned()),
        Failure::DiskFull => CallError::Failed("the server's disk is full".to_owned()),
        Failure::Conflict(_)
        | Failure::Fenced
        | Failure::TransactionTooLarge(_)
        | Failure::NoSuchTransaction
        | Failure::Stopping
        | Failure::UndoRefused(_)
        | Failure::NoSuchTid(_)
        | Failure::Locked(..)
        | Failure::QuotaExceeded(_)
        | Failure::TidOutOfOrder(_) => {
            CallError::Failed(format!("the server answered {failure:?}"))
        }
    }
}

/// A random number as a part of one.
fn fraction(random: u64) -> f64 {
    let high = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    f64::from(high) / f64::from(u32::MAX)
}
