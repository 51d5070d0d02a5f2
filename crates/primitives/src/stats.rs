//! How long threads wait for locks and hold them: histograms of nanoseconds, one pair for each name of a lock.
//!
//! A value is counted in one of eight buckets between a power of two and the next, so a percentile is right to an
//! eighth. Threads count in different stripes, so that they do not meet. The memory is bounded: after [`SERIES_MAX`]
//! names all further ones share a series called [`OTHERS`], and no series is ever given back.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::raw::guarded::Guarded;

/// How many names have a series of their own.
pub const SERIES_MAX: usize = 128;
/// The name of the series that the remaining locks share.
pub const OTHERS: &str = "(others)";

const STRIPES: usize = 4;
/// Buckets between a power of two and the next, as a power of two.
const SPLIT_BITS: u32 = 3;
const SPLITS: u64 = 1 << SPLIT_BITS;
/// Values of 2^40 ns, 18 minutes, and more are counted in the last bucket.
const VALUE_BITS: u32 = 40;
const BUCKETS: usize = ((VALUE_BITS - SPLIT_BITS + 1) as usize) << SPLIT_BITS;

/// Counts values; many threads may record at once.
pub struct Histogram {
    stripes: [Stripe; STRIPES],
}

#[repr(align(128))]
struct Stripe {
    buckets: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

/// What a histogram holds at one moment. Values that are recorded meanwhile may be in it or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// Half of the values are at most this, to an eighth.
    pub p50_ns: u64,
    /// 99 of 100 values are at most this, to an eighth.
    pub p99_ns: u64,
    /// The largest value, exactly.
    pub max_ns: u64,
}

fn bucket(value: u64) -> usize {
    if value < SPLITS {
        return value as usize;
    }
    let power = value.ilog2();
    let split = (value >> (power - SPLIT_BITS)) & (SPLITS - 1);
    let idx = (u64::from(power - SPLIT_BITS + 1) << SPLIT_BITS) + split;
    (idx as usize).min(BUCKETS - 1)
}

/// The largest value that is counted in this bucket.
fn upper_bound(idx: usize) -> u64 {
    let idx = idx as u64;
    if idx < SPLITS {
        return idx;
    }
    let power = (idx >> SPLIT_BITS) - 1;
    ((SPLITS + (idx & (SPLITS - 1)) + 1) << power) - 1
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty one.
    pub const fn new() -> Self {
        Histogram {
            stripes: [const { Stripe { buckets: [const { AtomicU64::new(0) }; BUCKETS], max: AtomicU64::new(0) } };
                STRIPES],
        }
    }

    /// Counts a value. `thread` chooses the stripe.
    pub fn record(&self, value_ns: u64, thread: usize) {
        let idx = (thread as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62;
        let stripe = &self.stripes[idx as usize];
        stripe.buckets[bucket(value_ns)].fetch_add(1, Relaxed);
        if value_ns > stripe.max.load(Relaxed) {
            stripe.max.fetch_max(value_ns, Relaxed);
        }
    }

    /// What it holds now.
    pub fn summary(&self) -> Summary {
        let mut counts = [0_u64; BUCKETS];
        for stripe in &self.stripes {
            for (count, bucket) in counts.iter_mut().zip(&stripe.buckets) {
                *count += bucket.load(Relaxed);
            }
        }
        let max_ns = self.stripes.iter().map(|stripe| stripe.max.load(Relaxed)).max().unwrap_or(0);
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
        Summary { count, p50_ns: percentile(50), p99_ns: percentile(99), max_ns }
    }

    /// Forgets all values.
    pub fn clear(&self) {
        for stripe in &self.stripes {
            stripe.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
            stripe.max.store(0, Relaxed);
        }
    }
}

/// The two histograms of all locks of one name.
pub struct Series {
    /// The name.
    pub name: String,
    /// How long threads waited for such a lock.
    pub waits: Histogram,
    /// How long threads held one.
    pub holds: Histogram,
}

static SERIES: Guarded<Vec<&'static Series>> = Guarded::new(Vec::new());

/// The series of this name. It is made when it is first asked for.
pub fn series(name: &str) -> &'static Series {
    let find = |all: &[&'static Series], name: &str| all.iter().find(|series| series.name == name).copied();
    let find_or_room = |all: &mut Vec<_>| find(all, name).ok_or(all.len() < SERIES_MAX);
    let name = match SERIES.with(find_or_room) {
        Ok(found) => return found,
        Err(true) => name,
        Err(false) => OTHERS,
    };
    if let Some(found) = SERIES.with(|all| find(all, name)) {
        return found;
    }
    let made = Series { name: name.to_owned(), waits: Histogram::new(), holds: Histogram::new() };
    let made: &'static Series = Box::leak(Box::new(made));
    // Another thread may have been faster. Then ours leaks, which can happen a few times for each name.
    SERIES.with(|all| {
        find(all, name).unwrap_or_else(|| {
            all.push(made);
            made
        })
    })
}

/// All series, in the order in which they were made.
pub fn all() -> Vec<&'static Series> {
    SERIES.with(|all| all.clone())
}

/// Nanoseconds since the first call, on a clock that never goes back.
pub fn now_ns() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed().as_nanos() as u64
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
    fn percentiles_are_right_to_an_eighth() {
        let histogram = Histogram::new();
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
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let histogram = &histogram;
                scope.spawn(move || (0..1000).for_each(|value| histogram.record(value, thread)));
            }
        });
        assert_eq!(histogram.summary().count, 4000);
    }

    #[test]
    fn names_beyond_the_limit_share_a_series() {
        (0..SERIES_MAX).for_each(|idx| {
            series(&format!("lock {idx}"));
        });
        let late = series("one more");
        assert_eq!(late.name, OTHERS);
        assert!(std::ptr::eq(late, series("and another")));
        assert!(std::ptr::eq(series("lock 0"), series("lock 0")));
        assert!(all().len() <= SERIES_MAX + 1);
    }
}
