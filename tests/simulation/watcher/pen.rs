//! The watcher's own transactions. One whose answer was lost it sends again, under the same name
//! and without a question; the protocol promises that it is committed once.

use bytes::Bytes;
use zeo_proto::{Begin, Call, ClientMessage, Failure, Oid, Store, Tid, TxnId, TxnMeta, TxnNumber};
use zeo_reactor::{ConnId, Context};

use crate::record::{Attempt, Fate, Record};

use super::{Watcher, send};

/// What the watcher writes, one transaction after the other.
pub(super) struct Pen {
    left: u32,
    letter: Option<Letter>,
    last: TxnNumber,
    /// The serials of its objects, which nobody else writes.
    serials: [Option<Tid>; OBJECTS],
    fates: Vec<(Attempt, Fate)>,
}

/// A transaction that has no answer.
struct Letter {
    id: TxnId,
    attempt: Attempt,
}

impl Default for Pen {
    fn default() -> Self {
        let serials = [Some(Tid::ZERO); OBJECTS];
        Self { left: LETTERS, letter: None, last: 0, serials, fates: Vec::new() }
    }
}

impl Pen {
    pub(super) fn is_at_rest(&self) -> bool {
        self.letter.is_none()
    }

    pub(super) fn tell(&mut self, record: &mut Record) {
        if let Some(letter) = self.letter.take() {
            self.fates.push((letter.attempt, Fate::Unknown));
        }
        for (attempt, fate) in self.fates.drain(..) {
            record.ended(attempt, fate);
        }
    }

    fn end(&mut self, fate: Fate) {
        let letter = self.letter.take().expect("something was sent");
        self.fates.push((letter.attempt, fate));
    }
}

impl Watcher {
    /// Begins another transaction, if none is under way and any are left.
    pub(super) fn write(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if self.pen.letter.is_some() || self.pen.left == 0 {
            return;
        }
        self.pen.left -= 1;
        let name = format!("the watcher's, {} left", self.pen.left);
        let mut attempt = Attempt::new(name.clone(), self.heard().last());
        for (oid, serial) in oids().zip(self.pen.serials) {
            attempt.stores.insert(oid, Bytes::from(name.clone()));
            attempt.bases.insert(oid, serial);
        }
        let id = u128::from(cx.random()) << 64 | u128::from(cx.random());
        self.pen.letter = Some(Letter { id: TxnId::from_bytes(id.to_be_bytes()), attempt });
        self.write_again(cx, conn);
    }

    /// Sends what has no answer.
    pub(super) fn write_again(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        let Some(Letter { id, attempt }) = &self.pen.letter else { return };
        self.pen.last += 1;
        let number = self.pen.last;
        let (id, snapshot, meta) = (*id, attempt.snapshot, TxnMeta::default());
        send(cx, conn, &ClientMessage::TpcBegin(number, Begin { id, snapshot, meta }), &[]);
        for (&oid, data) in &attempt.stores {
            let store = Store { oid, serial: attempt.bases[&oid], refs: None };
            send(cx, conn, &ClientMessage::Store(number, store), data);
        }
        self.call(cx, conn, Call::TpcVote(number, true));
    }

    /// The answer tells of the commit, unless it had happened before this connection.
    pub(super) fn finished(&mut self, tid: Tid) {
        self.pen.end(Fate::Committed(tid));
        self.pen.serials = [Some(tid); OBJECTS];
        if tid > self.heard().last() {
            self.heard().add(tid, oids());
        }
    }

    /// Some refusals are for good. After the others it is sent again with the next connection.
    pub(super) fn refused(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Conflict(_) | Failure::Fenced | Failure::DiskFull) {
            self.pen.end(Fate::NotCommitted);
        }
    }
}

pub(super) fn oids() -> impl Iterator<Item = Oid> {
    (FIRST..).take(OBJECTS).map(Oid::new)
}

const FIRST: u64 = 601;
const OBJECTS: usize = 2;
/// How many it writes in a life.
const LETTERS: u32 = 20;
