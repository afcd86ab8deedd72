//! The annex: a second storage of the same server, for couriers between both.

use std::sync::Arc;

use zeo_client::Client;
use zeo_reactor::Address;
use zeo_reactor::Time;
use zeo_reactor::sim::{self as reactor, Turns, World};
use zeo_server::storage::disk::{Random, SimDisk};
use zeo_server::storage::index::MapIndex;
use zeo_server::storage::{JournalStorage, Settings, Storage};

use crate::courier::{self, ACCOUNT, Courier};
use crate::history::History;
use crate::plan::Plan;

/// The second storage, and who uses it.
pub(crate) struct Annex {
    disk: SimDisk,
    index: MapIndex,
    storage: Option<Arc<dyn Storage>>,
    pub(crate) couriers: Vec<Courier>,
}

impl Annex {
    pub(crate) fn new(seed: u64) -> Self {
        let (disk, index) = (SimDisk::new(seed), MapIndex::default());
        Self { disk, index, storage: None, couriers: Vec::new() }
    }

    pub(crate) fn open(&mut self, settings: Settings) -> Arc<dyn Storage> {
        let (disk, index) = (self.disk.clone(), self.index.clone());
        let storage = JournalStorage::open(disk, || Ok(index), settings, [9; 16]).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(storage);
        self.storage = Some(Arc::clone(&storage));
        storage
    }

    pub(crate) fn populate(&mut self, world: &World, plan: &Plan, address: &Address) {
        let courier = |number| Courier::new(world, plan, address, number);
        self.couriers = (1..=COURIERS).map(courier).collect();
    }

    pub(crate) fn server_is_gone(&mut self) {
        self.storage = None;
    }

    pub(crate) fn power_fails(&mut self, random: &mut Random) {
        self.disk.crash();
        self.index.crash(random);
    }

    pub(crate) fn reactors(&mut self) -> impl Iterator<Item = &mut dyn Turns> {
        let reactors = self.couriers.iter_mut().flat_map(|courier| &mut courier.reactors);
        reactors.map(|reactor| reactor as &mut dyn Turns)
    }

    pub(crate) fn go_on(&mut self, now: Time) {
        self.couriers.iter_mut().for_each(|courier| courier.go_on(now));
    }

    pub(crate) fn is_done(&self) -> bool {
        self.couriers.iter().all(Courier::is_done)
    }

    pub(crate) fn sessions(&self) -> usize {
        2 * self.couriers.len()
    }

    /// Of whoever has a client in the second storage, one.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.couriers.first().map(|courier| &courier.clients[1])
    }

    pub(crate) fn is_at_rest(&self) -> Result<(), String> {
        let mut clients = self.couriers.iter().flat_map(|courier| &courier.clients);
        if clients.all(Client::is_connected) { Ok(()) } else { Err("a courier waits".to_owned()) }
    }

    /// Nobody of them waits for anything.
    pub(crate) fn is_quiet(&mut self) -> Result<(), String> {
        for reactor in self.couriers.iter_mut().flat_map(|courier| &mut courier.reactors) {
            let wanted = reactor::Held { connections: 1, timers: 1, ..reactor::Held::default() };
            let held = (reactor.held(), reactor.shared().held());
            if held != (wanted, zeo_client::Held::default()) {
                return Err(format!("a courier: {held:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self, main: &dyn Storage, anything_fails: bool) {
        if let Some(storage) = self.storage.as_deref().filter(|_| !self.couriers.is_empty()) {
            let [here, there] = [main, storage].map(|it| History::of(it, [ACCOUNT].into_iter()));
            courier::check(self.couriers.iter(), [&here, &there], anything_fails);
        }
    }

    pub(crate) fn let_go(&mut self) {
        std::mem::take(&mut self.couriers).into_iter().for_each(Courier::close);
    }
}

const COURIERS: usize = 2;
