//! Memory that the journal is read into, used again once nobody holds any of it.
//!
//! What was read is given away in slices. When the last of a buffer's slices is dropped, on
//! whatever thread that is, the buffer comes back by itself: fresh memory must be zeroed, and comes
//! from the kernel page by page, which takes a tenth of the time of reading a page of history.

use std::io;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use zeo_proto::PINNED_MAX;

/// The buffers of one journal that are not in use: at most [`MOST_KEPT`]; those beyond are freed.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    kept: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        let (home, kept) = bounded(MOST_KEPT);
        Self { kept, home }
    }

    /// What `read` puts into memory for `len` bytes; it returns how many these are.
    pub(super) fn fill(
        &self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Bytes> {
        let mut lent = self.lend(len);
        let filled = read(lent.memory.get_mut(..len).unwrap_or_default())?;
        let mut bytes = Bytes::from_owner(lent);
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// At least `len` bytes. What is much shorter than a buffer must not keep one alive, so it has
    /// memory of its own, as has what is longer.
    fn lend(&self, len: usize) -> Lent {
        if !(BUFFER / PINNED_MAX..=BUFFER).contains(&len) {
            return Lent { memory: vec![0; len], home: None };
        }
        let memory = self.kept.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
        Lent { memory, home: Some(self.home.clone()) }
    }
}

/// Memory in use, and where it goes then.
struct Lent {
    memory: Vec<u8>,
    home: Option<Sender<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // Where enough are kept it is freed.
            drop(home.try_send(std::mem::take(&mut self.memory)));
        }
    }
}

/// Bytes of a buffer: 256 KiB.
pub(super) const BUFFER: usize = 256 << 10;
/// Buffers that are kept: as many as a page of a MiB takes, and one more.
const MOST_KEPT: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_last_slice_is_gone() {
        let buffers = Buffers::new();
        let first = filled(&buffers, BUFFER);
        let slice = first.slice(9..10);
        let at = first.as_ptr();
        drop(first);
        let second = filled(&buffers, BUFFER);
        assert_ne!(second.as_ptr(), at, "a slice of it is still held");
        drop(slice);
        assert_eq!(filled(&buffers, BUFFER / 2).as_ptr(), at);
    }

    #[test]
    fn no_more_buffers_are_kept_than_the_bound() {
        let buffers = Buffers::new();
        let many: Vec<_> = (0..3 * MOST_KEPT).map(|_| filled(&buffers, BUFFER)).collect();
        drop(many);
        assert_eq!(buffers.kept.len(), MOST_KEPT);
    }

    #[test]
    fn what_is_short_or_long_has_memory_of_its_own() {
        let buffers = Buffers::new();
        drop([filled(&buffers, BUFFER / PINNED_MAX - 1), filled(&buffers, BUFFER + 1)]);
        assert_eq!(buffers.kept.len(), 0);
    }

    #[test]
    fn what_a_buffer_held_before_is_not_seen_again() {
        let buffers = Buffers::new();
        drop(filled(&buffers, BUFFER));
        let short = buffers.fill(BUFFER, |_| Ok(3)).unwrap();
        assert_eq!(short.len(), 3);
        assert!(buffers.fill(BUFFER, |_| Err(io::Error::other("broken"))).is_err());
        assert_eq!(buffers.kept.len(), 1, "a failed read loses no buffer");
    }

    fn filled(buffers: &Buffers, len: usize) -> Bytes {
        let read = |memory: &mut [u8]| {
            memory.fill(7);
            Ok(memory.len())
        };
        let bytes = buffers.fill(len, read).unwrap();
        assert_eq!(bytes.len(), len);
        bytes
    }
}
