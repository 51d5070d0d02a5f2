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
    /// The bound, and the runs so far.
    Aimed(u32, Dfs, u64),
    Exhaust,
    Burst,
    Bounded(u32, Dfs),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Auto {
    stage: Stage,
    /// Goes on after the burst where it was before.
    dpor: Dpor,
    n_exhausted: u64,
    random: Random,
    pct: [Pct; 2],
    pos: Pos,
    n_sampled: u64,
    coverage: Coverage,
    has_aims: bool,
}

impl Auto {
    /// With a seed for the burst.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            stage: Stage::Serial(Dfs::new(Some(0))),
            dpor: Dpor::default(),
            n_exhausted: 0,
            random: Random::new(seed),
            pct: [Pct::new(seed, 2), Pct::new(seed, 3)],
            pos: Pos::new(seed),
            n_sampled: 0,
            coverage: Coverage::Sample,
            has_aims: false,
        }
    }

    fn sampler(&mut self) -> &mut dyn Strategy {
        match self.n_sampled % 4 {
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
            Stage::Exhaust => self.dpor.choose(point),
            Stage::Burst => self.sampler().choose(point),
        }
    }

    fn learn(&mut self, trace: &Trace) -> Progress {
        self.stage = match &mut self.stage {
            Stage::Serial(dfs) => {
                if dfs.learn(trace) == Progress::More {
                    return Progress::More;
                }
                self.coverage = dfs.coverage();
                match (self.coverage, self.has_aims) {
                    (Coverage::All, _) => return Progress::Done,
                    (_, true) => Stage::Aimed(1, Dfs::aimed(1), 0),
                    (_, false) => Stage::Exhaust,
                }
            }
            Stage::Aimed(bound, dfs, runs) => {
                *runs += 1;
                match dfs.learn(trace) {
                    _ if *runs >= AIMED_RUNS => Stage::Exhaust,
                    Progress::More => return Progress::More,
                    Progress::Done if *bound == AIMED_BOUND => Stage::Exhaust,
                    Progress::Done => Stage::Aimed(*bound + 1, Dfs::aimed(*bound + 1), *runs),
                }
            }
            Stage::Exhaust => {
                self.n_exhausted += 1;
                if self.dpor.learn(trace) == Progress::Done {
                    if self.dpor.coverage() == Coverage::All {
                        self.coverage = Coverage::All;
                    }
                    return Progress::Done;
                }
                match self.n_exhausted {
                    FIRST_RUNS => Stage::Burst,
                    DPOR_RUNS => Stage::Bounded(1, Dfs::new(Some(1))),
                    _ => return Progress::More,
                }
            }
            Stage::Burst => {
                self.sampler().learn(trace);
                self.n_sampled += 1;
                match self.n_sampled {
                    // After an exhaustion: see `sample`.
                    BURST_RUNS if self.n_exhausted < FIRST_RUNS => return Progress::Done,
                    BURST_RUNS => Stage::Exhaust,
                    _ => return Progress::More,
                }
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
        Progress::More
    }

    fn coverage(&self) -> Coverage {
        self.coverage
    }

    fn sample(&mut self) -> Progress {
        if self.n_sampled > 0 {
            return Progress::Done;
        }
        self.stage = Stage::Burst;
        Progress::More
    }
}
