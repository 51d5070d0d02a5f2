//! A bounded pool of threads.
//!
//! What it promises: at most so many threads and so many waiting tasks; a task runs once or is cancelled; what a task
//! returned or panicked with reaches whoever asks, and a panic that nobody asked for is reported; shutting down ends
//! in time and says what still ran.
//!
//! [`Pool`] is for Rust programs. Its two parts know nothing of threads: [`Crew`] is the queue and who works on it,
//! [`Progress`] is how far one task is.

mod crew;
mod progress;
mod threads;

pub use crew::{Crew, Next, Rejected, Running, Stats, Waker};
pub use progress::{Progress, Refused, Status};
pub use threads::{Pool, PoolError, StillRunning, Task, TaskError};
