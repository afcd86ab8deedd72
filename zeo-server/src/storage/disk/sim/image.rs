//! One simulated file: what processes see of it, and what a power cut leaves.

use std::collections::BTreeSet;

use super::{Random, in_memory};

/// What is written whole or not at all, in bytes.
const SECTOR: usize = 512;

/// One file: as seen, as a power cut leaves it, and the sectors in which the two may differ.
#[derive(Default)]
pub(super) struct Image {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
}

impl Image {
    pub(super) fn write(&mut self, data: &[u8], offset: usize) {
        let end = offset + data.len();
        if end > self.live.len() {
            self.set_len(end);
        }
        if let Some(target) = self.live.get_mut(offset..end) {
            target.copy_from_slice(data);
        }
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let changed = self.live.len().min(len)..self.live.len().max(len);
        self.live.resize(len, 0);
        self.dirty.extend(changed.start / SECTOR..changed.end.div_ceil(SECTOR));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.sync_sector(sector);
        }
    }

    /// Makes one sector durable, and the length as far as it reaches.
    pub(super) fn sync_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.live.len());
        let Some(from) = self.live.get(start..end) else { return };
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        if let Some(into) = self.durable.get_mut(start..end) {
            into.copy_from_slice(from);
        }
    }

    /// Keeps of what was not synced all, nothing, or any part.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let kept = [0, 50, 90, 100].get(in_memory(random.below(4))).copied().unwrap_or(0);
        if self.live.len() < self.durable.len() && random.below(2) == 0 {
            self.durable.truncate(self.live.len());
        }
        for sector in std::mem::take(&mut self.dirty) {
            if random.below(100) < kept {
                self.sync_sector(sector);
            }
        }
        self.live.clone_from(&self.durable);
    }
}
