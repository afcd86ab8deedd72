//! The client's end of a wire: the protocol's machine on a reactor, which sends what it is told to
//! and keeps the answers.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use zeo_proto::{
    Call, CallId, ClientConnection, ClientEvent, ClientMessage, Failure, Hello, Reply,
    ServerMessage, TxnNumber, Welcome,
};
use zeo_reactor::{
    Address, ConnId, Context, Factory, LostReason, Protocol, Reactor, Transport, sim::World,
};

/// What an answer says, and its data.
pub(super) type Answer = Result<(Reply, Bytes), Failure>;

/// A client that believes what it is told.
#[derive(Default)]
pub(super) struct Peer {
    conn: Option<ConnId>,
    pub(super) welcome: Option<Welcome>,
    last_call: CallId,
    last_txn: TxnNumber,
    /// What has been answered and not been asked for yet, page by page.
    answers: BTreeMap<CallId, VecDeque<Answer>>,
    /// Transactions that are aborted as soon as their vote is answered.
    trials: BTreeMap<CallId, TxnNumber>,
}

impl Peer {
    /// A client on a host of its own, which connects at once.
    pub(super) fn start(world: &World, to: &Address) -> Reactor<Self> {
        let mut reactor = Reactor::new(world.driver(HOST), Self::default());
        reactor.with(|_, cx| {
            let connector = cx.connector(Connections);
            cx.connect_with(connector, to);
        });
        reactor
    }

    /// A number for a transaction.
    pub(super) fn txn_number(&mut self) -> TxnNumber {
        self.last_txn += 1;
        self.last_txn
    }

    /// Sends a message and its data.
    pub(super) fn tell(&self, cx: &mut Context<Self>, message: &ClientMessage, data: &[u8]) {
        let mut frame = Vec::new();
        zeo_proto::encode(message, data, &mut frame).unwrap();
        let conn = self.conn.expect("it has been welcomed");
        cx.transport(conn).expect("the server has no reason to close").write(&frame);
    }

    /// Sends a call.
    pub(super) fn ask(&mut self, cx: &mut Context<Self>, call: Call) -> CallId {
        self.last_call += 1;
        self.tell(cx, &ClientMessage::Call(self.last_call, call), &[]);
        self.last_call
    }

    /// Asks how a vote ends, and aborts the transaction then.
    pub(super) fn try_vote(&mut self, cx: &mut Context<Self>, number: TxnNumber) -> CallId {
        let call = self.ask(cx, Call::TpcVoteResolving(number, false));
        self.trials.insert(call, number);
        call
    }

    /// The answer to a call, or its next page, if it is there.
    pub(super) fn take_answer(&mut self, call: CallId) -> Option<Answer> {
        self.answers.get_mut(&call).and_then(VecDeque::pop_front)
    }

    fn told(&mut self, cx: &mut Context<Self>, message: ServerMessage, data: Bytes) {
        let (call, answer) = match message {
            ServerMessage::Reply(call, reply) => (call, Ok((reply, data))),
            ServerMessage::Failure(call, failure) => (call, Err(failure)),
            // Of what it has undone.
            ServerMessage::Invalidate(..) => return,
            ServerMessage::Goodbye(why) => panic!("the server leaves: {why:?}"),
        };
        if let Some(number) = self.trials.remove(&call) {
            self.tell(cx, &ClientMessage::TpcAbort(number), &[]);
        }
        self.answers.entry(call).or_default().push_back(answer);
    }
}

/// Makes the connection.
struct Connections;

struct Connection(ClientConnection);

/// An event of the protocol, and what the machine has to send by itself.
type Happened = (ClientEvent, Vec<u8>);

impl Protocol for Connection {
    type Event = Happened;

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.0.receive(data);
    }

    fn poll_event(&mut self) -> Option<Happened> {
        let event = self.0.poll()?;
        let mut output = Vec::new();
        self.0.take_output(&mut output);
        Some((event, output))
    }
}

impl Factory<Peer> for Connections {
    type Protocol = Connection;

    fn build_protocol(&mut self, _: &mut Peer, _: &Address) -> Option<Connection> {
        Some(Connection(ClientConnection::new(Hello::new("main").unwrap())))
    }

    fn event(
        &mut self,
        peer: &mut Peer,
        cx: &mut Context<Peer>,
        conn: ConnId,
        (event, output): Happened,
    ) {
        cx.transport(conn).unwrap().write(&output);
        match event {
            ClientEvent::Greeted => {}
            ClientEvent::Welcomed(welcome) => {
                peer.conn = Some(conn);
                peer.welcome = Some(welcome);
            }
            ClientEvent::Message(message, data) => peer.told(cx, message, data),
            event @ (ClientEvent::Refused(_)
            | ClientEvent::ServerIsZeo5
            | ClientEvent::Broken(_)) => panic!("{event:?}"),
        }
    }

    fn connection_lost(
        &mut self,
        _: &mut Peer,
        _: &mut Context<Peer>,
        _: ConnId,
        reason: LostReason,
    ) {
        panic!("the connection is lost: {reason:?}");
    }
}

const HOST: &str = "client";
