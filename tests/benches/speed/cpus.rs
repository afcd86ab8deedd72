//! Which CPUs the two ends of a comparison run on, and how much of them a thread takes.
//!
//! Two threads that wait for each other cost ten times more on two idle CPUs, which have to be
//! woken, than on one, so the placement decides a comparison. It is measured both ways, and as the
//! system places them.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the ends run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Where the system puts them.
    Anywhere,
    /// Each on a CPU of its own.
    Apart,
    /// Both on one.
    Together,
}

impl Placement {
    /// Those that this machine can have.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Anywhere, Self::Apart, Self::Together].into_iter().filter(|at| at.is_possible())
    }

    /// Each on a CPU of its own, where that can be had.
    pub(crate) fn widest() -> Self {
        if Self::Apart.is_possible() { Self::Apart } else { Self::Together }
    }

    fn is_possible(self) -> bool {
        self == Self::Together || usable().len() > 1
    }

    /// Does `f` on the client's CPU, and so what the threads do that it starts.
    pub(crate) fn client<T>(self, f: impl FnOnce() -> T) -> T {
        if self == Self::Anywhere { f() } else { on(0, f) }
    }

    /// Does `f` on the server's CPU, and so what the threads do that it starts.
    pub(crate) fn server<T>(self, f: impl FnOnce() -> T) -> T {
        match self {
            Self::Anywhere => f(),
            Self::Apart => on(1, f),
            Self::Together => on(0, f),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anywhere => "placed by the system",
            Self::Apart => "ends on two CPUs",
            Self::Together => "all on one CPU",
        }
    }
}

/// Seconds of CPU that the threads of that name have taken, as Linux counts them.
pub(crate) fn taken_by(name: &str) -> f64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let named = threads.filter(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    let nanos = named.map(|thread| {
        let text = fs::read_to_string(thread.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    });
    nanos.sum::<f64>() / 1e9
}

/// Does `f` on one of the CPUs that this process may use.
fn on<T>(index: usize, f: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set(usable()[index]);
    sched_setaffinity(None, &one).unwrap();
    let result = f();
    sched_setaffinity(None, &before).unwrap();
    result
}

/// The CPUs that this process may use; the first look counts, before a thread is bound to one.
pub(crate) fn usable() -> &'static [usize] {
    static USABLE: OnceLock<Vec<usize>> = OnceLock::new();
    USABLE.get_or_init(|| {
        // The reactor's only look, too, is to be made now: it spins where there are several.
        let _: Result<(), _> = zeo_reactor::deferred().1.wait_timeout(Duration::ZERO);
        let all = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect()
    })
}
