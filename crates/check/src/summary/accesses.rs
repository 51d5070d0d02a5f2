//! Accesses to places that threads may share: what is done to each, and whether the object is still owned.

use facts::PlaceId;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::paths::{self, Argument};
use super::{Access, Summaries, Touch, changes_first, read_within};
use crate::annotations::Annotations;
use crate::body::{BlockKind, Body, Compare, FunctionKind, Op, Val};
use crate::contexts::Contexts;
use crate::name::Name;
use crate::parallel;
use crate::project::{FuncId, Project};
use crate::types::{Container, Slot, Std, Type, TypeMap};

struct Collector<'a> {
    project: &'a Project,
    types: &'a TypeMap,
    annotations: &'a Annotations,
    contexts: &'a Contexts,
    summaries: &'a Summaries,
    /// Functions that outside callers or threads enter.
    entries: FxHashSet<FuncId>,
}

/// A helper that is called from more places than this is not that of one collection.
const CALLERS_MAX: usize = 16;

/// An access whose place has no number yet.
type Found = (Slot, Access);

pub(super) fn collect(
    project: &Project,
    types: &TypeMap,
    annotations: &Annotations,
    contexts: &Contexts,
    summaries: &mut Summaries,
) {
    let entries = contexts.groups.iter().flat_map(|group| &group.entries).map(|entry| entry.func).collect();
    let collector = Collector { project, types, annotations, contexts, summaries, entries };
    let found = parallel::map(project.function_ids().collect(), |func| collector.function(func));
    // Places are numbered in the order of the text.
    for (slot, access) in found.into_iter().flatten() {
        let place = summaries.place(slot);
        summaries.accesses.push(Access { place, ..access });
    }
    for (idx, access) in summaries.accesses.iter().enumerate() {
        summaries.by_place.entry(access.place).or_default().push(crate::project::as_u32(idx));
    }
}

impl Collector<'_> {
    fn function(&self, func: FuncId) -> Vec<Found> {
        let body = &self.project.function(func).body;
        let mut found = Vec::new();
        for val in body.vals() {
            let aliased = match body.op(val) {
                Op::Local(_) => true,
                Op::Attr { .. }
                | Op::Global(_)
                | Op::Captured(..)
                | Op::StoreAttr { .. }
                | Op::StoreGlobal { .. }
                | Op::StoreCaptured { .. }
                | Op::DelAttr { .. }
                | Op::DelGlobal(_) => false,
                Op::StoreLocal { .. } if self.project.function(func).kind == FunctionKind::ClassBody => false,
                _ => continue,
            };
            let mut slots = self.types.slots_of(self.project, func, val);
            let handed = self.handed_in(func, body, val).filter(|_| aliased);
            if let Some(slot) = handed {
                slots = SmallVec::from_slice(&[slot]);
            }
            for slot in slots {
                let made_by_starter = handed.is_some() && matches!(slot, Slot::Local(..));
                if !made_by_starter && !self.is_state(func, val, slot, aliased) {
                    continue;
                }
                if aliased && self.was_swapped_out(func, body, val, slot) {
                    continue;
                }
                let (touch, act) = self.touch(func, body, val, slot);
                // Reading a local is no access to the place it once came from; using the container it holds is.
                if aliased && matches!(touch, Touch::Load | Touch::Member | Touch::Escape) {
                    continue;
                }
                let owned = self.is_owned(func, body, val) && !self.is_of_all_instances(func, body, val, slot);
                let place = PlaceId(u32::MAX);
                found.push((slot, Access { func, val, act, place, touch, owned, aliased }));
            }
        }
        found
    }

    /// The place whose container a helper gets as a parameter: all callers give it the same one, and nobody else can
    /// call it. A helper that gets now this and now that container says nothing of the locks that each of them needs.
    fn handed_in(&self, func: FuncId, body: &Body, val: Val) -> Option<Slot> {
        let Op::Param(idx) = body.op(body.origin(val)) else { return None };
        let callers = &self.contexts.callers[func.0 as usize];
        if callers.len() > CALLERS_MAX || self.types.container(self.project, func, val).is_none() {
            return None;
        }
        if callers.iter().any(|site| site.spawns && site.as_value) {
            return self.handed_to_threads(func, idx);
        }
        if self.entries.contains(&func) {
            return None;
        }
        let mut found = None;
        for site in callers.iter().filter(|site| !self.is_preparing(site.caller)) {
            let caller = &self.project.function(site.caller).body;
            let given =
                paths::argument(self.project, self.types, site, idx).filter(|_| !site.as_value && !site.guessed);
            let Some(Argument::Value(given)) = given else { return None };
            let [slot @ (Slot::Attr(..) | Slot::Global(..))] =
                self.types.slots_of(self.project, site.caller, given)[..]
            else {
                return None;
            };
            let other =
                self.is_owned(site.caller, caller, given) || self.was_swapped_out(site.caller, caller, given, slot);
            if other || found.is_some_and(|known| known != slot) {
                return None;
            }
            found = Some(slot);
        }
        found
    }

    /// The place whose container every thread that runs the function is given: `Thread(target=f, args=(shared,))`.
    fn handed_to_threads(&self, func: FuncId, idx: u32) -> Option<Slot> {
        let mut found = None;
        for site in &self.contexts.callers[func.0 as usize] {
            let (passed, shift) = self.types.handed_on(self.project, site.caller, site.at, func)?;
            let given = *passed.get((idx as usize).checked_sub(shift)?)?;
            let slots = self.types.slots_of(self.project, site.caller, given);
            let body = &self.project.function(site.caller).body;
            let slot = match (slots.as_slice(), body.op(given)) {
                ([slot @ (Slot::Attr(..) | Slot::Global(..))], _) => *slot,
                // Made here, once for all the threads.
                ([], Op::Local(local)) if !is_in_loop_with(body, body.origin(given), site.at) => {
                    Slot::Local(site.caller, local)
                }
                _ => return None,
            };
            if found.is_some_and(|known| known != slot) {
                return None;
            }
            found = Some(slot);
        }
        found
    }

    /// Does the function run before threads can see what it works on?
    fn is_preparing(&self, func: FuncId) -> bool {
        matches!(self.project.function(func).kind, FunctionKind::Module | FunctionKind::ClassBody)
            || self.summaries.function(func).init_only
    }

    /// `old = self.x; self.x = []; ... old ...`: what the local holds is no longer what the place holds.
    fn was_swapped_out(&self, func: FuncId, body: &Body, val: Val, slot: Slot) -> bool {
        let read = body.origin(val);
        (read.0..val.0).map(Val).any(|between| match body.op(between) {
            Op::StoreAttr { .. } | Op::StoreGlobal { .. } | Op::StoreCaptured { .. } => {
                self.types.slots_of(self.project, func, between).contains(&slot)
            }
            _ => false,
        })
    }

    /// Is the slot state that threads may share?
    fn is_state(&self, func: FuncId, val: Val, slot: Slot, aliased: bool) -> bool {
        if self.annotations.confined.contains(&slot) {
            return false;
        }
        match slot {
            Slot::Attr(class, name) => {
                if let Some(method) = self.project.method(class, name) {
                    let property = self.types.flags(method).is_property;
                    if property || !self.types.has_attr(self.project, class, name) {
                        return false;
                    }
                }
                // Each thread sees attributes of its own.
                if self.types.std_of(self.project, Type::Instance(class)) == Some(Std::ThreadLocal) {
                    return false;
                }
                let for_all = || self.on_class(func, val) || self.summaries.class_state.contains(&slot);
                self.contexts.sharing(class).is_some() || for_all()
            }
            Slot::Global(..) => {
                let known = self.types.of(func, val);
                let own = |of: &Type| matches!(of, Type::Std(Std::ThreadLocal | Std::ContextVar));
                let here = self.types.slot(slot);
                !here.iter().any(own)
                    && (known.is_empty() || !known.iter().all(|of| matches!(of, Type::Module(_) | Type::External(_))))
            }
            Slot::Local(owner, _) => !aliased && owner != func,
        }
    }

    /// Class attributes are as global as globals.
    fn on_class(&self, func: FuncId, val: Val) -> bool {
        let body = &self.project.function(func).body;
        let (Op::Attr { base, .. } | Op::StoreAttr { base, .. } | Op::DelAttr { base, .. }) = body.op(val) else {
            return false;
        };
        // A class that is handed in may be any subclass, perhaps one that is still being made.
        let handed_in = match body.op(body.origin(base)) {
            Op::Param(idx) => idx > 0 || self.project.class_of(func).is_none(),
            _ => false,
        };
        !handed_in && self.types.of(func, base).iter().any(|of| matches!(of, Type::Class(_)))
    }

    /// Is it a container of the class, reached through an instance that may be new itself?
    fn is_of_all_instances(&self, func: FuncId, body: &Body, val: Val, slot: Slot) -> bool {
        if !self.summaries.class_state.contains(&slot) {
            return false;
        }
        let through_class = || match body.op(val) {
            Op::Attr { base, .. } => self.types.of(func, base).iter().any(|of| matches!(of, Type::Class(_))),
            _ => true,
        };
        !through_class() && !matches!(self.project.function(func).kind, FunctionKind::Module | FunctionKind::ClassBody)
    }

    fn is_owned(&self, func: FuncId, body: &Body, val: Val) -> bool {
        let kind = self.project.function(func).kind;
        if matches!(kind, FunctionKind::Module | FunctionKind::ClassBody) {
            return true;
        }
        let base = match body.op(val) {
            Op::Attr { base, .. } | Op::StoreAttr { base, .. } | Op::DelAttr { base, .. } => base,
            _ => return false,
        };
        let origin = body.origin(base);
        if self.types.of(func, base).iter().any(|of| matches!(of, Type::Class(_))) {
            // A class that is being made.
            let making =
                self.project.function(func).name == "__init_subclass__" || self.summaries.function(func).init_only;
            return making && matches!(body.op(origin), Op::Param(0)) && self.project.function(func).name != "__new__";
        }
        match body.op(origin) {
            // `with Thing() as thing:`
            Op::Enter { context, .. } => match body.op(body.origin(context)) {
                Op::Call { func: target, .. } => {
                    self.types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)))
                }
                _ => false,
            },
            Op::Param(0) => self.summaries.function(func).init_only,
            Op::Call { func: target, .. } => {
                self.types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)))
                    || matches!(body.op(target), Op::Attr { name, .. } if name == "__new__")
            }
            _ => false,
        }
    }

    fn touch(&self, func: FuncId, body: &Body, val: Val, slot: Slot) -> (Touch, Val) {
        match body.op(val) {
            Op::StoreAttr { value, update, .. }
            | Op::StoreGlobal { value, update, .. }
            | Op::StoreCaptured { value, update, .. }
            | Op::StoreLocal { value, update, .. } => {
                let touch = match read_within(self.project, self.types, func, value, slot) {
                    // The old value itself is put back.
                    Some(read) if !update && puts_back(body, value, read) => Touch::Store(value),
                    Some(read) if !update && self.is_of_another(func, body, val, read) => Touch::Store(value),
                    Some(read) => Touch::Update(read),
                    None if update => Touch::Update(value),
                    None => Touch::Store(value),
                };
                (touch, val)
            }
            Op::DelAttr { .. } | Op::DelGlobal(_) => (Touch::Delete, val),
            _ => self.used(func, body, val),
        }
    }

    /// `copy.nodes = view(original.nodes)`: what is read belongs to another object than what is written.
    fn is_of_another(&self, func: FuncId, body: &Body, store: Val, read: Val) -> bool {
        let (Op::StoreAttr { base: ours, .. }, Op::Attr { base: theirs, .. }) = (body.op(store), body.op(read)) else {
            return false;
        };
        let on_class = |base| {
            let types = self.types.of(func, base);
            !types.is_empty() && types.iter().all(|of| matches!(of, Type::Class(_)))
        };
        let (one, two) = (body.origin(ours), body.origin(theirs));
        let is_named = |val| matches!(body.op(val), Op::Param(_) | Op::Call { .. });
        let same = match (body.op(one), body.op(two)) {
            (Op::Local(one), Op::Local(two)) => one == two,
            _ => one == two || !is_named(one) && !is_named(two),
        };
        !same && !on_class(ours) && !on_class(theirs)
    }

    fn used(&self, func: FuncId, body: &Body, val: Val) -> (Touch, Val) {
        let Some(user) = self.summaries.consumer(func, val) else { return (Touch::Load, val) };
        match body.op(user) {
            Op::Item { base, key } if base == val => {
                // `x[:]`
                let whole = matches!(body.op(key), Op::Other(args) if args.len == 0);
                (if whole { Touch::Snapshot } else { Touch::ItemLoad }, user)
            }
            Op::StoreItem { base, update, value, .. } if base == val => {
                let again = update || self.reads_item(func, body, value, val);
                (if again { Touch::ItemUpdate } else { Touch::ItemStore }, user)
            }
            Op::DelItem { base, .. } if base == val => (Touch::ItemDelete, user),
            Op::Compare { how: Compare::In | Compare::NotIn, right, .. } if right == val => (Touch::Contains, user),
            Op::Iter { .. } => (Touch::Iterate, user),
            Op::Attr { name, .. } => self.method(func, body, user, name, val),
            Op::Call { func: target, .. } if target != val => self.passed(func, body, val, user),
            Op::Return(_) | Op::Yield(_) => (Touch::Escape, user),
            Op::Display(..) => {
                let starred = match body.op(user) {
                    Op::Display(_, args) => body.args(args).iter().any(|arg| arg.value == val && arg.starred),
                    _ => false,
                };
                (if starred { self.copied(func, val) } else { Touch::Load }, user)
            }
            _ => (Touch::Load, val),
        }
    }

    /// Does a value read an item of the same container? (`d[k] = max(d.get(k), v)`)
    fn reads_item(&self, func: FuncId, body: &Body, value: Val, container: Val) -> bool {
        let slots = self.types.slots_of(self.project, func, container);
        slots.iter().any(|slot| {
            read_within(self.project, self.types, func, value, *slot).is_some_and(|read| {
                let user = self.summaries.consumer(func, read);
                user.is_some_and(|user| match body.op(user) {
                    Op::Item { base, .. } => base == read,
                    Op::Attr { name, .. } => name == "get",
                    _ => false,
                })
            })
        })
    }

    fn method(&self, func: FuncId, body: &Body, attr: Val, name: Name, val: Val) -> (Touch, Val) {
        let call = self.summaries.consumer(func, attr);
        let Some(call) = call.filter(|call| matches!(body.op(*call), Op::Call { func, .. } if func == attr)) else {
            // `weakref.ref(x, items.remove)`: called later.
            let handed_on = call.is_some_and(|call| matches!(body.op(call), Op::Call { .. }));
            let container = self.types.container(self.project, func, val).is_some();
            return (if handed_on && container { Touch::Method(name) } else { Touch::Member }, attr);
        };
        let container = self.types.container(self.project, func, val);
        let views = matches!(
            name.as_str(),
            "items" | "keys" | "values" | "iteritems" | "iterkeys" | "itervalues" | "viewitems" | "viewvalues"
        ) && container.is_none_or(|of| matches!(of, Container::Dict | Container::WeakDict));
        if views {
            let Some(user) = self.summaries.consumer(func, call) else { return (Touch::Method(name), call) };
            return match body.op(user) {
                Op::Iter { .. } => (Touch::Iterate, user),
                Op::Call { .. } => {
                    let (touch, at) = self.passed_view(func, body, call, user, val);
                    (touch, at)
                }
                Op::Return(_) | Op::Yield(_) => (Touch::Method(name), call),
                _ => (Touch::Method(name), call),
            };
        }
        if name == "copy" {
            return (Touch::Snapshot, call);
        }
        (Touch::Method(name), call)
    }

    fn passed_view(&self, func: FuncId, body: &Body, view: Val, call: Val, container: Val) -> (Touch, Val) {
        match consumer_kind(self.types, func, body, call) {
            Some(Use::Copies) => (self.copied(func, container), call),
            Some(Use::Iterates) => (Touch::Iterate, call),
            Some(Use::Measures) => (Touch::Len, call),
            None => (Touch::Load, view),
        }
    }

    fn passed(&self, func: FuncId, body: &Body, val: Val, call: Val) -> (Touch, Val) {
        if let Some(name) = self.changed_by(func, body, val, call) {
            return (Touch::Method(name), call);
        }
        match consumer_kind(self.types, func, body, call) {
            Some(Use::Copies) => (self.copied(func, val), call),
            Some(Use::Iterates) if self.types.container(self.project, func, val).is_some() => (Touch::Iterate, call),
            Some(Use::Measures) => (Touch::Len, call),
            _ => (Touch::Load, val),
        }
    }

    /// `heapq.heappush(x, ...)`: the function that changes the list it is given.
    fn changed_by(&self, func: FuncId, body: &Body, val: Val, call: Val) -> Option<Name> {
        let Op::Call { func: called, args } = body.op(call) else { return None };
        body.args(args).first().filter(|first| first.value == val)?;
        // Most calls are of other functions, and this is cheaper than to find out which.
        let (Op::Attr { name, .. } | Op::Global(name)) = body.op(called) else { return None };
        if !changes_first(name.as_str()) {
            return None;
        }
        let function = self.types.external_callee(self.project, func, call)?;
        let (module, name) = function.as_str().rsplit_once('.')?;
        (matches!(module, "heapq" | "bisect" | "random") && changes_first(name)).then(|| Name::new(name))
    }

    /// `list(x)` is one step over lists, dicts and sets, not over a deque or a weak container.
    fn copied(&self, func: FuncId, val: Val) -> Touch {
        match self.types.container(self.project, func, val) {
            Some(Container::Deque | Container::WeakSet | Container::WeakDict) => Touch::Iterate,
            _ => Touch::Snapshot,
        }
    }
}

/// Is there a loop around the call that makes the value anew each time?
fn is_in_loop_with(body: &Body, made: Val, call: Val) -> bool {
    body.enclosing(made).any(|(id, block)| matches!(block.kind, BlockKind::Loop(_)) && body.holds(id, call))
}

/// `x = old`, `x = given or x`, `x = given if ... else x`: the old value is kept as it is.
fn puts_back(body: &Body, value: Val, read: Val) -> bool {
    let is_read = |val: Val| body.origin(val) == read;
    match body.op(body.origin(value)) {
        Op::Either(_, kept) => is_read(kept),
        Op::Choice { then, other, .. } => is_read(then) || is_read(other),
        // `x = cast(Thing, x)`
        Op::Call { func, args } => match (body.op(func), body.args(args)) {
            (Op::Attr { name, .. } | Op::Global(name), [_, kept]) => name == "cast" && is_read(kept.value),
            _ => is_read(value),
        },
        _ => is_read(value),
    }
}

enum Use {
    Copies,
    Iterates,
    Measures,
}

fn consumer_kind(types: &TypeMap, func: FuncId, body: &Body, call: Val) -> Option<Use> {
    let Op::Call { func: target, .. } = body.op(call) else { return None };
    if let Op::Attr { name, .. } = body.op(target)
        && (name == "join" || name == "extend" || name == "update")
    {
        return Some(Use::Copies);
    }
    // `six.iteritems(x)`, `compat.itervalues(x)`, wherever it comes from.
    if let Op::Attr { name, .. } | Op::Global(name) = body.op(target)
        && matches!(name.as_str(), "iteritems" | "itervalues" | "iterkeys")
    {
        return Some(Use::Iterates);
    }
    let external: SmallVec<[&str; 2]> = types
        .of(func, target)
        .iter()
        .filter_map(|of| match of {
            Type::External(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    Some(match *external.first()? {
        "list"
        | "sorted"
        | "set"
        | "frozenset"
        | "dict"
        | "copy.copy"
        | "collections.OrderedDict"
        | "collections.Counter"
        | "tuple" => Use::Copies,
        "sum" | "min" | "max" | "any" | "all" | "map" | "filter" | "zip" | "enumerate" | "reversed" | "iter"
        | "copy.deepcopy" | "collections.deque" | "itertools.chain" => Use::Iterates,
        "len" | "bool" => Use::Measures,
        _ => return None,
    })
}
