//! A second client, as naive as can be: it believes every frame, in the order of the wire, and
//! looks whether what the server promises there holds.
//!
//! The product's client defends itself against a server that breaks these promises, so it cannot
//! show whether they are kept. (PROTOCOL.md, "Ordering".)

mod eye;
mod pen;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use zeo_proto::{
    Call, CallId, ClientMessage, Failure, Loaded, Oid, Reply, ServerMessage, Tid, Validity,
};
use zeo_reactor::sim::World;
use zeo_reactor::{Address, ConnId, ConnectorId, Context, Reactor};

use crate::history::History;
use crate::record::Record;

use eye::Eyes;
use pen::Pen;

/// What the watcher knows.
pub(crate) struct Watcher {
    connector: Option<ConnectorId>,
    /// The objects that it looks at.
    oids: Vec<Oid>,
    /// What it heard on each connection, one after the other.
    heard: Vec<Heard>,
    /// What each call waits for, in the order asked.
    loads: BTreeMap<CallId, VecDeque<Oid>>,
    last_call: CallId,
    loads_left: u32,
    pen: Pen,
}

/// What was heard on one connection.
struct Heard {
    /// The last tid that the welcome named.
    from: Tid,
    /// The commits that it was told of, its own among them.
    tids: Vec<Tid>,
    /// When each object was last said to have changed.
    changed: BTreeMap<Oid, Tid>,
}

impl Heard {
    /// The last commit that was told of.
    fn last(&self) -> Tid {
        self.tids.last().copied().unwrap_or(self.from)
    }

    fn add(&mut self, tid: Tid, oids: impl IntoIterator<Item = Oid>) {
        self.changed.extend(oids.into_iter().map(|oid| (oid, tid)));
        self.tids.push(tid);
    }

    /// What is sent was told before: who believes it does not see half of a commit. And what is
    /// said to be current is.
    fn check(&self, oid: Oid, validity: Validity) {
        let Validity { serial, end } = validity;
        let newest = end.unwrap_or(serial).max(serial);
        assert!(newest <= self.last(), "{oid}: {validity:?}, before {newest} was told of");
        let changed = self.changed.get(&oid).copied();
        assert!(
            end.is_some() || changed.is_none_or(|tid| tid <= serial),
            "{oid} of {serial} is said to be current, but was changed at {changed:?}"
        );
    }
}

impl Watcher {
    /// A watcher on its own host, which connects at once.
    pub(crate) fn start(world: &World, address: &Address, oids: Vec<Oid>) -> Reactor<Self> {
        let mut reactor = Reactor::new(world.driver(HOST), Self::new(oids));
        reactor.with(|watcher, cx| {
            let connector = cx.connector(Eyes { address: address.clone() });
            watcher.connector = Some(connector);
            cx.connect_with(connector, address);
        });
        reactor
    }

    fn new(oids: Vec<Oid>) -> Self {
        Self {
            connector: None,
            oids,
            heard: Vec::new(),
            loads: BTreeMap::new(),
            last_call: 0,
            loads_left: LOADS,
            pen: Pen::default(),
        }
    }

    /// The objects that it writes itself.
    pub(crate) fn own_oids() -> impl Iterator<Item = Oid> {
        pen::oids()
    }

    /// It asks nothing more.
    pub(crate) fn retire(&mut self) {
        self.loads_left = 0;
    }

    /// It waits for nothing, and has heard of the last commit.
    pub(crate) fn is_at_rest(&self, last_tid: Tid) -> bool {
        let has_heard = self.heard.last().is_some_and(|heard| heard.last() == last_tid);
        has_heard && self.loads.is_empty() && self.pen.is_at_rest()
    }

    /// Every commit after a welcome was told once and in order, up to where the connection ended.
    pub(crate) fn check(&self, history: &History) {
        let all = history.tids();
        for (number, Heard { from, tids, .. }) in self.heard.iter().enumerate() {
            let after: Vec<Tid> = all.range(from.next()..).copied().take(tids.len()).collect();
            assert_eq!(&after, tids, "commits after {from} as told to the watcher");
            let is_last = number + 1 == self.heard.len();
            assert!(!is_last || tids.last().unwrap_or(from) == all.last().unwrap_or(&Tid::ZERO));
        }
    }

    /// What became of its own transactions.
    pub(crate) fn tell(&mut self, record: &mut Record) {
        self.pen.tell(record);
    }

    fn welcomed(&mut self, cx: &mut Context<Self>, conn: ConnId, from: Tid) {
        self.heard.push(Heard { from, tids: Vec::new(), changed: BTreeMap::new() });
        for _ in 0..PIPELINED {
            self.load(cx, conn);
        }
        self.write_again(cx, conn);
    }

    fn told(&mut self, cx: &mut Context<Self>, conn: ConnId, message: ServerMessage) {
        match message {
            ServerMessage::Invalidate(tid, oids, _) => self.heard().add(tid, oids),
            ServerMessage::Reply(call, Reply::Loaded(loaded)) => {
                self.loaded(call, &loaded);
                self.answered(cx, conn, call);
            }
            ServerMessage::Reply(call, Reply::LoadedMany(page, more)) => {
                for loaded in &page {
                    self.loaded(call, loaded);
                }
                if !more {
                    self.answered(cx, conn, call);
                }
            }
            ServerMessage::Reply(_, Reply::Finished(tid)) => self.finished(tid),
            ServerMessage::Failure(call, failure) => self.failed(cx, conn, call, &failure),
            ServerMessage::Goodbye(_) => {}
            other @ ServerMessage::Reply(..) => panic!("nobody asked for {other:?}"),
        }
    }

    fn heard(&mut self) -> &mut Heard {
        self.heard.last_mut().unwrap()
    }

    fn loaded(&mut self, call: CallId, loaded: &Loaded) {
        let oid = self.loads.get_mut(&call).unwrap().pop_front().unwrap();
        if let Loaded::Revision(validity, _) = loaded {
            self.heard().check(oid, *validity);
        }
    }

    /// A load failed where the disk does, or the server was stopping.
    fn failed(&mut self, cx: &mut Context<Self>, conn: ConnId, call: CallId, failure: &Failure) {
        if self.loads.contains_key(&call) {
            self.answered(cx, conn, call);
        } else {
            self.refused(failure);
        }
    }

    fn answered(&mut self, cx: &mut Context<Self>, conn: ConnId, call: CallId) {
        self.loads.remove(&call);
        self.load(cx, conn);
        if cx.random().is_multiple_of(16) {
            self.write(cx, conn);
        }
    }

    /// Asks for an object, or for some at once, as of the last commit that it heard of, as a cache
    /// would; or for what is newest.
    fn load(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if self.loads_left == 0 {
            return;
        }
        self.loads_left -= 1;
        let newest = cx.random().is_multiple_of(4);
        let before = if newest { Tid::MAX } else { self.heard().last().next() };
        let oids: Vec<Oid> = (0..=cx.random() % 3).map(|_| self.any_oid(cx)).collect();
        let call = match oids[..] {
            [oid] => Call::LoadBefore(oid, before),
            _ => Call::LoadMany(before, oids.clone()),
        };
        let number = self.call(cx, conn, call);
        self.loads.insert(number, oids.into());
    }

    fn any_oid(&self, cx: &mut Context<Self>) -> Oid {
        let place = usize::try_from(cx.random() % self.oids.len() as u64).unwrap();
        self.oids[place]
    }

    fn call(&mut self, cx: &mut Context<Self>, conn: ConnId, call: Call) -> CallId {
        self.last_call += 1;
        send(cx, conn, &ClientMessage::Call(self.last_call, call), &[]);
        self.last_call
    }

    fn lost(&mut self, cx: &mut Context<Self>, address: &Address) {
        self.loads.clear();
        self.connect_again(cx, address);
    }

    fn connect_again(&self, cx: &mut Context<Self>, to: &Address) {
        let (connector, to) = (self.connector.unwrap(), to.clone());
        cx.call_later(PAUSE, move |_, cx| cx.connect_with(connector, &to));
    }
}

fn send(cx: &mut Context<Watcher>, conn: ConnId, message: &ClientMessage, tail: &[u8]) {
    let mut frame = Vec::new();
    zeo_proto::encode(message, tail, &mut frame).unwrap();
    cx.transport(conn).unwrap().write(&frame);
}

/// The host of the watcher.
pub(crate) const HOST: &str = "watcher";
const PAUSE: Duration = Duration::from_millis(20);
const PIPELINED: usize = 4;
/// How many loads it makes in a life, so that the world comes to rest.
const LOADS: u32 = 500;
