//! Loads by a client: from its cache, from the server's memory, from the server's disk, in batches.

use std::time::Instant;

use crate::cpus::Placement;
use crate::measure::{self, Sample};
use crate::plan::Plan;
use crate::reference::{Echo, PingPong};
use crate::store::Store;
use crate::table::{Aim, Figure, Row, Unit};

/// No thread is crossed.
pub(crate) fn cached(plan: &Plan) -> Vec<Row> {
    let store = Store::in_memory(1);
    let (db, oid) = (store.client(), store.oids[0]);
    let mut load = || {
        let load = || drop(std::hint::black_box(db.load(oid).unwrap()));
        1e9 / measure::rate(plan.slice / 4, 1_000, load)
    };
    let [nanos] = measure::rounds(plan, [&mut load]);
    vec![Row::alone("load, in cache", Figure::new(Unit::Nanos, nanos), Aim::AtMost(100.0))]
}

/// One caller loads what the client has not, one after the other.
pub(crate) fn cold(plan: &Plan) -> Vec<Row> {
    Placement::all().flat_map(|at| at.client(|| cold_at(plan, at))).collect()
}

fn cold_at(plan: &Plan, at: Placement) -> Vec<Row> {
    let hot = at.server(|| Store::in_memory(OBJECTS));
    let staged = at.server(|| Store::never_hot(plan, OBJECTS));
    let mut ping = at.server(PingPong::start);
    let echo = Echo::start(at);
    let again = || std::iter::repeat_n((), OBJECTS);
    let [hot, staged, ping, echo] = measure::rounds(
        plan,
        [
            &mut || load_all(plan, &hot),
            &mut || load_all(plan, &staged),
            &mut || measure::each(plan.slice, again(), |()| ping.once()),
            &mut || measure::each(plan.slice, again(), |()| echo.once()),
        ],
    );
    let name = |what: &str| format!("load, cold, {what}, {}", at.name());
    let ping = (&*ping, "blocking socket ping-pong");
    let hot_rows = Row::latencies(&name("hot in the server"), &hot, ping, Aim::RatioAtMost(1.0));
    let [echo_row, _] = Row::latencies(
        &name("hot in the server"),
        &hot,
        (&echo, "echo through the same reactor"),
        Aim::None,
    );
    let staged_rows = Row::latencies(&name("from the server's stage"), &staged, ping, Aim::None);
    hot_rows.into_iter().chain([echo_row]).chain(staged_rows).collect()
}

/// A fresh client has a cold cache.
fn load_all(plan: &Plan, store: &Store) -> Sample {
    let db = store.client();
    measure::each(plan.slice, store.oids.iter(), |&oid| drop(db.load(oid).unwrap()))
}

/// One caller loads many at once.
pub(crate) fn batch(plan: &Plan) -> Vec<Row> {
    let store = Store::in_memory(50_000);
    let mut load = || {
        let db = store.client();
        let start = Instant::now();
        assert!(db.load_many(&store.oids).unwrap().iter().all(Option::is_some));
        store.oids.len() as f64 / start.elapsed().as_secs_f64()
    };
    let [rates] = measure::rounds(plan, [&mut load]);
    let rates = Figure::new(Unit::PerSecond, rates);
    vec![Row::alone("batch load, objects", rates, Aim::AtLeast(400_000.0))]
}

/// No more than a client's cache and a server's hot memory hold.
const OBJECTS: usize = 20_000;
