//! The seam beside the journal: what has to be found by key.
//!
//! Everything in an index can be derived from the journal. It may lose what was inserted since its
//! last checkpoint, or all: then it is filled again. [`SledIndex`] is the real one, `MapIndex` an
//! ordered map for tests and simulation.

#[cfg(test)]
mod defects;
#[cfg(any(test, feature = "sim"))]
mod map;
mod quiet;
mod sled;

use std::fmt::Debug;

use zeo_proto::{Identity, Oid, Tid, TxnId};

use super::journal::{Fields, Position};

#[cfg(any(test, feature = "sim"))]
pub use self::map::MapIndex;
pub use self::sled::SledIndex;
pub(super) use self::sled::boot_id;

/// What has to be found by key. Lookups run beside insertions; insertions do not overlap.
pub trait Index: Debug + Send + Sync + 'static {
    /// The last revision of an object before a tid.
    fn revision_before(&self, oid: Oid, before: Tid) -> Result<Option<(Tid, Place)>, IndexError>;

    /// The first revision of an object at or after a tid.
    fn revision_from(&self, oid: Oid, from: Tid) -> Result<Option<Tid>, IndexError>;

    /// The first `max` objects from `from` on, in order, each with its last revision before a tid,
    /// if it has one. Passes over any number of other revisions with bounded work an object.
    fn latest(&self, from: Oid, before: Tid, max: usize) -> Result<Vec<Latest>, IndexError>;

    /// The tid at which a transaction was committed, if it was.
    fn outcome(&self, id: TxnId) -> Result<Option<Tid>, IndexError>;

    /// A place at which a group starts or the journal ended, before which all transactions up to
    /// the tid given with it are, and none after: the latest such tid not after `tid`.
    fn milestone(&self, tid: Tid) -> Result<Option<(Tid, Position)>, IndexError>;

    /// Inserts an entry; inserting it again changes nothing.
    fn insert(&self, entry: &Entry) -> Result<(), IndexError>;

    /// Notes durably enough, before the entries that follow, that there are none of transactions
    /// after `tid`: if the index has them, it has the note as well.
    fn raise(&self, tid: Tid) -> Result<(), IndexError>;

    /// The highest tid ever given to [`Index::raise`]. An index in which it is beyond the end of the
    /// journal was filled from another one.
    fn raised(&self) -> Result<Tid, IndexError>;

    /// How far the index surely covers the journal; `None` when it covers nothing.
    fn checkpoint(&self) -> Result<Option<Checkpoint>, IndexError>;

    /// Makes all earlier insertions durable, and then the checkpoint.
    fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), IndexError>;

    /// Bytes on the disk, as of the last checkpoint. Waits for nothing.
    fn bytes(&self) -> u64;

    /// Starts again with nothing, for that reason.
    fn reset(&mut self, reason: &str) -> Result<(), IndexError>;

    /// Notes that it ends in order, right after a checkpoint.
    fn close(&self) -> Result<(), IndexError>;
}

/// The index failed; the text says how. Rebuilding it cures that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(pub String);

/// An object, and one of its revisions, if there is one that is wanted.
pub type Latest = (Oid, Option<(Tid, Place)>);

/// One thing to be found by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A revision of an object: where its record is.
    Revision(Oid, Tid, Place),
    /// A transaction that was committed.
    Outcome(TxnId, Tid),
    /// All transactions up to the tid are before that place.
    Milestone(Tid, Position),
}

/// Where the record of a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub at: Position,
    /// Its length in bytes, below 2 GiB.
    pub len: u32,
    /// Whether the revision is a deletion.
    pub deleted: bool,
}

/// A place in the journal up to which the index covers it, and what was true there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose journal it is.
    pub identity: Identity,
    /// The end of the last group covered.
    pub end: Position,
    /// The start of that group.
    pub last_group: Position,
    /// The crc of that group's items.
    pub last_group_crc: u32,
    /// The last transaction covered.
    pub tid: Tid,
    /// All oids below this one are taken.
    pub next_oid: Oid,
    /// How many objects there were.
    pub objects: u64,
}

impl Place {
    const DELETED: u32 = 1 << 31;

    /// As it is kept in the index.
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (at, len) = bytes.split_at_mut(8);
        let flag = if self.deleted { Self::DELETED } else { 0 };
        at.copy_from_slice(&self.at.to_bytes());
        len.copy_from_slice(&(self.len | flag).to_be_bytes());
        bytes
    }

    /// What [`Place::to_bytes`] wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let at = Position::from_bytes(fields.array()?);
        let len = fields.u32()?;
        Some(Self { at, len: len & !Self::DELETED, deleted: len & Self::DELETED != 0 })
    }
}

impl Checkpoint {
    /// As it is kept in the index.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let fields: [&[u8]; 8] = [
            &self.identity.uuid,
            &self.identity.epoch.to_be_bytes(),
            &self.end.to_bytes(),
            &self.last_group.to_bytes(),
            &self.last_group_crc.to_be_bytes(),
            &self.tid.to_bytes(),
            &self.next_oid.to_bytes(),
            &self.objects.to_be_bytes(),
        ];
        fields.concat()
    }

    /// What [`Checkpoint::to_bytes`] wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            identity: Identity { uuid: fields.array()?, epoch: fields.u64()? },
            end: Position::from_bytes(fields.array()?),
            last_group: Position::from_bytes(fields.array()?),
            last_group_crc: fields.u32()?,
            tid: Tid::from_bytes(fields.array()?),
            next_oid: Oid::from_bytes(fields.array()?),
            objects: fields.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_encoding() {
        let at = Position { segment: 3, offset: 72 };
        for deleted in [true, false] {
            let place = Place { at, len: 81, deleted };
            assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        }
        let checkpoint = Checkpoint {
            identity: Identity { uuid: [4; 16], epoch: 2 },
            end: at,
            last_group: Position { segment: 3, offset: 64 },
            last_group_crc: 7,
            tid: Tid::new(8),
            next_oid: Oid::new(9),
            objects: 10,
        };
        let bytes = checkpoint.to_bytes();
        assert_eq!(Checkpoint::from_bytes(&bytes), Some(checkpoint));
        let without_objects = &bytes[..bytes.len() - 8];
        assert_eq!(Checkpoint::from_bytes(without_objects), None, "as it once was");
        assert_eq!(Checkpoint::from_bytes(b"short"), None);
    }
}
