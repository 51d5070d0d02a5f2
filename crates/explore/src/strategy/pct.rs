//! Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): random priorities of the threads, and at
//! `depth - 1` random steps the thread in front falls behind all others.

use super::{Coverage, Dice, Point, Progress, Strategy};
use crate::operation::THREADS_MAX;
use crate::trace::{Pick, Trace};

/// See the module.
#[derive(Clone, Debug)]
pub struct Pct {
    dice: Dice,
    depth: u32,
    priorities: [u64; THREADS_MAX],
    change_points: Vec<u64>,
    /// The longest run so far: change points are spread over it.
    n_steps: u64,
}

impl Pct {
    /// With a seed, for bugs that need `depth` events in order.
    #[must_use]
    pub fn new(seed: u64, depth: u32) -> Self {
        Self { dice: Dice::new(seed), depth, priorities: [0; THREADS_MAX], change_points: Vec::new(), n_steps: 20 }
    }

    fn begin(&mut self) {
        for priority in &mut self.priorities {
            *priority = self.dice.next() | 1 << 63;
        }
        self.change_points.clear();
        for _ in 1..self.depth {
            self.change_points.push(self.dice.below(self.n_steps));
        }
    }
}

impl Strategy for Pct {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        let step = point.step() as u64;
        if step == 0 {
            self.begin();
        }
        let front = |pct: &Self| point.willing().iter().max_by_key(|thread| pct.priorities[thread.idx()]);
        let mut thread = front(self)?;
        if let Some(change) = self.change_points.iter().position(|at| *at == step) {
            // Below all that began high, and different for each change point.
            self.priorities[thread.idx()] = self.depth as u64 - change as u64;
            thread = front(self)?;
        }
        Some(self.dice.branch(point, thread))
    }

    fn learn(&mut self, trace: &Trace) -> Progress {
        self.n_steps = self.n_steps.max(trace.steps.len() as u64);
        Progress::More
    }

    fn coverage(&self) -> Coverage {
        Coverage::Sample
    }
}
