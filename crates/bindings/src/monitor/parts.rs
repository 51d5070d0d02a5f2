//! The parts in memory: numbers over time, figures, correlation, settings; and the text for Prometheus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use monitor::correlate::{Alert, Correlator};
use monitor::figures::{Figures, Summary};
use monitor::health::{self, Registry};
use monitor::openmetrics::{self, Family, Kind};
use monitor::settings::{SETTINGS, Settings};
use monitor::store::default_path;
use monitor::trend::{self, Rule};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{now_s, raised, severity};

/// A summary, in the order of the fields of `raceproof.monitor.Figures`.
type SummaryRow = (u64, f64, f64, f64, f64, f64);
/// Fingerprint, kind, summary, severity, how many alerts of each kind, labels.
type GroupRow = (String, String, String, &'static str, BTreeMap<String, u64>, Vec<(String, String)>);
/// Labels and value.
type NumberRow = (Vec<(String, String)>, f64);

/// Numbers over time.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorRegistry {
    pub(super) registry: Arc<Registry>,
}

#[pymethods]
impl MonitorRegistry {
    #[new]
    fn new(points: usize) -> Self {
        Self { registry: Arc::new(Registry::new(points)) }
    }

    /// Adds a point to each metric; says how many were refused.
    fn record(&self, values: Vec<(String, f64)>) -> u64 {
        self.registry.record(now_s(), values)
    }

    /// The points (time, value) of a metric.
    fn series(&self, name: &str) -> Vec<(f64, f64)> {
        self.registry.series(name)
    }

    /// All points (name, time, value) since a time.
    fn since(&self, since: f64) -> Vec<(String, f64, f64)> {
        let samples = self.registry.since(since).into_iter();
        samples.map(|sample| (sample.name, sample.at_s, sample.value)).collect()
    }

    /// The latest value of each metric.
    fn latest(&self) -> BTreeMap<String, f64> {
        self.registry.latest()
    }

    /// How a metric grew (from, to, per hour) if that is suspicious.
    fn growth(&self, name: &str, window: f64, share: f64, least: f64) -> Option<(f64, f64, f64)> {
        let rule = Rule { window_s: window, share, least };
        trend::growth(&self.registry.series(name), rule).map(|growth| (growth.from, growth.to, growth.per_hour))
    }
}

/// Durations by name.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorFigures {
    figures: Figures,
}

fn summary_row(summary: Summary) -> SummaryRow {
    let Summary { count, sum_s, p50_s, p90_s, p99_s, max_s } = summary;
    (count, sum_s, p50_s, p90_s, p99_s, max_s)
}

#[pymethods]
impl MonitorFigures {
    #[new]
    fn new() -> Self {
        Self { figures: Figures::default() }
    }

    /// Adds a duration in seconds.
    fn add(&self, name: &str, seconds: f64) {
        self.figures.of(name).add(seconds);
    }

    /// What a name says, or None.
    fn summary(&self, name: &str) -> Option<SummaryRow> {
        self.figures.summary(name).map(summary_row)
    }

    /// What each name says.
    fn summaries(&self) -> BTreeMap<String, SummaryRow> {
        self.figures.summaries().into_iter().map(|(name, summary)| (name, summary_row(summary))).collect()
    }

    /// Forgets everything.
    fn clear(&self) {
        self.figures.clear();
    }
}

/// Alerts in groups of one cause.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorCorrelator {
    correlator: Correlator,
}

#[pymethods]
impl MonitorCorrelator {
    #[new]
    fn new() -> Self {
        Self { correlator: Correlator::default() }
    }

    /// The group of an alert, with the alert in it.
    fn assign(
        &self,
        kind: String,
        title: String,
        severity: &str,
        labels: BTreeMap<String, String>,
        window: f64,
    ) -> PyResult<GroupRow> {
        let alert = Alert { kind, title, severity: self::severity(severity)?, labels };
        let group = self.correlator.assign(alert, window, now_s());
        let summary = group.summary();
        let labels = group.labels.into_iter().collect();
        Ok((group.fingerprint, group.kind, summary, group.severity.as_str(), group.kinds, labels))
    }

    /// How many groups are open.
    #[getter]
    fn groups(&self) -> usize {
        self.correlator.n_groups()
    }
}

/// The settings of the monitor.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorSettings {
    settings: Settings,
}

#[pymethods]
impl MonitorSettings {
    #[new]
    fn new() -> Self {
        Self { settings: Settings::default() }
    }

    /// The version, and all values at that version.
    fn values(&self) -> (u64, BTreeMap<&'static str, f64>) {
        let values = self.settings.values();
        (values.version, values.by_name.clone())
    }

    /// Changes all of these values or none; returns the new version.
    fn update(&self, changes: BTreeMap<String, f64>) -> PyResult<u64> {
        let changes: Vec<(String, f64)> = changes.into_iter().collect();
        self.settings.update(&changes).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Takes values from variables such as RACEPROOF_INTERVAL_S.
    fn read_environment(&self) -> PyResult<()> {
        let read = self.settings.read_environment(|name| std::env::var(name).ok());
        read.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// For each setting: default, least, most, and what it does.
    #[staticmethod]
    fn describe() -> BTreeMap<&'static str, (f64, f64, f64, &'static str)> {
        let line = |setting: &'static monitor::settings::Setting| {
            (setting.name, (setting.default, setting.least, setting.most, setting.about))
        };
        SETTINGS.iter().map(line).collect()
    }
}

/// Resident memory in bytes and threads of this process; None where the system does not say.
#[pyfunction]
pub fn monitor_usage(py: Python<'_>) -> Option<(u64, u64)> {
    py.detach(health::usage).map(|usage| (usage.rss_bytes, usage.n_threads))
}

/// How many objects the garbage collector knows.
#[pyfunction]
pub fn monitor_objects(py: Python<'_>) -> PyResult<u64> {
    crate::raw::objects::count(py)
}

/// Families (name, help, is it a counter, numbers with labels) in the OpenMetrics format.
#[pyfunction]
pub fn monitor_openmetrics(py: Python<'_>, families: Vec<(String, String, bool, Vec<NumberRow>)>) -> PyResult<String> {
    let family = |(name, help, is_counter, numbers): (String, String, bool, Vec<NumberRow>)| {
        let kind = if is_counter { Kind::Counter } else { Kind::Gauge };
        Family { name, help, kind, numbers }
    };
    let families = families.into_iter().map(family).collect();
    openmetrics::render(families).map_err(|error| raised(py, &error))
}

/// The file that the store is in if nobody says another.
#[pyfunction]
pub fn monitor_default_store() -> PathBuf {
    default_path(|name| std::env::var_os(name))
}
