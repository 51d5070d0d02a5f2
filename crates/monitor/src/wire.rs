//! The JSON that the page asks for. The only module of this crate that knows serde.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::audit::Entry;
use crate::incident::Incident;
use crate::store::{Process, Sample};

/// What the page shows besides charts.
pub struct Overview {
    /// The present time, in seconds since 1970.
    pub now_s: f64,
    /// The process that is shown.
    pub process: String,
    /// When its snapshot was made, and the text of a JSON object.
    pub live: Option<(f64, String)>,
    /// All processes that can be shown.
    pub processes: Vec<Process>,
    /// The latest incidents.
    pub incidents: Vec<Incident>,
    /// The latest entries of the audit log.
    pub audit: Vec<Entry>,
}

#[derive(Serialize)]
struct OverviewOut<'a> {
    now_s: f64,
    process: &'a str,
    live_at_s: Option<f64>,
    live: Option<&'a RawValue>,
    processes: Vec<ProcessOut<'a>>,
    incidents: Vec<IncidentOut<'a>>,
    audit: Vec<EntryOut<'a>>,
}

#[derive(Serialize)]
struct ProcessOut<'a> {
    name: &'a str,
    last_seen_s: f64,
}

#[derive(Serialize)]
struct IncidentOut<'a> {
    id: String,
    kind: &'a str,
    title: &'a str,
    severity: &'a str,
    state: &'a str,
    count: u64,
    first_seen_s: f64,
    last_seen_s: f64,
    context: Option<&'a RawValue>,
    process: &'a str,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    seq: i64,
    at_s: f64,
    actor: &'a str,
    action: &'a str,
    subject: &'a str,
}

/// A text of ours that should be JSON; nothing if it is not.
fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// The answer to `/api/overview`.
pub fn overview(overview: &Overview) -> String {
    let process = |process: &'_ Process| (process.name.clone(), process.last_seen_s);
    let processes: Vec<(String, f64)> = overview.processes.iter().map(process).collect();
    let out = OverviewOut {
        now_s: overview.now_s,
        process: &overview.process,
        live_at_s: overview.live.as_ref().map(|(at_s, _)| *at_s),
        live: overview.live.as_ref().and_then(|(_, text)| raw(text)),
        processes: processes.iter().map(|(name, at)| ProcessOut { name, last_seen_s: *at }).collect(),
        incidents: overview.incidents.iter().map(incident).collect(),
        audit: overview.audit.iter().map(entry).collect(),
    };
    text(&out)
}

fn incident(incident: &Incident) -> IncidentOut<'_> {
    IncidentOut {
        id: incident.id.to_string(),
        kind: &incident.kind,
        title: &incident.title,
        severity: incident.severity.as_str(),
        state: incident.state.as_str(),
        count: incident.count,
        first_seen_s: incident.first_seen_s,
        last_seen_s: incident.last_seen_s,
        context: raw(&incident.context),
        process: &incident.process,
    }
}

fn entry(entry: &Entry) -> EntryOut<'_> {
    let Entry { seq, at_s, actor, action, subject, .. } = entry;
    EntryOut { seq: *seq, at_s: *at_s, actor, action, subject }
}

/// The answer to `/api/series`: for each metric its times and its values.
pub fn series(samples: &[Sample]) -> String {
    let mut by_name: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for sample in samples {
        let (times, values) = by_name.entry(&sample.name).or_default();
        times.push(sample.at_s);
        values.push(sample.value);
    }
    text(&by_name)
}

/// The answer to a change.
pub fn changed(is_changed: bool) -> String {
    text(&BTreeMap::from([("changed", is_changed)]))
}

/// The answer to what cannot be done.
pub fn error(message: &str) -> String {
    text(&BTreeMap::from([("error", message)]))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
