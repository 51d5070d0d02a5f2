//! Where threads, timers and executors are made, and what becomes of a value: who keeps it and what is done with it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Analysis;
use crate::body::{BlockId, BlockKind, FunctionKind, LocalId, Op, Val};
use crate::contexts::EntryKind;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::{Slot, Std, Type};

/// Values are followed for this many steps; one that goes further is in many hands.
const STEPS_MAX: usize = 400;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A thread.
    Thread,
    /// A thread that waits first.
    Timer,
    /// A pool of threads.
    Executor,
}

/// A call that makes a thread, timer or executor.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// Where.
    pub func: FuncId,
    /// The call.
    pub call: Val,
    /// What it makes.
    pub made: Made,
    /// The functions that the thread runs, as far as they are known.
    pub targets: Vec<FuncId>,
    /// The project's own class of threads.
    pub class: Option<ClassId>,
}

/// What becomes of a value.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// Nodes that are the value or hold it.
    pub nodes: Vec<(FuncId, Val)>,
    /// Methods that are called on it or taken from it, with the node of the attribute.
    pub methods: Vec<(Name, FuncId, Val)>,
    /// Attributes of it that are stored.
    pub stored: Vec<(Name, FuncId, Val)>,
    /// Where it is kept: attributes and globals.
    pub slots: Vec<Slot>,
    /// It is returned, or handed to code that may do anything with it.
    pub escapes: bool,
    /// It is awaited.
    pub awaited: bool,
    /// It is the context of a `with`.
    pub entered: bool,
}

impl Trail {
    /// Is one of these methods used?
    #[must_use]
    pub fn uses(&self, names: &[&str]) -> bool {
        self.methods.iter().any(|(name, ..)| names.contains(&name.as_str()))
    }
}

/// Reads of attributes and globals by name.
#[derive(Debug, Default)]
pub struct Reads(FxHashMap<Name, Vec<(FuncId, Val)>>);

impl Analysis<'_> {
    pub(super) fn find_spawned(&self) -> Vec<Spawned> {
        let mut by_site: FxHashMap<(FuncId, Val), Vec<FuncId>> = FxHashMap::default();
        for group in self.contexts.groups.iter().filter(|group| group.kind == EntryKind::Thread) {
            for entry in &group.entries {
                if let Some(site) = entry.site {
                    by_site.entry(site).or_default().push(entry.func);
                }
            }
        }
        let mut found = Vec::new();
        for func in self.functions() {
            for call in self.body(func).calls() {
                let Some((made, class)) = self.makes(func, call) else { continue };
                let mut targets = by_site.get(&(func, call)).cloned().unwrap_or_default();
                if let (Some(class), true) = (class, targets.is_empty()) {
                    targets.extend(self.project.method(class, Name::new("run")));
                }
                found.push(Spawned { func, call, made, targets, class });
            }
        }
        found
    }

    /// Does a call make a thread, timer or executor?
    fn makes(&self, func: FuncId, call: Val) -> Option<(Made, Option<ClassId>)> {
        let Op::Call { func: target, .. } = self.body(func).op(call) else { return None };
        self.types.of(func, target).iter().find_map(|of| match *of {
            Type::External(name) => match crate::types::constructed(name.as_str()) {
                Some(Type::Std(std)) => made(std).map(|made| (made, None)),
                _ => None,
            },
            Type::Class(class) => {
                let std = self.types.std_of(self.project, Type::Instance(class))?;
                made(std).map(|made| (made, Some(class)))
            }
            _ => None,
        })
    }

    pub(super) fn find_reads(&self) -> Reads {
        let mut reads = Reads::default();
        for func in self.functions() {
            let body = self.body(func);
            for val in body.vals() {
                if let Op::Attr { name, .. } | Op::Global(name) = body.op(val) {
                    reads.0.entry(name).or_default().push((func, val));
                }
            }
        }
        reads
    }

    /// What becomes of the value of a node. Reads of an attribute whose object is unknown are taken to be reads of
    /// every attribute of that name.
    #[must_use]
    pub fn trail(&self, reads: &Reads, func: FuncId, val: Val) -> Trail {
        let mut trail = Trail::default();
        let mut seen: FxHashSet<(FuncId, Val)> = FxHashSet::default();
        let mut seen_slots: FxHashSet<Slot> = FxHashSet::default();
        let mut work = vec![(func, val)];
        while let Some((func, val)) = work.pop() {
            if !seen.insert((func, val)) {
                continue;
            }
            if seen.len() > STEPS_MAX {
                trail.escapes = true;
                break;
            }
            trail.nodes.push((func, val));
            let body = self.body(func);
            let mut kept = Vec::new();
            for user in body.vals().skip(val.0 as usize) {
                let mut uses = false;
                body.operands(user, |operand| uses |= operand == val);
                if uses {
                    self.used(func, val, user, &mut trail, &mut work, &mut kept);
                }
            }
            for slot in kept {
                if seen_slots.insert(slot) {
                    self.readers(reads, slot, &mut work);
                    trail.slots.push(slot);
                }
            }
        }
        trail
    }

    /// One use of a value.
    fn used(
        &self,
        func: FuncId,
        val: Val,
        user: Val,
        trail: &mut Trail,
        work: &mut Vec<(FuncId, Val)>,
        kept: &mut Vec<Slot>,
    ) {
        let body = self.body(func);
        match body.op(user) {
            Op::StoreLocal { local, .. } if self.project.function(func).kind != FunctionKind::ClassBody => {
                self.local_reads(func, local, work);
            }
            Op::StoreLocal { .. } | Op::StoreAttr { .. } | Op::StoreGlobal { .. } | Op::StoreCaptured { .. } => {
                match body.op(user) {
                    Op::StoreAttr { base, name, .. } if base == val => trail.stored.push((name, func, user)),
                    _ => self.keep(func, user, trail, work, kept),
                }
            }
            Op::StoreItem { base, .. } if base != val => self.keep(func, base, trail, work, kept),
            Op::Attr { name, .. } => {
                trail.methods.push((name, func, user));
                // `self.threads.pop()` hands out what it holds.
                let call = self.summaries.consumer(func, user);
                let gives = matches!(name.as_str(), "pop" | "popleft" | "get" | "copy" | "values" | "items");
                work.extend(call.filter(|_| gives).map(|call| (func, call)));
            }
            Op::Call { .. } => self.passed(func, user, trail, work, kept),
            Op::Return(_) | Op::Yield(_) => trail.escapes = true,
            Op::Await(_) => {
                trail.awaited = true;
                work.push((func, user));
            }
            Op::Enter { .. } => {
                trail.entered = true;
                work.push((func, user));
            }
            Op::Display(..)
            | Op::Comprehension(..)
            | Op::Choice { .. }
            | Op::Both(..)
            | Op::Either(..)
            | Op::Binary(..)
            | Op::Iter { .. }
            | Op::Next(_)
            | Op::Item { .. }
            | Op::Part(..) => work.push((func, user)),
            _ => {}
        }
    }

    /// A value that is an argument.
    fn passed(&self, func: FuncId, call: Val, trail: &mut Trail, work: &mut Vec<(FuncId, Val)>, kept: &mut Vec<Slot>) {
        let body = self.body(func);
        if let Some((base, name)) = crate::summary::method_call(body, call) {
            if matches!(name, "append" | "add" | "insert" | "appendleft" | "extend" | "update" | "setdefault") {
                self.keep(func, base, trail, work, kept);
                return;
            }
            if matches!(name, "run_in_executor" | "discard" | "remove") {
                return;
            }
        }
        let callee = self.external_callee(func, call).map_or("", Name::as_str);
        match callee.rsplit('.').next().unwrap_or("") {
            "len" | "print" | "id" | "isinstance" | "bool" | "str" | "repr" | "any" | "all" => {}
            "list" | "tuple" | "set" | "sorted" | "reversed" | "enumerate" | "zip" | "iter" | "next" | "wait"
            | "as_completed" | "wait_for" | "shield" | "chain" | "deque" | "filter" | "wrap_future" => {
                work.push((func, call));
            }
            _ => trail.escapes = true,
        }
    }

    /// A value is stored: to `at`, or into the container that `at` names.
    fn keep(&self, func: FuncId, at: Val, trail: &mut Trail, work: &mut Vec<(FuncId, Val)>, kept: &mut Vec<Slot>) {
        let body = self.body(func);
        let slots = self.types.slots_of(self.project, func, at);
        match body.op(at) {
            Op::Local(local) if slots.iter().all(|slot| matches!(slot, Slot::Local(..))) => {
                // A parameter belongs to the caller.
                trail.escapes |= matches!(body.op(body.origin(at)), Op::Param(_));
                self.local_reads(func, local, work);
            }
            _ if slots.is_empty() => trail.escapes = true,
            _ => {}
        }
        for slot in slots {
            match slot {
                Slot::Local(owner, local) => self.local_reads(owner, local, work),
                slot => kept.push(slot),
            }
        }
    }

    /// Reads of a local variable, by the function itself and by those inside it.
    fn local_reads(&self, owner: FuncId, local: LocalId, work: &mut Vec<(FuncId, Val)>) {
        let module = self.project.module_of(owner);
        let count = self.project.modules[module.0 as usize].functions.len();
        let first = self.project.func_id(module, crate::body::FuncIdx(0));
        for id in (owner.0..first.0 + crate::project::as_u32(count)).map(FuncId) {
            if self.project.function(id).start > self.project.function(owner).end {
                break;
            }
            let body = self.body(id);
            for val in body.vals() {
                let reads = match body.op(val) {
                    Op::Local(read) => id == owner && read == local,
                    Op::Captured(of, read) => self.project.sibling(id, of) == owner && read == local,
                    _ => false,
                };
                if reads {
                    work.push((id, val));
                }
            }
        }
    }

    fn readers(&self, reads: &Reads, slot: Slot, work: &mut Vec<(FuncId, Val)>) {
        let (Slot::Attr(_, name) | Slot::Global(_, name)) = slot else { return };
        for (func, val) in reads.0.get(&name).into_iter().flatten() {
            let slots = self.types.slots_of(self.project, *func, *val);
            let unknown = slots.is_empty() && matches!(self.body(*func).op(*val), Op::Attr { .. });
            if unknown || slots.contains(&slot) {
                work.push((*func, *val));
            }
        }
    }

    /// The loops around a node, innermost first.
    pub fn loops_around(&self, func: FuncId, val: Val) -> impl Iterator<Item = (BlockId, Val)> {
        self.body(func).enclosing(val).filter_map(|(id, block)| match block.kind {
            BlockKind::Loop(test) => Some((id, test)),
            _ => None,
        })
    }
}

fn made(std: Std) -> Option<Made> {
    match std {
        Std::Thread => Some(Made::Thread),
        Std::Timer => Some(Made::Timer),
        Std::Executor => Some(Made::Executor),
        _ => None,
    }
}
