//! What a call of a function does to others: locks that it takes, what it waits for, whether it logs, and which
//! functions that were handed in it calls. Callees before callers, to a fixed point.
//!
//! Only functions that run while some lock is held, or that enter on a thread of their own, are summarised: nobody
//! asks about the others.

use facts::{LockKind, LockSet, PlaceId, cycle};
use rustc_hash::FxHashMap;

use super::callbacks::{self, Callbacks, FunctionValue, Source};
use super::paths::{self, Argument, ObjectPath, Root};
use super::waits::{self, Acquires, Wait};
use super::{Held, Summaries};
use crate::body::{BlockKind, Op, Val};
use crate::contexts::{CallSite, Contexts};
use crate::name::Name;
use crate::parallel;
use crate::project::{FuncId, Project};
use crate::types::{Slot, Std, Type, TypeMap};

const ROUNDS: usize = 6;
/// Of how many methods with a name the method of an unknown receiver may be one.
const GUESSES_MAX: usize = 2;
/// How many locks, and how many waits, one summary keeps.
const EACH_MAX: usize = 24;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Takes a lock, waiting for it.
    Takes {
        /// The lock.
        place: PlaceId,
        /// Which object it is.
        path: ObjectPath,
    },
    /// Waits for something else.
    Waits(Wait),
    /// Writes to a log.
    Logs,
    /// Calls what was handed in.
    Calls(Source),
}

/// Something that a call of a function does.
#[derive(Clone, Debug)]
pub struct Effect {
    /// What.
    pub what: What,
    /// The node of this function that does it, or that leads there.
    pub at: Val,
    /// Where it is done in the end.
    pub end: (FuncId, Val),
    /// The callee that does it, and the index of its effect.
    pub via: Option<(FuncId, u32)>,
    /// Locks taken on the way and held at the end, those held on entry aside.
    pub under: LockSet,
    /// Does every step follow from plain calls?
    pub sure: bool,
    /// Is it done only where a test of a parameter says so?
    pub depends: bool,
    /// Is a timeout given?
    pub bounded: bool,
    /// The object that held the function that was called on the way.
    pub holder: Option<ObjectPath>,
}

/// The effects of all functions.
#[derive(Debug, Default)]
pub struct Effects {
    of: Vec<Vec<Effect>>,
    direct: Vec<Vec<Effect>>,
    relevant: Vec<bool>,
    /// Functions as values.
    pub callbacks: Callbacks,
}

/// All that effects are read from.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Modules, classes, functions.
    pub project: &'a Project,
    /// Types of nodes and slots.
    pub types: &'a TypeMap,
    /// Who calls whom.
    pub contexts: &'a Contexts,
}

pub(super) fn compute(given: Given<'_>, summaries: &Summaries) -> Effects {
    let count = summaries.functions.len();
    let (callbacks, direct) = parallel::both(
        || callbacks::collect(given.project, given.types, given.contexts),
        || parallel::map(given.project.function_ids().collect(), |func| direct(given, summaries, func)),
    );
    let mut effects = Effects { of: vec![Vec::new(); count], direct, relevant: vec![false; count], callbacks };
    effects.mark(given, summaries);
    let order = effects.order(given);
    for _ in 0..ROUNDS {
        let mut changed = false;
        for func in &order {
            let fresh = effects.within(given, summaries, *func, 0, u32::MAX);
            changed |= effects.merge(*func, fresh);
        }
        if !changed {
            break;
        }
    }
    effects
}

impl Effects {
    /// What a call of the function does.
    #[must_use]
    pub fn of(&self, func: FuncId) -> &[Effect] {
        &self.of[func.0 as usize]
    }

    /// Marks functions that run under a lock, or that enter on their own.
    fn mark(&mut self, given: Given<'_>, summaries: &Summaries) {
        let mut work: Vec<FuncId> = Vec::new();
        for func in given.project.function_ids() {
            let held = &summaries.functions[func.0 as usize].held;
            let runs_under = |at: Val| held.iter().any(|held| held.first <= at.0 && at.0 < held.end);
            if held.is_empty() {
                continue;
            }
            work.extend(self.leads(given, func).into_iter().filter(|(at, _)| runs_under(*at)).map(|(_, to)| to));
        }
        for group in &given.contexts.groups {
            use crate::contexts::EntryKind::{Api, AsyncApi, Main};
            if !matches!(group.kind, Api | AsyncApi | Main) {
                work.extend(group.entries.iter().map(|entry| entry.func));
            }
        }
        while let Some(func) = work.pop() {
            if std::mem::replace(&mut self.relevant[func.0 as usize], true) {
                continue;
            }
            work.extend(self.leads(given, func).into_iter().map(|(_, to)| to));
        }
    }

    /// Whom a function runs, by calls and by calling what was stored.
    fn leads(&self, given: Given<'_>, func: FuncId) -> Vec<(Val, FuncId)> {
        let calls = given.contexts.calls[func.0 as usize].iter().filter(|site| !site.spawns && is_likely(given, site));
        let mut found: Vec<(Val, FuncId)> = calls.map(|site| (site.at, site.callee)).collect();
        for effect in &self.direct[func.0 as usize] {
            if let What::Calls(Source::Slot(slot)) = effect.what {
                let run = self.callbacks.run_by(slot, is_alone(given, func, effect.at));
                found.extend(run.iter().map(|value| (effect.at, value.func)));
            }
        }
        found
    }

    fn order(&self, given: Given<'_>) -> Vec<FuncId> {
        let edges: Vec<Vec<u32>> = given
            .project
            .function_ids()
            .map(|func| match self.relevant[func.0 as usize] {
                true => self.leads(given, func).into_iter().map(|(_, to)| to.0).collect(),
                false => Vec::new(),
            })
            .collect();
        let parts = cycle::components(edges.len(), |node| &edges[node]);
        parts.into_iter().flatten().map(FuncId).filter(|func| self.relevant[func.0 as usize]).collect()
    }

    fn merge(&mut self, func: FuncId, fresh: Vec<Effect>) -> bool {
        let known = &mut self.of[func.0 as usize];
        let mut changed = false;
        for effect in fresh {
            let same = |other: &Effect| match (&other.what, &effect.what) {
                (What::Waits(_), What::Waits(_)) => other.end == effect.end,
                (one, two) => one == two,
            };
            if let Some(other) = known.iter_mut().find(|other| same(other)) {
                let under = other.under.intersection(&effect.under);
                changed |= under != other.under || other.depends && !effect.depends;
                other.under = under;
                other.depends &= effect.depends;
                if other.holder != effect.holder {
                    other.holder = None;
                }
                continue;
            }
            let kind = std::mem::discriminant(&effect.what);
            if known.iter().filter(|other| std::mem::discriminant(&other.what) == kind).count() < EACH_MAX {
                known.push(effect);
                changed = true;
            }
        }
        changed
    }

    /// What the nodes of a stretch of a function do, through calls as well.
    #[must_use]
    pub fn within(&self, given: Given<'_>, summaries: &Summaries, func: FuncId, first: u32, end: u32) -> Vec<Effect> {
        let inside = |at: Val| first <= at.0 && at.0 < end;
        let mut found: Vec<Effect> = Vec::new();
        for effect in self.direct[func.0 as usize].iter().filter(|effect| inside(effect.at)) {
            found.push(effect.clone());
            if let What::Calls(Source::Slot(slot)) = effect.what {
                for value in self.callbacks.run_by(slot, is_alone(given, func, effect.at)) {
                    self.expand(given, summaries, func, effect.at, value, effect.holder.as_ref(), &mut found);
                }
            }
        }
        for site in given.contexts.calls[func.0 as usize].iter().filter(|site| inside(site.at)) {
            if runs_here(given, site) {
                self.through(given, summaries, site, &mut found);
            }
        }
        found
    }

    /// The effects of a callee, as the caller sees them.
    fn through(&self, given: Given<'_>, summaries: &Summaries, site: &CallSite, found: &mut Vec<Effect>) {
        for (idx, effect) in self.of[site.callee.0 as usize].iter().enumerate() {
            let holder = effect.holder.as_ref().map(|path| paths::at_caller(given.project, given.types, site, path));
            // A new object has no callbacks yet.
            if holder.as_ref().is_some_and(|path| is_new(given, site.caller, path, site.at)) {
                continue;
            }
            let what = match &effect.what {
                What::Takes { place, path } => {
                    let path = paths::at_caller(given.project, given.types, site, path);
                    if is_new(given, site.caller, &path, site.at) {
                        continue;
                    }
                    What::Takes { place: *place, path }
                }
                What::Calls(Source::Param(param)) => {
                    let Some(Argument::Value(val)) = paths::argument(given.project, given.types, site, *param) else {
                        continue;
                    };
                    for value in callbacks::functions(given.project, given.types, site.caller, val) {
                        self.expand(given, summaries, site.caller, site.at, &value, None, found);
                    }
                    match callbacks_param(given, site.caller, val) {
                        Some(param) => What::Calls(Source::Param(param)),
                        None => continue,
                    }
                }
                What::Calls(Source::ParamElement(param)) => {
                    let Some(Argument::Value(val)) = paths::argument(given.project, given.types, site, *param) else {
                        continue;
                    };
                    let body = &given.project.function(site.caller).body;
                    let holder = callbacks::base_of(body, val);
                    let holder = holder.map(|base| paths::of(given.project, given.types, site.caller, base));
                    for slot in given.types.slots_of(given.project, site.caller, val) {
                        for value in self.callbacks.stored(slot) {
                            self.expand(given, summaries, site.caller, site.at, value, holder.as_ref(), found);
                        }
                    }
                    continue;
                }
                // Told to the caller where the call stands.
                What::Calls(Source::Slot(_)) => effect.what.clone(),
                what => what.clone(),
            };
            let depends = effect.depends || depends(given, site.caller, site.at);
            let sure = effect.sure && !site.guessed;
            let step = step(summaries, site.caller, site.at, (site.callee, idx), effect, what);
            found.push(Effect { sure, depends, holder, ..step });
        }
    }

    /// The effects of a function that was handed on, called at a node.
    #[allow(clippy::too_many_arguments)] // who calls what where
    fn expand(
        &self,
        given: Given<'_>,
        summaries: &Summaries,
        func: FuncId,
        at: Val,
        value: &FunctionValue,
        holder: Option<&ObjectPath>,
        found: &mut Vec<Effect>,
    ) {
        for (idx, effect) in self.of[value.func.0 as usize].iter().enumerate() {
            let what = match &effect.what {
                What::Takes { place, path } => {
                    let root = match path.root {
                        Root::Param(0) if given.project.function(value.func).class.is_some() => value.object.clone(),
                        Root::Global(..) | Root::Class(_) | Root::Local(..) => ObjectPath::at(path.root),
                        _ => ObjectPath::unknown(),
                    };
                    let path = path.attrs.iter().fold(root, |path, name| path.attr(*name));
                    What::Takes { place: *place, path }
                }
                What::Calls(_) => continue,
                what => what.clone(),
            };
            let depends = effect.depends || depends(given, func, at);
            let step = step(summaries, func, at, (value.func, idx), effect, what);
            found.push(Effect { sure: false, depends, holder: holder.cloned(), ..step });
        }
    }
}

fn step(
    summaries: &Summaries,
    func: FuncId,
    at: Val,
    (callee, idx): (FuncId, usize),
    effect: &Effect,
    what: What,
) -> Effect {
    let under = effect.under.union(&held_here(summaries, func, at));
    Effect { what, at, via: Some((callee, crate::project::as_u32(idx))), under, ..effect.clone() }
}

/// Is the function that a call runs alone in its place, not one of a container?
fn is_alone(given: Given<'_>, func: FuncId, call: Val) -> bool {
    let body = &given.project.function(func).body;
    match body.op(call) {
        Op::Call { func: target, .. } => matches!(body.op(target), Op::Attr { .. } | Op::Global(_)),
        _ => false,
    }
}

/// Was the object made in this function, and given to nobody yet?
fn is_new(given: Given<'_>, func: FuncId, path: &ObjectPath, at: Val) -> bool {
    let (owner, local) = match path.root {
        Root::Fresh => return true,
        Root::Local(owner, local) if owner == func => (owner, local),
        _ => return false,
    };
    let body = &given.project.function(owner).body;
    let [store] = body.stores[local.0 as usize][..] else { return false };
    let Op::StoreLocal { value, .. } = body.op(store) else { return false };
    let Op::Call { func: target, .. } = body.op(value) else { return false };
    let makes = given.types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)));
    makes
        && body.vals().take(at.0 as usize).all(|val| {
            let mut used = false;
            body.operands(val, |operand| used |= matches!(body.op(operand), Op::Local(other) if other == local));
            !used || body.excludes(val, at) || matches!(body.op(val), Op::Attr { .. })
        })
}

/// Locks that a function itself holds at a node.
fn held_here(summaries: &Summaries, func: FuncId, at: Val) -> LockSet {
    let held = summaries.functions[func.0 as usize].held.iter();
    held.filter(|held| held.first <= at.0 && at.0 < held.end).map(|held| held.lock).collect()
}

fn callbacks_param(given: Given<'_>, func: FuncId, val: Val) -> Option<u32> {
    let body = &given.project.function(func).body;
    match body.op(body.origin(val)) {
        Op::Param(idx) => Some(idx),
        _ => None,
    }
}

/// A receiver of unknown type: the few methods of that name are taken, and the step is no sure one.
fn is_likely(given: Given<'_>, site: &CallSite) -> bool {
    let name = given.project.function(site.callee).name;
    !site.guessed || given.project.methods_by_name.get(&name).is_some_and(|methods| methods.len() <= GUESSES_MAX)
}

/// Does a call run its callee there and then? Coroutines run where they are awaited, generators where they are
/// iterated; what is handed on as a value runs later, unless a built-in calls it at once.
fn runs_here(given: Given<'_>, site: &CallSite) -> bool {
    if site.spawns || !is_likely(given, site) {
        return false;
    }
    let caller = given.project.function(site.caller);
    let body = &caller.body;
    if site.as_value {
        let at_once = given.types.external_callee(given.project, site.caller, site.at).is_some_and(|name| {
            matches!(name.as_str(), "map" | "filter" | "sorted" | "min" | "max" | "functools.reduce" | "any" | "all")
        });
        return at_once;
    }
    let callee = given.project.function(site.callee);
    let flags = given.types.flags(site.callee);
    if callee.is_async && !matches!(body.op(site.at), Op::Enter { .. } | Op::Iter { .. }) {
        return body.vals().skip(site.at.0 as usize + 1).take(4).any(|next| match body.op(next) {
            Op::Await(of) => of == site.at,
            _ => false,
        });
    }
    if callee.is_generator && matches!(body.op(site.at), Op::Call { .. }) {
        return body.vals().skip(site.at.0 as usize + 1).take(4).any(|next| match body.op(next) {
            Op::Enter { context, .. } => flags.is_context_manager && context == site.at,
            _ if flags.is_context_manager => false,
            Op::Iter { over, .. } => over == site.at,
            Op::Call { args, .. } => body.args(args).iter().any(|arg| arg.value == site.at),
            _ => false,
        });
    }
    true
}

/// Does a node run only where a flag that is a parameter is set, or is not?
fn depends(given: Given<'_>, func: FuncId, at: Val) -> bool {
    let body = &given.project.function(func).body;
    body.enclosing(at).any(|(_, block)| match block.kind {
        BlockKind::Then(test) | BlockKind::Else(test) => {
            let mut work = vec![test];
            let mut steps = 0;
            while let Some(at) = work.pop() {
                steps += 1;
                if steps > 16 {
                    break;
                }
                if let Op::Local(_) = body.op(at) {
                    if matches!(body.op(body.origin(at)), Op::Param(idx) if idx > 0) {
                        return true;
                    }
                    continue;
                }
                match body.op(at) {
                    Op::Not(_) | Op::Both(..) | Op::Either(..) => body.operands(at, |operand| work.push(operand)),
                    Op::Compare { left, right, .. } if matches!(body.op(right), Op::Truth(_)) => work.push(left),
                    _ => {}
                }
            }
            false
        }
        _ => false,
    })
}

/// What the nodes of a function do by themselves.
fn direct(given: Given<'_>, summaries: &Summaries, func: FuncId) -> Vec<Effect> {
    let body = &given.project.function(func).body;
    let mut found = Vec::new();
    let mut holders: Vec<(Source, Val, Option<ObjectPath>)> = Vec::new();
    let mut add = |what: What, at: Val, bounded: bool| {
        let under = held_here(summaries, func, at);
        let depends = depends(given, func, at);
        let end = (func, at);
        found.push(Effect { what, at, end, via: None, under, sure: true, depends, bounded, holder: None });
    };
    for held in &summaries.functions[func.0 as usize].held {
        let waits = held.lock.kind == LockKind::Thread && waits::acquires(body, held.at) == Acquires::Waits;
        if waits {
            add(What::Takes { place: held.lock.place, path: lock_path(given, summaries, func, held) }, held.at, false);
        }
    }
    for val in body.calls() {
        if !matches!(body.op(val), Op::Call { .. }) {
            continue;
        }
        if let Some((wait, bounded)) = waits::of(given.project, given.types, func, val) {
            add(What::Waits(wait), val, bounded);
        } else if logs(given, func, val) {
            add(What::Logs, val, false);
        } else {
            for (source, base) in callbacks::source(given.project, given.types, func, val) {
                add(What::Calls(source), val, false);
                let holder = base.map(|base| paths::of(given.project, given.types, func, base));
                holders.push((source, val, holder));
            }
        }
    }
    for effect in &mut found {
        let held = holders.iter().find(|(source, at, _)| *at == effect.at && effect.what == What::Calls(*source));
        effect.holder = held.and_then(|(.., holder)| holder.clone());
    }
    found
}

fn logs(given: Given<'_>, func: FuncId, call: Val) -> bool {
    let body = &given.project.function(func).body;
    let Op::Call { func: target, .. } = body.op(call) else { return false };
    let Op::Attr { base, name } = body.op(target) else { return false };
    let speaks =
        matches!(name.as_str(), "debug" | "info" | "warning" | "warn" | "error" | "exception" | "critical" | "log");
    speaks
        && (given.types.std(given.project, func, base) == Some(Std::Logger)
            || given.types.of(func, base).iter().any(|of| matches!(of, Type::External(name) if *name == "logging")))
}

/// Which object the lock of a held stretch is.
#[must_use]
pub fn lock_path(given: Given<'_>, summaries: &Summaries, func: FuncId, held: &Held) -> ObjectPath {
    let body = &given.project.function(func).body;
    let slot = summaries.slot(held.lock.place);
    let named = |base: Val| {
        let path = paths::of(given.project, given.types, func, base);
        let direct = given.types.slots_of(given.project, func, base);
        // A condition made over a lock is that lock; `with self:` takes a lock of `self`.
        match slot {
            _ if direct.contains(&slot) => path,
            Slot::Attr(_, name) if matches!(body.op(base), Op::Attr { .. }) && is_condition(given, func, base) => {
                let mut path = path;
                path.attrs.pop();
                path.attr(name)
            }
            Slot::Attr(class, name) => match given.types.of(func, base).iter().any(|of| is_a(given, *of, class)) {
                true => path.attr(name),
                false => ObjectPath::unknown(),
            },
            Slot::Global(module, name) => ObjectPath::at(Root::Global(module, name)),
            Slot::Local(owner, local) => ObjectPath::at(Root::Local(owner, local)),
        }
    };
    match body.nodes.get(held.at.0 as usize).map(|node| node.op) {
        Some(Op::Enter { context, .. }) => match body.op(context) {
            Op::Call { func: target, .. } => called_path(given, func, target, slot),
            _ => named(context),
        },
        Some(Op::Call { func: target, .. }) => match body.op(target) {
            Op::Attr { base, .. } => named(base),
            _ => ObjectPath::unknown(),
        },
        // A decorator that takes a lock of the object.
        _ => match slot {
            Slot::Attr(_, name) => ObjectPath::at(Root::Param(0)).attr(name),
            Slot::Global(module, name) => ObjectPath::at(Root::Global(module, name)),
            Slot::Local(owner, local) => ObjectPath::at(Root::Local(owner, local)),
        },
    }
}

/// `with self.locked():` takes a lock of `self`.
fn called_path(given: Given<'_>, func: FuncId, target: Val, slot: Slot) -> ObjectPath {
    let body = &given.project.function(func).body;
    match (slot, body.op(target)) {
        (Slot::Global(module, name), _) => ObjectPath::at(Root::Global(module, name)),
        (Slot::Attr(class, name), Op::Attr { base, .. })
            if given.types.of(func, base).iter().any(|of| is_a(given, *of, class)) =>
        {
            paths::of(given.project, given.types, func, base).attr(name)
        }
        _ => ObjectPath::unknown(),
    }
}

fn is_condition(given: Given<'_>, func: FuncId, val: Val) -> bool {
    given.types.std(given.project, func, val) == Some(Std::Condition)
}

fn is_a(given: Given<'_>, of: Type, class: crate::project::ClassId) -> bool {
    match of {
        Type::Instance(sub) | Type::Class(sub) | Type::Super(sub) => given.project.class_info(sub).mro.contains(&class),
        _ => false,
    }
}

/// By slot: where a synchronisation object is made and stored there.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    /// The function.
    pub func: FuncId,
    /// The node that stores it.
    pub store: Val,
    /// The call that makes it.
    pub call: Val,
    /// What is called, such as `threading.Lock`.
    pub name: Name,
}

/// All places where locks, events, queues and futures are made and stored.
#[must_use]
pub fn makers(given: Given<'_>) -> FxHashMap<Slot, Vec<Maker>> {
    let mut found: FxHashMap<Slot, Vec<Maker>> = FxHashMap::default();
    for func in given.project.function_ids() {
        let body = &given.project.function(func).body;
        for store in body.writes() {
            let (Op::StoreAttr { value, .. }
            | Op::StoreGlobal { value, .. }
            | Op::StoreLocal { value, .. }
            | Op::StoreCaptured { value, .. }) = body.op(store)
            else {
                continue;
            };
            let call = body.origin(value);
            let Op::Call { func: target, .. } = body.op(call) else { continue };
            let Some(std) = given.types.std(given.project, func, call) else { continue };
            if !(std.is_thread_lock() || std.is_loop_bound() || matches!(std, Std::Event | Std::Queue)) {
                continue;
            }
            let name = given.types.external_callee(given.project, func, call).or(match body.op(target) {
                Op::Attr { name, .. } => Some(name),
                _ => None,
            });
            let Some(name) = name else { continue };
            for slot in given.types.slots_of(given.project, func, store) {
                found.entry(slot).or_default().push(Maker { func, store, call, name });
            }
            if let Op::StoreLocal { local, .. } = body.op(store) {
                found.entry(Slot::Local(func, local)).or_default().push(Maker { func, store, call, name });
            }
        }
    }
    found
}
