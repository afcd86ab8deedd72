//! Triggers: calls at startup and at shutdown.

use std::{thread, time::Duration};

use zeo_reactor::{
    Context, Hold, LostReason, Phase, Reactor, ReactorThread, StageConfig, SystemEvent, WaitError,
};

use crate::kit::{Log, Mio, Place, Recorder, a_few_turns, in_all_places, join};

in_all_places!(
    d2_triggers_run_before_during_and_after_startup,
    d2_triggers_run_before_during_and_after_shutdown,
    d2_a_trigger_before_shutdown_may_hold_it_back,
    d2_a_shutdown_that_is_held_back_for_too_long_goes_on,
    d2_a_hold_that_is_let_go_in_time_costs_nothing,
    d2_a_trigger_that_was_removed_does_not_run,
    d2_a_trigger_may_add_others_to_its_own_phase_and_to_later_ones,
    d2_triggers_run_once_for_each_start_and_stop,
    d2_triggers_of_a_reactor_that_is_gone_are_dropped,
);

fn d2_triggers_run_before_during_and_after_startup(place: &impl Place) {
    let mut reactor = place.reactor();
    add(&reactor, SystemEvent::Startup, Phase::After, |log, _| log.note("after"));
    add(&reactor, SystemEvent::Startup, Phase::Before, |log, _| log.note("before"));
    add(&reactor, SystemEvent::Startup, Phase::During, |log, _| log.note("during"));
    add(&reactor, SystemEvent::Startup, Phase::Before, |log, _| log.note("and before"));
    reactor.handle().call_from_thread(|log, _| log.note("a call")).unwrap();
    reactor.with(|log, _| log.note("not started"));
    place.step(&mut reactor);
    let expected = ["not started", "before", "and before", "during", "after", "a call"];
    assert_eq!(reactor.shared().notes, expected);
}

fn d2_triggers_run_before_during_and_after_shutdown(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::echo(), Recorder::new("client"));
    add(&reactor, SystemEvent::Shutdown, Phase::After, |log, cx| {
        assert_eq!(log.lost("client"), [LostReason::Stopped]);
        log.note("after");
        cx.call_soon(|log, _| log.note("never"));
    });
    for (phase, note) in [(Phase::Before, "before"), (Phase::During, "during")] {
        add(&reactor, SystemEvent::Shutdown, phase, move |log, cx| {
            assert!(cx.transport(log.made("client").unwrap()).is_some(), "it is still connected");
            log.note(note);
        });
    }
    reactor.with(|_, cx| cx.stop());
    assert!(reactor.turn(Some(Duration::ZERO)).unwrap().stopped, "one turn is enough");
    assert_eq!(reactor.shared().notes, ["before", "during", "after"]);
}

/// A host finishes its work in a stage, and says goodbye over a connection, before it goes.
fn d2_a_trigger_before_shutdown_may_hold_it_back(place: &impl Place) {
    let mut reactor = place.reactor();
    join(place, &mut reactor, Recorder::echo(), Recorder::new("client"));
    add(&reactor, SystemEvent::Shutdown, Phase::Before, |_, cx| {
        let stage = cx.start_stage(StageConfig { name: "last", threads: 1, bound: 1 }).unwrap();
        let hold = cx.hold_shutdown();
        let then = move |log: &mut Log, cx: &mut Context<Log>, _| {
            log.note("work is done");
            cx.transport(log.made("client").unwrap()).unwrap().write(b"goodbye");
            release_when_heard(log, cx, hold);
        };
        cx.defer_to_stage(stage, || (), then).unwrap();
    });
    add(&reactor, SystemEvent::Shutdown, Phase::During, |log, _| log.note("during"));
    reactor.handle().stop();
    while !reactor.is_stopped() {
        place.step(&mut reactor);
    }
    assert_eq!(reactor.shared().notes, ["work is done", "during"]);
}

fn d2_a_shutdown_that_is_held_back_for_too_long_goes_on(place: &impl Place) {
    let mut reactor = place.reactor();
    let held = reactor.with(|_, cx| {
        cx.set_shutdown_limit(Duration::from_millis(20));
        cx.stop();
        cx.hold_shutdown()
    });
    add(&reactor, SystemEvent::Shutdown, Phase::During, |log, _| log.note("during"));
    a_few_turns(&mut reactor);
    assert!(reactor.shared().notes.is_empty());
    // Asking again neither hurries it nor gives it more time.
    reactor.handle().stop();
    while !reactor.is_stopped() {
        place.step(&mut reactor);
    }
    assert_eq!(reactor.shared().notes, ["during"]);
    drop(held);
}

fn d2_a_hold_that_is_let_go_in_time_costs_nothing(place: &impl Place) {
    let mut reactor = place.reactor();
    let hold: Hold = reactor.with(|_, cx| cx.hold_shutdown());
    a_few_turns(&mut reactor);
    drop(hold);
    reactor.with(|_, cx| cx.stop());
    assert!(reactor.turn(Some(Duration::ZERO)).unwrap().stopped);
}

fn d2_a_trigger_that_was_removed_does_not_run(place: &impl Place) {
    let mut reactor = place.reactor();
    let add = |phase| {
        reactor.handle().add_trigger(SystemEvent::Startup, phase, |log, _| log.note("never"))
    };
    let (first, second) = (add(Phase::Before), add(Phase::After));
    assert!(reactor.handle().remove_trigger(first));
    assert!(!reactor.handle().remove_trigger(first));
    let remove = move |_: &mut Log, cx: &mut Context<Log>| assert!(cx.remove_trigger(second));
    reactor.handle().add_trigger(SystemEvent::Startup, Phase::During, remove);
    a_few_turns(&mut reactor);
    assert!(reactor.shared().notes.is_empty());
    assert!(!reactor.handle().remove_trigger(second));
}

fn d2_a_trigger_may_add_others_to_its_own_phase_and_to_later_ones(place: &impl Place) {
    let mut reactor = place.reactor();
    add(&reactor, SystemEvent::Shutdown, Phase::During, |_, cx| {
        cx.add_trigger(SystemEvent::Shutdown, Phase::After, |log, _| log.note("later"));
        cx.add_trigger(SystemEvent::Shutdown, Phase::During, |log, _| log.note("at once"));
        cx.add_trigger(SystemEvent::Shutdown, Phase::Before, |log, _| log.note("next time"));
        cx.stop();
    });
    reactor.with(|_, cx| cx.stop());
    assert!(reactor.turn(Some(Duration::ZERO)).unwrap().stopped);
    assert_eq!(reactor.shared().notes, ["at once", "later"]);
    reactor.restart();
    reactor.with(|_, cx| cx.stop());
    assert!(reactor.turn(Some(Duration::ZERO)).unwrap().stopped);
    assert_eq!(reactor.shared().notes, ["at once", "later", "next time"]);
}

fn d2_triggers_run_once_for_each_start_and_stop(place: &impl Place) {
    let mut reactor = place.reactor();
    for round in 1..=3 {
        add(&reactor, SystemEvent::Startup, Phase::During, |log, _| log.note("up"));
        add(&reactor, SystemEvent::Shutdown, Phase::During, |log, _| log.note("down"));
        a_few_turns(&mut reactor);
        reactor.with(|_, cx| cx.stop());
        assert!(reactor.turn(Some(Duration::ZERO)).unwrap().stopped);
        assert_eq!(reactor.shared().notes, ["up", "down"].repeat(round));
        reactor.restart();
    }
}

fn d2_triggers_of_a_reactor_that_is_gone_are_dropped(place: &impl Place) {
    let reactor = place.reactor();
    let handle = reactor.handle();
    let add = || {
        let (sender, deferred) = handle.deferred::<()>();
        handle.add_trigger(SystemEvent::Shutdown, Phase::After, move |_, _| sender.send(()));
        deferred
    };
    let before = add();
    drop(reactor);
    assert_eq!(before.wait(), Err(WaitError::Dropped));
    assert_eq!(add().wait(), Err(WaitError::Dropped));
}

#[test]
fn d2_triggers_are_added_from_any_thread_and_a_hold_is_dropped_on_any() {
    let thread = ReactorThread::new("triggers", Mio.reactor());
    let handle = thread.handle();
    let (tell, told) = crossbeam_channel::bounded(1);
    let hold_back =
        move |_: &mut Log, cx: &mut Context<Log>| tell.send(cx.hold_shutdown()).unwrap();
    let adding = handle.clone();
    let add = move || adding.add_trigger(SystemEvent::Shutdown, Phase::Before, hold_back);
    thread::Builder::new().spawn(add).unwrap().join().unwrap();
    thread.start().unwrap();
    handle.stop();
    let hold = told.recv().unwrap();
    // Whoever still has work to do can do it.
    assert_eq!(handle.ask(|_, _| 7).wait(), Ok(7));
    drop(hold);
    thread.join(Some(Duration::from_secs(10))).unwrap();
}

/// Lets go when the other side has got the goodbye.
fn release_when_heard(log: &mut Log, cx: &mut Context<Log>, hold: Hold) {
    if log.data("server") == b"goodbye" {
        return drop(hold);
    }
    cx.call_later(Duration::from_millis(1), |log, cx| release_when_heard(log, cx, hold));
}

fn add(
    reactor: &Reactor<Log>,
    event: SystemEvent,
    phase: Phase,
    f: impl FnOnce(&mut Log, &mut Context<Log>) + Send + 'static,
) {
    reactor.handle().add_trigger(event, phase, f);
}
