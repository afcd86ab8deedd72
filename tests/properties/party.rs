//! A server with some storages, its clients, and work that they do at once, all on one thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use zeo_client::{Client, Deferred, State};
use zeo_reactor::sim::{Turns, World};
use zeo_reactor::{Address, Reactor};
use zeo_server::Server;
use zeo_server::storage::disk::SimDisk;
use zeo_server::storage::index::MapIndex;
use zeo_server::storage::{JournalStorage, Settings, Storage};

/// Something that a client does, one step after the other.
pub(crate) type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A server, its clients, and the world between them.
pub(crate) struct Party {
    world: World,
    server: Reactor<Server>,
    clients: Vec<Reactor<State>>,
    /// Connections break now and then.
    breaks: bool,
}

impl Party {
    /// A server with storages of these names, each on a simulated disk of its own.
    pub(crate) fn new(seed: u64, storages: &[&str]) -> Self {
        let world = World::new(seed);
        let mut builder = Server::builder().listen(address());
        for (name, number) in storages.iter().zip(1..) {
            builder = builder.storage(*name, storage(seed, number));
        }
        let (server, _) = builder.build(world.driver(SERVER)).unwrap();
        Self { world, server, clients: Vec::new(), breaks: false }
    }

    /// A client of a storage, on a host of its own; it connects when work is done.
    pub(crate) fn client(&mut self, storage: &str) -> Client {
        let host = host(self.clients.len() as u64);
        let options = Client::options().storage(storage);
        let driver = self.world.driver(&host);
        let (client, reactor) = Client::on_driver(driver, &options, vec![address()]).unwrap();
        self.clients.push(reactor);
        client
    }

    /// Has connections break now and then, or not any more.
    pub(crate) fn set_breaking(&mut self, breaks: bool) {
        self.breaks = breaks;
    }

    /// Does all this work at once, in the order in which the world lets it go on.
    pub(crate) fn run(&mut self, mut work: Vec<Work<'_>>) {
        let mut steps = 0;
        loop {
            let cx = &mut Context::from_waker(Waker::noop());
            work.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            if work.is_empty() {
                return;
            }
            self.step();
            steps += 1;
            assert!(steps < MOST_STEPS, "{} of the workers wait for ever", work.len());
        }
    }

    /// Does this work, and says what came of it.
    pub(crate) fn ask<R>(&mut self, work: impl Future<Output = R>) -> R {
        let mut result = None;
        self.run(vec![Box::pin(async { result = Some(work.await) })]);
        result.expect("the work is done")
    }

    fn step(&mut self) {
        if self.breaks && self.world.random().is_multiple_of(BREAK_ONE_IN) {
            let which = self.world.random() % self.clients.len() as u64;
            self.world.reset(SERVER, &host(which));
        }
        let mut reactors: Vec<&mut dyn Turns> = vec![&mut self.server];
        reactors.extend(self.clients.iter_mut().map(|reactor| reactor as &mut dyn Turns));
        assert!(self.world.step(&mut reactors).unwrap(), "every client has its heartbeat");
    }
}

/// What a call came to; nothing ends before it is answered.
pub(crate) async fn answer<T>(call: Deferred<T>) -> T {
    call.await.unwrap()
}

fn storage(seed: u64, number: u8) -> Arc<dyn Storage> {
    let disk = SimDisk::new(seed);
    let storage =
        JournalStorage::open(disk, || Ok(MapIndex::default()), SETTINGS, [number; 16]).unwrap();
    Arc::new(storage)
}

fn host(client: u64) -> String {
    format!("client {client}")
}

fn address() -> Address {
    "10.0.0.1:8100".parse().unwrap()
}

const SERVER: &str = "server";
/// So many steps without a broken connection, on average.
const BREAK_ONE_IN: u64 = 500;
/// Far more than any run takes.
const MOST_STEPS: u32 = 5_000_000;
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
