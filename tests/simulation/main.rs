//! Whole systems on one thread under virtual time: a server on a journal over a simulated disk,
//! clients that come and go, links that break, power that fails, all from one seed.
//!
//! A failure names its seed; `ZEO_SEED=N cargo test -p zeo-tests --test simulation replay` runs
//! that one again. `ZEO_SEEDS=N` runs N seeds of each kind of misfortune.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod errand;
mod listener;
mod model;
mod system;
mod task;
mod watcher;

use std::panic::{AssertUnwindSafe, catch_unwind};

use zeo_server::Rules;

use system::{Faults, System};

#[test]
fn loads_and_commits_agree_with_the_model() {
    run_seeds(0, Faults::None);
}

#[test]
fn r6_connections_that_break_cost_nothing() {
    run_seeds(1 << 20, Faults::Links);
}

#[test]
fn servers_and_clients_that_die_cost_nothing_that_was_acknowledged() {
    run_seeds(2 << 20, Faults::Deaths);
}

#[test]
fn the_same_seed_goes_the_same_way() {
    for seed in 30_000..30_005 {
        let [first, second] = [(); 2].map(|()| System::run(seed, Faults::Deaths, Rules::default()));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Runs the seed in `ZEO_SEED`, for looking at a failure.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("ZEO_SEED") else { return };
    let seed = seed.parse().expect("ZEO_SEED is a number");
    for faults in [Faults::None, Faults::Links, Faults::Deaths] {
        System::run(seed, faults, Rules::default());
    }
}

#[test]
fn leaving_out_the_seal_is_noticed() {
    is_noticed(Faults::None, Rules { seal: false, ..Rules::default() });
}

#[test]
fn leaving_out_invalidations_is_noticed() {
    is_noticed(Faults::None, Rules { invalidate: false, ..Rules::default() });
}

#[test]
fn telling_of_a_part_of_a_commit_is_noticed() {
    is_noticed(Faults::None, Rules { whole: false, ..Rules::default() });
}

#[test]
fn leaving_out_the_syncs_is_noticed() {
    is_noticed(Faults::LyingDisk, Rules::default());
}

/// Runs as many seeds as `ZEO_SEEDS` says.
fn run_seeds(first: u64, faults: Faults) {
    let count = std::env::var("ZEO_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    for seed in first..first + count {
        let run = || System::run(seed, faults, Rules::default());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let again = "cargo test -p zeo-tests --test simulation replay";
            eprint(&format!("seed {seed} fails ({faults:?}): ZEO_SEED={seed} {again}"));
            std::panic::resume_unwind(panic);
        }
    }
}

/// With a rule left out, some seed must fail.
fn is_noticed(faults: Faults, rules: Rules) {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let found = (0..SEEDS * 5)
        .find(|&seed| catch_unwind(AssertUnwindSafe(|| System::run(seed, faults, rules))).is_err());
    std::panic::set_hook(quiet);
    assert!(found.is_some(), "nothing was noticed: {faults:?}, {rules:?}");
}

#[expect(clippy::print_stderr, reason = "the seed is what somebody who reads a failure needs")]
fn eprint(line: &str) {
    eprintln!("{line}");
}

const SEEDS: u64 = 100;
