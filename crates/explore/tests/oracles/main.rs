//! The oracles that gate the explorer: programs whose outcomes, traces and counts are known by other means.

mod brute;
mod counts;
mod failures;
mod generate;
mod model;
mod programs;
