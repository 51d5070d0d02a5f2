//! What happens to our state in a forked child: it begins anew. A lock that another thread held at the fork stays
//! locked in the child for good, so the child never touches it: it gets a value of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use primitives::flight;
use primitives::raw::once_box::OnceBox;
use pyo3::prelude::*;

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Adds `after_fork_in_child`, which python/raceproof/_fork.py registers.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(after_fork_in_child, module)?)
}

/// Tells this module that it runs in a forked child. Called by the interpreter.
#[pyfunction]
fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // What other threads were making in the parent is made anew in the child.
    flight::forked();
}

/// How many forks lie between the process that loaded this module and the one that calls.
pub fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A value of each process in a line of forks. That of the parent stays in the child's memory, untouched.
pub struct PerProcess<T> {
    newest: OnceBox<Node<T>>,
}

struct Node<T> {
    generation: u32,
    value: T,
    next: PerProcess<T>,
}

impl<T: Send + Sync> PerProcess<T> {
    /// No value yet.
    pub const fn new() -> Self {
        PerProcess { newest: OnceBox::new() }
    }

    /// The value of this process; `make` makes it at the first use.
    pub fn get_or_make(&self, make: impl Fn() -> T) -> &T {
        let now = generation();
        let mut place = self;
        loop {
            let fresh = || Node { generation: now, value: make(), next: PerProcess::new() };
            let node = place.newest.get_or_make(fresh);
            if node.generation == now {
                return &node.value;
            }
            place = &node.next;
        }
    }

    /// The value of this process, if it was used.
    pub fn get(&self) -> Option<&T> {
        let mut node = self.newest.get()?;
        while node.generation != generation() {
            node = node.next.newest.get()?;
        }
        Some(&node.value)
    }
}
