//! The reactor from outside, on the simulated driver and on the real one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connections;
mod deferreds;
mod kit;
mod simulation;
mod stages;
mod stopping;
mod threads;
mod turns;
