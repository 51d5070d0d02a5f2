//! How long things take: for each name a histogram of durations that any thread adds to without a lock.
//!
//! A quantile is exact to one part in 16 of the value (the width of a bucket); count, sum and maximum are exact. A
//! summary that is read while others add is weakly consistent: it may lack additions that run at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Buckets for each doubling: the upper bound on the error of a quantile.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// From 1 ns to the largest duration that is told apart, about 290 years.
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;
/// How many names there may be; durations of further names are counted under [`OTHERS`].
pub const NAMES_MAX: usize = 1_000;
/// The name for those beyond [`NAMES_MAX`].
pub const OTHERS: &str = "(others)";

/// Durations under one name.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

/// What a histogram says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many durations there were.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum_s: f64,
    /// Half took at most this long, in seconds.
    pub p50_s: f64,
    /// Nine of ten took at most this long.
    pub p90_s: f64,
    /// 99 of 100 took at most this long.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, sum_ns: AtomicU64::new(0), max_ns: AtomicU64::new(0) }
    }
}

/// Buckets of equal width below `STEPS`; above, `STEPS` of them for each doubling.
fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doubling = ns.ilog2() - STEP_BITS;
    (u64::from(doubling + 1) * STEPS + ((ns >> doubling) - STEPS)) as usize
}

/// The largest duration that falls into a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let (row, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match row {
        0 => step,
        _ => ((STEPS + step) << (row - 1)) + ((1 << (row - 1)) - 1),
    }
}

impl Histogram {
    /// Adds a duration, in seconds. What is negative or no number counts as 0.
    pub fn add(&self, seconds: f64) {
        // The conversion saturates, and makes 0 of NaN.
        let ns = (seconds * 1e9) as u64;
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// What the durations so far say.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.max_ns.load(Ordering::Relaxed);
        let quantile = |share: f64| -> f64 {
            let rank = ((count as f64 * share).ceil() as u64).max(1);
            let mut seen = 0;
            let reaches = |n: &u64| {
                seen += n;
                seen >= rank
            };
            let place = counts.iter().position(reaches);
            place.map_or(0, |place| upper_ns(place).min(max_ns)) as f64 / 1e9
        };
        Summary {
            count,
            sum_s: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
            p50_s: quantile(0.5),
            p90_s: quantile(0.9),
            p99_s: quantile(0.99),
            max_s: max_ns as f64 / 1e9,
        }
    }
}

/// Histograms by name.
#[derive(Debug, Default)]
pub struct Figures {
    by_name: RwLock<BTreeMap<String, Arc<Histogram>>>,
}

impl Figures {
    /// The histogram of a name; made if there is none.
    pub fn of(&self, name: &str) -> Arc<Histogram> {
        if let Some(known) = self.by_name.read().get(name) {
            return Arc::clone(known);
        }
        let mut by_name = self.by_name.write();
        let is_full = by_name.len() >= NAMES_MAX && !by_name.contains_key(name);
        let name = if is_full { OTHERS } else { name };
        Arc::clone(by_name.entry(name.to_owned()).or_default())
    }

    /// What each name says.
    #[must_use]
    pub fn summaries(&self) -> BTreeMap<String, Summary> {
        self.by_name.read().iter().map(|(name, histogram)| (name.clone(), histogram.summary())).collect()
    }

    /// What one name says; `None` if nothing was added under it.
    #[must_use]
    pub fn summary(&self, name: &str) -> Option<Summary> {
        self.by_name.read().get(name).map(|histogram| histogram.summary())
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let old = std::mem::take(&mut *self.by_name.write());
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_falls_into_the_bucket_that_ends_at_or_above_it() {
        for ns in (0..5_000).chain([1 << 40, (1 << 40) + 12345, u64::MAX / 3, u64::MAX]) {
            let place = bucket(ns);
            assert!(upper_ns(place) >= ns, "{ns}");
            assert!(place == 0 || upper_ns(place - 1) < ns, "{ns}");
            assert!((upper_ns(place) - ns) as f64 <= ns as f64 / STEPS as f64, "{ns}");
        }
    }

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(f64::from(ms) / 1e3));
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        assert!((summary.sum_s - 500.5).abs() < 1e-6);
        assert_eq!(summary.max_s, 1.0);
        for (found, exact) in [(summary.p50_s, 0.5), (summary.p90_s, 0.9), (summary.p99_s, 0.99)] {
            assert!(found >= exact && found <= exact * (1.0 + 1.0 / STEPS as f64), "{found} for {exact}");
        }
    }

    #[test]
    fn odd_durations_count_as_nothing_or_as_the_longest() {
        let histogram = Histogram::default();
        [f64::NAN, -1.0, 0.0].into_iter().for_each(|odd| histogram.add(odd));
        assert_eq!(histogram.summary().max_s, 0.0);
        assert_eq!(histogram.summary().p99_s, 0.0);
        histogram.add(f64::INFINITY);
        assert_eq!(histogram.summary().count, 4);
    }

    #[test]
    fn threads_lose_no_durations() {
        let figures = Figures::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..5_000).for_each(|_| figures.of("query").add(0.001)));
            }
        });
        let summary = figures.summary("query").unwrap();
        assert_eq!(summary.count, 15_000);
        assert!((summary.sum_s - 15.0).abs() < 1e-6);
    }

    #[test]
    fn too_many_names_share_one() {
        let figures = Figures::default();
        for n in 0..NAMES_MAX + 10 {
            figures.of(&n.to_string()).add(0.5);
        }
        assert_eq!(figures.summary(OTHERS).unwrap().count, 10);
        assert_eq!(figures.summaries().len(), NAMES_MAX + 1);
        figures.clear();
        assert_eq!(figures.summary("0"), None);
    }
}
