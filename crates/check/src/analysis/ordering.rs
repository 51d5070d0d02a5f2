//! What keeps two accesses apart besides locks: who they belong to, the order of start and join, and conditions that
//! exclude each other.

use super::{Analysis, Stretch};
use crate::body::{BlockKind, Op, Val};
use crate::contexts::{EntryKind, Group, Reason};
use crate::project::FuncId;
use crate::summary::Access;
use crate::types::{Slot, Std};

impl Analysis<'_> {
    /// Can threads of these groups have the same object in hand? A captured local belongs to one call of its
    /// function, `self` of a thread class to one thread, and a method that is handed to a thread shares its object
    /// with that thread only.
    pub(super) fn may_share(&self, other: &Access, ours: Stretch, our_group: usize, their_group: usize) -> bool {
        let (one, two) = (&self.contexts.groups[our_group], &self.contexts.groups[their_group]);
        let slot = self.summaries.slot(other.place);
        match slot {
            Slot::Local(owner, _) => {
                self.enters_inside(one, owner)
                    || self.enters_inside(two, owner)
                    || is_started_in(one, owner) && is_started_in(two, owner)
                    || self.wrapper_of(our_group, ours.func, owner).is_some_and(|wrapper| {
                        // Of several wrappers, a decorator returns one.
                        self.wrapper_of(their_group, other.func, owner) == Some(wrapper)
                    })
            }
            Slot::Global(..) => true,
            Slot::Attr(..) if self.summaries.class_state.contains(&slot) => true,
            Slot::Attr(owner, _) => {
                if our_group == their_group && self.is_own_thread(one, owner)
                    || self.ends_with_owner(our_group, ours.func, owner)
                    || self.ends_with_owner(their_group, other.func, owner)
                    || !self.same_object(ours.func, other.func)
                {
                    return false;
                }
                match self.contexts.sharing(owner).map(|sharing| sharing.reason) {
                    // A lock beside it is there for callers from several threads.
                    Some(Reason::HandsOut) if !self.owns_lock(owner) => {
                        self.enters_object(one, owner) || self.enters_object(two, owner)
                    }
                    Some(Reason::Descriptor) => {
                        self.is_descriptor_code(ours.func) && self.is_descriptor_code(other.func)
                    }
                    _ => true,
                }
            }
        }
    }

    /// Can one object run both methods: is one class an ancestor of the other, or have they a common subclass?
    fn same_object(&self, first: FuncId, second: FuncId) -> bool {
        let class = |func| self.project.method_around(func).and_then(|method| self.project.class_of(method));
        let (Some(one), Some(two)) = (class(first), class(second)) else { return true };
        let related = |a, b| self.project.class_info(a).mro.contains(&b);
        if one == two || related(one, two) || related(two, one) {
            return true;
        }
        // Code of an unrelated class holds the object in a variable, unless both belong to one family.
        let family = self.project.class_info(one).mro.iter().any(|base| related(two, *base));
        if !family {
            return true;
        }
        let mut work = self.project.class_info(one).subclasses.clone();
        for _ in 0..128 {
            let Some(sub) = work.pop() else { return false };
            if related(sub, two) {
                return true;
            }
            work.extend(&self.project.class_info(sub).subclasses);
        }
        false
    }

    /// Has the object a lock that is called just that? One that is named after what it is for (`_wait_lock`) says
    /// nothing of the rest.
    fn owns_lock(&self, class: crate::project::ClassId) -> bool {
        self.types.attributes_of(self.project, class).iter().any(|slot| {
            let Slot::Attr(_, name) = slot else { return false };
            let plain = ["lock", "rlock", "mutex", "cond", "condition", "cv"];
            if !plain.contains(&name.as_str().trim_start_matches('_')) {
                return false;
            }
            let of = self.types.slot(*slot).iter();
            of.filter_map(|of| self.types.std_of(self.project, *of)).any(|std| std.is_thread_lock())
        })
    }

    fn enters_inside(&self, group: &Group, owner: FuncId) -> bool {
        is_explicit(group.kind) && group.entries.iter().any(|entry| self.is_inside(entry.func, owner))
    }

    /// What a decorator, `owner`, has put in the place of a function, if callers come to `func` through it.
    fn wrapper_of(&self, group: usize, func: FuncId, owner: FuncId) -> Option<FuncId> {
        let (root, _) = *self.contexts.path(group, func).first()?;
        (self.contexts.groups[group].kind == EntryKind::Api && self.is_inside(root, owner)).then_some(root)
    }

    /// Is the function defined inside `owner`, at any depth?
    fn is_inside(&self, func: FuncId, owner: FuncId) -> bool {
        let mut at = func;
        for _ in 0..8 {
            let parent = self.project.sibling(at, self.project.function(at).parent);
            if parent == at {
                return false;
            }
            if parent == owner {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Is the function reached from the `__del__` of the object itself, or of what holds it? Nobody else has it then.
    fn ends_with_owner(&self, group: usize, func: FuncId, owner: crate::project::ClassId) -> bool {
        if self.contexts.groups[group].kind != EntryKind::Finalizer {
            return false;
        }
        let path = self.contexts.path(group, func);
        let Some((root, _)) = path.first() else { return false };
        if self.project.function(*root).name != "__del__" {
            return false;
        }
        let Some(class) = self.project.class_of(*root) else { return false };
        let related = |a, b| self.project.class_info(a).mro.contains(&b) || self.project.class_info(b).mro.contains(&a);
        let holder = match self.contexts.sharing(owner).map(|sharing| sharing.reason) {
            Some(Reason::Held(holder)) => Some(holder),
            _ => None,
        };
        related(class, owner) || holder.is_some_and(|holder| related(class, holder))
    }

    /// Does a thread of the group enter at a method of the object?
    fn enters_object(&self, group: &Group, owner: crate::project::ClassId) -> bool {
        is_explicit(group.kind)
            && group.entries.iter().any(|entry| {
                let class = self.project.method_around(entry.func).and_then(|method| self.project.class_of(method));
                class.is_some_and(|class| {
                    self.project.class_info(class).mro.contains(&owner)
                        || self.project.class_info(owner).mro.contains(&class)
                })
            })
    }

    /// Two threads of one `Thread` subclass have a `self` each.
    fn is_own_thread(&self, group: &Group, owner: crate::project::ClassId) -> bool {
        group.kind == EntryKind::Thread
            && group.entries.iter().all(|entry| {
                let class = self.project.class_of(entry.func);
                entry.site.is_none() && class.is_some_and(|class| self.project.class_info(class).mro.contains(&owner))
            })
    }

    fn is_descriptor_code(&self, func: FuncId) -> bool {
        matches!(self.project.function(func).name.as_str(), "__get__" | "__set__" | "__delete__")
    }

    /// Does one side run only before the threads of the other side's group are started, or after they are joined?
    pub(super) fn is_ordered(&self, func: FuncId, from: Val, to: Val, group: &Group) -> bool {
        group.kind == EntryKind::Thread
            && group.entries.iter().all(|entry| {
                entry.site.is_some_and(|(starter, site)| {
                    starter == func && (to < site && !self.in_loop(func, to) || self.joined_between(func, site, from))
                })
            })
    }

    fn in_loop(&self, func: FuncId, val: Val) -> bool {
        self.body(func).enclosing(val).any(|(_, block)| matches!(block.kind, BlockKind::Loop(_)))
    }

    /// Is a thread joined without a timeout between two nodes?
    fn joined_between(&self, func: FuncId, start: Val, before: Val) -> bool {
        let body = self.body(func);
        (start.0..before.0).map(Val).any(|val| match body.op(val) {
            Op::Call { func: target, args } if args.len == 0 => match body.op(target) {
                Op::Attr { base, name } => {
                    name == "join"
                        && matches!(self.types.std(self.project, func, base), Some(Std::Thread | Std::Timer) | None)
                }
                _ => false,
            },
            _ => false,
        })
    }

    /// Do two nodes run under tests that exclude each other, of state that is set once when its object is made?
    /// (`if self._limit == -1: ...` here, and the other branch there)
    #[must_use]
    pub fn contradict(&self, first: (FuncId, Val), second: (FuncId, Val)) -> bool {
        let ours = self.settled(first.0, first.1);
        if ours.is_empty() {
            return false;
        }
        let theirs = self.settled(second.0, second.1);
        ours.iter().any(|(slot, text, holds)| {
            theirs
                .iter()
                .any(|(other, other_text, other_holds)| slot == other && text == other_text && holds != other_holds)
        })
    }

    /// The tests of settled state that govern a node: the slot, the text of the test, and whether it holds.
    fn settled(&self, func: FuncId, val: Val) -> Vec<(Slot, &str, bool)> {
        let body = self.body(func);
        let mut found = Vec::new();
        for (_, block) in body.enclosing(val) {
            let (test, holds) = match block.kind {
                BlockKind::Then(test) => (test, true),
                BlockKind::Else(test) => (test, false),
                _ => continue,
            };
            let (Op::Compare { left: read, .. } | Op::Not(read)) = body.op(test) else {
                if let Some(slot) = self.settled_slot(func, test) {
                    found.push((slot, self.files.text(self.span(func, test)), holds));
                }
                continue;
            };
            if let Some(slot) = self.settled_slot(func, read) {
                found.push((slot, self.files.text(self.span(func, test)), holds));
            }
        }
        found
    }

    fn settled_slot(&self, func: FuncId, read: Val) -> Option<Slot> {
        let slots = self.types.slots_of(self.project, func, read);
        let [slot] = slots[..] else { return None };
        let place = self.summaries.places.get(&slot)?;
        (matches!(slot, Slot::Attr(..)) && !self.is_written_later(*place)).then_some(slot)
    }

    /// Is the same thing done to the place under a lock in the other branch of the same function? Then the lock is
    /// left out on purpose.
    #[must_use]
    pub fn has_locked_twin(&self, access: &Access) -> bool {
        let body = self.body(access.func);
        self.accesses(access.place).any(|other| {
            other.func == access.func
                && std::mem::discriminant(&other.touch) == std::mem::discriminant(&access.touch)
                && !self.summaries.locks_at(other.func, other.act).is_empty()
                && (body.excludes(access.act, other.act)
                    || self.contradict((access.func, access.act), (other.func, other.act)))
        })
    }
}

/// Does the function start the threads of the group, and hand them what it has made?
fn is_started_in(group: &Group, owner: FuncId) -> bool {
    is_explicit(group.kind) && group.entries.iter().all(|entry| entry.site.is_some_and(|(starter, _)| starter == owner))
}

/// Is it a thread that the text shows, rather than an outside caller?
#[must_use]
pub fn is_explicit(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::Api | EntryKind::AsyncApi | EntryKind::Main)
}
