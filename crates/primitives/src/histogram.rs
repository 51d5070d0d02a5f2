//! A histogram of nanoseconds that many threads add to without a lock.
//!
//! A value is counted in one of sixteen buckets between a power of two and the next, so a quantile is right to a
//! sixteenth; count, sum and maximum are exact. Threads count in different stripes, so that they meet less. A summary
//! that is read while others add is weakly consistent: it may lack additions that run at the same time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Buckets between a power of two and the next, as a power of two.
const SPLIT_BITS: u32 = 4;
const SPLITS: u64 = 1 << SPLIT_BITS;
/// To the largest value that there is, about 580 years.
const BUCKETS: usize = ((64 - SPLIT_BITS + 1) as usize) << SPLIT_BITS;

/// Counts values; many threads may record at once.
#[derive(Debug)]
pub struct Histogram {
    stripes: Box<[Stripe]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// Their sum.
    pub sum_ns: u64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// 9 of 10 values are at most this.
    pub p90_ns: u64,
    /// 99 of 100 values are at most this.
    pub p99_ns: u64,
    /// The largest value.
    pub max_ns: u64,
}

fn bucket(value: u64) -> usize {
    if value < SPLITS {
        return value as usize;
    }
    let power = value.ilog2() - SPLIT_BITS;
    let split = (value >> power) & (SPLITS - 1);
    ((u64::from(power + 1) << SPLIT_BITS) + split) as usize
}

/// The largest value that is counted in this bucket.
fn upper_bound(idx: usize) -> u64 {
    let idx = idx as u64;
    if idx < SPLITS {
        return idx;
    }
    let power = (idx >> SPLIT_BITS) - 1;
    ((SPLITS + (idx & (SPLITS - 1))) << power) + ((1 << power) - 1)
}

impl Histogram {
    /// An empty one of so many stripes, a power of two of at most 8, with 8 KiB for each.
    pub fn new(n_stripes: usize) -> Self {
        let stripe = |_| Stripe {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        };
        Histogram { stripes: (0..n_stripes).map(stripe).collect() }
    }

    /// Counts a value. `thread` chooses the stripe.
    pub fn record(&self, value_ns: u64, thread: usize) {
        let hash = (thread as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61;
        let stripe = &self.stripes[hash as usize % self.stripes.len()];
        stripe.buckets[bucket(value_ns)].fetch_add(1, Relaxed);
        stripe.sum.fetch_add(value_ns, Relaxed);
        if value_ns > stripe.max.load(Relaxed) {
            stripe.max.fetch_max(value_ns, Relaxed);
        }
    }

    /// What it holds now.
    pub fn summary(&self) -> Summary {
        let mut counts = [0_u64; BUCKETS];
        let (mut sum_ns, mut max_ns) = (0_u64, 0);
        for stripe in &self.stripes {
            for (count, bucket) in counts.iter_mut().zip(&stripe.buckets) {
                *count += bucket.load(Relaxed);
            }
            sum_ns = sum_ns.wrapping_add(stripe.sum.load(Relaxed));
            max_ns = max_ns.max(stripe.max.load(Relaxed));
        }
        let count: u64 = counts.iter().sum();
        let percentile = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut below = 0;
            let is_reached = |n: &u64| {
                below += n;
                below >= rank
            };
            let idx = counts.iter().position(is_reached).unwrap_or(0);
            upper_bound(idx).min(max_ns)
        };
        let [p50_ns, p90_ns, p99_ns] = [50, 90, 99].map(percentile);
        Summary { count, sum_ns, p50_ns, p90_ns, p99_ns, max_ns }
    }

    /// Forgets all values.
    pub fn clear(&self) {
        for stripe in &self.stripes {
            stripe.buckets.iter().chain([&stripe.sum, &stripe.max]).for_each(|word| word.store(0, Relaxed));
        }
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_bound_and_no_more() {
        for idx in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper_bound(idx)), idx);
            assert_eq!(bucket(upper_bound(idx) + 1), idx + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn each_value_falls_into_the_bucket_that_ends_at_or_above_it() {
        for ns in (0..5_000).chain([1 << 40, (1 << 40) + 12345, u64::MAX / 3, u64::MAX]) {
            let place = bucket(ns);
            assert!(upper_bound(place) >= ns, "{ns}");
            assert!(place == 0 || upper_bound(place - 1) < ns, "{ns}");
            assert!((upper_bound(place) - ns) as f64 <= ns as f64 / SPLITS as f64, "{ns}");
        }
    }

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        let histogram = Histogram::new(4);
        (1..=1000).for_each(|value| histogram.record(value * 1000, value as usize));
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.max_ns), (1000, 1_000_000));
        assert!((500_000..=562_500).contains(&summary.p50_ns), "{summary:?}");
        assert!((990_000..=1_000_000).contains(&summary.p99_ns), "{summary:?}");
        histogram.clear();
        assert_eq!(histogram.summary(), Summary::default());
    }

    #[test]
    fn no_value_is_lost_between_threads() {
        let histogram = Histogram::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let histogram = &histogram;
                scope.spawn(move || (0..1000).for_each(|value| histogram.record(value, thread)));
            }
        });
        assert_eq!(histogram.summary().count, 4000);
    }
}
