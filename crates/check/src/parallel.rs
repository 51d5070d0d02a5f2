//! The one place where threads start: work on many items at once, with results in the order of the items.
//!
//! The threads are made once for the process. Their stacks are large (address space only, until it is used), because
//! the parser and the tree that it builds recurse on the depth of the text.

use std::sync::LazyLock;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

const STACK_BYTES: usize = 1 << 30;

/// `None` where there is no room for such stacks: the ordinary ones serve all but absurdly nested files.
static POOL: LazyLock<Option<ThreadPool>> =
    LazyLock::new(|| ThreadPoolBuilder::new().stack_size(STACK_BYTES).build().ok());

/// Runs `work` on a thread with a large stack.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match &*POOL {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// What `each` makes of every item.
pub fn map<T: Send, R: Send>(items: Vec<T>, each: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    on_large_stack(|| items.into_par_iter().map(each).collect())
}

/// Two pieces of work at once.
pub fn both<A: Send, B: Send>(one: impl FnOnce() -> A + Send, two: impl FnOnce() -> B + Send) -> (A, B) {
    on_large_stack(|| rayon::join(one, two))
}

/// Gives memory back beside other work: large structures take a while.
pub fn drop_later<T: Send + 'static>(value: T) {
    match &*POOL {
        Some(pool) => pool.spawn(|| drop(value)),
        None => drop(value),
    }
}
