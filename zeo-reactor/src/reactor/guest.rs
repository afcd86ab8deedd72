//! A reactor as the guest of another loop: the host waits, the reactor takes a turn when it should.

use std::{os::fd::BorrowedFd, time::Duration};

use super::{Reactor, wait::until_due};

impl<S: 'static> Reactor<S> {
    /// What a host's own loop waits on: readable when a turn would find something to do. `None`
    /// with a driver that has no such thing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rustix::event::{PollFd, PollFlags, Timespec, poll};
    /// use zeo_reactor::{MioDriver, Reactor};
    ///
    /// let mut guest = Reactor::new(MioDriver::new()?, 0);
    /// guest.with(|_, cx| {
    ///     cx.call_later(Duration::from_millis(1), |count: &mut i32, _| *count += 1);
    /// });
    /// while *guest.shared() == 0 {
    ///     let limit = guest.prepare_wait();
    ///     let limit = limit.map(|limit| Timespec::try_from(limit).expect("it is short"));
    ///     let fd = guest.fd().expect("mio has one");
    ///     // A real host waits on its own descriptors as well.
    ///     poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], limit.as_ref())?;
    ///     guest.turn(Some(Duration::ZERO))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.cx.driver.fd()
    }

    /// How long a host may wait on [`fd`](Self::fd) before the next turn; `None` is without limit.
    /// From now until that turn, a call from another thread makes the descriptor readable.
    ///
    /// A turn must follow whatever ends the wait, and every wait must be prepared anew.
    pub fn prepare_wait(&mut self) -> Option<Duration> {
        let sleeps = !self.cx.has_work() && self.cx.mailbox.signal.begin_wait();
        if sleeps { until_due(&self.cx, None) } else { Some(Duration::ZERO) }
    }
}
