//! `zeo-server`: the storage server as a daemon.

mod args;
mod config;
mod health;
mod keys;
mod logging;
mod run;
mod service;
mod signals;
mod storages;
mod trouble;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use config::Settings;
use health::Question;
use trouble::{Kind, Trouble};

fn main() -> ExitCode {
    match carry_out(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // Whoever started the daemon reads this, whatever the log is configured to.
            drop(writeln!(io::stderr(), "zeo-server: {trouble}"));
            trouble.exit_code()
        }
    }
}

fn carry_out(mut args: Args) -> Result<(), Trouble> {
    let (check, ruok, status) = (args.check_config, args.ruok.take(), args.status.take());
    let settings = Settings::gather(args)?;
    if let Some(address) = ruok {
        return ask(&address, &settings, Question::Ruok);
    }
    if let Some(address) = status {
        let storage = settings.storages.first().map(|storage| storage.name.clone());
        return ask(&address, &settings, Question::Status(storage.unwrap_or_default()));
    }
    if check { print(&settings.text) } else { run::run(settings) }
}

/// Asks the server at an address, or at the first one that the settings have, and prints what it
/// says: names that clients have chosen are in it.
fn ask(address: &str, settings: &Settings, question: Question) -> Result<(), Trouble> {
    let answer = match (address, settings.listen.first()) {
        ("", Some(first)) => health::ask(first, question),
        _ => health::ask(&config::parse_address(address)?, question),
    }?;
    print(&logging::printable(&answer))
}

fn print(text: &str) -> Result<(), Trouble> {
    writeln!(io::stdout(), "{}", text.trim_end())
        .map_err(|error| Trouble::new(Kind::File, format!("standard output: {error}")))
}
