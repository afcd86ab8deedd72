//! What was asked on the present connection and not answered yet, and whether the server still
//! lives.
//!
//! While something is in flight, a server that says nothing for [`QUIET_MAX`] is pinged; if it says
//! nothing for as long again, the connection is given up. An idle connection has no timer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use zeo_proto::{Call, CallId, ClientMessage, Oid, Tid, TxnId, encode, encode_head};
use zeo_reactor::TimerId;

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
    /// The outcome of one of our own commits, and the name that it was sent under.
    Resolve(u64, TxnId),
    Vote(u64),
    CatchUp,
    Heartbeat,
}

/// Whether anything was heard since the timer was last set.
#[derive(Debug, Default)]
struct Quiet {
    timer: Option<TimerId>,
    heard: bool,
    pinged: bool,
}

impl Calls {
    pub(super) fn heard(&mut self) {
        self.quiet.heard = true;
    }
}

impl State {
    /// Sends a call. Without a connection nothing happens: what is to be asked is in a table.
    pub(super) fn call(&mut self, cx: &mut Cx, asked: Asked, call: Call) -> CallId {
        self.calls.last += 1;
        let number = self.calls.last;
        self.calls.asked.insert(number, asked);
        self.send(cx, &ClientMessage::Call(number, call));
        self.watch(cx);
        cx.set_busy(true);
        number
    }

    /// Takes a call out of those in flight, because its answer came.
    pub(super) fn answered(&mut self, cx: &mut Cx, call: CallId) -> Option<Asked> {
        let asked = self.calls.asked.remove(&call);
        if self.is_idle() {
            cx.set_busy(false);
            self.stop_watching(cx);
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
        self.watch(cx);
    }

    /// Forgets what was asked: its connection is gone.
    pub(super) fn forget_calls(&mut self, cx: &mut Cx) {
        self.calls.asked.clear();
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
        transport.write(scratch);
        if let Some(data) = data {
            transport.write_bytes(data);
        }
    }

    /// Sets the timer that notices a silent server, unless it is set.
    pub(super) fn watch(&mut self, cx: &mut Cx) {
        if self.calls.quiet.timer.is_none() {
            let timer = cx.call_later(QUIET_MAX, Self::check_quiet);
            self.calls.quiet = Quiet { timer: Some(timer), heard: false, pinged: false };
        }
    }

    fn stop_watching(&mut self, cx: &mut Cx) {
        if let Some(timer) = std::mem::take(&mut self.calls.quiet).timer {
            cx.cancel(timer);
        }
    }

    fn check_quiet(&mut self, cx: &mut Cx) {
        let quiet = std::mem::take(&mut self.calls.quiet);
        if self.is_idle() {
            return;
        }
        if quiet.pinged && !quiet.heard {
            return self.give_up(cx, "the server does not answer");
        }
        self.watch(cx);
        if !quiet.heard {
            self.calls.quiet.pinged = true;
            self.call(cx, Asked::Heartbeat, Call::Ping);
        }
    }
}

/// How long a server may say nothing while it is asked something.
const QUIET_MAX: Duration = Duration::from_secs(30);
