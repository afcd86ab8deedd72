//! Properties of whole databases: several clients at work at once, held against a model and against
//! the definition of serialisable.
//!
//! Everything runs on one thread under a virtual clock, and each run follows from its seed:
//! `ZEO_SEEDS=N` runs N of them, and a failure names its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod compare;
mod database;
mod graph;
mod model;
mod party;
mod serialisable;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs as many seeds as `ZEO_SEEDS` says, or else so many.
fn for_seeds(usual: u64, run: impl Fn(u64)) {
    let count = std::env::var("ZEO_SEEDS").map_or(usual, |text| text.parse().unwrap());
    for seed in 0..count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            complain(&format!("seed {seed} fails"));
            resume_unwind(panic);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the seed is what somebody who reads a failure needs")]
fn complain(line: &str) {
    eprintln!("{line}");
}
