//! A disk in memory that fails as real ones do, decided by a seed.
//!
//! It keeps two images of everything: what processes see, and what a power cut would leave.
//! [`SimDisk::crash`] goes back to the latter, plus an arbitrary part of what was written since
//! the last sync, sector by sector: so writes are torn, reordered and half there.

mod faults;
mod image;
mod random;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, LockError};
use faults::{Faults, broken, no_power};
pub use random::Random;
use state::State;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// A file of a [`SimDisk`]; useless once the disk has crashed.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
    /// It has no name, and is gone with this handle.
    temporary: bool,
}

/// The lock of a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    life: u64,
}

impl SimDisk {
    /// An empty disk whose misfortunes follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            life: 0,
            locked: false,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            inodes: Vec::new(),
            nameless: BTreeSet::new(),
            faults: Faults::default(),
        })))
    }

    /// Cuts the power, and turns it on again: whoever used the disk is dead, what was synced is
    /// there, and of the rest an arbitrary part. Failures that were ordered are off.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// Lets the power fail at the `operations`-th change to the disk from now; from then until
    /// [`SimDisk::crash`], everything fails. Whoever asked for that change gets an error, though
    /// the disk may have carried it out.
    pub fn cut_power_in(&self, operations: u64) {
        self.state().faults.power_fails_in = Some(operations);
    }

    /// Lets the `changes`-th change to the disk from now (0 is the next) fail, once: a creation or
    /// removal, a write (half-way), a new length, a sync.
    pub fn fail_change_in(&self, changes: u64) {
        self.state().faults.change_fails_in = Some(changes);
    }

    /// Lets the `reads`-th read from now (0 is the next) fail, once.
    pub fn fail_read_in(&self, reads: u64) {
        self.state().faults.read_fails_in = Some(reads);
    }

    /// Lets the disk be full from the `changes`-th change on (0 is the next), until
    /// [`SimDisk::set_capacity`].
    pub fn fill_up_in(&self, changes: u64) {
        self.state().faults.fills_up_in = Some(changes);
    }

    /// Whether a failing change or read, a full disk or a power cut was ordered that has not come
    /// yet.
    pub fn is_waiting_to_fail(&self) -> bool {
        self.state().faults.wait()
    }

    /// Whether the power has not failed since the last crash.
    pub fn has_power(&self) -> bool {
        self.state().check_power().is_ok()
    }

    /// Takes back all failures that were ordered and have not come yet.
    pub fn forgive(&self) {
        self.state().faults.clear();
    }

    /// Lets the `writes`-th write from now (0 is the next) fail half-way, once.
    pub fn fail_write_in(&self, writes: u64) {
        self.state().faults.write_fails_in = Some(writes);
    }

    /// Lets the `syncs`-th sync of a file from now (0 is the next) fail, once. As on Linux, what
    /// it did not make durable stays so even if a later sync succeeds.
    pub fn fail_sync_in(&self, syncs: u64) {
        self.state().faults.sync_fails_in = Some(syncs);
    }

    /// Limits all files together to that many bytes; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().faults.capacity = bytes;
    }

    /// Lets syncs of files do nothing, for ever: to show that a test notices.
    pub fn ignore_syncs(&self) {
        self.state().faults.ignores_sync = true;
    }

    /// The same for the names of files.
    pub fn ignore_dir_syncs(&self) {
        self.state().faults.ignores_sync_dir = true;
    }

    /// How many bytes all files have together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Inverts the bits of one byte of a file for good: damage.
    ///
    /// # Panics
    ///
    /// If the file has no such byte: a mistake in a test.
    pub fn damage(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let inode = *state.names.get(name).expect("the file exists");
        let image = state.image(inode);
        for side in [&mut image.live, &mut image.durable] {
            *side.get_mut(offset).expect("the file is that long") ^= 0xff;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, life: u64) -> SimFile {
        SimFile { disk: self.clone(), inode, life, temporary: false }
    }
}

impl fmt::Display for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated disk")
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn lock(&self) -> Result<SimLock, LockError> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(LockError::Held(Some(std::process::id())));
        }
        Ok(SimLock { disk: self.clone(), life: state.life })
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change("creation")?;
        let inode = state.new_inode();
        state.names.insert(name.to_owned(), inode);
        state.check_power()?;
        Ok(self.handle(inode, state.life))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = self.state();
        state.check_power()?;
        let inode = state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(self.handle(*inode, state.life))
    }

    fn temporary(&self) -> io::Result<SimFile> {
        let mut state = self.state();
        state.change("creation")?;
        let inode = state.new_inode();
        state.nameless.insert(inode);
        Ok(SimFile { disk: self.clone(), inode, life: state.life, temporary: true })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change("removal")?;
        state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.check_power()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change("sync of the directory")?;
        if !state.faults.ignores_sync_dir {
            state.durable_names = state.names.clone();
        }
        state.check_power()
    }
}

impl SimFile {
    /// The disk, unless this handle died with its process.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(no_power()) }
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.check_power()?;
        Ok(state.image(self.inode).live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.faults.check_read()?;
        let live = &state.image(self.inode).live;
        let rest = live.get(in_memory(offset)..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        let (from, into) = (rest.get(..len), buffer.get_mut(..len));
        into.expect("the shorter of two").copy_from_slice(from.expect("the shorter of two"));
        Ok(len)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let fails = state.count_change()? || state.faults.write_fails();
        let room = state.room(self.inode, offset);
        let written = data.get(..if fails { data.len() / 2 } else { data.len() }.min(room));
        state.image(self.inode).write(written.unwrap_or(data), in_memory(offset));
        if fails {
            return Err(broken("write"));
        }
        if room < data.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        state.check_power()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change("change of length")?;
        let extra = len.saturating_sub(state.image(self.inode).live.len() as u64);
        if state.faults.capacity.is_some_and(|capacity| state.used() + extra > capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.image(self.inode).set_len(in_memory(len));
        state.check_power()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        if state.count_change()? || state.faults.sync_fails() {
            state.lose_a_part_for_good(self.inode);
            return Err(broken("sync"));
        }
        if !state.faults.ignores_sync {
            state.image(self.inode).sync();
        }
        state.check_power()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.temporary {
            self.disk.state().forget(self.inode);
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

fn in_memory(number: u64) -> usize {
    usize::try_from(number).expect("a simulated disk fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let mut losses = 0;
        for seed in 0..100 {
            let disk = SimDisk::new(seed);
            let file = disk.create("a").unwrap();
            file.write_at(&[1; 2048], 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir().unwrap();
            file.write_at(&[2; 2048], 2048).unwrap();
            disk.crash();
            assert!(file.size().is_err(), "the handle died");
            let mut found = [0; 4096];
            let len = disk.open("a").unwrap().read_at(&mut found, 0).unwrap();
            assert!(len >= 2048);
            assert_eq!(found[..2048], [1; 2048]);
            losses += usize::from(found[2048..] != [2; 2048]);
        }
        assert!((20..100).contains(&losses), "{losses} of 100 writes were lost or torn");
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        let survives = |seed| {
            let disk = SimDisk::new(seed);
            disk.create("a").unwrap().sync_data().unwrap();
            disk.crash();
            disk.open("a").is_ok()
        };
        let survivors = (0..100).filter(|&seed| survives(seed)).count();
        assert!((20..80).contains(&survivors), "{survivors} of 100");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(10));
        let file = disk.create("a").unwrap();
        let full = file.write_at(&[1; 20], 0).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 10);
        file.write_at(&[2; 10], 0).unwrap();
        assert_eq!(file.set_len(11).unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn what_a_failed_sync_lost_is_not_saved_by_a_later_one() {
        let lost = |seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create("a").unwrap();
            disk.sync_dir().unwrap();
            file.write_at(&[1; 512], 0).unwrap();
            disk.fail_sync_in(0);
            file.sync_data().unwrap_err();
            file.sync_data().unwrap();
            disk.crash();
            let mut found = [0; 512];
            disk.open("a").unwrap().read_at(&mut found, 0).unwrap();
            found != [1; 512]
        };
        assert!((0..20).any(lost));
    }

    #[test]
    fn nothing_works_without_power() {
        let disk = SimDisk::new(1);
        let file = disk.create("a").unwrap();
        disk.cut_power_in(2);
        file.write_at(b"x", 0).unwrap();
        file.write_at(b"x", 0).unwrap_err();
        file.sync_data().unwrap_err();
        disk.open("a").unwrap_err();
        disk.crash();
        disk.list().unwrap();
    }
}
