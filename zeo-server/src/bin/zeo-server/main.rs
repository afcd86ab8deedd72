//! `zeo-server`: the storage server as a daemon.

mod args;
mod config;
mod logging;
mod run;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match config::Settings::gather(args::Args::parse()).and_then(run::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started the daemon reads this, whatever the log is configured to.
            let line = writeln!(std::io::stderr(), "zeo-server: {error}");
            drop(line);
            ExitCode::FAILURE
        }
    }
}
