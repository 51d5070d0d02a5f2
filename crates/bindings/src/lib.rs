//! `raceproof._native`: converts, detaches, calls and maps errors; what the parts do is decided in `primitives`.
//! Types that hot loops use have hand-written slots in `raw/`; everything else is written with PyO3.
//! The module declares itself safe without the GIL. It works on GIL builds too; there `raw/refcount` counts plainly.

mod cache;
mod errors;
mod key;
mod once;
#[allow(unsafe_code, dead_code)]
mod raw;
mod state;
mod waiting;

use pyo3::prelude::*;

/// Adds the names of a part to the module.
type Add = fn(&Bound<'_, PyModule>) -> PyResult<()>;

const PARTS: &[Add] = &[
    errors::add,
    raw::sharing::add,
    waiting::add,
    raw::ready::add,
    raw::lazy::add,
    raw::once_function::add,
    cache::add,
    state::add,
];

#[pymodule(gil_used = false)]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    PARTS.iter().try_for_each(|add| add(module))
}
