//! One greedy or broken thing must not take the reactor from the others.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use zeo_reactor::{
    Address, ConnId, Context, Driver, Factory, MioDriver, Protocol, Reactor, StageConfig, Time,
    Transport,
    driver::{ListenerToken, Pool, Ready, StreamToken, Wake},
    sim::{SimDriver, World},
};

use crate::kit::{Log, Mio, Place, Recorder, join, on_transport};

#[test]
fn one_connection_is_read_only_so_far_in_a_turn() {
    let mut reactor = Mio.reactor();
    join(&Mio, &mut reactor, Recorder::new("server"), Recorder::new("client"));
    on_transport(&mut reactor, "client", |to| to.write(&vec![1; 16_000_000]));
    let mut before = 0;
    while before < 16_000_000 {
        // Nothing else is ready, so this hangs if what was left is forgotten.
        reactor.turn(None).unwrap();
        let now = reactor.shared().data_len("server");
        assert!(now - before <= 256 * 1024 + 128 * 1024, "{} bytes in a turn", now - before);
        before = now;
    }
}

/// A peer that sent 80,000 small questions at once got all of them answered before anybody else
/// was looked at.
#[test]
fn the_events_of_one_connection_take_several_turns() {
    let mut reactor = Mio.reactor();
    reactor.with(|_, cx| {
        let (_, address) = cx.listen(&Mio.address(), Grinder).unwrap();
        cx.connect(&address, Recorder::new("client"));
    });
    Mio.until(&mut reactor, |log| log.made("client").is_some());
    on_transport(&mut reactor, "client", |to| to.write(&[1; 10_000]));
    let mut before = 0;
    while before < 10_000 {
        // Nothing else is ready, so this hangs if what was left is forgotten.
        reactor.turn(None).unwrap();
        let now = reactor.shared().notes.len();
        assert!(now - before <= 64, "{} events in a turn", now - before);
        before = now;
    }
}

#[test]
fn an_event_that_took_long_ends_the_turn_of_its_connection() {
    let mut reactor = Mio.reactor();
    reactor.with(|_, cx| {
        let (_, address) = cx.listen(&Mio.address(), Grinder).unwrap();
        cx.connect(&address, Recorder::new("client"));
    });
    Mio.until(&mut reactor, |log| log.made("client").is_some());
    on_transport(&mut reactor, "client", |to| to.write(&[HARD; 100]));
    for expected in 1..=100 {
        while reactor.shared().notes.len() < expected {
            reactor.turn(None).unwrap();
        }
        assert_eq!(reactor.shared().notes.len(), expected);
    }
}

/// A listener out of file descriptors stays ready for ever: it must neither be dropped nor be
/// asked again and again.
#[test]
fn a_listener_that_cannot_accept_backs_off_and_recovers() {
    let world = World::new(1);
    let accepts = Arc::new(AtomicUsize::new(0));
    let driver = OutOfFiles { inner: world.driver("server"), accepts: Arc::clone(&accepts) };
    let mut server = Reactor::new(driver, Log::default());
    let mut client = Reactor::new(world.driver("client"), Log::default());
    let at: Address = "10.0.0.1:1".parse().unwrap();
    server.with(|_, cx| cx.listen(&at, Recorder::echo()).unwrap());
    client.with(|_, cx| cx.connect(&at, Recorder::new("client")));
    assert!(world.run_until_idle(&mut [&mut server, &mut client], Duration::from_secs(9)).unwrap());
    assert!(server.shared().made("server").is_some());
    assert_eq!(accepts.load(SeqCst), REFUSALS + 2, "once for the connection, once for the end");
    let waited = world.now().since_start().as_millis();
    assert!((300..1000).contains(&waited), "{waited} ms");
}

#[test]
fn a_busy_reactor_still_sleeps_and_wakes() {
    let mut reactor = Reactor::new(MioDriver::new().unwrap(), ());
    reactor.with(|(), cx| cx.set_busy(true));
    let handle = reactor.handle();
    let report = reactor.turn(Some(Duration::from_millis(1))).unwrap();
    assert!(!report.worked);
    let asker = std::thread::Builder::new().spawn(move || {
        for _ in 0..1000 {
            handle.ask(|(), _| ()).wait().unwrap();
        }
        handle.stop();
    });
    reactor.run().unwrap();
    asker.unwrap().join().unwrap();
}

const REFUSALS: usize = 3;

/// Makes an event of every byte.
struct Grinder;

#[derive(Default)]
struct Grains(VecDeque<u8>);

impl Protocol for Grains {
    type Event = u8;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.0.extend(data);
    }

    fn poll_event(&mut self) -> Option<u8> {
        self.0.pop_front()
    }
}

impl Factory<Log> for Grinder {
    type Protocol = Grains;

    fn build_protocol(&mut self, _: &mut Log, _: &Address) -> Option<Grains> {
        Some(Grains::default())
    }

    fn event(&mut self, log: &mut Log, cx: &mut Context<Log>, conn: ConnId, grain: u8) {
        log.note("grain");
        if grain == HARD
            && let Some(transport) = cx.transport(conn)
        {
            transport.yield_turn();
        }
    }
}

const HARD: u8 = 7;

/// A driver whose first accepts fail.
struct OutOfFiles {
    inner: SimDriver,
    accepts: Arc<AtomicUsize>,
}

impl Driver for OutOfFiles {
    fn accept(&mut self, from: ListenerToken, stream: StreamToken) -> io::Result<Address> {
        if self.accepts.fetch_add(1, SeqCst) < REFUSALS {
            return Err(io::Error::other("too many open files"));
        }
        self.inner.accept(from, stream)
    }

    fn now(&self) -> Time {
        self.inner.now()
    }

    fn unix_micros(&self) -> u64 {
        self.inner.unix_micros()
    }

    fn seed(&mut self) -> u64 {
        self.inner.seed()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }

    fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.inner.wait(limit, ready)
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn listen(&mut self, token: ListenerToken, at: &Address) -> io::Result<Address> {
        self.inner.listen(token, at)
    }

    fn close_listener(&mut self, token: ListenerToken) {
        self.inner.close_listener(token);
    }

    fn connect(&mut self, token: StreamToken, to: &Address) -> io::Result<()> {
        self.inner.connect(token, to)
    }

    fn finish_connect(&mut self, token: StreamToken) -> io::Result<()> {
        self.inner.finish_connect(token)
    }

    fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(token, into)
    }

    fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.write(token, from)
    }

    fn shutdown(&mut self, token: StreamToken) {
        self.inner.shutdown(token);
    }

    fn close_stream(&mut self, token: StreamToken) {
        self.inner.close_stream(token);
    }

    fn start_stage(&mut self, config: &StageConfig) -> io::Result<Box<dyn Pool>> {
        self.inner.start_stage(config)
    }
}
