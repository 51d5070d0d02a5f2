//! Strategies: which thread goes next, and which run comes next.
//!
//! A strategy sees what could be chosen and, afterwards, the trace. It never sees threads, locks or clocks, and keeps
//! no budget. A new one is a file here and a line in [`Kind`].

pub mod auto;
pub mod dfs;
pub mod dpor;
pub mod pct;
pub mod pos;
pub mod random;
pub mod replay;
mod wakeup;

use crate::engine::Engine;
use crate::operation::{Operation, ThreadId, ThreadSet};
use crate::trace::{Label, Pick, Trace};

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Who can go on; never empty.
    pub enabled: ThreadSet,
    pub(crate) engine: &'a Engine,
}

impl<'a> Point<'a> {
    /// Who ran last.
    #[must_use]
    pub fn current(&self) -> Option<ThreadId> {
        self.engine.current()
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &'a Trace {
        self.engine.trace()
    }

    /// The number of this step in its run, from 0.
    #[must_use]
    pub fn step(&self) -> usize {
        self.engine.trace().steps.len()
    }

    /// What a thread is about to do, and where.
    #[must_use]
    pub fn pending(&self, thread: ThreadId) -> (Operation, Label) {
        self.engine.pending(thread).expect("an enabled thread has announced")
    }

    /// In how many ways can the thread go on?
    #[must_use]
    pub fn n_branches(&self, thread: ThreadId) -> u32 {
        self.pending(thread).0.n_branches()
    }

    /// The enabled threads that have not just asked to let others go first; all of them if all have.
    #[must_use]
    pub fn willing(&self) -> ThreadSet {
        let willing = self.enabled.without(self.engine.yielded());
        if willing.is_empty() { self.enabled } else { willing }
    }

    /// Does a thread stand before one of the points that the search is aimed at, or right behind it?
    #[must_use]
    pub fn is_aimed(&self, thread: ThreadId) -> bool {
        self.engine.is_aimed(thread)
    }

    /// Is the search aimed at any points?
    #[must_use]
    pub fn has_aims(&self) -> bool {
        self.engine.has_aims()
    }

    /// Who goes on if nothing speaks against it: the one who ran, or else the lowest number.
    #[must_use]
    pub fn default_thread(&self) -> ThreadId {
        let willing = self.willing();
        let current = self.current().filter(|current| willing.contains(*current));
        current.or(willing.first()).expect("somebody can go on")
    }
}

/// What a strategy says after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is another run.
    More,
    /// There is none.
    Done,
}

/// How much of the space a strategy has seen when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// A sample.
    Sample,
    /// All runs with at most this many preemptions.
    Preemptions(u32),
    /// All runs, up to equality.
    All,
}

/// A way to walk through the runs.
pub trait Strategy {
    /// Who goes next. `None` breaks the run off because an equal one has been seen.
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick>;
    /// The run is over.
    fn learn(&mut self, trace: &Trace) -> Progress;
    /// What has been covered once it is done.
    fn coverage(&self) -> Coverage;
    /// It is done, but runs which should be equal may differ: is there a sample to take besides?
    fn sample(&mut self) -> Progress {
        Progress::Done
    }
}

/// The strategies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a user gets: see [`auto`].
    Auto,
    /// Uniform among the enabled threads.
    Random,
    /// Random priorities with this many minus one change points.
    Pct(u32),
    /// Random priorities of operations.
    Pos,
    /// All orders, with at most this many preemptions if there is a bound.
    Dfs(Option<u32>),
    /// One run of each class of equal runs.
    Dpor,
}

impl Kind {
    /// The strategy.
    #[must_use]
    pub fn make(self, seed: u64) -> Box<dyn Strategy + Send> {
        match self {
            Kind::Auto => Box::new(auto::Auto::new(seed)),
            Kind::Random => Box::new(random::Random::new(seed)),
            Kind::Pct(depth) => Box::new(pct::Pct::new(seed, depth)),
            Kind::Pos => Box::new(pos::Pos::new(seed)),
            Kind::Dfs(bound) => Box::new(dfs::Dfs::new(bound)),
            Kind::Dpor => Box::new(dpor::Dpor::default()),
        }
    }
}

/// The word for a strategy in messages and on the command line.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Auto => write!(f, "auto"),
            Kind::Random => write!(f, "random"),
            Kind::Pct(depth) => write!(f, "pct{depth}"),
            Kind::Pos => write!(f, "pos"),
            Kind::Dfs(None) => write!(f, "dfs"),
            Kind::Dfs(Some(bound)) => write!(f, "dfs{bound}"),
            Kind::Dpor => write!(f, "dpor"),
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownStrategy;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let number = |prefix: &str| word.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
        match word {
            "auto" => Ok(Kind::Auto),
            "random" => Ok(Kind::Random),
            "pct" => Ok(Kind::Pct(3)),
            "pos" => Ok(Kind::Pos),
            "dfs" => Ok(Kind::Dfs(None)),
            "dpor" => Ok(Kind::Dpor),
            _ => {
                let pct = number("pct").filter(|depth| *depth > 0).map(Kind::Pct);
                let dfs = || number("dfs").map(|bound| Kind::Dfs(Some(bound)));
                pct.or_else(dfs).ok_or_else(|| UnknownStrategy(word.to_owned()))
            }
        }
    }
}

/// A word that names no strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStrategy(pub String);

impl std::fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = &self.0;
        write!(f, "no strategy `{word}`; the strategies are auto, random, pct2, pct3, pos, dfs, dfs0, dfs1, ..., dpor")
    }
}

impl std::error::Error for UnknownStrategy {}

/// A random sequence (SplitMix64): the same seed gives the same numbers everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // The bias of a multiplication by a 64-bit number is far below what a search could notice.
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    pub(crate) fn branch(&mut self, point: &Point<'_>, thread: ThreadId) -> Pick {
        let n = point.n_branches(thread);
        let branch = if n > 1 { self.below(u64::from(n)) as u32 } else { 0 };
        Pick { thread, branch }
    }
}
