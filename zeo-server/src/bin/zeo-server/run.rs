//! The daemon's life: open the storages, serve, stop on a signal.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeo_reactor::Address;
use zeo_server::storage::{self, OpenOptions, Storage};
use zeo_server::{RunningServer, Server, ServerBuilder, StorageOptions};

use crate::config::Settings;
use crate::logging::{self, Log, LogTarget};
use crate::service::{PROGRESS, Progress, ServiceManager};
use crate::signals::Control;
use crate::storages::StorageSettings;
use crate::trouble::{Kind, Trouble};

/// Serves until a signal says otherwise.
pub(crate) fn run(settings: Settings) -> Result<(), Trouble> {
    let log = Log::start(settings.log_target.clone())?;
    let service = ServiceManager::from_environment();
    let progress = Progress(service.clone());
    logging::start(&log, settings.log_format, settings.log_filter.clone(), progress);
    let logs_to_file = settings.log_target != LogTarget::Stderr;
    let result = Control::start(log.clone(), service.clone())
        .and_then(|control| serve(settings, &service, &control));
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(trouble) if logs_to_file => tracing::error!("ended: {trouble}"),
        // It is printed to standard error anyway.
        Err(_) => {}
    }
    log.flush();
    result
}

fn serve(settings: Settings, service: &ServiceManager, control: &Control) -> Result<(), Trouble> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    raise_open_files(settings.limits.sessions);
    let server = start(settings)?;
    // Before the ready lines: whoever reads them may send a signal at once.
    control.serves(server.stopper());
    announce(&server, service);
    wait(&server, service);
    server.outcome().map_err(|why| Trouble::new(Kind::Failed, why))?;
    if control.was_hung_up() {
        return Err(Trouble::new(Kind::Failed, "stopped by SIGHUP, to be started again"));
    }
    Ok(())
}

fn start(settings: Settings) -> Result<RunningServer, Trouble> {
    create_data_directory(&settings.data)?;
    let mut builder = Server::builder().limits(settings.limits.clone());
    for storage in &settings.storages {
        builder = serve_storage(builder, storage, &settings)?;
    }
    if settings.read_only {
        builder = builder.read_only();
    }
    for address in settings.listen {
        builder = builder.listen(address);
    }
    let server = builder.start()?;
    allow_connecting(server.addresses(), settings.socket_mode)?;
    Ok(server)
}

/// Opens a storage, and adds it to what will be served.
fn serve_storage(
    builder: ServerBuilder,
    storage: &StorageSettings,
    settings: &Settings,
) -> Result<ServerBuilder, Trouble> {
    let directory = settings.data.join(&storage.name);
    let sizes = storage::Settings { quota_bytes: storage.quota_bytes, ..settings.sizes };
    let options = OpenOptions {
        new_uuid: *uuid::Uuid::new_v4().as_bytes(),
        index_cache_bytes: settings.index_cache_bytes,
        settings: sizes,
    };
    let opened = if settings.salvage { salvage(&directory) } else { open(&directory, options) }?;
    let mut options = StorageOptions::default();
    if storage.read_only {
        options = options.read_only();
    }
    Ok(builder.storage_with(&*storage.name, opened, options))
}

/// Makes the data directory, for this user alone. One that is there stays as it is: who may read
/// it is the operator's decision.
fn create_data_directory(directory: &Path) -> Result<(), Trouble> {
    let trouble = |error: io::Error| {
        Trouble::new(Kind::File, format!("data directory {}: {error}", directory.display()))
    };
    match fs::metadata(directory) {
        Ok(data) if data.mode() & 0o077 != 0 => {
            tracing::info!(directory = %directory.display(), "others may look into the data directory");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(trouble)?;
            sync_name(directory).map_err(trouble)
        }
        Err(error) => Err(trouble(error)),
    }
}

/// Makes a directory's name durable, as what is in it will be.
fn sync_name(directory: &Path) -> io::Result<()> {
    let parent = fs::canonicalize(directory)?;
    parent.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn open(directory: &Path, options: OpenOptions) -> Result<Arc<dyn Storage>, Trouble> {
    tracing::info!(target: PROGRESS, directory = %directory.display(), "opening");
    let storage = storage::open(directory, options)
        .map_err(|error| Trouble::from(error).about(&directory.display().to_string()))?;
    Ok(Arc::new(storage))
}

/// Opens what is whole of a damaged storage, and says what is not.
fn salvage(directory: &Path) -> Result<Arc<dyn Storage>, Trouble> {
    let storage = storage::open_damaged(directory)
        .map_err(|error| Trouble::from(error).about(&directory.display().to_string()))?;
    for place in storage.damage() {
        tracing::error!(place, "something is missing here");
    }
    let (missing, last_tid) = (storage.damage().len(), storage.last_tid());
    tracing::warn!(directory = %directory.display(), missing, %last_tid, "served for reading only");
    Ok(Arc::new(storage))
}

/// There is no other access control on a Unix socket than its file's mode, and until here the
/// process's umask has decided it.
fn allow_connecting(addresses: &[Address], mode: u32) -> Result<(), Trouble> {
    for address in addresses {
        if let Address::Unix(path) = address {
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(|error| Trouble::new(Kind::File, format!("mode of {address}: {error}")))?;
        }
    }
    Ok(())
}

fn announce(server: &RunningServer, service: &ServiceManager) {
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(" "), "ready");
    service.ready(&format!("ready on {}", addresses.join(" ")));
    if let Err(error) = print_addresses(&addresses) {
        tracing::warn!("the ready lines could not be printed: {error}");
    }
}

fn print_addresses(addresses: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in addresses {
        writeln!(out, "zeo-server ready on {address}")?;
    }
    out.flush()
}

/// Waits for the server's end. A sign of life is given only after the server's reactor has made a
/// turn: it is that which must not hang.
fn wait(server: &RunningServer, service: &ServiceManager) {
    let pause = service.watchdog().map_or(Duration::from_hours(1), |limit| limit / 4);
    while !server.wait(pause) {
        if server.responds(pause) {
            service.alive();
        }
    }
}

/// Ten thousand sessions need ten thousand descriptors; the soft limit is often 1,024.
fn raise_open_files(sessions: usize) {
    let wanted = sessions as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => {
            tracing::warn!(limit, wanted, "too few files may be open for all sessions");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!("the limit of open files could not be raised: {error}"),
    }
}

/// Open files beside those of sessions: connections that introduce themselves, segments, index.
const OTHER_FILES: u64 = 2_000;
