//! The reactor as it is lent to callbacks: what they may ask of it, and what it remembers to do.

use std::{collections::VecDeque, fmt, io, mem, sync::Arc, time::Duration};

use crate::{
    Address, ConnId, Factory, Handle, Time, TimerId, Transport,
    arena::{Arena, Key},
    driver::{Driver, ListenerToken, StreamToken},
    handle::{Call, Mailbox},
    kind::{Kind, KindId, Kinds, Seat},
    random::Random,
    stage::Stage,
    timers::Timers,
};

/// Names a listener of one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(Key);

/// Names a connector of one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorId(Key);

/// The reactor, lent to a callback. Nothing here blocks, and nothing here calls back: what is
/// asked for is recorded, and done by this turn's later steps or by the next turn.
pub struct Context<S> {
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) mailbox: Arc<Mailbox<S>>,
    pub(crate) now: Time,
    random: Random,
    pub(crate) kinds: Kinds<S>,
    pub(crate) conns: Arena<Conn>,
    pub(crate) listeners: Arena<KindId>,
    pub(crate) connectors: Arena<KindId>,
    pub(crate) stages: Arena<Stage>,
    pub(crate) timers: Timers<Call<S>>,
    /// The reactor's own timers: connects, lingering closes, listeners that back off.
    pub(crate) limits: Timers<Limit>,
    pub(crate) connect_limit: Duration,
    pub(crate) soon: VecDeque<Call<S>>,
    pub(crate) connects: Vec<(KindId, Address)>,
    /// Connections whose transport was lent since the last flush.
    pub(crate) touched: Vec<ConnId>,
    /// Connections that had no share of the turn in which they were touched, or need more.
    pub(crate) behind: VecDeque<ConnId>,
    /// Connections to read from, and to drain when they were resumed.
    pub(crate) reading: Vec<ConnId>,
    pub(crate) accepting: Vec<Key>,
    pub(crate) busy: bool,
    /// Something may follow on what was done since the last sleep.
    pub(crate) lingering: bool,
    pub(crate) started: bool,
    pub(crate) stopping: Stopping,
    pub(crate) shutdown_limit: Duration,
}

/// How far a reactor is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    No,
    /// It was asked to.
    Asked,
    /// The triggers before the shutdown have run; it goes on when nothing holds it back, or when
    /// that has taken too long.
    Held,
    /// Nothing can hold it back any more.
    Begun,
}

/// One connection, made or being made.
#[expect(clippy::struct_excessive_bools, reason = "facts that change independently")]
pub(crate) struct Conn {
    pub(crate) transport: Transport,
    pub(crate) kind: KindId,
    /// `None` while connecting.
    pub(crate) seat: Option<Seat>,
    pub(crate) limit: Option<TimerId>,
    pub(crate) readable: bool,
    pub(crate) read_closed: bool,
    pub(crate) writable: bool,
    /// In the list of connections to read from.
    pub(crate) listed: bool,
    /// Resumed, and its protocol's events not drained since.
    pub(crate) undrained: bool,
    /// The peer has closed; this end follows after one more flush.
    pub(crate) ended: bool,
    /// All output has left and the peer was told; what it still sends is discarded.
    pub(crate) shut: bool,
}

/// What the reactor has set a limit for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Conn(ConnId),
    Accept(Key),
    Shutdown,
}

impl<S: 'static> Context<S> {
    /// The time at which this turn began.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The time of day, in microseconds since 1970, at this moment. It may go backwards.
    pub fn unix_micros(&self) -> u64 {
        self.driver.unix_micros()
    }

    /// A random number, not for secrets. In a simulation it follows from the seed.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// The connection's transport, or `None` when it has been lost.
    pub fn transport(&mut self, conn: ConnId) -> Option<&mut Transport> {
        let made = self.conns.get_mut(conn.0).filter(|conn| conn.seat.is_some())?;
        if !made.transport.touched {
            made.transport.touched = true;
            self.touched.push(conn);
        }
        Some(&mut made.transport)
    }

    /// Runs `f` in the first turn that begins `after` this one or later.
    pub fn call_later(
        &mut self,
        after: Duration,
        f: impl FnOnce(&mut S, &mut Self) + Send + 'static,
    ) -> TimerId {
        self.timers.add(self.now + after, Box::new(f))
    }

    /// Forgets a timer. `false` when it has run or was cancelled.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer).is_some()
    }

    /// Makes a timer run `after` this turn instead. `false` when it has run or was cancelled.
    pub fn reset(&mut self, timer: TimerId, after: Duration) -> bool {
        self.timers.reset(timer, self.now + after)
    }

    /// Runs `f` in the next turn. Whoever calls this from within bounds it.
    pub fn call_soon(&mut self, f: impl FnOnce(&mut S, &mut Self) + Send + 'static) {
        self.soon.push_back(Box::new(f));
    }

    /// Listens from now on, and returns the real address: port 0 picks a free one.
    ///
    /// The file of a Unix socket that nobody answers is replaced, and the file is removed when the
    /// listener is closed.
    ///
    /// # Errors
    ///
    /// Those of the system; `AddrInUse` when somebody else listens there.
    pub fn listen<F: Factory<S>>(
        &mut self,
        at: &Address,
        factory: F,
    ) -> io::Result<(ListenerId, Address)> {
        let token = ListenerToken(self.listeners.next_key().index());
        let address = self.driver.listen(token, at)?;
        let kind = self.add_kind(factory);
        Ok((ListenerId(self.listeners.insert(kind)), address))
    }

    /// Stops listening; connections that were made live on. Does nothing the second time.
    pub fn stop_listening(&mut self, listener: ListenerId) {
        self.close_listener(listener.0);
    }

    /// Connects once. The factory hears of it through `connection_made` or `connection_failed`.
    pub fn connect<F: Factory<S>>(&mut self, to: &Address, factory: F) {
        let kind = self.add_kind(factory);
        self.connects.push((kind, to.clone()));
    }

    /// Keeps a factory for any number of [`connect_with`](Self::connect_with).
    pub fn connector<F: Factory<S>>(&mut self, factory: F) -> ConnectorId {
        let kind = self.add_kind(factory);
        ConnectorId(self.connectors.insert(kind))
    }

    /// Connects with a connector's factory. Does nothing when the connector was dropped.
    pub fn connect_with(&mut self, connector: ConnectorId, to: &Address) {
        if let Some(kind) = self.connectors.get(connector.0).copied() {
            self.kinds.retain(kind);
            self.connects.push((kind, to.clone()));
        }
    }

    /// Drops a connector; its connections live on, and its factory as long as they do.
    pub fn drop_connector(&mut self, connector: ConnectorId) {
        if let Some(kind) = self.connectors.remove(connector.0) {
            self.kinds.release(kind);
        }
    }

    /// Sets how long connecting may take from now on (by default 10 s).
    pub fn set_connect_timeout(&mut self, limit: Duration) {
        self.connect_limit = limit;
    }

    /// What other threads may hold of this reactor.
    pub fn handle(&self) -> Handle<S> {
        Handle::new(Arc::clone(&self.mailbox))
    }

    /// Says whether something is expected within microseconds: an answer in flight. Off by default.
    ///
    /// While it is, the reactor polls for up to 50 µs before it sleeps, which saves the cost of being
    /// woken; and once more when it is over, as [`linger`](Self::linger) says. It gives that up for a
    /// while where it does not pay, and does not try with one CPU.
    pub fn set_busy(&mut self, busy: bool) {
        self.lingering |= self.busy && !busy;
        self.busy = busy;
    }

    /// Says that something may follow at once on what was done in this turn: whoever got an answer
    /// often asks for the next thing.
    ///
    /// Before its next sleep, and only that one, the reactor polls as [`set_busy`](Self::set_busy)
    /// has it poll.
    pub fn linger(&mut self) {
        self.lingering = true;
    }

    /// Stops the reactor at the end of this turn, or as soon as nothing [holds](crate::Hold) it
    /// back: every connection is lost with [`LostReason::Stopped`](crate::LostReason::Stopped), and
    /// what is still queued is dropped.
    pub fn stop(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Asked;
        }
    }

    pub(crate) fn new(driver: impl Driver + 'static, mailbox: Arc<Mailbox<S>>) -> Self {
        let mut driver: Box<dyn Driver> = Box::new(driver);
        Self {
            now: driver.now(),
            random: Random::new(driver.seed()),
            driver,
            mailbox,
            kinds: Kinds::new(),
            conns: Arena::new(),
            listeners: Arena::new(),
            connectors: Arena::new(),
            stages: Arena::new(),
            timers: Timers::new(),
            limits: Timers::new(),
            connect_limit: CONNECT_LIMIT_DEFAULT,
            soon: VecDeque::new(),
            connects: Vec::new(),
            touched: Vec::new(),
            behind: VecDeque::new(),
            reading: Vec::new(),
            accepting: Vec::new(),
            busy: false,
            lingering: false,
            started: false,
            stopping: Stopping::No,
            shutdown_limit: SHUTDOWN_LIMIT_DEFAULT,
        }
    }

    pub(crate) fn close_listener(&mut self, listener: Key) {
        if let Some(kind) = self.listeners.remove(listener) {
            self.driver.close_listener(ListenerToken(listener.index()));
            self.kinds.release(kind);
        }
    }

    /// Adds a connection, which counts as a user of its kind already.
    pub(crate) fn add_conn(&mut self, kind: KindId, peer: Address, seat: Option<Seat>) -> ConnId {
        let id = ConnId(self.conns.next_key());
        self.conns.insert(Conn::new(Transport::new(id, peer), kind, seat));
        id
    }

    /// Removes a connection and closes its socket.
    pub(crate) fn remove_conn(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(id.0)?;
        self.driver.close_stream(token(id));
        if let Some(limit) = conn.limit {
            self.limits.cancel(limit);
        }
        Some(conn)
    }

    /// Sets the limit of a connection, in place of another.
    pub(crate) fn limit_conn(&mut self, id: ConnId, limit: Option<Duration>) {
        let timer = limit.map(|limit| self.limits.add(self.now + limit, Limit::Conn(id)));
        if let Some(conn) = self.conns.get_mut(id.0)
            && let Some(old) = mem::replace(&mut conn.limit, timer)
        {
            self.limits.cancel(old);
        }
    }

    /// Puts a connection into the list to read from.
    pub(crate) fn list(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0)
            && !conn.listed
        {
            conn.listed = true;
            self.reading.push(id);
        }
    }

    /// Whether the next turn has something to do, whatever the driver says.
    pub(crate) fn has_work(&self) -> bool {
        let idle = self.soon.is_empty()
            && self.connects.is_empty()
            && self.touched.is_empty()
            && self.behind.is_empty()
            && self.reading.is_empty()
            && self.accepting.is_empty();
        !idle || self.stopping == Stopping::Asked || self.may_shut_down()
    }

    /// Whether a shutdown that was held back need not be any more.
    pub(crate) fn may_shut_down(&self) -> bool {
        match self.stopping {
            Stopping::No | Stopping::Asked => false,
            Stopping::Held => self.mailbox.holds.are_none(),
            Stopping::Begun => true,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let deadlines = [self.timers.next_deadline(), self.limits.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn add_kind<F: Factory<S>>(&mut self, factory: F) -> KindId {
        self.kinds.add(Box::new(Kind::new(factory)))
    }

    /// Whether an answer is expected before the next sleep, and whether something may follow on what
    /// was done; that counts once.
    pub(crate) fn expected(&mut self) -> (bool, bool) {
        (self.busy, mem::take(&mut self.lingering))
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Conn {
    fn new(transport: Transport, kind: KindId, seat: Option<Seat>) -> Self {
        Self {
            transport,
            kind,
            seat,
            limit: None,
            readable: false,
            read_closed: false,
            writable: seat.is_some(),
            listed: false,
            undrained: false,
            ended: false,
            shut: false,
        }
    }

    /// Whether bytes are read for the protocol.
    pub(crate) fn is_received(&self) -> bool {
        !self.ended && !self.transport.is_paused() && !self.transport.is_closing()
    }
}

/// The driver's name for a connection.
pub(crate) const fn token(id: ConnId) -> StreamToken {
    StreamToken(id.0.index())
}

const CONNECT_LIMIT_DEFAULT: Duration = Duration::from_secs(10);
const SHUTDOWN_LIMIT_DEFAULT: Duration = Duration::from_secs(10);
