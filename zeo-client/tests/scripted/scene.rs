//! A client, and a server that is played by the test, on one simulated network.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use zeo_client::{Client, Deferred, Oid, Options, State, Tid, Transaction};
use zeo_proto::{
    Call, CallId, ClientMessage, Failure, Greeting, Hello, Identity, Loaded, Refusal, Reply,
    ServerConnection, ServerEvent, ServerMessage, Validity, Welcome,
};
use zeo_reactor::sim::{Turns, World};
use zeo_reactor::{Address, ConnId, Context, Factory, Protocol, Reactor, Transport};

pub(crate) struct Scene {
    pub(crate) client: Client,
    world: World,
    reactor: Reactor<State>,
    server: Reactor<Script>,
}

/// What the played server has heard, and how it answers a hello.
#[derive(Debug)]
struct Script {
    answer: Answer,
    conn: Option<ConnId>,
    hellos: VecDeque<Hello>,
    messages: VecDeque<(ClientMessage, Bytes)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Welcome(Welcome),
    Refusal(Refusal),
    Silence,
}

pub(crate) const UUID: [u8; 16] = *b"one database....";

impl Scene {
    /// A client that is connected to a database at tid 10.
    pub(crate) fn new() -> Self {
        Self::with(&Client::options())
    }

    pub(crate) fn with(options: &Options) -> Self {
        let mut scene = Self::unconnected(options, &[ADDRESS]);
        scene.until(|scene| scene.client.is_connected());
        scene.hello();
        scene
    }

    /// A client of another database.
    pub(crate) fn of(uuid: [u8; 16]) -> Self {
        let mut scene = Self::unconnected(&Client::options(), &[ADDRESS]);
        scene.answer_with(Answer::Welcome(welcome(uuid, 1, 10)));
        scene.until(|scene| scene.client.is_connected());
        scene.hello();
        scene
    }

    pub(crate) fn unconnected(options: &Options, addresses: &[&str]) -> Self {
        let world = World::new(7);
        let mut server = Reactor::new(world.driver("server"), Script::new());
        server.with(|_, cx| cx.listen(&ADDRESS.parse().unwrap(), Played)).unwrap();
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let driver = world.driver("client");
        let (client, reactor) = Client::on_driver(driver, options, addresses).unwrap();
        Self { client, world, reactor, server }
    }

    pub(crate) fn answer_with(&mut self, answer: Answer) {
        self.server.shared_mut().answer = answer;
    }

    /// From now on, whoever connects is welcomed at this tid.
    pub(crate) fn welcome_at(&mut self, last_tid: u64) {
        self.answer_with(Answer::Welcome(welcome(UUID, 1, last_tid)));
    }

    /// The next hello that the server hears.
    pub(crate) fn hello(&mut self) -> Hello {
        self.until(|scene| !scene.server.shared().hellos.is_empty());
        self.server.shared_mut().hellos.pop_front().unwrap()
    }

    /// The next message that the server hears.
    pub(crate) fn message(&mut self) -> (ClientMessage, Bytes) {
        self.until(|scene| !scene.server.shared().messages.is_empty());
        self.server.shared_mut().messages.pop_front().unwrap()
    }

    /// What the server has heard already, if anything.
    pub(crate) fn heard(&mut self) -> Option<(ClientMessage, Bytes)> {
        self.server.shared_mut().messages.pop_front()
    }

    /// The next message, which must be a call.
    pub(crate) fn call(&mut self) -> (CallId, Call) {
        match self.message() {
            (ClientMessage::Call(id, call), _) => (id, call),
            other => panic!("expected a call, heard {other:?}"),
        }
    }

    /// The next message, which must be this call.
    pub(crate) fn expect(&mut self, expected: &Call) -> CallId {
        let (id, call) = self.call();
        assert_eq!(call, *expected);
        id
    }

    /// Everything that has been sent arrives; the server must have heard nothing more.
    pub(crate) fn expect_nothing(&mut self) {
        self.flow();
        assert_eq!(self.server.shared().messages, []);
    }

    pub(crate) fn say(&mut self, message: &ServerMessage, data: &[u8]) {
        let mut out = Vec::new();
        zeo_proto::encode(message, data, &mut out).unwrap();
        self.write(&out);
    }

    /// Says it byte by byte, with pauses.
    pub(crate) fn say_slowly(&mut self, message: &ServerMessage, data: &[u8], pause: Duration) {
        let mut out = Vec::new();
        zeo_proto::encode(message, data, &mut out).unwrap();
        for byte in out {
            self.pass(pause);
            self.write(&[byte]);
        }
    }

    pub(crate) fn reply(&mut self, call: CallId, reply: Reply) {
        self.say(&ServerMessage::Reply(call, reply), &[]);
    }

    /// Answers a load with data that names its serial.
    pub(crate) fn reply_loaded(&mut self, call: CallId, serial: u64, end: Option<u64>) {
        let data = data(serial);
        let loaded = loaded(serial, end);
        self.say(&ServerMessage::Reply(call, Reply::Loaded(loaded)), &data);
    }

    pub(crate) fn fail(&mut self, call: CallId, failure: Failure) {
        self.say(&ServerMessage::Failure(call, failure), &[]);
    }

    pub(crate) fn invalidate(&mut self, at: u64, oids: &[u64]) {
        let oids = oids.iter().copied().map(Oid::new).collect();
        self.say(&ServerMessage::Invalidate(tid(at), oids, false), &[]);
    }

    /// The server ends its connection.
    pub(crate) fn cut(&mut self) {
        self.server.with(|script, cx| {
            let conn = script.conn.take().unwrap();
            cx.transport(conn).unwrap().abort();
        });
        self.flow();
        assert!(!self.client.is_connected());
    }

    /// The server's machine is gone: whatever is sent there, or was on its way, is held back.
    pub(crate) fn silence(&self) {
        self.world.cut("client", "server");
    }

    pub(crate) fn end_silence(&self) {
        self.world.heal("client", "server");
    }

    /// The server's program was killed and restarted: it knows nothing of its connections.
    pub(crate) fn half_open(&self) {
        assert_eq!(self.world.half_open("server", "client"), 1);
    }

    /// How long it takes until something is so.
    pub(crate) fn time_until(&mut self, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.world.now();
        self.until(done);
        self.world.now() - start
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.world.now() + time;
        // The clock stops where somebody has set a timer.
        self.server.with(|_, cx| cx.call_later(time, |_, _| {}));
        self.until(|scene| scene.world.now() >= end);
    }

    /// The server reads no more of its connection.
    pub(crate) fn stop_reading(&mut self) {
        self.server.with(|script, cx| {
            cx.transport(script.conn.unwrap()).unwrap().pause_reading();
        });
    }

    pub(crate) fn go_on_reading(&mut self) {
        self.server.with(|script, cx| {
            cx.transport(script.conn.unwrap()).unwrap().resume_reading();
        });
    }

    /// Reads, and stops before everything has come.
    pub(crate) fn read_a_little(&mut self) {
        self.go_on_reading();
        while self.server.is_due() {
            self.server.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    /// Everything that is on its way arrives, and what follows from it.
    pub(crate) fn flow(&mut self) {
        while self.reactor.is_due() || self.server.is_due() || self.world.next_event().is_some() {
            self.step();
        }
    }

    /// How many timers the client has.
    pub(crate) fn timers(&mut self) -> usize {
        self.reactor.held().timers
    }

    /// The client's program ends where it is.
    pub(crate) fn crash(self) -> Client {
        drop(self.reactor);
        self.client
    }

    pub(crate) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it does not happen");
    }

    /// The result, once it is there.
    pub(crate) fn take<T>(&mut self, deferred: &mut Deferred<T>) -> T {
        for _ in 0..STEPS_MAX {
            if let Some(result) = deferred.try_take() {
                return result.unwrap();
            }
            self.step();
        }
        panic!("there is no result");
    }

    /// What a future comes to, once it is ready.
    pub(crate) fn finish<T>(&mut self, mut future: Pin<&mut impl Future<Output = T>>) -> T {
        for _ in 0..STEPS_MAX {
            if let Some(value) = look(future.as_mut()) {
                return value;
            }
            self.step();
        }
        panic!("it does not end");
    }

    /// Lets a future go on for as long as nothing new is said to it.
    pub(crate) fn go_on<T>(&mut self, mut future: Pin<&mut impl Future<Output = T>>) {
        self.flow();
        while look(future.as_mut()).is_none() && self.client_is_due() {
            self.flow();
        }
    }

    fn client_is_due(&mut self) -> bool {
        self.reactor.is_due()
    }

    /// Loads an object into the client's cache.
    pub(crate) fn fill(&mut self, oid: u64, serial: u64, end: Option<u64>) {
        let mut loading = self.client.nb().load(Oid::new(oid));
        let (call, _) = self.call();
        self.reply_loaded(call, serial, end);
        self.take(&mut loading).unwrap();
    }

    /// The serial of what is in the cache for a reader before a tid; `None` when it would have to
    /// ask. Only while the client is connected.
    pub(crate) fn cached(&mut self, oid: u64, before: u64) -> Option<u64> {
        let mut loading = self.client.nb().load_before(Oid::new(oid), tid(before));
        let result = loading.try_take();
        if result.is_none() {
            drop(loading);
            let (call, _) = self.call();
            self.reply(call, Reply::Loaded(Loaded::Absent));
            self.flow();
        }
        result.map(|result| result.unwrap().unwrap().tid.number())
    }

    /// A transaction that has read and changed object 1.
    pub(crate) fn change(&self) -> Transaction {
        let mut txn = self.client.begin().unwrap();
        txn.saw(Oid::new(1), tid(5));
        txn.store(Oid::new(1), "changed").unwrap();
        txn
    }

    pub(crate) fn last_tid(&self) -> u64 {
        self.client.last_tid().number()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.server.with(|script, cx| {
            cx.transport(script.conn.unwrap()).unwrap().write(bytes);
        });
    }

    pub(crate) fn step(&mut self) {
        let reactors: &mut [&mut dyn Turns] = &mut [&mut self.reactor, &mut self.server];
        assert!(self.world.step(reactors).unwrap(), "nothing happens any more");
    }
}

/// Looks at a future, and what it comes to if it is ready.
pub(crate) fn look<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(crate) fn welcome(uuid: [u8; 16], epoch: u64, last_tid: u64) -> Welcome {
    Welcome {
        identity: Identity { uuid, epoch },
        last_tid: tid(last_tid),
        features: 0,
        max_frame: 64 << 20,
        max_transaction: 64 << 20,
        max_calls: 256,
    }
}

pub(crate) fn tid(number: u64) -> Tid {
    Tid::new(number)
}

pub(crate) fn loaded(serial: u64, end: Option<u64>) -> Loaded {
    let length = u32::try_from(data(serial).len()).unwrap();
    Loaded::Revision(Validity { serial: tid(serial), end: end.map(tid) }, length)
}

pub(crate) fn data(serial: u64) -> Bytes {
    Bytes::from(format!("as of {serial}"))
}

impl Script {
    fn new() -> Self {
        Self {
            answer: Answer::Welcome(welcome(UUID, 1, 10)),
            conn: None,
            hellos: VecDeque::new(),
            messages: VecDeque::new(),
        }
    }

    fn answer(&self, transport: &mut Transport) {
        let mut out = Vec::new();
        match &self.answer {
            Answer::Welcome(welcome) => zeo_proto::welcome(welcome, &mut out),
            Answer::Refusal(refusal) => zeo_proto::refuse(refusal, &mut out),
            Answer::Silence => {}
        }
        transport.write(&out);
    }
}

struct Played;

struct Connection(ServerConnection);

impl Protocol for Connection {
    type Event = ServerEvent;

    fn connection_made(&mut self, transport: &mut Transport) {
        let mut out = Vec::new();
        self.0.greet(&mut out);
        transport.write(&out);
    }

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.0.receive(data);
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        self.0.poll()
    }
}

impl Factory<Script> for Played {
    type Protocol = Connection;

    fn build_protocol(&mut self, _: &mut Script, _: &Address) -> Option<Connection> {
        Some(Connection(ServerConnection::new(Greeting::default())))
    }

    fn event(
        &mut self,
        script: &mut Script,
        cx: &mut Context<Script>,
        conn: ConnId,
        event: ServerEvent,
    ) {
        match event {
            ServerEvent::Hello(hello) => {
                script.conn = Some(conn);
                script.hellos.push_back(hello);
                script.messages.clear();
                script.answer(cx.transport(conn).unwrap());
            }
            ServerEvent::Message(message, data) => script.messages.push_back((message, data)),
            ServerEvent::Ruok | ServerEvent::Zeo5Client | ServerEvent::Broken(_) => {
                panic!("{event:?}")
            }
        }
    }
}

pub(crate) const ADDRESS: &str = "127.0.0.1:8100";
const STEPS_MAX: usize = 100_000;
