//! One object as a transaction writes it.

use bytes::Bytes;
use zeo_proto::{Oid, Tid};

use super::spill::Spilled;

/// One object that a transaction writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// The serial that was read, [`Tid::ZERO`] for a new object, `None` to check against the
    /// snapshot. The check fails with a conflict if the object's current serial is another one (or,
    /// with `None`, is newer than the snapshot).
    pub serial: Option<Tid>,
    /// What becomes of it.
    pub body: Body,
}

/// What a transaction makes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// It is deleted.
    Deleted,
    /// It gets new data, which is in memory.
    Held {
        /// The data.
        data: Bytes,
        /// The oids that the data refers to, where the client said so.
        refs: Option<Vec<Oid>>,
    },
    /// It gets new data, which waits in a file because its transaction is large.
    Spilled(Spilled),
}

impl Record {
    /// An object with new data.
    pub fn store(oid: Oid, serial: Option<Tid>, data: Bytes, refs: Option<Vec<Oid>>) -> Self {
        Self { oid, serial, body: Body::Held { data, refs } }
    }

    /// An object that is deleted.
    pub fn delete(oid: Oid, serial: Option<Tid>) -> Self {
        Self { oid, serial, body: Body::Deleted }
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> u64 {
        let held = if self.body.held().is_some() { self.body.size() } else { 0 };
        size_of::<Self>() as u64 + held
    }
}

impl Body {
    /// Whether the object is deleted.
    pub fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted)
    }

    /// Bytes of data.
    pub fn data_len(&self) -> usize {
        match self {
            Self::Deleted => 0,
            Self::Held { data, .. } => data.len(),
            Self::Spilled(spilled) => spilled.data_len(),
        }
    }

    /// Bytes of data and references.
    pub fn size(&self) -> u64 {
        (self.data_len() + 8 * self.refs_count().unwrap_or(0)) as u64
    }

    /// How many oids the data refers to; `None` where the client did not say.
    pub fn refs_count(&self) -> Option<usize> {
        match self {
            Self::Deleted => None,
            Self::Held { refs, .. } => refs.as_ref().map(Vec::len),
            Self::Spilled(spilled) => spilled.refs_count(),
        }
    }

    /// The data, if it is in memory.
    pub fn held(&self) -> Option<&Bytes> {
        match self {
            Self::Held { data, .. } => Some(data),
            Self::Deleted | Self::Spilled(_) => None,
        }
    }
}
