//! The server's state, which lives on its reactor thread, and the way of a message into it.

use std::collections::BTreeMap;

use zeo_proto::{
    Call, ClientMessage, Failure, Goodbye, Reply, ServerEvent, ServerMessage, WireError,
};
use zeo_reactor::{ConnId, Context, Time, TimerId};

use crate::complaints::Complaints;
use crate::connection::Arrived;
use crate::database::Databases;
use crate::limits::Limits;
use crate::load::CONGESTED;
use crate::memory::{Memory, Part};
use crate::outgoing::send;
use crate::rules::Rules;
use crate::session::{Caller, Session};
use crate::stop::Phase;
use crate::votes::VoteMode;

/// A storage server: sessions, databases, and what goes on between them.
///
/// It is the shared state of its reactor; nothing of it is touched by another thread. Make one
/// with [`Server::builder`].
#[derive(Debug)]
pub struct Server {
    pub(crate) databases: Databases,
    pub(crate) sessions: BTreeMap<ConnId, Session>,
    /// Connections that have not introduced themselves: since when, and what will close them.
    pub(crate) greeted: BTreeMap<ConnId, (Time, TimerId)>,
    /// What connections hold, each and all together.
    pub(crate) memory: Memory,
    /// What was said of peers that were closed.
    pub(crate) complaints: Complaints,
    /// Bytes held by transactions that are open or wait for the commit stage.
    pub(crate) buffered_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    pub(crate) phase: Phase,
    /// When it began to serve.
    pub(crate) started: Time,
    /// The same as the time of day, in microseconds since 1970.
    pub(crate) started_micros: u64,
}

impl Server {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            databases: Databases::default(),
            sessions: BTreeMap::new(),
            greeted: BTreeMap::new(),
            memory: Memory::default(),
            complaints: Complaints::default(),
            buffered_bytes: 0,
            limits,
            rules: Rules::default(),
            phase: Phase::Serving,
            started: Time::default(),
            started_micros: 0,
        }
    }

    /// What a connection brought.
    pub(crate) fn arrived(&mut self, cx: &mut Context<Self>, conn: ConnId, arrived: Arrived) {
        match arrived {
            Arrived::Event(ServerEvent::Hello(hello)) => self.hello(cx, conn, hello),
            Arrived::Event(ServerEvent::Message(message, tail)) => {
                self.message(cx, conn, message, tail);
            }
            Arrived::Event(ServerEvent::Ruok) => self.ruok(cx, conn),
            Arrived::Event(ServerEvent::Zeo5Client) => self.zeo5_client(cx, conn),
            Arrived::Event(ServerEvent::Broken(error)) => self.broken(cx, conn, &error, &[]),
            Arrived::Holds(bytes) => self.holds(cx, conn, Part::Input, bytes),
            Arrived::Broken(error, farewell) => self.broken(cx, conn, &error, &farewell),
        }
    }

    fn message(
        &mut self,
        cx: &mut Context<Self>,
        conn: ConnId,
        message: ClientMessage,
        tail: bytes::Bytes,
    ) {
        if !self.sessions.contains_key(&conn) {
            return;
        }
        let buffered = self.buffered_bytes;
        match message {
            ClientMessage::Call(call, question) => self.call(cx, Caller { conn, call }, question),
            ClientMessage::TpcBegin(number, begin) => self.tpc_begin(cx, conn, number, begin),
            ClientMessage::Store(number, store) => self.store(cx, conn, number, (store, tail)),
            ClientMessage::ReadCurrent(number, oid, tid) => {
                self.read_current(cx, conn, number, (oid, tid));
            }
            ClientMessage::Delete(number, oid, tid) => self.delete(cx, conn, number, (oid, tid)),
            ClientMessage::TpcAbort(number) => self.tpc_abort(cx, conn, number),
            ClientMessage::Goodbye(reason) => self.goodbye(cx, conn, &reason),
            ClientMessage::Undo(number, tid) => self.undo(cx, conn, number, tid),
            ClientMessage::Restore(number, tid) => self.restore(cx, conn, number, tid),
        }
        self.buffered(cx, conn, buffered);
    }

    fn call(&mut self, cx: &mut Context<Self>, caller: Caller, call: Call) {
        self.call_begun(cx, caller.conn);
        match call {
            Call::Ping => self.reply(cx, caller, Reply::Pong),
            Call::LoadBefore(oid, before) => self.load_before(cx, caller, oid, before),
            Call::LoadMany(before, oids) => self.load_many(cx, caller, before, oids),
            Call::NewOids(count) => self.new_oids(cx, caller, count),
            Call::LastTid => self.last_tid(cx, caller),
            Call::InvalidationsSince(tid) => self.invalidations_since(cx, caller, tid),
            Call::Outcome(query) => self.outcome(cx, caller, query),
            Call::TpcVote(number, then_finish) => {
                self.tpc_vote(cx, caller, number, VoteMode { then_finish, resolving: false });
            }
            Call::TpcVoteResolving(number, then_finish) => {
                self.tpc_vote(cx, caller, number, VoteMode { then_finish, resolving: true });
            }
            Call::TpcFinish(number) => self.tpc_finish(cx, caller, number),
            Call::Status => self.status(cx, caller),
            Call::History(oid, before, count) => self.history(cx, caller, (oid, before), count),
            Call::Transactions(from, through) => self.transactions(cx, caller, from, through),
            Call::Objects(from, before, count) => self.objects(cx, caller, (from, before), count),
            Call::Size => self.size(cx, caller),
        }
    }

    fn last_tid(&mut self, cx: &mut Context<Self>, caller: Caller) {
        let Some(session) = self.sessions.get(&caller.conn) else { return };
        let published = self.databases.at(session.database).published;
        self.reply(cx, caller, Reply::LastTid(published));
    }

    /// The session has one more call to be answered.
    fn call_begun(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.calls_in_flight += 1;
        session.calls += 1;
        self.regulate(cx, conn);
    }

    /// A call of the session got its last answer, and its peer may have the next one ready.
    pub(crate) fn call_ended(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.calls_in_flight = session.calls_in_flight.saturating_sub(1);
        cx.linger();
        if session.is_paused {
            self.regulate(cx, conn);
        }
    }

    /// Stops reading a session that has too much under way, or does not take in its answers; reads
    /// on when that has changed.
    pub(crate) fn regulate(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(transport) = cx.transport(conn) else { return };
        // Votes that wait for locks have a bound of their own: behind them comes the finish that
        // they wait for.
        let calls = session.calls_in_flight.saturating_sub(session.votes.len());
        let is_full = calls >= self.limits.calls_in_flight
            || session.lane.is_long()
            || !session.outrun.is_empty()
            || self.memory.holds_back(conn)
            || transport.output_len() >= CONGESTED;
        match (session.is_paused, is_full) {
            (false, true) => transport.pause_reading(),
            (true, false) => transport.resume_reading(),
            (true, true) | (false, false) => {}
        }
        session.is_paused = is_full;
    }

    /// Answers a call.
    pub(crate) fn reply(&mut self, cx: &mut Context<Self>, caller: Caller, reply: Reply) {
        self.reply_with(cx, caller, reply, &bytes::Bytes::new());
    }

    /// Answers a call, with object data.
    pub(crate) fn reply_with(
        &mut self,
        cx: &mut Context<Self>,
        caller: Caller,
        reply: Reply,
        tail: &bytes::Bytes,
    ) {
        send(cx, caller.conn, &ServerMessage::Reply(caller.call, reply), tail);
        self.call_ended(cx, caller.conn);
    }

    /// Tells a caller why its call failed.
    pub(crate) fn fail(&mut self, cx: &mut Context<Self>, caller: Caller, failure: Failure) {
        let message = ServerMessage::Failure(caller.call, failure);
        send(cx, caller.conn, &message, &bytes::Bytes::new());
        self.call_ended(cx, caller.conn);
    }

    /// The peer's bytes are not the protocol: it is told so and closed; the others do not notice.
    fn broken(&mut self, cx: &mut Context<Self>, conn: ConnId, error: &WireError, farewell: &[u8]) {
        self.introduced(cx, conn);
        self.complain(cx, conn, error);
        self.end_session(cx, conn, &error.to_string());
        self.close(cx, conn, farewell);
    }

    /// Ends a session that used a message where it has no meaning.
    pub(crate) fn break_off(&mut self, cx: &mut Context<Self>, conn: ConnId, how: String) {
        self.complain(cx, conn, &how);
        self.dismiss(cx, conn, Goodbye::ProtocolError(how));
    }

    /// Says goodbye to a session and closes its connection.
    pub(crate) fn dismiss(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: Goodbye) {
        self.end_session(cx, conn, spoken(&reason));
        send(cx, conn, &ServerMessage::Goodbye(reason), &bytes::Bytes::new());
        self.close(cx, conn, &[]);
    }

    /// Writes the last bytes and closes; what the connection still brings is not looked at, and
    /// what its session waited for is forgotten.
    pub(crate) fn close(&mut self, cx: &mut Context<Self>, conn: ConnId, last: &[u8]) {
        self.end_session(cx, conn, "closed by this side");
        if let Some(transport) = cx.transport(conn) {
            transport.write(last);
            transport.pause_reading();
            transport.lose_connection();
        }
    }

    /// Ends a session and its connection at once; what it was sent and did not take in is lost.
    pub(crate) fn abort(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: &str) {
        self.end_session(cx, conn, reason);
        if let Some(transport) = cx.transport(conn) {
            transport.abort();
        }
    }

    fn goodbye(&mut self, cx: &mut Context<Self>, conn: ConnId, reason: &Goodbye) {
        self.end_session(cx, conn, &format!("the client said goodbye: {}", spoken(reason)));
        self.close(cx, conn, &[]);
    }
}

/// Why a side says goodbye, for the log.
fn spoken(reason: &Goodbye) -> &str {
    match reason {
        Goodbye::Closed => "closed in order",
        Goodbye::Stopping => "stopping",
        Goodbye::ProtocolError(why) | Goodbye::TookTooLong(why) => why,
    }
}

/// The address at the other end, for the log; as a field of its own, where it is quoted: the peer
/// may have chosen it.
pub(crate) fn peer(cx: &mut Context<Server>, conn: ConnId) -> String {
    cx.transport(conn).map_or_else(String::new, |transport| transport.peer().to_string())
}
