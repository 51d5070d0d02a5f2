//! When two accesses may race. This is the only definition of it in the project.

use crate::Access;

/// Two accesses to one place that nothing keeps apart.
#[derive(Clone, Copy, Debug)]
pub struct Conflict<'a> {
    /// The access that a finding is about.
    pub first: &'a Access,
    /// The access that can come in between.
    pub second: &'a Access,
}

impl<'a> Conflict<'a> {
    /// The conflict of two accesses, if they may race: the same place, at least one write, neither owned, two
    /// threads that can overlap, and no lock that excludes one from the other. Tasks of one event loop overlap only
    /// where one of the two suspends.
    ///
    /// This is the lockset condition of Savage et al., "Eraser" (TOCS 1997), with entry points for threads.
    #[must_use]
    pub fn between(first: &'a Access, second: &'a Access) -> Option<Self> {
        let same_loop = first.thread.same_loop(second.thread);
        let apart = first.place != second.place
            || !(first.action.writes() || second.action.writes())
            || first.owned
            || second.owned
            || !first.thread.overlaps(second.thread)
            || (same_loop && !first.suspends && !second.suspends)
            || first.locks.excludes(&second.locks, same_loop);
        (!apart).then_some(Self { first, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, FileId, Lock, LockKind, LockMode, LockSet, PlaceId, Span, Thread};

    fn access(action: Action, entry: u32) -> Access {
        Access {
            place: PlaceId(0),
            action,
            thread: Thread { entry, multiple: false, on_event_loop: false },
            locks: LockSet::default(),
            suspends: false,
            owned: false,
            span: Span::new(FileId(0), 0, 1),
        }
    }

    fn lock(kind: LockKind, mode: LockMode) -> LockSet {
        [Lock { place: PlaceId(9), kind, mode }].into_iter().collect()
    }

    #[test]
    fn a_write_and_a_read_of_two_threads_conflict() {
        let (write, read) = (access(Action::Write, 1), access(Action::Read, 2));
        assert!(Conflict::between(&write, &read).is_some());
        assert!(Conflict::between(&read, &access(Action::Read, 3)).is_none());
        assert!(Conflict::between(&write, &access(Action::Read, 1)).is_none());
    }

    #[test]
    fn a_multiple_entry_point_conflicts_with_itself() {
        let mut update = access(Action::Update, 1);
        update.thread.multiple = true;
        assert!(Conflict::between(&update, &update.clone()).is_some());
    }

    #[test]
    fn a_common_lock_excludes_unless_both_only_share_it() {
        let (mut a, mut b) = (access(Action::Write, 1), access(Action::Write, 2));
        a.locks = lock(LockKind::Thread, LockMode::Exclusive);
        b.locks = lock(LockKind::Thread, LockMode::Exclusive);
        assert!(Conflict::between(&a, &b).is_none());
        a.locks = lock(LockKind::Thread, LockMode::Shared);
        b.locks = lock(LockKind::Thread, LockMode::Shared);
        assert!(Conflict::between(&a, &b).is_some());
    }

    #[test]
    fn an_event_loop_lock_excludes_tasks_but_not_threads() {
        let (mut a, mut b) = (access(Action::Write, 1), access(Action::Write, 2));
        a.locks = lock(LockKind::EventLoop, LockMode::Exclusive);
        b.locks = lock(LockKind::EventLoop, LockMode::Exclusive);
        assert!(Conflict::between(&a, &b).is_some());
        for access in [&mut a, &mut b] {
            access.thread.on_event_loop = true;
            access.suspends = true;
        }
        assert!(Conflict::between(&a, &b).is_none());
    }

    #[test]
    fn tasks_of_one_loop_conflict_only_across_an_await() {
        let (mut a, mut b) = (access(Action::Update, 1), access(Action::Write, 2));
        a.thread.on_event_loop = true;
        b.thread.on_event_loop = true;
        assert!(Conflict::between(&a, &b).is_none());
        a.suspends = true;
        assert!(Conflict::between(&a, &b).is_some());
    }
}
