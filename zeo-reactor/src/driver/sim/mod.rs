//! A simulated world: many reactors, their links, clocks and stages on one thread, from one seed.
//!
//! A [`World`] has a virtual clock and hosts; each host's reactor gets a [`SimDriver`]. Nothing
//! sleeps and no thread is started: [`World::step`] either lets one reactor turn or moves the clock
//! to the next event, and the seed decides which. What a write hands over arrives later, in
//! pieces cut at any byte; a stage's *work* is done at one instant, its *then* delivered at
//! another. The same seed, with the same code, gives the same [`World::trace_hash`].
//!
//! A host crashes when its reactor is dropped: its sockets close, its jobs are gone. Cut its links
//! first, and its peers do not even hear of that.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Reactor, Time, TurnReport};

mod driver;
mod event;
mod held;
mod net;
mod sight;
mod socket;
mod stage;

pub use driver::SimDriver;
use event::Happening;
pub use held::{Held, WorldHeld};
use net::Net;
pub use sight::Sight;

/// Everything that the reactors of a simulation have in common. Clones are the same world.
#[derive(Clone)]
pub struct World {
    net: Arc<Mutex<Net>>,
}

/// How the links between hosts behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// The shortest time that bytes travel.
    pub delay_min: Duration,
    /// The longest usual time; now and then it is twenty times that.
    pub delay_max: Duration,
    /// Whether bytes arrive in pieces cut anywhere.
    pub fragments: bool,
    /// How many bytes may be under way or unread in each direction of a connection.
    pub window: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(20),
            delay_max: Duration::from_millis(2),
            fragments: true,
            window: 64 * 1024,
        }
    }
}

/// A reactor as [`World::step`] drives it, whatever its state.
pub trait Turns {
    /// Whether a turn would find something to do at once.
    fn is_due(&self) -> bool;
    /// When its next timer is due.
    fn next_deadline(&self) -> Option<Time>;
    /// One turn, which does not wait.
    fn turn(&mut self) -> io::Result<TurnReport>;
}

impl<S: 'static> Turns for Reactor<S> {
    fn is_due(&self) -> bool {
        Self::is_due(self)
    }

    fn next_deadline(&self) -> Option<Time> {
        Self::next_deadline(self)
    }

    fn turn(&mut self) -> io::Result<TurnReport> {
        Self::turn(self, Some(Duration::ZERO))
    }
}

impl World {
    /// A world whose every choice follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { net: Arc::new(Mutex::new(Net::new(seed))) }
    }

    /// A driver for a reactor on `host`. A host that has crashed gets another one.
    pub fn driver(&self, host: &str) -> SimDriver {
        SimDriver::new(Arc::clone(&self.net), host)
    }

    /// Does one thing: a turn of one of the reactors that have something to do, or else the next
    /// event. `false` when there is neither, now or later.
    pub fn step(&self, reactors: &mut [&mut dyn Turns]) -> io::Result<bool> {
        let due = reactors.iter().enumerate().filter(|(_, reactor)| reactor.is_due());
        let due: Vec<usize> = due.map(|(index, _)| index).collect();
        let chosen = self.lock().choose(&due);
        if let Some(reactor) = chosen.and_then(|index| reactors.get_mut(index)) {
            reactor.turn()?;
            return Ok(true);
        }
        let deadline = reactors.iter().filter_map(|reactor| reactor.next_deadline()).min();
        Ok(self.advance_by_one(deadline))
    }

    /// Steps until there is nothing to do at present or later, or until `limit` has passed in the
    /// world. `false` when it was the limit.
    pub fn run_until_idle(
        &self,
        reactors: &mut [&mut dyn Turns],
        limit: Duration,
    ) -> io::Result<bool> {
        let end = self.now() + limit;
        while self.now() < end {
            if !self.step(reactors)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves the clock to the next event and lets it happen. `false` when there is none.
    pub fn advance(&self) -> bool {
        self.advance_by_one(None)
    }

    /// When the next event happens. Timers of reactors are not events, nor are the questions whether
    /// a peer that makes no room is still there: they are asked for ever.
    pub fn next_event(&self) -> Option<Time> {
        self.lock().next_but_probes()
    }

    /// The virtual clock.
    pub fn now(&self) -> Time {
        self.lock().now()
    }

    /// A random number for whoever drives the simulation.
    pub fn random(&self) -> u64 {
        self.lock().random()
    }

    /// Two runs with the same hash have gone the same way, turn by turn and byte by byte.
    pub fn trace_hash(&self) -> u64 {
        self.lock().trace_hash()
    }

    /// Makes something of the simulation's own part of the trace.
    pub fn note(&self, what: &[u8]) {
        self.lock().note(what);
    }

    /// Sets how all links behave from now on.
    pub fn set_links(&self, config: LinkConfig) {
        self.lock().set_links(config);
    }

    /// Sets how long, at the most, a stage's job waits for its thread, and its result for its
    /// delivery (by default 2 ms each).
    pub fn set_stage_delay(&self, longest: Duration) {
        self.lock().stage_delay = longest;
    }

    /// Sets the time of day of a host, in microseconds since 1970; it runs on from there.
    pub fn set_unix_micros(&self, host: &str, micros: u64) {
        self.lock().set_unix_micros(host, micros);
    }

    /// Holds back whatever two hosts send each other, until [`heal`](Self::heal).
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Holds back whatever `from` sends to `to`.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.lock().cut(from, to);
    }

    /// Lets everything through again, what was held back first.
    pub fn heal(&self, a: &str, b: &str) {
        let mut net = self.lock();
        net.heal(a, b);
        net.heal(b, a);
    }

    /// Lets everything through between all hosts.
    pub fn heal_all(&self) {
        self.lock().heal_all();
    }

    /// Resets every connection between two hosts; both ends hear of it, and what was under way is
    /// lost. Says how many.
    pub fn reset(&self, a: &str, b: &str) -> usize {
        let mut net = self.lock();
        net.break_ends(a, b).max(net.break_ends(b, a))
    }

    /// Breaks the ends at `at` of its connections with `peer`, which hears of it only when it
    /// sends something. Says how many.
    pub fn half_open(&self, at: &str, peer: &str) -> usize {
        self.lock().break_ends(at, peer)
    }

    /// Breaks the ends at `at` of its connections with `peer`; what they have sent still arrives,
    /// but not before `late` has passed. Says how many.
    pub fn strand(&self, at: &str, peer: &str, late: Duration) -> usize {
        self.lock().strand(at, peer, late)
    }

    fn advance_by_one(&self, deadline: Option<Time>) -> bool {
        let Some(happening) = self.lock().advance(deadline) else { return false };
        match happening {
            Happening::Done => {}
            Happening::Work(pool, work) => {
                let delivery = work();
                let discarded = self.lock().worked(pool, delivery);
                drop(discarded);
            }
            Happening::Delivery(delivery) => delivery(),
            Happening::Discarded(delivery) => drop(delivery),
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        lock(&self.net)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// No job and no callback runs under this lock.
fn lock(net: &Mutex<Net>) -> MutexGuard<'_, Net> {
    net.lock().unwrap_or_else(PoisonError::into_inner)
}
