//! The state of a simulated world: hosts, links, sockets, listeners, and the clock that moves them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

use super::{
    LinkConfig,
    event::{Event, Events, Happening, Trace},
    socket::{Packet, Socket, SocketId},
    stage::{PoolId, Pools},
};
use crate::{
    Address, Time,
    driver::{Delivery, ListenerToken, Readiness, Ready, Work},
    random::Random,
};

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
        }
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.next()
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
        self.trace.add_bytes(what.iter().copied());
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
        if due.is_empty() || (self.next_event().is_some() && self.random.below(EVENT_FIRST) == 0) {
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
                let work = self.pools.next_job(pool);
                return Some(work.map_or(Happening::Done, |work| Happening::Work(pool, work)));
            }
            Event::Delivery(pool, delivery) => return Some(self.delivered(pool, delivery)),
            Event::Arrival(socket) => self.arrive(socket),
            Event::Refusal(from, socket) => self.refuse(from, socket),
        }
        Some(Happening::Done)
    }

    pub(super) fn submit(&mut self, pool: PoolId, job: Work) {
        if self.pools.submit(pool, job) {
            self.add_stage_event(Event::Work(pool));
        }
    }

    /// A job was worked; gives the result back to be dropped when the stage ended meanwhile.
    pub(super) fn worked(&mut self, pool: PoolId, delivery: Delivery) -> Option<Delivery> {
        if !self.pools.is_open(pool) {
            return Some(delivery);
        }
        self.add_stage_event(Event::Delivery(pool, delivery));
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

    fn add_stage_event(&mut self, event: Event) {
        let delay = self.duration(self.stage_delay);
        self.events.add(self.now + delay, event);
    }

    pub(super) fn cut(&mut self, from: &str, to: &str) {
        let link = (self.host(from), self.host(to));
        self.cuts.insert(link);
    }

    pub(super) fn heal(&mut self, from: &str, to: &str) {
        let link = (self.host(from), self.host(to));
        self.cuts.remove(&link);
        for (from, to, event) in std::mem::take(&mut self.held) {
            if (from, to) == link {
                let delay = self.travel();
                self.events.add(self.now + delay, event);
            } else {
                self.held.push((from, to, event));
            }
        }
    }

    /// Breaks the ends at `at` of connections with `peer`.
    pub(super) fn break_ends(&mut self, at: &str, peer: &str) -> usize {
        let (at, peer) = (self.host(at), self.host(peer));
        let ends: Vec<SocketId> = self
            .sockets
            .iter()
            .filter(|(_, end)| end.host == at && end.peer_host == peer && !end.is_dead())
            .map(|(id, _)| *id)
            .collect();
        for id in &ends {
            self.fail(*id, io::ErrorKind::ConnectionReset);
            if let Some(end) = self.sockets.get_mut(id) {
                end.outbox.clear();
            }
        }
        ends.len()
    }

    /// Puts a packet on its way behind the others of its connection.
    pub(super) fn send(&mut self, from: SocketId, packet: Packet) {
        let at = self.now + self.travel();
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.newest = socket.newest.max(at);
            socket.outbox.push_back(packet);
            self.events.add(socket.newest, Event::Arrival(from));
        }
    }

    /// Sends bytes in pieces.
    pub(super) fn send_data(&mut self, from: SocketId, mut data: Vec<u8>) {
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.unread_by_peer += data.len();
        }
        while self.links.fragments && data.len() > 1 {
            let largest = match self.random.below(4) {
                0 => 8,
                1 => 256,
                _ => break,
            };
            let rest = data.split_off(1 + self.below(largest.min(data.len() - 1)));
            self.send(from, Packet::Data(std::mem::replace(&mut data, rest)));
        }
        self.send(from, Packet::Data(data));
    }

    /// What the system does when a program closes a socket, or ends.
    pub(super) fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let resets = socket.has_unread();
        let silent = socket.peer.is_none() || socket.is_dead() || (socket.fin_sent && !resets);
        socket.owner = None;
        if !silent {
            self.send(id, if resets { Packet::Reset } else { Packet::Fin });
        }
        self.bury(id);
    }

    /// Makes a socket's driver report it.
    pub(super) fn wake(&mut self, id: SocketId, readiness: Readiness) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if let (Some(owner), Some(token)) = (socket.owner, socket.token)
            && let Some(ready) = self.ready.get_mut(&owner)
        {
            ready.push(Ready::Stream(token, readiness));
        }
    }

    fn arrive(&mut self, from: SocketId) {
        let Some(socket) = self.sockets.get(&from) else { return };
        let link = (socket.host, socket.peer_host);
        if self.cuts.contains(&link) {
            return self.held.push((link.0, link.1, Event::Arrival(from)));
        }
        let Some(socket) = self.sockets.get_mut(&from) else { return };
        let (packet, to) = (socket.outbox.pop_front(), socket.peer);
        self.trace.add(from.0);
        match (packet, to) {
            (Some(Packet::Connect(address)), _) => self.knock(from, &address),
            (Some(packet), Some(to)) => self.deliver(link.1, from, to, packet),
            (Some(_) | None, _) => {}
        }
        self.bury(from);
    }

    fn knock(&mut self, from: SocketId, address: &Address) {
        let Some(client) = self.sockets.get(&from) else { return };
        let (client_host, peer_host) = (client.host, client.peer_host);
        let Some(listener) = self.listeners.get(address) else {
            return self.refuse_later(peer_host, from);
        };
        let (host, owner, token) = (listener.host, listener.owner, listener.token);
        let to = SocketId(self.number());
        let mut server =
            Socket::new(host, owner, client_host, self.client_address(client_host, address));
        (server.connected, server.peer) = (true, Some(from));
        self.sockets.insert(to, server);
        if let Some(client) = self.sockets.get_mut(&from) {
            client.peer = Some(to);
        }
        if let Some(listener) = self.listeners.get_mut(address) {
            listener.waiting.push_back(to);
        }
        if let Some(ready) = self.ready.get_mut(&owner) {
            ready.push(Ready::Accept(token));
        }
        self.send(to, Packet::Accepted);
    }

    fn deliver(&mut self, host: HostId, from: SocketId, to: SocketId, packet: Packet) {
        if let Packet::Data(data) = &packet {
            self.trace.add_bytes(data.iter().copied());
        }
        let Some(socket) = self.sockets.get_mut(&to).filter(|socket| !socket.is_dead()) else {
            // A last word needs no answer.
            return match packet {
                Packet::Fin | Packet::Reset => {}
                Packet::Connect(_) | Packet::Accepted | Packet::Data(_) | Packet::Room(_) => {
                    self.refuse_later(host, from);
                }
            };
        };
        let readiness = match packet {
            Packet::Connect(_) => return,
            Packet::Accepted => {
                socket.connected = true;
                socket.readiness()
            }
            Packet::Data(data) => socket.receive(&data),
            Packet::Fin => socket.receive_fin(),
            Packet::Reset => socket.fail(io::ErrorKind::ConnectionReset),
            Packet::Room(read) => {
                socket.unread_by_peer = socket.unread_by_peer.saturating_sub(read);
                Readiness { writable: true, ..Readiness::default() }
            }
        };
        self.wake(to, readiness);
    }

    fn refuse_later(&mut self, host: HostId, to: SocketId) {
        let at = self.now + self.travel();
        self.events.add(at, Event::Refusal(host, to));
    }

    fn refuse(&mut self, from: HostId, to: SocketId) {
        let Some(socket) = self.sockets.get(&to) else { return };
        if self.cuts.contains(&(from, socket.host)) {
            return self.held.push((from, socket.host, Event::Refusal(from, to)));
        }
        let connected = socket.connected;
        self.fail(
            to,
            if connected {
                io::ErrorKind::ConnectionReset
            } else {
                io::ErrorKind::ConnectionRefused
            },
        );
    }

    fn fail(&mut self, id: SocketId, error: io::ErrorKind) {
        if let Some(socket) = self.sockets.get_mut(&id).filter(|socket| !socket.is_dead()) {
            let readiness = socket.fail(error);
            self.wake(id, readiness);
        }
    }

    /// Forgets a socket that nobody has and from which nothing is under way.
    fn bury(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(|end| end.owner.is_none() && end.outbox.is_empty()) {
            self.sockets.remove(&id);
        }
    }

    fn client_address(&mut self, host: HostId, listening: &Address) -> Address {
        match listening {
            Address::Unix(_) => Address::Unix("".into()),
            Address::Tcp(_) => {
                let (host, port) = (host.to_le_bytes(), self.number().to_le_bytes());
                let ip = [10, 0, host[1], host[0]];
                Address::Tcp((ip, u16::from_le_bytes([port[0], port[1]])).into())
            }
        }
    }

    fn host(&mut self, name: &str) -> HostId {
        let known = self.hosts.iter().position(|host| host.name == name);
        known.unwrap_or_else(|| {
            self.hosts.push(Host { name: name.to_owned(), unix_start: UNIX_START });
            self.hosts.len() - 1
        })
    }

    fn travel(&mut self) -> Duration {
        let spread = self.links.delay_max.saturating_sub(self.links.delay_min);
        self.links.delay_min + self.duration(spread)
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
