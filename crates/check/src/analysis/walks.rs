//! How long a step-by-step action lasts: walks through containers, and locked blocks.

use facts::{Action, Lock, LockKind, LockSet};

use super::{Analysis, Rival, Stretch};
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;
use crate::summary::{Access, Touch};

impl<'a> Analysis<'a> {
    /// From the first to the last step of an iteration: the whole loop, comprehension or call.
    #[must_use]
    pub fn walk(&self, walk: &Access) -> Stretch {
        let body = self.body(walk.func);
        let mut to = walk.act;
        if let (Touch::Iterate, Op::Iter { .. }) = (walk.touch, body.op(walk.act)) {
            let looped = body.blocks.iter().find(|block| block.kind == BlockKind::Loop(walk.act));
            if let Some(block) = looped.filter(|block| block.end > block.first) {
                to = Val(block.end - 1);
            }
        }
        Stretch { func: walk.func, from: walk.val, to }
    }

    /// From a read to the last step of the loop over it.
    #[must_use]
    pub fn walk_of(&self, func: FuncId, from: Val, over: Val) -> Stretch {
        let body = self.body(func);
        let looped = body.blocks.iter().find(|block| match block.kind {
            BlockKind::Loop(iter) => matches!(body.op(iter), Op::Iter { over: walked, .. } if walked == over),
            _ => false,
        });
        let to = looped.filter(|block| block.end > block.first).map_or(over, |block| Val(block.end - 1));
        Stretch { func, from, to }
    }

    /// Has the function of an access looked at the place under one of these locks before, on each way to the access?
    /// What it finds now was finished by whoever held the lock.
    #[must_use]
    pub fn was_tested_under(&self, locks: &LockSet, access: &Access) -> bool {
        let body = self.body(access.func);
        let before = self.accesses_in(access.func).iter().filter(|other| other.place == access.place);
        before.filter(|other| other.act < access.act).any(|other| {
            let region = self.summaries.region_at(other.func, other.act);
            region.is_some_and(|held| {
                held.end <= access.act.0 && locks.holds(held.lock.place) && body.dominates(held.at, access.act)
            })
        })
    }

    /// Does the locked block around an access await something between the access and its end, or its start?
    #[must_use]
    pub fn region_suspends(&self, access: &Access) -> bool {
        self.summaries.region_at(access.func, access.act).is_some_and(|held| {
            let stretch = Stretch { func: access.func, from: Val(held.first), to: Val(held.end.saturating_sub(1)) };
            self.suspends(stretch)
        })
    }

    /// On one event loop, a single step without the lock comes in where a locked block awaits.
    #[must_use]
    pub fn rival_of_region(&self, access: &Access, guard: Lock) -> Option<Rival<'a>> {
        if guard.kind != LockKind::EventLoop {
            return None;
        }
        let other = self.accesses(access.place).find(|other| {
            self.summaries.locks_at(other.func, other.act).holds(guard.place) && self.region_suspends(other)
        })?;
        let held = self.summaries.region_at(other.func, other.act)?;
        let whole = Stretch { func: other.func, from: Val(held.first), to: Val(held.end.saturating_sub(1)) };
        let found = self
            .rival(access.place, whole, Action::Update, |known| known.func == access.func && known.val == access.val)?;
        Some(Rival {
            access: other,
            our_group: found.their_group,
            their_group: found.our_group,
            confidence: found.confidence,
        })
    }
}
