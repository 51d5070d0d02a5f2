//! How long things take: for each name a histogram of durations that any thread adds to without a lock.
//!
//! A quantile is exact to one part in 16 of the value; count, sum and maximum are exact (see [`Histogram`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use primitives::histogram::Histogram;
use primitives::raw::thread::ident;

/// How many names there may be; durations of further names are counted under [`OTHERS`].
pub const NAMES_MAX: usize = 1_000;
/// The name for those beyond [`NAMES_MAX`].
pub const OTHERS: &str = "(others)";

/// Durations under one name.
#[derive(Debug)]
pub struct Durations(Histogram);

/// What durations say.
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

impl Default for Durations {
    fn default() -> Self {
        Durations(Histogram::new(1))
    }
}

impl Durations {
    /// Adds a duration, in seconds. What is negative or no number counts as 0.
    pub fn add(&self, seconds: f64) {
        // The conversion saturates, and makes 0 of NaN.
        self.0.record((seconds * 1e9) as u64, ident());
    }

    /// What the durations so far say.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let told = self.0.summary();
        let seconds = |ns: u64| ns as f64 / 1e9;
        Summary {
            count: told.count,
            sum_s: seconds(told.sum_ns),
            p50_s: seconds(told.p50_ns),
            p90_s: seconds(told.p90_ns),
            p99_s: seconds(told.p99_ns),
            max_s: seconds(told.max_ns),
        }
    }
}

/// Durations by name.
#[derive(Debug, Default)]
pub struct Figures {
    by_name: RwLock<BTreeMap<String, Arc<Durations>>>,
}

impl Figures {
    /// The durations of a name; made if there is none.
    pub fn of(&self, name: &str) -> Arc<Durations> {
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
        self.by_name.read().iter().map(|(name, durations)| (name.clone(), durations.summary())).collect()
    }

    /// What one name says; `None` if nothing was added under it.
    #[must_use]
    pub fn summary(&self, name: &str) -> Option<Summary> {
        self.by_name.read().get(name).map(|durations| durations.summary())
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
    fn quantiles_are_near_the_true_ones() {
        let histogram = Durations::default();
        (1..=1000).for_each(|ms| histogram.add(f64::from(ms) / 1e3));
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        assert!((summary.sum_s - 500.5).abs() < 1e-6);
        assert_eq!(summary.max_s, 1.0);
        for (found, exact) in [(summary.p50_s, 0.5), (summary.p90_s, 0.9), (summary.p99_s, 0.99)] {
            assert!(found >= exact && found <= exact * (1.0 + 1.0 / 16.0), "{found} for {exact}");
        }
    }

    #[test]
    fn odd_durations_count_as_nothing_or_as_the_longest() {
        let histogram = Durations::default();
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
