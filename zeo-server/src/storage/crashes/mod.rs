//! Misfortunes at any moment, over the simulated disk: what was acknowledged is there afterwards,
//! whole; what was not is wholly there or absent; nothing is damaged.
//!
//! A failure names its seed; `ZEO_SEED=N cargo test -p zeo-server --lib crashes` runs that one
//! again. `ZEO_SEEDS=N` runs N seeds.

mod every_step;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::disk::SimDisk;
use world::World;

#[test]
fn acknowledged_commits_survive_any_misfortune() {
    for seed in seeds(1) {
        named(seed, "", || World::new(seed).run());
    }
}

#[test]
fn leaving_out_the_sync_is_noticed() {
    assert_noticed(SimDisk::ignore_syncs);
}

/// A segment's file is there after a power cut only if its directory was synced before the first
/// commit in it was acknowledged.
#[test]
fn leaving_out_the_sync_of_the_directory_is_noticed() {
    assert_noticed(SimDisk::ignore_dir_syncs);
}

#[test]
fn the_same_seed_has_the_same_history() {
    for seed in 0..5 {
        assert_eq!(World::new(seed).run(), World::new(seed).run());
    }
}

/// On a disk that has been spoiled like that, most seeds must fail.
fn assert_noticed(spoil: impl Fn(&SimDisk)) {
    let fails = |&seed: &u64| {
        let world = World::new(seed);
        spoil(&world.disk);
        catch_unwind(AssertUnwindSafe(|| world.run())).is_err()
    };
    let noticed = (0..40).filter(fails).count();
    assert!(noticed > 25, "only {noticed} of 40 seeds noticed");
}

/// The seeds to try: that of `ZEO_SEED`, or one in `share` of as many as `ZEO_SEEDS` says.
fn seeds(share: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let all = number("ZEO_SEEDS").unwrap_or(SEEDS);
    number("ZEO_SEED").map_or_else(|| 0..all.div_ceil(share), |seed| seed..seed + 1)
}

/// Does something of which a failure names the seed.
fn named<T>(seed: u64, detail: &str, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let again = "cargo test -p zeo-server --lib crashes";
        eprint(&format!("seed {seed} fails{detail}: ZEO_SEED={seed} {again}"));
        resume_unwind(panic)
    })
}

#[expect(clippy::print_stderr, reason = "the seed is what somebody who reads a failure needs")]
fn eprint(line: &str) {
    eprintln!("{line}");
}

const SEEDS: u64 = 250;
