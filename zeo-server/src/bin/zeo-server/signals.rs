//! What signals do, from before the storages are opened until the process ends.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use zeo_server::Stopper;

use crate::logging::Log;
use crate::service::ServiceManager;
use crate::trouble::{Kind, Trouble};

/// What has been asked for by signals, and what they act on.
#[derive(Debug, Clone)]
pub(crate) struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    service: ServiceManager,
    /// Not there while storages are being opened.
    stopper: OnceLock<Stopper>,
    is_stopping: AtomicBool,
    hung_up: AtomicBool,
}

impl Control {
    /// Begins to listen for signals, in a thread.
    pub(crate) fn start(log: Log, service: ServiceManager) -> Result<Self, Trouble> {
        let trouble = |error| Trouble::new(Kind::System, format!("signals: {error}"));
        // A file that outgrows its limit is an error of that write, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(trouble)?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2]).map_err(trouble)?;
        let control = Self(Arc::new(Shared {
            log,
            service,
            stopper: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
        }));
        let watcher = control.clone();
        let watch = move || signals.forever().for_each(|signal| watcher.arrived(signal));
        let thread = thread::Builder::new().name("zeo-signals".to_owned());
        thread.spawn(watch).map_err(|error: io::Error| trouble(error))?;
        Ok(control)
    }

    /// From now on there is a server to stop.
    pub(crate) fn serves(&self, stopper: Stopper) {
        // Only the first counts, and there is one.
        drop(self.0.stopper.set(stopper));
    }

    /// Whether it was SIGHUP that stopped it.
    pub(crate) fn was_hung_up(&self) -> bool {
        self.0.hung_up.load(Ordering::Relaxed)
    }

    fn arrived(&self, signal: i32) {
        match signal {
            SIGUSR2 => self.0.log.reopen(),
            SIGHUP => {
                self.0.hung_up.store(true, Ordering::Relaxed);
                self.stop("SIGHUP");
            }
            SIGINT => self.stop("SIGINT"),
            _ => self.stop("SIGTERM"),
        }
    }

    /// The first signal stops the server in order; a second one ends the process at once, and so
    /// does the first while there is no server yet. The store survives either.
    fn stop(&self, signal: &str) {
        tracing::info!("{signal}: stopping");
        self.0.service.stopping();
        let is_second = self.0.is_stopping.swap(true, Ordering::Relaxed);
        match self.0.stopper.get() {
            Some(stopper) if !is_second => stopper.begin_stop(),
            _ => {
                self.0.log.flush();
                process::exit(i32::from(is_second || self.was_hung_up()));
            }
        }
    }
}
