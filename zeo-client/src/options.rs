//! How a client is set up, before it connects.

use std::time::Duration;

use crate::client::Client;
use crate::error::ConnectError;
use crate::rules::Rules;

/// How a client is to be set up; [`connect`](Self::connect) makes it.
///
/// What the URL says goes before what is said here.
///
/// ```
/// # let server = zeo_server::Server::in_memory()?;
/// # let url = server.url("main");
/// use std::time::Duration;
///
/// let db = zeo_client::Client::options()
///     .cache_bytes(256 << 20)
///     .call_timeout(Duration::from_secs(10))
///     .label("accounting")
///     .connect(&url)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) storage: String,
    pub(crate) cache_bytes: usize,
    pub(crate) wait_timeout: Duration,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) label: String,
    pub(crate) read_only: bool,
    pub(crate) attempts: u32,
    pub(crate) rules: Rules,
}

impl Options {
    /// The storage of the server to use, where the URL names none; `main` by default.
    pub fn storage(mut self, name: impl Into<String>) -> Self {
        self.storage = name.into();
        self
    }

    /// How much memory the cache may take, in bytes, with what it needs to find things; 64 MiB by
    /// default. A single object is cached if it is no larger than an eighth of this.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How long there may be no connection before waiting calls fail, and how long
    /// [`connect`](Self::connect) waits for the first; 30 s by default. Zero: not at all.
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = limit;
        self
    }

    /// How long each call may take; no limit by default. A commit whose limit ends after it was
    /// sent is of unknown outcome.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = Some(limit);
        self
    }

    /// The name under which the server's operator sees this client; empty by default.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Whether stores are refused before anything is sent; `false` by default.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How often [`Client::run`] tries a transaction that meets conflicts; 16 by default, at
    /// least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Leaves ordering rules out, for a test of the simulation.
    #[cfg(feature = "sim")]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Starts a client, and waits until it is connected and its cache verified.
    pub fn connect(self, url: &str) -> Result<Client, ConnectError> {
        Client::start(url, self)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            storage: "main".to_owned(),
            cache_bytes: 64 << 20,
            wait_timeout: Duration::from_secs(30),
            call_timeout: None,
            label: String::new(),
            read_only: false,
            attempts: 16,
            rules: Rules::default(),
        }
    }
}
