//! Whose instances threads share, and how we know.
//!
//! An object is shared if its class owns a lock or a thread, hands its methods to threads, is stored where everybody
//! finds it, or is reached through an attribute of a shared object. Everything else is confined and stays silent.

use facts::Span;
use rustc_hash::FxHashMap;

use super::{Entry, EntryKind};
use crate::annotations::Annotations;
use crate::body::{FunctionKind, Op};
use crate::parallel;
use crate::project::{ClassId, FuncId, Project};
use crate::types::{Slot, Std, Type, TypeMap};

/// How we know that instances are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The configuration says so.
    Configured,
    /// An annotation says so, or names a lock for an attribute.
    Declared,
    /// A method is handed to a thread, pool or loop.
    HandsOut,
    /// An attribute is a thread or executor, or the class is a thread.
    OwnsThread,
    /// An attribute is a lock for threads.
    OwnsLock,
    /// An instance is stored in a module global.
    Global,
    /// An instance is stored in a class attribute.
    ClassAttribute,
    /// The instances are classes.
    Metaclass,
    /// The class is a descriptor, so one instance serves all.
    Descriptor,
    /// An attribute is a container that guards itself with a lock.
    HoldsGuarded,
    /// The documentation says that it is thread-safe.
    Documented,
    /// An attribute is a lock for tasks.
    OwnsLoopLock,
    /// A shared object holds it.
    Held(ClassId),
}

/// Why instances of a class are shared.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// How we know.
    pub reason: Reason,
    /// Where it shows.
    pub span: Span,
}

impl Sharing {
    /// Does the sharing stand in the class itself, or is it only reached through a shared object?
    #[must_use]
    pub fn is_direct(&self) -> bool {
        !matches!(self.reason, Reason::Held(_))
    }
}

pub(super) fn find(
    project: &Project,
    types: &TypeMap,
    annotations: &Annotations,
    entries: &[Entry],
    configured: &[String],
) -> FxHashMap<ClassId, Sharing> {
    let mut found: FxHashMap<ClassId, Sharing> = FxHashMap::default();
    let get = crate::name::Name::new("__get__");
    let mut add = |class: ClassId, reason: Reason, span: Span| {
        // The object in the class is a descriptor: what it does for instances is another matter.
        let is_descriptor = reason == Reason::ClassAttribute && project.method(class, get).is_some();
        let reason = if is_descriptor { Reason::Descriptor } else { reason };
        let fresh = Sharing { reason, span };
        let known = found.entry(class).or_insert(fresh);
        if reason < known.reason {
            *known = fresh;
        }
    };
    for class in project.class_ids() {
        let def = project.class(class);
        let span = super::class_span(project, class);
        let module = project.names[project.class_info(class).module.0 as usize];
        let full = || format!("{module}.{}", def.qualname);
        if configured.iter().any(|name| def.name == name.as_str() || *name == full()) {
            add(class, Reason::Configured, span);
        }
        if project.method(class, get).is_some() {
            add(class, Reason::Descriptor, span);
        }
        // The instances of a metaclass are classes: everybody has the same.
        if project
            .external_ancestors(class)
            .any(|base| matches!(base.as_str(), "type" | "builtins.type" | "abc.ABCMeta"))
        {
            add(class, Reason::Metaclass, span);
        }
        if types.std_of(project, Type::Instance(class)).is_some_and(|std| matches!(std, Std::Thread | Std::Timer)) {
            add(class, Reason::OwnsThread, span);
        }
    }
    let sites = Sites::count(project, types);
    declared(annotations, &mut add);
    handed_out(project, types, entries, &mut add);
    let said = parallel::map(project.function_ids().collect(), |func| {
        let mut said = Vec::new();
        stores(project, types, func, &mut |class, reason, span| said.push((class, reason, span)));
        said
    });
    said.into_iter().flatten().for_each(|(class, reason, span)| add(class, reason, span));
    // One constant in a global says nothing of a class whose objects are made all over the place.
    found.retain(|class, sharing| match sharing.reason {
        Reason::Global | Reason::ClassAttribute => sites.mostly_global(*class),
        _ => true,
    });
    hold_guarded(project, types, &mut found);
    inherit(project, &mut found);
    hold(project, types, &sites, &mut found);
    found.retain(|class, _| !annotations.confined_classes.contains(class));
    found
}

/// Where objects of a class are made: how often in all, and how often straight into a global or class attribute.
struct Sites {
    total: FxHashMap<ClassId, u32>,
    global: FxHashMap<ClassId, u32>,
}

/// A class whose objects are made in more places than this is not that of the one object that a holder shares.
const SITES_MAX: u32 = 3;

impl Sites {
    fn count(project: &Project, types: &TypeMap) -> Self {
        let (mut total, mut global) = (FxHashMap::default(), FxHashMap::default());
        for func in project.function_ids() {
            if project.is_test[project.module_of(func).0 as usize] {
                continue;
            }
            let body = &project.function(func).body;
            for val in body.acts() {
                if let Op::Call { func: target, .. } = body.op(val) {
                    for of in types.of(func, target) {
                        if let Type::Class(class) = of {
                            *total.entry(*class).or_insert(0) += 1;
                        }
                    }
                }
                if let Some(value) = stored_globally(project, types, func, val) {
                    let mut made = |value| {
                        if let Op::Call { func: target, .. } = body.op(value) {
                            for of in types.of(func, target) {
                                if let Type::Class(class) = of {
                                    *global.entry(*class).or_insert(0) += 1;
                                }
                            }
                        }
                    };
                    match body.op(body.origin(value)) {
                        Op::Either(left, right) => [left, right].into_iter().for_each(made),
                        _ => made(body.origin(value)),
                    }
                }
            }
        }
        Self { total, global }
    }

    fn total(&self, class: ClassId) -> u32 {
        self.total.get(&class).copied().unwrap_or(0)
    }

    fn mostly_global(&self, class: ClassId) -> bool {
        self.global.get(&class).copied().unwrap_or(0) * 2 > self.total(class)
    }
}

/// The value, if a node stores it into a global, a class attribute or a container that is one.
fn stored_globally(
    project: &Project,
    types: &TypeMap,
    func: FuncId,
    val: crate::body::Val,
) -> Option<crate::body::Val> {
    let body = &project.function(func).body;
    match body.op(val) {
        Op::StoreGlobal { value, .. } => Some(value),
        Op::StoreLocal { value, .. } if project.function(func).kind == FunctionKind::ClassBody => Some(value),
        Op::StoreAttr { value, .. } if is_class_base(types, func, body, val) => Some(value),
        Op::StoreItem { base, value, .. } => {
            let global = types.slots_of(project, func, base).iter().any(|slot| matches!(slot, Slot::Global(..)));
            global.then_some(value)
        }
        _ => None,
    }
}

/// `await to_thread(self.work)`: the object goes to a pool thread and comes back; its owner waits meanwhile.
fn is_awaited_hand_over(project: &Project, types: &TypeMap, func: FuncId, call: crate::body::Val) -> bool {
    let body = &project.function(func).body;
    let by_name = types.external_callee(project, func, call).is_some_and(|name| {
        matches!(
            name.as_str().rsplit('.').next(),
            Some("to_thread" | "sync_to_async" | "run_in_threadpool" | "run_sync")
        )
    });
    let by_method = match body.op(call) {
        Op::Call { func: target, .. } => matches!(body.op(target), Op::Attr { name, .. } if name == "run_in_executor"),
        _ => false,
    };
    by_name || by_method
}

/// Objects whose methods are handed to threads, pools and loops.
fn handed_out(project: &Project, types: &TypeMap, entries: &[Entry], add: &mut impl FnMut(ClassId, Reason, Span)) {
    let mut together: FxHashMap<_, u32> = FxHashMap::default();
    for entry in entries {
        if let Some(class) = project.class_of(entry.func) {
            *together.entry((entry.site, class)).or_default() += 1;
        }
    }
    for entry in entries {
        if let (Some((caller, call)), Some(class)) = (entry.site, project.class_of(entry.func)) {
            let handed_back = entry.kind == EntryKind::Pool && is_awaited_hand_over(project, types, caller, call);
            // Two tasks of one object, started together or in a loop.
            let with_others = entry.multiple || together.get(&(entry.site, class)).is_some_and(|n| *n > 1);
            let alone = entry.kind == EntryKind::Handler || entry.kind == EntryKind::Task && !with_others;
            if !alone && !handed_back {
                add(class, Reason::HandsOut, project.span(caller, call));
            }
        }
    }
}

/// What people say of sharing.
fn declared(annotations: &Annotations, add: &mut impl FnMut(ClassId, Reason, Span)) {
    for (class, span) in &annotations.shared {
        add(*class, Reason::Declared, *span);
    }
    for (class, span) in &annotations.documented {
        add(*class, Reason::Documented, *span);
    }
    let mut guarded: Vec<_> = annotations.guards.iter().collect();
    guarded.sort_unstable_by_key(|(_, lock)| lock.span);
    for (slot, lock) in guarded {
        if let Slot::Attr(class, _) = slot {
            add(*class, Reason::Declared, lock.span);
        }
    }
}

/// What a function's stores say about sharing.
fn stores(project: &Project, types: &TypeMap, func: FuncId, add: &mut impl FnMut(ClassId, Reason, Span)) {
    let function = project.function(func);
    let body = &function.body;
    let test = project.is_test[project.module_of(func).0 as usize];
    for val in body.writes() {
        let value = match body.op(val) {
            Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreLocal { value, .. } => value,
            Op::StoreItem { base, value, .. } => {
                let registry = types.slots_of(project, func, base).iter().any(|slot| matches!(slot, Slot::Global(..)));
                if registry && !test {
                    instances(types, func, value, |class| add(class, Reason::Global, project.span(func, val)));
                }
                continue;
            }
            _ => continue,
        };
        if matches!(body.op(val), Op::StoreLocal { .. }) && function.kind != FunctionKind::ClassBody {
            continue;
        }
        for slot in types.slots_of(project, func, val) {
            let span = project.span(func, val);
            match slot {
                Slot::Attr(owner, _) => {
                    for of in types.of(func, value) {
                        if let Some(reason) = types.std_of(project, *of).and_then(owned) {
                            let class = own_class(project, func).unwrap_or(owner);
                            add(class, reason, span);
                        }
                    }
                    let on_class = function.kind == FunctionKind::ClassBody || is_class_base(types, func, body, val);
                    if on_class && !test {
                        instances(types, func, value, |class| add(class, Reason::ClassAttribute, span));
                    }
                }
                Slot::Global(..) if !test => {
                    instances(types, func, value, |class| add(class, Reason::Global, span));
                }
                _ => {}
            }
        }
    }
}

/// The class whose method stores: a lock made by a subclass says nothing of its siblings.
fn own_class(project: &Project, func: FuncId) -> Option<ClassId> {
    project.class_of(func).or_else(|| project.method_around(func).and_then(|method| project.class_of(method)))
}

fn is_class_base(types: &TypeMap, func: FuncId, body: &crate::body::Body, val: crate::body::Val) -> bool {
    match body.op(val) {
        Op::StoreAttr { base, .. } => types.of(func, base).iter().any(|of| matches!(of, Type::Class(_))),
        _ => false,
    }
}

fn owned(std: Std) -> Option<Reason> {
    match std {
        Std::Thread | Std::Timer | Std::Executor => Some(Reason::OwnsThread),
        Std::Lock | Std::RLock | Std::Condition | Std::Semaphore => Some(Reason::OwnsLock),
        Std::AsyncLock | Std::AsyncCondition | Std::AsyncSemaphore => Some(Reason::OwnsLoopLock),
        _ => None,
    }
}

fn instances(types: &TypeMap, func: FuncId, value: crate::body::Val, mut each: impl FnMut(ClassId)) {
    for of in types.of(func, value) {
        if let Type::Instance(class) = of {
            each(*class);
        }
    }
}

/// Who keeps things in a container that has a lock of its own expects several threads.
fn hold_guarded(project: &Project, types: &TypeMap, found: &mut FxHashMap<ClassId, Sharing>) {
    for (holder, slot) in types.attributes() {
        for of in types.slot(slot) {
            let Type::Instance(held) = of else { continue };
            let guarded = found.get(held).is_some_and(|sharing| sharing.reason == Reason::OwnsLock);
            let keyed = ["__getitem__", "__setitem__"]
                .iter()
                .all(|name| project.method(*held, crate::name::Name::new(name)).is_some());
            let made_here = types.slot(slot).len() == 1;
            if guarded && keyed && made_here {
                let span = super::class_span(project, *held);
                found.entry(holder).or_insert(Sharing { reason: Reason::HoldsGuarded, span });
            }
        }
    }
}

/// A subclass of a shared class is shared, and so is the part of a shared object that its bases define.
fn inherit(project: &Project, found: &mut FxHashMap<ClassId, Sharing>) {
    let direct: Vec<(ClassId, Sharing)> = {
        let mut all: Vec<_> = found.iter().map(|(class, sharing)| (*class, *sharing)).collect();
        all.sort_by_key(|(class, _)| *class);
        all
    };
    for (class, sharing) in &direct {
        let down = matches!(
            sharing.reason,
            Reason::OwnsLock
                | Reason::OwnsThread
                | Reason::HandsOut
                | Reason::Configured
                | Reason::Declared
                | Reason::Descriptor
        );
        let mut work = if down { project.class_info(*class).subclasses.clone() } else { Vec::new() };
        let mut steps = 0;
        while let Some(sub) = work.pop() {
            steps += 1;
            if steps > 256 {
                break;
            }
            found.entry(sub).or_insert(*sharing);
            work.extend(&project.class_info(sub).subclasses);
        }
        // One instance that everybody finds says nothing of other subclasses of its bases.
        if !matches!(sharing.reason, Reason::Global | Reason::ClassAttribute | Reason::HandsOut) {
            for base in project.class_info(*class).mro.iter().skip(1) {
                found.entry(*base).or_insert(*sharing);
            }
        }
    }
}

/// What a shared object holds is shared with it.
fn hold(project: &Project, types: &TypeMap, sites: &Sites, found: &mut FxHashMap<ClassId, Sharing>) {
    let mut slots: Vec<(ClassId, Slot)> = types.attributes();
    slots.sort_unstable();
    for _ in 0..3 {
        let mut fresh = Vec::new();
        for (class, slot) in &slots {
            let Some(holder) = found.get(class).copied() else { continue };
            if matches!(
                holder.reason,
                Reason::OwnsLoopLock | Reason::Descriptor | Reason::HandsOut | Reason::HoldsGuarded
            ) {
                continue;
            }
            for of in types.slot(*slot).iter().chain(types.elements(*slot)) {
                if let Type::Instance(held) = of
                    && !found.contains_key(held)
                    && sites.total(*held) <= SITES_MAX
                {
                    fresh.push((*held, Sharing { reason: Reason::Held(*class), span: holder.span }));
                }
            }
        }
        if fresh.is_empty() {
            break;
        }
        for (held, sharing) in fresh {
            found.entry(held).or_insert(sharing);
            for base in project.class_info(held).mro.iter().skip(1) {
                found.entry(*base).or_insert(sharing);
            }
        }
    }
}
