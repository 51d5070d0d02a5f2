//! `raceproof._native`: converts, detaches, calls and maps errors; what the parts do is decided in `primitives`.
//! Types that hot loops use have hand-written slots in `raw/`; everything else is written with PyO3.
//! The module declares itself safe without the GIL. It works on GIL builds too; there `raw/refcount` counts plainly.

mod command;
mod dict;
mod errors;
mod flights;
mod fork;
mod future;
mod list;
mod map;
mod pool;
#[allow(unsafe_code, dead_code)]
mod raw;
mod set;
mod wait;

use pyo3::prelude::*;

/// Adds the names of one part to the module.
type Part = fn(&Bound<'_, PyModule>) -> PyResult<()>;

const PARTS: &[Part] = &[
    errors::add,
    raw::sharing::add,
    command::add,
    flights::add,
    raw::dict::add_type,
    raw::list::add_type,
    raw::set::add_type,
    fork::add,
    raw::counter::add,
    raw::reference::add,
    raw::local::add,
    future::add,
    pool::add,
    map::add,
];

#[pymodule(gil_used = false)]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    PARTS.iter().try_for_each(|add| add(module))
}
