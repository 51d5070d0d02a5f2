//! The state machine of one run: pending operations in, enabled threads out, one event a step.
//!
//! It promises that a deadlock is exact: it is said only where no thread can go on and no deadline is left, and
//! always there. It allocates nothing once its memory has grown to the size of a run. It chooses nothing: that is the
//! strategy's.

use std::collections::BTreeSet;

use crate::operation::{Effect, Event, ObjectId, Operation, THREADS_MAX, ThreadId, ThreadSet};
use crate::state::State;
use crate::trace::{Blocked, End, Label, Step, Trace, lead};

/// What the runs of an exploration may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Runs in all.
    pub runs_max: u64,
    /// Steps of one run.
    pub steps_max: usize,
    /// How often a thread may repeat the same reads before it has to wait for another to act.
    pub spins_max: u32,
    /// Steps that spinning threads may take while nobody else can go on; after that it is a livelock.
    pub idle_steps_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { runs_max: 100_000, steps_max: 10_000, spins_max: 4, idle_steps_max: 200 }
    }
}

/// A loop that reads more than this many times before it repeats is not seen as a spin.
const SPIN_LENGTH_MAX: usize = 12;

#[derive(Clone, Copy, Debug, Default)]
struct Spin {
    recent: [u64; SPIN_LENGTH_MAX],
    n: usize,
    /// For each length of a loop, how many events in a row equal the one that many events before.
    equal: [u32; SPIN_LENGTH_MAX],
    is_spinning: bool,
}

impl Spin {
    fn push(&mut self, event: u64, spins_max: u32) {
        for length in 1..=SPIN_LENGTH_MAX.min(self.n) {
            let before = self.recent[(self.n - length) % SPIN_LENGTH_MAX];
            self.equal[length - 1] = if before == event { self.equal[length - 1] + 1 } else { 0 };
            if self.equal[length - 1] as usize >= length * spins_max as usize {
                self.is_spinning = true;
            }
        }
        self.recent[self.n % SPIN_LENGTH_MAX] = event;
        self.n += 1;
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Pending {
    /// The thread runs, or has not come to its first operation.
    #[default]
    Nothing,
    Ready(Operation),
    Ended,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    pending: Pending,
    /// What comes after the pending operation before the thread runs again.
    then: Option<Operation>,
    label: Label,
    /// What its last announced operation came to.
    effect: Option<Effect>,
    has_yielded: bool,
    spin: Spin,
}

/// The machine. One value serves all runs of an exploration.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    state: State,
    slots: Vec<Slot>,
    trace: Trace,
    current: Option<ThreadId>,
    limits: Limits,
    n_idle: usize,
    background: ThreadSet,
    /// What stays from run to run.
    aims: BTreeSet<Label>,
}

impl Engine {
    /// A machine with limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Begins a run with this many threads; all of them have to announce their first operation.
    pub fn begin(&mut self, n_threads: usize) {
        assert!(n_threads <= THREADS_MAX, "at most {THREADS_MAX} threads");
        self.state.clear();
        self.slots.clear();
        self.slots.resize(n_threads, Slot::default());
        self.trace.clear();
        self.trace.n_threads = n_threads;
        self.current = None;
        self.n_idle = 0;
        self.background = ThreadSet::default();
    }

    /// A thread that serves others and waits for ever when they have ended, as that of a pool does: the run is complete
    /// without its end.
    pub fn set_background(&mut self, thread: ThreadId) {
        self.background.insert(thread);
    }

    /// Switches of threads around this point are tried first.
    pub fn aim_at(&mut self, label: Label) {
        self.aims.insert(label);
    }

    /// Are there points around which switches are tried first?
    #[must_use]
    pub fn has_aims(&self) -> bool {
        !self.aims.is_empty()
    }

    /// Does a thread stand before such a point, or right behind it?
    #[must_use]
    pub fn is_aimed(&self, thread: ThreadId) -> bool {
        let is_before = self.pending(thread).is_some_and(|(_, label)| self.aims.contains(&label));
        let last = self.trace.steps.last().filter(|step| step.event.thread == thread);
        is_before || last.is_some_and(|step| self.aims.contains(&step.label))
    }

    /// A thread makes a new lock that it holds from the beginning: not a step, since nobody else knows of it. It is
    /// given back as any other, and never taken exclusively again.
    pub fn hold(&mut self, thread: ThreadId, lock: ObjectId) {
        self.state.hold(thread, lock);
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// A thread says what it is about to do. It does nothing of the kind until it has been chosen.
    pub fn announce(&mut self, thread: ThreadId, operation: Operation, label: Label) {
        let slot = &mut self.slots[thread.idx()];
        debug_assert!(matches!(slot.pending, Pending::Nothing), "{thread} announces twice");
        slot.label = label;
        slot.effect = None;
        // A condition's wait starts its clock itself; every other timed wait does so in a step of its own, because
        // others' deadlines depend on it.
        let arms = !matches!(operation, Operation::Wait { .. });
        (slot.pending, slot.then) = match operation.timeout_ns().filter(|_| arms) {
            Some(timeout_ns) => (Pending::Ready(Operation::Arm { timeout_ns }), Some(operation)),
            None => (Pending::Ready(operation), None),
        };
    }

    /// A thread that still has to announce something before anybody can be chosen.
    #[must_use]
    pub fn silent(&self) -> Option<ThreadId> {
        let idx = self.slots.iter().position(|slot| matches!(slot.pending, Pending::Nothing))?;
        Some(ThreadId(idx as u32))
    }

    /// What a thread is about to do.
    #[must_use]
    pub fn pending(&self, thread: ThreadId) -> Option<(Operation, Label)> {
        let slot = self.slots.get(thread.idx())?;
        match slot.pending {
            Pending::Ready(operation) => Some((operation, slot.label)),
            _ => None,
        }
    }

    /// Who ran last.
    #[must_use]
    pub fn current(&self) -> Option<ThreadId> {
        self.current
    }

    /// Who has let others go first and not been chosen since.
    #[must_use]
    pub fn yielded(&self) -> ThreadSet {
        self.threads_where(|slot| slot.has_yielded)
    }

    fn threads_where(&self, is_in: impl Fn(&Slot) -> bool) -> ThreadSet {
        let mut set = ThreadSet::default();
        for (idx, slot) in self.slots.iter().enumerate() {
            if is_in(slot) {
                set.0 |= 1 << idx;
            }
        }
        set
    }

    /// Who can be chosen. A thread that only repeats its reads is left out while another can go on.
    #[must_use]
    pub fn enabled(&self) -> ThreadSet {
        let (mut enabled, mut spinning) = (ThreadSet::default(), ThreadSet::default());
        for (idx, slot) in self.slots.iter().enumerate() {
            let Pending::Ready(operation) = slot.pending else { continue };
            let thread = ThreadId(idx as u32);
            if self.state.is_enabled(thread, operation) {
                let set = if slot.spin.is_spinning { &mut spinning } else { &mut enabled };
                set.insert(thread);
            }
        }
        if enabled.is_empty() { spinning } else { enabled }
    }

    /// How the run has ended, if nobody may be chosen any more.
    #[must_use]
    pub fn ended(&self, enabled: ThreadSet) -> Option<End> {
        if enabled.is_empty() {
            let has_ended = |(idx, slot): (usize, &Slot)| {
                matches!(slot.pending, Pending::Ended) || self.background.contains(ThreadId(idx as u32))
            };
            let all_ended = self.slots.iter().enumerate().all(has_ended);
            return Some(if all_ended { End::Complete } else { End::Deadlock });
        }
        if self.n_idle > self.limits.idle_steps_max {
            return Some(End::Livelock);
        }
        (self.trace.steps.len() >= self.limits.steps_max).then_some(End::StepLimit)
    }

    /// Does what an enabled thread is about to do. Says whether the thread now runs: it does, unless its operation
    /// has a second part.
    pub fn perform(&mut self, thread: ThreadId, branch: u32, enabled: ThreadSet) -> bool {
        let slot = self.slots[thread.idx()];
        let Pending::Ready(operation) = slot.pending else { unreachable!("{thread} has announced nothing") };
        let effect = self.state.apply(thread, operation, branch);
        let event = Event { thread, operation, effect };
        let leader = lead(enabled, self.current);
        let lead = (leader, self.slots[leader.idx()].label);
        self.trace.steps.push(Step { event, label: slot.label, enabled, current: self.current, lead });
        self.current = Some(thread);
        self.follow(&event, slot.label);
        if let Operation::Spawn { child } = operation {
            assert!(child.idx() < THREADS_MAX, "at most {THREADS_MAX} threads");
            if self.slots.len() <= child.idx() {
                self.slots.resize(child.idx() + 1, Slot { pending: Pending::Ended, ..Slot::default() });
            }
            self.slots[child.idx()] = Slot::default();
            self.trace.n_threads = self.slots.len();
        }
        let then = match operation {
            Operation::Wait { condition, lock, timeout_ns } => {
                // A timed wait ends first and takes its lock then: its deadline may not wait for the lock.
                let is_timed = timeout_ns.is_some();
                let lock_of_wake = lock.filter(|_| !is_timed);
                Some(Operation::Wake { condition, lock: lock_of_wake, is_timed })
            }
            _ => slot.then,
        };
        let slot = &mut self.slots[thread.idx()];
        slot.then = match operation {
            Operation::Wait { lock: Some(lock), timeout_ns: Some(_), .. } => Some(Operation::acquire(lock.0)),
            _ => None,
        };
        // The lock that is taken after a timed wait must not hide how the wait ended.
        if slot.effect != Some(Effect::TimedOut) {
            slot.effect = Some(effect);
        }
        slot.pending = match then {
            Some(next) => Pending::Ready(next),
            None if operation == Operation::Exit => Pending::Ended,
            None => Pending::Nothing,
        };
        matches!(slot.pending, Pending::Nothing)
    }

    /// Keeps the books of fairness.
    fn follow(&mut self, event: &Event, label: Label) {
        for slot in &mut self.slots {
            slot.has_yielded = false;
        }
        let slot = &mut self.slots[event.thread.idx()];
        slot.has_yielded = event.operation == Operation::Yield;
        let was_spinning = slot.spin.is_spinning;
        if is_quiet(event) {
            slot.spin.push(fingerprint(event, label), self.limits.spins_max);
            self.trace.has_spun |= slot.spin.is_spinning;
            self.n_idle = if was_spinning { self.n_idle + 1 } else { 0 };
            return;
        }
        // Whatever was read may have changed.
        self.n_idle = 0;
        for slot in &mut self.slots {
            slot.spin.n = 0;
            slot.spin.equal = [0; SPIN_LENGTH_MAX];
            slot.spin.is_spinning = false;
        }
    }

    /// What the last operation of a thread came to.
    #[must_use]
    pub fn effect(&self, thread: ThreadId) -> Effect {
        self.slots[thread.idx()].effect.unwrap_or(Effect::Done)
    }

    /// The virtual time.
    #[must_use]
    pub fn clock_ns(&self) -> u64 {
        self.state.clock_ns()
    }

    /// Closes the trace: says who cannot go on, whatever ended the run.
    pub fn finish(&mut self, end: End) {
        self.trace.end = end;
        for (idx, slot) in self.slots.iter().enumerate() {
            let Pending::Ready(operation) = slot.pending else { continue };
            let thread = ThreadId(idx as u32);
            if self.state.is_enabled(thread, operation) {
                continue;
            }
            let on = match operation {
                Operation::Wake { .. } if self.state.is_unnotified(thread) => ThreadSet::default(),
                Operation::Join { child, .. } => ThreadSet::only(child),
                _ => operation.takes().map(|(lock, _)| self.state.holders(lock)).unwrap_or_default(),
            };
            self.trace.blocked.push(Blocked { thread, operation, label: slot.label, on });
        }
    }
}

/// Can a loop of such events go round for ever without anything changing?
fn is_quiet(event: &Event) -> bool {
    match event.operation {
        Operation::Access { action, .. } => !action.writes(),
        Operation::Both { .. }
        | Operation::Notify { .. }
        | Operation::Spawn { .. }
        | Operation::Choice { .. }
        | Operation::Exit => false,
        _ => true,
    }
}

fn fingerprint(event: &Event, label: Label) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = crate::happens_before::Mixer::default();
    (event, label).hash(&mut hasher);
    hasher.finish()
}
