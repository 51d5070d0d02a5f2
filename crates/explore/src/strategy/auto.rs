//! What a user gets: serial orders first; where the search is aimed, runs that switch there; the first runs of an
//! exhaustion, which end it for small programs; a burst of samples that finds most bugs in a handful of runs; the rest
//! of the exhaustion; and with what is left of the budget all runs of a few preemptions.
//!
//! The order is measured: on 29 kernels the median run that failed was the first (random) or the third (PCT).

use super::{Coverage, Point, Progress, Strategy, dfs::Dfs, dpor::Dpor, pct::Pct, pos::Pos, random::Random};
use crate::trace::{Pick, Trace};

const BURST_RUNS: u64 = 1_000;
/// Runs that switch where the search is aimed.
const AIMED_RUNS: u64 = 200;
/// Preemptions in these, at most.
const AIMED_BOUND: u32 = 2;
/// What is exhausted in so many runs needs no samples.
const FIRST_RUNS: u64 = 100;
/// Programs that DPOR does not exhaust in as many runs are given to the bounded search.
const DPOR_RUNS: u64 = 50_000;

#[derive(Clone, Debug)]
enum Stage {
    Serial(Dfs),
    Aimed(u32, Dfs, u64),
    /// The first part of an exhaustion.
    First(Box<Dpor>, u64),
    /// Samples, and the exhaustion that goes on after them.
    Burst(u64, Box<Dpor>),
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
    has_aims: bool,
    has_sampled: bool,
    is_exhausted: bool,
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
            has_aims: false,
            has_sampled: false,
            is_exhausted: false,
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
        self.has_aims |= point.has_aims();
        match &mut self.stage {
            Stage::Serial(dfs) | Stage::Aimed(_, dfs, _) | Stage::Bounded(_, dfs) => dfs.choose(point),
            Stage::First(dpor, _) | Stage::Exhaust(dpor, _) => dpor.choose(point),
            Stage::Burst(run, _) => {
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
                match self.has_aims {
                    true => Stage::Aimed(1, Dfs::aimed(1), 0),
                    false => Stage::First(Box::default(), 0),
                }
            }
            Stage::Aimed(bound, dfs, runs) => {
                *runs += 1;
                let is_over = dfs.learn(trace) == Progress::Done;
                match (is_over, *bound, *runs) {
                    (_, _, runs) if runs >= AIMED_RUNS => Stage::First(Box::default(), 0),
                    (false, ..) => return Progress::More,
                    (true, AIMED_BOUND, _) => Stage::First(Box::default(), 0),
                    (true, bound, runs) => Stage::Aimed(bound + 1, Dfs::aimed(bound + 1), runs),
                }
            }
            Stage::First(dpor, runs) | Stage::Exhaust(dpor, runs) => {
                *runs += 1;
                if dpor.learn(trace) == Progress::Done {
                    self.coverage = match dpor.coverage() {
                        Coverage::All => Coverage::All,
                        _ => self.coverage,
                    };
                    return Progress::Done;
                }
                match *runs {
                    FIRST_RUNS => Stage::Burst(0, std::mem::take(dpor)),
                    DPOR_RUNS => Stage::Bounded(1, Dfs::new(Some(1))),
                    _ => return Progress::More,
                }
            }
            Stage::Burst(run, dpor) => {
                self.has_sampled = true;
                let run = *run;
                if run + 1 == BURST_RUNS && self.is_exhausted {
                    return Progress::Done;
                }
                if run + 1 == BURST_RUNS {
                    self.stage = Stage::Exhaust(std::mem::take(dpor), FIRST_RUNS);
                    return Progress::More;
                }
                self.sampler(run).learn(trace);
                if let Stage::Burst(run, _) = &mut self.stage {
                    *run += 1;
                }
                return Progress::More;
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

    fn sample(&mut self) -> Progress {
        if self.has_sampled {
            return Progress::Done;
        }
        (self.stage, self.is_exhausted) = (Stage::Burst(0, Box::default()), true);
        Progress::More
    }
}
