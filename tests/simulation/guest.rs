//! A client on a host of its own, with the tasks that use it.

use zeo_client::{Client, State};
use zeo_reactor::sim::World;
use zeo_reactor::{Address, Reactor, Time};
use zeo_server::storage::disk::Random;

use std::time::Duration;

use crate::listener::Listener;
use crate::plan::Plan;
use crate::record::Record;
use crate::task::Task;

pub(crate) struct Guest {
    pub(crate) host: String,
    pub(crate) client: Client,
    pub(crate) reactor: Reactor<State>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) listener: Listener,
}

impl Guest {
    /// The client that is born after so many others.
    pub(crate) fn new(world: &World, plan: &mut Plan, address: Address, number: usize) -> Self {
        let host = format!("client {number}");
        let (client, reactor) =
            Client::on_driver(world.driver(&host), &plan.options(), vec![address]).unwrap();
        let task = |task| {
            let name = format!("{host}, task {task}");
            Task::new(name, plan.workload(number + task), TRANSACTIONS, plan.lock_limit)
        };
        let (tasks, listener) = ((0..TASKS).map(task).collect(), Listener::new(&client));
        Self { host, client, reactor, tasks, listener }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.tasks.iter().all(Task::is_done)
    }

    /// Lets everybody go on whose answer is there.
    pub(crate) fn go_on(&mut self, now: Time, random: &mut Random, record: &mut Record) {
        if random.below(8) == 0 {
            self.listener.listen(&self.client);
        }
        for task in &mut self.tasks {
            task.go_on(&self.client, now, random, record);
        }
    }

    /// Whether anybody tries to commit something.
    pub(crate) fn is_committing(&self) -> bool {
        self.tasks.iter().any(Task::is_committing)
    }

    /// When the task that has been at something for the longest time began it.
    pub(crate) fn busy_since(&self) -> Option<Time> {
        self.tasks.iter().filter_map(Task::busy_since).min()
    }

    /// Its program is killed.
    pub(crate) fn die(self, record: &mut Record) {
        let Self { tasks, reactor, .. } = self;
        drop(reactor);
        for task in tasks {
            task.died(record);
        }
    }

    /// Its client is closed whatever it is doing, and everybody who waits is told.
    pub(crate) fn close(self, random: &mut Random, record: &mut Record) {
        let Self { client, mut reactor, tasks, .. } = self;
        client.close();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(reactor.is_stopped());
        for task in tasks {
            task.closed(&client, random, record);
        }
        let held = reactor.held();
        assert_eq!((held.connections, held.timers, held.jobs), (0, 0, 0), "a closed client's");
    }
}

const TASKS: usize = 3;
/// Transactions of each task.
const TRANSACTIONS: u32 = 12;
