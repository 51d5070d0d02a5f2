//! The store: each method is one job of the writer. Without `done` it waits, detached, until the job is on the disk;
//! with `done` it returns at once, and `done(result, error)` is called on the writer's thread after the commit.

use std::path::PathBuf;
use std::sync::Arc;

use monitor::Error;
use monitor::audit::{Entry, Record};
use monitor::incident::{Incident, Report, State};
use monitor::store::{Sample, Store};
use monitor::writer::{Access, Writer};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use uuid::Uuid;

use super::{duration, now_s, raised, severity};

/// An incident as plain values, in the order of the fields of `raceproof.monitor.Incident`.
type IncidentRow = (String, String, String, &'static str, &'static str, u64, f64, f64, String, String, String);
/// Whom to tell of the end.
type Done = Option<Py<PyAny>>;
/// What a method returns: the result, or nothing if somebody is told.
type Told = PyResult<Option<Py<PyAny>>>;
/// An entry of the audit log, in the order of the fields of `raceproof.monitor.AuditEntry`.
type EntryRow = (i64, f64, String, String, String, String);

/// Keeps incidents, the audit log and samples in a file.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorStore {
    pub(super) writer: Arc<Writer>,
}

fn incident_row(incident: Incident) -> IncidentRow {
    let Incident { kind, title, count, first_seen_s, last_seen_s, fingerprint, context, process, .. } = incident;
    let (severity, state) = (incident.severity.as_str(), incident.state.as_str());
    let id = incident.id.to_string();
    (id, kind, title, severity, state, count, first_seen_s, last_seen_s, fingerprint, context, process)
}

fn entry_row(entry: Entry) -> EntryRow {
    let Entry { seq, at_s, actor, action, subject, details, .. } = entry;
    (seq, at_s, actor, action, subject, details)
}

fn uuid(id: &str) -> PyResult<Uuid> {
    Uuid::parse_str(id).map_err(|cause| PyValueError::new_err(format!("`{id}` is no UUID: {cause}")))
}

/// How the caller wants its answer.
struct Answer {
    done: Done,
    timeout_s: f64,
}

impl MonitorStore {
    /// Asks for a job, and waits for its end unless there is somebody to tell.
    fn ask<T>(
        &self,
        py: Python<'_>,
        access: Access,
        answer: Answer,
        run: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Told
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let Some(done) = answer.done else {
            let result = py.detach(|| self.writer.call(access, duration(answer.timeout_s), run));
            return result.map_err(|error| raised(py, &error)).and_then(|value| object(py, value)).map(Some);
        };
        let tell = move |result: Result<T, Error>| {
            // Without an interpreter there is nobody to tell: the process ends.
            let _ = Python::try_attach(|py| {
                let arguments = match result.map_err(|error| raised(py, &error)).and_then(|value| object(py, value)) {
                    Ok(value) => (value, py.None()),
                    Err(error) => (py.None(), error.into_value(py).into_any()),
                };
                if let Err(error) = done.call1(py, arguments) {
                    error.write_unraisable(py, Some(done.bind(py)));
                }
                drop(done);
            });
        };
        let asked = py.detach(|| self.writer.submit(access, None, run, tell));
        asked.map(|()| None).map_err(|error| raised(py, &error))
    }

    /// Asks for a change of one incident, which says whether it was one.
    fn change(
        &self,
        py: Python<'_>,
        id: &str,
        actor: String,
        answer: Answer,
        change: fn(&Store, Uuid, &str, f64) -> Result<bool, Error>,
    ) -> Told {
        let id = uuid(id)?;
        self.ask(py, Access::Writes, answer, move |store: &Store| change(store, id, &actor, now_s()))
    }
}

fn object<T>(py: Python<'_>, value: T) -> PyResult<Py<PyAny>>
where
    for<'py> T: IntoPyObject<'py>,
{
    value.into_py_any(py)
}

#[pymethods]
impl MonitorStore {
    #[new]
    fn new(path: PathBuf) -> Self {
        Self { writer: Arc::new(Writer::new(path)) }
    }

    /// The file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.writer.path().to_owned()
    }

    /// How many jobs wait.
    #[getter]
    fn waiting(&self) -> usize {
        self.writer.n_waiting()
    }

    /// Counts a report on the incident of its fingerprint, or makes one.
    #[pyo3(signature = (kind, title, severity, fingerprint, context, process, timeout, done=None))]
    #[expect(clippy::too_many_arguments, reason = "the fields of a report, as the package passes them")]
    fn report(
        &self,
        py: Python<'_>,
        kind: String,
        title: String,
        severity: &str,
        fingerprint: Option<String>,
        context: String,
        process: String,
        timeout: f64,
        done: Done,
    ) -> Told {
        let severity = self::severity(severity)?;
        let report = Report { kind, title, severity, fingerprint, context, process };
        let run = move |store: &Store| store.report(report, now_s()).map(incident_row);
        self.ask(py, Access::Writes, Answer { done, timeout_s: timeout }, run)
    }

    /// Keeps an incident as it is; `state` and `count` of one with the same id stay.
    #[pyo3(signature = (id, kind, title, severity, context, process, timeout, done=None))]
    #[expect(clippy::too_many_arguments, reason = "the fields of an incident, as the package passes them")]
    fn put(
        &self,
        py: Python<'_>,
        id: &str,
        kind: String,
        title: String,
        severity: &str,
        context: String,
        process: String,
        timeout: f64,
        done: Done,
    ) -> Told {
        let (id, severity) = (uuid(id)?, self::severity(severity)?);
        let run = move |store: &Store| {
            let fingerprint = Some(id.to_string());
            let now_s = now_s();
            let fresh = Report { kind, title, severity, fingerprint, context, process }.first(now_s);
            let known = store.incident(id)?;
            let (state, count, first_seen_s) =
                known.map_or((State::Open, 1, now_s), |known| (known.state, known.count, known.first_seen_s));
            let incident = Incident { id, state, count, first_seen_s, ..fresh };
            store.put(&incident).map(|()| incident_row(incident))
        };
        self.ask(py, Access::Writes, Answer { done, timeout_s: timeout }, run)
    }

    /// The incident with this id, or None.
    #[pyo3(signature = (id, timeout, done=None))]
    fn get(&self, py: Python<'_>, id: &str, timeout: f64, done: Done) -> Told {
        let id = uuid(id)?;
        let run = move |store: &Store| Ok(store.incident(id)?.map(incident_row));
        self.ask(py, Access::Reads, Answer { done, timeout_s: timeout }, run)
    }

    /// The latest incidents, in the order of their first report.
    #[pyo3(signature = (limit, timeout, done=None))]
    fn incidents(&self, py: Python<'_>, limit: i64, timeout: f64, done: Done) -> Told {
        let run = move |store: &Store| Ok(store.incidents(limit)?.into_iter().map(incident_row).collect::<Vec<_>>());
        self.ask(py, Access::Reads, Answer { done, timeout_s: timeout }, run)
    }

    /// Acknowledges; says whether that is a change.
    #[pyo3(signature = (id, actor, timeout, done=None))]
    fn acknowledge(&self, py: Python<'_>, id: &str, actor: String, timeout: f64, done: Done) -> Told {
        self.change(py, id, actor, Answer { done, timeout_s: timeout }, Store::acknowledge)
    }

    /// Resolves; says whether that is a change.
    #[pyo3(signature = (id, actor, timeout, done=None))]
    fn resolve(&self, py: Python<'_>, id: &str, actor: String, timeout: f64, done: Done) -> Told {
        self.change(py, id, actor, Answer { done, timeout_s: timeout }, Store::resolve)
    }

    /// Removes an incident; says whether there was one.
    #[pyo3(signature = (id, actor, timeout, done=None))]
    fn remove(&self, py: Python<'_>, id: &str, actor: String, timeout: f64, done: Done) -> Told {
        self.change(py, id, actor, Answer { done, timeout_s: timeout }, Store::remove)
    }

    /// Appends to the audit log.
    #[pyo3(signature = (actor, action, subject, details, timeout, done=None))]
    #[expect(clippy::too_many_arguments, reason = "the fields of an entry, as the package passes them")]
    fn append(
        &self,
        py: Python<'_>,
        actor: String,
        action: String,
        subject: String,
        details: String,
        timeout: f64,
        done: Done,
    ) -> Told {
        let record = Record { actor, action, subject, details };
        let run = move |store: &Store| store.append(record, now_s()).map(entry_row);
        self.ask(py, Access::Writes, Answer { done, timeout_s: timeout }, run)
    }

    /// Entries of the audit log after the entry `after`.
    #[pyo3(signature = (after, limit, timeout, done=None))]
    fn entries(&self, py: Python<'_>, after: i64, limit: i64, timeout: f64, done: Done) -> Told {
        let run = move |store: &Store| Ok(store.entries(after, limit)?.into_iter().map(entry_row).collect::<Vec<_>>());
        self.ask(py, Access::Reads, Answer { done, timeout_s: timeout }, run)
    }

    /// The number of the first entry of the audit log that was changed, or None.
    #[pyo3(signature = (timeout, done=None))]
    fn broken_entry(&self, py: Python<'_>, timeout: f64, done: Done) -> Told {
        self.ask(py, Access::Reads, Answer { done, timeout_s: timeout }, Store::broken_entry)
    }

    /// Keeps samples (name, time, value) and a snapshot of what is alive.
    #[pyo3(signature = (process, live, samples, timeout, done=None))]
    fn sample(
        &self,
        py: Python<'_>,
        process: String,
        live: String,
        samples: Vec<(String, f64, f64)>,
        timeout: f64,
        done: Done,
    ) -> Told {
        let sample = |(name, at_s, value)| Sample { name, at_s, value };
        let samples: Vec<Sample> = samples.into_iter().map(sample).collect();
        let run = move |store: &Store| store.sample(&process, now_s(), &live, &samples);
        self.ask(py, Access::Writes, Answer { done, timeout_s: timeout }, run)
    }

    /// Closes the file until `resume`, so that the process can fork.
    fn pause(&self, py: Python<'_>) {
        py.detach(|| self.writer.pause());
    }

    /// Ends a `pause`.
    fn resume(&self) {
        self.writer.resume();
    }

    /// In the child of a fork: leaves everything as it is for good, since the thread of the parent is not here.
    fn abandon(&self) {
        std::mem::forget(Arc::clone(&self.writer));
    }

    /// Does what waits and closes the file. Later calls raise MonitorError.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.writer.close());
    }
}
