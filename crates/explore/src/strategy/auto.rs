//! What a user gets: serial orders first, then a burst of samples that finds most bugs in a handful of runs, then
//! exhaustion, and with what is left of the budget all runs of a few preemptions.
//!
//! The order is measured: on 29 kernels the median run that failed was the first (random) or the third (PCT).

use super::{Coverage, Point, Progress, Strategy, dfs::Dfs, dpor::Dpor, pct::Pct, pos::Pos, random::Random};
use crate::trace::{Pick, Trace};

const BURST_RUNS: u64 = 1_000;
/// Programs that DPOR does not exhaust in as many runs are given to the bounded search.
const DPOR_RUNS: u64 = 50_000;

#[derive(Clone, Debug)]
enum Stage {
    Serial(Dfs),
    Burst(u64),
    Exhaust(Box<Dpor>, u64),
    Bounded(u32, Dfs),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Auto {
    stage: Stage,
    random: Random,
    pct: [Pct; 2],
    pos: Pos,
    coverage: Coverage,
}

impl Auto {
    /// With a seed for the burst.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            stage: Stage::Serial(Dfs::new(Some(0))),
            random: Random::new(seed),
            pct: [Pct::new(seed, 2), Pct::new(seed, 3)],
            pos: Pos::new(seed),
            coverage: Coverage::Sample,
        }
    }

    fn sampler(&mut self, run: u64) -> &mut dyn Strategy {
        match run % 4 {
            0 => &mut self.random,
            1 => &mut self.pct[0],
            2 => &mut self.pct[1],
            _ => &mut self.pos,
        }
    }
}

impl Strategy for Auto {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        match &mut self.stage {
            Stage::Serial(dfs) | Stage::Bounded(_, dfs) => dfs.choose(point),
            Stage::Exhaust(dpor, _) => dpor.choose(point),
            Stage::Burst(run) => {
                let run = *run;
                self.sampler(run).choose(point)
            }
        }
    }

    fn learn(&mut self, trace: &Trace) -> Progress {
        let next = match &mut self.stage {
            Stage::Serial(dfs) => {
                if dfs.learn(trace) == Progress::More {
                    return Progress::More;
                }
                self.coverage = dfs.coverage();
                if self.coverage == Coverage::All {
                    return Progress::Done;
                }
                Stage::Burst(0)
            }
            Stage::Burst(run) => {
                let run = *run;
                self.sampler(run).learn(trace);
                if run + 1 < BURST_RUNS { Stage::Burst(run + 1) } else { Stage::Exhaust(Box::default(), 0) }
            }
            Stage::Exhaust(dpor, runs) => {
                *runs += 1;
                if dpor.learn(trace) == Progress::Done {
                    self.coverage = match dpor.coverage() {
                        Coverage::All => Coverage::All,
                        _ => self.coverage,
                    };
                    return Progress::Done;
                }
                if *runs < DPOR_RUNS {
                    return Progress::More;
                }
                Stage::Bounded(1, Dfs::new(Some(1)))
            }
            Stage::Bounded(bound, dfs) => {
                if dfs.learn(trace) == Progress::More {
                    return Progress::More;
                }
                self.coverage = dfs.coverage();
                if self.coverage == Coverage::All {
                    return Progress::Done;
                }
                Stage::Bounded(*bound + 1, Dfs::new(Some(*bound + 1)))
            }
        };
        self.stage = next;
        Progress::More
    }

    fn coverage(&self) -> Coverage {
        self.coverage
    }
}
