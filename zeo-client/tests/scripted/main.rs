//! The client against a server that says exactly what a script makes it say, in a simulated world.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod browsing;
mod closing;
mod commits;
mod conflicts;
mod connecting;
mod invalidations;
mod loads;
mod oids;
mod outcomes;
mod restoring;
mod scene;
mod together;
mod two_phase;
mod verification;
