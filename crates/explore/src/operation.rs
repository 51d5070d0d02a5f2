//! What a thread is about to do, what it did, and which two events may not be swapped.
//!
//! [`dependent`] and [`may_be_co_enabled`] are the only definitions of these two words: the partial order of a trace,
//! the races that DPOR reverses and the priorities of POS all come from here. Where the exact answer would need more
//! than the two events, they err on the side of "yes": that costs runs, never an outcome.

use facts::{Action, LockMode};

/// A thread of one run, numbered in the order of creation; printed as `T0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(pub u32);

impl ThreadId {
    /// For indexing.
    #[must_use]
    pub fn idx(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for ThreadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "T{}", self.0)
    }
}

/// Threads are kept in sets of 64 bits.
pub const THREADS_MAX: usize = 64;

/// A set of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadSet(pub u64);

impl ThreadSet {
    /// The set of one thread.
    #[must_use]
    pub fn only(thread: ThreadId) -> Self {
        Self(1 << thread.0)
    }

    /// Adds a thread.
    pub fn insert(&mut self, thread: ThreadId) {
        self.0 |= 1 << thread.0;
    }

    /// Takes a thread out.
    pub fn remove(&mut self, thread: ThreadId) {
        self.0 &= !(1 << thread.0);
    }

    /// Is it in?
    #[must_use]
    pub fn contains(self, thread: ThreadId) -> bool {
        self.0 >> thread.0 & 1 == 1
    }

    /// Is nobody in?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in?
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The one with the lowest number.
    #[must_use]
    pub fn first(self) -> Option<ThreadId> {
        (self.0 != 0).then(|| ThreadId(self.0.trailing_zeros()))
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: ThreadSet) -> ThreadSet {
        ThreadSet(self.0 & !other.0)
    }

    /// The threads, ascending.
    pub fn iter(self) -> impl Iterator<Item = ThreadId> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let first = rest.first()?;
            rest.remove(first);
            Some(first)
        })
    }
}

/// An object of one run, numbered in the order of creation, so that it is the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// One attribute or item; different ones commute.
    Item(u32),
    /// The structure: size, order, everything. What changes the size of a container writes this.
    Structure,
}

/// A piece of state: an object and the part of it that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The object.
    pub object: ObjectId,
    /// The part.
    pub key: Key,
}

impl Place {
    /// An attribute or item of an object.
    #[must_use]
    pub fn item(object: u32, key: u32) -> Self {
        Self { object: ObjectId(object), key: Key::Item(key) }
    }

    /// An object as a whole.
    #[must_use]
    pub fn structure(object: u32) -> Self {
        Self { object: ObjectId(object), key: Key::Structure }
    }

    /// Can an access to the one be one to the other?
    #[must_use]
    pub fn overlaps(self, other: Place) -> bool {
        self.object == other.object
            && (self.key == other.key || self.key == Key::Structure || other.key == Key::Structure)
    }
}

/// What a thread is about to do. `Arm` and `Wake` are made by the engine, all others are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads, writes, or reads and writes a place in one step.
    Access {
        /// What is done.
        action: Action,
        /// To what.
        place: Place,
    },
    /// Accesses two places in one step, such as `list.extend` of another list.
    Both {
        /// What is done to one place.
        first: (Action, Place),
        /// What is done to the other.
        second: (Action, Place),
    },
    /// Asks whether a lock is taken.
    IsHeld {
        /// The lock.
        lock: ObjectId,
    },
    /// Takes a lock, and waits for it. A caller of a re-entrant lock announces the outermost acquire only.
    Acquire {
        /// The lock.
        lock: ObjectId,
        /// Alone or with other readers.
        mode: LockMode,
        /// How long to wait at most, on the virtual clock.
        timeout_ns: Option<u64>,
    },
    /// Takes a lock if it is free; otherwise it is a read of the lock.
    TryAcquire {
        /// The lock.
        lock: ObjectId,
        /// Alone or with other readers.
        mode: LockMode,
    },
    /// Gives a lock back.
    Release {
        /// The lock.
        lock: ObjectId,
        /// How it was held.
        mode: LockMode,
    },
    /// Gives the lock back and waits for a notification, in one step; [`Operation::Wake`] follows.
    Wait {
        /// The condition.
        condition: ObjectId,
        /// The lock that is given back, and taken again before the thread goes on.
        lock: Option<ObjectId>,
        /// How long to wait at most, on the virtual clock.
        timeout_ns: Option<u64>,
    },
    /// The end of a wait: notified, or out of time, and the lock is free.
    Wake {
        /// The condition.
        condition: ObjectId,
        /// The lock that is taken again.
        lock: Option<ObjectId>,
        /// Can it end without a notification?
        is_timed: bool,
    },
    /// Wakes the threads that have waited longest.
    Notify {
        /// The condition.
        condition: ObjectId,
        /// How many at most.
        count: u32,
    },
    /// Starts a thread.
    Spawn {
        /// The new thread.
        child: ThreadId,
    },
    /// Waits for the end of a thread.
    Join {
        /// The other thread.
        child: ThreadId,
        /// How long to wait at most, on the virtual clock.
        timeout_ns: Option<u64>,
    },
    /// Starts the clock of a wait: a deadline counts from here.
    Arm {
        /// How long the wait may last.
        timeout_ns: u64,
    },
    /// Does nothing until the virtual clock has moved on.
    Sleep {
        /// How long.
        timeout_ns: u64,
    },
    /// Lets others go first, if there are any.
    Yield,
    /// One of several ways to go on, such as which ready task runs next; the strategy decides.
    Choice {
        /// How many ways there are; at least one.
        n: u32,
    },
    /// The thread ends.
    Exit,
}

impl Operation {
    /// A read of a place.
    #[must_use]
    pub fn read(place: Place) -> Self {
        Operation::Access { action: Action::Read, place }
    }

    /// A write of a place.
    #[must_use]
    pub fn write(place: Place) -> Self {
        Operation::Access { action: Action::Write, place }
    }

    /// A read and a write of a place in one step.
    #[must_use]
    pub fn update(place: Place) -> Self {
        Operation::Access { action: Action::Update, place }
    }

    /// Takes a lock alone.
    #[must_use]
    pub fn acquire(lock: u32) -> Self {
        Operation::Acquire { lock: ObjectId(lock), mode: LockMode::Exclusive, timeout_ns: None }
    }

    /// Tries to take a lock alone.
    #[must_use]
    pub fn try_acquire(lock: u32) -> Self {
        Operation::TryAcquire { lock: ObjectId(lock), mode: LockMode::Exclusive }
    }

    /// Gives back a lock that is held alone.
    #[must_use]
    pub fn release(lock: u32) -> Self {
        Operation::Release { lock: ObjectId(lock), mode: LockMode::Exclusive }
    }

    /// Does it read or write places, and nothing else?
    #[must_use]
    pub fn is_access(self) -> bool {
        matches!(self, Operation::Access { .. } | Operation::Both { .. })
    }

    /// The places that it reads or writes, and how.
    pub fn accesses(self) -> impl Iterator<Item = (Action, Place)> {
        let both = match self {
            Operation::Access { action, place } => [Some((action, place)), None],
            Operation::Both { first, second } => [Some(first), Some(second)],
            _ => [None, None],
        };
        both.into_iter().flatten()
    }

    /// How long the operation may wait, if it has a limit.
    #[must_use]
    pub fn timeout_ns(self) -> Option<u64> {
        match self {
            Operation::Acquire { timeout_ns, .. }
            | Operation::Wait { timeout_ns, .. }
            | Operation::Join { timeout_ns, .. } => timeout_ns,
            Operation::Sleep { timeout_ns } => Some(timeout_ns),
            _ => None,
        }
    }

    /// The lock that it takes, and how.
    #[must_use]
    pub fn takes(self) -> Option<(ObjectId, LockMode)> {
        match self {
            Operation::Acquire { lock, mode, .. } | Operation::TryAcquire { lock, mode } => Some((lock, mode)),
            Operation::Wake { lock: Some(lock), .. } => Some((lock, LockMode::Exclusive)),
            _ => None,
        }
    }

    /// The lock that it gives back.
    #[must_use]
    pub fn gives_back(self) -> Option<ObjectId> {
        match self {
            Operation::Release { lock, .. } | Operation::Wait { lock: Some(lock), .. } => Some(lock),
            _ => None,
        }
    }

    /// In how many ways can it be done? One, but for a choice.
    #[must_use]
    pub fn n_branches(self) -> u32 {
        match self {
            Operation::Choice { n } => n.max(1),
            _ => 1,
        }
    }
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It was done.
    Done,
    /// The lock was taken by another thread.
    Failed,
    /// The time was over.
    TimedOut,
    /// The way that was chosen.
    Branch(u32),
    /// The threads that were notified.
    Woke(ThreadSet),
    /// Not yet known: stands for all of the above.
    Unknown,
}

/// An operation that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// By whom.
    pub thread: ThreadId,
    /// What.
    pub operation: Operation,
    /// What came of it.
    pub effect: Effect,
}

impl Event {
    /// The same operation before it is known what comes of it.
    #[must_use]
    pub fn pending(thread: ThreadId, operation: Operation) -> Self {
        Self { thread, operation, effect: Effect::Unknown }
    }
}

/// What an event touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Place(Place),
    Lock(ObjectId),
    Condition(ObjectId),
    Thread(ThreadId),
    Clock,
}

/// How an event touches it. Two reads commute, and so do two shared holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Share,
    Write,
}

/// All that an event touches: three cells at most.
pub(crate) type Footprint = [Option<(Cell, Touch)>; 3];

fn touched((action, place): (Action, Place)) -> (Cell, Touch) {
    (Cell::Place(place), if action.writes() { Touch::Write } else { Touch::Read })
}

pub(crate) fn footprint(event: &Event) -> Footprint {
    let clock = |is_timed: bool| is_timed.then_some((Cell::Clock, Touch::Write));
    let held = |mode: LockMode| if mode == LockMode::Shared { Touch::Share } else { Touch::Write };
    match event.operation {
        Operation::Access { action, place } => [Some(touched((action, place))), None, None],
        Operation::Both { first, second } => [Some(touched(first)), Some(touched(second)), None],
        Operation::IsHeld { lock } => [Some((Cell::Lock(lock), Touch::Read)), None, None],
        Operation::Acquire { lock, mode, timeout_ns } => {
            let touch = match event.effect {
                Effect::TimedOut => Touch::Read,
                Effect::Unknown if timeout_ns.is_some() => Touch::Write,
                _ => held(mode),
            };
            [Some((Cell::Lock(lock), touch)), clock(timeout_ns.is_some()), None]
        }
        Operation::TryAcquire { lock, mode } => {
            let touch = match event.effect {
                Effect::Failed => Touch::Read,
                Effect::Unknown => Touch::Write,
                _ => held(mode),
            };
            [Some((Cell::Lock(lock), touch)), None, None]
        }
        Operation::Release { lock, mode } => [Some((Cell::Lock(lock), held(mode))), None, None],
        Operation::Wait { condition, lock, timeout_ns } => [
            Some((Cell::Condition(condition), Touch::Write)),
            lock.map(|lock| (Cell::Lock(lock), Touch::Write)),
            clock(timeout_ns.is_some()),
        ],
        Operation::Wake { condition, lock, is_timed } => [
            is_timed.then_some((Cell::Condition(condition), Touch::Write)),
            lock.map(|lock| (Cell::Lock(lock), Touch::Write)),
            clock(is_timed),
        ],
        Operation::Notify { condition, .. } => [Some((Cell::Condition(condition), Touch::Write)), None, None],
        Operation::Join { child, timeout_ns } => {
            [Some((Cell::Thread(child), Touch::Read)), clock(timeout_ns.is_some()), None]
        }
        Operation::Exit => [Some((Cell::Thread(event.thread), Touch::Write)), None, None],
        Operation::Arm { .. } | Operation::Sleep { .. } => [clock(true), None, None],
        Operation::Spawn { .. } | Operation::Yield | Operation::Choice { .. } => [None; 3],
    }
}

fn clash(a: (Cell, Touch), b: (Cell, Touch)) -> bool {
    let same = match (a.0, b.0) {
        (Cell::Place(a), Cell::Place(b)) => a.overlaps(b),
        (a, b) => a == b,
    };
    same && (a.1 != b.1 || a.1 == Touch::Write)
}

/// Can swapping two neighbours change what they do, or whether they can be done?
#[must_use]
pub fn dependent(a: &Event, b: &Event) -> bool {
    if a.thread == b.thread || starts(a, b) || starts(b, a) {
        return true;
    }
    let (theirs, ours) = (footprint(b), footprint(a));
    ours.iter().flatten().any(|a| theirs.iter().flatten().any(|b| clash(*a, *b)))
}

/// Does `a` let `b` happen, apart from locks: a start before all of the thread, a notification before the wake-up?
fn starts(a: &Event, b: &Event) -> bool {
    match (a.operation, b.operation) {
        (Operation::Spawn { child }, _) => child == b.thread,
        (Operation::Notify { condition, .. }, Operation::Wake { condition: other, .. }) => {
            condition == other
                && match a.effect {
                    Effect::Woke(woken) => woken.contains(b.thread),
                    _ => true,
                }
        }
        _ => false,
    }
}

/// Is there a state in which both could be done next, and the first comes to the same? Asked of dependent events of
/// two threads.
///
/// A wait without limit for a lock is never enabled together with the release that lets it in: the two cannot be
/// swapped, and what can be swapped are the two critical sections, from acquire to acquire. Neither is it enabled
/// where a try has failed.
#[must_use]
pub fn may_be_co_enabled(earlier: &Event, later: &Event) -> bool {
    let ordered = |a: &Event, b: &Event| match (a.operation, b.operation) {
        (Operation::Spawn { child }, _) => child == b.thread,
        (Operation::Exit, Operation::Join { child, timeout_ns: None }) => child == a.thread,
        (Operation::Notify { .. }, Operation::Wake { is_timed: false, .. }) => starts(a, b),
        (Operation::Release { .. } | Operation::Wait { .. }, Operation::Acquire { lock, timeout_ns: None, .. }) => {
            a.operation.gives_back() == Some(lock)
        }
        (Operation::Release { .. } | Operation::Wait { .. }, Operation::Wake { lock, is_timed: false, .. }) => {
            lock.is_some() && a.operation.gives_back() == lock
        }
        _ => false,
    };
    !ordered(earlier, later) && !ordered(later, earlier) && !finds_taken(earlier, later)
}

/// Did the first find a lock taken for which the second would have to wait?
fn finds_taken(earlier: &Event, later: &Event) -> bool {
    if !has_missed(earlier) {
        return false;
    }
    let waits = match later.operation {
        Operation::Acquire { timeout_ns: None, .. } | Operation::Wake { is_timed: false, .. } => {
            later.operation.takes()
        }
        _ => None,
    };
    let (Some((lock, mode)), Some((other, missed))) = (waits, earlier.operation.takes()) else {
        return false;
    };
    // Where readers made a writer's try fail, a reader may still come in.
    lock == other && (mode == LockMode::Exclusive || missed == LockMode::Shared)
}

/// Did the event find a lock taken?
fn has_missed(event: &Event) -> bool {
    match event.operation {
        Operation::TryAcquire { .. } => event.effect == Effect::Failed,
        Operation::Acquire { .. } => event.effect == Effect::TimedOut,
        _ => false,
    }
}

/// Is the order of the two that of a lock and no more: what comes after the first could come before all of the
/// critical section that it belongs to? Asked where the two are never enabled together.
#[must_use]
pub(crate) fn only_lets_in(earlier: &Event, later: &Event) -> bool {
    later.operation.takes().is_some() && (earlier.operation.gives_back().is_some() || has_missed(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(thread: u32, operation: Operation) -> Event {
        Event { thread: ThreadId(thread), operation, effect: Effect::Done }
    }

    #[test]
    fn items_commute_and_structure_does_not() {
        let write = |key| event(0, Operation::write(Place::item(1, key)));
        let read = |key| event(1, Operation::read(Place::item(1, key)));
        assert!(dependent(&write(1), &read(1)));
        assert!(!dependent(&write(1), &read(2)));
        let clear = event(1, Operation::write(Place::structure(1)));
        assert!(dependent(&write(1), &clear));
        assert!(!dependent(&read(1), &event(2, Operation::read(Place::structure(1)))));
    }

    #[test]
    fn a_failed_try_reads_the_lock() {
        let mut one = event(0, Operation::try_acquire(7));
        let mut two = event(1, Operation::try_acquire(7));
        assert!(dependent(&one, &two));
        (one.effect, two.effect) = (Effect::Failed, Effect::Failed);
        assert!(!dependent(&one, &two));
        assert!(dependent(&one, &event(2, Operation::release(7))));
    }

    #[test]
    fn critical_sections_swap_from_acquire_to_acquire() {
        let (acquire, release) = (event(0, Operation::acquire(7)), event(1, Operation::release(7)));
        assert!(dependent(&acquire, &release));
        assert!(!may_be_co_enabled(&release, &acquire));
        assert!(may_be_co_enabled(&acquire, &event(1, Operation::acquire(7))));
    }
}
