//! The log: one line an event, for people or for machines, which never holds up what it reports.

mod line;
mod sink;
mod writer;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::service::Progress;

pub(crate) use line::printable;
pub(crate) use sink::LogTarget;
pub(crate) use writer::Log;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Time, level, where, what.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends what is traced from now on to the log, panics too, and progress to the service manager.
pub(crate) fn start(log: &Log, format: LogFormat, filter: EnvFilter, progress: Progress) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(log.clone())
        .with_ansi(false)
        // They would be printed to standard error, and that panics when nobody reads it any more.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let progress = progress.with_filter(Progress::filter());
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(progress).init();
    log_panics(log.clone());
}

/// A panic may be the last that this process does: it waits until its line is written.
fn log_panics(log: Log) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("panic: {panic}");
        log.flush();
    }));
}
