//! One connection as its protocol and its factory see it: output, back-pressure, closing.

use std::{fmt, io, time::Duration};

use bytes::Bytes;

use crate::{Address, arena::Key, output::Output};

/// Names one connection of one reactor. Once the connection is lost it names nothing, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) Key);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// This side asked for it.
    #[error("closed by this side")]
    Closed,
    /// The peer closed it in order.
    #[error("closed by the peer")]
    PeerClosed,
    /// The peer did not read, and the output reached its limit.
    #[error("the peer does not read, and the output is full")]
    OutputFull,
    /// The reactor stopped.
    #[error("the reactor stopped")]
    Stopped,
    /// The socket failed: the kind of error, and its text.
    #[error("{1}")]
    Error(io::ErrorKind, String),
}

impl From<io::Error> for LostReason {
    fn from(error: io::Error) -> Self {
        Self::Error(error.kind(), error.to_string())
    }
}

/// What may be done to one connection. Nothing here blocks, and nothing here calls back: it is
/// recorded, and the turn acts on it.
#[expect(clippy::struct_excessive_bools, reason = "facts that change independently")]
#[derive(Debug)]
pub struct Transport {
    id: ConnId,
    peer: Address,
    pub(crate) output: Output,
    low: usize,
    max: usize,
    pub(crate) linger: Duration,
    paused: bool,
    /// Set by `resume_reading` for the turn, which then drains what was held back.
    pub(crate) resumed: bool,
    /// Set by `yield_turn`: the protocol's next event is handed out in the next turn.
    pub(crate) yields: bool,
    /// The output was above the low-water mark, and the factory has not heard of its fall.
    above_low: bool,
    /// What the factory was last told of the output that is left.
    left_told: usize,
    closing: Closing,
    /// In the reactor's list of connections to look after.
    pub(crate) touched: bool,
    /// In the list of those whose turn has not come yet.
    pub(crate) behind: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    No,
    AfterOutput,
    Now(LostReason),
}

impl Transport {
    pub(crate) fn new(id: ConnId, peer: Address) -> Self {
        Self {
            id,
            peer,
            output: Output::default(),
            low: LOW_DEFAULT,
            max: MAX_DEFAULT,
            linger: LINGER_DEFAULT,
            paused: false,
            resumed: false,
            yields: false,
            above_low: false,
            left_told: 0,
            closing: Closing::No,
            touched: false,
            behind: false,
        }
    }

    /// Sends `data`, which is copied. Ignored when the connection is being closed.
    pub fn write(&mut self, data: &[u8]) {
        if self.accepts(data.len()) {
            self.output.copy(data);
            self.above_low |= self.output.len() > self.low;
        }
    }

    /// Sends `data`, which is not copied when it has 4 KiB or more.
    pub fn write_bytes(&mut self, data: Bytes) {
        if self.accepts(data.len()) {
            self.output.push(data);
            self.above_low |= self.output.len() > self.low;
        }
    }

    /// Closes the connection once the peer has been sent what was written, or after the linger
    /// limit (see [`set_linger`](Self::set_linger)). Nothing more is received.
    pub fn lose_connection(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::AfterOutput;
        }
    }

    /// Discards the output and closes the connection, at the end of this turn or, where many are to
    /// be closed, of one of the next.
    pub fn abort(&mut self) {
        self.close_now(LostReason::Closed);
    }

    /// Stops reading, and draining the protocol's events, until
    /// [`resume_reading`](Self::resume_reading). A paused connection does not notice that its peer
    /// has gone.
    pub fn pause_reading(&mut self) {
        self.paused = true;
        self.resumed = false;
    }

    /// Goes on in the next turn: first with events that were held back, then with reading.
    pub fn resume_reading(&mut self) {
        self.resumed |= self.paused;
        self.paused = false;
    }

    /// Lets the others have their turn before the protocol's next event is handed out: for an event
    /// that took long.
    pub fn yield_turn(&mut self) {
        self.yields = true;
    }

    /// Sets the marks, in bytes, of the output waiting for the peer (by default 256 KiB and
    /// 64 MiB). A fall to `low` is told to [`Factory::output_drained`](crate::Factory); a write
    /// that would pass `max` aborts the connection with [`LostReason::OutputFull`].
    pub fn set_output_limits(&mut self, low: usize, max: usize) {
        self.low = low;
        self.max = max;
    }

    /// Sets how long [`lose_connection`](Self::lose_connection) may take (by default 5 s).
    pub fn set_linger(&mut self, limit: Duration) {
        self.linger = limit;
    }

    /// Bytes written and not yet taken by the system.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Whether reading is paused.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the connection is being closed by this side.
    pub fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    /// The other end.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// The connection's name.
    pub fn id(&self) -> ConnId {
        self.id
    }

    pub(crate) fn close_now(&mut self, reason: LostReason) {
        if !matches!(self.closing, Closing::Now(_)) {
            self.closing = Closing::Now(reason);
            self.output.clear();
        }
    }

    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// Whether the factory must now hear of the output's fall; says so once.
    pub(crate) fn take_drained(&mut self) -> bool {
        let drained = self.above_low && self.output.len() <= self.low;
        self.above_low &= !drained;
        drained && !self.is_closing()
    }

    /// How much output is left at the end of a turn, if the factory must hear of that.
    pub(crate) fn left_anew(&mut self) -> Option<usize> {
        let left = self.output.len();
        (left != std::mem::replace(&mut self.left_told, left)).then_some(left)
    }

    fn accepts(&mut self, more: usize) -> bool {
        if self.is_closing() {
            return false;
        }
        let fits = self.output.len().saturating_add(more) <= self.max;
        if !fits {
            self.close_now(LostReason::OutputFull);
        }
        fits
    }
}

const LOW_DEFAULT: usize = 256 * 1024;
const MAX_DEFAULT: usize = 64 * 1024 * 1024;
const LINGER_DEFAULT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn output_beyond_its_limit_is_discarded_at_once() {
        let mut transport = transport();
        transport.set_output_limits(2, 8);
        transport.write(b"12345678");
        assert_eq!(transport.closing(), &Closing::No);
        transport.write(b"9");
        assert_eq!(transport.closing(), &Closing::Now(LostReason::OutputFull));
        transport.write_bytes(Bytes::from_static(b"ignored"));
        assert_eq!(transport.output_len(), 0);
    }

    #[test]
    fn nothing_is_written_after_lose_connection() {
        let mut transport = transport();
        transport.write(b"goodbye");
        transport.lose_connection();
        transport.write(b"more");
        assert_eq!(transport.output_len(), 7);
    }

    #[test]
    fn the_fall_of_the_output_is_told_once() {
        let mut transport = transport();
        transport.set_output_limits(2, 100);
        transport.write(b"12");
        assert!(!transport.take_drained(), "never was above");
        transport.write(b"3");
        assert!(!transport.take_drained(), "still above");
        transport.output.flush(usize::MAX, |_| Ok(1)).unwrap();
        assert!(transport.take_drained());
        assert!(!transport.take_drained());
    }

    #[test]
    fn the_first_reason_to_end_stays() {
        let mut transport = transport();
        transport.close_now(LostReason::PeerClosed);
        transport.abort();
        transport.lose_connection();
        assert_eq!(transport.closing(), &Closing::Now(LostReason::PeerClosed));
    }

    fn transport() -> Transport {
        Transport::new(ConnId(Arena::<()>::new().next_key()), Address::Unix("peer".into()))
    }
}
