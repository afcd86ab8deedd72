//! Stopping: everybody hears of it, and nobody waits for ever.

use std::{thread, time::Duration};

use crossbeam_channel::bounded;
use zeo_reactor::{
    CallError, Deferred, LostReason, MioDriver, Phase, Reactor, StageConfig, StageFull,
    SystemEvent, WaitError,
};

use crate::kit::{Log, Mio, Place, Recorder, Seen, in_all_places, join, on_transport};

in_all_places!(
    d3_a_stop_loses_every_connection_after_one_last_flush,
    what_was_queued_before_a_stop_runs_and_what_is_queued_later_fails,
    d3_a_stop_fails_what_is_being_connected,
    d3_a_stop_ends_every_deferred,
    a_stopped_reactor_starts_again_with_nothing_left,
    d3_stopping_twice_is_stopping_once,
    d3_dropping_a_reactor_ends_every_deferred,
);

fn d3_a_stop_loses_every_connection_after_one_last_flush(place: &impl Place) {
    let (mut stopped, mut peer) = (place.reactor(), place.reactor());
    let address = stopped.with(|_, cx| {
        let server = Recorder { on_made: |to| to.write(b"goodbye"), ..Recorder::new("server") };
        cx.listen(&place.address(), server).unwrap().1
    });
    peer.with(|_, cx| cx.connect(&address, Recorder::new("client")));
    while stopped.shared().made("server").is_none() {
        place.step_all(&mut [&mut stopped, &mut peer]);
    }
    on_transport(&mut stopped, "server", |to| to.write(b", really"));
    stopped.with(|_, cx| cx.stop());
    assert!(stopped.turn(Some(Duration::ZERO)).unwrap().stopped);
    assert_eq!(stopped.shared().lost("server"), [LostReason::Stopped]);
    place.until(&mut peer, |log| !log.lost("client").is_empty());
    assert_eq!(peer.shared().data("client"), b"goodbye, really");
}

fn what_was_queued_before_a_stop_runs_and_what_is_queued_later_fails(place: &impl Place) {
    let mut reactor = place.reactor();
    let handle = reactor.handle();
    handle.call_from_thread(|log, _| log.note("before")).unwrap();
    handle.stop();
    handle.call_from_thread(|log, _| log.note("after, and still in time")).unwrap();
    run(place, &mut reactor);
    assert_eq!(reactor.shared().notes, ["before", "after, and still in time"]);
    assert_eq!(handle.call_from_thread(|_, _| ()), Err(CallError::Stopped));
    assert_eq!(handle.ask(|_, _| ()).wait(), Err(WaitError::Dropped));
    assert!(!handle.is_running());
}

fn d3_a_stop_fails_what_is_being_connected(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let (_, address) = cx.listen(&place.address(), Recorder::new("server")).unwrap();
        cx.call_soon(move |_, cx| {
            cx.connect(&address, Recorder::new("client"));
            cx.stop();
        });
    });
    run(place, &mut reactor);
    let seen = &reactor.shared().seen;
    assert_eq!(*seen, [Seen::Failed("client", std::io::ErrorKind::Other)]);
}

fn d3_a_stop_ends_every_deferred(place: &impl Place) {
    let mut reactor = place.reactor();
    let mut waiting: Vec<Deferred<()>> = Vec::new();
    reactor.with(|_, cx| {
        let (in_timer, deferred) = cx.handle().deferred();
        waiting.push(deferred);
        cx.call_later(Duration::from_mins(1), move |_, _| in_timer.send(()));
        let (in_soon, deferred) = cx.handle().deferred();
        waiting.push(deferred);
        cx.call_soon(|_, cx| cx.call_soon(|_, _| in_soon.send(())));
    });
    waiting.push(reactor.handle().ask(|_, cx| cx.stop()));
    run(place, &mut reactor);
    let results: Vec<_> = waiting.iter_mut().map(|one| one.try_take().unwrap()).collect();
    assert_eq!(results, [Err(WaitError::Dropped), Err(WaitError::Dropped), Ok(())]);
}

fn a_stopped_reactor_starts_again_with_nothing_left(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::echo(), Recorder::new("client"));
    reactor.with(|_, cx| {
        cx.call_later(Duration::ZERO, |_, cx| cx.stop());
        cx.call_later(Duration::ZERO, |_, cx| {
            cx.call_later(Duration::ZERO, |log, _| log.note("never"));
        });
    });
    run(place, &mut reactor);
    assert_eq!(reactor.next_deadline(), None);
    reactor.restart();
    reactor.shared_mut().seen.clear();
    let client = Recorder { on_made: |to| to.write(b"again"), ..Recorder::new("client") };
    join(place, &mut reactor, Recorder::echo(), client);
    place.until(&mut reactor, |log| log.data("client") == b"again");
    assert!(reactor.shared().notes.is_empty());
}

fn d3_stopping_twice_is_stopping_once(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::echo(), Recorder::new("client"));
    let handle = reactor.handle();
    handle.stop();
    handle.stop();
    reactor.with(|_, cx| cx.stop());
    run(place, &mut reactor);
    handle.stop();
    assert!(reactor.turn(None).unwrap().stopped);
    assert_eq!(reactor.shared().lost("client"), [LostReason::Stopped]);
    assert_eq!(reactor.shared().lost("server"), [LostReason::Stopped]);
}

fn d3_dropping_a_reactor_ends_every_deferred(place: &impl Place) {
    let mut reactor = place.reactor();
    let asked = reactor.handle().ask(|_, _| ());
    let (sender, deferred) = reactor.handle().deferred();
    reactor.with(|_, cx| cx.call_soon(move |_, _| sender.send(())));
    let handle = reactor.handle();
    drop(reactor);
    assert_eq!(asked.wait(), Err(WaitError::Dropped));
    assert_eq!(deferred.wait(), Err(WaitError::Dropped));
    assert_eq!(handle.call_from_thread(|_, _| ()), Err(CallError::Stopped));
}

#[test]
fn a_stop_waits_for_the_running_job_and_drops_its_result() {
    let mut reactor = Mio.reactor();
    let (begun, begins) = bounded(0);
    let (done, is_done) = bounded(1);
    let (held, stopping) = bounded::<()>(0);
    reactor.with(|_, cx| {
        let stage = cx.start_stage(StageConfig { name: "stage", threads: 1, bound: 2 }).unwrap();
        let work = move || {
            begun.send(()).unwrap();
            stopping.recv().unwrap_err();
            done.send(()).unwrap();
        };
        cx.defer_to_stage(stage, work, |log, _, _| log.note("never")).unwrap();
        cx.call_soon(move |_, cx| {
            cx.stop();
            drop(held);
        });
        cx.add_trigger(SystemEvent::Shutdown, Phase::During, move |_, cx| {
            assert_eq!(cx.defer_to_stage(stage, || (), |_, _, _| ()), Err(StageFull));
        });
    });
    begins.recv().unwrap();
    reactor.run().unwrap();
    assert!(is_done.try_recv().is_ok(), "the job had begun, so it ended");
    assert!(reactor.shared().notes.is_empty());
}

/// A call that is queued while the reactor stops must not stay in its queue: whoever waits for it
/// would wait for ever.
#[test]
fn d3_nobody_waits_for_ever_however_late_the_call() {
    for _ in 0..200 {
        let mut reactor = Reactor::new(MioDriver::new().unwrap(), ());
        let handle = reactor.handle();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let handle = handle.clone();
                let call = move || while handle.ask(|(), _| ()).wait().is_ok() {};
                thread::Builder::new().spawn(call).unwrap()
            })
            .collect();
        handle.stop();
        reactor.run().unwrap();
        for caller in callers {
            caller.join().unwrap();
        }
    }
}

fn run(place: &impl Place, reactor: &mut Reactor<Log>) {
    while !reactor.is_stopped() {
        place.step(reactor);
    }
}
