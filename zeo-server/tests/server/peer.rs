//! A client by hand: the protocol's machine over a blocking socket, so that a test says every byte.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use zeo_proto::{
    Begin, Call, CallId, ClientConnection, ClientEvent, ClientMessage, Failure, Hello, Loaded, Oid,
    Outcome, OutcomeQuery, Reply, ServerMessage, Store, Tid, TxnId, TxnMeta, TxnNumber, Welcome,
};
use zeo_reactor::Address;
use zeo_server::RunningServer;

/// A connection that has been welcomed.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    machine: ClientConnection,
    last_call: CallId,
    notices: VecDeque<ServerMessage>,
    /// So many bytes of the last frame were not taken.
    cut: Option<usize>,
    /// Answers that came before they were waited for: calls may overtake one another.
    answers: BTreeMap<CallId, VecDeque<Answer>>,
    pub(crate) welcome: Welcome,
}

/// An object to be stored: oid, serial read, data.
pub(crate) type Stored<'a> = (u64, Option<Tid>, &'a [u8]);

/// What an answer says.
pub(crate) type Answer = Result<(Reply, Bytes), Failure>;

impl Peer {
    /// Connects to the storage `main`.
    pub(crate) fn connect(server: &RunningServer) -> Self {
        match Self::introduce(server, Hello::new("main").unwrap()) {
            Ok(peer) => peer,
            Err(event) => panic!("not welcomed: {event:?}"),
        }
    }

    /// Says hello; what comes instead of a welcome is the error.
    pub(crate) fn introduce(server: &RunningServer, hello: Hello) -> Result<Self, ClientEvent> {
        let mut stream = connect(server);
        let mut machine = ClientConnection::new(hello);
        loop {
            match machine.poll() {
                Some(ClientEvent::Greeted) => {
                    let mut hello = Vec::new();
                    machine.take_output(&mut hello);
                    stream.write_all(&hello).unwrap();
                }
                Some(ClientEvent::Welcomed(welcome)) => {
                    let (notices, answers) = (VecDeque::new(), BTreeMap::new());
                    let (last_call, cut) = (0, None);
                    return Ok(Self { stream, machine, last_call, notices, cut, answers, welcome });
                }
                Some(event) => return Err(event),
                None => assert!(receive(&mut stream, &mut machine), "closed in the handshake"),
            }
        }
    }

    /// Sends a message without data.
    pub(crate) fn say(&mut self, message: &ClientMessage) {
        self.stream.write_all(&frame(message, &[])).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // A server that has closed already is what some tests are about.
        drop(self.stream.write_all(bytes));
    }

    /// What another thread writes to the same connection with.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends a call without waiting for its answer.
    pub(crate) fn ask(&mut self, call: Call) -> CallId {
        self.last_call += 1;
        self.say(&ClientMessage::Call(self.last_call, call));
        self.last_call
    }

    /// Sends these bytes and a call without waiting for room; whether all of it was taken. If not,
    /// it goes on with the same call the next time.
    pub(crate) fn try_ask(&mut self, before: &[u8], call: Call) -> bool {
        let frame = frame(&ClientMessage::Call(self.last_call + 1, call), &[]);
        let frame = [before, &frame].concat();
        let rest = self.cut.unwrap_or(frame.len());
        self.stream.set_nonblocking(true).unwrap();
        let written = self.stream.write(&frame[frame.len() - rest..]);
        self.stream.set_nonblocking(false).unwrap();
        let count = match written {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        self.cut = Some(rest - count).filter(|&rest| rest > 0);
        self.last_call += u64::from(self.cut.is_none());
        self.cut.is_none()
    }

    /// Asks, and waits for the answer; notices before it are kept.
    pub(crate) fn call(&mut self, call: Call) -> Answer {
        let id = self.ask(call);
        self.answer(id)
    }

    /// Waits for the answer to a call, or for its next page; what else comes is kept.
    pub(crate) fn answer(&mut self, id: CallId) -> Answer {
        loop {
            if let Some(answer) = self.answers.get_mut(&id).and_then(VecDeque::pop_front) {
                return answer;
            }
            let (call, answer) = match self.receive().expect("the server closed the connection") {
                (ServerMessage::Reply(call, reply), tail) => (call, Ok((reply, tail))),
                (ServerMessage::Failure(call, failure), _) => (call, Err(failure)),
                (notice, _) => {
                    self.notices.push_back(notice);
                    continue;
                }
            };
            self.answers.entry(call).or_default().push_back(answer);
        }
    }

    /// The next notice that was pushed.
    pub(crate) fn notice(&mut self) -> ServerMessage {
        match self.notices.pop_front() {
            Some(notice) => notice,
            None => self.receive().expect("the server closed the connection").0,
        }
    }

    /// The next message; `None` when the server closed the connection.
    pub(crate) fn receive(&mut self) -> Option<(ServerMessage, Bytes)> {
        loop {
            match self.machine.poll() {
                Some(ClientEvent::Message(message, tail)) => return Some((message, tail)),
                Some(event) => panic!("{event:?}"),
                None => {
                    if !receive(&mut self.stream, &mut self.machine) {
                        return None;
                    }
                }
            }
        }
    }

    /// Sends a transaction that stores these objects and finishes, in one write.
    pub(crate) fn begin_commit(&mut self, txn: &Txn, stores: &[Stored<'_>]) -> CallId {
        self.last_call += 1;
        let bytes = txn.bytes(self.last_call, stores);
        self.stream.write_all(&bytes).unwrap();
        self.last_call
    }

    /// Commits, and waits for the answer.
    pub(crate) fn commit(&mut self, txn: &Txn, stores: &[Stored<'_>]) -> Result<Tid, Failure> {
        let id = self.begin_commit(txn, stores);
        match self.answer(id)? {
            (Reply::Finished(tid), _) => Ok(tid),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Loads an object.
    pub(crate) fn load(&mut self, oid: u64, before: Tid) -> (Loaded, Bytes) {
        match self.call(Call::LoadBefore(Oid::new(oid), before)).unwrap() {
            (Reply::Loaded(loaded), data) => (loaded, data),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Asks what became of a transaction.
    pub(crate) fn outcome(&mut self, txn: &Txn) -> Outcome {
        let epoch = self.welcome.identity.epoch;
        let query = OutcomeQuery { id: txn.id, snapshot: txn.snapshot, epoch };
        match self.call(Call::Outcome(query)).unwrap() {
            (Reply::Outcome(outcome), _) => outcome,
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// A transaction to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Txn {
    pub(crate) id: TxnId,
    pub(crate) snapshot: Tid,
    pub(crate) number: TxnNumber,
}

impl Txn {
    /// Numbered on its connection, and named after that number and `seed`.
    pub(crate) fn new(number: TxnNumber, seed: u8, snapshot: Tid) -> Self {
        let mut id = [seed; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Self { id: TxnId::from_bytes(id), snapshot, number }
    }

    /// The frame of its `tpc_begin`.
    pub(crate) fn begin(&self) -> Vec<u8> {
        let meta = TxnMeta::default();
        let begin = Begin { id: self.id, snapshot: self.snapshot, meta };
        frame(&ClientMessage::TpcBegin(self.number, begin), &[])
    }

    /// All its frames, from `tpc_begin` to the vote that finishes it.
    pub(crate) fn bytes(&self, call: CallId, stores: &[Stored<'_>]) -> Vec<u8> {
        let mut bytes = self.begin();
        for &(oid, serial, data) in stores {
            bytes.extend(store(self.number, oid, serial, data));
        }
        bytes.extend(frame(&ClientMessage::Call(call, Call::TpcVote(self.number, true)), &[]));
        bytes
    }
}

/// The frame of a store.
pub(crate) fn store(number: TxnNumber, oid: u64, serial: Option<Tid>, data: &[u8]) -> Vec<u8> {
    let store = Store { oid: Oid::new(oid), serial, refs: None };
    frame(&ClientMessage::Store(number, store), data)
}

/// The frame of a message.
pub(crate) fn frame(message: &ClientMessage, tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    zeo_proto::encode(message, tail, &mut out).unwrap();
    out
}

/// A socket to the server that gives up after ten seconds of silence.
pub(crate) fn connect(server: &RunningServer) -> TcpStream {
    let Address::Tcp(address) = &server.addresses()[0] else { panic!("not TCP") };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads once; whether there was anything before the end.
fn receive(stream: &mut TcpStream, machine: &mut ClientConnection) -> bool {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            machine.receive(&buffer[..count]);
            true
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("{error}"),
    }
}
