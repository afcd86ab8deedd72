//! The quota of a storage: how many bytes its journal may have in use.

use crate::storage::Refused;
use crate::storage::journal::{RECORD_HEAD, SEGMENT_HEADER, TRANSACTION_HEAD};

/// What may still be added to the journal, as of the beginning of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    bytes: Option<u64>,
    used: u64,
}

impl Quota {
    /// A quota of so many bytes, or none, of which so many are in use.
    pub(super) fn new(bytes: Option<u64>, used: u64) -> Self {
        Self { bytes, used }
    }

    /// Refuses `more` bytes in a group that has `group` bytes already, if they would take the
    /// journal beyond the quota.
    pub(super) fn check(self, group: usize, more: u64) -> Result<(), Refused> {
        let Some(quota) = self.bytes else { return Ok(()) };
        let parts = [group as u64, more, AROUND_GROUP];
        let after = parts.into_iter().fold(self.used, u64::saturating_add);
        if after > quota { Err(Refused::QuotaExceeded(quota)) } else { Ok(()) }
    }
}

/// Bytes of a transaction in the journal that has so many bytes of data, references and texts in
/// so many records.
pub(super) fn transaction_len(bytes: u64, records: usize) -> u64 {
    let heads = TRANSACTION_HEAD.saturating_add(records.saturating_mul(RECORD_HEAD));
    bytes.saturating_add(heads as u64)
}

/// Bytes of a reservation of oids in the journal.
pub(super) const RESERVATION: u64 = 20;
/// What a group may need around it: the header of a segment that begins with it, and its padding.
const AROUND_GROUP: u64 = SEGMENT_HEADER as u64 + 7;
