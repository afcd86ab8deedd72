//! What goes wrong on a simulated disk, and when.

use std::io;

/// What goes wrong, counted down from the moment it was ordered.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) power_fails_in: Option<u64>,
    pub(super) change_fails_in: Option<u64>,
    pub(super) read_fails_in: Option<u64>,
    pub(super) fills_up_in: Option<u64>,
    pub(super) write_fails_in: Option<u64>,
    pub(super) sync_fails_in: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) ignores_sync: bool,
    pub(super) ignores_sync_dir: bool,
}

impl Faults {
    /// Whether something that was ordered by its number has not happened yet.
    pub(super) fn wait(&self) -> bool {
        let ordered = [self.change_fails_in, self.read_fails_in, self.fills_up_in];
        ordered.iter().any(Option::is_some) || self.power_fails_in.is_some_and(|left| left > 0)
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_fails_in == Some(0) { Err(no_power()) } else { Ok(()) }
    }

    /// Counts a change to a disk on which that many bytes are used; whether it fails half-way.
    ///
    /// The change with which the power fails is still carried out, but its caller never hears of
    /// it.
    pub(super) fn count_change(&mut self, used: u64) -> io::Result<bool> {
        self.check_power()?;
        if let Some(left) = &mut self.power_fails_in {
            *left -= 1;
        }
        if count_down(&mut self.fills_up_in) {
            self.capacity = Some(used);
        }
        Ok(count_down(&mut self.change_fails_in))
    }

    pub(super) fn check_read(&mut self) -> io::Result<()> {
        self.check_power()?;
        if count_down(&mut self.read_fails_in) { Err(broken("read")) } else { Ok(()) }
    }

    pub(super) fn write_fails(&mut self) -> bool {
        count_down(&mut self.write_fails_in)
    }

    pub(super) fn sync_fails(&mut self) -> bool {
        count_down(&mut self.sync_fails_in)
    }

    /// After a power cut: what was ordered is off, what the disk is like stays.
    pub(super) fn clear(&mut self) {
        let &mut Self { capacity, ignores_sync, ignores_sync_dir, .. } = self;
        *self = Self { capacity, ignores_sync, ignores_sync_dir, ..Self::default() };
    }
}

pub(super) fn broken(what: &str) -> io::Error {
    io::Error::other(format!("the simulated {what} fails"))
}

pub(super) fn no_power() -> io::Error {
    io::Error::other("the simulated power is off")
}

/// Counts down to a failure; true when it is due, which ends the counting.
fn count_down(left: &mut Option<u64>) -> bool {
    let due = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    due
}
