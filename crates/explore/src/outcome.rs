//! What all runs together allow us to say.
//!
//! Four words, never blurred: failed, proved, nothing found, gave up. No verdict depends on wall time. *Proved* is
//! said only where everything was walked through and nothing was left untracked.

use crate::explain::Explanation;
use crate::judge::Failure;
use crate::strategy::{Coverage, replay::Divergence};
use crate::trace::End;

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A run that failed did not do so again: the program depends on something else than the schedule.
    Nondeterministic,
    /// No run had two threads that touch the same thing: nothing was tested.
    Vacuous,
    /// The program came off the schedule that was to be replayed.
    Diverged(Divergence),
    /// Each run was broken off.
    Unfinished(End),
}

/// What we say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fails, and here is how.
    Failed(Failure),
    /// All runs were walked through, up to equality, and none fails.
    Proved,
    /// What was walked through does not fail.
    NothingFound,
    /// Nothing can be said.
    GaveUp(Reason),
}

impl Verdict {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Failed(_) => "failed",
            Verdict::Proved => "proved",
            Verdict::NothingFound => "nothing_found",
            Verdict::GaveUp(_) => "gave_up",
        }
    }
}

/// What the driver of the runs knows and the explorer does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What the runtime promises: `gil` or `free-threaded`.
    pub semantics: String,
    /// What one step is, such as "one bytecode instruction".
    pub granularity: String,
    /// The code whose accesses are seen.
    pub visible: Vec<String>,
}

/// How far the verdict reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the driver says.
    pub about: About,
    /// How much was walked through.
    pub coverage: Coverage,
    /// Loops that repeat the same reads were cut after this many rounds; none if there were no such loops.
    pub spins: Option<u32>,
    /// Runs that were made to search.
    pub executions: u64,
    /// Of these, runs that turned out to be equal to earlier ones and were broken off.
    pub redundant: u64,
    /// Different traces, where they were counted.
    pub traces: Option<u64>,
    /// Runs that reached the limit of steps or were abandoned.
    pub unfinished: u64,
    /// Threads, locks, calls and timeouts that were met and not tracked, sorted, each once.
    pub untracked: Vec<String>,
}

/// What we tell the user.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The word.
    pub verdict: Verdict,
    /// All runs, those that confirmed and shrank a failure included.
    pub runs: u64,
    /// The shortest schedule that fails.
    pub schedule: Option<String>,
    /// Why it fails.
    pub explanation: Option<Explanation>,
    /// How far the verdict reaches.
    pub certificate: Certificate,
}

/// The verdict on an exploration that has not failed.
#[must_use]
pub fn conclude(certificate: &Certificate, is_shared: bool) -> Verdict {
    if !is_shared {
        return Verdict::GaveUp(Reason::Vacuous);
    }
    if certificate.unfinished > 0 && certificate.unfinished + certificate.redundant >= certificate.executions {
        return Verdict::GaveUp(Reason::Unfinished(End::StepLimit));
    }
    let is_whole = certificate.coverage == Coverage::All
        && certificate.unfinished == 0
        && certificate.spins.is_none()
        && certificate.untracked.is_empty();
    if is_whole { Verdict::Proved } else { Verdict::NothingFound }
}
