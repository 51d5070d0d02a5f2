//! The health of a running program, and what went wrong in it: metrics over time, incidents, an audit log, events,
//! figures, and a page that shows them. No Python in it: the program that is watched hands its numbers in.
//!
//! What has to outlive the process is in [`store`], behind the one thread of [`writer`]; everything else is in memory,
//! bounded, and safe to use from any number of threads.

pub mod audit;
pub mod correlate;
pub mod dashboard;
pub mod error;
pub mod figures;
pub mod health;
pub mod incident;
pub mod openmetrics;
pub mod settings;
pub mod store;
pub mod stream;
pub mod trend;
mod wire;
pub mod writer;

pub use error::Error;
