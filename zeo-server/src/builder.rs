//! Starting a server: its storages, its addresses, its reactor.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use zeo_proto::Identity;
use zeo_reactor::{
    Address, Context, Driver, Handle, JoinError, MioDriver, Reactor, ReactorThread, StageConfig,
    StageId,
};

use crate::connection::NativeFactory;
use crate::database::{Database, Stages};
use crate::limits::Limits;
use crate::server::Server;
use crate::storage::{MemoryStorage, Storage};

/// What a server will be made of.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    storages: Vec<Served>,
    read_only: bool,
    addresses: Vec<Address>,
    limits: Limits,
    #[cfg(feature = "sim")]
    rules: crate::Rules,
}

/// A storage to be served.
#[derive(Debug)]
struct Served {
    name: String,
    /// `None` for one in memory.
    storage: Option<Arc<dyn Storage>>,
    options: StorageOptions,
}

/// How a storage is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageOptions {
    read_only: bool,
}

impl StorageOptions {
    /// Nobody may commit to it, and only clients that say that they will not are welcome.
    ///
    /// Its index is still brought up to date: what is only read is the data.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// A server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// The limits would not let it serve anybody.
    #[error("limits: {0}")]
    Limits(String),
    /// Two storages have one name, or there is none.
    #[error("{0}")]
    Storages(String),
    /// The system refused a poller or a thread.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The reactor's thread did not start.
    #[error("cannot start: {0}")]
    Thread(#[from] zeo_reactor::StartError),
}

impl ServerBuilder {
    /// Serves a storage under a name.
    #[must_use]
    pub fn storage(self, name: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        self.storage_with(name, storage, StorageOptions::default())
    }

    /// Serves a storage under a name, in a way of its own.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use zeo_proto::Identity;
    /// use zeo_server::storage::MemoryStorage;
    /// use zeo_server::{Server, StorageOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let archive = Arc::new(MemoryStorage::new(Identity { uuid: [1; 16], epoch: 1 }));
    /// let server = Server::builder()
    ///     .memory_storage("main")
    ///     .storage_with("archive", archive, StorageOptions::default().read_only())
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn storage_with(
        mut self,
        name: impl Into<String>,
        storage: Arc<dyn Storage>,
        options: StorageOptions,
    ) -> Self {
        self.storages.push(Served { name: name.into(), storage: Some(storage), options });
        self
    }

    /// Serves a storage in memory, which is gone with the server.
    #[must_use]
    pub fn memory_storage(mut self, name: impl Into<String>) -> Self {
        let options = StorageOptions::default();
        self.storages.push(Served { name: name.into(), storage: None, options });
        self
    }

    /// Serves all storages as [`StorageOptions::read_only`] does one.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Listens on an address; may be called several times. Port 0 picks a free one.
    #[must_use]
    pub fn listen(mut self, address: Address) -> Self {
        self.addresses.push(address);
        self
    }

    /// Sets the bounds; [`Limits::default`] otherwise.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Leaves ordering rules out, for a test of the simulation.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn rules(mut self, rules: crate::Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Starts the server on a thread of its own. When this returns, it listens.
    pub fn start(self) -> Result<RunningServer, StartError> {
        // The reactor's own stop has a limit; twice that is patience enough.
        let patience = self.limits.stop.saturating_mul(2);
        let (reactor, addresses) = self.build(MioDriver::new()?)?;
        let thread = ReactorThread::spawn("zeo-server", reactor)?;
        Ok(RunningServer { thread, addresses, patience })
    }

    /// Makes the server's reactor over any driver, and says where it listens.
    pub fn build(
        self,
        driver: impl Driver + 'static,
    ) -> Result<(Reactor<Server>, Vec<Address>), StartError> {
        let mut names: Vec<_> = self.storages.iter().map(|served| served.name.as_str()).collect();
        names.sort_unstable();
        if names.is_empty() || names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            let text = format!("a server needs storages of different names, not {names:?}");
            return Err(StartError::Storages(text));
        }
        if let Some(trouble) = self.limits.trouble() {
            return Err(StartError::Limits(trouble));
        }
        let mut reactor = Reactor::new(driver, Server::new(self.limits)).private();
        #[cfg(feature = "sim")]
        {
            reactor.shared_mut().rules = self.rules;
        }
        let addresses = reactor.with(|server, cx| -> Result<_, StartError> {
            (server.started, server.started_micros) = (cx.now(), cx.unix_micros());
            for mut served in self.storages {
                served.options.read_only |= self.read_only;
                server.serve(cx, served)?;
            }
            self.addresses.iter().map(|address| listen(cx, address)).collect()
        })?;
        Ok((reactor, addresses))
    }
}

impl Server {
    /// Begins to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Starts a server with one storage `main` in memory, on a free port of the loopback address:
    /// for tests and examples.
    pub fn in_memory() -> Result<RunningServer, StartError> {
        let anywhere = Address::Tcp((std::net::Ipv4Addr::LOCALHOST, 0).into());
        Self::builder().memory_storage("main").listen(anywhere).start()
    }

    fn serve(&mut self, cx: &mut Context<Self>, served: Served) -> io::Result<()> {
        let Served { name, storage, options } = served;
        let storage = storage.unwrap_or_else(|| {
            let mut uuid = [0; 16];
            uuid[..8].copy_from_slice(&cx.random().to_be_bytes());
            uuid[8..].copy_from_slice(&cx.random().to_be_bytes());
            Arc::new(MemoryStorage::new(Identity { uuid, epoch: 1 }))
        });
        let load_threads = self.limits.load_threads;
        let stages = Stages {
            load: start_stage(cx, "load", load_threads)?,
            commit: start_stage(cx, "commit", 1)?,
            spill: start_stage(cx, "spill", 1)?,
            index: start_stage(cx, "index", 1)?,
            prepare: start_stage(cx, "prepare", 1)?,
            catch_up: start_stage(cx, "catch-up", 1)?,
            history: start_stage(cx, "history", 1)?,
        };
        let seed = cx.random();
        let read_only = options.read_only || storage.is_read_only();
        let database = Database::new(name, storage, stages, &self.limits, seed);
        self.databases.push(Database { read_only, ..database });
        let id = self.databases.ids().last().expect("one was just added");
        self.run_chores(cx, id);
        Ok(())
    }
}

/// A stage that has at most one job a thread: what else there is waits in the reactor's tables.
fn start_stage(
    cx: &mut Context<Server>,
    name: &'static str,
    threads: usize,
) -> io::Result<StageId> {
    cx.start_stage(StageConfig { name, threads, bound: threads })
}

fn listen(cx: &mut Context<Server>, address: &Address) -> Result<Address, StartError> {
    match cx.listen(address, NativeFactory) {
        Ok((_, bound)) => Ok(bound),
        Err(source) => Err(StartError::Listen { address: address.clone(), source }),
    }
}

/// A server that runs on a thread of its own; dropping it stops it in order.
#[derive(Debug)]
pub struct RunningServer {
    thread: ReactorThread<Server>,
    addresses: Vec<Address>,
    /// How long it may take to stop in order.
    patience: Duration,
}

impl RunningServer {
    /// Where it listens, in the order of [`ServerBuilder::listen`], with the ports that were
    /// picked.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What a client connects to for one of its storages; the first address counts.
    ///
    /// # Panics
    ///
    /// If it listens nowhere.
    pub fn url(&self, storage: &str) -> String {
        match self.addresses.first().expect("the server listens somewhere") {
            Address::Tcp(address) => format!("zeo://{address}/{storage}"),
            Address::Unix(path) => format!("zeo://{}?storage={storage}", path.display()),
        }
    }

    /// What another thread stops it with.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.thread.handle())
    }

    /// Stops it in order: commits in progress finish, storages are closed. Takes at most
    /// [`Limits::stop`] and a little.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits until it has stopped, at most that long; whether it has.
    pub fn wait(&self, limit: Duration) -> bool {
        !matches!(self.thread.join(Some(limit)), Err(JoinError::TimedOut))
    }

    /// Whether its reactor makes a turn within that time, which is what a watchdog wants to know.
    pub fn responds(&self, limit: Duration) -> bool {
        self.thread.handle().ask(|_, _| ()).wait_timeout(limit).is_ok()
    }

    /// How it ended: an error when its reactor failed or panicked. `Ok` while it runs.
    pub fn outcome(&self) -> Result<(), String> {
        match self.thread.join(Some(Duration::ZERO)) {
            Err(JoinError::Gone(why)) => Err(why),
            _ => Ok(()),
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.stopper().begin_stop();
        if !self.wait(self.patience) {
            tracing::error!("the server did not stop in time");
        }
    }
}

/// Stops a server from any thread, for example one that waits for signals.
#[derive(Debug, Clone)]
pub struct Stopper(Handle<Server>);

impl Stopper {
    /// What stops a server whose reactor a simulation drives.
    #[cfg(feature = "sim")]
    pub fn of(reactor: &Reactor<Server>) -> Self {
        Self(reactor.handle())
    }

    /// Asks the server to stop in order, without waiting.
    pub fn begin_stop(&self) {
        let stop = |server: &mut Server, cx: &mut Context<Server>| server.stop(cx);
        if let Err(reason) = self.0.call_from_thread(stop) {
            tracing::debug!("the server was not asked to stop: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{RecvError, bounded};

    use super::*;

    #[test]
    fn a_server_that_hangs_does_not_respond() {
        let server = Server::in_memory().unwrap();
        assert!(server.responds(Duration::from_mins(1)));
        let (release, held) = bounded::<()>(0);
        let hang = move |_: &mut Server, _: &mut Context<Server>| {
            let _: Result<(), RecvError> = held.recv();
        };
        server.thread.handle().call_from_thread(hang).unwrap();
        assert!(!server.responds(Duration::from_millis(20)));
        drop(release);
        assert!(server.responds(Duration::from_mins(1)));
    }
}
