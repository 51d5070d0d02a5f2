//! Questions about objects: what a value is made of, which nodes stand for the same object, what is done to it, and
//! which calls stay on `self`.

use facts::{Confidence, PlaceId};
use smallvec::SmallVec;

use super::{Analysis, Condition, Rival, starts_before};
use crate::body::{Display, FunctionKind, LocalId, Op, Val};
use crate::contexts::{EntryKind, Sharing};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::summary::{Access, mutating};
use crate::types::{Container, Slot, Type};

/// How deep calls on `self` are followed.
const CALLS_MAX: usize = 3;

/// What a new object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A built-in container.
    Container(Container),
    /// An instance of a class of the project.
    Object(ClassId),
    /// An instance of a class outside the project.
    Foreign,
}

impl<'a> Analysis<'a> {
    /// The text of a node.
    #[must_use]
    pub fn text(&self, func: FuncId, val: Val) -> &'a str {
        let span = self.span(func, val);
        self.files.get(span.file).text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// The accesses of a function, in order.
    #[must_use]
    pub fn accesses_in(&self, func: FuncId) -> &'a [Access] {
        let all = &self.summaries.accesses;
        let first = all.partition_point(|access| access.func < func);
        let end = all.partition_point(|access| access.func <= func);
        &all[first..end]
    }

    /// Who uses the value of a node.
    #[must_use]
    pub fn consumer(&self, func: FuncId, val: Val) -> Option<Val> {
        self.summaries.consumer(func, val)
    }

    /// The slots that a node names or stores to.
    #[must_use]
    pub fn slots(&self, func: FuncId, val: Val) -> SmallVec<[Slot; 2]> {
        self.types.slots_of(self.project, func, val)
    }

    /// The new object that a value is: it is made right here, by a display, a comprehension or a constructor.
    #[must_use]
    pub fn made(&self, func: FuncId, value: Val) -> Option<Made> {
        let body = self.body(func);
        let mut at = body.origin(value);
        if let Op::Await(inner) = body.op(at) {
            at = body.origin(inner);
        }
        match body.op(at) {
            Op::Display(kind, _) | Op::Comprehension(kind, _) => match kind {
                Display::List => Some(Made::Container(Container::List)),
                Display::Dict => Some(Made::Container(Container::Dict)),
                Display::Set => Some(Made::Container(Container::Set)),
                Display::Tuple | Display::Generator => None,
            },
            Op::Call { func: target, .. } => {
                let makes = |of: &Type| match of {
                    Type::Class(_) => true,
                    Type::External(name) => {
                        let last = name.as_str().rsplit('.').next().unwrap_or("");
                        crate::types::constructed(name.as_str()).is_some()
                            || last.starts_with(|first: char| first.is_ascii_uppercase())
                    }
                    _ => false,
                };
                let allocates = matches!(body.op(target), Op::Attr { name, .. } if name == "__new__");
                if !allocates && !self.types.of(func, target).iter().any(makes) {
                    return None;
                }
                self.types.of(func, at).iter().find_map(|of| match *of {
                    Type::Container(container) => Some(Made::Container(container)),
                    Type::Instance(class) => {
                        Some(self.types.container_of(self.project, *of).map_or(Made::Object(class), Made::Container))
                    }
                    Type::Foreign(_) => Some(Made::Foreign),
                    _ => None,
                })
            }
            _ => None,
        }
    }

    /// Do two nodes stand for the same object, as far as locals tell?
    #[must_use]
    pub fn is_same_object(&self, func: FuncId, one: Val, two: Val) -> bool {
        let body = self.body(func);
        let (one, two) = (body.origin(one), body.origin(two));
        one == two
    }

    /// Is the value a constant, or of an immutable type whose identity nobody observes?
    #[must_use]
    pub fn is_plain(&self, func: FuncId, value: Val) -> bool {
        let body = self.body(func);
        let origin = body.origin(value);
        matches!(body.op(origin), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_))
            || self.types.is_plain(self.project, self.types.of(func, origin))
    }

    /// Is the value an empty container, zero, or an empty text?
    #[must_use]
    pub fn is_empty_value(&self, func: FuncId, value: Val) -> bool {
        let body = self.body(func);
        let origin = body.origin(value);
        match body.op(origin) {
            Op::Display(kind, args) => kind != Display::Generator && args.len == 0,
            Op::Scalar => matches!(self.text(func, origin), "0" | "0.0" | "b\"\"" | "b''"),
            Op::Str(text) => text == "",
            Op::Call { args, func: target } => {
                let container = self.types.container(self.project, func, origin).is_some();
                let constructs =
                    self.types.of(func, target).iter().any(|of| matches!(of, Type::External(_) | Type::Class(_)));
                let arguments = body.args(args);
                // `defaultdict(list)`, `deque(maxlen=5)`
                let empty = arguments.iter().all(|arg| {
                    arg.name.is_some_and(|name| name == "maxlen")
                        || self
                            .types
                            .of(func, arg.value)
                            .iter()
                            .any(|of| matches!(of, Type::External(_) | Type::Class(_) | Type::Function(_)))
                });
                container && constructs && empty
            }
            _ => false,
        }
    }

    /// The code of a class.
    #[must_use]
    pub fn class_code(&self, class: ClassId) -> FuncId {
        self.project.func_id(self.project.class_info(class).module, self.project.class(class).body)
    }

    /// Is the node the object that the method around it belongs to?
    #[must_use]
    pub fn is_self(&self, func: FuncId, val: Val) -> bool {
        let method = self.project.function(func);
        let is_static = self.types.flags(func).is_static;
        match self.body(func).op(val) {
            Op::Local(LocalId(0)) => method.class.is_some() && method.kind == FunctionKind::Def && !is_static,
            Op::Captured(owner, LocalId(0)) => {
                let owner = self.project.sibling(func, owner);
                self.project.function(owner).class.is_some() && !self.types.flags(owner).is_static
            }
            _ => false,
        }
    }

    /// The functions that `self.m()`, `super().m()` or a property of `self` runs.
    #[must_use]
    pub fn self_callees(&self, func: FuncId, at: Val) -> SmallVec<[FuncId; 2]> {
        let body = self.body(func);
        let target = match body.op(at) {
            Op::Call { func: target, .. } => target,
            Op::Attr { .. } => at,
            _ => return SmallVec::new(),
        };
        let Op::Attr { base, .. } = body.op(target) else { return SmallVec::new() };
        let is_super = self.types.of(func, base).iter().any(|of| matches!(of, Type::Super(_)));
        if !is_super && !self.is_self(func, base) {
            return SmallVec::new();
        }
        self.callees(func, at)
    }

    /// The functions that run where the node stands, as far as they are known.
    #[must_use]
    pub fn callees(&self, func: FuncId, at: Val) -> SmallVec<[FuncId; 2]> {
        let calls = &self.contexts.calls[func.0 as usize];
        let first = calls.partition_point(|site| site.at < at);
        let here = calls[first..].iter().take_while(|site| site.at == at);
        here.filter(|site| !site.as_value && !site.spawns && !site.guessed).map(|site| site.callee).collect()
    }

    /// The function and those that it calls on the same object, nearest first.
    #[must_use]
    pub fn self_reach(&self, func: FuncId) -> Vec<FuncId> {
        let mut found = vec![func];
        let mut at = 0;
        let mut level_end = 1;
        let mut depth = 0;
        while at < found.len() && found.len() < 64 {
            if at == level_end {
                depth += 1;
                level_end = found.len();
            }
            if depth >= CALLS_MAX {
                break;
            }
            let here = found[at];
            for val in self.body(here).vals() {
                for callee in self.self_callees(here, val) {
                    if !found.contains(&callee) {
                        found.push(callee);
                    }
                }
            }
            at += 1;
        }
        found
    }

    /// Does a method change the object that it is called on?
    #[must_use]
    pub fn changes_self(&self, method: FuncId) -> bool {
        self.self_reach(method).into_iter().any(|func| {
            let body = self.body(func);
            body.vals().any(|val| match body.op(val) {
                Op::StoreAttr { base, .. } => self.is_self(func, base),
                Op::StoreItem { base, .. } => self.is_attr_of_self(func, base),
                Op::Call { .. } => self
                    .method_call(func, val)
                    .is_some_and(|(base, name)| mutating(name) && self.is_attr_of_self(func, base)),
                _ => false,
            })
        })
    }

    /// Is the node `self.name`?
    #[must_use]
    pub fn is_attr_of_self(&self, func: FuncId, val: Val) -> bool {
        matches!(self.body(func).op(val), Op::Attr { base, .. } if self.is_self(func, base))
    }

    /// The name of the attribute of `self` that a node reads or stores.
    #[must_use]
    pub fn self_attr(&self, func: FuncId, val: Val) -> Option<Name> {
        match self.body(func).op(val) {
            Op::Attr { base, name } | Op::StoreAttr { base, name, .. } if self.is_self(func, base) => Some(name),
            _ => None,
        }
    }

    /// The method call whose receiver a node is: the call and the name.
    #[must_use]
    pub fn called_on(&self, func: FuncId, receiver: Val) -> Option<(Val, Name)> {
        let body = self.body(func);
        let attr = self.consumer(func, receiver)?;
        let Op::Attr { base, name } = body.op(attr) else { return None };
        let call = self.consumer(func, attr).filter(|_| base == receiver)?;
        matches!(body.op(call), Op::Call { func, .. } if func == attr).then_some((call, name))
    }

    /// The tests of shared state that hold where `test` does (or does not: `holds`).
    #[must_use]
    pub fn tested_by(&self, func: FuncId, test: Val, holds: bool) -> Vec<Condition> {
        let mut found = Vec::new();
        self.atoms(func, test, holds, &mut found);
        found
    }

    /// Can two threads (or tasks) be in the function at once, and how sure are we? The groups of both.
    #[must_use]
    pub fn overlap_of(&self, one: FuncId, two: FuncId) -> Option<(usize, usize, Confidence)> {
        let explicit = |kind| !matches!(kind, EntryKind::Api | EntryKind::AsyncApi | EntryKind::Main);
        let mut best: Option<(usize, usize, Confidence)> = None;
        for ours in self.contexts.groups_of(one) {
            for theirs in self.contexts.groups_of(two) {
                let (first, second) = (&self.contexts.groups[ours], &self.contexts.groups[theirs]);
                if starts_before(first.kind, second.kind) || !first.thread(ours).overlaps(second.thread(theirs)) {
                    continue;
                }
                let sure = explicit(first.kind) && explicit(second.kind);
                let confidence = if sure { Confidence::High } else { Confidence::Medium };
                if best.is_none_or(|(.., known)| confidence > known) {
                    best = Some((ours, theirs, confidence));
                }
            }
        }
        best
    }

    /// Is the meeting more than a guess: not through a hook or finalizer that might run anything, and of objects or
    /// variables that are known to be one for both?
    #[must_use]
    pub fn is_believable(&self, place: PlaceId, rival: &Rival<'_>) -> bool {
        let groups = [rival.our_group, rival.their_group];
        let kind = |group: &usize| self.contexts.groups[*group].kind;
        if groups.iter().any(|group| matches!(kind(group), EntryKind::Hook | EntryKind::Finalizer)) {
            return false;
        }
        match self.summaries.slot(place) {
            // Each call of the function around has variables of its own.
            Slot::Local(..) => groups.iter().any(|group| self.is_at_work(*group)),
            Slot::Global(..) => true,
            Slot::Attr(..) => {
                self.sharing(place).is_none_or(Sharing::is_direct) || groups.iter().all(|group| self.is_at_work(*group))
            }
        }
    }

    /// Does a loop go over the whole of what `iteration` reads, and end before `after`?
    #[must_use]
    pub fn runs_over(&self, iteration: &Access, after: &Access) -> bool {
        let body = self.body(iteration.func);
        let Op::Iter { .. } = body.op(iteration.act) else { return false };
        body.blocks.iter().any(|block| {
            block.kind == crate::body::BlockKind::Loop(iteration.act)
                && block.end <= after.act.0
                && !(block.first..block.end).any(|idx| matches!(body.op(Val(idx)), Op::Break | Op::Return(_)))
        })
    }

    /// Does the group do the program's work: is it neither outside callers, nor a hook, nor a finalizer?
    #[must_use]
    pub fn is_at_work(&self, group: usize) -> bool {
        use EntryKind::{Handler, Pool, Task, Thread};
        matches!(self.contexts.groups[group].kind, Thread | Pool | Handler | Task)
    }

    /// Is the attribute made by the class body or through the class, so that all instances share it?
    #[must_use]
    pub fn is_class_attribute(&self, slot: Slot) -> bool {
        super::words::is_class_attribute(self, slot)
    }
}
