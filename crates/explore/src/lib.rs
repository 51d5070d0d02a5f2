//! The dynamic side of raceproof: which thread goes next, what the runs show, and what may be said of them.
//!
//! It is pure: it starts no thread, reads no clock and knows no Python. Whoever drives the runs owns one [`Explorer`]
//! that only the holder of the baton touches, so there is no lock inside.
//!
//! # Driving an exploration
//! ```text
//! let mut explorer = Explorer::new(Kind::Auto, Limits::default(), seed);
//! loop {                                          // one round is one run
//!     let mut next = explorer.begin(n_threads);   // threads 0..n stand before their first operation
//!     // Run(t): t goes on to its next visible operation (or its end) and then, holding the baton, announces it:
//!     while let Next::Run(thread) = next { ...; next = explorer.announce(thread, operation, label); }
//!     // Stop: nobody goes on. Threads that have not ended are to be unwound without announcing anything.
//!     match explorer.end(failure) { After::More => continue, After::Done(outcome) => break outcome }
//! }
//! ```
//! - `announce` says what the thread is *about* to do. When a later `Next::Run` names it, the operation has been
//!   granted and the thread does it: it has the lock, it may read. [`Explorer::effect`] says what came of a try, of
//!   a timeout and of a choice.
//! - `Next::Run(t)` where `t` is the one that announced means: go on. Otherwise: wake `t` and park.
//! - The last thing that a thread announces is [`Operation::Exit`], also after an exception: the exception is kept
//!   and handed to `end`. A run that is broken off otherwise ends with [`Explorer::abandon`].
//! - A thread that starts another announces `Spawn` with the next free number; when it is granted, `Next::Run` names
//!   the parent, and the child is named as soon as the parent has announced again.
//! - Objects and threads are numbered in the order of creation within a run, labels by [`Explorer::label`]: equal
//!   programs must give equal numbers in every run.
//! - After a failure the explorer goes on by itself: it replays, shrinks and looks for the pair that decides. These
//!   are runs like all others; the driver need not know.
//! - Re-entrant locks announce the outermost acquire and release only. An invisible lock held across an announce
//!   would hide a deadlock: name it with [`Explorer::untracked`].

pub mod engine;
pub mod explain;
pub mod happens_before;
pub mod judge;
pub mod linear;
pub mod operation;
pub mod outcome;
pub mod rules;
pub mod schedule;
pub mod shrink;
pub mod state;
pub mod strategy;
pub mod trace;
pub mod visibility;

use std::collections::{BTreeSet, HashSet};

use engine::{Engine, Limits};
use explain::Explanation;
use happens_before::{Edges, HappensBefore};
use judge::{Asked, Failure, judge};
use operation::{Effect, ObjectId, Operation, ThreadId};
use outcome::{About, Certificate, Outcome, Reason, Verdict, conclude};
use schedule::{Labels, NoSchedule, Schedule};
use shrink::{Shrink, Steer};
use strategy::replay::Replay;
use strategy::{Coverage, Kind, Point, Progress, Strategy};
use trace::{End, Label, Pick, Trace};

/// Who goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This thread, up to its next announcement.
    Run(ThreadId),
    /// Nobody: the run is over.
    Stop(End),
}

/// What comes after a run.
#[derive(Debug)]
pub enum After {
    /// Another run.
    More,
    /// The answer.
    Done(Box<Outcome>),
}

/// How often a failure is replayed before it is believed.
const CONFIRMATIONS: u32 = 2;

enum Phase {
    Search,
    /// The failure is replayed, so many more times.
    Confirm(u32),
    Shrink(Shrink),
    /// The shortest schedule once more, to look at it.
    Look,
    /// One pair after the other is turned round.
    Reverse {
        tried: (usize, usize),
        left: Vec<((usize, usize), Vec<Pick>)>,
    },
    /// A given schedule, once.
    Replay(Replay),
}

struct Failed {
    failure: Failure,
    schedule: Schedule,
    trace: Trace,
    decisive: Vec<(usize, usize)>,
}

/// An exploration: from the first run to the outcome.
pub struct Explorer {
    engine: Engine,
    strategy: Box<dyn Strategy + Send>,
    /// Replaces the strategy while a failure is looked into.
    stand_in: Option<Box<dyn Strategy + Send>>,
    limits: Limits,
    labels: Labels,
    phase: Phase,
    failed: Option<Failed>,
    about: About,
    untracked: BTreeSet<String>,
    is_order_missed: bool,
    asked: Asked,
    is_collecting: bool,
    traces: Option<HashSet<u64>>,
    order: HappensBefore,
    runs: u64,
    searched: u64,
    redundant: u64,
    unfinished: u64,
    is_shared: bool,
    has_spun: bool,
}

impl Explorer {
    /// Begins an exploration.
    #[must_use]
    pub fn new(strategy: Kind, limits: Limits, seed: u64) -> Self {
        Self::with(strategy.make(seed), limits)
    }

    /// Begins an exploration with a strategy of one's own.
    #[must_use]
    pub fn with(strategy: Box<dyn Strategy + Send>, limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits),
            strategy,
            stand_in: None,
            limits,
            labels: Labels::default(),
            phase: Phase::Search,
            failed: None,
            about: About::default(),
            untracked: BTreeSet::new(),
            is_order_missed: false,
            asked: Asked::default(),
            is_collecting: false,
            traces: None,
            order: HappensBefore::default(),
            runs: 0,
            searched: 0,
            redundant: 0,
            unfinished: 0,
            is_shared: false,
            has_spun: false,
        }
    }

    /// One run by its schedule.
    ///
    /// # Errors
    /// If the text is no schedule.
    pub fn replay(text: &str, limits: Limits) -> Result<Self, NoSchedule> {
        let mut explorer = Self::new(Kind::Random, limits, 0);
        let schedule = Schedule::parse(text, &mut explorer.labels)?;
        explorer.phase = Phase::Replay(Replay::new(schedule));
        Ok(explorer)
    }

    /// Says what the driver knows, for the certificate.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// Takes unordered accesses for a failure.
    #[must_use]
    pub fn reporting_races(mut self) -> Self {
        self.asked.races = true;
        self
    }

    /// Takes threads that wait for ever for what the run came to, which its driver judges.
    #[must_use]
    pub fn letting_threads_wait(mut self) -> Self {
        self.asked.blocked_is_outcome = true;
        self
    }

    /// Goes on after a failure: for those who ask for all outcomes of a program and judge for themselves.
    #[must_use]
    pub fn collecting(mut self) -> Self {
        self.is_collecting = true;
        self
    }

    /// Counts the different traces: costs time and eight bytes for each.
    #[must_use]
    pub fn counting_traces(mut self) -> Self {
        self.traces = Some(HashSet::new());
        self
    }

    /// Is it still looking for a failure, rather than into one?
    #[must_use]
    pub fn is_searching(&self) -> bool {
        matches!(self.phase, Phase::Search)
    }

    /// Is this the run that an explanation is made of?
    #[must_use]
    pub fn is_looking(&self) -> bool {
        matches!(self.phase, Phase::Look | Phase::Replay(_))
    }

    /// Ends a run that showed that the steps of the program are others than thought: the search begins anew with
    /// `strategy`, and what was seen so far, failures included, counts for nothing but the number of runs. A failure
    /// would hang on what no schedule can say.
    pub fn end_and_restart(&mut self, strategy: Box<dyn Strategy + Send>) -> After {
        debug_assert!(self.is_searching());
        self.runs += 1;
        self.restart(strategy);
        After::More
    }

    fn restart(&mut self, strategy: Box<dyn Strategy + Send>) {
        self.strategy = strategy;
        (self.searched, self.redundant, self.unfinished) = (0, 0, 0);
        (self.is_shared, self.has_spun) = (false, false);
        self.traces = self.traces.take().map(|_| HashSet::new());
    }

    /// Switches of threads around this point are tried first: what a finding speaks of.
    pub fn aim_at(&mut self, label: Label) {
        self.engine.aim_at(label);
    }

    /// The number of a name of a point in the program.
    pub fn label(&mut self, name: &str) -> Label {
        self.labels.intern(name)
    }

    /// Has the name been given to a label: here, or in the schedule that is replayed?
    #[must_use]
    pub fn knows_label(&self, name: &str) -> bool {
        self.labels.has(name)
    }

    /// The names.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Something was met that the exploration does not control: nothing is proved any more.
    pub fn untracked(&mut self, what: &str) {
        if !self.untracked.contains(what) {
            self.untracked.insert(what.to_owned());
        }
    }

    /// As [`untracked`](Self::untracked), of something whose order among the steps matters: runs that should be equal may
    /// differ, and samples are taken besides the exhaustion.
    pub fn untracked_order(&mut self, what: &str) {
        self.untracked(what);
        self.is_order_missed = true;
    }

    /// What happened so far in this run.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        self.engine.trace()
    }

    /// What the last operation of a thread came to.
    #[must_use]
    pub fn effect(&self, thread: ThreadId) -> Effect {
        self.engine.effect(thread)
    }

    /// The virtual time of this run.
    #[must_use]
    pub fn clock_ns(&self) -> u64 {
        self.engine.clock_ns()
    }

    /// Begins a run with this many threads.
    pub fn begin(&mut self, n_threads: usize) -> Next {
        self.engine.begin(n_threads);
        self.next()
    }

    /// Says of a thread of this run that it serves others: see [`Engine::set_background`].
    pub fn set_background(&mut self, thread: ThreadId) {
        self.engine.set_background(thread);
    }

    /// A thread holds a new lock: see [`Engine::hold`].
    pub fn hold(&mut self, thread: ThreadId, lock: ObjectId) {
        self.engine.hold(thread, lock);
    }

    /// A thread says what it is about to do; the answer is who goes on.
    pub fn announce(&mut self, thread: ThreadId, operation: Operation, label: Label) -> Next {
        self.engine.announce(thread, operation, label);
        self.next()
    }

    /// Breaks a run off because something happened that no schedule can repeat.
    pub fn abandon(&mut self) {
        self.engine.finish(End::Abandoned);
    }

    fn next(&mut self) -> Next {
        // Nobody is chosen before all stand before an operation: what comes before it is invisible.
        if let Some(thread) = self.engine.silent() {
            return Next::Run(thread);
        }
        loop {
            let enabled = self.engine.enabled();
            if let Some(end) = self.engine.ended(enabled) {
                self.engine.finish(end);
                return Next::Stop(end);
            }
            let point = Point { enabled, engine: &self.engine };
            let strategy = match &mut self.phase {
                Phase::Replay(replay) => replay,
                _ => self.stand_in.as_deref_mut().unwrap_or(&mut *self.strategy) as &mut dyn Strategy,
            };
            let Some(pick) = strategy.choose(&point) else {
                self.engine.finish(End::Redundant);
                return Next::Stop(End::Redundant);
            };
            if self.engine.perform(pick.thread, pick.branch, enabled) {
                return Next::Run(pick.thread);
            }
            if let Some(thread) = self.engine.silent() {
                return Next::Run(thread);
            }
        }
    }

    /// The run is over; `seen` is what its driver saw.
    pub fn end(&mut self, seen: Option<Failure>) -> After {
        self.runs += 1;
        let failure = match self.trace().end {
            End::Redundant => None,
            _ => judge(self.engine.trace(), seen, self.asked),
        };
        match std::mem::replace(&mut self.phase, Phase::Search) {
            Phase::Search => self.end_search(failure),
            Phase::Confirm(left) => self.end_confirm(left, failure),
            Phase::Shrink(shrink) => self.end_shrink(shrink, failure),
            Phase::Look => self.end_look(failure),
            Phase::Reverse { tried, left } => {
                if failure.is_none() && self.trace().end == End::Complete {
                    self.failed.as_mut().expect("a failure").decisive.push(tried);
                }
                self.reverse_next(left)
            }
            Phase::Replay(replay) => self.end_replay(replay, failure),
        }
    }

    fn end_search(&mut self, failure: Option<Failure>) -> After {
        self.searched += 1;
        let trace = self.engine.trace();
        self.redundant += u64::from(trace.end == End::Redundant);
        self.unfinished += u64::from(matches!(trace.end, End::StepLimit | End::Abandoned));
        self.has_spun |= trace.has_spun;
        self.is_shared = self.is_shared || trace.is_shared();
        if let Some(traces) = self.traces.as_mut().filter(|_| trace.end != End::Redundant) {
            self.order.compute(&trace.steps, trace.n_threads, Edges::All);
            traces.insert(self.order.trace_hash(trace));
        }
        if let Some(failure) = failure.filter(|_| !self.is_collecting) {
            let schedule = Schedule::of(trace);
            self.stand_in = Some(Box::new(Replay::new(schedule.clone())));
            self.failed = Some(Failed { failure, schedule, trace: trace.clone(), decisive: Vec::new() });
            self.phase = Phase::Confirm(CONFIRMATIONS);
            return After::More;
        }
        let mut progress = self.strategy.learn(self.engine.trace());
        if progress == Progress::Done && self.is_order_missed {
            progress = self.strategy.sample();
        }
        if progress == Progress::More && self.searched < self.limits.runs_max {
            return After::More;
        }
        let certificate = self.certificate();
        let verdict = conclude(&certificate, self.is_shared);
        self.outcome(verdict)
    }

    fn is_alike(&self, failure: Option<&Failure>) -> bool {
        let known = &self.failed.as_ref().expect("a failure").failure;
        failure.is_some_and(|failure| failure.is_like(known))
    }

    fn end_confirm(&mut self, left: u32, failure: Option<Failure>) -> After {
        if !self.is_alike(failure.as_ref()) {
            return self.outcome(Verdict::GaveUp(Reason::Nondeterministic));
        }
        if left > 1 {
            self.phase = Phase::Confirm(left - 1);
            return After::More;
        }
        let shrink = Shrink::new(self.engine.trace());
        self.try_shorter(shrink)
    }

    fn try_shorter(&mut self, shrink: Shrink) -> After {
        if let Some(candidate) = shrink.candidate() {
            self.stand_in = Some(Box::new(Replay::lenient(candidate)));
            self.phase = Phase::Shrink(shrink);
            return After::More;
        }
        let schedule = shrink.best().clone();
        self.stand_in = Some(Box::new(Replay::new(schedule.clone())));
        self.failed.as_mut().expect("a failure").schedule = schedule;
        self.phase = Phase::Look;
        After::More
    }

    fn end_shrink(&mut self, mut shrink: Shrink, failure: Option<Failure>) -> After {
        let is_alike = self.is_alike(failure.as_ref());
        shrink.learn(self.engine.trace(), is_alike);
        self.try_shorter(shrink)
    }

    fn end_look(&mut self, failure: Option<Failure>) -> After {
        if !self.is_alike(failure.as_ref()) {
            return self.outcome(Verdict::GaveUp(Reason::Nondeterministic));
        }
        let trace = self.engine.trace().clone();
        let mut left = explain::reversals(&trace);
        // They are taken from the end: the pairs that come first in the run are tried and told first.
        left.reverse();
        let failed = self.failed.as_mut().expect("a failure");
        failed.failure = failure.expect("alike");
        failed.schedule = Schedule::of(&trace);
        failed.trace = trace;
        self.reverse_next(left)
    }

    fn reverse_next(&mut self, mut left: Vec<((usize, usize), Vec<Pick>)>) -> After {
        let Some((tried, picks)) = left.pop() else {
            let failure = self.failed.as_ref().expect("a failure").failure.clone();
            return self.outcome(Verdict::Failed(failure));
        };
        self.stand_in = Some(Box::new(Steer::new(&picks)));
        self.phase = Phase::Reverse { tried, left };
        After::More
    }

    fn end_replay(&mut self, mut replay: Replay, failure: Option<Failure>) -> After {
        self.searched += 1;
        let trace = self.engine.trace();
        self.unfinished += u64::from(matches!(trace.end, End::StepLimit | End::Abandoned));
        self.is_shared = trace.is_shared();
        self.has_spun = trace.has_spun;
        replay.learn(trace);
        if let Some(failure) = failure {
            let (schedule, trace) = (Schedule::of(trace), trace.clone());
            self.failed = Some(Failed { failure: failure.clone(), schedule, trace, decisive: Vec::new() });
            return self.outcome(Verdict::Failed(failure));
        }
        match replay.divergence() {
            Some(divergence) => self.outcome(Verdict::GaveUp(Reason::Diverged(divergence))),
            None => self.outcome(Verdict::NothingFound),
        }
    }

    fn certificate(&self) -> Certificate {
        Certificate {
            about: self.about.clone(),
            coverage: if self.failed.is_some() { Coverage::Sample } else { self.strategy.coverage() },
            spins: self.has_spun.then_some(self.limits.spins_max),
            executions: self.searched,
            redundant: self.redundant,
            traces: self.traces.as_ref().map(|traces| traces.len() as u64),
            unfinished: self.unfinished,
            untracked: self.untracked.iter().cloned().collect(),
        }
    }

    fn outcome(&mut self, verdict: Verdict) -> After {
        let certificate = self.certificate();
        let failed = self.failed.take();
        let schedule = failed.as_ref().map(|failed| failed.schedule.print(&self.labels));
        let explanation = failed.map(|failed| Explanation {
            pattern: explain::pattern(&failed.trace, &failed.failure, &failed.decisive),
            cycle: failed.trace.cycle(),
            trace: failed.trace,
            decisive: failed.decisive,
        });
        After::Done(Box::new(Outcome { verdict, runs: self.runs, schedule, explanation, certificate }))
    }
}
