//! Why a run fails: the pattern, and the pair whose order decides.
//!
//! It works on the shortest run that fails. Names, source lines and values are added by whoever has them.

use std::collections::BTreeMap;

use crate::happens_before::{Edges, HappensBefore};
use crate::judge::Failure;
use crate::operation::{Effect, Event, Place, ThreadId, dependent, may_be_co_enabled};
use crate::trace::{End, Pick, Step, Trace};
use facts::{Action, Evidence, ObservedStep, Span};

/// How threads get into each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Read, and written back after another wrote: one of the two writes is lost.
    LostUpdate,
    /// What was read is no longer so when something else is done because of it.
    CheckThenAct,
    /// Two places are read with a write of both in between.
    TornRead,
    /// Two locks in both orders.
    AbbaCycle,
    /// A thread waits for a lock that it holds itself.
    SelfDeadlock,
    /// The notification came before the wait, or never.
    MissedWakeUp,
    /// Threads wait for each other by other means.
    WaitCycle,
    /// Threads repeat the same reads for ever.
    Livelock,
    /// What is read has not been written yet, or no longer.
    WrongOrder,
    /// Which task of an event loop goes on decides, and nothing is known of what they touch.
    OrderOfTasks,
    /// None of these.
    Other,
}

impl Pattern {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Pattern::LostUpdate => "lost update",
            Pattern::CheckThenAct => "check then act",
            Pattern::TornRead => "torn read",
            Pattern::AbbaCycle => "two locks in both orders",
            Pattern::SelfDeadlock => "a lock taken twice",
            Pattern::MissedWakeUp => "missed wake-up",
            Pattern::WaitCycle => "threads wait for each other",
            Pattern::Livelock => "livelock",
            Pattern::WrongOrder => "wrong order",
            Pattern::OrderOfTasks => "order of tasks at an await",
            Pattern::Other => "interleaving",
        }
    }
}

/// Why a run fails.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// How threads get into each other's way.
    pub pattern: Pattern,
    /// The shortest run that fails.
    pub trace: Trace,
    /// The pairs of steps whose reversal alone makes it pass, the most telling first.
    pub decisive: Vec<(usize, usize)>,
    /// The wait cycle of a deadlock.
    pub cycle: Vec<ThreadId>,
}

impl Explanation {
    /// As the evidence of a finding. `describe` says where a step stands in the source and what it does, with the
    /// value, such as "reads `self.n` = 0"; steps that it has no words for are left out.
    pub fn evidence(
        &self,
        threads: Vec<String>,
        ending: String,
        schedule: String,
        describe: impl Fn(usize, &Step) -> Option<(Span, String)>,
    ) -> Evidence {
        let decides = |idx: usize| self.decisive.first().is_some_and(|(a, b)| *a == idx || *b == idx);
        let told: Vec<Option<(Span, String)>> =
            self.trace.steps.iter().enumerate().map(|(idx, step)| describe(idx, step)).collect();
        let words = |idx: usize| {
            let thread = self.trace.steps.get(idx)?.event.thread;
            let (_, text) = told.get(idx)?.as_ref()?;
            Some(format!("{thread} {text}"))
        };
        let remedy = self.decisive.first().and_then(|(a, b)| {
            let (first, second) = (words(*a)?, words(*b)?);
            Some(format!("if \"{second}\" came before \"{first}\""))
        });
        let steps = self.trace.steps.iter().zip(&told).enumerate().filter_map(|(idx, (step, told))| {
            let (span, text) = told.clone()?;
            Some(ObservedStep { thread: step.event.thread.idx(), span, text, decides: decides(idx) })
        });
        Evidence::Observed {
            pattern: self.pattern.as_str().to_owned(),
            threads,
            steps: steps.collect(),
            ending,
            remedy: remedy.unwrap_or_default(),
            schedule,
        }
    }
}

/// The pairs that could have happened the other way round, each with an order of threads in which they do. What a
/// blocked thread waits for stands behind the last step: the first of `trace.blocked` has the number after it.
#[must_use]
pub fn reversals(trace: &Trace) -> Vec<((usize, usize), Vec<Pick>)> {
    let order = HappensBefore::of(trace, Edges::All);
    let n = trace.steps.len();
    let pending = trace.blocked.iter().map(|blocked| Event::pending(blocked.thread, blocked.operation));
    let events: Vec<Event> = trace.steps.iter().map(|step| step.event).chain(pending).collect();
    let is_before = |a: usize, b: usize| match b < n {
        true => order.is_before(a, b),
        false => order.last_of(events[b].thread.idx()).is_some_and(|last| a == last || order.is_before(a, last)),
    };
    let mut found = Vec::new();
    for (later, b) in events.iter().enumerate() {
        for (earlier, a) in events[..later.min(n)].iter().enumerate().rev() {
            let is_between = |mid: usize| is_before(earlier, mid) && is_before(mid, later);
            // Sections of one lock: the release between them is no reason why they could not be swapped.
            let is_section = a.operation.takes().is_some() && b.operation.takes().is_some();
            let is_pair = a.thread != b.thread
                && dependent(a, b)
                && may_be_co_enabled(a, b)
                && (is_section || !(earlier + 1..later.min(n)).any(is_between));
            if is_pair {
                found.push(((earlier, later), reversed(&events[..n], earlier, later, b, is_before)));
            }
        }
    }
    found
}

/// The order of threads with the step at `earlier`, and all that rests on it, put off until after the later event.
fn reversed(
    steps: &[Event],
    earlier: usize,
    later: usize,
    event: &Event,
    is_before: impl Fn(usize, usize) -> bool,
) -> Vec<Pick> {
    let pick = |event: &Event| Pick {
        thread: event.thread,
        branch: if let Effect::Branch(branch) = event.effect { branch } else { 0 },
    };
    let until = later.min(steps.len());
    let (mut picks, mut put_off) = (Vec::new(), Vec::new());
    for (idx, step) in steps[..until].iter().enumerate() {
        let rests = idx == earlier || (idx > earlier && is_before(earlier, idx));
        let list = if rests { &mut put_off } else { &mut picks };
        list.push(pick(step));
    }
    picks.push(pick(event));
    picks.extend(put_off);
    picks.extend(steps.get(until + 1..).unwrap_or_default().iter().map(pick));
    picks
}

/// Names the pattern of a run that fails.
#[must_use]
pub fn pattern(trace: &Trace, failure: &Failure, decisive: &[(usize, usize)]) -> Pattern {
    match (failure, trace.end) {
        (Failure::Livelock, _) | (_, End::Livelock) => return Pattern::Livelock,
        (Failure::MissedWakeUp, _) => return Pattern::MissedWakeUp,
        (_, End::Deadlock) => return of_deadlock(trace),
        _ => {}
    }
    let accesses = by_place(trace);
    // Where no pair decides alone, all of them may.
    let is_decisive = |idx: usize| decisive.is_empty() || decisive.iter().any(|(a, b)| *a == idx || *b == idx);
    let mut found = Pattern::Other;
    for steps in accesses.values() {
        if let Some(update) = lost_update(steps, &is_decisive) {
            return update;
        }
        found = if stale_read(steps, &is_decisive) { Pattern::CheckThenAct } else { found };
    }
    if torn_read(&accesses, &is_decisive) {
        return Pattern::TornRead;
    }
    match (found, decisive.is_empty()) {
        (Pattern::Other, false) => Pattern::WrongOrder,
        (Pattern::Other, true) if trace.steps.iter().any(|step| step.event.operation.n_branches() > 1) => {
            Pattern::OrderOfTasks
        }
        _ => found,
    }
}

fn of_deadlock(trace: &Trace) -> Pattern {
    let cycle = trace.cycle();
    let on_lock = |thread: &ThreadId| {
        trace.blocked.iter().any(|blocked| blocked.thread == *thread && blocked.operation.takes().is_some())
    };
    match cycle.len() {
        0 if !trace.missed_wake_ups().is_empty() => Pattern::MissedWakeUp,
        1 => Pattern::SelfDeadlock,
        n if n > 1 && cycle.iter().all(on_lock) => Pattern::AbbaCycle,
        _ => Pattern::WaitCycle,
    }
}

/// One access of a trace: its step, its thread and what it does.
type Seen = (usize, ThreadId, Action);

/// The accesses of each place, those of all of its object among them.
fn by_place(trace: &Trace) -> BTreeMap<Place, Vec<Seen>> {
    let mut places: BTreeMap<Place, Vec<Seen>> = trace.places().map(|place| (place, Vec::new())).collect();
    for (idx, step) in trace.steps.iter().enumerate() {
        for (action, place) in step.event.operation.accesses() {
            for (_, seen) in places.iter_mut().filter(|(other, _)| other.overlaps(place)) {
                seen.push((idx, step.event.thread, action));
            }
        }
    }
    places
}

/// A thread reads, another writes, the first writes: of one place.
fn lost_update(steps: &[Seen], is_decisive: &impl Fn(usize) -> bool) -> Option<Pattern> {
    for (at, (read, thread, action)) in steps.iter().enumerate() {
        if *action == Action::Write {
            continue;
        }
        let own = steps[at + 1..].iter().position(|(_, other, action)| other == thread && action.writes());
        let Some(own) = own.map(|offset| at + 1 + offset) else { continue };
        let between = &steps[at + 1..own];
        let foreign = between.iter().find(|(_, other, action)| other != thread && action.writes());
        let has_read_again = between.iter().any(|(_, other, action)| other == thread && *action == Action::Read);
        if let Some((write, _, _)) = foreign
            && !has_read_again
            && (is_decisive(*read) || is_decisive(*write) || is_decisive(steps[own].0))
        {
            return Some(Pattern::LostUpdate);
        }
    }
    None
}

/// A thread reads a place, another then writes it: what the first does next rests on an old value.
fn stale_read(steps: &[Seen], is_decisive: &impl Fn(usize) -> bool) -> bool {
    steps.iter().enumerate().any(|(at, (read, thread, action))| {
        let foreign = |step: &Seen| step.1 != *thread && step.2.writes() && is_decisive(step.0);
        *action == Action::Read && is_decisive(*read) && steps[at + 1..].iter().any(foreign)
    })
}

/// A thread reads two places, another writes both, one before and one after it was read.
fn torn_read(accesses: &BTreeMap<Place, Vec<Seen>>, is_decisive: &impl Fn(usize) -> bool) -> bool {
    let pairs = |steps: &[Seen], writes_first: bool| -> Vec<(ThreadId, ThreadId)> {
        let mut pairs = Vec::new();
        for (at, first) in steps.iter().enumerate() {
            for second in &steps[at + 1..] {
                let (write, read) = if writes_first { (first, second) } else { (second, first) };
                let fits = write.2.writes() && read.2 == Action::Read && write.1 != read.1;
                if fits && (is_decisive(write.0) || is_decisive(read.0)) {
                    pairs.push((write.1, read.1));
                }
            }
        }
        pairs
    };
    let old: Vec<_> = accesses.iter().map(|(place, steps)| (place, pairs(steps, false))).collect();
    let new: Vec<_> = accesses.iter().map(|(place, steps)| (place, pairs(steps, true))).collect();
    old.iter().any(|(place, pairs)| {
        new.iter().any(|(other, theirs)| place != other && pairs.iter().any(|pair| theirs.contains(pair)))
    })
}
