//! Stacks of what is in force: entered by a context manager, left at its end, and looked at in between.

use facts::PlaceId;

use super::Analysis;
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::{Container, Slot};

/// Where an entry is put on a stack that all threads share, and taken off again.
#[derive(Clone, Copy)]
pub struct Stacked<'a> {
    /// Puts it on.
    pub push: &'a Access,
    /// Takes it off.
    pub pop: &'a Access,
}

impl<'a> Analysis<'a> {
    /// The stack that `enter` pushes to and `exit` pops from; where both are one function, a `yield` stands between.
    #[must_use]
    pub fn stacked(&self, enter: FuncId, exit: FuncId) -> Option<Stacked<'a>> {
        self.accesses_in(enter).iter().filter(|access| self.pushes(access)).find_map(|push| {
            let pop = self.accesses_in(exit).iter().find(|pop| {
                pop.place == push.place && self.pops(pop) && (enter != exit || self.yields_between(push, pop))
            })?;
            self.is_looked_at(push.place).then_some(Stacked { push, pop })
        })
    }

    fn pushes(&self, access: &Access) -> bool {
        // The cheap question first: this is asked of every access.
        if access.owned || !matches!(access.touch, Touch::Method(name) if name == "append") {
            return false;
        }
        let slot = self.summaries.slot(access.place);
        let for_all = matches!(slot, Slot::Global(..)) || self.is_class_attribute(slot);
        for_all && matches!(self.container(access.place), Some(Container::List | Container::Deque))
    }

    /// `stack.pop()`, `del stack[-1]`: whatever is on top.
    fn pops(&self, access: &Access) -> bool {
        match (access.touch, self.body(access.func).op(access.act)) {
            (Touch::Method(name), Op::Call { args, .. }) => name == "pop" && args.len == 0,
            (Touch::ItemDelete, _) => true,
            _ => false,
        }
    }

    fn yields_between(&self, push: &Access, pop: &Access) -> bool {
        let body = self.body(push.func);
        (push.act.0..pop.act.0).any(|idx| matches!(body.op(Val(idx)), Op::Yield(_)))
    }

    /// Does anybody go by what is on the stack?
    fn is_looked_at(&self, place: PlaceId) -> bool {
        self.accesses(place).any(|access| matches!(access.touch, Touch::ItemLoad | Touch::Iterate | Touch::Snapshot))
    }
}
