//! The server over real sockets, spoken to by hand.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod bounds;
mod commits;
mod daemon;
mod faulty;
mod history;
mod hostile;
mod loads;
mod order;
mod peer;
mod quotas;
mod read_only;
mod spilling;
mod status;
mod stopping;
mod two_phase;
