//! The reactor by itself: a call from another thread and back, and what a result costs.

use zeo_reactor::{MioDriver, Reactor, ReactorThread};

use crate::cpus::Placement;
use crate::measure;
use crate::plan::Plan;
use crate::reference::Channels;
use crate::table::{Aim, Figure, Row, Unit};

pub(crate) fn reactor(plan: &Plan) -> Vec<Row> {
    let calls = Placement::all().flat_map(|at| at.client(|| call_from_thread(plan, at)));
    calls.chain([deferred(plan)]).collect()
}

/// A call into a reactor that sleeps, and its result.
fn call_from_thread(plan: &Plan, at: Placement) -> [Row; 2] {
    let reactor = Reactor::new(MioDriver::new().unwrap(), ());
    let thread = at.server(|| ReactorThread::spawn("reactor", reactor).unwrap());
    let (handle, channels) = (thread.handle(), at.server(Channels::start));
    let again = || std::iter::repeat_n((), CALLS);
    let [ours, theirs] = measure::rounds(
        plan,
        [
            &mut || measure::each(plan.slice, again(), |()| handle.ask(|(), _| ()).wait().unwrap()),
            &mut || measure::each(plan.slice, again(), |()| channels.once()),
        ],
    );
    let what = format!("call_from_thread and back, {}", at.name());
    Row::latencies(&what, &ours, (&theirs, "two channels and a thread"), Aim::None)
}

/// One result, made, fired and taken on one thread.
fn deferred(plan: &Plan) -> Row {
    let once = || {
        let (sender, mut deferred) = zeo_reactor::deferred();
        sender.send(1_u64);
        std::hint::black_box(deferred.try_take());
    };
    let mut measure = || 1e9 / measure::rate(plan.slice / 4, 1_000, once);
    let [nanos] = measure::rounds(plan, [&mut measure]);
    let nanos = Figure::new(Unit::Nanos, nanos);
    Row::alone("a deferred: make, fire, take", nanos, Aim::AtMost(100.0))
}

const CALLS: usize = 20_000;
