//! What holds on entry to a function: locks that every caller holds, and that its object is still being made.

use std::collections::VecDeque;

use facts::LockSet;

use super::Summaries;
use crate::body::{FunctionKind, Op};
use crate::contexts::{CallSite, Contexts};
use crate::project::{FuncId, Project};

/// Functions that make or restore an object, and run before anyone else has it.
fn makes(name: &str) -> bool {
    // In a forked child there is one thread.
    let after_fork = ["after_fork", "afterfork", "at_fork"].iter().any(|word| name.contains(word));
    after_fork
        || matches!(
            name,
            "__init__"
                | "__new__"
                | "__post_init__"
                | "__setstate__"
                | "__set_name__"
                | "__attrs_post_init__"
                | "__copy__"
                | "__deepcopy__"
                | "setUp"
                | "setup_method"
                | "asyncSetUp"
                | "__init_subclass__"
                | "__class_getitem__"
                | "model_post_init"
                | "__reduce__"
                | "__getstate__"
        )
}

/// Public, but by its name a part of the construction.
fn prepares(name: &str) -> bool {
    name.split('_').any(|word| matches!(word, "init" | "setup" | "initialize" | "configure"))
}

/// Marks functions that run only while their object is made: constructors, and private methods that only they call.
pub(super) fn init_only(project: &Project, contexts: &Contexts, summaries: &mut Summaries) {
    let functions: Vec<FuncId> = project.function_ids().collect();
    for id in &functions {
        let function = project.function(*id);
        let method = function.class.is_some() && function.kind == FunctionKind::Def;
        let starts = makes(function.name.as_str());
        let called = !contexts.callers[id.0 as usize].is_empty();
        let explicit = contexts.is_entered(*id);
        summaries.functions[id.0 as usize].init_only = method
            && (starts || (function.name.is_private() || prepares(function.name.as_str())) && called && !explicit);
    }
    // Each function is taken back once at the most, so this ends.
    let mut work = VecDeque::from(functions);
    while let Some(id) = work.pop_front() {
        if !summaries.functions[id.0 as usize].init_only || makes(project.function(id).name.as_str()) {
            continue;
        }
        let all = contexts.callers[id.0 as usize].iter().all(|site| {
            !site.as_value && summaries.functions[site.caller.0 as usize].init_only && on_self(project, site)
        });
        if !all {
            summaries.functions[id.0 as usize].init_only = false;
            work.extend(contexts.calls[id.0 as usize].iter().map(|site| site.callee));
        }
    }
}

/// Is the call `self.method(...)`?
fn on_self(project: &Project, site: &CallSite) -> bool {
    let body = &project.function(site.caller).body;
    let target = match body.op(site.at) {
        Op::Call { func, .. } => func,
        _ => site.at,
    };
    match body.op(target) {
        Op::Attr { base, .. } => match body.op(base) {
            Op::Local(local) => local.0 == 0,
            // super().method()
            Op::Call { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

/// The locks that every caller holds, as the largest solution: a function starts with all, and loses what some
/// caller does not hold.
pub(super) fn at_entry(project: &Project, contexts: &Contexts, summaries: &mut Summaries) {
    let functions: Vec<FuncId> = project.function_ids().collect();
    let required = |id: FuncId| summaries.functions[id.0 as usize].required.clone();
    let free: Vec<bool> = functions.iter().map(|id| is_free(project, contexts, summaries, *id)).collect();
    let mut entry: Vec<Option<LockSet>> =
        functions.iter().map(|id| free[id.0 as usize].then(|| required(*id))).collect();
    // The sets only shrink, so this ends.
    let mut work: VecDeque<FuncId> = functions.into_iter().filter(|id| !free[id.0 as usize]).collect();
    while let Some(id) = work.pop_front() {
        let idx = id.0 as usize;
        let mut meet: Option<LockSet> = None;
        for site in contexts.callers[idx].iter().filter(|site| counts(project, summaries, site)) {
            let Some(at_caller) = entry[site.caller.0 as usize].as_ref() else { continue };
            let here = at_caller.union(&local_locks(summaries, site));
            meet = Some(match meet {
                None => here,
                Some(before) => before.intersection(&here),
            });
        }
        let meet = meet.map(|locks| locks.union(&required(id)));
        if meet.is_some() && meet != entry[idx] {
            entry[idx] = meet;
            let callees = contexts.calls[idx].iter().map(|site| site.callee);
            work.extend(callees.filter(|callee| !free[callee.0 as usize]));
        }
    }
    for (function, locks) in summaries.functions.iter_mut().zip(entry) {
        function.entry = locks.unwrap_or_else(|| function.required.clone());
    }
}

fn local_locks(summaries: &Summaries, site: &CallSite) -> LockSet {
    let held = &summaries.functions[site.caller.0 as usize].held;
    held.iter().filter(|held| held.first <= site.at.0 && site.at.0 < held.end).map(|held| held.lock).collect()
}

/// Callers at import and while the object is made say nothing of later ones.
fn counts(project: &Project, summaries: &Summaries, site: &CallSite) -> bool {
    let caller = project.function(site.caller);
    let importing = matches!(caller.kind, FunctionKind::Module | FunctionKind::ClassBody);
    let making = summaries.functions[site.caller.0 as usize].init_only && on_self(project, site);
    !importing && !making && site.caller != site.callee
}

/// Can the function be entered with no lock held, whatever the callers hold that are seen?
fn is_free(project: &Project, contexts: &Contexts, summaries: &Summaries, id: FuncId) -> bool {
    let function = project.function(id);
    let callers = &contexts.callers[id.0 as usize];
    function.kind != FunctionKind::Def && function.kind != FunctionKind::Lambda
        || contexts.is_entered(id)
        || function.name.is_special()
        || callers.iter().any(|site| site.as_value || site.guessed)
        || !callers.iter().any(|site| counts(project, summaries, site))
}
