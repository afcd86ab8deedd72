//! What a service manager hears of the daemon: systemd's protocol of `sd_notify(3)`, datagrams of
//! `KEY=VALUE` lines.

use std::fmt::{self, Write as _};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

/// The service manager that has started this process, if one has and wants to hear of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(crate) fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let ours = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == ours);
        let micros =
            variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|text| text.parse().ok());
        Self {
            socket: variable("NOTIFY_SOCKET").and_then(|name| connect(&name).ok()).map(Arc::new),
            watchdog: micros.map(Duration::from_micros).filter(|limit| !limit.is_zero()),
        }
    }

    /// How long it waits for a sign of life before it kills this process.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server accepts connections.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The server is about to stop.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// A sign of life.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Starting takes longer, but goes on; `status` says how far it is.
    fn progress(&self, status: &str) {
        self.tell(&format!("STATUS={status}\nEXTEND_TIMEOUT_USEC={}", PATIENCE.as_micros()));
    }

    /// Without waiting: a service manager that does not listen holds up nothing.
    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A path, or after an `@` a name of Linux's abstract sockets.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Tells the service manager what the log says of progress while storages are being opened, so
/// that it does not lose patience with a long recovery; one that hangs makes no progress.
#[derive(Debug)]
pub(crate) struct Progress(pub(crate) ServiceManager);

impl Progress {
    /// The events that are progress, whatever is logged of them.
    pub(crate) fn filter() -> Targets {
        Targets::new().with_target(PROGRESS, LevelFilter::INFO)
    }
}

impl<S: tracing::Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.progress(&text.0);
    }
}

/// An event's message and fields as one line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name =
            if field.name() == "message" { String::new() } else { format!(" {}=", field.name()) };
        write!(self.0, "{name}{value:?}").expect("a String takes everything");
    }
}

/// The target of events that tell of progress.
pub(crate) const PROGRESS: &str = "zeo_server::progress";

/// How long the next sign of progress may take.
const PATIENCE: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_socket_is_reached_too() {
        let name = format!("zeo-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = Some(Arc::new(connect(&format!("@{name}")).unwrap()));
        ServiceManager { socket, watchdog: None }.ready("all is well");
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=all is well");
    }

    #[test]
    fn a_service_manager_that_does_not_listen_holds_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = Some(Arc::new(connect(path.to_str().unwrap()).unwrap()));
        let service = ServiceManager { socket, watchdog: None };
        for _ in 0..10_000 {
            service.alive();
        }
        drop(manager);
        service.alive();
    }
}
