//! The bytes of a load through two reactors that know no database: what is left of a load's time
//! when all of zeo's own work is taken away.

use zeo_reactor::{
    Address, ConnId, Context, DeferredSender, Factory, Handle, MioDriver, Protocol, Reactor,
    ReactorThread, Transport, deferred,
};

use super::{ANSWER, QUESTION};
use crate::cpus::Placement;

/// A caller's side: a reactor in a thread of its own, connected to another.
#[derive(Debug)]
pub(crate) struct Echo {
    handle: Handle<Asking>,
    _client: ReactorThread<Asking>,
    _server: ReactorThread<()>,
}

impl Echo {
    /// Called on the client's CPU.
    pub(crate) fn start(at: Placement) -> Self {
        let (server, address) = at.server(serve);
        let (sender, connected) = deferred();
        let asking = Asking { conn: None, waiting: Some(sender) };
        let client = Reactor::new(MioDriver::new().unwrap(), asking);
        let client = ReactorThread::spawn("ask", client).unwrap();
        let handle = client.handle();
        handle.call_from_thread(move |_, cx| cx.connect(&address, Asks)).unwrap();
        connected.wait().unwrap();
        Self { handle, _client: client, _server: server }
    }

    /// The bytes of a load, and of its answer.
    pub(crate) fn once(&self) {
        let (sender, answer) = self.handle.deferred();
        self.handle.call_from_thread(move |asking, cx| asking.ask(cx, sender)).unwrap();
        answer.wait().unwrap();
    }
}

/// A reactor that answers, and where.
pub(crate) fn serve() -> (ReactorThread<()>, Address) {
    let server = Reactor::new(MioDriver::new().unwrap(), ());
    let server = ReactorThread::spawn("echo", server).unwrap();
    let anywhere: Address = "127.0.0.1:0".parse().unwrap();
    let listening = server.handle().ask(move |(), cx| cx.listen(&anywhere, Answers));
    let (_, address) = listening.wait().unwrap().unwrap();
    (server, address)
}

/// The caller's connection, and who waits for the answer on it.
#[derive(Debug)]
struct Asking {
    conn: Option<ConnId>,
    waiting: Option<DeferredSender<()>>,
}

impl Asking {
    fn ask(&mut self, cx: &mut Context<Self>, sender: DeferredSender<()>) {
        self.waiting = Some(sender);
        cx.set_busy(true);
        let transport = self.conn.and_then(|conn| cx.transport(conn));
        transport.expect("it is connected").write(&[1; QUESTION]);
    }

    fn answered(&mut self) {
        self.waiting.take().expect("somebody asked").send(());
    }
}

struct Asks;

impl Factory<Asking> for Asks {
    type Protocol = Messages<ANSWER>;

    fn build_protocol(&mut self, _: &mut Asking, _: &Address) -> Option<Self::Protocol> {
        Some(Messages { received: 0 })
    }

    fn connection_made(&mut self, asking: &mut Asking, _: &mut Context<Asking>, conn: ConnId) {
        asking.conn = Some(conn);
        asking.answered();
    }

    fn event(&mut self, asking: &mut Asking, cx: &mut Context<Asking>, _: ConnId, (): ()) {
        cx.set_busy(false);
        asking.answered();
    }
}

struct Answers;

impl Factory<()> for Answers {
    type Protocol = Messages<QUESTION>;

    fn build_protocol(&mut self, (): &mut (), _: &Address) -> Option<Self::Protocol> {
        Some(Messages { received: 0 })
    }

    fn event(&mut self, (): &mut (), cx: &mut Context<()>, conn: ConnId, (): ()) {
        cx.transport(conn).expect("it has just asked").write(&[7; ANSWER]);
    }
}

/// Counts messages of one length.
struct Messages<const LEN: usize> {
    received: usize,
}

impl<const LEN: usize> Protocol for Messages<LEN> {
    type Event = ();

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.received += data.len();
    }

    fn poll_event(&mut self) -> Option<()> {
        self.received = self.received.checked_sub(LEN)?;
        Some(())
    }
}
