//! Numbers over time, in memory: for each metric a ring of its latest points, and what the operating system says about
//! this process.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::store::Sample;

/// How many metrics a registry holds. Further names are refused and counted: a name per user or per request is a slip.
pub const METRICS_MAX: usize = 1_000;

/// A number at a time, in seconds since 1970.
pub type Point = (f64, f64);

#[derive(Debug, Default)]
struct Held {
    series: BTreeMap<String, VecDeque<Point>>,
    n_refused: u64,
}

/// The metrics of a process, each with its latest points. Any thread may record; a reader gets a copy that was whole
/// at one moment.
#[derive(Debug)]
pub struct Registry {
    points_max: usize,
    held: Mutex<Held>,
}

impl Registry {
    /// Keeps up to `points_max` points for each metric; the oldest make room.
    #[must_use]
    pub fn new(points_max: usize) -> Self {
        Self { points_max: points_max.max(1), held: Mutex::default() }
    }

    /// Adds points, all at once for a reader. Numbers that are none (NaN) are left out. Says how many were refused
    /// because there are too many metrics.
    pub fn record(&self, at_s: f64, values: impl IntoIterator<Item = (String, f64)>) -> u64 {
        let values: Vec<(String, f64)> = values.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let mut held = self.held.lock();
        let mut n_refused = 0;
        for (name, value) in values {
            if held.series.len() >= METRICS_MAX && !held.series.contains_key(&name) {
                n_refused += 1;
                continue;
            }
            let points = held.series.entry(name).or_default();
            if points.len() == self.points_max {
                points.pop_front();
            }
            points.push_back((at_s, value));
        }
        held.n_refused += n_refused;
        n_refused
    }

    /// The points of a metric, the oldest first; empty if there is none of this name.
    #[must_use]
    pub fn series(&self, name: &str) -> Vec<Point> {
        self.held.lock().series.get(name).map_or_else(Vec::new, |points| points.iter().copied().collect())
    }

    /// All points since `since_s`, by name and time.
    #[must_use]
    pub fn since(&self, since_s: f64) -> Vec<Sample> {
        let held = self.held.lock();
        let mut samples = Vec::new();
        for (name, points) in &held.series {
            let recent = points.iter().filter(|(at_s, _)| *at_s >= since_s);
            samples.extend(recent.map(|(at_s, value)| Sample { name: name.clone(), at_s: *at_s, value: *value }));
        }
        samples
    }

    /// The latest value of each metric.
    #[must_use]
    pub fn latest(&self) -> BTreeMap<String, f64> {
        let held = self.held.lock();
        let last = |(name, points): (&String, &VecDeque<Point>)| Some((name.clone(), points.back()?.1));
        held.series.iter().filter_map(last).collect()
    }

    /// How many points were refused since the beginning.
    #[must_use]
    pub fn n_refused(&self) -> u64 {
        self.held.lock().n_refused
    }
}

/// What the operating system says about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is resident, in bytes.
    pub rss_bytes: u64,
    /// Threads of the process, also those that Python does not know.
    pub n_threads: u64,
}

/// Asks the operating system; `None` where there is no `/proc`.
#[must_use]
pub fn usage() -> Option<Usage> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_status(status: &str) -> Option<Usage> {
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Usage { rss_bytes: field("VmRSS:")? * 1024, n_threads: field("Threads:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: f64) -> [(String, f64); 1] {
        [(name.to_owned(), value)]
    }

    #[test]
    fn the_oldest_points_make_room() {
        let registry = Registry::new(3);
        for n in 0..5 {
            registry.record(f64::from(n), one("rss", f64::from(n) * 10.0));
        }
        assert_eq!(registry.series("rss"), [(2.0, 20.0), (3.0, 30.0), (4.0, 40.0)]);
        assert_eq!(registry.latest()["rss"], 40.0);
        assert_eq!(registry.since(3.5).len(), 1);
        assert_eq!(registry.series("none"), []);
    }

    #[test]
    fn too_many_metrics_are_refused_and_counted_and_the_known_go_on() {
        let registry = Registry::new(3);
        for n in 0..METRICS_MAX {
            assert_eq!(registry.record(1.0, one(&format!("m{n}"), 1.0)), 0);
        }
        assert_eq!(registry.record(2.0, one("one_more", 1.0)), 1);
        assert_eq!(registry.record(2.0, one("m0", 2.0)), 0);
        assert_eq!(registry.n_refused(), 1);
        assert_eq!(registry.series("m0").len(), 2);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let registry = Registry::new(3);
        registry.record(1.0, one("x", f64::NAN));
        assert_eq!(registry.latest().len(), 0);
    }

    #[test]
    fn threads_lose_no_points_and_readers_see_whole_records() {
        let registry = Registry::new(100_000);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for n in 0..2_000 {
                        let value = f64::from(n);
                        registry.record(value, [("a".to_owned(), value), ("b".to_owned(), value)]);
                    }
                });
            }
            for _ in 0..200 {
                let samples = registry.since(0.0);
                let n = |name: &str| samples.iter().filter(|sample| sample.name == name).count();
                assert_eq!(n("a"), n("b"));
            }
        });
        assert_eq!(registry.series("a").len(), 4_000);
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tpython\nVmRSS:\t   2048 kB\nThreads:\t7\n";
        assert_eq!(parse_status(status), Some(Usage { rss_bytes: 2_097_152, n_threads: 7 }));
        assert_eq!(parse_status("Name:\tpython\n"), None);
    }
}
