//! The log: one line an event on standard error, for people or for machines.

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config::Trouble;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Time, level, where, what.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends what is traced from now on to standard error.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Trouble> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| Trouble(format!("log level {level:?}: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // They would be printed to standard error, and that panics when nobody reads it any more.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
