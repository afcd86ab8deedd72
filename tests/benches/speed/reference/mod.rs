//! What the figures are measured against: the same work with nothing but the system.

mod append;
mod channels;
mod echo;
mod ping_pong;

pub(crate) use append::{Append, GroupLog};
pub(crate) use channels::Channels;
pub(crate) use echo::{Echo, serve};
pub(crate) use ping_pong::PingPong;

/// Bytes of a load's call, and of its answer.
const QUESTION: usize = 4 + 4 + 8 + 4 + 16;
const ANSWER: usize = 4 + 4 + 8 + 4 + 4 + 8 + 1 + 4 + crate::store::OBJECT;
