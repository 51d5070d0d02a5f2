//! From a schedule that fails to a short one: fewest switches by delta debugging over the turns (Zeller and
//! Hildebrandt, TSE 2002), then fewest steps, each candidate tried by a replay.
//!
//! What counts is a run, not a guess: a candidate is kept only if it was seen to fail in the same way.

use crate::operation::ThreadId;
use crate::schedule::Schedule;
use crate::strategy::{Coverage, Point, Progress, Strategy};
use crate::trace::{Pick, Trace};

/// Candidates that are tried at most.
const TRIALS_MAX: u32 = 2_000;

/// The search for a shorter schedule.
#[derive(Clone, Debug)]
pub struct Shrink {
    best: Schedule,
    cost: Cost,
    /// How many turns are taken out at once.
    size: usize,
    at: usize,
    n_trials: u32,
}

/// Fewer preemptions first, then fewer switches, then a shorter schedule, then fewer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    n_preemptions: usize,
    n_switches: usize,
    n_turns: usize,
    n_steps: usize,
}

impl Cost {
    fn of(trace: &Trace, schedule: &Schedule) -> Self {
        Self {
            n_preemptions: trace.steps.iter().filter(|step| step.is_preemption()).count(),
            n_switches: trace.n_switches(),
            n_turns: schedule.turns.len(),
            n_steps: trace.steps.len(),
        }
    }
}

impl Shrink {
    /// From a run that fails.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        let best = Schedule::of(trace);
        let size = best.turns.len().div_ceil(2).max(1);
        Self { cost: Cost::of(trace, &best), best, size, at: 0, n_trials: 0 }
    }

    /// The shortest schedule so far.
    #[must_use]
    pub fn best(&self) -> &Schedule {
        &self.best
    }

    /// What is to be tried next, leniently.
    #[must_use]
    pub fn candidate(&self) -> Option<Schedule> {
        let n = self.best.turns.len();
        if self.n_trials >= TRIALS_MAX || self.at >= n {
            return None;
        }
        let end = (self.at + self.size).min(n);
        let mut turns = self.best.turns.clone();
        turns.drain(self.at..end);
        Some(Schedule { turns, steps: Vec::new() })
    }

    /// What came of the candidate.
    pub fn learn(&mut self, trace: &Trace, has_failed_alike: bool) {
        self.n_trials += 1;
        let schedule = Schedule::of(trace);
        let cost = Cost::of(trace, &schedule);
        if has_failed_alike && cost < self.cost {
            self.best = schedule;
            self.cost = cost;
            // What stood behind the turns that are gone stands here now.
            self.size = self.size.min(self.best.turns.len().max(1));
            self.at = if self.size == 1 { 0 } else { self.at };
        } else {
            self.at += self.size;
        }
        while self.at >= self.best.turns.len() && self.size > 1 {
            self.size = self.size.div_ceil(2).min(self.size - 1);
            self.at = 0;
        }
    }
}

/// Follows an order of threads as far as it can: one that cannot go on is passed over.
#[derive(Clone, Debug)]
pub struct Steer {
    order: Vec<ThreadId>,
    branches: Vec<u32>,
    at: usize,
}

impl Steer {
    /// With an order.
    #[must_use]
    pub fn new(picks: &[Pick]) -> Self {
        let order = picks.iter().map(|pick| pick.thread).collect();
        Self { order, branches: picks.iter().map(|pick| pick.branch).collect(), at: 0 }
    }
}

impl Strategy for Steer {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        if point.step() == 0 {
            self.at = 0;
        }
        while let Some(thread) = self.order.get(self.at) {
            self.at += 1;
            if point.enabled.contains(*thread) {
                let branch = self.branches[self.at - 1];
                let branch = if branch < point.n_branches(*thread) { branch } else { 0 };
                return Some(Pick { thread: *thread, branch });
            }
        }
        Some(Pick::of(crate::trace::lead(point.enabled, point.current())))
    }

    fn learn(&mut self, _trace: &Trace) -> Progress {
        Progress::Done
    }

    fn coverage(&self) -> Coverage {
        Coverage::Sample
    }
}
