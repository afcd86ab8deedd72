//! How often values of each size have come: enough for a median and a worst case, in no memory.

use serde::Serialize;

/// Values counted by powers of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// How many values had so many bits; the last has all that had more.
    counts: [u64; BUCKETS],
}

/// What a histogram has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// At most this for half of the values; 0 if there were none.
    p50: u64,
    /// At most this for 99 of 100.
    p99: u64,
    /// The largest value of each bucket that has any, and how many it has.
    buckets: Vec<(u64, u64)>,
}

impl Histogram {
    /// Counts a value.
    pub(crate) fn add(&mut self, value: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bits.min(BUCKETS - 1)) {
            *count += 1;
        }
    }

    /// What has been counted so far.
    pub(crate) fn summary(&self) -> Summary {
        let buckets: Vec<(u64, u64)> =
            (0_u32..).map(largest).zip(self.counts).filter(|&(_, count)| count > 0).collect();
        Summary { p50: quantile(&buckets, 50), p99: quantile(&buckets, 99), buckets }
    }
}

/// The largest value of that many bits.
fn largest(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// What so many of 100 values are at most, as far as the buckets know.
fn quantile(buckets: &[(u64, u64)], per_cent: u64) -> u64 {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let wanted = (u128::from(all) * u128::from(per_cent)).div_ceil(100);
    let mut seen = 0;
    let found = buckets.iter().find(|(_, count)| {
        seen += u128::from(*count);
        seen >= wanted
    });
    found.map_or(0, |&(largest, _)| largest)
}

/// Values from 2^31 on, which are half an hour in microseconds, are counted together.
const BUCKETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_summed_up_as_nothing() {
        let summary = Histogram::default().summary();
        assert_eq!(summary, Summary { p50: 0, p99: 0, buckets: Vec::new() });
    }

    #[test]
    fn each_value_is_in_the_bucket_of_its_bits() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 1_000, u64::MAX] {
            histogram.add(value);
        }
        let buckets = vec![(0, 1), (1, 1), (3, 2), (7, 1), (1_023, 1), ((1 << 31) - 1, 1)];
        assert_eq!(histogram.summary().buckets, buckets);
    }

    #[test]
    fn a_quantile_is_what_so_many_values_do_not_exceed() {
        let mut histogram = Histogram::default();
        (0..98).for_each(|_| histogram.add(1));
        (0..2).for_each(|_| histogram.add(100));
        let Summary { p50, p99, .. } = histogram.summary();
        assert_eq!((p50, p99), (1, 127));
    }
}
