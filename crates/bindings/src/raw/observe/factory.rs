//! The factory of a `defaultdict`: between the look for a key and the store of what the factory makes, other threads may
//! have stored theirs. For one such call the factory is replaced by one that lets them in when it has made its value.

use std::ptr::eq;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::callback::come_back;
use super::frame::Operands;
use super::operands::Look;
use crate::exploration::gate;
use crate::exploration::session::InCall;
use crate::raw::baton::{self, Aside};

#[pyclass(frozen, module = "raceproof.instrument")]
struct Factory {
    dict: Py<PyAny>,
    factory: Py<PyAny>,
    call: InCall,
}

#[pymethods]
impl Factory {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        {
            let _aside = Aside::step();
            self.dict.bind(py).setattr("default_factory", &self.factory)?;
        }
        let made = self.factory.call0(py)?;
        if gate::is_controlled() {
            come_back(baton::me(), &self.call)?;
        }
        Ok(made)
    }
}

/// The thread is about to read an item of what may be a `defaultdict`.
pub fn await_missing<F: Operands>(look: &Look<'_, F>, call: &InCall) -> PyResult<()> {
    let (object, key) = (look.frame.operand(1), look.frame.operand(0));
    // SAFETY: the operands are alive, the thread is attached, and the key is asked for as the instruction will.
    let is_missing = unsafe {
        !object.is_null()
            && eq(ffi::Py_TYPE(object).cast(), look.builtins.defaultdict())
            && look.names_plainly(object, key)
            && ffi::PyDict_Contains(object, key) == 0
    };
    if !is_missing {
        return Ok(());
    }
    let _aside = Aside::step();
    // SAFETY: the callback runs attached, and the operand is alive.
    let dict = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    let factory = dict.getattr("default_factory")?;
    // With a GIL nobody comes between what C code does.
    let is_atomic = look.is_iteration_atomic && factory.is_instance_of::<PyType>();
    if factory.is_none() || factory.is_instance_of::<Factory>() || is_atomic {
        return Ok(());
    }
    let stand_in = Factory { dict: dict.clone().unbind(), factory: factory.unbind(), call: *call };
    dict.setattr("default_factory", Bound::new(dict.py(), stand_in)?)
}
