//! Where a revision is in the journal.

/// The index in sled.
#[derive(Debug)]
pub struct SledIndex;
