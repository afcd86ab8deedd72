//! A second client, as naive as can be: it believes every frame, in the order of the wire, and
//! looks whether what the server promises there holds.
//!
//! The product's client defends itself against a server that breaks these promises, so it cannot
//! show whether they are kept. (PROTOCOL.md, "Ordering".)

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use zeo_proto::{
    Call, CallId, ClientConnection, ClientEvent, ClientMessage, Hello, Loaded, Oid, Reply,
    ServerMessage, Tid,
};
use zeo_reactor::sim::World;
use zeo_reactor::{
    Address, ConnId, ConnectorId, Context, Factory, LostReason, Protocol, Reactor, Transport,
};

use crate::model::History;
use crate::task::OBJECTS;

/// What the watcher knows.
#[derive(Default)]
pub(crate) struct Watcher {
    connector: Option<ConnectorId>,
    /// What it heard on each connection, one after the other.
    heard: Vec<Heard>,
    /// What each call waits for, in the order asked.
    loads: BTreeMap<CallId, VecDeque<Oid>>,
    last_call: CallId,
}

/// What was heard on one connection.
struct Heard {
    /// The last tid that the welcome named.
    from: Tid,
    /// The commits that it was told of.
    tids: Vec<Tid>,
    /// When each object was last said to have changed.
    changed: BTreeMap<Oid, Tid>,
}

impl Watcher {
    /// A watcher on its own host, which connects at once.
    pub(crate) fn start(world: &World, address: &Address) -> Reactor<Self> {
        let mut reactor = Reactor::new(world.driver(HOST), Self::default());
        reactor.with(|watcher, cx| {
            let connector = cx.connector(Eyes { address: address.clone() });
            watcher.connector = Some(connector);
            cx.connect_with(connector, address);
        });
        reactor
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

    fn told(&mut self, cx: &mut Context<Self>, conn: ConnId, message: ServerMessage) {
        match message {
            ServerMessage::Invalidate(tid, oids, _) => self.changed(tid, oids),
            ServerMessage::Reply(call, Reply::Loaded(loaded)) => {
                self.loaded(call, loaded);
                self.load(cx, conn);
            }
            ServerMessage::Reply(call, Reply::LoadedMany(page, more)) => {
                for loaded in page {
                    self.loaded(call, loaded);
                }
                if !more {
                    self.load(cx, conn);
                }
            }
            ServerMessage::Goodbye(_) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn changed(&mut self, tid: Tid, oids: Vec<Oid>) {
        let heard = self.heard.last_mut().unwrap();
        heard.changed.extend(oids.into_iter().map(|oid| (oid, tid)));
        heard.tids.push(tid);
    }

    fn loaded(&mut self, call: CallId, loaded: Loaded) {
        let oid = self.loads.get_mut(&call).unwrap().pop_front().unwrap();
        if let Loaded::Revision(validity, _) = loaded
            && validity.end.is_none()
        {
            let changed = self.heard.last().unwrap().changed.get(&oid).copied();
            let serial = validity.serial;
            assert!(
                changed.is_none_or(|tid| tid <= serial),
                "{oid} of {serial} is said to be current, but was changed at {changed:?}"
            );
        }
    }

    /// Asks for an object, or for some at once, as of the last commit that it heard of, as a cache
    /// would.
    fn load(&mut self, cx: &mut Context<Self>, conn: ConnId) {
        if self.last_call >= LOADS {
            return;
        }
        self.last_call += 1;
        let heard = self.heard.last().unwrap();
        let before = heard.tids.last().unwrap_or(&heard.from).next();
        let count = 1 + cx.random() % 3;
        let oids: Vec<Oid> = (0..count).map(|_| Oid::new(1 + cx.random() % OBJECTS)).collect();
        let call = match oids[..] {
            [oid] => Call::LoadBefore(oid, before),
            _ => Call::LoadMany(before, oids.clone()),
        };
        self.loads.insert(self.last_call, oids.into());
        let mut frame = Vec::new();
        zeo_proto::encode(&ClientMessage::Call(self.last_call, call), &[], &mut frame).unwrap();
        cx.transport(conn).unwrap().write(&frame);
    }

    fn connect_again(&self, cx: &mut Context<Self>, to: &Address) {
        let (connector, to) = (self.connector.unwrap(), to.clone());
        cx.call_later(PAUSE, move |_, cx| cx.connect_with(connector, &to));
    }
}

/// Makes the watcher's connections.
struct Eyes {
    address: Address,
}

/// What an eye sees: an event of the protocol, and what the machine has to send by itself.
type Glance = (ClientEvent, Vec<u8>);

struct Eye {
    machine: ClientConnection,
}

impl Protocol for Eye {
    type Event = Glance;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.machine.receive(data);
    }

    fn poll_event(&mut self) -> Option<Glance> {
        let event = self.machine.poll()?;
        let mut output = Vec::new();
        self.machine.take_output(&mut output);
        Some((event, output))
    }
}

impl Factory<Watcher> for Eyes {
    type Protocol = Eye;

    fn build_protocol(&mut self, _: &mut Watcher, _: &Address) -> Option<Eye> {
        Some(Eye { machine: ClientConnection::new(Hello::new("main").unwrap()) })
    }

    fn event(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        conn: ConnId,
        (event, output): Glance,
    ) {
        cx.transport(conn).unwrap().write(&output);
        match event {
            ClientEvent::Welcomed(welcome) => {
                let (from, tids, changed) = (welcome.last_tid, Vec::new(), BTreeMap::new());
                watcher.heard.push(Heard { from, tids, changed });
                for _ in 0..PIPELINED {
                    watcher.load(cx, conn);
                }
            }
            ClientEvent::Message(message, _) => watcher.told(cx, conn, message),
            ClientEvent::Greeted | ClientEvent::Refused(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn connection_lost(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        _: ConnId,
        _: LostReason,
    ) {
        watcher.loads.clear();
        watcher.connect_again(cx, &self.address);
    }

    fn connection_failed(
        &mut self,
        watcher: &mut Watcher,
        cx: &mut Context<Watcher>,
        to: &Address,
        _: io::Error,
    ) {
        watcher.connect_again(cx, to);
    }
}

/// The host that faults leave alone, except that its server dies.
const HOST: &str = "watcher";
const PAUSE: Duration = Duration::from_millis(20);
const PIPELINED: usize = 4;
/// How many loads it makes in a life, so that the world comes to rest.
const LOADS: u64 = 500;
