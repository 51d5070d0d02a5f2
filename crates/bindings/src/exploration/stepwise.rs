//! Iteration in C that other threads can come between: `sum(d.values())` reads one value after the other.

use explore::operation::Operation;
use facts::Action;
use pyo3::prelude::*;

use super::gate::{self, is_controlled};
use super::session::SESSION;
use crate::raw::baton;
use crate::raw::observe::operands::{Part, Touch};

/// Adds `Stepwise`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Stepwise>()
}

/// An iterator that reads its container anew for each item, and lets others in between.
#[pyclass(frozen, module = "raceproof.instrument")]
pub struct Stepwise {
    items: Py<PyAny>,
    container: Py<PyAny>,
}

impl Stepwise {
    /// Over `iterable`, which reads `container`.
    pub fn new(iterable: &Bound<'_, PyAny>, container: &Bound<'_, PyAny>) -> PyResult<Stepwise> {
        Ok(Stepwise { items: iterable.try_iter()?.into_any().unbind(), container: container.clone().unbind() })
    }
}

#[pymethods]
impl Stepwise {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, own) = (this.py(), this.get());
        if is_controlled() {
            read(own.container.bind(py), this.as_any())?;
        }
        own.items.bind(py).cast::<pyo3::types::PyIterator>()?.clone().next().transpose()
    }
}

fn read(container: &Bound<'_, PyAny>, iterator: &Bound<'_, PyAny>) -> PyResult<()> {
    let seat = baton::me();
    let touch = |action, object: &Bound<'_, PyAny>| Some(Touch { action, object: object.as_ptr(), part: Part::All });
    let touches = [touch(Action::Read, container), touch(Action::Update, iterator)];
    let mut places = [None, None];
    let due: Option<(u32, Operation)> = SESSION.with(|session| {
        let site = session.site_of(seat)?;
        Some((site, session.touch(seat, site, touches, &mut places)?))
    });
    if let Some((site, operation)) = due {
        gate::step(operation)?;
        SESSION.with(|session| session.watch(seat, site, &places));
    }
    Ok(())
}
