//! The connection's life: handshake, loss, patience, and the end.
//!
//! The reactor lets it come back, with growing pauses between the rounds of all addresses. How long
//! callers wait meanwhile is another matter: after `wait_timeout` without a connection their calls
//! fail, and so do new ones, until there is a connection again.

use std::time::Duration;

use zeo_proto::{ClientMessage, Goodbye, Hello, Identity, Refusal, RefusalReason};
use zeo_reactor::{Address, BackOff, ConnId, DeferredSender, LostReason, Reconnector, TimerId};

use crate::error::{CallError, ConnectError, OtherDatabase};
use crate::shared::Counters;

use super::connection::Connector;
use super::{Cx, Phase, State};

/// Where the server is, and what to say to it.
#[derive(Debug)]
pub(crate) struct Server {
    /// As the user wrote it, for messages.
    pub(crate) name: String,
    /// At least one.
    pub(crate) addresses: Vec<Address>,
    pub(crate) hello: Hello,
    pub(crate) wait_timeout: Duration,
}

/// Where the result of the first connection goes.
pub(crate) type ConnectSender = DeferredSender<Result<(), ConnectError>>;

/// The state of connecting.
#[derive(Debug)]
pub(super) struct Connecting {
    server: Server,
    /// The database that this client belongs to, once it was connected.
    known: Option<Identity>,
    /// What lets the connection come back.
    reconnector: Option<Reconnector>,
    /// Why the last attempt failed.
    trouble: String,
    /// What ends a handshake that takes too long.
    timer: Option<TimerId>,
    /// What ends the patience of those who wait.
    patience: Option<TimerId>,
    away: bool,
    /// Who waits for the first connection.
    waiter: Option<ConnectSender>,
}

impl Connecting {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            known: None,
            reconnector: None,
            trouble: "no answer".to_owned(),
            timer: None,
            patience: None,
            away: false,
            waiter: None,
        }
    }

    /// Whether there has been no connection for too long.
    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    pub(super) fn wait_timeout(&self) -> Duration {
        self.server.wait_timeout
    }

    /// Takes note of the database that was met, and returns the one known before. One that is
    /// known stays, except for its epoch.
    pub(super) fn met(&mut self, here: Identity) -> Option<Identity> {
        let known = self.known;
        if known.is_none_or(|known| known.uuid == here.uuid) {
            self.known = Some(here);
        }
        known
    }

    fn unreachable(&self) -> ConnectError {
        let (server, reason) = (self.server.name.clone(), self.trouble.clone());
        ConnectError::Unreachable { server, reason }
    }

    /// Whether all addresses have been tried since the last pause.
    fn is_round_over(&self) -> bool {
        self.reconnector.as_ref().is_none_or(Reconnector::is_round_over)
    }
}

impl State {
    /// Begins to connect; tells `waiter` when that has succeeded, or cannot.
    pub(crate) fn connect(&mut self, cx: &mut Cx, waiter: Option<ConnectSender>) {
        self.connecting.waiter = waiter;
        self.lose_patience(cx);
        let addresses = self.connecting.server.addresses.clone();
        let reconnector = cx.reconnect(addresses, BackOff::default(), Connector);
        self.connecting.reconnector = Some(reconnector);
    }

    /// What to say to the server; nothing when no connection is wanted any more.
    pub(super) fn hello(&self) -> Option<Hello> {
        if matches!(self.phase, Phase::Ended) {
            return None;
        }
        let mut hello = self.connecting.server.hello.clone();
        hello.known = self.connecting.known;
        hello.last_tid = hello.known.map(|_| self.shared.last_tid());
        Some(hello)
    }

    pub(super) fn connection_made(&mut self, cx: &mut Cx, conn: ConnId) {
        self.phase = Phase::Greeting(conn);
        if let Some(transport) = cx.transport(conn) {
            transport.set_output_limits(OUTPUT_LOW, OUTPUT_MAX);
        }
        self.set_timer(cx, HANDSHAKE_MAX, Self::handshake_is_late);
    }

    fn handshake_is_late(&mut self, cx: &mut Cx) {
        self.give_up(cx, "the server did not finish its handshake");
    }

    /// The connection is verified: sends what waits.
    pub(super) fn ready(&mut self, cx: &mut Cx, conn: ConnId) {
        self.phase = Phase::Ready(conn);
        if let Some(reconnector) = &self.connecting.reconnector {
            reconnector.is_good();
        }
        self.connecting.away = false;
        self.stop_timer(cx);
        self.stop_patience(cx);
        self.shared.set_connected(true);
        Counters::count(&self.shared.counters.connections);
        tracing::info!(server = %self.connecting.server.name, "connected");
        self.resend_asks(cx);
        self.resend_oids(cx);
        self.resend_browsing(cx);
        self.resend_loads(cx);
        self.resend_commits(cx);
        if let Some(waiter) = self.connecting.waiter.take() {
            waiter.send(Ok(()));
        }
    }

    /// The server will not have us. On the first connection that is an answer, unless it passes.
    pub(super) fn refused(&mut self, cx: &mut Cx, _: ConnId, refusal: &Refusal) {
        let text = refusal.text.clone();
        match refusal.reason {
            RefusalReason::OtherDatabase { known, here } if known.uuid != here.uuid => {
                self.end(cx, CallError::OtherDatabase(OtherDatabase { known, found: here }));
            }
            RefusalReason::TooManySessions
            | RefusalReason::Stopping
            | RefusalReason::OtherDatabase { .. } => self.give_up(cx, &text),
            RefusalReason::Malformed
            | RefusalReason::VersionUnsupported
            | RefusalReason::UnknownStorage
            | RefusalReason::ReadOnly
            | RefusalReason::Other(_)
            | _ => self.fail_first(cx, &text, ConnectError::Refused(text.clone())),
        }
    }

    /// What is there is not a server for us.
    pub(super) fn not_understood(&mut self, cx: &mut Cx, reason: &str) {
        let server = self.connecting.server.name.clone();
        let error = ConnectError::NotUnderstood { server, reason: reason.to_owned() };
        self.fail_first(cx, reason, error);
    }

    /// Ends the first connection's attempts for good; a later one's go on, because the server may
    /// be about to be replaced.
    fn fail_first(&mut self, cx: &mut Cx, trouble: &str, error: ConnectError) {
        match self.connecting.waiter.take() {
            Some(waiter) => {
                waiter.send(Err(error));
                self.end(cx, CallError::Closed);
            }
            None => self.give_up(cx, trouble),
        }
    }

    pub(super) fn connection_failed(&mut self, cx: &mut Cx, why: &str) {
        why.clone_into(&mut self.connecting.trouble);
        self.count_round(cx);
    }

    pub(super) fn connection_lost(&mut self, cx: &mut Cx, why: &LostReason) {
        self.lost(cx, &why.to_string());
    }

    /// Ends the present connection at once.
    pub(super) fn give_up(&mut self, cx: &mut Cx, why: &str) {
        if let Some(transport) = self.conn().and_then(|conn| cx.transport(conn)) {
            transport.abort();
        }
        self.lost(cx, why);
    }

    fn lost(&mut self, cx: &mut Cx, why: &str) {
        tracing::info!(server = %self.connecting.server.name, why, "connection lost");
        why.clone_into(&mut self.connecting.trouble);
        self.disconnect(cx);
        self.lose_patience(cx);
        self.count_round(cx);
    }

    fn disconnect(&mut self, cx: &mut Cx) {
        self.phase = Phase::Disconnected;
        self.shared.set_connected(false);
        self.stop_timer(cx);
        self.forget_calls(cx);
        self.forget_pages();
        self.commits_lost();
    }

    /// Who has no patience at all waits for one round of all addresses.
    fn count_round(&mut self, cx: &mut Cx) {
        if self.connecting.wait_timeout().is_zero() && self.connecting.is_round_over() {
            self.patience_lost(cx);
        }
    }

    /// From now on, callers wait for a connection no longer than `wait_timeout`.
    fn lose_patience(&mut self, cx: &mut Cx) {
        let limit = self.connecting.wait_timeout();
        if self.connecting.patience.is_none() && !self.connecting.away && !limit.is_zero() {
            self.connecting.patience = Some(cx.call_later(limit, Self::patience_lost));
        }
    }

    fn patience_lost(&mut self, cx: &mut Cx) {
        self.connecting.patience = None;
        if let Some(waiter) = self.connecting.waiter.take() {
            waiter.send(Err(self.connecting.unreachable()));
            return self.end(cx, CallError::Closed);
        }
        self.connecting.away = true;
        self.fail_all(cx, &CallError::Disconnected);
    }

    /// No call will be answered any more.
    pub(super) fn end(&mut self, cx: &mut Cx, why: CallError) {
        let why = self.shared.end(why);
        if let Some(transport) = self.conn().and_then(|conn| cx.transport(conn)) {
            transport.lose_connection();
        }
        self.disconnect(cx);
        self.stop_patience(cx);
        self.phase = Phase::Ended;
        if let Some(reconnector) = &self.connecting.reconnector {
            reconnector.stop();
        }
        if let Some(waiter) = self.connecting.waiter.take() {
            waiter.send(Err(why.clone().into()));
        }
        self.fail_all(cx, &why);
    }

    /// Takes leave of the server, fails what waits, and stops the reactor.
    pub(crate) fn close(&mut self, cx: &mut Cx) {
        self.send(cx, &ClientMessage::Goodbye(Goodbye::Closed));
        self.end(cx, CallError::Closed);
        cx.stop();
    }

    fn set_timer(
        &mut self,
        cx: &mut Cx,
        after: Duration,
        then: impl FnOnce(&mut Self, &mut Cx) + Send + 'static,
    ) {
        self.stop_timer(cx);
        self.connecting.timer = Some(cx.call_later(after, then));
    }

    pub(super) fn stop_timer(&mut self, cx: &mut Cx) {
        if let Some(timer) = self.connecting.timer.take() {
            cx.cancel(timer);
        }
    }

    fn stop_patience(&mut self, cx: &mut Cx) {
        if let Some(timer) = self.connecting.patience.take() {
            cx.cancel(timer);
        }
    }
}

/// How long a server may take from the connection to its welcome.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Bytes of output to which it must fall before more of a large transaction is written.
const OUTPUT_LOW: usize = 256 << 10;
/// Bytes of output at which a server that does not read is given up: room for what
/// [`feed`](State::feed) leaves, the largest object, and all calls that may wait.
const OUTPUT_MAX: usize = 256 << 20;
