//! What a server's own thread does and takes, for connections without a client library.

use std::time::{Duration, Instant};

use crate::cpus::{Placement, taken_by};
use crate::measure;
use crate::plan::Plan;
use crate::raw_link::RawLink;
use crate::reference::PingPong;
use crate::store::Store;
use crate::table::{Aim, Figure, Row, Unit};

/// What a thread did in one round.
struct Served {
    /// Answers a second.
    rate: f64,
    /// Microseconds of CPU for an answer.
    cpu: f64,
}

impl Served {
    /// Watches the thread of that name answer, that many times whenever `ask` is called.
    fn by(plan: &Plan, thread: &str, times: usize, mut ask: impl FnMut()) -> Self {
        let (start, before, mut count) = (Instant::now(), taken_by(thread), 0);
        while start.elapsed() < plan.slice {
            ask();
            count += times;
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        Self { rate, cpu: (taken_by(thread) - before) * 1e6 / count as f64 }
    }
}

/// Many loads in flight on one connection; the server has a CPU of its own.
pub(crate) fn pipelined(plan: &Plan) -> Vec<Row> {
    let at = Placement::widest();
    let [served] = at.client(|| {
        let store = at.server(|| Store::in_memory(OBJECTS));
        let mut link = RawLink::connect(&store.server.addresses()[0]);
        let mut load = || link.load(&store.oids, WINDOW);
        let mut serve = || Served::by(plan, "zeo-server", store.oids.len(), &mut load);
        measure::rounds(plan, [&mut serve])
    });
    let rate = Figure::of(Unit::PerSecond, &served, |served| served.rate);
    let cpu = Figure::of(Unit::Micros, &served, |served| served.cpu);
    vec![
        Row::alone("loads that one core serves, pipelined", rate, Aim::AtLeast(600_000.0)),
        Row::alone("server CPU for a load, pipelined", cpu, Aim::AtMost(1.5)),
    ]
}

/// One load at a time, by a bare connection and by a client, beside the thread of a ping-pong.
pub(crate) fn one_at_a_time(plan: &Plan) -> Vec<Row> {
    Placement::all().flat_map(|at| at.client(|| one_at_a_time_at(plan, at))).collect()
}

fn one_at_a_time_at(plan: &Plan, at: Placement) -> Vec<Row> {
    let store = at.server(|| Store::in_memory(1_000));
    let mut link = RawLink::connect(&store.server.addresses()[0]);
    let (db, mut ping) = (store.forgetful_client(), at.server(PingPong::start));
    let mut load_bare = || link.load(&store.oids, 1);
    let mut load = || store.oids.iter().for_each(|oid| drop(db.load(*oid).unwrap()));
    let mut ping = || (0..store.oids.len()).for_each(|_| ping.once());
    let [bare, client, ping] = measure::rounds(
        plan,
        [
            &mut || Served::by(plan, "zeo-server", store.oids.len(), &mut load_bare),
            &mut || Served::by(plan, "zeo-server", store.oids.len(), &mut load),
            &mut || Served::by(plan, "ping-pong", store.oids.len(), &mut ping),
        ],
    );
    let cpu = |side: &[Served]| Figure::of(Unit::Micros, side, |served| served.cpu);
    let row = |who: &str, side: &[Served]| {
        let what = format!("server CPU for a load, one at a time, {who}, {}", at.name());
        let ping = (cpu(&ping), "the thread of a blocking ping-pong");
        Row::beside(what, cpu(side), ping, Aim::AtMost(8.0))
    };
    vec![row("by a bare connection", &bare), row("by a client", &client)]
}

/// One load a millisecond: whatever polls in the hope of the next one does so in vain.
pub(crate) fn now_and_then(plan: &Plan) -> Vec<Row> {
    let store = Store::in_memory(50);
    let (db, mut ping) = (store.forgetful_client(), PingPong::start());
    let clock = crossbeam_channel::tick(Duration::from_millis(1));
    let mut load = || {
        for oid in &store.oids {
            clock.recv().unwrap();
            drop(db.load(*oid).unwrap());
        }
    };
    let mut ping = || {
        for _ in &store.oids {
            clock.recv().unwrap();
            ping.once();
        }
    };
    let [ours, theirs] = measure::rounds(
        plan,
        [&mut || Served::by(plan, "zeo-server", store.oids.len(), &mut load), &mut || {
            Served::by(plan, "ping-pong", store.oids.len(), &mut ping)
        }],
    );
    let cpu = |side: &[Served]| Figure::of(Unit::Micros, side, |served| served.cpu);
    let ping = (cpu(&theirs), "the thread of a blocking ping-pong");
    vec![Row::beside("server CPU for a load, one a millisecond", cpu(&ours), ping, Aim::None)]
}

/// All of them stay in the server's memory.
const OBJECTS: usize = 20_000;
/// Loads in flight where there are many.
const WINDOW: usize = 64;
