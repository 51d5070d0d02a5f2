//! Locks in the whole program: what happens while one is held, which may be taken again, and which functions can
//! hold two at the same time.

use facts::{LockKind, PlaceId, Span};
use rustc_hash::FxHashSet;

use super::Analysis;
use super::is_explicit;
use crate::body::{BlockKind, Op, Val};
use crate::contexts::EntryKind;
use crate::project::{ClassId, FuncId};
use crate::summary::effects::lock_path;
use crate::summary::paths::ObjectPath;
use crate::summary::{Effect, Given, Held, Maker};
use crate::types::{Slot, Std, Type};

/// Something that is done while a lock is held.
pub struct Under<'a> {
    /// The function that holds the lock.
    pub func: FuncId,
    /// The stretch.
    pub held: &'a Held,
    /// Which object the lock is.
    pub path: ObjectPath,
    /// What is done.
    pub effects: Vec<Effect>,
}

/// How often a lock can be taken by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reentry {
    /// Once.
    Never,
    /// Again and again.
    Allowed,
    /// Its type is not known.
    Unknown,
}

impl<'a> Analysis<'a> {
    /// What effects are read from.
    #[must_use]
    pub fn given(&self) -> Given<'a> {
        Given { project: self.project, types: self.types, contexts: self.contexts }
    }

    /// All stretches under thread locks, with what is done there.
    pub fn under_locks(&self) -> Vec<Under<'a>> {
        let mut found = Vec::new();
        for func in self.functions() {
            for held in &self.summaries.function(func).held {
                if held.lock.kind != LockKind::Thread {
                    continue;
                }
                let all = self.summaries.effects.within(self.given(), self.summaries, func, held.first, held.end);
                // A decorator takes its lock at the first node.
                let itself = |effect: &Effect| effect.via.is_none() && effect.at == held.at;
                let effects: Vec<Effect> = all
                    .into_iter()
                    .filter(|effect| !itself(effect) && !self.is_let_go(func, held, effect.at))
                    .collect();
                if !effects.is_empty() {
                    let path = lock_path(self.given(), self.summaries, func, held);
                    found.push(Under { func, held, path, effects });
                }
            }
        }
        found
    }

    /// Is the lock released between the beginning of its stretch and a node?
    #[must_use]
    pub fn is_let_go(&self, func: FuncId, held: &Held, at: Val) -> bool {
        let body = self.body(func);
        let slot = self.summaries.slot(held.lock.place);
        let mut free = false;
        for idx in held.first..at.0.min(held.end) {
            let Some((base, name @ ("release" | "acquire"))) = self.method_call(func, Val(idx)) else { continue };
            if body.dominates(Val(idx), at) && self.lock_slots(func, base).contains(&slot) {
                free = name == "release";
            }
        }
        free
    }

    /// The slots that an expression of a lock stands for; a condition made over a lock is that lock.
    #[must_use]
    pub fn lock_slots(&self, func: FuncId, val: Val) -> Vec<Slot> {
        let slots = self.types.slots_of(self.project, func, val).into_iter();
        slots.map(|slot| self.summaries.lock_of_condition.get(&slot).copied().unwrap_or(slot)).collect()
    }

    /// How a lock is written.
    #[must_use]
    pub fn lock_name(&self, func: FuncId, val: Val) -> String {
        let slots = self.lock_slots(func, val);
        let place = slots.first().and_then(|slot| self.summaries.places.get(slot));
        match place {
            Some(place) => self.name_of(*place, func),
            None => self.files.text(self.span(func, val)).to_owned(),
        }
    }

    /// How a condition is written: by its own name, even if it was made over a lock.
    #[must_use]
    pub fn condition_name(&self, func: FuncId, val: Val) -> String {
        match self.body(func).op(val) {
            Op::Attr { .. } | Op::Global(_) => self.files.text(self.span(func, val)).to_owned(),
            _ => self.lock_name(func, val),
        }
    }

    /// Do two expressions name one lock: by their slots, or because a getter returns what the other names?
    #[must_use]
    pub fn is_same_lock(&self, func: FuncId, one: Val, two: Val) -> bool {
        let body = self.body(func);
        let (slots, others) = (self.lock_slots(func, one), self.lock_slots(func, two));
        if one == two || others.iter().any(|slot| slots.contains(slot)) {
            return true;
        }
        let class = |val: Val| self.types.of(func, val).iter().find(|of| self.is_lock_class(**of)).copied();
        let called = |val: Val| matches!(body.op(val), Op::Call { .. });
        (called(one) || called(two)) && class(one).is_some() && class(one) == class(two)
    }

    /// May the owner of a lock take it again?
    #[must_use]
    pub fn reentry(&self, place: PlaceId) -> Reentry {
        let slot = self.summaries.slot(place);
        let stds: Vec<Std> =
            self.types.slot(slot).iter().filter_map(|of| self.types.std_of(self.project, *of)).collect();
        let makers = self.makers(slot);
        let plain = |maker: &Maker| {
            let name = maker.name.as_str();
            name.ends_with("threading.Lock") || name.ends_with("allocate_lock") || name == "multiprocessing.Lock"
        };
        if stds.iter().any(|std| matches!(std, Std::RLock | Std::Condition)) {
            return Reentry::Allowed;
        }
        let is_lock = stds.contains(&Std::Lock) || !makers.is_empty();
        match is_lock && makers.iter().all(plain) {
            true => Reentry::Never,
            false => Reentry::Unknown,
        }
    }

    /// Where the object in a slot is made.
    #[must_use]
    pub fn makers(&self, slot: Slot) -> &'a [Maker] {
        self.summaries.makers.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Is the lock of a known type?
    #[must_use]
    pub fn is_typed_lock(&self, place: PlaceId) -> bool {
        let types = self.types.slot(self.summaries.slot(place));
        types.iter().any(|of| self.types.std_of(self.project, *of).is_some_and(Std::is_thread_lock))
            || types.iter().any(|of| self.is_lock_class(*of))
            || !self.makers(self.summaries.slot(place)).is_empty()
    }

    /// A class of the project that has the protocol of a lock.
    #[must_use]
    pub fn is_lock_class(&self, of: Type) -> bool {
        let Type::Instance(class) = of else { return false };
        let has = |name: &str| self.project.method(class, crate::name::Name::new(name)).is_some();
        has("acquire") && has("release") && has("__enter__") && has("__exit__")
    }

    /// Can two functions run at the same time on two threads?
    #[must_use]
    pub fn may_overlap(&self, one: FuncId, two: FuncId) -> Option<bool> {
        let mut best = None;
        for first in self.threads_of(one) {
            for second in self.threads_of(two) {
                let (a, b) = (&self.contexts.groups[first], &self.contexts.groups[second]);
                let (a_thread, b_thread) = (a.thread(first), b.thread(second));
                if !a_thread.overlaps(b_thread) || a_thread.same_loop(b_thread) || begins_before(a.kind, b.kind) {
                    continue;
                }
                let explicit = is_explicit(a.kind) && is_explicit(b.kind);
                best = Some(best.unwrap_or(false) | explicit);
            }
        }
        best
    }

    /// The groups that run a function. In a program that calls it from its own code and starts no thread, outside
    /// callers do not count.
    pub fn threads_of(&self, func: FuncId) -> Vec<usize> {
        let alone = !self.contexts.groups.iter().any(|group| is_explicit(group.kind))
            && self.contexts.is_reached_by(func, &[EntryKind::Main]);
        let groups = self.contexts.groups_of(func);
        groups.filter(|idx| !alone || self.contexts.groups[*idx].kind == EntryKind::Main).collect()
    }

    /// From the function that holds a lock to where the effect is done: what is called, and where.
    #[must_use]
    pub fn way(&self, func: FuncId, effect: &Effect) -> Vec<(FuncId, Span)> {
        let mut found = Vec::new();
        let (mut func, mut at, mut via) = (func, effect.at, effect.via);
        for _ in 0..16 {
            let Some((callee, idx)) = via else { break };
            found.push((callee, self.span(func, at)));
            let Some(next) = self.summaries.effects.of(callee).get(idx as usize) else { break };
            (func, at, via) = (callee, next.at, next.via);
        }
        found
    }

    /// The functions that start a thread, task or callback at a call enters.
    #[must_use]
    pub fn started_at(&self, func: FuncId, call: Val) -> Vec<FuncId> {
        let entries = self.contexts.groups.iter().flat_map(|group| &group.entries);
        let mut found: Vec<FuncId> =
            entries.filter(|entry| entry.site == Some((func, call))).map(|entry| entry.func).collect();
        found.dedup();
        found
    }

    /// Is a node inside a loop?
    #[must_use]
    pub fn is_in_loop(&self, func: FuncId, at: Val) -> bool {
        self.body(func).enclosing(at).any(|(_, block)| matches!(block.kind, BlockKind::Loop(_)))
    }

    /// The classes of which exactly one instance exists: those that are made once, at import.
    #[must_use]
    pub fn singles(&self) -> FxHashSet<ClassId> {
        let mut once = FxHashSet::default();
        let mut often = FxHashSet::default();
        for func in self.functions() {
            let body = self.body(func);
            for val in body.calls() {
                let Op::Call { func: target, .. } = body.op(val) else { continue };
                for of in self.types.of(func, target) {
                    let Type::Class(class) = *of else { continue };
                    if !once.insert(class) || !self.is_import_code(func) || self.is_in_loop(func, val) {
                        often.insert(class);
                    }
                }
            }
        }
        once.retain(|class| !often.contains(class));
        once
    }
}

fn begins_before(one: EntryKind, two: EntryKind) -> bool {
    let outside = |kind| matches!(kind, EntryKind::Api | EntryKind::AsyncApi);
    one == EntryKind::Main && (outside(two) || two == EntryKind::Main) || two == EntryKind::Main && outside(one)
}
