//! The zeo storage server: sessions, commits, invalidations, and the storage beneath.
//!
//! A server is a [`zeo_reactor`] reactor whose shared state is [`Server`]: everything about
//! sessions, and what is published of each storage, lives on its thread. What may block, reading
//! and syncing, runs in stages and comes back as values.
//!
//! What this crate deliberately lacks: a client (that is `zeo-client`), any knowledge of what
//! object data means, and a thread that touches server state other than the reactor's.
//!
//! Read first: [`Server`], which shows what a message does, and [`storage::Storage`], the seam
//! between what is served and what is kept.
//!
//! ```
//! use zeo_server::Server;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .memory_storage("main")
//!     .listen("127.0.0.1:0".parse()?)
//!     .start()?;
//! println!("clients connect to {}", server.url("main"));
//! server.stop();
//! # Ok(())
//! # }
//! ```

mod batch;
mod builder;
mod catch_up;
mod chores;
mod commit;
mod commit_queue;
mod complaints;
mod connection;
mod database;
mod handshake;
#[cfg(feature = "sim")]
mod held;
mod histogram;
mod history;
mod hot;
mod lane;
mod limits;
mod load;
mod locks;
mod memory;
mod oids;
mod open_transactions;
mod outgoing;
mod publication;
mod readings;
mod recent;
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "public to simulations only"))]
mod rules;
mod server;
mod session;
mod spill;
mod status;
mod stop;
pub mod storage;
mod transaction;
mod under_way;
mod undo;
mod votes;
mod writes;

pub use builder::{RunningServer, ServerBuilder, StartError, Stopper, StorageOptions};
#[cfg(feature = "sim")]
pub use held::Held;
pub use limits::Limits;
#[cfg(feature = "sim")]
pub use rules::Rules;
pub use server::Server;
