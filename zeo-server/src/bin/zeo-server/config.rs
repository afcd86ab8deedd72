//! The daemon's settings: command line over configuration file over defaults, all checked.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeo_reactor::Address;
use zeo_server::{Limits, storage};

use crate::args::Args;
use crate::logging::LogFormat;

/// What the daemon was told to do.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The directory of all storages.
    pub(crate) data: PathBuf,
    /// Where to listen.
    pub(crate) listen: Vec<Address>,
    /// The storages' names.
    pub(crate) storages: Vec<String>,
    /// Sizes of the storages' steps.
    pub(crate) sizes: storage::Settings,
    /// How to log.
    pub(crate) log_format: LogFormat,
    /// What to log.
    pub(crate) log_level: String,
    /// The bounds.
    pub(crate) limits: Limits,
}

/// A configuration file; its keys are the options of the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    data: Option<PathBuf>,
    listen: Vec<String>,
    storage: Vec<String>,
    log_format: Option<LogFormat>,
    log_level: Option<String>,
    hot_size: Option<u64>,
    max_sessions: Option<usize>,
}

/// Something is wrong with what the daemon was told, or with what it found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(pub(crate) String);

impl Settings {
    /// Puts together what was said on the command line and in the file that it names.
    pub(crate) fn gather(args: Args) -> Result<Self, Trouble> {
        let file = args.config.as_deref().map_or_else(|| Ok(File::default()), read)?;
        let listen = either(args.listen, file.listen, "127.0.0.1:8100");
        let storages = either(args.storage, file.storage, "main");
        check_names(&storages)?;
        Ok(Self {
            data: args.data.or(file.data).unwrap_or_else(|| PathBuf::from("zeo-data")),
            listen: listen.iter().map(|text| parse_address(text)).collect::<Result<_, _>>()?,
            storages,
            sizes: if args.small_sizes { storage::Settings::small() } else { <_>::default() },
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
            log_level: args.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
            limits: limits(
                args.hot_size.or(file.hot_size),
                args.max_sessions.or(file.max_sessions),
            ),
        })
    }
}

fn limits(hot_mib: Option<u64>, sessions: Option<usize>) -> Limits {
    let defaults = Limits::default();
    Limits {
        hot_bytes: hot_mib.map_or(defaults.hot_bytes, |mib| mib.saturating_mul(1 << 20)),
        sessions: sessions.unwrap_or(defaults.sessions),
        abort_on_panic: true,
        ..defaults
    }
}

fn read(path: &Path) -> Result<File, Trouble> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble(format!("cannot read {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| Trouble(format!("{}: {error}", path.display())))
}

fn either(first: Vec<String>, second: Vec<String>, default: &str) -> Vec<String> {
    [first, second]
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_else(|| vec![default.to_owned()])
}

fn check_names(names: &[String]) -> Result<(), Trouble> {
    for (place, name) in names.iter().enumerate() {
        check_name(name)?;
        if names.iter().take(place).any(|other| other == name) {
            return Err(Trouble(format!("storage {name:?} is named twice")));
        }
    }
    Ok(())
}

/// A storage's name is the name of its directory.
fn check_name(name: &str) -> Result<(), Trouble> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
        return Err(Trouble(format!(
            "storage name {name:?}: 1 to 64 letters, digits, '_', '-' and '.', not beginning with '.'"
        )));
    }
    Ok(())
}

fn parse_address(text: &str) -> Result<Address, Trouble> {
    let wrong = |why: String| {
        Trouble(format!("listen address {text:?}: {why}; give HOST:PORT, PORT or unix:PATH"))
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
        assert_eq!(settings.storages, ["main"]);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeo.toml");
        std::fs::write(&file, "data = 'a'\nlisten = ['unix:/s']\nlog-format = 'json'\n").unwrap();
        let args = ["zeo-server", "--config", file.to_str().unwrap(), "--data", "b"];
        let settings = Settings::gather(Args::parse_from(args)).unwrap();
        assert_eq!(settings.data, PathBuf::from("b"));
        assert_eq!(settings.listen, [Address::Unix("/s".into())]);
        assert_eq!(settings.log_format, LogFormat::Json);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeo.toml");
        std::fs::write(&file, "lissten = ['unix:/s']\n").unwrap();
        let args = ["zeo-server", "--config", file.to_str().unwrap()];
        let text = Settings::gather(Args::parse_from(args)).unwrap_err().to_string();
        assert!(text.contains("lissten") && text.contains("`listen`"), "{text}");
    }

    #[test]
    fn a_storage_name_stays_in_its_directory() {
        for name in ["../x", ".x", "a/b", ""] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("main-2.old").is_ok());
    }

    /// It was opened twice, and the second time it was in use, by the daemon itself.
    #[test]
    fn a_storage_is_named_once() {
        let args = ["zeo-server", "--storage", "a", "--storage", "b", "--storage", "a"];
        let text = Settings::gather(Args::parse_from(args)).unwrap_err().to_string();
        assert!(text.contains("\"a\" is named twice"), "{text}");
    }
}
