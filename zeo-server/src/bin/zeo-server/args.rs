//! What can be said on the command line.

use std::path::PathBuf;

use clap::Parser;

use crate::logging::LogFormat;
use crate::units::{Mode, Size};

/// A storage server for zeo databases.
///
/// It keeps each storage in a directory of its own below --data, and prints one line
/// "zeo-server ready on ADDR" for each address once it accepts connections.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where the storages are kept; made, for this user alone, if it is not there
    /// [default: ./zeo-data]
    #[arg(long, value_name = "DIR", env = "ZEO_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Where to listen: HOST:PORT, PORT on the loopback address, or unix:PATH; may be repeated,
    /// port 0 picks a free one [default: 127.0.0.1:8100]
    #[arg(long, value_name = "ADDR", env = "ZEO_LISTEN")]
    pub(crate) listen: Vec<String>,

    /// Who may connect to Unix sockets, as their file's mode [default: 0600]
    #[arg(long, value_name = "MODE")]
    pub(crate) socket_mode: Option<Mode>,

    /// The name of a storage to serve, made if it is not there; may be repeated [default: main]
    #[arg(long, value_name = "NAME")]
    pub(crate) storage: Vec<String>,

    /// Takes no commits in any storage, and no clients but those that will not write
    #[arg(long, env = "ZEO_READ_ONLY")]
    pub(crate) read_only: bool,

    /// Reads these options, and more limits, from a TOML file, by the same names
    #[arg(long, value_name = "FILE", env = "ZEO_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Appends the log to a file instead of standard error; "-" is standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", env = "ZEO_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter [default: info]
    #[arg(long, value_name = "LEVEL", env = "ZEO_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Memory for hot records per storage, for example 64MiB [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) hot_size: Option<Size>,

    /// Most sessions at once [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_sessions: Option<usize>,

    /// Checks all this, prints the settings that it comes to as a configuration file, and ends
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Asks the server that runs at that address, or at the first of --listen, how it is; prints
    /// its answer in JSON, and ends: with 0 if it has answered within five seconds, else with 1
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "")]
    pub(crate) ruok: Option<String>,

    /// Asks the same in full, with sessions and who holds locks, in a session of its own in the
    /// first of --storage
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "",
        conflicts_with = "ruok")]
    pub(crate) status: Option<String>,

    /// Serves what is whole of damaged storages, for reading only: to save what can be saved. What
    /// is missing is logged; an older revision may look like the current one
    #[arg(long)]
    pub(crate) salvage: bool,

    /// Small segments and steps in the storages, for tests.
    #[arg(long, hide = true)]
    pub(crate) small_sizes: bool,
}

const AFTER_HELP: &str = "\
Options given here win over the environment, that over --config, that over the defaults.

Signals:
  TERM, INT  stop in order, within 4 seconds and a little; a second one stops at once
  HUP        stop in order with exit code 1, for a service manager to start it again
  USR2       open the log file anew, after it was moved away

Exit codes:
  0   stopped in order
  1   failed while running, hung up on, or not well when asked with --ruok or --status
  2   the command line makes no sense
  65  the data is damaged, foreign or of a newer version
  71  the system refused something, such as a thread
  74  a file could not be read or written
  75  in use: the data directory or an address; trying again later may help
  78  the configuration makes no sense";
