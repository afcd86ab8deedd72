//! The whole system of a simulation: hosts, what befalls them, and the end, where all is compared.

use std::sync::Arc;
use std::time::Duration;

use zeo_client::{Client, LoadError, Options, State};
use zeo_proto::{Oid, Tid};
use zeo_reactor::sim::{Turns, World};
use zeo_reactor::{Address, Reactor};
use zeo_server::storage::disk::{Random, SimDisk};
use zeo_server::storage::index::MapIndex;
use zeo_server::storage::{JournalStorage, Settings, Storage};
use zeo_server::{Limits, Rules, Server};

use crate::listener::Listener;
use crate::model::{Fate, History, Record};
use crate::task::{OBJECTS, Task};
use crate::watcher::Watcher;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Nothing but delay and fragmentation.
    None,
    /// Connections break, and links are silent for a while.
    Links,
    /// That, and power fails, servers and clients die.
    Deaths,
    /// That, and what the disk was told to make durable is not.
    LyingDisk,
}

/// What a run came to: two of one seed are equal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    trace_hash: u64,
    last_tid: Tid,
    transactions: usize,
}

/// One server, its disk, and its clients.
pub(crate) struct System {
    world: World,
    random: Random,
    rules: Rules,
    disk: SimDisk,
    index: MapIndex,
    server: Option<(Arc<dyn Storage>, Reactor<Server>)>,
    guests: Vec<Guest>,
    watcher: Reactor<Watcher>,
    record: Record,
    born: u32,
}

/// A client on a host of its own.
struct Guest {
    host: String,
    client: Client,
    reactor: Reactor<State>,
    tasks: Vec<Task>,
    listener: Listener,
}

impl System {
    /// Runs a whole life, checks everything, and says what it came to.
    pub(crate) fn run(seed: u64, faults: Faults, rules: Rules) -> Summary {
        let mut system = Self::new(seed, rules);
        if faults == Faults::LyingDisk {
            system.disk.ignore_syncs();
        }
        let mut steps = 0;
        while !system.is_done() {
            match steps {
                0..FAULTY_STEPS if faults != Faults::None => system.misfortune(faults),
                FAULTY_STEPS => system.heal(),
                _ => {}
            }
            system.step();
            steps += 1;
            assert!(steps < MOST_STEPS, "not everything is answered after {steps} steps");
        }
        system.settle()
    }

    fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random::new(seed);
        let world = World::new(seed);
        let mut system = Self {
            watcher: Watcher::start(&world, &address()),
            world,
            disk: SimDisk::new(random.next_u64()),
            random,
            rules,
            index: MapIndex::default(),
            server: None,
            guests: Vec::new(),
            record: Record::default(),
            born: 0,
        };
        system.start_server();
        for _ in 0..GUESTS {
            let guest = system.guest();
            system.guests.push(guest);
        }
        system
    }

    fn start_server(&mut self) {
        let index = self.index.clone();
        let storage = JournalStorage::open(self.disk.clone(), || Ok(index), SETTINGS, [7; 16]);
        let storage: Arc<dyn Storage> = Arc::new(storage.unwrap());
        let limits = self.limits();
        let (reactor, _) = Server::builder()
            .storage("main", Arc::clone(&storage))
            .listen(address())
            .limits(limits)
            .rules(self.rules)
            .build(self.world.driver(SERVER))
            .unwrap();
        self.server = Some((storage, reactor));
    }

    /// Lives differ. Without hot records, loads take their time in the storage; with a short memory,
    /// clients catch up from the journal, or have missed too much. Large transactions wait in files.
    fn limits(&mut self) -> Limits {
        let mut either = |few, many| if self.random.below(2) == 0 { few } else { many };
        Limits {
            hot_bytes: either(0, 1 << 20),
            remembered_oids: usize::try_from(either(8, 1 << 20)).unwrap(),
            catch_up_oids: usize::try_from(either(4, 1 << 20)).unwrap(),
            calls_in_flight: usize::try_from(either(2, 256)).unwrap(),
            spill_bytes: either(100, 16 << 20),
            ..Limits::default()
        }
    }

    /// The server's program is killed, or closes its storage before it ends.
    fn stop_server(&mut self) {
        let Some((storage, reactor)) = self.server.take() else { return };
        drop(reactor);
        if self.random.below(2) == 0 {
            storage.close().unwrap();
        }
    }

    /// The power of the server's machine fails; it comes back with what was synced.
    fn kill_server(&mut self) {
        self.server = None;
        self.disk.crash();
        self.index.crash(&mut self.random);
    }

    fn guest(&mut self) -> Guest {
        self.born += 1;
        let host = format!("client {}", self.born);
        let options = self.options();
        let (client, reactor) =
            Client::on_driver(self.world.driver(&host), &options, vec![address()]).unwrap();
        let task = |number| Task::new(format!("{host}, task {number}"), TRANSACTIONS);
        let (tasks, listener) = ((0..TASKS).map(task).collect(), Listener::new(&client));
        Guest { host, client, reactor, tasks, listener }
    }

    /// Some caches have room for next to nothing, some callers are in a hurry.
    fn options(&mut self) -> Options {
        let caches = [2 << 10, 16 << 10, 64 << 20];
        let patience = [PATIENCE, PATIENCE, Duration::from_secs(3), Duration::ZERO];
        let options = Client::options()
            .cache_bytes(caches[self.below(caches.len() as u64)])
            .wait_timeout(patience[self.below(patience.len() as u64)]);
        if self.below(3) == 0 { options.call_timeout(HURRY) } else { options }
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.random.below(bound)).unwrap()
    }

    fn is_done(&self) -> bool {
        self.guests.iter().all(|guest| guest.tasks.iter().all(Task::is_done))
    }

    /// One step of the world, and whatever it made possible.
    fn step(&mut self) {
        if self.server.is_none() && self.random.below(50) == 0 {
            self.start_server();
        }
        let mut reactors: Vec<&mut dyn Turns> = Vec::new();
        reactors.extend(self.server.iter_mut().map(|(_, reactor)| reactor as &mut dyn Turns));
        reactors.extend(self.guests.iter_mut().map(|guest| &mut guest.reactor as &mut dyn Turns));
        reactors.push(&mut self.watcher);
        assert!(self.world.step(&mut reactors).unwrap(), "every client has its heartbeat");
        for Guest { client, tasks, listener, .. } in &mut self.guests {
            if self.random.below(8) == 0 {
                listener.listen(client);
            }
            for task in tasks {
                task.go_on(client, &mut self.random, &mut self.record);
            }
        }
    }

    fn misfortune(&mut self, faults: Faults) {
        let deadly = matches!(faults, Faults::Deaths | Faults::LyingDisk);
        let which = self.below(GUESTS);
        match self.random.below(2_000) {
            0..6 => drop(self.world.reset(SERVER, &self.guests[which].host)),
            6..9 => drop(self.world.half_open(SERVER, &self.guests[which].host)),
            9..12 => self.world.cut(SERVER, &self.guests[which].host),
            12..13 => self.world.cut_one_way(SERVER, &self.guests[which].host),
            13..14 => self.world.cut_one_way(&self.guests[which].host, SERVER),
            14..22 => self.heal(),
            22..23 => self.close_guest(which),
            23..25 if deadly => self.kill_server(),
            25..26 if deadly => self.stop_server(),
            26..27 if deadly => self.replace_guest(which),
            _ => {}
        }
    }

    fn heal(&self) {
        for guest in &self.guests {
            self.world.heal(SERVER, &guest.host);
        }
    }

    fn replace_guest(&mut self, which: usize) {
        let newcomer = self.guest();
        let Guest { tasks, reactor, .. } = std::mem::replace(&mut self.guests[which], newcomer);
        drop(reactor);
        for task in tasks {
            task.died(&mut self.record);
        }
    }

    /// A client is closed whatever it is doing, and everybody who waits is told.
    fn close_guest(&mut self, which: usize) {
        let newcomer = self.guest();
        let guest = std::mem::replace(&mut self.guests[which], newcomer);
        let Guest { client, mut reactor, tasks, .. } = guest;
        client.close();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(reactor.is_stopped());
        for task in tasks {
            task.closed(&client, &mut self.random, &mut self.record);
        }
    }

    /// Lets everything come to rest by itself, and what is late happen, and compares it.
    fn settle(mut self) -> Summary {
        self.heal();
        if self.server.is_none() {
            self.start_server();
        }
        let end = self.world.now() + REST;
        while !self.is_at_rest() {
            assert!(self.world.now() < end, "not every client has seen the last commit");
            self.step();
        }
        let end = self.world.now() + AFTERMATH;
        while self.world.now() < end {
            self.step();
        }
        assert!(self.is_at_rest(), "there was rest, and it has ended");
        let (storage, _) = self.server.as_ref().unwrap();
        let history = History::of(&**storage, oids());
        for (attempt, _) in std::mem::take(&mut self.record.orphans) {
            self.record.ended(attempt, Fate::Unknown);
        }
        history.check(&self.record);
        self.check_caches(&history);
        for Guest { client, host, listener, .. } in &self.guests {
            listener.listen(client);
            listener.check(&history, oids(), host);
        }
        self.watcher.shared().check(&history);
        Summary {
            trace_hash: self.world.trace_hash(),
            last_tid: history.last_tid(),
            transactions: self.record.fates.len(),
        }
    }

    fn is_at_rest(&self) -> bool {
        let (storage, _) = self.server.as_ref().unwrap();
        let last_tid = storage.last_tid();
        let is_at_rest = |client: &Client| client.is_connected() && client.last_tid() == last_tid;
        self.guests.iter().all(|guest| is_at_rest(&guest.client))
    }

    /// At rest, what a client reads without asking anybody is what the server has.
    fn check_caches(&self, history: &History) {
        for Guest { client, host, .. } in &self.guests {
            for oid in oids() {
                let Some(answer) = client.nb().load(oid).try_take() else { continue };
                let cached = match answer.unwrap() {
                    Ok(revision) => Some((revision.tid, revision.data)),
                    Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => None,
                    Err(error) => panic!("{error}"),
                };
                let truth = history.at(oid, Tid::MAX).map(|(tid, data)| (tid, data.clone()));
                assert_eq!(cached, truth, "{oid} in the cache of {host}");
            }
        }
    }
}

fn oids() -> impl Iterator<Item = Oid> {
    (1..=OBJECTS).map(Oid::new)
}

fn address() -> Address {
    "10.0.0.1:8100".parse().unwrap()
}

const SERVER: &str = "server";
const GUESTS: u64 = 3;
const TASKS: u32 = 3;
/// Transactions of each task.
const TRANSACTIONS: u32 = 12;
/// Misfortune ends after so many steps, so that every run can come to its end.
const FAULTY_STEPS: u64 = 30_000;
const MOST_STEPS: u64 = 1_000_000;
/// A silent link makes virtual time fly; who has patience does not give up meanwhile.
const PATIENCE: Duration = Duration::from_hours(24);
/// Mostly enough for an answer, and not always.
const HURRY: Duration = Duration::from_millis(30);
/// When nothing new is begun, everything is at rest after this time at most: a connection that is
/// dead is noticed after two heartbeats of 30 s, and made again.
const REST: Duration = Duration::from_secs(90);
/// How long the rest must last; what is half dead is noticed meanwhile.
const AFTERMATH: Duration = Duration::from_secs(90);
/// So small that a run crosses segments and waits for the index.
const SETTINGS: Settings = Settings {
    segment_bytes: 8 << 10,
    group_bytes: 4 << 10,
    overlay_entries: 64,
    checkpoint_entries: 32,
    index_step: 16,
    fences: 64,
    quota_bytes: None,
};
