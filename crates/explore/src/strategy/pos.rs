//! Partial order sampling (Yuan et al., CAV 2018): random priorities of the pending operations, drawn anew for those
//! that race with what was just done, so that classes of equal runs are met more evenly than by uniform choices.

use super::{Coverage, Dice, Point, Progress, Strategy};
use crate::operation::{Event, THREADS_MAX, dependent};
use crate::trace::{Pick, Trace};

/// See the module.
#[derive(Clone, Debug)]
pub struct Pos {
    dice: Dice,
    /// 0 where a priority has to be drawn.
    priorities: [u64; THREADS_MAX],
}

impl Pos {
    /// With a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), priorities: [0; THREADS_MAX] }
    }
}

impl Strategy for Pos {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        match point.trace().steps.last() {
            None => self.priorities = [0; THREADS_MAX],
            Some(step) => {
                self.priorities[step.event.thread.idx()] = 0;
                for thread in point.enabled.iter() {
                    let pending = Event::pending(thread, point.pending(thread).0);
                    if dependent(&step.event, &pending) {
                        self.priorities[thread.idx()] = 0;
                    }
                }
            }
        }
        for thread in point.enabled.iter() {
            let priority = &mut self.priorities[thread.idx()];
            if *priority == 0 {
                *priority = self.dice.next() | 1;
            }
        }
        let thread = point.willing().iter().max_by_key(|thread| self.priorities[thread.idx()])?;
        Some(self.dice.branch(point, thread))
    }

    fn learn(&mut self, _trace: &Trace) -> Progress {
        Progress::More
    }

    fn coverage(&self) -> Coverage {
        Coverage::Sample
    }
}
