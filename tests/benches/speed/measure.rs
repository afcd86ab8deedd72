//! Rounds that alternate between the sides of a comparison, and what one side did in one round.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::Plan;

/// What was done in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// How often a second, all callers together.
    pub(crate) rate: f64,
    /// How long one took, in microseconds: half of them no longer than that.
    pub(crate) p50: f64,
    /// 99 of 100 no longer than that.
    pub(crate) p99: f64,
}

/// Measures all sides in each round, one after the other; the results side by side. Every second
/// round goes backwards, because a side may leave work behind for the next one, such as an index.
pub(crate) fn rounds<T, const N: usize>(
    plan: &Plan,
    sides: [&mut dyn FnMut() -> T; N],
) -> [Vec<T>; N] {
    let mut results = std::array::from_fn(|_| Vec::new());
    let mut sides: Vec<_> = sides.into_iter().enumerate().collect();
    for _ in 0..plan.rounds {
        for (place, side) in &mut sides {
            results[*place].push(side());
        }
        sides.reverse();
    }
    results
}

/// Does `f` with one thing after the other, until the time or the things are used up.
pub(crate) fn each<T>(slice: Duration, over: impl Iterator<Item = T>, f: impl FnMut(T)) -> Sample {
    sample(vec![times(slice, over, f)])
}

/// Has that many threads do `f`, each again and again; it is told which of them it is.
pub(crate) fn callers(slice: Duration, count: usize, f: impl Fn(usize) + Sync) -> Sample {
    let ready = Barrier::new(count);
    let call = |caller| {
        ready.wait();
        times(slice, std::iter::repeat(caller), &f)
    };
    thread::scope(|scope| {
        let call = &call;
        let threads: Vec<_> = (0..count).map(|caller| scope.spawn(move || call(caller))).collect();
        sample(threads.into_iter().map(|thread| thread.join().unwrap()).collect())
    })
}

/// How often a second `f` can be done, called `batch` times between looks at the clock.
pub(crate) fn rate(slice: Duration, batch: u32, mut f: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < slice {
        (0..batch).for_each(|_| f());
        count += batch;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// What one thread did: how long each took in microseconds, and all of it in seconds.
type Times = (Vec<f64>, f64);

fn times<T>(slice: Duration, over: impl Iterator<Item = T>, mut f: impl FnMut(T)) -> Times {
    let (begin, mut times) = (Instant::now(), Vec::new());
    let mut last = begin;
    for item in over {
        f(item);
        let now = Instant::now();
        times.push((now - last).as_secs_f64() * 1e6);
        last = now;
        if now - begin > slice {
            break;
        }
    }
    (times, (last - begin).as_secs_f64())
}

fn sample(threads: Vec<Times>) -> Sample {
    let rate = threads.iter().map(|(times, seconds)| times.len() as f64 / seconds).sum();
    let mut times: Vec<f64> = threads.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_by(f64::total_cmp);
    Sample { rate, p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}
