//! What happens to our state in a forked child: it begins anew. A lock that another thread held at the fork stays
//! locked in the child for good, so the child never touches it: it gets a value of its own.

pub use primitives::raw::fork::generation;
use primitives::raw::fork::install;
use primitives::raw::once_box::OnceBox;
use pyo3::prelude::*;

/// From here on, forks are known.
pub fn add(_: &Bound<'_, PyModule>) -> PyResult<()> {
    install();
    Ok(())
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
