//! Why the daemon ends, and with which exit code.

use std::process::ExitCode;

use zeo_server::StartError;
use zeo_server::storage::OpenError;

/// One line for whoever started the daemon, and an exit code for what restarts it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Trouble {
    kind: Kind,
    text: String,
}

/// What kind of trouble it is; the numbers are those of `sysexits.h`, which service managers know
/// by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has failed while running.
    Failed = 1,
    /// The data is damaged, foreign or of a newer version: starting again does not help.
    Data = 65,
    /// The system refused something.
    System = 71,
    /// A file could not be read or written.
    File = 74,
    /// Something is in use: starting again later may help.
    InUse = 75,
    /// The configuration makes no sense: starting again does not help.
    Configuration = 78,
}

impl Trouble {
    /// Trouble of that kind.
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The configuration makes no sense.
    pub(crate) fn configuration(text: impl Into<String>) -> Self {
        Self::new(Kind::Configuration, text)
    }

    /// The same, with what it is about, where it does not say so itself.
    pub(crate) fn about(self, what: &str) -> Self {
        if self.text.contains(what) {
            return self;
        }
        Self { text: format!("{what}: {}", self.text), ..self }
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

/// Of opening a storage.
impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::InUse { .. } => Kind::InUse,
            OpenError::NewerFormat { .. }
            | OpenError::ForeignFile { .. }
            | OpenError::Damaged(_) => Kind::Data,
            OpenError::Io { .. } | OpenError::Index(_) | _ => Kind::File,
        };
        Self::new(kind, error.to_string())
    }
}

/// Of starting the server.
impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        let kind = match &error {
            StartError::Listen { .. } => Kind::InUse,
            StartError::Storages(_) | StartError::Limits(_) => Kind::Configuration,
            StartError::System(_) | StartError::Thread(_) | _ => Kind::System,
        };
        Self::new(kind, error.to_string())
    }
}
