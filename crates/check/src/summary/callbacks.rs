//! Functions as values: which are stored where, and where a stored or handed-in one is called.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::paths::{self, Argument, ObjectPath, Root};
use crate::body::{Body, Display, Op, Val};
use crate::contexts::Contexts;
use crate::project::{FuncId, Project};
use crate::types::{Slot, Type, TypeMap};

/// How many functions are kept for one slot.
const FUNCTIONS_MAX: usize = 64;
/// Of how many functions a slot that holds one is taken to hold any.
const ALONE_MAX: usize = 3;
/// How many parameters a value is followed through.
const FLOWS_MAX: usize = 4096;

/// Where a function that is called comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// It is a parameter.
    Param(u32),
    /// It is an element of a parameter.
    ParamElement(u32),
    /// It is stored, alone or in a container.
    Slot(Slot),
}

/// A function that is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionValue {
    /// The function.
    pub func: FuncId,
    /// The object that it is bound to, if that is known everywhere.
    pub object: ObjectPath,
}

/// What is stored where.
#[derive(Debug, Default)]
pub struct Callbacks {
    stored: FxHashMap<Slot, Vec<FunctionValue>>,
    /// Slots that a parameter of some function is stored into.
    from_params: FxHashSet<Slot>,
}

enum Value {
    Function(FunctionValue),
    Param(u32),
}

/// Collects what is stored.
#[must_use]
pub fn collect(project: &Project, types: &TypeMap, contexts: &Contexts) -> Callbacks {
    let mut found = Callbacks::default();
    let mut flows: Vec<(FuncId, u32, Slot)> = Vec::new();
    for func in project.function_ids() {
        let body = &project.function(func).body;
        for val in body.acts() {
            let Some((slots, values)) = stored(project, types, func, body, val) else { continue };
            for value in values {
                for slot in &slots {
                    found.add(project, types, func, value, *slot, &mut flows);
                }
            }
        }
    }
    let mut seen: FxHashSet<(FuncId, u32, Slot)> = FxHashSet::default();
    while let Some((func, param, slot)) = flows.pop() {
        if !seen.insert((func, param, slot)) || seen.len() > FLOWS_MAX {
            continue;
        }
        found.from_params.insert(slot);
        for site in contexts.callers[func.0 as usize].iter().filter(|site| !site.as_value && !site.guessed) {
            if let Some(Argument::Value(value)) = paths::argument(project, types, site, param) {
                found.add(project, types, site.caller, value, slot, &mut flows);
            }
        }
    }
    found
}

impl Callbacks {
    /// The functions that a slot, or a container in it, holds.
    #[must_use]
    pub fn stored(&self, slot: Slot) -> &[FunctionValue] {
        self.stored.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The functions that a call of what a slot holds runs. One function that each object was made with may be any
    /// of many: then none is taken.
    #[must_use]
    pub fn run_by(&self, slot: Slot, alone: bool) -> &[FunctionValue] {
        let stored = self.stored(slot);
        if alone && stored.len() > ALONE_MAX { &[] } else { stored }
    }

    /// Does the slot hold what some caller handed in?
    #[must_use]
    pub fn is_handed_in(&self, slot: Slot) -> bool {
        self.from_params.contains(&slot)
    }

    fn add(
        &mut self,
        project: &Project,
        types: &TypeMap,
        func: FuncId,
        value: Val,
        slot: Slot,
        flows: &mut Vec<(FuncId, u32, Slot)>,
    ) {
        for value in values(project, types, func, value) {
            match value {
                Value::Function(value) => {
                    let known = self.stored.entry(slot).or_default();
                    if known.len() < FUNCTIONS_MAX && !known.contains(&value) {
                        known.push(value);
                    }
                }
                Value::Param(idx) => flows.push((func, idx, slot)),
            }
        }
    }
}

/// The functions that an expression stands for, as seen from outside the function.
#[must_use]
pub fn functions(project: &Project, types: &TypeMap, func: FuncId, val: Val) -> Vec<FunctionValue> {
    let all = values(project, types, func, val).into_iter();
    all.filter_map(|value| match value {
        Value::Function(value) => Some(value),
        Value::Param(_) => None,
    })
    .collect()
}

fn values(project: &Project, types: &TypeMap, func: FuncId, val: Val) -> SmallVec<[Value; 2]> {
    let body = &project.function(func).body;
    let mut found = SmallVec::new();
    let mut work = vec![(val, 0)];
    while let Some((at, depth)) = work.pop() {
        if depth > 4 {
            continue;
        }
        match body.op(at) {
            Op::Param(idx) => {
                if project.function(func).class.is_none() || idx > 0 {
                    found.push(Value::Param(idx));
                }
            }
            Op::Local(local) => {
                for store in body.reaching(local, at) {
                    match body.op(store) {
                        Op::StoreLocal { value, .. } => work.push((value, depth + 1)),
                        Op::Param(_) => work.push((store, depth + 1)),
                        _ => {}
                    }
                }
            }
            Op::Choice { then, other, .. } => work.extend([(then, depth + 1), (other, depth + 1)]),
            Op::Either(left, right) => work.extend([(left, depth + 1), (right, depth + 1)]),
            Op::Display(Display::Tuple | Display::List, args) => {
                work.extend(body.args(args).iter().map(|arg| (arg.value, depth + 1)));
            }
            Op::Call { args, .. } => {
                let wraps = types.external_callee(project, func, at).is_some_and(|name| {
                    matches!(name.as_str(), "functools.partial" | "weakref.WeakMethod" | "weakref.ref")
                });
                if let (true, Some(arg)) = (wraps, body.args(args).first()) {
                    work.push((arg.value, depth + 1));
                }
            }
            op => {
                for of in types.of(func, at) {
                    let (Type::Function(callee) | Type::Method(callee)) = *of else { continue };
                    let object = match op {
                        Op::Attr { base, .. } => outside(paths::of(project, types, func, base)),
                        _ => ObjectPath::unknown(),
                    };
                    found.push(Value::Function(FunctionValue { func: callee, object }));
                }
            }
        }
    }
    found
}

/// Only globals and classes mean the same object everywhere.
fn outside(path: ObjectPath) -> ObjectPath {
    match path.root {
        Root::Global(..) | Root::Class(_) => path,
        _ => ObjectPath::unknown(),
    }
}

/// The slots that a node stores to, and the values.
type Stored = (SmallVec<[Slot; 2]>, SmallVec<[Val; 2]>);

/// What a node stores, and where.
fn stored(project: &Project, types: &TypeMap, func: FuncId, body: &Body, val: Val) -> Option<Stored> {
    match body.op(val) {
        Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } => {
            if matches!(body.op(value), Op::Function(_) | Op::Class(_) | Op::Import(_) | Op::Call { .. }) {
                return None;
            }
            Some((types.slots_of(project, func, val), SmallVec::from_slice(&[value])))
        }
        Op::StoreItem { base, value, .. } => {
            Some((types.slots_of(project, func, container(body, base)), SmallVec::from_slice(&[value])))
        }
        Op::Call { func: target, args } => {
            let Op::Attr { base, name } = body.op(target) else { return None };
            if !matches!(name.as_str(), "append" | "add" | "appendleft" | "insert" | "setdefault") {
                return None;
            }
            let values = body.args(args).iter().map(|arg| arg.value).collect();
            Some((types.slots_of(project, func, container(body, base)), values))
        }
        _ => None,
    }
}

/// `x[k]`, `x.get(k)`, `list(x)`, `x.values()`: the container `x`.
fn container(body: &Body, val: Val) -> Val {
    let mut at = val;
    for _ in 0..4 {
        at = match body.op(at) {
            Op::Item { base, .. } => base,
            Op::Local(_) if body.origin(at) != at => body.origin(at),
            Op::Call { func, args } => match (body.op(func), body.args(args)) {
                (Op::Attr { base, name }, _)
                    if matches!(
                        name.as_str(),
                        "get" | "pop" | "popleft" | "setdefault" | "values" | "items" | "copy"
                    ) =>
                {
                    base
                }
                (Op::Global(name), [arg, ..])
                    if matches!(name.as_str(), "list" | "tuple" | "reversed" | "sorted" | "iter" | "enumerate") =>
                {
                    arg.value
                }
                _ => break,
            },
            _ => break,
        };
    }
    at
}

/// A source, and the object that holds its slot.
pub type Sourced = (Source, Option<Val>);

/// Where the function that a call calls comes from, if it is no plain call.
#[must_use]
pub fn source(project: &Project, types: &TypeMap, func: FuncId, call: Val) -> SmallVec<[Sourced; 2]> {
    let body = &project.function(func).body;
    let mut found = SmallVec::new();
    let Op::Call { func: target, .. } = body.op(call) else { return found };
    match body.op(target) {
        Op::Local(local) => {
            for store in body.reaching(local, target) {
                match body.op(store) {
                    Op::Param(idx) if idx > 0 || project.function(func).class.is_none() => {
                        found.push((Source::Param(idx), None));
                    }
                    Op::StoreLocal { value, .. } => taken_out(project, types, func, body, value, &mut found),
                    _ => {}
                }
            }
        }
        Op::Item { .. } => taken_out(project, types, func, body, target, &mut found),
        Op::Attr { .. } | Op::Global(_) => {
            let slots = types.slots_of(project, func, target);
            let known = types.of(func, target);
            if !known.iter().any(|of| matches!(of, Type::Class(_) | Type::Method(_) | Type::External(_))) {
                found.extend(slots.into_iter().map(|slot| (Source::Slot(slot), base_of(body, target))));
            }
        }
        _ => {}
    }
    found
}

fn taken_out(
    project: &Project,
    types: &TypeMap,
    func: FuncId,
    body: &Body,
    value: Val,
    found: &mut SmallVec<[Sourced; 2]>,
) {
    let mut at = value;
    if let Op::Part(of, _) = body.op(at) {
        at = of;
    }
    let over = match body.op(at) {
        Op::Next(iter) => match body.op(iter) {
            Op::Iter { over, .. } => over,
            _ => return,
        },
        Op::Item { .. } | Op::Call { .. } => at,
        Op::Attr { .. } | Op::Global(_) => at,
        _ => return,
    };
    let base = container(body, over);
    match body.op(base) {
        Op::Param(idx) if idx > 0 || project.function(func).class.is_none() => {
            found.push((Source::ParamElement(idx), None));
        }
        Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => {
            let slots = types.slots_of(project, func, base).into_iter();
            found.extend(slots.map(|slot| (Source::Slot(slot), base_of(body, base))));
        }
        _ => {}
    }
}

/// The object that an attribute is read from.
#[must_use]
pub fn base_of(body: &Body, val: Val) -> Option<Val> {
    match body.op(body.origin(val)) {
        Op::Attr { base, .. } => Some(base),
        _ => None,
    }
}
