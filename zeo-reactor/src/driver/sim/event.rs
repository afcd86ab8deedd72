//! What is to happen, and when; and the trace of what has happened.

use std::collections::BTreeMap;

use super::{net::HostId, socket::SocketId, stage::PoolId};
use crate::{
    Time,
    driver::{Delivery, Work},
    random::mix,
};

/// Something that the clock brings.
pub(super) enum Event {
    /// The first packet in this socket's outbox arrives.
    Arrival(SocketId),
    /// A connection that its peer knows nothing of is refused.
    Refusal(HostId, SocketId),
    /// Whether the peer of a socket that has no room is still there.
    Probe(SocketId),
    /// A thread of a stage takes its next job.
    Work(PoolId),
    /// A job's result reaches its reactor.
    Delivery(PoolId, Delivery),
}

/// An event that has happened, and what is left to do outside the world's lock.
pub(super) enum Happening {
    Done,
    Work(PoolId, Work),
    Delivery(Delivery),
    /// The stage has ended meanwhile.
    Discarded(Delivery),
}

/// Events by time; those of one instant in the order in which they were added.
#[derive(Default)]
pub(super) struct Events {
    queue: BTreeMap<(Time, u64), Event>,
    added: u64,
}

impl Events {
    pub(super) fn add(&mut self, at: Time, event: Event) {
        self.queue.insert((at, self.added), event);
        self.added += 1;
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The same, without the questions whether a silent peer is still there, which never end.
    pub(super) fn next_but_probes(&self) -> Option<Time> {
        let is_probe = |event: &Event| matches!(event, Event::Probe(_));
        self.queue.iter().find(|(_, event)| !is_probe(event)).map(|((at, _), _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_first().map(|(_, event)| event)
    }
}

/// A hash over everything that has happened, in order.
#[derive(Default)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) fn add(&mut self, number: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ number);
    }

    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01B3;
        let (words, rest) = bytes.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        let numbers = words.chain(rest.iter().map(|byte| u64::from(*byte)));
        let hash = numbers.fold(bytes.len() as u64, |hash, n| (hash ^ n).wrapping_mul(PRIME));
        self.add(hash);
    }

    pub(super) fn hash(&self) -> u64 {
        self.0
    }
}
