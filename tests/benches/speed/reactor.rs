//! The reactor by itself: a call from another thread and back, and what a result costs.

use zeo_reactor::{Address, MioDriver, Reactor, ReactorThread};

use crate::cpus::Placement;
use crate::measure;
use crate::plan::Plan;
use crate::reference::{Channels, PingPong, serve};
use crate::table::{Aim, Figure, Row, Unit};

pub(crate) fn reactor(plan: &Plan) -> Vec<Row> {
    let calls = Placement::all().flat_map(|at| at.client(|| call_from_thread(plan, at)));
    let echoes = Placement::all().map(|at| at.client(|| echo(plan, at)));
    calls.chain(echoes).chain([deferred(plan), timers(plan)]).collect()
}

/// A blocking client that asks a reactor, and one that asks a blocking thread.
fn echo(plan: &Plan, at: Placement) -> Row {
    let (_server, address) = at.server(serve);
    let Address::Tcp(address) = address else { panic!("it is TCP") };
    let (mut ours, mut theirs) = (PingPong::connect(address), at.server(PingPong::start));
    let again = || std::iter::repeat_n((), CALLS);
    let [ours, theirs] = measure::rounds(
        plan,
        [&mut || measure::each(plan.slice, again(), |()| ours.once()), &mut || {
            measure::each(plan.slice, again(), |()| theirs.once())
        }],
    );
    let what = format!("echoes by a reactor, one at a time, {}", at.name());
    Row::rates(what, &ours, (&theirs, "by a blocking thread"), Aim::None)
}

/// One timer more, beside a million that wait, and away again.
fn timers(plan: &Plan) -> Row {
    let mut reactor = Reactor::new(MioDriver::new().unwrap(), ());
    let an_hour = std::time::Duration::from_hours(1);
    reactor.with(|(), cx| {
        for late in 0..1_000_000 {
            cx.call_later(an_hour + std::time::Duration::from_micros(late), |(), _| ());
        }
        let mut measure = || {
            let once = || {
                let timer = cx.call_later(an_hour, |(), _| ());
                cx.cancel(timer);
            };
            1e9 / measure::rate(plan.slice / 4, 1_000, once)
        };
        let [nanos] = measure::rounds(plan, [&mut measure]);
        let nanos = Figure::new(Unit::Nanos, nanos);
        Row::alone("a timer set and cancelled, beside 1,000,000", nanos, Aim::None)
    })
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
