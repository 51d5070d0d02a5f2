//! What threads do: actions on places, by threads, under locks.

use crate::Span;

/// Names a place within one analysis or one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceId(pub u32);

/// What a thread does to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Looks at the value.
    Read,
    /// Stores a new value.
    Write,
    /// Reads, computes and writes back: not one step.
    Update,
}

impl Action {
    /// Does the action change the place?
    #[must_use]
    pub fn writes(self) -> bool {
        self != Action::Read
    }
}

/// What a lock keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockKind {
    /// Excludes threads (`threading.Lock` and its kind).
    Thread,
    /// Excludes tasks of one event loop only (`asyncio.Lock` and its kind).
    EventLoop,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockMode {
    /// With other readers.
    Shared,
    /// Alone.
    Exclusive,
}

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lock {
    /// The place that holds the lock object.
    pub place: PlaceId,
    /// What it keeps apart.
    pub kind: LockKind,
    /// How it is held.
    pub mode: LockMode,
}

/// The locks held at an access, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LockSet(Vec<Lock>);

impl LockSet {
    /// Adds a lock.
    pub fn insert(&mut self, lock: Lock) {
        if let Err(idx) = self.0.binary_search(&lock) {
            self.0.insert(idx, lock);
        }
    }

    /// The locks, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Lock> + '_ {
        self.0.iter().copied()
    }

    /// Is no lock held?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is the lock that `place` holds among them?
    #[must_use]
    pub fn holds(&self, place: PlaceId) -> bool {
        self.0.iter().any(|lock| lock.place == place)
    }

    /// The locks that are in both.
    #[must_use]
    pub fn intersection(&self, other: &LockSet) -> LockSet {
        LockSet(self.iter().filter(|lock| other.0.binary_search(lock).is_ok()).collect())
    }

    /// The locks that are in either.
    #[must_use]
    pub fn union(&self, other: &LockSet) -> LockSet {
        let mut all = self.clone();
        for lock in other.iter() {
            all.insert(lock);
        }
        all
    }

    /// Can holders of `self` and of `other` never run at once?
    ///
    /// They share a lock that at least one of them holds alone. An event-loop lock counts only where both run on
    /// that loop (`same_loop`): it does not exclude threads.
    #[must_use]
    pub fn excludes(&self, other: &LockSet, same_loop: bool) -> bool {
        self.iter().any(|mine| {
            other.iter().any(|theirs| {
                mine.place == theirs.place
                    && (mine.mode == LockMode::Exclusive || theirs.mode == LockMode::Exclusive)
                    && (mine.kind == LockKind::Thread || same_loop)
            })
        })
    }
}

impl FromIterator<Lock> for LockSet {
    fn from_iter<T: IntoIterator<Item = Lock>>(locks: T) -> Self {
        let mut set = LockSet::default();
        for lock in locks {
            set.insert(lock);
        }
        set
    }
}

/// Who acts: the entry point, which stands for every thread that enters there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thread {
    /// Index of the entry point.
    pub entry: u32,
    /// Can several threads (or tasks) enter there at once?
    pub multiple: bool,
    /// Does it run as a task of the program's event loop?
    pub on_event_loop: bool,
}

impl Thread {
    /// Can `self` and `other` run at the same time, or, on one event loop, alternate between two awaits?
    #[must_use]
    pub fn overlaps(self, other: Thread) -> bool {
        self.entry != other.entry || self.multiple || other.multiple
    }

    /// Are both tasks of one event loop, so that only an await lets one in while the other is under way?
    #[must_use]
    pub fn same_loop(self, other: Thread) -> bool {
        self.on_event_loop && other.on_event_loop
    }
}

/// An action on a place, with all that decides whether it may race.
#[derive(Clone, Debug)]
pub struct Access {
    /// What is acted upon.
    pub place: PlaceId,
    /// What is done.
    pub action: Action,
    /// Who does it.
    pub thread: Thread,
    /// What is held meanwhile.
    pub locks: LockSet,
    /// Is there an await that can suspend inside the action (between its read and its write)?
    pub suspends: bool,
    /// Is the object still owned by its maker, so that nobody else can reach it?
    pub owned: bool,
    /// Where.
    pub span: Span,
}
