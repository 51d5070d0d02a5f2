//! What a runtime guarantees for its built-ins: the one table of it.
//!
//! Sources: [list] and [dict] are the thread-safety notes of CPython's documentation ("Thread safety guarantees",
//! Doc/library/threadsafety.rst) and PEP 703, "Container Thread-Safety": an operation on one built-in container
//! takes that object's lock. [count] is gh-117657 (`itertools.count.__next__` made atomic for free threading).
//! [gil] is the CPython FAQ "What kinds of global value mutation are thread-safe?". Codon compiles to native
//! containers without any lock (Codon documentation, "Differences with Python").

/// The runtime that the code is meant for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// CPython with its lock.
    Gil,
    /// CPython 3.13t and later.
    #[default]
    FreeThreaded,
    /// A compiler without a lock and without locks per object.
    Codon,
}

impl Runtime {
    /// The word used on the command line and in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Gil => "gil",
            Runtime::FreeThreaded => "free-threaded",
            Runtime::Codon => "codon",
        }
    }

    /// Is a single call or item access on a built-in container (`append`, `d[k] = v`, `pop`, `setdefault`, `in`)
    /// one step that other threads see whole or not at all?
    #[must_use]
    pub fn container_steps_are_atomic(self) -> bool {
        match self {
            Runtime::Gil | Runtime::FreeThreaded => true,
            Runtime::Codon => false,
        }
    }

    /// Is copying a built-in container by `copy()` or `list(...)` over a list, tuple, dict or set one step?
    /// (`sorted`, `sum`, `min` and a `for` loop are not.) \[dict\], \[list\]
    #[must_use]
    pub fn snapshots_are_atomic(self) -> bool {
        self.container_steps_are_atomic()
    }
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
