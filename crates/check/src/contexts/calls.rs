//! The call graph: plain calls, properties, operators and context managers of the project's classes, and functions
//! that are handed on as values.

use smallvec::SmallVec;

use super::entries;
use crate::body::{Compare, FunctionKind, Op, Val};
use crate::name::{self, Name};
use crate::parallel;
use crate::project::{FuncId, Project};
use crate::types::{Callee, Type, TypeMap};

/// One way from one function into another.
#[derive(Clone, Copy, Debug)]
pub struct CallSite {
    /// Who calls.
    pub caller: FuncId,
    /// The node that calls, or hands on.
    pub at: Val,
    /// Who is called.
    pub callee: FuncId,
    /// By the name of the method alone.
    pub guessed: bool,
    /// Handed on as a value: it runs here or later.
    pub as_value: bool,
    /// Starts a thread or task: it does not run here.
    pub spawns: bool,
}

/// By function, whom it calls and who calls it.
pub(super) fn graph(project: &Project, types: &TypeMap) -> (Vec<Vec<CallSite>>, Vec<Vec<CallSite>>) {
    let count = project.function_ids().count();
    let calls = parallel::map(project.function_ids().collect(), |func| sites(project, types, func));
    let mut callers: Vec<Vec<CallSite>> = vec![Vec::new(); count];
    for site in calls.iter().flatten() {
        callers[site.callee.0 as usize].push(*site);
    }
    (calls, callers)
}

fn sites(project: &Project, types: &TypeMap, func: FuncId) -> Vec<CallSite> {
    let body = &project.function(func).body;
    let mut found: Vec<CallSite> = Vec::new();
    let mut add = |at: Val, callee: Callee, as_value: bool, spawns: bool| {
        found.push(CallSite { caller: func, at, callee: callee.func, guessed: callee.guessed, as_value, spawns });
    };
    for val in body.vals() {
        match body.op(val) {
            Op::Call { args, .. } => {
                for callee in types.callees(project, func, val) {
                    // Called outside a coroutine, a coroutine function only makes the coroutine: a loop runs it.
                    let spawns = entries::makes_coroutine(project, func, callee.func);
                    add(val, callee, false, spawns);
                }
                let spawned = entries::handed_over(project, types, func, val);
                for arg in body.args(args) {
                    for callee in function_values(project, types, func, arg.value) {
                        let spawns = spawned.iter().any(|(value, _)| *value == arg.value)
                            || entries::makes_coroutine(project, func, callee.func);
                        add(val, callee, true, spawns);
                    }
                }
            }
            Op::Attr { base, name } => {
                for callee in properties(project, types, func, base, name) {
                    add(val, callee, false, false);
                }
            }
            Op::Item { base, .. } => {
                special(project, types, func, base, &[name::GET_ITEM], |callee| add(val, callee, false, false))
            }
            Op::StoreItem { base, .. } => {
                special(project, types, func, base, &[name::SET_ITEM], |callee| add(val, callee, false, false));
            }
            Op::DelItem { base, .. } => {
                special(project, types, func, base, &[name::DEL_ITEM], |callee| add(val, callee, false, false));
            }
            Op::Iter { over, .. } => {
                special(project, types, func, over, &[name::ITER, name::ASYNC_ITER], |callee| {
                    add(val, callee, false, false)
                });
            }
            Op::Compare { how: Compare::In | Compare::NotIn, right, .. } => {
                special(project, types, func, right, &[name::CONTAINS], |callee| add(val, callee, false, false));
            }
            Op::Enter { context, .. } => {
                let names = [name::ENTER, name::EXIT, name::ASYNC_ENTER, name::ASYNC_EXIT];
                special(project, types, func, context, &names, |callee| add(val, callee, false, false));
            }
            Op::Class(idx) => {
                let body = project.class(project.class_id(project.module_of(func), idx)).body;
                let callee = Callee { func: project.sibling(func, body), guessed: false, bound: false };
                add(val, callee, false, false);
            }
            Op::Return(Some(value)) | Op::StoreAttr { value, .. } => {
                for callee in function_values(project, types, func, value) {
                    add(val, callee, true, entries::makes_coroutine(project, func, callee.func));
                }
            }
            _ => {}
        }
    }
    found
}

/// The functions that a value is, where it is handed on instead of called.
fn function_values(project: &Project, types: &TypeMap, func: FuncId, value: Val) -> SmallVec<[Callee; 2]> {
    let body = &project.function(func).body;
    let mut found = SmallVec::new();
    // A call of a coroutine function hands on the coroutine; the call itself is an edge already.
    if matches!(body.op(value), Op::Call { .. }) {
        return found;
    }
    for of in types.of(func, value) {
        match *of {
            Type::Function(callee) => found.push(Callee { func: callee, guessed: false, bound: false }),
            Type::Method(callee) => found.push(Callee { func: callee, guessed: false, bound: true }),
            _ => {}
        }
    }
    found
}

fn properties(project: &Project, types: &TypeMap, func: FuncId, base: Val, name: Name) -> SmallVec<[Callee; 2]> {
    let mut found = SmallVec::new();
    for of in types.of(func, base) {
        if let Type::Instance(class) = of
            && let Some(method) = project.method(*class, name).filter(|method| types.flags(*method).is_property)
        {
            found.push(Callee { func: method, guessed: false, bound: true });
        }
    }
    found
}

fn special(project: &Project, types: &TypeMap, func: FuncId, base: Val, names: &[Name], mut each: impl FnMut(Callee)) {
    for of in types.of(func, base) {
        if let Type::Instance(class) = of {
            for name in names {
                if let Some(method) = project.method(*class, *name) {
                    each(Callee { func: method, guessed: false, bound: true });
                }
            }
        }
    }
}

/// Is the function the code of a module or class?
pub(super) fn is_scope_code(project: &Project, func: FuncId) -> bool {
    matches!(project.function(func).kind, FunctionKind::Module | FunctionKind::ClassBody)
}
