//! The configuration file: its keys, which are the options of the command line and more, and what
//! they are when nobody says otherwise.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::de::DeTable;
use zeo_server::Limits;

use crate::args::Args;
use crate::logging::LogFormat;
use crate::storages::{StorageKeys, Tables};
use crate::trouble::{Kind, Trouble};
use crate::units::{Mode, Size, Time};

/// The value of each key. `deploy/zeo.toml` says what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Keys {
    pub(crate) data: PathBuf,
    pub(crate) listen: Vec<String>,
    pub(crate) socket_mode: Mode,
    pub(crate) storage: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) log_file: PathBuf,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) hot_size: Size,
    pub(crate) index_cache_size: Size,
    pub(crate) load_threads: usize,
    pub(crate) max_sessions: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) handshake_timeout: Time,
    pub(crate) max_calls: usize,
    pub(crate) max_open_transactions: usize,
    pub(crate) max_transaction_size: Size,
    pub(crate) max_transaction_objects: usize,
    pub(crate) transaction_timeout: Time,
    pub(crate) lock_timeout: Time,
    pub(crate) max_waiting_votes: usize,
    pub(crate) spill_size: Size,
    pub(crate) max_buffered_size: Size,
    pub(crate) max_session_memory: Size,
    pub(crate) max_output_size: Size,
    pub(crate) remembered_oids: usize,
    pub(crate) catch_up_oids: usize,
    pub(crate) stop_timeout: Time,
    /// Last, because what follows a table in a file belongs to it.
    pub(crate) storages: Tables,
}

impl Default for Keys {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            data: "zeo-data".into(),
            listen: vec!["127.0.0.1:8100".to_owned()],
            socket_mode: Mode(0o600),
            storage: vec!["main".to_owned()],
            read_only: false,
            log_file: "-".into(),
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
            hot_size: Size(limits.hot_bytes),
            index_cache_size: Size(64 << 20),
            load_threads: limits.load_threads,
            max_sessions: limits.sessions,
            max_handshakes: limits.handshakes,
            handshake_timeout: Time(limits.handshake),
            max_calls: limits.calls_in_flight,
            max_open_transactions: limits.open_transactions,
            max_transaction_size: Size(limits.transaction_bytes),
            max_transaction_objects: limits.transaction_objects,
            transaction_timeout: Time(limits.lock_hold),
            lock_timeout: Time(limits.lock_wait),
            max_waiting_votes: limits.waiting_votes,
            spill_size: Size(limits.spill_bytes),
            max_buffered_size: Size(limits.buffered_bytes),
            max_session_memory: Size(limits.session_bytes as u64),
            max_output_size: Size(limits.output_bytes as u64),
            remembered_oids: limits.remembered_oids,
            catch_up_oids: limits.catch_up_oids,
            stop_timeout: Time(limits.stop),
            storages: Tables::new(),
        }
    }
}

impl Keys {
    /// What was said on the command line wins.
    pub(crate) fn overridden(mut self, args: Args) -> Self {
        let list =
            |said: Vec<String>, else_: Vec<String>| if said.is_empty() { else_ } else { said };
        let storage = list(args.storage, self.storage);
        self.storages.retain(|name, _| storage.contains(name));
        Self {
            data: args.data.unwrap_or(self.data),
            listen: list(args.listen, self.listen),
            socket_mode: args.socket_mode.unwrap_or(self.socket_mode),
            storage,
            read_only: args.read_only || self.read_only,
            log_file: args.log_file.unwrap_or(self.log_file),
            log_format: args.log_format.unwrap_or(self.log_format),
            log_level: args.log_level.unwrap_or(self.log_level),
            hot_size: args.hot_size.unwrap_or(self.hot_size),
            max_sessions: args.max_sessions.unwrap_or(self.max_sessions),
            ..self
        }
    }

    /// The bounds.
    pub(crate) fn limits(&self) -> Limits {
        let in_memory = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        Limits {
            sessions: self.max_sessions,
            handshakes: self.max_handshakes,
            handshake: self.handshake_timeout.0,
            calls_in_flight: self.max_calls,
            open_transactions: self.max_open_transactions,
            transaction_bytes: self.max_transaction_size.0,
            transaction_objects: self.max_transaction_objects,
            lock_hold: self.transaction_timeout.0,
            lock_wait: self.lock_timeout.0,
            waiting_votes: self.max_waiting_votes,
            spill_bytes: self.spill_size.0,
            buffered_bytes: self.max_buffered_size.0,
            session_bytes: in_memory(self.max_session_memory),
            output_bytes: in_memory(self.max_output_size),
            load_threads: self.load_threads,
            hot_bytes: self.hot_size.0,
            remembered_oids: self.remembered_oids,
            catch_up_oids: self.catch_up_oids,
            stop: self.stop_timeout.0,
            abort_on_panic: true,
            ..Limits::default()
        }
    }

    /// What a file says.
    pub(crate) fn read(path: &Path) -> Result<Self, Trouble> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Trouble::new(Kind::Configuration, format!("cannot read {}: {error}", path.display()))
        })?;
        Self::parse(&text).map_err(|(line, what)| {
            Trouble::configuration(format!("{}:{line}: {what}", path.display()))
        })
    }

    /// What a text says, or the number of a line and what is wrong there.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let malformed = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            (line, error.message().to_owned())
        };
        let table = DeTable::parse(text).map_err(malformed)?.into_inner();
        let misnamed = |(place, what): Misnamed| (line_of(text, place), what);
        check_keys(&table, &Self::default()).map_err(misnamed)?;
        check_tables(&table).map_err(misnamed)?;
        let keys: Self = toml::from_str(text).map_err(malformed)?;
        check_storages(&table, &keys.storage).map_err(misnamed)?;
        Ok(keys)
    }

    /// The same as a file.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("all values are texts, numbers and lists of texts")
    }
}

/// A name that is not known: where in the text, and what is to be said of it.
type Misnamed = (usize, String);

/// Whether a table has only the keys that its defaults have. The parser would list all there are;
/// this says which one was meant.
fn check_keys(table: &DeTable<'_>, defaults: &impl Serialize) -> Result<(), Misnamed> {
    let known = toml::Table::try_from(defaults).expect("defaults have a text form");
    let is_known = |name: &str| known.contains_key(name);
    check_names(table, "key", is_known, known.keys())
}

/// The same of the tables of storages.
fn check_tables(table: &DeTable<'_>) -> Result<(), Misnamed> {
    let Some(storages) = table.get(TABLES) else { return Ok(()) };
    let Some(tables) = storages.get_ref().as_table() else {
        let what = "`storages` has a table for each storage, such as [storages.main]; \
                    which ones are served says `storage`";
        return Err((storages.span().start, what.to_owned()));
    };
    let mut tables = tables.values().filter_map(|value| value.get_ref().as_table());
    tables.try_for_each(|table| check_keys(table, &StorageKeys::default()))
}

/// Whether each of them is of a storage that is served.
fn check_storages(table: &DeTable<'_>, served: &[String]) -> Result<(), Misnamed> {
    let tables = table.get(TABLES).and_then(|value| value.get_ref().as_table());
    let is_served = |name: &str| served.iter().any(|other| other == name);
    tables.map_or(Ok(()), |tables| check_names(tables, "storage", is_served, served.iter()))
}

fn check_names<'a>(
    table: &DeTable<'_>,
    what: &str,
    is_known: impl Fn(&str) -> bool,
    known: impl Iterator<Item = &'a String>,
) -> Result<(), Misnamed> {
    let unknown = table.keys().find(|key| !is_known(key.get_ref()));
    unknown.map_or(Ok(()), |key| {
        let name: &str = key.get_ref();
        let hint = hint(name, what, known);
        Err((key.span().start, format!("unknown {what} `{name}`{hint}")))
    })
}

/// The known name that is most like this one.
fn hint<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a String>) -> String {
    let alike = |known: &String| strsim::jaro_winkler(name, known);
    let nearest = known.max_by(|a, b| alike(a).total_cmp(&alike(b)));
    nearest.map_or_else(String::new, |nearest| format!("; the nearest known {what} is `{nearest}`"))
}

/// The key of the storages' own tables.
const TABLES: &str = "storages";

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known() {
        let error = Keys::parse("# one\n\nlissten = ['unix:/s']\n").unwrap_err();
        assert_eq!(error, (3, "unknown key `lissten`; the nearest known key is `listen`".into()));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_what_was_expected() {
        let (line, what) = Keys::parse("max-sessions = 1\nhot-size = 64\n").unwrap_err();
        assert!(line == 2 && what.contains("64MiB"), "{line}: {what}");
        let (line, what) = Keys::parse("\n\nstop-timeout = '4'\n").unwrap_err();
        assert!(line == 3 && what.contains("10s"), "{line}: {what}");
    }

    #[test]
    fn a_wrong_table_of_a_storage_is_refused_with_its_line_and_what_was_meant() {
        let refused = |text| Keys::parse(text).unwrap_err();
        let (line, what) = refused("[storages.main]\nread-onyl = true\n");
        assert!(line == 2 && what.contains("nearest known key is `read-only`"), "{what}");
        let (line, what) = refused("storage = ['main']\n\n[storages.mian]\nquota = '1GiB'\n");
        assert!(line == 3 && what.contains("unknown storage `mian`"), "{what}");
        assert!(what.contains("nearest known storage is `main`"), "{what}");
        let (line, what) = refused("[storages.main]\nquota = '10'\n");
        assert!(line == 2 && what.contains("10GiB"), "{what}");
        let (line, what) = refused("\nstorages = ['main']\n");
        assert!(line == 2 && what.contains("`storage`"), "{what}");
    }

    #[test]
    fn every_key_survives_its_text_form() {
        let tables = Tables::from([("main".to_owned(), StorageKeys::default())]);
        let keys = Keys { storages: tables, ..Keys::default() };
        assert_eq!(Keys::parse(&keys.to_toml()).unwrap(), keys);
    }

    /// Whoever adds a key, or changes a default, says so in the example.
    #[test]
    fn the_example_explains_every_key_with_its_default() {
        let example = include_str!("../../../../deploy/zeo.toml");
        assert!(toml::from_str::<toml::Table>(example).unwrap().is_empty(), "all is a comment");
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let keys: Vec<&str> = example.lines().filter(is_key).map(|line| &line[1..]).collect();
        let said: toml::Table = toml::from_str(&keys.join("\n")).unwrap();
        let tables = Tables::from([("main".to_owned(), StorageKeys::default())]);
        let defaults = Keys { storages: tables, ..Keys::default() };
        assert_eq!(said, toml::Table::try_from(defaults).unwrap());
    }
}
