//! What runs when: the order within a turn, timers, calls from other threads.

use std::{thread, time::Duration};

use zeo_reactor::{CallError, Context, MioDriver, Reactor, Time, sim::World};

use crate::kit::{Log, Place, Sim, in_all_places};

in_all_places!(
    b1_work_made_in_a_turn_runs_in_the_next,
    c1_calls_come_before_timers_and_keep_their_order,
    c1_timers_run_in_order_and_equal_ones_as_they_were_set,
    a_call_that_does_not_fit_is_refused,
);

fn b1_work_made_in_a_turn_runs_in_the_next(place: &impl Place) {
    let mut reactor = place.reactor();
    let handle = reactor.handle();
    reactor.with(|_, cx| {
        cx.call_soon(move |log, cx| {
            log.note("first turn");
            cx.call_soon(|log, _| log.note("soon"));
            handle.call_from_thread(|log, _| log.note("from thread")).unwrap();
            cx.call_later(Duration::ZERO, |log, _| log.note("timer"));
        });
    });
    place.step(&mut reactor);
    assert_eq!(reactor.shared().notes, ["first turn"]);
    place.step(&mut reactor);
    assert_eq!(reactor.shared().notes, ["first turn", "soon", "from thread", "timer"]);
}

fn c1_calls_come_before_timers_and_keep_their_order(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        cx.call_later(Duration::ZERO, |log, _| log.note("timer"));
    });
    let handle = reactor.handle();
    handle.call_from_thread(|log, _| log.note("one")).unwrap();
    handle.call_from_thread(|log, _| log.note("two")).unwrap();
    place.step(&mut reactor);
    assert_eq!(reactor.shared().notes, ["one", "two", "timer"]);
}

fn c1_timers_run_in_order_and_equal_ones_as_they_were_set(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let cancelled = note_after(cx, 1, "cancelled");
        let moved = note_after(cx, 1, "moved");
        note_after(cx, 2, "c");
        note_after(cx, 1, "a");
        note_after(cx, 1, "b");
        assert!(cx.cancel(cancelled));
        assert!(!cx.cancel(cancelled));
        assert!(cx.reset(moved, Duration::from_millis(2)));
        assert!(!cx.reset(cancelled, Duration::ZERO));
    });
    place.until(&mut reactor, |log| log.notes.len() >= 4);
    assert_eq!(reactor.shared().notes, ["a", "b", "c", "moved"]);
    assert_eq!(reactor.next_deadline(), None);
}

fn a_call_that_does_not_fit_is_refused(place: &impl Place) {
    let mut reactor = place.reactor();
    let handle = reactor.handle();
    let call = || handle.call_from_thread(|log, _| log.note("ran"));
    for _ in 0..65_536 {
        call().unwrap();
    }
    assert_eq!(call(), Err(CallError::Full));
    place.step(&mut reactor);
    assert_eq!(reactor.shared().notes.len(), 65_536);
    assert_eq!(call(), Ok(()));
}

#[test]
fn time_stands_still_within_a_turn_and_timers_are_never_early() {
    let world = World::new(1);
    let mut reactor = Sim(world.clone()).reactor();
    let started = reactor.with(|_, cx| {
        note_after(cx, 1500, "late");
        cx.now()
    });
    world.run_until_idle(&mut [&mut reactor], Duration::from_secs(9)).unwrap();
    assert_eq!(reactor.shared().at - started, Duration::from_millis(1500));
    assert_eq!(world.now(), reactor.shared().at);
}

#[test]
fn a_flood_of_calls_does_not_keep_a_turn_from_ending() {
    let mut reactor = Reactor::new(MioDriver::new().unwrap(), Log::default());
    let handle = reactor.handle();
    handle.call_from_thread(again).unwrap();
    for turns in 1..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(reactor.shared().notes.len(), turns);
    }
}

#[test]
fn c1_every_call_from_a_thread_wakes_the_sleeper() {
    let mut reactor = Reactor::new(MioDriver::new().unwrap(), 0_usize);
    let handle = reactor.handle();
    let callers = thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        handle.ask(|count, _| *count += 1).wait().unwrap();
                    }
                })
            })
            .collect();
        // Without a limit: a lost wake-up would hang here.
        while *reactor.shared() < 8_000 {
            reactor.turn(None).unwrap();
        }
        callers.len()
    });
    assert_eq!((callers, *reactor.shared()), (4, 8_000));
}

fn note_after(cx: &mut Context<Log>, millis: u64, note: &'static str) -> zeo_reactor::TimerId {
    cx.call_later(Duration::from_millis(millis), move |log, cx| {
        log.note(note);
        assert!(cx.now() > Time::default());
        log.at = cx.now();
    })
}

/// Calls itself as soon as it has been called.
fn again(log: &mut Log, cx: &mut Context<Log>) {
    log.note("again");
    cx.handle().call_from_thread(again).unwrap();
}
