//! What can be said on the command line.

use std::path::PathBuf;

use clap::Parser;

use crate::logging::LogFormat;

/// A storage server for zeo databases.
///
/// It keeps each storage in a directory of its own below --data, and prints one line
/// "zeo-server ready on ADDR" for each address once it accepts connections. Logs go to standard
/// error. SIGTERM and SIGINT stop it in order.
#[derive(Debug, Parser)]
#[command(version, after_help = "Options given here win over those of --config.")]
pub(crate) struct Args {
    /// Where the storages are kept; made if it is not there [default: ./zeo-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Where to listen: HOST:PORT, PORT on the loopback address, or unix:PATH; may be repeated,
    /// port 0 picks a free one [default: 127.0.0.1:8100]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,

    /// The name of a storage to serve, made if it is not there; may be repeated [default: main]
    #[arg(long, value_name = "NAME")]
    pub(crate) storage: Vec<String>,

    /// Reads these options from a TOML file, by the same names
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Memory for hot records, in MiB per storage [default: 64]
    #[arg(long, value_name = "MIB")]
    pub(crate) hot_size: Option<u64>,

    /// Most sessions at once [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_sessions: Option<usize>,

    /// Small segments and steps in the storages, for tests.
    #[arg(long, hide = true)]
    pub(crate) small_sizes: bool,
}
