//! Tests of the protocol through its public interface.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod corpus;
mod generate;
mod golden;
mod handshake;
mod pair;
mod properties;
mod worked_example;
