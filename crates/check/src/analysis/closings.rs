//! Flags that say whether a place may still be used, and the functions that turn them over first and then deal with
//! the place: `self._closed = True; self._socket = None`.

use super::{Analysis, Condition, Test};
use crate::body::Op;
use crate::summary::{Access, Touch};
use crate::types::Slot;

impl Analysis<'_> {
    /// The tests of flags of the same object or module that govern an access. Those of a part that only its holder uses
    /// say nothing: the holder decides when it is closed.
    #[must_use]
    pub fn flag_tests(&self, act: &Access) -> Vec<Condition> {
        let place = self.summaries.slot(act.place);
        if self.sharing(act.place).is_some_and(|sharing| !sharing.is_direct()) {
            return Vec::new();
        }
        let mut found = self.conditions(act.func, act.act);
        found.retain(|condition| {
            let beside = match (condition.slot, place) {
                (Slot::Attr(one, _), Slot::Attr(two, _)) => one == two,
                (Slot::Global(one, _), Slot::Global(two, _)) => one == two,
                _ => false,
            };
            beside
                && condition.slot != place
                && !condition.through_local
                && matches!(condition.test, Test::Absent | Test::Present)
                && self.is_flag(condition.slot)
        });
        found
    }

    /// Is the slot only ever given `True` and `False`?
    fn is_flag(&self, slot: Slot) -> bool {
        let Some(place) = self.summaries.places.get(&slot) else { return false };
        let mut stores = self.accesses(*place).filter(|access| !matches!(access.touch, Touch::Load)).peekable();
        stores.peek().is_some() && stores.all(|access| self.constant(access).is_some())
    }

    fn constant(&self, access: &Access) -> Option<bool> {
        let Touch::Store(value) = access.touch else { return None };
        match self.body(access.func).op(value) {
            Op::Truth(value) => Some(value),
            _ => None,
        }
    }

    /// Does the function of `other` make the test wrong before it comes to `other`?
    #[must_use]
    pub fn turns_over(&self, test: &Condition, other: &Access) -> bool {
        let Some(place) = self.summaries.places.get(&test.slot) else { return false };
        let turned = test.test == Test::Absent;
        self.accesses(*place).any(|store| {
            store.func == other.func
                && !store.owned
                && self.constant(store) == Some(turned)
                && self.body(other.func).dominates(store.act, other.act)
        })
    }
}
