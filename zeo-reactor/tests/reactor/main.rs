//! The reactor from outside, on the simulated driver and on the real one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests pick out what they look for")]

mod connections;
mod deferreds;
mod fairness;
mod guest;
mod kit;
mod reconnecting;
mod simulation;
mod stages;
mod stopping;
mod threads;
mod triggers;
mod turns;
