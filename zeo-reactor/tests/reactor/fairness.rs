//! One greedy or broken thing must not take the reactor from the others.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read},
    net::TcpStream,
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

use crate::kit::{Log, Mio, Place, Recorder, Seen, join, on_transport};

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
        assert!(now - before <= 64 * 1024, "{} bytes in a turn", now - before);
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
        assert!(now - before <= 32, "{} events in a turn", now - before);
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

/// Telling five hundred connections of one thing took milliseconds, in which nobody was answered.
#[test]
fn news_to_many_takes_several_turns_and_an_answer_does_not_wait_for_them() {
    let (mut reactor, mut peers) = served(200);
    let conns = made(&reactor);
    on_all(&mut reactor, &conns, &[1; 100]);
    reactor.turn(None).unwrap();
    let told = peers.iter_mut().filter_map(|peer| received(peer).checked_sub(1)).count();
    assert!((1..=40).contains(&told), "{told} writes in one turn");
    let asking = conns.len() - 1;
    assert_eq!(received(&mut peers[asking]), 0);
    on_all(&mut reactor, &conns[asking..], &[2; 10]);
    reactor.turn(None).unwrap();
    assert_eq!(received(&mut peers[asking]), 110, "the news first, then the answer");
    // The driver has nothing to tell, so this hangs if the others are forgotten.
    let mut left = conns.len() - 1 - told;
    while left > 0 {
        reactor.turn(None).unwrap();
        left -= peers[..asking].iter_mut().filter_map(|peer| received(peer).checked_sub(1)).count();
    }
}

/// A MiB for one took a millisecond of everybody's time.
#[test]
fn large_output_leaves_in_several_turns_and_what_is_short_goes_first() {
    let (mut reactor, mut peers) = served(2);
    let conns = made(&reactor);
    on_all(&mut reactor, &conns[..1], &vec![1; 2_000_000]);
    let mut total = 0;
    while total < 2_000_000 {
        on_all(&mut reactor, &conns[1..], &[2; 10]);
        // The driver may have nothing to tell, so this hangs if what was left is forgotten.
        reactor.turn(None).unwrap();
        assert_eq!(received(&mut peers[1]), 10);
        let now = received(&mut peers[0]);
        assert!(now <= 256 << 10, "{now} bytes in a turn");
        total += now;
    }
}

/// A reactor and so many peers that are connected to it.
fn served(count: usize) -> (Reactor<Log>, Vec<TcpStream>) {
    let mut reactor = Mio.reactor();
    let (_, address) =
        reactor.with(|_, cx| cx.listen(&Mio.address(), Recorder::new("server")).unwrap());
    let mut peers = Vec::new();
    for number in 1..=count {
        peers.push(TcpStream::connect(address.to_string()).unwrap());
        peers.last().unwrap().set_nonblocking(true).unwrap();
        Mio.until(&mut reactor, |log| log.seen.len() == number);
    }
    (reactor, peers)
}

fn made(reactor: &Reactor<Log>) -> Vec<ConnId> {
    let made = reactor.shared().seen.iter().filter_map(|seen| match seen {
        Seen::Made(_, conn) => Some(*conn),
        _ => None,
    });
    made.collect()
}

fn on_all(reactor: &mut Reactor<Log>, conns: &[ConnId], data: &[u8]) {
    reactor.with(|_, cx| conns.iter().for_each(|conn| cx.transport(*conn).unwrap().write(data)));
}

/// How many bytes have arrived.
fn received(peer: &mut TcpStream) -> usize {
    let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
    while let Ok(read @ 1..) = peer.read(&mut buffer) {
        total += read;
    }
    total
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
