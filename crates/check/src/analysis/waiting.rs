//! Who is waited for: the functions that an awaited thread or job runs, and whether it needs a lock that is held.

use facts::PlaceId;

use super::Analysis;
use crate::body::{BlockKind, Display, Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::summary::paths::{self, Argument};
use crate::summary::waits::Wait;
use crate::summary::{Maker, What};
use crate::types::{Slot, Std, Type};

impl<'a> Analysis<'a> {
    /// Does what a call waits for need a lock? Says who does.
    #[must_use]
    pub fn needs(&self, func: FuncId, call: Val, wait: Wait, lock: PlaceId) -> Option<FuncId> {
        let (base, _) = self.method_call(func, call)?;
        match wait {
            Wait::Join | Wait::Result => {
                let run = self.awaited(func, base);
                run.into_iter().find(|run| {
                    let effects = self.summaries.effects.of(*run).iter();
                    effects.into_iter().any(|effect| matches!(effect.what, What::Takes { place, .. } if place == lock))
                })
            }
            Wait::Event => self.only_under(func, base, &["set"], lock),
            Wait::Queue => self.only_under(func, base, &["put", "put_nowait"], lock),
            _ => None,
        }
    }

    /// The functions that a thread or a job runs.
    fn awaited(&self, func: FuncId, base: Val) -> Vec<FuncId> {
        let mut found = Vec::new();
        let body = self.body(func);
        let mut made: Vec<(FuncId, Val)> = vec![(func, body.origin(base))];
        for slot in self.types.slots_of(self.project, func, base) {
            made.extend(self.values_of(slot));
        }
        for (func, value) in made {
            found.extend(self.started_at(func, value));
        }
        for of in self.types.of(func, base) {
            let Type::Instance(class) = of else { continue };
            let run = Name::new("run");
            found.extend(self.project.method(*class, run));
            found.extend(self.project.overrides(*class, run, 4));
        }
        found
    }

    /// What is stored in a slot.
    fn values_of(&self, slot: Slot) -> Vec<(FuncId, Val)> {
        let Some(place) = self.summaries.places.get(&slot) else { return Vec::new() };
        let stores = self.accesses(*place).filter_map(|access| match access.touch {
            crate::summary::Touch::Store(value) => Some((access.func, self.body(access.func).origin(value))),
            _ => None,
        });
        stores.collect()
    }

    /// Are all calls of these methods on the object in a function that holds the lock?
    fn only_under(&self, func: FuncId, base: Val, names: &[&str], lock: PlaceId) -> Option<FuncId> {
        let slots = self.types.slots_of(self.project, func, base);
        let slot = slots.first()?;
        let place = self.summaries.places.get(slot)?;
        let mut holder = None;
        for access in self.accesses(*place) {
            let crate::summary::Touch::Method(name) = access.touch else { continue };
            if !names.contains(&name.as_str()) || self.is_import_code(access.func) {
                continue;
            }
            if !self.summaries.locks_at(access.func, access.act).holds(lock) {
                return None;
            }
            holder = Some(access.func);
        }
        holder
    }

    /// Is the future of a `result()` known to be done?
    #[must_use]
    pub fn is_done(&self, func: FuncId, call: Val) -> bool {
        let body = self.body(func);
        let Some((base, _)) = self.method_call(func, call) else { return false };
        let origin = |val: Val| match body.op(val) {
            Op::Local(local) => Some((local, body.reaching(local, val))),
            _ => None,
        };
        let tested = body.enclosing(call).any(|(_, block)| {
            let (BlockKind::Then(test) | BlockKind::Else(test)) = block.kind else { return false };
            let mut work = vec![test];
            let mut found = false;
            while let Some(at) = work.pop() {
                match self.method_call(func, at) {
                    Some((other, "done" | "is_set" | "empty" | "qsize" | "is_alive")) => {
                        found |= self.same_text(func, base, other);
                    }
                    _ if matches!(body.op(at), Op::Not(_) | Op::Both(..) | Op::Either(..) | Op::Compare { .. }) => {
                        body.operands(at, |operand| work.push(operand));
                    }
                    _ => {}
                }
            }
            found
        });
        // `for future in as_completed(...)`, `for future in done`
        let finished = origin(base).is_some_and(|(_, stores)| {
            stores.iter().any(|store| match body.op(*store) {
                Op::StoreLocal { value, .. } => match body.op(value) {
                    Op::Next(iter) => match body.op(iter) {
                        Op::Iter { over, .. } => {
                            self.external_callee(func, over).is_some_and(|name| name.as_str().ends_with("as_completed"))
                                || matches!(body.op(over), Op::Local(local) if body.locals[local.0 as usize] == "done")
                        }
                        _ => false,
                    },
                    _ => false,
                },
                _ => false,
            })
        });
        tested || finished
    }

    fn same_text(&self, func: FuncId, one: Val, two: Val) -> bool {
        let body = self.body(func);
        match (body.op(one), body.op(two)) {
            (Op::Local(a), Op::Local(b)) => a == b,
            _ => {
                let slots = self.types.slots_of(self.project, func, one);
                self.types.slots_of(self.project, func, two).iter().any(|slot| slots.contains(slot))
            }
        }
    }

    /// Where the object that an expression names is made: by its slot, or through the parameters it comes in by.
    #[must_use]
    pub fn made_at(&self, func: FuncId, val: Val) -> Vec<Maker> {
        let mut found: Vec<Maker> = Vec::new();
        let mut work = vec![(func, val, 0)];
        while let Some((func, val, depth)) = work.pop() {
            if depth > 4 {
                continue;
            }
            let body = self.body(func);
            let origin = body.origin(val);
            for slot in self.types.slots_of(self.project, func, val) {
                found.extend(self.makers(slot));
            }
            if let (Op::Local(local), true) = (body.op(val), origin != val) {
                found.extend(self.makers(Slot::Local(func, local)).iter().filter(|maker| maker.call == origin));
            }
            if let Op::Param(idx) = body.op(origin) {
                work.extend(self.given_for(func, idx).into_iter().map(|(func, val)| (func, val, depth + 1)));
            }
        }
        found.sort_by_key(|maker| (maker.func, maker.store));
        found.dedup_by_key(|maker| (maker.func, maker.store));
        found
    }

    /// What callers, and those who start threads, give for a parameter.
    fn given_for(&self, func: FuncId, param: u32) -> Vec<(FuncId, Val)> {
        let mut found = Vec::new();
        for site in self.contexts.callers[func.0 as usize].iter().filter(|site| !site.as_value && !site.guessed) {
            if let Some(Argument::Value(val)) = paths::argument(self.project, self.types, site, param) {
                found.push((site.caller, val));
            }
        }
        for entry in self.contexts.groups.iter().flat_map(|group| &group.entries).filter(|entry| entry.func == func) {
            let Some((caller, call)) = entry.site else { continue };
            let bound = self.project.function(func).class.is_some() && !self.types.flags(func).is_static;
            let Some(idx) = (param as usize).checked_sub(usize::from(bound)) else { continue };
            found.extend(self.started_with(caller, call, idx).map(|val| (caller, val)));
        }
        found
    }

    /// The argument with this index that a thread or job is started with.
    fn started_with(&self, func: FuncId, call: Val, idx: usize) -> Option<Val> {
        let body = self.body(func);
        let Op::Call { args, .. } = body.op(call) else { return None };
        let args = body.args(args);
        if let Some(given) = args.iter().find(|arg| arg.name.is_some_and(|name| name == "args")) {
            return match body.op(body.origin(given.value)) {
                Op::Display(Display::Tuple | Display::List, parts) => body.args(parts).get(idx).map(|arg| arg.value),
                _ => None,
            };
        }
        let is_method = |name: &str| self.method_call(func, call).is_some_and(|(_, called)| called == name);
        // `run_in_executor(pool, f, x)`
        let skip = if is_method("run_in_executor") { 2 } else { 1 };
        args.get(skip + idx).filter(|arg| arg.name.is_none() && !arg.starred).map(|arg| arg.value)
    }

    /// Does a call use an object of an event loop, by its type or by where it is made?
    #[must_use]
    pub fn is_loop_object(&self, maker: &Maker) -> bool {
        let std = self.types.std(self.project, maker.func, maker.call);
        std.is_some_and(|std| std.is_loop_bound() && std != Std::Task)
    }
}
