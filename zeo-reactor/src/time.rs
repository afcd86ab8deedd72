//! Points in time as a reactor sees them: monotonic, since an arbitrary start that its driver chose.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, Instant},
};

/// A point on a driver's monotonic clock. Times of different drivers cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The point that lies `elapsed` after the clock's start.
    pub const fn from_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How far this point lies after the clock's start.
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

/// Saturates at the end of time.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

/// How long ago `earlier` was; zero when it was not earlier.
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0.as_secs_f64())
    }
}

/// The machine's monotonic clock, for what is bound to real threads: the mio driver, waiting and giving way.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
