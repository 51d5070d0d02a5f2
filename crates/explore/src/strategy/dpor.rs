//! One run of each class of equal runs: optimal dynamic partial-order reduction with wakeup trees (JACM 2017), for
//! locks that block, tries, conditions and timeouts.
//!
//! Two points go beyond the paper. What can be reversed between two critical sections are their acquires, although a
//! release lies between: a release does not order what comes after it, and a thread that is blocked for ever counts
//! as if it took its lock at the end. And whether the reversed sequence can run is asked of the state machine; where
//! it cannot, all enabled threads are tried (Flanagan and Godefroid, POPL 2005), and below that point source sets take
//! the place of wakeup trees: more runs, none missed.

use super::wakeup::{Cover, Tree};
use super::{Coverage, Point, Progress, Strategy};
use crate::happens_before::{Edges, HappensBefore};
use crate::operation::{Effect, Event, dependent, may_be_co_enabled, only_lets_in};
use crate::state::State;
use crate::trace::{End, Pick, Trace, lead};

#[derive(Clone, Debug)]
struct Node {
    pick: Pick,
    /// What the pick came to; known at the end of the run.
    event: Event,
    /// The ways of a choice that are still to be walked through.
    ways: Vec<u32>,
    /// What need not be done here because runs that begin with it have been made.
    sleep: Vec<Event>,
    /// What is still to be done here.
    tree: Tree,
    /// What could be done here.
    enabled: Vec<Event>,
    /// Which sequences count as made by those that have been made.
    cover: Cover,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Dpor {
    path: Vec<Node>,
    /// What the tree above the next node has left for it.
    below: Tree,
    order: HappensBefore,
    state: State,
    is_done: bool,
    has_been_cut: bool,
}

impl Dpor {
    fn node(&mut self, point: &Point<'_>) -> Option<Node> {
        let done = point.trace().steps.last().map(|step| step.event);
        let sleep: Vec<Event> = match (self.path.last(), done) {
            (Some(node), Some(done)) => node.sleep.iter().filter(|event| !dependent(event, &done)).copied().collect(),
            _ => Vec::new(),
        };
        let pending = |thread| Event::pending(thread, point.pending(thread).0);
        let enabled: Vec<Event> = point.enabled.iter().map(pending).collect();
        let mut node = Node {
            pick: Pick::default(),
            event: enabled[0],
            ways: Vec::new(),
            sleep,
            tree: std::mem::take(&mut self.below),
            enabled,
            cover: self.path.last().map_or(Cover::Weak, |node| node.cover),
        };
        if let Some(below) = node.advance() {
            self.below = below;
            return Some(node);
        }
        let is_awake = |event: &&Event| !node.sleep.iter().any(|asleep| asleep.thread == event.thread);
        let leader = lead(point.enabled, point.current());
        let first = node.enabled.iter().find(|event| event.thread == leader).filter(is_awake);
        let event = *first.or_else(|| node.enabled.iter().find(is_awake))?;
        node.take(event);
        Some(node)
    }

    /// Looks at all pairs of the run that could have happened the other way round.
    fn reverse_races(&mut self, trace: &Trace) {
        self.order.compute(&trace.steps, trace.n_threads, Edges::All);
        let mut before = vec![None; trace.n_threads];
        for (idx, step) in trace.steps.iter().enumerate() {
            let own = &mut before[step.event.thread.idx()];
            let previous = own.replace(idx);
            self.races_of(trace, &step.event, idx, previous);
        }
        for blocked in &trace.blocked {
            let event = Event::pending(blocked.thread, blocked.operation);
            let previous = self.order.last_of(blocked.thread.idx());
            self.races_of(trace, &event, trace.steps.len(), previous);
        }
    }

    /// Reverses what can be reversed between the event at `at` (or behind the end) and those before it.
    fn races_of(&mut self, trace: &Trace, later: &Event, at: usize, previous: Option<usize>) {
        let mut known = match previous {
            Some(previous) => self.order.clock(previous).to_vec(),
            None => vec![0; trace.n_threads],
        };
        for idx in (0..at).rev() {
            let earlier = trace.steps[idx].event;
            if earlier.thread == later.thread || self.order.is_within(idx, &known) || !dependent(&earlier, later) {
                continue;
            }
            let is_race = may_be_co_enabled(&earlier, later);
            let is_turned = is_race && self.reverse(trace, idx, later);
            // A release lets the other in but orders nothing: the critical section as a whole could come later. And
            // where the two cannot be turned round, what came before the first may still come after the second.
            if is_turned || !(is_race || only_lets_in(&earlier, later)) {
                for (mine, theirs) in known.iter_mut().zip(self.order.clock(idx)) {
                    *mine = (*mine).max(*theirs);
                }
            }
        }
    }

    /// Says whether the later event can come before the earlier one at all.
    fn reverse(&mut self, trace: &Trace, earlier: usize, later: &Event) -> bool {
        let node = &self.path[earlier];
        let behind = earlier + 1..trace.steps.len();
        let free = behind.filter(|idx| !self.order.is_before(earlier, *idx)).map(|idx| trace.steps[idx].event);
        let mut sequence: Vec<Event> = free.collect();
        sequence.push(Event { effect: Effect::Unknown, ..*later });
        let can_run = later.operation.is_access() || can_run(&mut self.state, trace, earlier, &sequence);
        let is_covered = node.sleep.iter().any(|asleep| node.cover.holds(asleep, &sequence));
        let node = &mut self.path[earlier];
        match (can_run, is_covered) {
            (_, true) => {}
            (true, false) => node.tree.insert(sequence, node.cover),
            (false, false) => node.wake_all(),
        }
        can_run
    }
}

/// Can the sequence run after the first `n` steps of the trace?
fn can_run(state: &mut State, trace: &Trace, n: usize, sequence: &[Event]) -> bool {
    state.clear();
    let branch = |event: &Event| if let Effect::Branch(branch) = event.effect { branch } else { 0 };
    for step in &trace.steps[..n] {
        state.apply(step.event.thread, step.event.operation, branch(&step.event));
    }
    for event in sequence {
        if !state.is_enabled(event.thread, event.operation) {
            return false;
        }
        state.apply(event.thread, event.operation, branch(event));
    }
    true
}

impl Node {
    /// Takes the next thing that is to be done here; gives what is to be done after it.
    fn advance(&mut self) -> Option<Tree> {
        while let Some(branch) = self.tree.take_first() {
            let thread = branch.event.thread;
            // A thread that spins is not enabled: what it would read once more it has read already.
            let can_run = self.enabled.iter().any(|event| event.thread == thread);
            if can_run && !self.sleep.iter().any(|asleep| asleep.thread == thread) {
                self.take(branch.event);
                return Some(branch.below);
            }
        }
        None
    }

    fn take(&mut self, event: Event) {
        let branch = if let Effect::Branch(branch) = event.effect { branch } else { 0 };
        self.pick = Pick { thread: event.thread, branch };
        let n = self.enabled.iter().find(|other| other.thread == event.thread).map_or(1, |e| e.operation.n_branches());
        self.ways = (0..n).rev().filter(|way| *way != branch).collect();
    }

    /// The next way of the choice that is being walked through.
    fn next_way(&mut self) -> Option<Tree> {
        let branch = self.ways.pop()?;
        self.pick.branch = branch;
        self.event.effect = Effect::Branch(branch);
        Some(self.tree.take_way(&self.event).map(|branch| branch.below).unwrap_or_default())
    }

    fn wake_all(&mut self) {
        // From here on the tree holds branches that cover each other: see `Cover`.
        self.cover = Cover::Strict;
        for event in &self.enabled {
            let is_asleep = self.sleep.iter().any(|asleep| asleep.thread == event.thread);
            if event.thread != self.pick.thread && !is_asleep && !self.tree.has(event) {
                self.tree.add(*event);
            }
        }
    }
}

impl Strategy for Dpor {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        let step = point.step();
        if step >= self.path.len() {
            let node = self.node(point)?;
            self.path.push(node);
        }
        let pick = self.path[step].pick;
        point.enabled.contains(pick.thread).then_some(pick)
    }

    fn learn(&mut self, trace: &Trace) -> Progress {
        for (node, step) in self.path.iter_mut().zip(&trace.steps) {
            node.event = step.event;
        }
        self.has_been_cut |= matches!(trace.end, End::StepLimit | End::Abandoned);
        // Also in a run that was broken off: threads that are blocked in it may show what no other run does.
        self.reverse_races(trace);
        self.path.truncate(trace.steps.len());
        while let Some(node) = self.path.last_mut() {
            if let Some(below) = node.next_way() {
                self.below = below;
                return Progress::More;
            }
            node.sleep.push(node.event);
            if let Some(below) = node.advance() {
                self.below = below;
                return Progress::More;
            }
            self.path.pop();
        }
        self.is_done = true;
        Progress::Done
    }

    fn coverage(&self) -> Coverage {
        if self.is_done && !self.has_been_cut { Coverage::All } else { Coverage::Sample }
    }
}
