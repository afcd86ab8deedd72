//! Places to run a reactor in, and a kind of connection that records what happens to it.

use std::{io, time::Duration};

use zeo_reactor::{
    Address, ConnId, Context, Driver, Factory, LostReason, MioDriver, PollDriver, Protocol,
    Reactor, Time, Transport,
    sim::{SimDriver, Turns, World},
};

/// Where the same test runs: a simulated world, or this machine.
pub(crate) trait Place {
    type Driver: Driver + 'static;
    fn driver(&self) -> Self::Driver;
    fn address(&self) -> Address;
    /// More bytes than a connection takes at once.
    const LARGE: usize;
    fn step_all(&self, reactors: &mut [&mut dyn Turns]);

    fn step(&self, reactor: &mut dyn Turns) {
        self.step_all(&mut [reactor]);
    }

    fn reactor(&self) -> Reactor<Log> {
        Reactor::new(self.driver(), Log::default())
    }

    /// Steps until `done`, and panics when that takes too long.
    fn until(&self, reactor: &mut Reactor<Log>, done: impl Fn(&Log) -> bool) {
        for _ in 0..STEPS_MAX {
            if done(reactor.shared()) {
                return;
            }
            self.step(reactor);
        }
        panic!("still waiting after {STEPS_MAX} steps: {:?}", reactor.shared());
    }
}

const STEPS_MAX: usize = 2_000_000;

pub(crate) struct Sim(pub(crate) World);

impl Place for Sim {
    type Driver = SimDriver;
    const LARGE: usize = 200_000;

    fn driver(&self) -> SimDriver {
        self.0.driver("host")
    }

    fn address(&self) -> Address {
        "10.0.0.1:0".parse().unwrap()
    }

    fn step_all(&self, reactors: &mut [&mut dyn Turns]) {
        assert!(self.0.step(reactors).unwrap(), "nothing will ever happen");
    }
}

pub(crate) struct Mio;

impl Place for Mio {
    type Driver = MioDriver;
    const LARGE: usize = 16_000_000;

    fn driver(&self) -> MioDriver {
        MioDriver::new().unwrap()
    }

    fn address(&self) -> Address {
        "127.0.0.1:0".parse().unwrap()
    }

    fn step_all(&self, reactors: &mut [&mut dyn Turns]) {
        for reactor in reactors {
            reactor.turn().unwrap();
        }
    }
}

pub(crate) struct Poll;

impl Place for Poll {
    type Driver = PollDriver;
    const LARGE: usize = Mio::LARGE;

    fn driver(&self) -> PollDriver {
        PollDriver::new().unwrap()
    }

    fn address(&self) -> Address {
        Mio.address()
    }

    fn step_all(&self, reactors: &mut [&mut dyn Turns]) {
        Mio.step_all(reactors);
    }
}

/// Runs each test body in all places; in the simulation with several seeds.
macro_rules! in_all_places {
    ($($body:ident),* $(,)?) => {
        mod simulated {
            $(#[test]
            fn $body() {
                for seed in 0..20 {
                    super::$body(&crate::kit::Sim(zeo_reactor::sim::World::new(seed)));
                }
            })*
        }
        mod real {
            $(#[test]
            fn $body() {
                super::$body(&crate::kit::Mio);
            })*
        }
        mod polled {
            $(#[test]
            fn $body() {
                super::$body(&crate::kit::Poll);
            })*
        }
    };
}
pub(crate) use in_all_places;

/// What a reactor of these tests shares: what has happened.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) seen: Vec<Seen>,
    pub(crate) notes: Vec<&'static str>,
    /// When the newest note was made.
    pub(crate) at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Made(&'static str, ConnId),
    Data(&'static str, Vec<u8>),
    Drained(&'static str),
    Lost(&'static str, ConnId, LostReason),
    Failed(&'static str, io::ErrorKind),
}

impl Log {
    pub(crate) fn note(&mut self, note: &'static str) {
        self.notes.push(note);
    }

    pub(crate) fn made(&self, name: &str) -> Option<ConnId> {
        self.seen.iter().find_map(|seen| match seen {
            Seen::Made(of, conn) if *of == name => Some(*conn),
            _ => None,
        })
    }

    pub(crate) fn data(&self, name: &str) -> Vec<u8> {
        let data = self.seen.iter().filter_map(|seen| match seen {
            Seen::Data(of, data) if *of == name => Some(&**data),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    pub(crate) fn data_len(&self, name: &str) -> usize {
        let lens = self.seen.iter().map(|seen| match seen {
            Seen::Data(of, data) if *of == name => data.len(),
            _ => 0,
        });
        lens.sum()
    }

    pub(crate) fn lost(&self, name: &str) -> Vec<LostReason> {
        let lost = self.seen.iter().filter_map(|seen| match seen {
            Seen::Lost(of, _, reason) if *of == name => Some(reason.clone()),
            _ => None,
        });
        lost.collect()
    }

    pub(crate) fn failed(&self) -> Option<io::ErrorKind> {
        self.seen.iter().find_map(|seen| match seen {
            Seen::Failed(_, error) => Some(*error),
            _ => None,
        })
    }
}

/// A protocol whose events are the pieces it receives.
#[derive(Default)]
pub(crate) struct Pieces(Vec<Vec<u8>>);

impl Protocol for Pieces {
    type Event = Vec<u8>;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        assert!(!data.is_empty());
        self.0.push(data.to_vec());
    }

    fn poll_event(&mut self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

/// Records everything under its name, and does what it is told.
pub(crate) struct Recorder {
    pub(crate) name: &'static str,
    pub(crate) on_made: fn(&mut Transport),
    pub(crate) on_data: fn(&mut Transport, &[u8]),
    pub(crate) accepts: bool,
}

impl Recorder {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, on_made: |_| {}, on_data: |_, _| {}, accepts: true }
    }

    pub(crate) fn echo() -> Self {
        Self { on_data: |transport, data| transport.write(data), ..Self::new("server") }
    }
}

impl Factory<Log> for Recorder {
    type Protocol = Pieces;

    fn build_protocol(&mut self, _: &mut Log, _: &Address) -> Option<Pieces> {
        self.accepts.then(Pieces::default)
    }

    fn connection_made(&mut self, log: &mut Log, cx: &mut Context<Log>, conn: ConnId) {
        log.seen.push(Seen::Made(self.name, conn));
        (self.on_made)(cx.transport(conn).unwrap());
    }

    fn event(&mut self, log: &mut Log, cx: &mut Context<Log>, conn: ConnId, data: Vec<u8>) {
        (self.on_data)(cx.transport(conn).unwrap(), &data);
        log.seen.push(Seen::Data(self.name, data));
    }

    fn output_drained(&mut self, log: &mut Log, _: &mut Context<Log>, _: ConnId) {
        log.seen.push(Seen::Drained(self.name));
    }

    fn connection_lost(
        &mut self,
        log: &mut Log,
        cx: &mut Context<Log>,
        conn: ConnId,
        reason: LostReason,
    ) {
        assert!(cx.transport(conn).is_none(), "a lost connection's name names nothing");
        log.seen.push(Seen::Lost(self.name, conn, reason));
    }

    fn connection_failed(
        &mut self,
        log: &mut Log,
        _: &mut Context<Log>,
        _: &Address,
        error: io::Error,
    ) {
        log.seen.push(Seen::Failed(self.name, error.kind()));
    }
}

/// Listens with one recorder and connects with another.
pub(crate) fn join(
    place: &impl Place,
    reactor: &mut Reactor<Log>,
    server: Recorder,
    client: Recorder,
) -> Address {
    let address = reactor.with(|_, cx| {
        let (_, address) = cx.listen(&place.address(), server).unwrap();
        cx.connect(&address, client);
        address
    });
    place.until(reactor, |log| log.made("server").is_some() && log.made("client").is_some());
    address
}

/// Turns a few times, for what must not happen.
pub(crate) fn a_few_turns(reactor: &mut Reactor<Log>) {
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

pub(crate) fn on_transport(reactor: &mut Reactor<Log>, name: &str, f: impl FnOnce(&mut Transport)) {
    reactor.with(|log, cx| f(cx.transport(log.made(name).unwrap()).unwrap()));
}
