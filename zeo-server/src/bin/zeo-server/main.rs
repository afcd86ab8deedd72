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
    let (check, ruok) = (args.check_config, args.ruok.take());
    let settings = Settings::gather(args)?;
    match ruok {
        Some(address) => print(&ruok_of(&address, &settings)?),
        None if check => print(&settings.text),
        None => run::run(settings),
    }
}

fn ruok_of(address: &str, settings: &Settings) -> Result<String, Trouble> {
    match (address, settings.listen.first()) {
        ("", Some(first)) => health::ask(first),
        _ => health::ask(&config::parse_address(address)?),
    }
}

fn print(text: &str) -> Result<(), Trouble> {
    writeln!(io::stdout(), "{}", text.trim_end())
        .map_err(|error| Trouble::new(Kind::File, format!("standard output: {error}")))
}
