//! All that a simulated disk holds: what processes see, and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::faults::{Faults, broken};
use super::image::Image;
use super::{Random, in_memory};

/// What a [`SimDisk`](super::SimDisk) holds.
pub(super) struct State {
    pub(super) random: Random,
    /// Counts crashes; handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) locked: bool,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) inodes: Vec<Image>,
    /// Files without a name.
    pub(super) nameless: BTreeSet<u64>,
    pub(super) faults: Faults,
}

impl State {
    pub(super) fn image(&mut self, inode: u64) -> &mut Image {
        self.inodes.get_mut(in_memory(inode)).expect("inodes are never removed")
    }

    pub(super) fn new_inode(&mut self) -> u64 {
        self.inodes.push(Image::default());
        self.inodes.len() as u64 - 1
    }

    /// Gives the room of a nameless file back.
    pub(super) fn forget(&mut self, inode: u64) {
        if self.nameless.remove(&inode) {
            *self.image(inode) = Image::default();
        }
    }

    pub(super) fn used(&self) -> u64 {
        let size = |inode: &u64| self.inodes.get(in_memory(*inode)).map_or(0, |i| i.live.len());
        self.names.values().chain(&self.nameless).map(|inode| size(inode) as u64).sum()
    }

    /// How many bytes may be written at that place before the disk is full.
    pub(super) fn room(&mut self, inode: u64, offset: u64) -> usize {
        let Some(capacity) = self.faults.capacity else { return usize::MAX };
        let free = capacity.saturating_sub(self.used());
        let len = self.image(inode).live.len() as u64;
        in_memory((len + free).saturating_sub(offset))
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        self.faults.check_power()
    }

    /// Counts a change; whether it fails.
    pub(super) fn count_change(&mut self) -> io::Result<bool> {
        let used = self.used();
        self.faults.count_change(used)
    }

    /// Counts a change that happens or does not.
    pub(super) fn change(&mut self, what: &str) -> io::Result<()> {
        if self.count_change()? { Err(broken(what)) } else { Ok(()) }
    }

    /// What a failed sync leaves: some sectors durable, the others considered clean.
    pub(super) fn lose_a_part_for_good(&mut self, inode: u64) {
        let mut random = self.random.split();
        let image = self.image(inode);
        for sector in std::mem::take(&mut image.dirty) {
            if random.below(2) == 0 {
                image.sync_sector(sector);
            }
        }
    }

    pub(super) fn crash(&mut self) {
        for inode in std::mem::take(&mut self.nameless) {
            *self.image(inode) = Image::default();
        }
        let Self { random, names, durable_names, inodes, .. } = self;
        for image in inodes {
            image.crash(random);
        }
        *durable_names = surviving_names(random, names, durable_names);
        names.clone_from(durable_names);
        self.faults.clear();
        self.life += 1;
        self.locked = false;
    }
}

/// The directory after a power cut: of each change that was not synced, either side.
fn surviving_names(
    random: &mut Random,
    live: &BTreeMap<String, u64>,
    durable: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let all: BTreeSet<&String> = live.keys().chain(durable.keys()).collect();
    let pick = |name: &&String| {
        let side = if random.below(2) == 0 { live } else { durable };
        side.get(*name).map(|inode| ((*name).clone(), *inode))
    };
    all.iter().filter_map(pick).collect()
}
