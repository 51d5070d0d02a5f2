//! `raceproof._native`: converts, detaches, calls and maps errors; what the parts do is decided in `primitives`.
//! Types that hot loops use have hand-written slots in `raw/`; everything else is written with PyO3.
//! The module declares itself safe without the GIL. It works on GIL builds too; there `raw/refcount` counts plainly.

mod cache;
mod command;
mod detection;
mod dict;
mod errors;
mod exploration;
mod failure;
mod flights;
mod fork;
mod future;
mod key;
mod list;
mod map;
mod monitor;
mod observer;
mod once;
mod pool;
#[allow(unsafe_code)]
mod raw;
mod rwlock;
mod set;
mod state;
mod wait;
mod waiting;
mod within;

use pyo3::prelude::*;

/// Adds the names of one part to the module.
type Part = fn(&Bound<'_, PyModule>) -> PyResult<()>;

#[rustfmt::skip] // one a line, for those who add to it at the same time
const PARTS: &[Part] = &[
    fork::add,
    errors::add,
    raw::sharing::add,
    command::add,
    raw::ready::add,
    observer::add,
    within::add,
    raw::lock::add,
    rwlock::add,
    raw::async_lock::add,
    raw::dict::add_type,
    raw::list::add_type,
    raw::set::add_type,
    raw::counter::add,
    raw::reference::add,
    raw::local::add,
    failure::add,
    future::add,
    pool::add,
    waiting::add,
    raw::lazy::add,
    raw::once_function::add,
    cache::add,
    state::add,
    map::add,
    monitor::add,
    exploration::add,
    detection::add,
];

#[pymodule(gil_used = false)]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    PARTS.iter().try_for_each(|add| add(module))
}
