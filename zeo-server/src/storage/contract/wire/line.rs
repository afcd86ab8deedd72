//! A server, a client and what is between them, on one thread under a virtual clock.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zeo_proto::{
    Begin, Call, CallId, ClientMessage, Identity, Store, Tid, TxnId, TxnMeta, TxnNumber,
};
use zeo_reactor::sim::World;
use zeo_reactor::{Address, Context, Reactor};

use super::peer::{Answer, Peer};
use crate::storage::{Body, Check, Commit, Operation, Record, Storage};
use crate::{Limits, Server};

/// A server of one storage, and a client that is connected to it.
pub(super) struct Line {
    world: World,
    server: Reactor<Server>,
    peer: Reactor<Peer>,
    /// The time of day at which the server's clock stands, once somebody has set it.
    clock: Option<u64>,
}

impl Line {
    /// Starts both, and waits until the client is welcome.
    pub(super) fn start(seed: u64, storage: Arc<dyn Storage>, limits: Limits) -> Self {
        let world = World::new(seed);
        let address: Address = "10.0.0.1:8100".parse().unwrap();
        let builder = Server::builder().storage("main", storage).limits(limits);
        let (server, _) = builder.listen(address.clone()).build(world.driver(SERVER)).unwrap();
        let peer = Peer::start(&world, &address);
        let mut line = Self { world, server, peer, clock: None };
        line.step_until(|peer| peer.welcome.as_ref().map(|_| ()));
        line
    }

    /// Which database the client was told that this is.
    pub(super) fn identity(&self) -> Identity {
        self.peer.shared().welcome.as_ref().expect("it has been welcomed").identity
    }

    /// Makes the server's clock stand still at that time of day.
    pub(super) fn set_clock(&mut self, unix_micros: u64) {
        self.clock = Some(unix_micros);
    }

    /// Lends the client to somebody who sends.
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&mut Sender<'_, '_>) -> R) -> R {
        self.peer.with(|peer, cx| f(&mut Sender { peer, cx }))
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, call: Call) -> Answer {
        let call = self.with(|sender| sender.ask(call));
        self.answer(call)
    }

    /// Waits for the answer to a call, or for its next page.
    pub(super) fn answer(&mut self, call: CallId) -> Answer {
        self.step_until(|peer| peer.take_answer(call))
    }

    fn step_until<R>(&mut self, mut is_there: impl FnMut(&mut Peer) -> Option<R>) -> R {
        for _ in 0..MOST_STEPS {
            if let Some(result) = is_there(self.peer.shared_mut()) {
                return result;
            }
            if let Some(unix_micros) = self.clock {
                self.world.set_unix_micros(SERVER, unix_micros);
            }
            let goes_on = self.world.step(&mut [&mut self.server, &mut self.peer]).unwrap();
            assert!(goes_on, "nothing more will happen");
        }
        panic!("no answer after {MOST_STEPS} steps");
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("world", &self.world).finish_non_exhaustive()
    }
}

/// A client while it sends: what is sent in one go leaves before anything is answered.
pub(super) struct Sender<'a, 'c> {
    peer: &'a mut Peer,
    cx: &'c mut Context<Peer>,
}

impl Sender<'_, '_> {
    /// Sends a call.
    pub(super) fn ask(&mut self, call: Call) -> CallId {
        self.peer.ask(self.cx, call)
    }

    /// Sends an operation; a commit that `undoes` transactions as what it is.
    pub(super) fn begin(&mut self, operation: Operation, undoes: Option<&[Tid]>) -> CallId {
        match operation {
            Operation::Commit(commit) => self.commit(commit, undoes),
            Operation::Check(check) => self.check(check),
            Operation::ReserveOids(count) => self.ask(Call::NewOids(count.max(1))),
            Operation::Outcome(query) => self.ask(Call::Outcome(query)),
        }
    }

    /// Commits in one round trip; if it undoes transactions, it says so instead of saying what it
    /// writes by that.
    fn commit(&mut self, commit: Commit, undoes: Option<&[Tid]>) -> CallId {
        let Commit { id, snapshot, meta, records, read_current, restore } = commit;
        let number = self.tpc_begin(Begin { id, snapshot, meta });
        match undoes {
            Some(tids) => self.undo(number, tids),
            None => records.into_iter().for_each(|record| self.write(number, record)),
        }
        for (oid, serial) in read_current {
            self.tell(&ClientMessage::ReadCurrent(number, oid, serial));
        }
        if let Some(tid) = restore {
            self.tell(&ClientMessage::Restore(number, tid));
        }
        self.ask(Call::TpcVote(number, true))
    }

    /// Votes, and aborts when the vote is answered.
    fn check(&mut self, check: Check) -> CallId {
        let number = self.tpc_begin(trial(check.snapshot));
        for (oid, serial) in check.writes {
            self.write(number, Record::store(oid, serial, Bytes::new(), None));
        }
        for (oid, serial) in check.read_current {
            self.tell(&ClientMessage::ReadCurrent(number, oid, serial));
        }
        self.peer.try_vote(self.cx, number)
    }

    /// Votes on an undo, and aborts when the vote is answered.
    pub(super) fn try_undo(&mut self, tids: &[Tid]) -> CallId {
        let number = self.tpc_begin(trial(Tid::ZERO));
        self.undo(number, tids);
        self.peer.try_vote(self.cx, number)
    }

    fn tpc_begin(&mut self, begin: Begin) -> TxnNumber {
        let number = self.peer.txn_number();
        self.tell(&ClientMessage::TpcBegin(number, begin));
        number
    }

    fn undo(&mut self, number: TxnNumber, tids: &[Tid]) {
        for &tid in tids {
            self.tell(&ClientMessage::Undo(number, tid));
        }
    }

    fn write(&mut self, number: TxnNumber, Record { oid, serial, body }: Record) {
        let (data, refs) = match body {
            Body::Deleted => {
                let serial = serial.expect("a deletion on the wire says what was read");
                return self.tell(&ClientMessage::Delete(number, oid, serial));
            }
            Body::Held { data, refs } => (data, refs),
            Body::Spilled(spilled) => spilled.read().unwrap(),
        };
        let store = Store { oid, serial, refs };
        self.peer.tell(self.cx, &ClientMessage::Store(number, store), &data);
    }

    fn tell(&mut self, message: &ClientMessage) {
        self.peer.tell(self.cx, message, &[]);
    }
}

/// A transaction that will not be committed.
fn trial(snapshot: Tid) -> Begin {
    Begin { id: TxnId::from_bytes([0xff; 16]), snapshot, meta: TxnMeta::default() }
}

/// What a call is answered with, where nothing else can be.
macro_rules! expect_reply {
    ($answer:expr, $reply:pat => $value:expr) => {
        match $answer {
            Ok(($reply, _)) => $value,
            other => panic!("{other:?}"),
        }
    };
}
pub(super) use expect_reply;

const SERVER: &str = "server";
/// Far more than any answer takes.
const MOST_STEPS: u32 = 10_000_000;
