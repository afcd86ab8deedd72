//! Stages: work elsewhere, its result here.

use std::{hint, thread, time::Duration};

use crossbeam_channel::bounded;
use zeo_reactor::{Context, JobPanicked, StageConfig, StageFull, sim::World};

use crate::kit::{Log, Mio, Place, Sim, in_all_places};

in_all_places!(
    b2_a_result_comes_back_in_a_later_turn,
    b2_a_panic_fails_only_its_own_job,
    b2_a_full_stage_refuses,
    b2_one_thread_keeps_the_order,
    b2_a_stage_says_how_long_its_jobs_wait,
    b2_a_result_comes_with_what_its_work_took,
);

const ONE_THREAD: StageConfig = StageConfig { name: "stage", threads: 1, bound: 4 };

fn b2_a_result_comes_back_in_a_later_turn(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|log, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        let then = |log: &mut Log, _: &mut _, result| {
            assert_eq!(result, Ok(42));
            log.note("then");
        };
        cx.defer_to_stage(stage, || 42, then).unwrap();
        log.note("submitted");
    });
    place.until(&mut reactor, |log| log.notes == ["submitted", "then"]);
}

fn b2_a_panic_fails_only_its_own_job(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        cx.defer_to_stage(
            stage,
            || panic!("on purpose"),
            |log, _, result: Result<(), _>| {
                assert_eq!(result, Err(JobPanicked("on purpose".to_owned())));
                log.note("panicked");
            },
        )
        .unwrap();
        cx.defer_to_stage(stage, || (), |log, _, _| log.note("fine")).unwrap();
    });
    place.until(&mut reactor, |log| log.notes == ["panicked", "fine"]);
}

fn b2_a_stage_says_how_long_its_jobs_wait(place: &impl Place) {
    let mut reactor = place.reactor();
    let stage = reactor.with(|_, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        for _ in 0..3 {
            cx.defer_to_stage(stage, || (), |log, _, _| log.note("done")).unwrap();
        }
        let report = cx.stage_report(stage).unwrap();
        assert_eq!((report.name, report.jobs, report.bound), ("stage", 3, 4));
        assert_eq!(report.waiting, 3 - usize::try_from(report.begun).unwrap());
        stage
    });
    place.until(&mut reactor, |log| log.notes.len() == 3);
    let report = reactor.with(|_, cx| cx.stage_report(stage)).unwrap();
    assert_eq!((report.jobs, report.waiting, report.begun), (0, 0, 3));
    assert!(report.longest_wait <= report.waited && report.waited <= report.longest_wait * 3);
    assert!(report.longest_wait > Duration::ZERO, "the third waits for the first two");
}

fn b2_a_result_comes_with_what_its_work_took(place: &impl Place) {
    let mut reactor = place.reactor();
    let stage = reactor.with(|_, cx| cx.start_stage(ONE_THREAD).unwrap());
    for number in 1..=3 {
        let before = reactor.with(|_, cx| cx.stage_report(stage)).unwrap().worked;
        let work = || (0..1_000).map(hint::black_box).sum::<u32>();
        let then = move |log: &mut Log, cx: &mut Context<Log>, _| {
            assert!(cx.stage_report(stage).unwrap().worked > before, "it is known by now");
            log.note("done");
        };
        reactor.with(|_, cx| cx.defer_to_stage(stage, work, then)).unwrap();
        place.until(&mut reactor, |log| log.notes.len() == number);
    }
}

fn b2_a_full_stage_refuses(place: &impl Place) {
    let mut reactor = place.reactor();
    let stage = reactor.with(|_, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        for left in (0..4).rev() {
            cx.defer_to_stage(stage, || (), |log, _, _| log.note("done")).unwrap();
            assert_eq!(cx.stage_room(stage), left);
        }
        let result = cx.defer_to_stage(stage, || (), |_, _, _| panic!("must not run"));
        assert_eq!(result, Err(StageFull));
        stage
    });
    place.until(&mut reactor, |log| log.notes.len() == 4);
    reactor.with(|_, cx| assert_eq!(cx.stage_room(stage), 4));
}

fn b2_one_thread_keeps_the_order(place: &impl Place) {
    let mut reactor = place.reactor();
    reactor.with(|_, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        for note in ["a", "b", "c", "d"] {
            cx.defer_to_stage(stage, move || note, |log, _, note| log.note(note.unwrap())).unwrap();
        }
    });
    place.until(&mut reactor, |log| log.notes == ["a", "b", "c", "d"]);
}

#[test]
fn b2_a_stage_has_threads_of_its_own_with_its_name() {
    let mut reactor = Mio.reactor();
    let (sender, receiver) = bounded(2);
    reactor.with(|_, cx| {
        let stage = cx.start_stage(StageConfig { threads: 2, ..ONE_THREAD }).unwrap();
        let (meets, is_met) = bounded(0);
        let work = |name: fn() -> String| {
            let sender = sender.clone();
            move || sender.send(name()).unwrap()
        };
        let (first, second) = (work(thread_name), work(thread_name));
        // Each waits for the other, so that they cannot be one thread.
        let one = move || (meets.send(()).unwrap(), first()).1;
        let other = move || (is_met.recv().unwrap(), second()).1;
        cx.defer_to_stage(stage, one, |log, _, _| log.note("done")).unwrap();
        cx.defer_to_stage(stage, other, |log, _, _| log.note("done")).unwrap();
    });
    Mio.until(&mut reactor, |log| log.notes.len() == 2);
    let mut names: Vec<String> = receiver.try_iter().collect();
    names.sort();
    assert_eq!(names, ["stage-0", "stage-1"]);
}

#[test]
fn b2_in_a_simulation_time_passes_between_the_halves_of_a_job() {
    let world = World::new(7);
    let mut reactor = Sim(world.clone()).reactor();
    let (clock, times) = (world.clone(), bounded(1));
    let sender = times.0.clone();
    reactor.with(|_, cx| {
        let stage = cx.start_stage(ONE_THREAD).unwrap();
        let work = move || sender.send(clock.now()).unwrap();
        cx.defer_to_stage(stage, work, |log, cx, _| log.at = cx.now()).unwrap();
    });
    assert!(world.run_until_idle(&mut [&mut reactor], Duration::from_secs(1)).unwrap());
    let worked = times.1.recv().unwrap();
    assert!(worked > zeo_reactor::Time::default() && reactor.shared().at > worked);
}

fn thread_name() -> String {
    thread::current().name().unwrap().to_owned()
}
