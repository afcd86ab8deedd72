//! An event loop that a library may own: protocols, factories, timers, stages, deferred results.
//!
//! Many reactors live in one process, each driven by whoever made it, on whatever thread. Nothing
//! is shared between them, and there is no "current" one: the reactor is lent to callbacks
//! ([`Context`]), a connection is lent with it ([`Transport`]), and other threads hold a
//! [`Handle`].
//!
//! It deliberately lacks TLS, names (addresses are numeric), an async runtime (a [`Deferred`] is a
//! future that needs none), process-wide state, and signal handlers.
//!
//! Read [`Factory`] and [`Reactor`] first; then [`Protocol`], [`Context`] and [`Deferred`].
//!
//! With the feature `sim`, a simulated driver runs whole systems of reactors on one thread, from one
//! seed, faults and all (`sim::World`).
//!
//! With the feature `poll`, a second real driver (`PollDriver`) runs the same protocols on
//! `poll(2)`.
//!
//! # Which thread runs what
//!
//! Every callback runs on the thread that drives the reactor, in one of its turns, and must not
//! block. [`Handle`], [`DeferredSender`] and [`Deferred`] are for any thread. A stage's *work* runs
//! on the stage's threads and its *then* in a turn; both values cross, nothing is shared.
//!
//! # An echo
//!
//! ```
//! use zeo_reactor::{
//!     Address, ConnId, Context, DeferredSender, Factory, MioDriver, Protocol, Reactor,
//!     ReactorThread, Transport,
//! };
//!
//! /// Turns what arrives into events.
//! #[derive(Default)]
//! struct Bytes(Option<Vec<u8>>);
//!
//! impl Protocol for Bytes {
//!     type Event = Vec<u8>;
//!
//!     fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
//!         self.0 = Some(data.to_vec());
//!     }
//!
//!     fn poll_event(&mut self) -> Option<Vec<u8>> {
//!         self.0.take()
//!     }
//! }
//!
//! /// Sends everything back.
//! struct Echo;
//!
//! impl Factory<()> for Echo {
//!     type Protocol = Bytes;
//!
//!     fn build_protocol(&mut self, _: &mut (), _: &Address) -> Option<Bytes> {
//!         Some(Bytes::default())
//!     }
//!
//!     fn event(&mut self, _: &mut (), cx: &mut Context<()>, conn: ConnId, data: Vec<u8>) {
//!         if let Some(transport) = cx.transport(conn) {
//!             transport.write(&data);
//!         }
//!     }
//! }
//!
//! /// Says something, and hands on the answer.
//! struct Ask(Option<DeferredSender<Vec<u8>>>);
//!
//! impl Factory<()> for Ask {
//!     type Protocol = Bytes;
//!
//!     fn build_protocol(&mut self, _: &mut (), _: &Address) -> Option<Bytes> {
//!         Some(Bytes::default())
//!     }
//!
//!     fn connection_made(&mut self, _: &mut (), cx: &mut Context<()>, conn: ConnId) {
//!         if let Some(transport) = cx.transport(conn) {
//!             transport.write(b"hello");
//!         }
//!     }
//!
//!     fn event(&mut self, _: &mut (), _: &mut Context<()>, _: ConnId, data: Vec<u8>) {
//!         if let Some(sender) = self.0.take() {
//!             sender.send(data);
//!         }
//!     }
//! }
//!
//! let thread = ReactorThread::spawn("echo", Reactor::new(MioDriver::new()?, ()))?;
//! let anywhere: Address = "127.0.0.1:0".parse()?;
//! let (_, address) = thread.handle().ask(move |_, cx| cx.listen(&anywhere, Echo)).wait()??;
//! let (sender, answer) = zeo_reactor::deferred();
//! thread.handle().call_from_thread(move |_, cx| cx.connect(&address, Ask(Some(sender))))?;
//! assert_eq!(answer.wait()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod arena;
mod blocking;
mod by_hand;
mod context;
mod deferred;
pub mod driver;
mod handle;
mod kind;
mod output;
mod protocol;
mod random;
mod reactor;
mod reconnect;
mod signal;
mod stage;
mod thread;
mod time;
mod timers;
mod transport;
mod triggers;

#[cfg(feature = "poll")]
pub use driver::poll::PollDriver;
#[cfg(feature = "sim")]
pub use driver::sim;
pub use {
    address::{Address, InvalidAddress},
    blocking::{NoBlocking, forbid_blocking, is_blocking_forbidden},
    by_hand::ByHand,
    context::{ConnectorId, Context, ListenerId},
    deferred::{Deferred, DeferredSender, Dropped, Executor, WaitError, deferred, deferred_on},
    driver::{Driver, mio::MioDriver},
    handle::{CallError, Handle},
    protocol::{Factory, Protocol},
    reactor::{Reactor, TurnReport},
    reconnect::{BackOff, Reconnector},
    stage::{JobPanicked, StageConfig, StageFull, StageId, StageReport},
    thread::{JoinError, NotRunning, ReactorThread, StartError},
    time::Time,
    timers::TimerId,
    transport::{ConnId, LostReason, Transport},
    triggers::{Hold, Phase, SystemEvent, TriggerId},
};
