//! Which locks are held where inside a function.

use facts::{Lock, LockKind, LockMode};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Held, Summaries};
use crate::annotations::{Annotations, DeclaredLock};
use crate::body::{BlockKind, Op, Val};
use crate::name::Name;
use crate::parallel;
use crate::project::{ClassId, FuncId, ModuleId, Project, Symbol};
use crate::types::{Slot, Std, Type, TypeMap};

/// A lock as an expression names it.
pub(super) type Found = SmallVec<[(Slot, LockKind); 2]>;

struct Finder<'a> {
    project: &'a Project,
    types: &'a TypeMap,
    annotations: &'a Annotations,
    /// A condition made over a lock is that lock.
    aliases: FxHashMap<Slot, Slot>,
}

pub(super) fn find(project: &Project, types: &TypeMap, annotations: &Annotations, summaries: &mut Summaries) {
    let mut finder = Finder { project, types, annotations, aliases: FxHashMap::default() };
    project.function_ids().for_each(|func| finder.alias(func));
    let regions = parallel::map(project.function_ids().collect(), |func| {
        let mut regions = Vec::new();
        finder.with_blocks(func, &mut regions);
        finder.acquired(func, &mut regions);
        finder.decorators(func, &mut regions);
        regions
    });
    // Places are numbered in the order of the text.
    for (func, regions) in project.function_ids().zip(regions) {
        let held = regions
            .into_iter()
            .map(|(first, end, (slot, kind), at)| {
                let place = summaries.place(finder.aliases.get(&slot).copied().unwrap_or(slot));
                Held { first, end, lock: Lock { place, kind, mode: LockMode::Exclusive }, at }
            })
            .collect();
        summaries.functions[func.0 as usize].held = held;
    }
    finder.declared(summaries);
    summaries.lock_of_condition = finder.aliases;
}

type Region = (u32, u32, (Slot, LockKind), Val);

impl Finder<'_> {
    /// The locks that annotations name.
    fn declared(&self, summaries: &mut Summaries) {
        let lock = |summaries: &mut Summaries, of: &DeclaredLock| {
            let place = summaries.place(self.aliases.get(&of.slot).copied().unwrap_or(of.slot));
            Lock { place, kind: of.kind, mode: LockMode::Exclusive }
        };
        let mut guards: Vec<_> = self.annotations.guards.iter().collect();
        guards.sort_unstable_by_key(|(slot, of)| (of.span, **slot));
        for (slot, of) in guards {
            let (place, lock) = (summaries.place(*slot), lock(summaries, of));
            summaries.declared_guards.insert(place, (lock, of.span));
        }
        let mut required: Vec<_> = self.annotations.required.iter().collect();
        required.sort_unstable_by_key(|(func, _)| **func);
        for (func, locks) in required {
            for of in locks {
                let lock = lock(summaries, of);
                summaries.functions[func.0 as usize].required.insert(lock);
            }
        }
    }

    fn alias(&mut self, func: FuncId) {
        let body = &self.project.function(func).body;
        for val in body.writes() {
            let (Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. }) = body.op(val) else { continue };
            let Op::Call { args, .. } = body.op(value) else { continue };
            if self.types.std(self.project, func, value) != Some(Std::Condition) {
                continue;
            }
            let Some(arg) = body.args(args).first() else { continue };
            let of = self.types.slots_of(self.project, func, arg.value);
            let to = self.types.slots_of(self.project, func, val);
            if let ([lock], [condition]) = (&of[..], &to[..]) {
                self.aliases.insert(*condition, *lock);
            }
        }
    }

    fn with_blocks(&self, func: FuncId, regions: &mut Vec<Region>) {
        let body = &self.project.function(func).body;
        for block in &body.blocks {
            let BlockKind::With(enter) = block.kind else { continue };
            let Op::Enter { context, is_async } = body.op(enter) else { continue };
            for lock in self.lock_of(func, context, Some(is_async), 0) {
                regions.push((block.first, block.end, lock, enter));
            }
        }
    }

    /// `acquire()` ... `release()`, and `if lock.acquire(False): ...`.
    fn acquired(&self, func: FuncId, regions: &mut Vec<Region>) {
        let body = &self.project.function(func).body;
        for val in body.calls() {
            let Some((base, "acquire" | "__enter__")) = method_call(body, val) else { continue };
            let awaited = body
                .vals()
                .skip(val.0 as usize)
                .take(2)
                .any(|next| matches!(body.op(next), Op::Await(of) if of == val));
            let locks = self.lock_of(func, base, Some(awaited), 0);
            for lock in locks {
                let end = self.release_after(func, val, lock.0).unwrap_or(body.block(body.node(val).block).end);
                regions.push((val.0 + 1, end.max(val.0 + 1), lock, val));
            }
        }
    }

    fn release_after(&self, func: FuncId, acquire: Val, slot: Slot) -> Option<u32> {
        let body = &self.project.function(func).body;
        let block = body.node(acquire).block;
        // Within the innermost suite that holds both; releases in other branches of the same suite end it too.
        let releases: Vec<Val> = body
            .vals()
            .skip(acquire.0 as usize)
            .filter(|val| {
                method_call(body, *val).is_some_and(|(base, name)| {
                    matches!(name, "release" | "__exit__")
                        && self.types.slots_of(self.project, func, base).contains(&slot)
                        || matches!(name, "release")
                            && self.lock_of(func, base, Some(false), 0).iter().any(|lock| lock.0 == slot)
                })
            })
            .collect();
        let in_finally = |val: &Val| body.enclosing(*val).any(|(_, block)| matches!(block.kind, BlockKind::Finally(_)));
        let chosen = releases
            .iter()
            .find(|val| in_finally(val))
            .or_else(|| releases.iter().find(|val| body.holds(block, **val)));
        chosen.or(releases.last()).map(|val| val.0)
    }

    /// `@synchronized`: a wrapper that calls the function under a lock of its first argument, or of the module.
    fn decorators(&self, func: FuncId, regions: &mut Vec<Region>) {
        let function = self.project.function(func);
        let parent = self.project.sibling(func, function.parent);
        let body = &self.project.function(parent).body;
        for decorator in &function.decorators {
            let target = match body.op(*decorator) {
                Op::Call { func, .. } => func,
                _ => *decorator,
            };
            let end = crate::project::as_u32(function.body.nodes.len());
            let at = Val(0);
            match self.project.symbol_of(parent, target) {
                Some(Symbol::Function(wrapper)) => {
                    for lock in self.wrapper_locks(wrapper, func) {
                        regions.push((0, end, lock, at));
                    }
                }
                Some(Symbol::External(name)) if name.as_str().ends_with("synchronized") => {
                    let slot = match self.project.class_of(func) {
                        Some(class) => Slot::Attr(class, Name::new("synchronized")),
                        None => Slot::Global(self.project.module_of(func), Name::new("synchronized")),
                    };
                    regions.push((0, end, (slot, LockKind::Thread), at));
                }
                _ => {}
            }
        }
    }

    fn wrapper_locks(&self, decorator: FuncId, decorated: FuncId) -> Found {
        let mut found = Found::new();
        let module = self.project.module_of(decorator);
        // What is nested in a function stands right behind it.
        let functions = self.project.modules[module.0 as usize].functions.iter().enumerate();
        for (idx, inner) in functions {
            let id = self.project.func_id(module, crate::body::FuncIdx(crate::project::as_u32(idx)));
            if id <= decorator {
                continue;
            }
            if !self.is_inside(id, decorator) {
                break;
            }
            for block in &inner.body.blocks {
                let BlockKind::With(enter) = block.kind else { continue };
                let Op::Enter { context, is_async } = inner.body.op(enter) else { continue };
                let calls = (block.first..block.end).any(|val| matches!(inner.body.op(Val(val)), Op::Call { func, .. } if matches!(inner.body.op(func), Op::Captured(..))));
                if !calls {
                    continue;
                }
                let kind = if is_async { LockKind::EventLoop } else { LockKind::Thread };
                match (inner.body.op(context), self.project.class_of(decorated)) {
                    (Op::Attr { base, name }, Some(class)) if matches!(inner.body.op(base), Op::Local(local) if local.0 == 0) =>
                    {
                        found.push((Slot::Attr(self.types.owner(self.project, class, name), name), kind));
                    }
                    // A lock in a cell of the decorator guards what it decorates.
                    _ => found.extend(self.lock_of(id, context, Some(is_async), 0)),
                }
            }
        }
        found
    }

    fn is_inside(&self, id: FuncId, outer: FuncId) -> bool {
        let mut at = id;
        for _ in 0..8 {
            let parent = self.project.sibling(at, self.project.function(at).parent);
            if parent == outer {
                return true;
            }
            if parent == at {
                return false;
            }
            at = parent;
        }
        false
    }

    /// The locks that an expression is; `is_async` tells `async with` from `with` where the type is not known.
    fn lock_of(&self, func: FuncId, val: Val, is_async: Option<bool>, depth: usize) -> Found {
        let mut found = Found::new();
        if depth > 3 {
            return found;
        }
        let body = &self.project.function(func).body;
        let kind = match self.types.std(self.project, func, val) {
            Some(Std::Lock | Std::RLock | Std::Condition) => Some(LockKind::Thread),
            Some(Std::AsyncLock | Std::AsyncCondition) => Some(LockKind::EventLoop),
            Some(_) => return found,
            None => None,
        };
        if let Op::Call { func: target, .. } = body.op(val) {
            if kind.is_some() && self.is_constructor(func, target) {
                return found;
            }
            return self.called(func, val, is_async, depth);
        }
        let slots = self.types.slots_of(self.project, func, val);
        let known = self.types.of(func, val);
        let declared = || slots.iter().find_map(|slot| self.annotations.lock_kind(*slot));
        if let Some(kind) = kind.or_else(declared).or_else(|| self.by_name(func, val, known, is_async)) {
            if slots.is_empty() {
                found.push((self.textual(func, val), kind));
            }
            found.extend(slots.into_iter().map(|slot| (slot, kind)));
            return found;
        }
        for of in known {
            if let Type::Instance(class) = of {
                if let Some(kind) = self.lock_class(func, val, *class) {
                    found.extend(slots.iter().map(|slot| (*slot, kind)));
                    continue;
                }
                self.entered_locks(*class, depth, &mut found);
            }
        }
        found
    }

    /// A class of the project that is a lock: it can be acquired and released, and says so by its name or that of
    /// what holds it. (A pool of connections can be acquired from, too.)
    fn lock_class(&self, func: FuncId, val: Val, class: ClassId) -> Option<LockKind> {
        let class_name = self.project.class(class).name.as_str().to_ascii_lowercase();
        let method = |name: &str| self.project.method(class, Name::new(name));
        // `self.acquire = self._lock.acquire`: only the `with` methods stand in the class.
        let entered = || (class_name.ends_with("lock") || class_name.ends_with("mutex")).then_some("__enter__");
        let acquire = method("acquire").or_else(|| entered().and_then(method))?;
        method("release").or_else(|| method("__exit__"))?;
        let named = class_name.contains("lock")
            || class_name.contains("mutex")
            || self.last_name(func, val).is_some_and(|name| says_lock(name.as_str()));
        let kind = if self.project.function(acquire).is_async { LockKind::EventLoop } else { LockKind::Thread };
        named.then_some(kind)
    }

    fn is_constructor(&self, func: FuncId, target: Val) -> bool {
        self.types.of(func, target).iter().any(|of| matches!(of, Type::External(_) | Type::Class(_)))
    }

    /// Nothing is known of the type: a name that says "lock" is believed.
    fn by_name(&self, func: FuncId, val: Val, known: &[Type], is_async: Option<bool>) -> Option<LockKind> {
        let believable = known.iter().all(|of| matches!(of, Type::None | Type::Foreign(_) | Type::External(_)));
        if !believable || !says_lock(self.last_name(func, val)?.as_str()) {
            return None;
        }
        Some(if is_async == Some(true) { LockKind::EventLoop } else { LockKind::Thread })
    }

    fn last_name(&self, func: FuncId, val: Val) -> Option<Name> {
        let body = &self.project.function(func).body;
        match body.op(val) {
            Op::Attr { name, .. } | Op::Global(name) => Some(name),
            Op::Local(local) => Some(body.locals[local.0 as usize]),
            Op::Captured(owner, local) => {
                Some(self.project.function(self.project.sibling(func, owner)).body.locals[local.0 as usize])
            }
            // locks[key]
            Op::Item { base, .. } => self.last_name(func, base),
            _ => None,
        }
    }

    /// A lock of an object whose type is unknown is told apart by its text, within the module.
    fn textual(&self, func: FuncId, val: Val) -> Slot {
        let module: ModuleId = self.project.module_of(func);
        let body = &self.project.function(func).body;
        let mut parts = Vec::new();
        let mut at = val;
        loop {
            match body.op(at) {
                Op::Attr { base, name } => {
                    parts.push(name.as_str());
                    at = base;
                }
                Op::Item { base, .. } => at = base,
                _ => break,
            }
        }
        if let Some(name) = self.last_name(func, at) {
            parts.push(name.as_str());
        }
        parts.reverse();
        Slot::Global(module, Name::new(&format!("?{}", parts.join("."))))
    }

    /// `with self.get_lock():`, or a context manager function that yields under a lock.
    fn called(&self, func: FuncId, call: Val, is_async: Option<bool>, depth: usize) -> Found {
        let mut found = Found::new();
        let body = &self.project.function(func).body;
        for callee in self.types.callees(self.project, func, call) {
            let inner = &self.project.function(callee.func).body;
            let flags = self.types.flags(callee.func);
            for val in inner.vals() {
                match inner.op(val) {
                    Op::Return(Some(value)) if !flags.is_context_manager => {
                        found.extend(self.lock_of(callee.func, value, is_async, depth + 1));
                    }
                    Op::Yield(_) if flags.is_context_manager => {
                        for (_, block) in inner.enclosing(val) {
                            let BlockKind::With(enter) = block.kind else { continue };
                            let Op::Enter { context, is_async } = inner.op(enter) else { continue };
                            found.extend(self.lock_of(callee.func, context, Some(is_async), depth + 1));
                        }
                        found.extend(self.acquired_at(callee.func, val));
                    }
                    _ => {}
                }
            }
        }
        // `with lock.within(0.5):`, `with rw.read_lock():`
        if let (true, Op::Call { func: target, .. }) = (found.is_empty(), body.op(call))
            && let Op::Attr { base, name } = body.op(target)
            && (says_lock(name.as_str()) || name == "within")
        {
            let inner = self.lock_of(func, base, is_async, depth + 1);
            found = if inner.is_empty() && says_lock(name.as_str()) {
                Found::from_slice(&[(self.textual(func, target), LockKind::Thread)])
            } else {
                inner
            };
        }
        found
    }

    /// Locks taken by `acquire()` before a `yield` in a context manager.
    fn acquired_at(&self, func: FuncId, at: Val) -> Found {
        let mut regions = Vec::new();
        self.acquired(func, &mut regions);
        regions
            .into_iter()
            .filter(|(first, end, ..)| *first <= at.0 && at.0 < *end)
            .map(|(_, _, lock, _)| lock)
            .collect()
    }

    /// A class whose `__enter__` takes a lock.
    fn entered_locks(&self, class: ClassId, depth: usize, found: &mut Found) {
        for name in ["__enter__", "__aenter__"] {
            let Some(method) = self.project.method(class, Name::new(name)) else { continue };
            let body = &self.project.function(method).body;
            for val in body.vals() {
                let base = match body.op(val) {
                    Op::Call { .. } => {
                        method_call(body, val).filter(|(_, name)| *name == "acquire" || *name == "__enter__")
                    }
                    _ => None,
                };
                if let Some((base, _)) = base {
                    found.extend(self.lock_of(method, base, Some(name == "__aenter__"), depth + 1));
                }
            }
        }
    }
}

/// `base.name(...)`: the base and the name.
pub(crate) fn method_call(body: &crate::body::Body, call: Val) -> Option<(Val, &'static str)> {
    let Op::Call { func, .. } = body.op(call) else { return None };
    match body.op(func) {
        Op::Attr { base, name } => Some((base, name.as_str())),
        _ => None,
    }
}

/// Does a name say that it is a lock?
#[must_use]
pub(crate) fn says_lock(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.split('_').any(|word| {
        matches!(word, "lock" | "rlock" | "mutex" | "locks" | "lck" | "cond" | "condition" | "mutexes")
            || (word.ends_with("lock")
                && !matches!(word, "block" | "clock" | "unlock" | "flock" | "deadlock" | "unblock" | "nonblock"))
            || word.ends_with("mutex")
    })
}
