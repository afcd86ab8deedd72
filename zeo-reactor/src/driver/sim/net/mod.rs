//! The state of a simulated world: hosts, links, sockets, listeners, and the clock that moves them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    LinkConfig,
    event::{Event, Events, Happening, Trace},
    held::WorldHeld,
    sight::{Observer, Sight},
    socket::{Socket, SocketId},
    stage::{PoolId, Pools},
};
use crate::{
    Address, Time,
    driver::{Delivery, ListenerToken, Ready, Work},
    random::Random,
};

mod wire;

pub(super) type HostId = usize;

/// One driver of one host; after a crash the host gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DriverId(u64);

pub(super) struct Net {
    now: Time,
    random: Random,
    events: Events,
    trace: Trace,
    hosts: Vec<Host>,
    links: LinkConfig,
    cuts: BTreeSet<(HostId, HostId)>,
    held: Vec<(HostId, HostId, Event)>,
    /// What each driver's next wait reports.
    ready: BTreeMap<DriverId, Vec<Ready>>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    pub(super) listeners: BTreeMap<Address, Listener>,
    pub(super) pools: Pools,
    pub(super) stage_delay: Duration,
    numbers: u64,
    pub(super) observer: Option<Observer>,
}

struct Host {
    name: String,
    /// The time of day at the clock's start, in microseconds.
    unix_start: u64,
}

pub(super) struct Listener {
    pub(super) owner: DriverId,
    pub(super) host: HostId,
    pub(super) token: ListenerToken,
    pub(super) waiting: VecDeque<SocketId>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Time::default(),
            random: Random::new(seed),
            events: Events::default(),
            trace: Trace::default(),
            hosts: Vec::new(),
            links: LinkConfig::default(),
            cuts: BTreeSet::new(),
            held: Vec::new(),
            ready: BTreeMap::new(),
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pools: Pools::default(),
            stage_delay: STAGE_DELAY_DEFAULT,
            numbers: 0,
            observer: None,
        }
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.next()
    }

    pub(super) fn next_but_probes(&self) -> Option<Time> {
        self.events.next_but_probes()
    }

    pub(super) fn random(&mut self) -> u64 {
        self.random.next()
    }

    pub(super) const fn window(&self) -> usize {
        self.links.window
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    pub(super) fn note(&mut self, what: &[u8]) {
        self.trace.add_bytes(what);
    }

    pub(super) fn held(&self) -> WorldHeld {
        WorldHeld {
            sockets: self.sockets.len(),
            listeners: self.listeners.len(),
            stages: self.pools.len(),
            held_back: self.held.len(),
        }
    }

    /// Shows something of two hosts to whoever looks.
    fn see<'a>(
        &'a mut self,
        (from, to): (HostId, HostId),
        what: impl FnOnce(&'a str, &'a str) -> Sight<'a>,
    ) {
        let Self { observer: Some(observer), hosts, now, .. } = self else { return };
        if let (Some(from), Some(to)) = (hosts.get(from), hosts.get(to)) {
            observer(*now, what(&from.name, &to.name));
        }
    }

    fn see_stage(
        &mut self,
        pool: PoolId,
        what: impl for<'a> FnOnce(&'a str, &'a str) -> Sight<'a>,
    ) {
        let Some((host, name)) = self.pools.name(pool) else { return };
        self.see((host, host), |host, _| what(host, name));
    }

    pub(super) fn set_links(&mut self, config: LinkConfig) {
        self.links = config;
    }

    /// A number that nothing else in this world has.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn add_driver(&mut self, host: &str) -> (HostId, DriverId) {
        let host = self.host(host);
        let driver = DriverId(self.number());
        self.ready.insert(driver, Vec::new());
        (host, driver)
    }

    pub(super) fn remove_driver(&mut self, driver: DriverId) {
        self.ready.remove(&driver);
        let at =
            |(at, listener): (&Address, &Listener)| (listener.owner == driver).then(|| at.clone());
        let listeners: Vec<Address> = self.listeners.iter().filter_map(at).collect();
        for address in listeners {
            self.close_listener(&address);
        }
        let owned =
            |(id, socket): (&SocketId, &Socket)| (socket.owner == Some(driver)).then_some(*id);
        let sockets: Vec<SocketId> = self.sockets.iter().filter_map(owned).collect();
        for socket in sockets {
            self.close(socket);
        }
    }

    pub(super) fn close_listener(&mut self, address: &Address) {
        let listener = self.listeners.remove(address);
        for socket in listener.into_iter().flat_map(|listener| listener.waiting) {
            self.close(socket);
        }
    }

    pub(super) fn take_ready(&mut self, driver: DriverId, into: &mut Vec<Ready>) {
        if let Some(ready) = self.ready.get_mut(&driver) {
            into.append(ready);
        }
    }

    pub(super) fn is_ready(&self, driver: DriverId) -> bool {
        self.ready.get(&driver).is_some_and(|ready| !ready.is_empty())
    }

    pub(super) fn unix_micros(&self, host: HostId) -> u64 {
        let start = self.hosts.get(host).map_or(0, |host| host.unix_start);
        start.wrapping_add(micros(self.now))
    }

    pub(super) fn set_unix_micros(&mut self, host: &str, unix: u64) {
        let (host, now) = (self.host(host), micros(self.now));
        if let Some(host) = self.hosts.get_mut(host) {
            host.unix_start = unix.wrapping_sub(now);
        }
    }

    /// One of those that have something to do; none when an event comes first, which happens only
    /// now and then, so that a turn may find much at once.
    pub(super) fn choose(&mut self, due: &[usize]) -> Option<usize> {
        // A probe is far away: the clock would jump there while others have something to do.
        let is_near = self.next_but_probes().is_some();
        if due.is_empty() || (is_near && self.random.below(EVENT_FIRST) == 0) {
            return None;
        }
        let chosen = due.get(self.below(due.len())).copied()?;
        self.trace.add(chosen as u64);
        Some(chosen)
    }

    /// Moves the clock to the next event or to `deadline`, and takes the event if it is first.
    pub(super) fn advance(&mut self, deadline: Option<Time>) -> Option<Happening> {
        let event = self.next_event();
        let at = event.into_iter().chain(deadline).min()?;
        self.now = self.now.max(at);
        if event != Some(at) {
            return Some(Happening::Done);
        }
        self.trace.add(micros(self.now));
        match self.events.pop()? {
            Event::Work(pool) => {
                let work = self.pools.next_job(pool, self.now);
                self.see_stage(pool, |host, stage| Sight::Work { host, stage });
                return Some(work.map_or(Happening::Done, |work| Happening::Work(pool, work)));
            }
            Event::Delivery(pool, delivery) => {
                self.see_stage(pool, |host, stage| Sight::Result { host, stage });
                return Some(self.delivered(pool, delivery));
            }
            Event::Arrival(socket) => self.arrive(socket),
            Event::Refusal(from, socket) => self.refuse(from, socket),
            Event::Probe(socket) => self.probe(socket),
        }
        Some(Happening::Done)
    }

    pub(super) fn submit(&mut self, pool: PoolId, job: Work) {
        if self.pools.submit(pool, self.now, job) {
            self.add_stage_event(Event::Work(pool));
        }
    }

    /// A job was worked; gives the result back to be dropped when the stage ended meanwhile.
    pub(super) fn worked(&mut self, pool: PoolId, delivery: Delivery) -> Option<Delivery> {
        if !self.pools.is_open(pool) {
            return Some(delivery);
        }
        let delay = self.add_stage_event(Event::Delivery(pool, delivery));
        self.pools.worked(pool, delay);
        None
    }

    fn delivered(&mut self, pool: PoolId, delivery: Delivery) -> Happening {
        let Some(goes_on) = self.pools.delivered(pool) else {
            return Happening::Discarded(delivery);
        };
        if goes_on {
            self.add_stage_event(Event::Work(pool));
        }
        Happening::Delivery(delivery)
    }

    /// Makes something happen in a stage, after a time that the seed chooses and this returns.
    fn add_stage_event(&mut self, event: Event) -> Duration {
        let delay = self.duration(self.stage_delay);
        self.events.add(self.now + delay, event);
        delay
    }

    fn host(&mut self, name: &str) -> HostId {
        let known = self.hosts.iter().position(|host| host.name == name);
        known.unwrap_or_else(|| {
            self.hosts.push(Host { name: name.to_owned(), unix_start: UNIX_START });
            self.hosts.len() - 1
        })
    }

    /// Up to `longest`, and now and then much more.
    fn duration(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let slow = if self.random.below(SLOW_ONE_IN) == 0 { SLOW_TIMES } else { 1 };
        Duration::from_nanos(self.random.below(nanos.saturating_add(1))) * slow
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap_or(0)
    }
}

fn micros(time: Time) -> u64 {
    u64::try_from(time.since_start().as_micros()).unwrap_or(u64::MAX)
}

const EVENT_FIRST: u64 = 8;
const SLOW_ONE_IN: u64 = 64;
const SLOW_TIMES: u32 = 20;
const STAGE_DELAY_DEFAULT: Duration = Duration::from_millis(2);
/// The first of January 2030.
const UNIX_START: u64 = 1_893_456_000_000_000;
