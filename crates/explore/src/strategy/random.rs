//! A uniform choice among the enabled threads at each step. No claim beyond what was seen.

use super::{Coverage, Dice, Point, Progress, Strategy};
use crate::trace::{Pick, Trace};

/// See the module.
#[derive(Clone, Debug)]
pub struct Random {
    dice: Dice,
}

impl Random {
    /// With a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed) }
    }
}

impl Strategy for Random {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        let willing = point.willing();
        let skip = self.dice.below(willing.len() as u64) as usize;
        let thread = willing.iter().nth(skip)?;
        Some(self.dice.branch(point, thread))
    }

    fn learn(&mut self, _trace: &Trace) -> Progress {
        Progress::More
    }

    fn coverage(&self) -> Coverage {
        Coverage::Sample
    }
}
