//! The whole system of a simulation: a server on its disk, its clients, and their time together.

use std::sync::Arc;
use std::time::Duration;

use zeo_proto::Oid;
use zeo_reactor::sim::{Turns, World};
use zeo_reactor::{Address, Reactor, Time};
use zeo_server::storage::disk::{Random, SimDisk};
use zeo_server::storage::index::MapIndex;
use zeo_server::storage::{JournalStorage, Settings, Storage};
use zeo_server::{Server, Stopper};

use crate::annex::Annex;
use crate::courier::{Courier, STORAGES};
use crate::guest::Guest;
use crate::lawless::{Aliases, Lawless};
use crate::plan::{Faults, Plan};
use crate::record::Record;
use crate::trace::Trace;
use crate::watcher::Watcher;
use crate::workload::Workload;

/// One server, its disk, and its clients.
pub(crate) struct System {
    pub(crate) plan: Plan,
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) disk: SimDisk,
    pub(crate) index: MapIndex,
    aliases: Aliases,
    pub(crate) server: Option<(Arc<dyn Storage>, Reactor<Server>)>,
    /// When a server that is gone comes back.
    server_returns: Time,
    pub(crate) guests: Vec<Guest>,
    pub(crate) annex: Annex,
    pub(crate) watcher: Option<Reactor<Watcher>>,
    pub(crate) record: Record,
    born: usize,
    trace: Trace,
    /// Since when nothing goes wrong any more.
    pub(crate) healed: Option<Time>,
    /// How many transactions have written something, and since when there are so many while
    /// somebody tries.
    progress: (u64, Time),
}

impl System {
    /// A system at its beginning, when all hosts have started.
    pub(crate) fn new(plan: Plan, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed);
        let world = World::new(plan.seed);
        world.set_links(plan.links);
        world.set_stage_delay(plan.stage_delay);
        let record = Record {
            disk_fails: plan.faults == Faults::Disk,
            anything_fails: plan.faults != Faults::None,
            ..Record::default()
        };
        let mut system = Self {
            world,
            disk: SimDisk::new(random.next_u64()),
            random,
            index: MapIndex::default(),
            aliases: Aliases::default(),
            server: None,
            server_returns: Time::default(),
            guests: Vec::new(),
            annex: Annex::new(plan.seed),
            watcher: None,
            record,
            born: 0,
            trace,
            progress: (0, Time::default()),
            healed: (plan.faults == Faults::None).then(Time::default),
            plan,
        };
        system.populate();
        system
    }

    fn populate(&mut self) {
        if !self.plan.rules.durable {
            self.disk.ignore_syncs();
        }
        self.start_server();
        if self.plan.rules.watched {
            let oids = self.oids().collect();
            self.watcher = Some(Watcher::start(&self.world, &address(), oids));
        }
        for _ in 0..GUESTS {
            let guest = self.guest();
            self.guests.push(guest);
        }
        if self.plan.has_annex {
            self.annex.populate(&self.world, &self.plan, &address());
        }
    }

    /// All objects that anybody uses.
    pub(crate) fn oids(&self) -> impl Iterator<Item = Oid> + use<> {
        let workloads = self.plan.workloads().to_vec();
        workloads.into_iter().flat_map(<dyn Workload>::oids).chain(Watcher::own_oids())
    }

    /// Writes a line into the trace.
    pub(crate) fn note(&self, what: &str) {
        self.trace.add(self.world.now(), &what);
    }

    /// Starts the server's program. Its operator has looked after a disk that does not let it.
    pub(crate) fn start_server(&mut self) {
        self.note("the server starts");
        let storage = self.open_storage().or_else(|error| {
            assert_eq!(self.plan.faults, Faults::Disk, "{error}");
            self.mend_disk();
            self.open_storage()
        });
        let rules = &self.plan.rules;
        let storage = Lawless::over(storage.unwrap(), rules.storage, &self.aliases);
        let mut builder = Server::builder().storage(STORAGES[0], Arc::clone(&storage));
        if self.plan.has_annex {
            builder = builder.storage(STORAGES[1], self.annex.open(SETTINGS));
        }
        let (reactor, _) = builder
            .listen(address())
            .rules(rules.server)
            .limits(self.plan.limits())
            .build(self.world.driver(SERVER))
            .unwrap();
        self.server = Some((storage, reactor));
    }

    fn open_storage(&self) -> Result<Arc<dyn Storage>, String> {
        let (disk, index) = (self.disk.clone(), self.index.clone());
        let storage = JournalStorage::open(disk, || Ok(index), SETTINGS, [7; 16]);
        storage.map(|storage| Arc::new(storage) as Arc<dyn Storage>).map_err(|e| e.to_string())
    }

    pub(crate) fn mend_disk(&self) {
        self.disk.forgive();
        self.disk.set_capacity(None);
        self.index.forgive();
    }

    /// A server that is gone comes back after a while.
    pub(crate) fn server_is_gone(&mut self) {
        self.server = None;
        self.annex.server_is_gone();
        let pause = Duration::from_millis(self.random.below(3_000));
        self.server_returns = self.world.now() + pause;
    }

    /// Asks the server to stop in order, unless it does or is gone.
    pub(crate) fn stop_server(&mut self) {
        if let Some((_, reactor)) = &self.server {
            Stopper::of(reactor).begin_stop();
        }
    }

    pub(crate) fn guest(&mut self) -> Guest {
        self.born += 1;
        Guest::new(&self.world, &mut self.plan, address(), self.born)
    }

    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.random.below(bound)).unwrap()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.guests.iter().all(Guest::is_done) && self.annex.is_done()
    }

    /// One step of the world, and whatever it made possible.
    pub(crate) fn step(&mut self) {
        self.look_after_server();
        let mut reactors: Vec<&mut dyn Turns> = Vec::new();
        reactors.extend(self.server.iter_mut().map(|(_, reactor)| reactor as &mut dyn Turns));
        reactors.extend(self.guests.iter_mut().map(|guest| &mut guest.reactor as &mut dyn Turns));
        reactors.extend(self.watcher.iter_mut().map(|watcher| watcher as &mut dyn Turns));
        reactors.extend(self.annex.reactors());
        self.world.step(&mut reactors).unwrap();
        let now = self.world.now();
        for guest in &mut self.guests {
            guest.go_on(now, &mut self.random, &mut self.record);
        }
        self.annex.go_on(now);
        self.check_patience();
        self.check_progress();
    }

    /// Starts it when it is time, and lets go of one that has stopped.
    fn look_after_server(&mut self) {
        match &self.server {
            None if self.world.now() >= self.server_returns => self.start_server(),
            Some((_, reactor)) if reactor.is_stopped() => {
                self.note("the server has stopped");
                self.server_is_gone();
            }
            None | Some(_) => {}
        }
    }

    /// When nothing goes wrong any more, everything is answered in bounded time.
    fn check_patience(&self) {
        let Some(healed) = self.healed else { return };
        for guest in &self.guests {
            let since = guest.busy_since().map(|since| since.max(healed));
            let late = since.filter(|since| self.world.now() > *since + ANSWERED);
            assert_eq!(late, None, "a call of {} is not answered", guest.host);
        }
        let since = self.annex.couriers.iter().filter_map(Courier::busy_since).min();
        let is_late = since.is_some_and(|since| self.world.now() > since.max(healed) + ANSWERED);
        assert!(!is_late, "a courier is not answered");
    }
}

impl System {
    /// However many want the same, some transaction is always committed.
    fn check_progress(&mut self) {
        let (commits, since) = self.progress;
        let tries = self.healed.is_some() && self.guests.iter().any(Guest::is_committing);
        if !tries || self.record.commits > commits {
            self.progress = (self.record.commits, self.world.now());
        } else {
            assert!(self.world.now() < since + ANSWERED, "nobody commits anything");
        }
    }
}

fn address() -> Address {
    "10.0.0.1:8100".parse().unwrap()
}

/// The server's host.
pub(crate) const SERVER: &str = "server";
pub(crate) const GUESTS: u64 = 3;
/// The longest time that a transaction takes where nothing goes wrong: a connection that is dead is
/// noticed after two heartbeats of 30 s, and made again.
const ANSWERED: Duration = Duration::from_mins(3);
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
