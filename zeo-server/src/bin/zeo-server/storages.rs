//! The storages of a configuration: which are served, and how each of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trouble::Trouble;
use crate::units::Quota;

/// What can be said of one storage, in its own table of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct StorageKeys {
    pub(crate) read_only: bool,
    pub(crate) quota: Quota,
}

/// The tables of a file, by the names of their storages.
pub(crate) type Tables = BTreeMap<String, StorageKeys>;

/// A storage that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageSettings {
    /// Its name, which is that of its directory.
    pub(crate) name: String,
    /// Whether nobody may commit to it.
    pub(crate) read_only: bool,
    /// How many bytes its journal may have in use.
    pub(crate) quota_bytes: Option<u64>,
}

/// The storages of these names, each as its table says or as one without a table.
pub(crate) fn settings(
    names: Vec<String>,
    tables: &Tables,
) -> Result<Vec<StorageSettings>, Trouble> {
    check_names(&names)?;
    let settings = |name: String| {
        let StorageKeys { read_only, quota } = tables.get(&name).copied().unwrap_or_default();
        StorageSettings { name, read_only, quota_bytes: quota.0 }
    };
    Ok(names.into_iter().map(settings).collect())
}

fn check_names(names: &[String]) -> Result<(), Trouble> {
    if names.is_empty() {
        return Err(Trouble::configuration("no storage is named"));
    }
    for (place, name) in names.iter().enumerate() {
        check_name(name)?;
        if names.iter().take(place).any(|other| other == name) {
            return Err(Trouble::configuration(format!("storage {name:?} is named twice")));
        }
    }
    Ok(())
}

/// A storage's name is the name of its directory.
fn check_name(name: &str) -> Result<(), Trouble> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
        return Err(Trouble::configuration(format!(
            "storage name {name:?}: 1 to 64 letters, digits, '_', '-' and '.', not beginning with '.'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_name_stays_in_its_directory() {
        for name in ["../x", ".x", "a/b", ""] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("main-2.old").is_ok());
    }

    #[test]
    fn a_storage_without_a_table_is_written_and_has_no_quota() {
        let table = StorageKeys { read_only: true, quota: Quota(Some(1 << 20)) };
        let tables = Tables::from([("a".to_owned(), table)]);
        let storages = settings(vec!["a".to_owned(), "b".to_owned()], &tables).unwrap();
        let said = storages.iter().map(|storage| (storage.read_only, storage.quota_bytes));
        assert!(said.eq([(true, Some(1 << 20)), (false, None)]));
    }
}
