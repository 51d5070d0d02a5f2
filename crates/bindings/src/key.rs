//! Python objects as keys of the tables in `primitives`.

use primitives::keyed::Key;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// Tuples within tuples are compared at sight to this depth.
const DEPTH_MAX: u32 = 3;

/// An object and its hash, which was asked for once.
pub struct PyKey {
    pub object: Py<PyAny>,
    hash: u64,
}

impl PyKey {
    /// Raises what `__hash__` raises.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // Python's hashes of small numbers are the numbers: the multiplication spreads them over all bits.
        let hash = (object.hash()? as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(PyKey { object: object.clone().unbind(), hash })
    }
}

impl Clone for PyKey {
    fn clone(&self) -> Self {
        Python::attach(|py| PyKey { object: self.object.clone_ref(py), hash: self.hash })
    }
}

impl Key for PyKey {
    type Error = PyErr;

    fn hash(&self) -> u64 {
        self.hash
    }

    fn is_equal_at_sight(&self, other: &Self) -> Option<bool> {
        Python::attach(|py| is_equal_at_sight(self.object.bind(py), other.object.bind(py), DEPTH_MAX))
    }

    fn is_equal(&self, other: &Self) -> Result<bool, PyErr> {
        Python::attach(|py| self.object.bind(py).eq(other.object.bind(py)))
    }
}

/// Does comparing the object run nothing but C code that takes no lock and frees nothing?
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_none()
}

fn is_equal_at_sight(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, depth: u32) -> Option<bool> {
    if a.is(b) {
        return Some(true);
    }
    if is_plain(a) && is_plain(b) {
        return a.eq(b).ok();
    }
    let (a, b) = (a.cast_exact::<PyTuple>().ok()?, b.cast_exact::<PyTuple>().ok()?);
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = depth.checked_sub(1).map(|_| true);
    for (a, b) in a.iter_borrowed().zip(b.iter_borrowed()) {
        match is_equal_at_sight(&a, &b, depth.checked_sub(1)?) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all
}
