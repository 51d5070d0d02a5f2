//! Where a constructor gives its object to a thread or pool.

use super::Analysis;
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::{Std, Type};

/// How deep helpers of a constructor are followed.
const HELPERS_MAX: usize = 2;

/// The point from which on another thread can use the object.
#[derive(Clone, Debug)]
pub struct Handout {
    /// In the constructor: the start, or the call that leads to it.
    pub at: Val,
    /// The start itself.
    pub origin: (FuncId, Val),
    /// What the other thread runs.
    pub entries: Vec<FuncId>,
}

impl Analysis<'_> {
    /// Where a constructor of a class, or what it calls on `self`, starts something that uses the object.
    #[must_use]
    pub fn handouts(&self, class: ClassId, init: FuncId) -> Vec<Handout> {
        let mut found = self.direct_handouts(class, init);
        // (call in the constructor, helper, depth)
        let mut work: Vec<(Val, FuncId, usize)> = self.helpers(init).map(|(at, helper)| (at, helper, 1)).collect();
        let mut seen = vec![init];
        while let Some((at, helper, depth)) = work.pop() {
            if seen.contains(&helper) || seen.len() > 32 {
                continue;
            }
            seen.push(helper);
            found.extend(self.direct_handouts(class, helper).into_iter().map(|inner| Handout { at, ..inner }));
            if depth < HELPERS_MAX {
                work.extend(self.helpers(helper).map(|(_, next)| (at, next, depth + 1)));
            }
        }
        found.sort_by_key(|handout| handout.at);
        found
    }

    fn helpers(&self, func: FuncId) -> impl Iterator<Item = (Val, FuncId)> + '_ {
        let calls = self.body(func).calls();
        calls.flat_map(move |at| self.self_callees(func, at).into_iter().map(move |callee| (at, callee)))
    }

    fn direct_handouts(&self, class: ClassId, func: FuncId) -> Vec<Handout> {
        let body = self.body(func);
        let mut found = Vec::new();
        for group in &self.contexts.groups {
            if !matches!(group.kind, EntryKind::Thread | EntryKind::Pool) {
                continue;
            }
            for entry in &group.entries {
                let Some((_, site)) = entry.site.filter(|(site, _)| *site == func) else { continue };
                if !self.sees_self(class, func, site, entry.func) {
                    continue;
                }
                let at = if group.kind == EntryKind::Thread { self.start_of(func, site) } else { Some(site) };
                if let Some(at) = at {
                    found.push(Handout { at, origin: (func, at), entries: vec![entry.func] });
                }
            }
        }
        let is_thread =
            matches!(self.types.std_of(self.project, Type::Instance(class)), Some(Std::Thread | Std::Timer));
        if let (true, Some(run)) = (is_thread, self.project.method(class, Name::new("run"))) {
            let starts = body.vals().filter(|val| {
                self.method_call(func, *val).is_some_and(|(base, name)| name == "start" && self.is_self(func, base))
            });
            found.extend(starts.map(|at| Handout { at, origin: (func, at), entries: vec![run] }));
        }
        found
    }

    /// Does the entered function use the object that `func` is a method of?
    fn sees_self(&self, class: ClassId, func: FuncId, site: Val, entry: FuncId) -> bool {
        let Some(method) = self.project.method_around(entry) else { return false };
        if method != entry {
            return method == func;
        }
        let body = self.body(func);
        let Op::Call { args, .. } = body.op(site) else { return false };
        let of_class = self.project.class_of(method).is_some_and(|owner| {
            let mro = &self.project.class_info(class).mro;
            mro.contains(&owner) || self.project.class_info(owner).mro.contains(&class)
        });
        // `target=self.run`, not the method of another object of the class.
        of_class && body.args(args).iter().any(|arg| self.is_attr_of_self(func, arg.value))
    }

    /// Where the thread that is made at `site` is started.
    fn start_of(&self, func: FuncId, site: Val) -> Option<Val> {
        let body = self.body(func);
        let stored: Vec<_> = body
            .vals()
            .filter(|val| matches!(body.op(*val), Op::StoreAttr { value, .. } if body.origin(value) == site))
            .flat_map(|val| self.slots(func, val))
            .collect();
        body.vals().skip(site.0 as usize).find(|val| {
            let Some((base, "start")) = self.method_call(func, *val) else { return false };
            body.origin(base) == site || self.slots(func, base).iter().any(|slot| stored.contains(slot))
        })
    }

    /// Does the other side wait for something that the constructor gives only after `at`?
    #[must_use]
    pub fn waits_until_complete(&self, init: FuncId, at: Val, reach: &[FuncId]) -> bool {
        let called = |func: FuncId, val: Val, names: &[&str]| {
            let (base, name) = self.method_call(func, val)?;
            names.contains(&name).then(|| self.self_attr(func, base)).flatten()
        };
        let body = self.body(init);
        let given: Vec<Name> = body
            .vals()
            .skip(at.0 as usize)
            .filter_map(|val| called(init, val, &["set", "put", "release", "notify", "notify_all", "set_result"]))
            .collect();
        let waits = |func: &FuncId| {
            let body = self.body(*func);
            body.vals().any(|val| {
                called(*func, val, &["wait", "get", "acquire", "result"]).is_some_and(|name| given.contains(&name))
            })
        };
        !given.is_empty() && reach.iter().any(waits)
    }

    /// Does the class body give an attribute a value?
    #[must_use]
    pub fn has_class_default(&self, class: ClassId, name: Name) -> bool {
        self.project.class_info(class).mro.iter().any(|at| {
            let module = self.project.class_info(*at).module;
            let code = self.project.func_id(module, self.project.class(*at).body);
            let body = self.body(code);
            body.vals().any(
                |val| matches!(body.op(val), Op::StoreLocal { local, .. } if body.locals[local.0 as usize] == name),
            )
        })
    }
}
