//! What a seed's life is like: what goes wrong, who does what, how slow the world is.

use std::fmt;
use std::time::Duration;

use zeo_client::{Client, Options};
use zeo_reactor::sim::LinkConfig;
use zeo_server::Limits;
use zeo_server::storage::disk::Random;

use crate::rules::Rules;
use crate::workload::{self, Workload};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Nothing but delay and fragmentation.
    None,
    /// Connections break, and links are silent for a while.
    Links,
    /// That, and power fails, clients die, clocks jump.
    Deaths,
    /// Links, servers that stop in order, clients that come and go, clocks that jump.
    Stops,
    /// Everything, and the disk fails or is full for a while.
    Disk,
}

impl Faults {
    pub(crate) const ALL: [Self; 5] =
        [Self::None, Self::Links, Self::Deaths, Self::Stops, Self::Disk];

    /// Those of a seed: with every fifth seed they are the same.
    pub(crate) fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % 5).expect("it is below 5")]
    }

    /// Seeds with these faults, from some number on.
    pub(crate) fn seeds(self, from: u64) -> impl Iterator<Item = u64> {
        (from..).filter(move |seed| Self::of(*seed) == self)
    }
}

/// A life, before it begins.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
    pub(crate) faults: Faults,
    workloads: Vec<&'static dyn Workload>,
    pub(crate) links: LinkConfig,
    pub(crate) stage_delay: Duration,
    /// How long somebody may wait for object locks, and hold them.
    pub(crate) lock_limit: Duration,
    /// The server has another storage, and couriers carry money between both.
    pub(crate) has_annex: bool,
    random: Random,
}

impl Plan {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random::new(!seed);
        let workloads = workloads(&mut random);
        let (links, stage_delay) = (links(&mut random), stage_delay(&mut random));
        let lock_limit = Duration::from_secs(if random.below(2) == 0 { 3 } else { 30 });
        let (faults, has_annex) = (Faults::of(seed), random.below(4) == 0);
        Self { seed, rules, faults, workloads, links, stage_delay, lock_limit, has_annex, random }
    }

    /// The workload of a task.
    pub(crate) fn workload(&self, number: usize) -> &'static dyn Workload {
        self.workloads[number % self.workloads.len()]
    }

    /// All workloads that somebody has.
    pub(crate) fn workloads(&self) -> &[&'static dyn Workload] {
        &self.workloads
    }

    /// Lives differ. Without hot records, loads take their time in the storage; with a short memory,
    /// clients catch up from the journal, or have missed too much. Large transactions wait in files, and
    /// some may be large.
    pub(crate) fn limits(&mut self) -> Limits {
        let mut either = |few, many| if self.random.below(2) == 0 { few } else { many };
        Limits {
            hot_bytes: either(0, 1 << 20),
            remembered_oids: usize::try_from(either(8, 1 << 20)).unwrap(),
            catch_up_oids: usize::try_from(either(4, 1 << 20)).unwrap(),
            calls_in_flight: usize::try_from(either(2, 256)).unwrap(),
            spill_bytes: either(100, 16 << 20),
            large_commit_bytes: either(200, 1 << 20),
            waiting_votes: usize::try_from(either(2, 1_024)).unwrap(),
            lock_wait: self.lock_limit,
            lock_hold: self.lock_limit,
            ..Limits::default()
        }
    }

    /// Some caches have room for next to nothing, some callers are in a hurry.
    pub(crate) fn options(&mut self) -> Options {
        let patience = [PATIENCE, PATIENCE, Duration::from_secs(3), Duration::ZERO];
        let options = Client::options()
            .cache_bytes(self.one_of([2 << 10, 16 << 10, 64 << 20]))
            .wait_timeout(self.one_of(patience))
            .rules(self.rules.client);
        let hurry = HURRY + self.stage_delay * 10;
        if self.random.below(3) == 0 { options.call_timeout(hurry) } else { options }
    }

    /// Couriers have patience.
    pub(crate) fn courier_options(&self) -> Options {
        Client::options().wait_timeout(PATIENCE).rules(self.rules.client)
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[usize::try_from(self.random.below(N as u64)).unwrap()]
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.workloads.iter().map(|workload| workload.name()).collect();
        write!(f, "seed {}: faults {:?}, {}", self.seed, self.faults, names.join(" and "))?;
        f.write_str(if self.has_annex { " and couriers" } else { "" })
    }
}

/// One or two, and every other time one of them is anything.
fn workloads(random: &mut Random) -> Vec<&'static dyn Workload> {
    let count = 1 + random.below(2);
    let mut chosen: Vec<&'static dyn Workload> = Vec::new();
    for _ in 0..count {
        let number =
            if random.below(3) == 0 { 0 } else { random.below(workload::ALL.len() as u64) };
        let workload = workload::ALL[usize::try_from(number).unwrap()];
        if chosen.iter().all(|other| other.name() != workload.name()) {
            chosen.push(workload);
        }
    }
    chosen
}

/// Some links are slow, some hold little.
fn links(random: &mut Random) -> LinkConfig {
    let usual = LinkConfig::default();
    match random.below(6) {
        0 => LinkConfig { delay_max: Duration::from_millis(20), ..usual },
        1 => LinkConfig { window: 2 << 10, ..usual },
        2 => LinkConfig { delay_min: Duration::ZERO, delay_max: Duration::ZERO, ..usual },
        _ => usual,
    }
}

/// A storage whose answers take long lets much happen meanwhile.
fn stage_delay(random: &mut Random) -> Duration {
    Duration::from_millis([2, 2, 10, 100][usize::try_from(random.below(4)).unwrap()])
}

/// A silent link makes virtual time fly; who has patience does not give up meanwhile.
const PATIENCE: Duration = Duration::from_hours(24);
/// Mostly enough for an answer, and not always; beside what the stages take.
const HURRY: Duration = Duration::from_millis(30);
