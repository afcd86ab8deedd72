//! One misfortune at each step in turn of a life that is always the same: opening, commits,
//! reservations, preparing segments, indexing, checkpoints, closing, recovery.

use super::world::World;
use super::{named, seeds};
use crate::storage::OpenError;

#[test]
fn a_change_to_the_disk_may_fail_at_any_step() {
    at_every_step(|world, step| world.disk.fail_change_in(step));
}

#[test]
fn the_disk_may_be_full_from_any_step_on() {
    at_every_step(|world, step| world.disk.fill_up_in(step));
}

#[test]
fn the_power_may_fail_at_any_step() {
    at_every_step(|world, step| world.disk.cut_power_in(step + 1));
}

#[test]
fn the_index_may_fail_at_any_step() {
    at_every_step(|world, step| world.index.fail_change_in(step));
}

/// What cannot be read must not be taken for the end of the journal.
#[test]
fn a_read_that_fails_keeps_the_storage_from_opening() {
    for lives in 1..=3 {
        let reads = (0..MOST_STEPS).find(|&read| !a_failed_read_is_an_error(lives, read));
        assert!(reads > Some(5), "{reads:?}");
    }
}

/// Whether opening the storage after that many lives makes so many reads.
fn a_failed_read_is_an_error(lives: u64, read: u64) -> bool {
    let mut world = World::new(3);
    for life in 0..lives {
        world.live_by_script(life);
    }
    world.disk.fail_read_in(read);
    let opened = world.open();
    let came = !world.disk.is_waiting_to_fail();
    assert_eq!(matches!(opened, Err(OpenError::Io { .. })), came, "{read}: {opened:?}");
    drop(opened);
    world.disk.forgive();
    let storage = world.open().unwrap();
    world.settle(&storage);
    came
}

/// Has a misfortune come at every step for which there is one, with and without a power cut at
/// the end.
fn at_every_step(order: impl Fn(&World, u64)) {
    for seed in seeds(SEEDS_PER_LIFE) {
        for power_fails_at_the_end in [false, true] {
            let comes = |step| {
                let world = World::new(seed);
                order(&world, step);
                world.run_script(power_fails_at_the_end)
            };
            let steps = (0..MOST_STEPS)
                .find(|&step| !named(seed, &format!(" at step {step}"), || comes(step)));
            assert!(steps > Some(60), "only {steps:?} steps");
        }
    }
}

/// One life has hundreds of steps, so fewer of them are tried.
const SEEDS_PER_LIFE: u64 = 250;
/// More steps than there are.
const MOST_STEPS: u64 = 10_000;
