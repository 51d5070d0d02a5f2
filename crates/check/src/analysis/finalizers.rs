//! Code that Python itself runs in the middle of other code: finalizers, hooks of the collector, logging handlers.

use facts::{LockKind, PlaceId};

use super::Analysis;
use crate::body::{BlockKind, Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::summary::paths::{ObjectPath, Root};
use crate::summary::{Effect, Touch};
use crate::types::{Slot, Std, Type};

impl Analysis<'_> {
    /// A stretch under the lock in which something is called or made, outside the finalizer itself.
    #[must_use]
    pub fn allocates_under(&self, place: PlaceId, finalizer: FuncId) -> Option<(FuncId, Val)> {
        self.functions().filter(|func| *func != finalizer && !self.is_test(*func)).find_map(|func| {
            if self.is_owned_by_maker(func) {
                return None;
            }
            let body = self.body(func);
            let held = self.summaries.function(func).held.iter().find(|held| {
                let allocates = (held.first..held.end).any(|idx| {
                    matches!(
                        body.op(Val(idx)),
                        Op::Call { .. } | Op::Display(..) | Op::Comprehension(..) | Op::StoreItem { .. }
                    )
                });
                held.lock.place == place && held.lock.kind == LockKind::Thread && allocates
            })?;
            Some((func, held.at))
        })
    }

    /// A dying object's own lock: nobody else can hold it, since nobody else has the object.
    #[must_use]
    pub fn dies_with(&self, func: FuncId, path: &ObjectPath) -> bool {
        let Root::Param(0) = path.root else { return matches!(path.root, Root::Unknown | Root::Fresh) };
        if path.attrs.len() < 2 {
            return true;
        }
        let Some(class) = self.project.class_of(func) else { return false };
        let Some(place) = self.part_of(class, path.attrs[0]) else { return false };
        // A part that only the object itself ever makes dies with it.
        let mut stores = self.accesses(place).filter_map(|access| match access.touch {
            Touch::Store(value) => Some((access.func, value)),
            _ => None,
        });
        stores.all(|(func, value)| {
            let body = self.body(func);
            match body.op(body.origin(value)) {
                Op::None => true,
                Op::Call { func: target, .. } => {
                    self.types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)))
                }
                _ => false,
            }
        })
    }

    /// An attribute of a class, or of the subclass that has it.
    fn part_of(&self, class: ClassId, name: Name) -> Option<PlaceId> {
        let mut work = vec![class];
        let mut steps = 0;
        while let Some(class) = work.pop() {
            let slot = Slot::Attr(self.types.owner(self.project, class, name), name);
            let place = self.summaries.places.get(&slot);
            if place.is_some_and(|place| self.accesses(*place).next().is_some()) {
                return place.copied();
            }
            steps += 1;
            if steps < 64 {
                work.extend(&self.project.class_info(class).subclasses);
            }
        }
        None
    }

    /// The logging handlers of the project, with the locks that they take.
    #[must_use]
    pub fn logging_hooks(&self) -> Vec<(FuncId, Vec<Effect>)> {
        let emits = self.functions().filter(|func| {
            let function = self.project.function(*func);
            let class = self.project.class_of(*func);
            matches!(function.name.as_str(), "emit" | "handle" | "filter")
                && class.is_some_and(|class| {
                    let mut bases = self.project.external_ancestors(class);
                    bases.any(|base| base.as_str().starts_with("logging.") && !base.as_str().ends_with("Formatter"))
                })
        });
        emits.map(|func| (func, self.summaries.effects.of(func).to_vec())).collect()
    }

    /// Is the acquisition governed by a note of the thread's own, which tells that it is inside already?
    #[must_use]
    pub fn notes_entry(&self, (func, at): (FuncId, Val)) -> bool {
        let body = self.body(func);
        body.enclosing(at).any(|(_, block)| {
            let (BlockKind::Then(test) | BlockKind::Else(test)) = block.kind else { return false };
            let mut work = vec![test];
            let mut steps = 0;
            while let Some(at) = work.pop() {
                steps += 1;
                let std = self.types.std(self.project, func, at);
                if matches!(std, Some(Std::ThreadLocal | Std::ContextVar)) || steps > 32 {
                    return std.is_some();
                }
                body.operands(at, |operand| work.push(operand));
            }
            false
        })
    }
}
