//! Why a storage cannot be opened, in one line for an operator.

use std::fmt;
use std::io;

use zeo_proto::Tid;

/// A storage could not be opened; no commit in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another part of this one) has it open.
    #[error("{directory} is in use by {}", Holder(*.pid))]
    InUse {
        /// The storage's directory.
        directory: String,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// It was written by a newer version of the program.
    #[error("{file} has format {found}; this version reads up to {newest}")]
    NewerFormat {
        /// The file that says so.
        file: String,
        /// The format's version.
        found: u32,
        /// The newest version that can be read.
        newest: u32,
    },
    /// Files of two storages are mixed.
    #[error("{file} belongs to another storage")]
    ForeignFile {
        /// The file that does not belong here.
        file: String,
    },
    /// What was durable once is not what was written.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The index failed, also after it had been made anew.
    #[error("index: {0}")]
    Index(String),
}

/// A place where the journal is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, within the storage's directory.
    pub file: String,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// The last transaction that is known to lie before that place.
    pub after: Tid,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, after, what } = self;
        write!(f, "{file} at byte {offset}, after transaction {after}: {what}")
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
