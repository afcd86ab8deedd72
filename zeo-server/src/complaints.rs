//! What the log says of peers that are closed, and how often: many bad peers must not become as
//! many lines.

use std::fmt::Display;
use std::time::Duration;

use zeo_reactor::{ConnId, Context};

use crate::server::{Server, peer};

/// How much was said lately.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    said: u32,
    unsaid: u64,
    /// A timer ends the time in which these were counted.
    is_counting: bool,
}

impl Complaints {
    /// Whether one more may be said.
    fn admit(&mut self) -> bool {
        let admitted = self.said < SAID_MAX;
        self.said += u32::from(admitted);
        self.unsaid += u64::from(!admitted);
        admitted
    }
}

impl Server {
    /// Says why a connection is closed, unless that was said of many just now.
    pub(crate) fn complain(&mut self, cx: &mut Context<Self>, conn: ConnId, why: impl Display) {
        if self.complaints.admit() {
            tracing::warn!(%conn, peer = peer(cx, conn), "closing: {why}");
        }
        if !std::mem::replace(&mut self.complaints.is_counting, true) {
            cx.call_later(PERIOD, |server, _| server.sum_up_complaints());
        }
    }

    fn sum_up_complaints(&mut self) {
        let Complaints { unsaid, .. } = std::mem::take(&mut self.complaints);
        if unsaid > 0 {
            tracing::warn!(unsaid, "closing: as many more, for such reasons");
        }
    }
}

/// Complaints in [`PERIOD`] that are said one by one.
const SAID_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_complaints_a_few_are_said_and_the_others_counted() {
        let mut complaints = Complaints::default();
        let said = (0..1_000).filter(|_| complaints.admit()).count();
        assert_eq!((said, complaints.unsaid), (20, 980));
    }
}
