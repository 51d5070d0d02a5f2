//! The page that shows all of it.

use std::sync::Arc;

use monitor::dashboard::{Dashboard, Here, Live, Source};
use pyo3::prelude::*;

use super::parts::MonitorRegistry;
use super::store::MonitorStore;
use super::{now_s, raised};

/// A server on 127.0.0.1 that shows a store, and this process if it has a name.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorPage {
    dashboard: Arc<Dashboard>,
    live: Arc<Live>,
}

#[pymethods]
impl MonitorPage {
    #[new]
    #[pyo3(signature = (port, store, process=None, registry=None))]
    fn new(
        py: Python<'_>,
        port: u16,
        store: &MonitorStore,
        process: Option<String>,
        registry: Option<&MonitorRegistry>,
    ) -> PyResult<Self> {
        let live = Arc::new(Live::default());
        let here = process.zip(registry).map(|(process, registry)| Here {
            process,
            live: Arc::clone(&live),
            registry: Arc::clone(&registry.registry),
        });
        let source = Source { writer: Arc::clone(&store.writer), here };
        let dashboard = py.detach(|| Dashboard::start(port, source)).map_err(|error| raised(py, &error))?;
        Ok(Self { dashboard: Arc::new(dashboard), live })
    }

    /// The address to open, with the token.
    #[getter]
    fn url(&self) -> String {
        self.dashboard.url()
    }

    /// The port it listens on.
    #[getter]
    fn port(&self) -> u16 {
        self.dashboard.port()
    }

    /// What `Authorization: Bearer` has to name.
    #[getter]
    fn token(&self) -> &str {
        self.dashboard.token()
    }

    /// Replaces what is shown of this process: the text of a JSON object, and metrics.
    fn show(&self, live: String, openmetrics: String) {
        self.live.show(now_s(), live, openmetrics);
    }

    /// In the child of a fork: leaves everything as it is for good, and says which file descriptor listens. The caller
    /// closes it here, where nobody serves it.
    fn abandon(&self) -> i32 {
        std::mem::forget(Arc::clone(&self.dashboard));
        self.dashboard.descriptor()
    }

    /// Ends the server.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.dashboard.stop());
    }
}
