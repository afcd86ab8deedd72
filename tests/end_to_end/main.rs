//! The real daemon, real processes, real files.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and these measure time"
)]

mod bank;
mod crash;
mod crowd;
mod daemon;
mod deploying;
mod hostile;
mod large;
mod logging;
mod lost_answers;
mod operating;
mod partly;
mod proxy;
mod two_processes;
