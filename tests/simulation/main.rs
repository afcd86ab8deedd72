//! Whole systems on one thread under virtual time: a server on a journal over a simulated disk,
//! clients that come and go, links that break, power that fails, all from one seed.
//!
//! A seed says everything: which workloads, which faults, when. A failure prints its seed, the
//! last lines of its trace, and the command that runs it again. `tests/simulate` runs many.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod annex;
mod archive;
mod commit;
mod courier;
mod errand;
mod guest;
mod history;
mod lawless;
mod life;
mod listener;
mod many;
mod misfortune;
mod model;
mod noticed;
mod plan;
mod quiet;
mod record;
mod rules;
mod seeds;
mod system;
mod task;
mod trace;
mod undone;
mod watcher;
mod workload;
