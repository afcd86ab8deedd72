//! The daemon's settings: command line over configuration file over defaults, all checked.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use zeo_reactor::Address;
use zeo_server::{Limits, storage};

use crate::args::Args;
use crate::keys::Keys;
use crate::logging::{LogFormat, LogTarget};
use crate::storages::{self, StorageSettings};
use crate::trouble::Trouble;

/// What the daemon was told to do.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The directory of all storages.
    pub(crate) data: PathBuf,
    /// Where to listen.
    pub(crate) listen: Vec<Address>,
    /// The mode of the files of Unix sockets.
    pub(crate) socket_mode: u32,
    /// What is served, and how each of it.
    pub(crate) storages: Vec<StorageSettings>,
    /// Whether nothing is written to any of them.
    pub(crate) read_only: bool,
    /// Where log lines go.
    pub(crate) log_target: LogTarget,
    /// How they look.
    pub(crate) log_format: LogFormat,
    /// What to log.
    pub(crate) log_filter: EnvFilter,
    /// Whether storages are damaged and only read.
    pub(crate) salvage: bool,
    /// Sizes of the storages' steps.
    pub(crate) sizes: storage::Settings,
    /// Memory for the pages of an index, in bytes.
    pub(crate) index_cache_bytes: u64,
    /// The bounds.
    pub(crate) limits: Limits,
    /// All this as a configuration file.
    pub(crate) text: String,
}

impl Settings {
    /// Puts together what was said on the command line and in the file that it names.
    pub(crate) fn gather(args: Args) -> Result<Self, Trouble> {
        let file = args.config.as_deref().map_or_else(|| Ok(Keys::default()), Keys::read)?;
        let sizes = if args.small_sizes { storage::Settings::small() } else { <_>::default() };
        let salvage = args.salvage;
        Ok(Self { salvage, ..Self::check(file.overridden(args), sizes)? })
    }

    fn check(keys: Keys, sizes: storage::Settings) -> Result<Self, Trouble> {
        Ok(Self {
            text: keys.to_toml(),
            limits: check_limits(keys.limits())?,
            listen: keys.listen.iter().map(|text| parse_address(text)).collect::<Result<_, _>>()?,
            data: keys.data,
            socket_mode: keys.socket_mode.0,
            storages: storages::settings(keys.storage, &keys.storages)?,
            read_only: keys.read_only,
            log_target: LogTarget::named(keys.log_file),
            log_format: keys.log_format,
            log_filter: parse_filter(&keys.log_level)?,
            salvage: false,
            sizes,
            index_cache_bytes: keys.index_cache_size.0,
        })
    }
}

/// The bounds, if a server can work with them.
fn check_limits(limits: Limits) -> Result<Limits, Trouble> {
    match limits.trouble() {
        Some(trouble) => Err(Trouble::configuration(format!("limits: {trouble}"))),
        None => Ok(limits),
    }
}

fn parse_filter(level: &str) -> Result<EnvFilter, Trouble> {
    EnvFilter::try_new(level)
        .map_err(|error| Trouble::configuration(format!("log level {level:?}: {error}")))
}

/// An address as it is written in `--listen`.
pub(crate) fn parse_address(text: &str) -> Result<Address, Trouble> {
    let wrong = |why: String| {
        let form = "give HOST:PORT, PORT or unix:PATH";
        Trouble::configuration(format!("address {text:?}: {why}; {form}"))
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.into()));
    }
    if let Ok(port) = text.parse::<u16>() {
        return Ok(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port))));
    }
    let mut addresses = text.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    addresses.next().map(Address::Tcp).ok_or_else(|| wrong("no such host".to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn defaults_are_those_of_the_help() {
        let settings = Settings::gather(Args::parse_from(["zeo-server"])).unwrap();
        assert_eq!(settings.data, PathBuf::from("zeo-data"));
        assert_eq!(settings.listen, ["127.0.0.1:8100".parse().unwrap()]);
        assert!(settings.storages.iter().map(|storage| &storage.name).eq(["main"]));
        assert_eq!(settings.socket_mode, 0o600);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let text = "data = 'a'\nlisten = ['unix:/s']\nhot-size = '1MiB'\n";
        let settings = gather(text, &["--data", "b"]);
        assert_eq!(settings.data, PathBuf::from("b"));
        assert_eq!(settings.listen, [Address::Unix("/s".into())]);
        assert_eq!(settings.limits.hot_bytes, 1 << 20);
    }

    #[test]
    fn a_storage_has_its_own_options_and_what_is_not_served_needs_none() {
        let text = "storage = ['a', 'b']\n[storages.b]\nread-only = true\nquota = '10GiB'\n";
        let settings = gather(text, &[]);
        let options: Vec<_> =
            settings.storages.iter().map(|s| (&*s.name, s.read_only, s.quota_bytes)).collect();
        assert_eq!(options, [("a", false, None), ("b", true, Some(10 << 30))]);
        assert!(settings.text.contains("[storages.b]"), "{}", settings.text);
        let settings = gather(text, &["--storage", "a", "--read-only"]);
        assert!(settings.read_only && !settings.text.contains("[storages.b]"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeo.toml");
        std::fs::write(&file, "lissten = ['unix:/s']\n").unwrap();
        let args = ["zeo-server", "--config", file.to_str().unwrap()];
        let text = Settings::gather(Args::parse_from(args)).unwrap_err().to_string();
        assert!(text.contains("zeo.toml:1: ") && text.contains("`listen`"), "{text}");
    }

    /// It was opened twice, and the second time it was in use, by the daemon itself.
    #[test]
    fn a_storage_is_named_once() {
        let args = ["zeo-server", "--storage", "a", "--storage", "b", "--storage", "a"];
        let text = Settings::gather(Args::parse_from(args)).unwrap_err().to_string();
        assert!(text.contains("\"a\" is named twice"), "{text}");
    }

    #[test]
    fn a_bound_that_lets_nothing_through_is_refused() {
        let args = ["zeo-server", "--max-sessions", "0"];
        let text = Settings::gather(Args::parse_from(args)).unwrap_err().to_string();
        assert!(text.contains("sessions is 0"), "{text}");
    }

    /// What a file with that text, and those options beside it, come to.
    fn gather(text: &str, options: &[&str]) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeo.toml");
        std::fs::write(&file, text).unwrap();
        let args = ["zeo-server", "--config", file.to_str().unwrap()];
        Settings::gather(Args::parse_from(args.iter().chain(options))).unwrap()
    }
}
