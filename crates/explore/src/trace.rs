//! What happened in one run: every step in order, and how the run ended.
//!
//! A trace holds numbers only. Names, source lines and values belong to whoever drives the run.

use crate::operation::{Effect, Event, ObjectId, Operation, Place, ThreadId, ThreadSet, footprint};

/// Names a point in the program, the same in every run; whoever drives the run numbers the points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u32);

/// Who goes next, and which way where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pick {
    /// The thread.
    pub thread: ThreadId,
    /// The way, for a choice; 0 for all else.
    pub branch: u32,
}

impl Pick {
    /// A thread, the first way.
    #[must_use]
    pub fn of(thread: ThreadId) -> Self {
        Self { thread, branch: 0 }
    }
}

/// One choice among enabled threads, and what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub event: Event,
    /// Where in the program.
    pub label: Label,
    /// Who could have been chosen.
    pub enabled: ThreadSet,
    /// Who ran before; none at the beginning.
    pub current: Option<ThreadId>,
    /// Who would have gone on by itself, and where it stood: see [`lead`].
    pub lead: (ThreadId, Label),
}

/// Who goes on by itself: the thread that ran, or else the enabled one with the lowest number. Schedules store only
/// where the choice was another.
#[must_use]
pub fn lead(enabled: ThreadSet, current: Option<ThreadId>) -> ThreadId {
    let current = current.filter(|current| enabled.contains(*current));
    current.or(enabled.first()).expect("somebody can go on")
}

impl Step {
    /// Was a thread stopped that could have gone on?
    #[must_use]
    pub fn is_preemption(&self) -> bool {
        self.current.is_some_and(|current| current != self.event.thread && self.enabled.contains(current))
    }
}

/// What a thread waits for at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Who waits.
    pub thread: ThreadId,
    /// For what.
    pub operation: Operation,
    /// Where in the program.
    pub label: Label,
    /// The threads that could let it go on; none if nobody can.
    pub on: ThreadSet,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// All threads came to their end.
    #[default]
    Complete,
    /// Nobody can go on.
    Deadlock,
    /// All that go on do the same reads again and again.
    Livelock,
    /// The limit of steps was reached.
    StepLimit,
    /// The strategy has seen an equal run.
    Redundant,
    /// Whoever drove the run broke it off: a thread raised, say.
    Abandoned,
}

/// All steps of a run in order, and what each thread still waited for at the end.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
    /// Who could not go on at the end.
    pub blocked: Vec<Blocked>,
    /// How it ended.
    pub end: End,
    /// How many threads there were.
    pub n_threads: usize,
    /// Was a thread held back because it repeated itself?
    pub has_spun: bool,
}

impl Trace {
    /// Back to the beginning of a run; the memory is kept.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.blocked.clear();
        self.end = End::Complete;
        self.n_threads = 0;
        self.has_spun = false;
    }

    /// How often one thread took over from another.
    #[must_use]
    pub fn n_switches(&self) -> usize {
        self.steps.windows(2).filter(|pair| pair[0].event.thread != pair[1].event.thread).count()
    }

    /// Was anything touched by two threads, or was there a choice between tasks of one? A run in which nothing is shown
    /// says nothing.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        if self.steps.iter().any(|step| step.event.operation.n_branches() > 1) {
            return true;
        }
        let cells = |step: &Step| footprint(&step.event).into_iter().flatten().map(|(cell, _)| cell);
        let own = |step: &Step| matches!(step.event.operation, Operation::Exit | Operation::Join { .. });
        let steps = || self.steps.iter().filter(|step| !own(step));
        steps().enumerate().any(|(idx, step)| {
            let earlier = steps().take(idx).filter(|other| other.event.thread != step.event.thread);
            earlier.into_iter().any(|other| cells(other).any(|cell| cells(step).any(|mine| mine == cell)))
        })
    }

    /// The threads of a wait cycle, each waiting for the next and the last for the first; empty if there is none.
    #[must_use]
    pub fn cycle(&self) -> Vec<ThreadId> {
        for start in &self.blocked {
            let mut path = vec![start.thread];
            while let Some(next) = path.last().and_then(|last| self.waits_for(*last)) {
                if let Some(begin) = path.iter().position(|thread| *thread == next) {
                    return path.split_off(begin);
                }
                path.push(next);
            }
        }
        Vec::new()
    }

    fn waits_for(&self, thread: ThreadId) -> Option<ThreadId> {
        let blocked = self.blocked.iter().find(|blocked| blocked.thread == thread)?;
        let stuck = |other: &ThreadId| self.blocked.iter().any(|blocked| blocked.thread == *other);
        blocked.on.iter().find(stuck)
    }

    /// The threads that wait for a notification that nobody can send any more.
    #[must_use]
    pub fn missed_wake_ups(&self) -> Vec<(ThreadId, ObjectId)> {
        let missed = self.blocked.iter().filter_map(|blocked| match blocked.operation {
            Operation::Wake { condition, .. } if blocked.on.is_empty() => Some((blocked.thread, condition)),
            _ => None,
        });
        missed.collect()
    }

    /// The places that were read or written.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.steps.iter().flat_map(|step| step.event.operation.accesses()).map(|(_, place)| place)
    }

    /// What the last step came to.
    #[must_use]
    pub fn last_effect(&self) -> Option<Effect> {
        self.steps.last().map(|step| step.event.effect)
    }
}
