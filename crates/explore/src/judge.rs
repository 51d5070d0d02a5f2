//! What is wrong with a run, if anything.
//!
//! Exceptions and broken invariants are seen by whoever drives the run; what threads wait for, and races, are read
//! off the trace.

use crate::happens_before::races;
use crate::operation::ThreadId;
use crate::trace::{End, Trace};

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A thread raised.
    Raised {
        /// Which one.
        thread: ThreadId,
        /// What, beginning with the type and a colon.
        what: String,
    },
    /// The invariant does not hold at the end.
    Invariant(String),
    /// No sequential order explains what the operations returned.
    NotLinearizable(String),
    /// Threads wait for each other.
    Deadlock,
    /// A thread waits for a notification that came before, or never.
    MissedWakeUp,
    /// Threads repeat the same reads for ever.
    Livelock,
    /// Two accesses that nothing orders.
    Race,
}

impl Failure {
    /// Is it the same kind of failure? Texts may hold values that differ from run to run.
    #[must_use]
    pub fn is_like(&self, other: &Failure) -> bool {
        let kind = |what: &str| what.split(':').next().unwrap_or("").to_owned();
        match (self, other) {
            (Failure::Raised { what, .. }, Failure::Raised { what: theirs, .. }) => kind(what) == kind(theirs),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Raised { thread, what } => write!(f, "{thread} raises {what}"),
            Failure::Invariant(what) if what.is_empty() => write!(f, "the invariant does not hold"),
            Failure::Invariant(what) => write!(f, "the invariant does not hold: {what}"),
            Failure::NotLinearizable(what) => write!(f, "no sequential order explains the results: {what}"),
            Failure::Deadlock => write!(f, "threads wait for each other"),
            Failure::MissedWakeUp => write!(f, "a thread waits for a notification that never comes"),
            Failure::Livelock => write!(f, "threads repeat the same reads for ever"),
            Failure::Race => write!(f, "two accesses to one place, at least one a write, are not ordered"),
        }
    }
}

/// What else is asked than whether the run came to a good end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Accesses that nothing orders are a failure.
    pub races: bool,
    /// That threads wait for ever is what a run came to, for its driver to judge: a call of a queue may wait for one
    /// that nobody makes.
    pub blocked_is_outcome: bool,
}

/// Looks at a finished run. `seen` is what its driver saw: an exception, a broken invariant.
#[must_use]
pub fn judge(trace: &Trace, seen: Option<Failure>, asked: Asked) -> Option<Failure> {
    let stuck = match trace.end {
        End::Deadlock if asked.blocked_is_outcome => None,
        End::Deadlock if trace.cycle().is_empty() && !trace.missed_wake_ups().is_empty() => Some(Failure::MissedWakeUp),
        End::Deadlock => Some(Failure::Deadlock),
        End::Livelock => Some(Failure::Livelock),
        _ => None,
    };
    let race = || (asked.races && !races(trace).is_empty()).then_some(Failure::Race);
    seen.or(stuck).or_else(race)
}
