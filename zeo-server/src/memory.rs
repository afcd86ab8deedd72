//! What all connections hold in the server's memory together, and what happens when it is too much.
//!
//! Each connection has bounds of its own, but ten thousand times these are more than there is. So
//! what it holds is kept in one ledger: messages that have arrived in part, output that its peer
//! does not take in, loads that wait in its lane, transactions that gather. Up to half of
//! [`session_bytes`](crate::Limits::session_bytes) nobody notices. Beyond that, who holds more than
//! the others and takes more yet is not read any further, and if that does not help in time, the
//! one with most is closed; beyond the whole it is closed at once. Its client verifies its cache
//! when it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zeo_proto::Goodbye;
use zeo_reactor::{ConnId, Context, TimerId};

use crate::load::CONGESTED;
use crate::server::Server;

/// The ledger: who holds how much.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    held: BTreeMap<ConnId, Parts>,
    /// The same, by the sum of the parts.
    by_size: BTreeSet<(usize, ConnId)>,
    total: usize,
    /// Not read until there is room again.
    held_back: BTreeSet<ConnId>,
    /// Looks after them; and how often it has since they are any.
    looking: Option<TimerId>,
    looks: u32,
}

/// What a connection holds memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Messages that have arrived and are not understood yet.
    Input,
    /// What its peer has not taken in.
    Output,
    /// Its lane.
    Loads,
    /// Transactions from their begin to their answer.
    Transactions,
}

type Parts = [usize; 4];

/// A figure that is told in steps of [`HELD_STEP`], so that most of its changes cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Told(usize);

impl Told {
    /// What is to be told now, in bytes, if that is another step.
    pub(crate) fn anew(&mut self, bytes: usize) -> Option<usize> {
        let bytes = bytes / HELD_STEP * HELD_STEP;
        (bytes != core::mem::replace(&mut self.0, bytes)).then_some(bytes)
    }
}

impl Memory {
    /// Bytes that all connections hold.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether a connection is not to be read, because all of them hold too much.
    pub(crate) fn holds_back(&self, conn: ConnId) -> bool {
        self.held_back.contains(&conn)
    }

    /// Notes what a connection holds now for one purpose, in bytes.
    fn set(&mut self, conn: ConnId, part: Part, bytes: usize) {
        let mut parts = self.held.get(&conn).copied().unwrap_or_default();
        let before = sum(&parts);
        if let Some(place) = parts.get_mut(part as usize) {
            *place = bytes;
        }
        self.replace(conn, before, parts);
    }

    /// Forgets what a connection holds.
    fn forget(&mut self, conn: ConnId) {
        let before = self.held_by(conn);
        self.replace(conn, before, Parts::default());
    }

    fn replace(&mut self, conn: ConnId, before: usize, parts: Parts) {
        let after = sum(&parts);
        self.by_size.remove(&(before, conn));
        if after == 0 {
            self.held.remove(&conn);
        } else {
            self.held.insert(conn, parts);
            self.by_size.insert((after, conn));
        }
        self.total = self.total - before + after;
    }

    fn held_by(&self, conn: ConnId) -> usize {
        self.held.get(&conn).map_or(0, sum)
    }

    /// What a connection holds for one purpose, in bytes.
    pub(crate) fn part(&self, conn: ConnId, part: Part) -> usize {
        self.held.get(&conn).and_then(|parts| parts.get(part as usize)).copied().unwrap_or_default()
    }

    /// Those that hold anything, who holds most first.
    pub(crate) fn by_size(&self) -> impl Iterator<Item = ConnId> {
        self.by_size.iter().rev().map(|&(_, conn)| conn)
    }

    fn largest(&self) -> Option<ConnId> {
        self.by_size().next()
    }

    /// Whether a connection holds more than the mean of those that hold anything. Never all of
    /// them do, so some are read and may give back what they hold.
    fn is_above_mean(&self, conn: ConnId) -> bool {
        self.held_by(conn).saturating_mul(self.held.len()) > self.total
    }
}

impl Server {
    /// A connection holds more, or less, than before.
    pub(crate) fn holds(&mut self, cx: &mut Context<Self>, conn: ConnId, part: Part, bytes: usize) {
        self.memory.set(conn, part, bytes);
        let max = self.limits.session_bytes;
        while self.memory.total > max && self.close_largest(cx) {}
        if self.memory.total > max / 2 {
            self.hold_back(cx, conn);
        } else if self.memory.total <= max / 8 * 3 {
            self.read_on(cx);
        }
    }

    /// The transactions of a session hold more or less than when those of all held `before`.
    pub(crate) fn buffered(&mut self, cx: &mut Context<Self>, conn: ConnId, before: u64) {
        if self.buffered_bytes == before {
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.buffered = (session.buffered + self.buffered_bytes).saturating_sub(before);
        let bytes = usize::try_from(session.buffered).unwrap_or(usize::MAX);
        if let Some(bytes) = session.buffered_told.anew(bytes) {
            self.holds(cx, conn, Part::Transactions, bytes);
        }
    }

    /// A connection is gone.
    pub(crate) fn holds_nothing(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        self.memory.held_back.remove(&conn);
        if self.memory.held_by(conn) > 0 {
            self.memory.forget(conn);
            self.holds(cx, conn, Part::Input, 0);
        }
    }

    fn hold_back(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if !self.memory.is_above_mean(conn) || !self.memory.held_back.insert(conn) {
            return;
        }
        self.regulate(cx, conn);
        if self.memory.looking.is_none() {
            self.memory.looks = 0;
            self.memory.looking = Some(cx.call_later(LOOK_AGAIN, Self::look_after_held_back));
        }
    }

    fn read_on(&mut self, cx: &mut Context<Self>) {
        if let Some(timer) = self.memory.looking.take() {
            cx.cancel(timer);
        }
        for conn in core::mem::take(&mut self.memory.held_back) {
            self.regulate(cx, conn);
        }
    }

    /// Reads on who holds no more than the others by now. When that has not helped for long, the
    /// largest goes.
    fn look_after_held_back(&mut self, cx: &mut Context<Self>) {
        self.memory.looking = Some(cx.call_later(LOOK_AGAIN, Self::look_after_held_back));
        self.memory.looks += 1;
        let held_back = self.memory.held_back.iter().copied();
        let eased: Vec<_> = held_back.filter(|&conn| !self.memory.is_above_mean(conn)).collect();
        for conn in eased {
            self.memory.held_back.remove(&conn);
            self.regulate(cx, conn);
        }
        if self.memory.held_back.is_empty() {
            return self.read_on(cx);
        }
        if self.memory.looks.is_multiple_of(LOOKS) {
            self.close_largest(cx);
        }
    }

    /// Closes the connection that holds most; whether there is one. What it holds counts no more,
    /// because its output is let go now, and the rest within turns.
    fn close_largest(&mut self, cx: &mut Context<Self>) -> bool {
        let Some(conn) = self.memory.largest() else { return false };
        let held = self.memory.held_by(conn);
        self.complain(cx, conn, format_args!("all together hold too much, this one {held} bytes"));
        self.memory.forget(conn);
        let reads = cx.transport(conn).is_some_and(|transport| transport.output_len() < CONGESTED);
        if reads {
            let why = "all sessions together take too much memory, and this one takes most";
            self.dismiss(cx, conn, Goodbye::TookTooLong(why.to_owned()));
        } else {
            // It would take its time to read the reason, and all that comes before that.
            self.abort(cx, conn, "took too much memory");
        }
        true
    }
}

fn sum(parts: &Parts) -> usize {
    parts.iter().sum()
}

/// What is counted at once; less than that in one part is not counted.
pub(crate) const HELD_STEP: usize = 8 << 10;
/// How often those that are held back are looked after, and after how many times without room the
/// largest goes: 10 s.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOKS: u32 = 10;
