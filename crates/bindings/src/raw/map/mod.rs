//! Maps of Python objects on the table of `primitives`: `ConcurrentMap` and `CounterMap`.
//!
//! `epochs` says when what was removed may be used again, `key` and `value` how the table holds Python objects,
//! `operations` what can be done with a key, `object` makes the types and their slots, `walk` iterators and views.
//!
//! The rule of this folder: nothing that was found in a table is used after a call in which Python code may have run
//! or the thread may have waited, unless the window is still open ([`primitives::raw::table::Epochs::is_open`]).

mod any;
mod batch;
mod doc;
mod epochs;
mod key;
mod methods;
mod object;
mod operations;
mod stops;
mod value;

pub use any::{AnyMap, set_types};
pub use object::add_types;
pub use stops::register as register_stops;
