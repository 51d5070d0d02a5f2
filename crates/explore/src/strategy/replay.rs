//! One run again, by its schedule.
//!
//! A replay that comes off the schedule goes on all the same and says where it did so: the first turn whose label is
//! not met.

use super::{Coverage, Point, Progress, Strategy};
use crate::schedule::{Labels, Schedule, Turn, visits};
use crate::trace::{Pick, Trace, lead};

/// Where a replay came off its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The number of the turn, from 0.
    pub turn: usize,
    /// What the schedule asks for.
    pub expected: Turn,
    /// Did the passed-over thread come to the place, and the other could not go on?
    pub was_reached: bool,
}

impl Divergence {
    /// In words.
    #[must_use]
    pub fn message(&self, labels: &Labels) -> String {
        let Turn { thread, label, nth, to } = self.expected;
        let name = labels.name(label);
        match self.was_reached {
            true => format!("{} cannot go on where {thread} stands before `{name}`", to.thread),
            false if nth == 1 => format!("{thread} never stands before `{name}`"),
            false => format!("{thread} does not stand before `{name}` {nth} times"),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Replay {
    schedule: Schedule,
    at: usize,
    is_lenient: bool,
    divergence: Option<Divergence>,
}

impl Replay {
    /// Of a schedule, turn by turn.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, at: 0, is_lenient: false, divergence: None }
    }

    /// Of a schedule of which turns have been taken out: a turn that is not met is passed over.
    #[must_use]
    pub fn lenient(schedule: Schedule) -> Self {
        Self { is_lenient: true, ..Self::new(schedule) }
    }

    /// Where the last run came off the schedule.
    #[must_use]
    pub fn divergence(&self) -> Option<Divergence> {
        self.divergence
    }
}

impl Strategy for Replay {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        if point.step() == 0 {
            self.at = 0;
            self.divergence = None;
        }
        let thread = lead(point.enabled, point.current());
        let label = point.pending(thread).1;
        let is_here = |turn: &Turn| {
            turn.thread == thread
                && turn.label == label
                && turn.nth == 1 + visits(point.trace(), point.step(), thread, label)
        };
        let ahead = &self.schedule.turns[self.at..];
        let ahead = if self.is_lenient { ahead } else { &ahead[..ahead.len().min(1)] };
        let Some(skip) = ahead.iter().position(is_here) else {
            return Some(Pick::of(thread));
        };
        let turn = ahead[skip];
        let can_go = point.enabled.contains(turn.to.thread) && turn.to.branch < point.n_branches(turn.to.thread);
        if !can_go {
            let diverged = Divergence { turn: self.at + skip, expected: turn, was_reached: true };
            self.divergence.get_or_insert(diverged);
            return Some(Pick::of(thread));
        }
        self.at += skip + 1;
        Some(turn.to)
    }

    fn learn(&mut self, _trace: &Trace) -> Progress {
        if let Some(turn) = self.schedule.turns.get(self.at) {
            let missed = Divergence { turn: self.at, expected: *turn, was_reached: false };
            self.divergence.get_or_insert(missed);
        }
        Progress::Done
    }

    fn coverage(&self) -> Coverage {
        Coverage::Sample
    }
}
