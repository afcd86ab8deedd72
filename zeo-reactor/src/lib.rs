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
//! # An echo, and one who asks it
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use zeo_reactor::*;
//!
//! struct Echo;
//! impl Factory<()> for Echo {
//!     type Protocol = Raw;
//!
//!     fn build_protocol(&mut self, _: &mut (), _peer: &Address) -> Option<Raw> {
//!         Some(Raw::default())
//!     }
//!
//!     fn event(&mut self, _: &mut (), cx: &mut Context<()>, conn: ConnId, data: Vec<u8>) {
//!         cx.transport(conn).map(|transport| transport.write(&data));
//!     }
//! }
//!
//! struct Ask(Option<DeferredSender<Vec<u8>>>);
//! impl Factory<()> for Ask {
//!     type Protocol = Raw;
//!
//!     fn build_protocol(&mut self, _: &mut (), _peer: &Address) -> Option<Raw> {
//!         Some(Raw::default())
//!     }
//!
//!     fn connection_made(&mut self, _: &mut (), cx: &mut Context<()>, conn: ConnId) {
//!         cx.transport(conn).map(|transport| transport.write(b"hello"));
//!     }
//!
//!     fn event(&mut self, _: &mut (), _: &mut Context<()>, _: ConnId, data: Vec<u8>) {
//!         self.0.take().map(|sender| sender.send(data));
//!     }
//! }
//!
//! let reactor = ReactorThread::spawn("echo", Reactor::new(MioDriver::new()?, ()))?;
//! let anywhere: Address = "127.0.0.1:0".parse()?;
//! let (_, address) = reactor.handle().ask(move |_, cx| cx.listen(&anywhere, Echo)).wait()??;
//! let (sender, answer) = zeo_reactor::deferred();
//! reactor.handle().call_from_thread(move |_, cx| cx.connect(&address, Ask(Some(sender))))?;
//! assert_eq!(answer.wait()?, b"hello");
//! # Ok(())
//! # }
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
mod pace;
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
    pace::give_way,
    protocol::{Factory, Protocol, Raw},
    reactor::{Reactor, TurnReport},
    reconnect::{BackOff, Reconnector},
    stage::{JobPanicked, StageConfig, StageFull, StageId, StageReport},
    thread::{JoinError, NotRunning, ReactorThread, StartError},
    time::Time,
    timers::TimerId,
    transport::{ConnId, LostReason, Transport},
    triggers::{Hold, Phase, SystemEvent, TriggerId},
};
