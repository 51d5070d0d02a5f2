//! What the operations do: locks, conditions, ends of threads and the virtual clock of one run, as plain data.
//!
//! The state knows nothing of programs and strategies, so that a strategy can ask of a sequence that never ran
//! whether it could run. It keeps its memory from run to run.

use facts::LockMode;

use crate::operation::{Effect, ObjectId, Operation, ThreadId, ThreadSet};

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    exclusive: Option<ThreadId>,
    sharers: ThreadSet,
    n_shared: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Party {
    deadline_ns: Option<u64>,
    is_notified: bool,
    has_ended: bool,
}

/// The state of all that threads can wait for.
#[derive(Clone, Debug, Default)]
pub struct State {
    // A run has few locks: a search of a short list beats a table, and clearing keeps the memory.
    locks: Vec<(ObjectId, Held)>,
    waiters: Vec<(ObjectId, ThreadId)>,
    parties: Vec<Party>,
    clock_ns: u64,
}

impl State {
    /// Back to the beginning of a run.
    pub fn clear(&mut self) {
        self.locks.clear();
        self.waiters.clear();
        self.parties.clear();
        self.clock_ns = 0;
    }

    /// The virtual time.
    #[must_use]
    pub fn clock_ns(&self) -> u64 {
        self.clock_ns
    }

    /// Has the thread ended?
    #[must_use]
    pub fn has_ended(&self, thread: ThreadId) -> bool {
        self.parties.get(thread.idx()).is_some_and(|party| party.has_ended)
    }

    /// Does the thread wait for a notification that has not come?
    #[must_use]
    pub fn is_unnotified(&self, thread: ThreadId) -> bool {
        !self.party(thread).is_notified
    }

    /// Who holds a lock?
    #[must_use]
    pub fn holders(&self, lock: ObjectId) -> ThreadSet {
        let held = self.held(lock);
        let mut holders = held.sharers;
        if let Some(thread) = held.exclusive {
            holders.insert(thread);
        }
        holders
    }

    fn held(&self, lock: ObjectId) -> Held {
        self.locks.iter().find(|(other, _)| *other == lock).map(|(_, held)| *held).unwrap_or_default()
    }

    fn held_mut(&mut self, lock: ObjectId) -> &mut Held {
        let idx = self.locks.iter().position(|(other, _)| *other == lock).unwrap_or_else(|| {
            self.locks.push((lock, Held::default()));
            self.locks.len() - 1
        });
        &mut self.locks[idx].1
    }

    fn party(&self, thread: ThreadId) -> Party {
        self.parties.get(thread.idx()).copied().unwrap_or_default()
    }

    fn party_mut(&mut self, thread: ThreadId) -> &mut Party {
        if self.parties.len() <= thread.idx() {
            self.parties.resize(thread.idx() + 1, Party::default());
        }
        &mut self.parties[thread.idx()]
    }

    fn is_free(&self, lock: ObjectId, mode: LockMode) -> bool {
        let held = self.held(lock);
        held.exclusive.is_none() && (mode == LockMode::Shared || held.n_shared == 0)
    }

    /// Is the deadline of the thread the earliest of all? Then its wait may end now.
    fn is_due(&self, thread: ThreadId) -> bool {
        let Some(deadline) = self.party(thread).deadline_ns else {
            return false;
        };
        self.parties.iter().filter_map(|party| party.deadline_ns).all(|other| other >= deadline)
    }

    /// Can the thread do this now?
    #[must_use]
    pub fn is_enabled(&self, thread: ThreadId, operation: Operation) -> bool {
        match operation {
            Operation::Acquire { lock, mode, .. } => self.is_free(lock, mode) || self.is_due(thread),
            Operation::Wake { lock, .. } => {
                let may_end = self.party(thread).is_notified || self.is_due(thread);
                may_end && lock.is_none_or(|lock| self.is_free(lock, LockMode::Exclusive))
            }
            Operation::Join { child, .. } => self.has_ended(child) || self.is_due(thread),
            Operation::Sleep { .. } => self.is_due(thread),
            _ => true,
        }
    }

    /// Does it, and says what came of it. Only an enabled operation may be applied.
    pub fn apply(&mut self, thread: ThreadId, operation: Operation, branch: u32) -> Effect {
        match operation {
            Operation::Access { .. } | Operation::Both { .. } | Operation::Spawn { .. } | Operation::Yield => {
                Effect::Done
            }
            Operation::IsHeld { lock } if self.is_free(lock, LockMode::Exclusive) => Effect::Failed,
            Operation::IsHeld { .. } => Effect::Done,
            Operation::Choice { .. } => Effect::Branch(branch),
            Operation::Acquire { lock, mode, timeout_ns } => {
                let is_free = self.is_free(lock, mode);
                if is_free {
                    self.take(thread, lock, mode);
                }
                match timeout_ns {
                    Some(_) => self.end_wait(thread, is_free),
                    None => Effect::Done,
                }
            }
            Operation::TryAcquire { lock, mode } => {
                if !self.is_free(lock, mode) {
                    return Effect::Failed;
                }
                self.take(thread, lock, mode);
                Effect::Done
            }
            Operation::Release { lock, mode } => {
                self.give_back(thread, lock, mode);
                Effect::Done
            }
            Operation::Wait { condition, lock, timeout_ns } => {
                if let Some(lock) = lock {
                    self.give_back(thread, lock, LockMode::Exclusive);
                }
                self.waiters.push((condition, thread));
                self.party_mut(thread).is_notified = false;
                if let Some(timeout_ns) = timeout_ns {
                    self.arm(thread, timeout_ns);
                }
                Effect::Done
            }
            Operation::Wake { lock, is_timed, .. } => self.wake(thread, lock, is_timed),
            Operation::Notify { condition, count } => Effect::Woke(self.notify(condition, count)),
            Operation::Join { child, timeout_ns } => match timeout_ns {
                Some(_) => self.end_wait(thread, self.has_ended(child)),
                None => Effect::Done,
            },
            Operation::Arm { timeout_ns } => {
                self.arm(thread, timeout_ns);
                Effect::Done
            }
            Operation::Sleep { .. } => {
                self.end_wait(thread, false);
                Effect::Done
            }
            Operation::Exit => {
                self.party_mut(thread).has_ended = true;
                Effect::Done
            }
        }
    }

    /// A thread holds a lock that nobody else knows of yet.
    pub fn hold(&mut self, thread: ThreadId, lock: ObjectId) {
        self.take(thread, lock, LockMode::Exclusive);
    }

    fn take(&mut self, thread: ThreadId, lock: ObjectId, mode: LockMode) {
        let held = self.held_mut(lock);
        match mode {
            LockMode::Exclusive => held.exclusive = Some(thread),
            LockMode::Shared => {
                held.n_shared += 1;
                held.sharers.insert(thread);
            }
        }
    }

    fn give_back(&mut self, thread: ThreadId, lock: ObjectId, mode: LockMode) {
        let held = self.held_mut(lock);
        match mode {
            LockMode::Exclusive => held.exclusive = None,
            LockMode::Shared => {
                held.n_shared = held.n_shared.saturating_sub(1);
                held.sharers.remove(thread);
            }
        }
    }

    fn arm(&mut self, thread: ThreadId, timeout_ns: u64) {
        let deadline = self.clock_ns.saturating_add(timeout_ns);
        self.party_mut(thread).deadline_ns = Some(deadline);
    }

    /// The deadline is met or has passed.
    fn end_wait(&mut self, thread: ThreadId, is_met: bool) -> Effect {
        let deadline = self.party_mut(thread).deadline_ns.take();
        if is_met {
            return Effect::Done;
        }
        self.clock_ns = self.clock_ns.max(deadline.unwrap_or(0));
        Effect::TimedOut
    }

    fn wake(&mut self, thread: ThreadId, lock: Option<ObjectId>, is_timed: bool) -> Effect {
        let is_notified = std::mem::take(&mut self.party_mut(thread).is_notified);
        if let Some(lock) = lock {
            self.take(thread, lock, LockMode::Exclusive);
        }
        if !is_notified {
            self.waiters.retain(|(_, other)| *other != thread);
        }
        if is_timed { self.end_wait(thread, is_notified) } else { Effect::Done }
    }

    fn notify(&mut self, condition: ObjectId, count: u32) -> ThreadSet {
        let mut woken = ThreadSet::default();
        let mut left = count;
        self.waiters.retain(|(other, thread)| {
            let is_woken = *other == condition && left > 0;
            if is_woken {
                left -= 1;
                woken.insert(*thread);
            }
            !is_woken
        });
        for thread in woken.iter() {
            self.party_mut(thread).is_notified = true;
        }
        woken
    }
}
