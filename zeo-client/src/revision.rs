//! What a load returns: one revision of one object.

use bytes::Bytes;
use zeo_proto::Tid;

/// One revision of an object: its data, and when it was what readers saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The object's data. Cloning it copies no bytes.
    pub data: Bytes,
    /// The serial: the tid of the transaction that wrote it.
    pub tid: Tid,
    /// The tid that superseded it, or a tid up to which it is known to be valid; `None` when it was
    /// current as far as this client knew at the moment of the load.
    pub end: Option<Tid>,
}

impl Revision {
    /// Whether this is what a reader of `before` sees, where `last` is the last tid whose changes
    /// are known.
    pub(crate) fn is_valid_before(&self, before: Tid, last: Tid) -> bool {
        self.tid < before && before <= self.end.unwrap_or_else(|| last.next())
    }
}
