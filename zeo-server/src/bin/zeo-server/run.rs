//! The daemon's life: open the storages, serve, stop on a signal.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeo_server::storage::{self, OpenOptions, Storage};
use zeo_server::{RunningServer, Server, Stopper};

use crate::config::{Settings, Trouble};
use crate::logging;

/// Serves until a signal says otherwise.
pub(crate) fn run(settings: Settings) -> Result<(), Trouble> {
    logging::start(settings.log_format, &settings.log_level)?;
    raise_open_files();
    let server = start(settings)?;
    // Before the ready lines: whoever reads them may send a signal at once.
    stop_on_signal(server.stopper())?;
    announce(&server).map_err(|error| Trouble(format!("standard output: {error}")))?;
    while !server.wait(Duration::from_hours(1)) {}
    server.outcome().map_err(Trouble)
}

fn start(settings: Settings) -> Result<RunningServer, Trouble> {
    let mut builder = Server::builder().limits(settings.limits);
    for name in settings.storages {
        let storage = open(&settings.data.join(&name), settings.sizes)?;
        builder = builder.storage(name, storage);
    }
    for address in settings.listen {
        builder = builder.listen(address);
    }
    builder.start().map_err(|error| Trouble(error.to_string()))
}

fn open(directory: &Path, sizes: storage::Settings) -> Result<Arc<dyn Storage>, Trouble> {
    let options =
        OpenOptions { settings: sizes, ..OpenOptions::new(*uuid::Uuid::new_v4().as_bytes()) };
    let storage = storage::open(directory, options)
        .map_err(|error| Trouble(format!("{}: {error}", directory.display())))?;
    tracing::info!(
        directory = %directory.display(),
        identity = %storage.identity(),
        last_tid = %storage.last_tid(),
        "storage open"
    );
    Ok(Arc::new(storage))
}

fn announce(server: &RunningServer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in server.addresses() {
        writeln!(out, "zeo-server ready on {address}")?;
    }
    out.flush()
}

/// Ten thousand sessions need ten thousand descriptors; the soft limit is often 1,024.
fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("the limit of open files could not be raised: {error}");
    }
}

/// The first signal stops the server in order; a second one ends the process at once, which the
/// store survives.
fn stop_on_signal(stopper: Stopper) -> Result<(), Trouble> {
    let trouble = |error: io::Error| Trouble(format!("signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(trouble)?;
    let watch = move || {
        for (count, signal) in signals.forever().enumerate() {
            tracing::info!(signal, "stopping on a signal");
            if count > 0 {
                std::process::exit(1);
            }
            stopper.begin_stop();
        }
    };
    thread::Builder::new().name("zeo-signals".to_owned()).spawn(watch).map_err(trouble)?;
    Ok(())
}
