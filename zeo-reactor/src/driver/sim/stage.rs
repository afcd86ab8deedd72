//! Stages without threads: the seed says when each job is worked and when its result arrives.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    lock,
    net::{HostId, Net},
};
use crate::{
    StageConfig, Time,
    driver::{Pool, Waits, Work},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(u64);

/// The stages of all hosts.
#[derive(Default)]
pub(super) struct Pools {
    pools: BTreeMap<PoolId, Waiting>,
    added: u64,
}

/// What a stage has not begun, and how many of its threads do nothing.
struct Waiting {
    host: HostId,
    name: &'static str,
    jobs: VecDeque<(Time, Work)>,
    idle: usize,
    waits: Waits,
}

impl Pools {
    pub(super) fn add(&mut self, host: HostId, config: &StageConfig) -> PoolId {
        let id = PoolId(self.added);
        self.added += 1;
        let (name, idle) = (config.name, config.threads.max(1));
        let (jobs, waits) = (VecDeque::new(), Waits::default());
        self.pools.insert(id, Waiting { host, name, jobs, idle, waits });
        id
    }

    /// Whether a thread begins to look for a job.
    pub(super) fn submit(&mut self, id: PoolId, now: Time, job: Work) -> bool {
        let Some(pool) = self.pools.get_mut(&id) else { return false };
        pool.jobs.push_back((now, job));
        let starts = pool.idle > 0;
        pool.idle -= usize::from(starts);
        starts
    }

    pub(super) fn next_job(&mut self, id: PoolId, now: Time) -> Option<Work> {
        let pool = self.pools.get_mut(&id)?;
        let (submitted, job) = pool.jobs.pop_front()?;
        pool.waits.add(now - submitted);
        Some(job)
    }

    /// Whose stage it is, and its name.
    pub(super) fn name(&self, id: PoolId) -> Option<(HostId, &'static str)> {
        self.pools.get(&id).map(|pool| (pool.host, pool.name))
    }

    pub(super) fn len(&self) -> usize {
        self.pools.len()
    }

    fn waits(&self, id: PoolId) -> Waits {
        self.pools.get(&id).map(|pool| pool.waits).unwrap_or_default()
    }

    /// A job ends after that time.
    pub(super) fn worked(&mut self, id: PoolId, work: Duration) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.waits.add_work(work);
        }
    }

    /// A thread has delivered a result. Whether it goes on with another job; `None` when the stage
    /// has ended and the result is to be dropped.
    pub(super) fn delivered(&mut self, id: PoolId) -> Option<bool> {
        let pool = self.pools.get_mut(&id)?;
        let goes_on = !pool.jobs.is_empty();
        pool.idle += usize::from(!goes_on);
        Some(goes_on)
    }

    pub(super) fn is_open(&self, id: PoolId) -> bool {
        self.pools.contains_key(&id)
    }

    fn remove(&mut self, id: PoolId) -> VecDeque<(Time, Work)> {
        self.pools.remove(&id).map(|pool| pool.jobs).unwrap_or_default()
    }
}

/// The threads of one stage, as its reactor sees them.
pub(super) struct SimPool {
    net: Arc<Mutex<Net>>,
    id: PoolId,
}

impl SimPool {
    pub(super) fn new(net: Arc<Mutex<Net>>, host: HostId, config: &StageConfig) -> Self {
        let id = lock(&net).pools.add(host, config);
        Self { net, id }
    }
}

impl Pool for SimPool {
    fn submit(&mut self, job: Work) {
        lock(&self.net).submit(self.id, job);
    }

    fn shutdown(&mut self) {
        // Dropped only after the lock is: a job's values may reach for the world.
        let dropped = lock(&self.net).pools.remove(self.id);
        drop(dropped);
    }

    fn waits(&self) -> Waits {
        lock(&self.net).pools.waits(self.id)
    }
}

impl Drop for SimPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}
