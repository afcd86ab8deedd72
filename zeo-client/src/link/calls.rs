//! What was asked on the present connection and not answered yet, and whether the server still
//! lives.
//!
//! A server that was not heard for [`HEARTBEAT`] is pinged, also when nothing is in flight: a
//! machine that is gone says no goodbye, and a client that only listens would believe its cache for
//! ever. If nothing is heard for as long again, the connection is given up. There is one timer per
//! connection, and what is heard does not touch it: when it runs, it is set to where it belongs.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use zeo_proto::{Call, CallId, ClientMessage, Oid, Tid, TxnId, encode, encode_head};
use zeo_reactor::{Time, TimerId};

use crate::shared::Counters;

use super::load_many::Page;
use super::{Cx, State};

/// The calls in flight on the present connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    asked: BTreeMap<CallId, Asked>,
    last: CallId,
    /// Reused for every message.
    scratch: Vec<u8>,
    /// Bytes written on the present connection.
    written: usize,
    quiet: Quiet,
}

/// Who asked: where in the tables the answer belongs.
#[derive(Debug)]
pub(super) enum Asked {
    Load((Oid, Tid)),
    LoadMany(Page),
    NewOids,
    Ping(u64),
    LastTid(u64),
    Outcome(u64),
    Size(u64),
    /// A page of history or of objects; one at a time.
    Browse,
    /// The outcome of one of our own commits, and the name that it was sent under.
    Resolve(u64, TxnId),
    /// A vote, or the finish of what was voted on.
    Vote(u64),
    CatchUp,
    Heartbeat,
}

/// How long the server has been silent.
#[derive(Debug, Default)]
struct Quiet {
    timer: Option<TimerId>,
    /// When it was last heard.
    heard: Time,
    /// It was pinged, and not heard since.
    pinged: Option<Pinged>,
}

/// A ping leaves only after the output before it, which is no sign of death if it takes long: a
/// system that takes more of it has a peer that reads.
#[derive(Debug, Clone, Copy)]
struct Pinged {
    /// Where in the output of this connection the ping is.
    at: usize,
    /// How far the output up to there had left when it was last looked at.
    left: usize,
}

#[cfg(feature = "sim")]
impl Calls {
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }
}

impl State {
    /// Sends a call. Without a connection nothing happens: what is to be asked is in a table.
    pub(super) fn call(&mut self, cx: &mut Cx, asked: Asked, call: Call) -> CallId {
        self.calls.last += 1;
        let number = self.calls.last;
        self.calls.asked.insert(number, asked);
        self.send(cx, &ClientMessage::Call(number, call));
        cx.set_busy(true);
        number
    }

    /// Takes a call out of those in flight, because its answer came.
    pub(super) fn answered(&mut self, cx: &mut Cx, call: CallId) -> Option<Asked> {
        let asked = self.calls.asked.remove(&call);
        if self.is_idle() {
            cx.set_busy(false);
        }
        Counters::count(&self.shared.counters.round_trips);
        asked
    }

    /// Whether nothing is expected of the server.
    fn is_idle(&self) -> bool {
        self.calls.asked.is_empty() && !self.commits.is_feeding()
    }

    /// Puts a call back, because more pages of its answer follow.
    pub(super) fn unanswered(&mut self, cx: &mut Cx, call: CallId, asked: Asked) {
        self.calls.asked.insert(call, asked);
        cx.set_busy(true);
    }

    /// Forgets what was asked: its connection is gone.
    pub(super) fn forget_calls(&mut self, cx: &mut Cx) {
        self.calls.asked.clear();
        self.calls.written = 0;
        self.stop_watching(cx);
        cx.set_busy(false);
    }

    /// Sends a message without a tail.
    pub(super) fn send(&mut self, cx: &mut Cx, message: &ClientMessage) {
        self.write(cx, message, None);
    }

    /// Sends a message and its object's data, which is not copied when it is large.
    pub(super) fn send_data(&mut self, cx: &mut Cx, message: &ClientMessage, data: Bytes) {
        self.write(cx, message, Some(data));
    }

    fn write(&mut self, cx: &mut Cx, message: &ClientMessage, data: Option<Bytes>) {
        let Some(transport) = self.conn().and_then(|conn| cx.transport(conn)) else { return };
        let scratch = &mut self.calls.scratch;
        scratch.clear();
        let encoded = match &data {
            None => encode(message, &[], scratch),
            Some(data) => encode_head(message, data.len(), scratch),
        };
        encoded.expect("callers check every bound before they queue a message");
        self.calls.written += scratch.len() + data.as_ref().map_or(0, Bytes::len);
        transport.write(scratch);
        if let Some(data) = data {
            transport.write_bytes(data);
        }
    }

    /// Something came from the server: it lives.
    pub(super) fn heard(&mut self, cx: &Cx) {
        self.calls.quiet.heard = cx.now();
        self.calls.quiet.pinged = None;
    }

    /// From now on a silent server is noticed, until the connection ends.
    pub(super) fn watch(&mut self, cx: &mut Cx) {
        self.heard(cx);
        self.look_after(cx, HEARTBEAT);
    }

    fn look_after(&mut self, cx: &mut Cx, time: Duration) {
        self.calls.quiet.timer = Some(cx.call_later(time, Self::check_quiet));
    }

    fn stop_watching(&mut self, cx: &mut Cx) {
        if let Some(timer) = std::mem::take(&mut self.calls.quiet).timer {
            cx.cancel(timer);
        }
    }

    fn check_quiet(&mut self, cx: &mut Cx) {
        let due = self.calls.quiet.heard + HEARTBEAT;
        if due > cx.now() {
            return self.look_after(cx, due - cx.now());
        }
        match self.calls.quiet.pinged {
            None => self.ping_silent(cx),
            Some(pinged) if self.left(cx, pinged.at) > pinged.left => self.pinged(cx, pinged.at),
            Some(_) => self.give_up(cx, "the server does not answer"),
        }
    }

    fn ping_silent(&mut self, cx: &mut Cx) {
        let at = self.calls.written;
        self.pinged(cx, at);
        self.call(cx, Asked::Heartbeat, Call::Ping);
    }

    fn pinged(&mut self, cx: &mut Cx, at: usize) {
        self.calls.quiet.pinged = Some(Pinged { at, left: self.left(cx, at) });
        self.look_after(cx, HEARTBEAT);
    }

    /// How much of the first `at` bytes of output the system has taken.
    fn left(&self, cx: &mut Cx, at: usize) -> usize {
        let waiting = self.conn().and_then(|conn| cx.transport(conn)).map_or(0, |t| t.output_len());
        self.calls.written.saturating_sub(waiting).min(at)
    }
}

/// How long a server may say nothing before it is pinged, and then until it is given up.
const HEARTBEAT: Duration = Duration::from_secs(30);
