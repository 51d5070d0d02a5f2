//! See `fork_with_threads.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::body::{BlockKind, FuncIdx, FunctionKind, Op, Val};
use crate::contexts::EntryKind;
use crate::project::{FuncId, ModuleId, Symbol};
use crate::types::{Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "fork-with-threads",
        code: "RP407",
        severity: Severity::Error,
        summary: "a process is forked after threads have been started",
        docs: include_str!("fork_with_threads.md"),
        on_by_default: true,
    },
    check,
};

/// How many callers up a fork is followed, and how many calls down a start.
const HOPS_MAX: usize = 6;

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let forks: Vec<(FuncId, Val)> = analysis.functions().flat_map(|func| forks(analysis, func)).collect();
    if forks.is_empty() {
        return;
    }
    let starters = starters(analysis);
    for (func, fork) in forks {
        if analysis.is_test(func) || only_executes(analysis, func, fork) {
            continue;
        }
        let Some((thread, at, confidence)) = alive(analysis, &starters, func, fork) else { continue };
        let message = "the process is forked while other threads run: locks that they hold stay locked in the child";
        found.push(
            Finding::new(&RULE.info, analysis.span(func, fork), message)
                .within(analysis.symbol(func))
                .also(analysis.span(thread, at), "a thread is started here")
                .confidence(confidence),
        );
    }
}

/// Calls of a function that fork, or choose to.
fn forks(analysis: &Analysis<'_>, func: FuncId) -> Vec<(FuncId, Val)> {
    let body = analysis.body(func);
    let calls = body.calls().filter(|call| {
        let Op::Call { args, .. } = body.op(*call) else { return false };
        let says_fork = || {
            let first = body.args(args).first();
            first.is_some_and(|arg| matches!(body.op(arg.value), Op::Str(text) if text == "fork"))
        };
        match analysis.external_callee(func, *call).map_or("", crate::name::Name::as_str) {
            "os.fork" | "os.forkpty" | "pty.fork" => true,
            "multiprocessing.set_start_method" | "multiprocessing.get_context" => says_fork(),
            _ => false,
        }
    });
    calls.map(|call| (func, call)).collect()
}

/// Does the child do nothing but execute another program?
fn only_executes(analysis: &Analysis<'_>, func: FuncId, fork: Val) -> bool {
    let body = analysis.body(func);
    let child = body.blocks.iter().filter(|block| block.first > fork.0).find(|block| match block.kind {
        BlockKind::Then(test) => match body.op(test) {
            Op::Compare { left, .. } => matches!(body.op(left), Op::Local(_) | Op::Global(_)) || left == fork,
            Op::Not(_) => true,
            _ => false,
        },
        _ => false,
    });
    let Some(child) = child else { return false };
    let calls = (child.first..child.end).map(Val).find(|val| matches!(body.op(*val), Op::Call { .. }));
    calls.is_some_and(|call| {
        let name = analysis.external_callee(func, call).map_or("", crate::name::Name::as_str);
        name.starts_with("os.exec")
    })
}

/// By function: a node after which a thread runs that was not there before, with the place where it is started.
type Starters = Vec<Vec<(Val, (FuncId, Val))>>;

/// Starts of threads in each function, and calls and imports that lead to one.
fn starters(analysis: &Analysis<'_>) -> Starters {
    let mut starters: Starters = analysis.functions().map(|func| direct(analysis, func)).collect();
    let leads: Vec<_> = analysis.functions().map(|func| leads(analysis, func)).collect();
    for _ in 0..HOPS_MAX {
        let mut changed = false;
        for func in analysis.functions() {
            let mut fresh = Vec::new();
            for (at, callee) in &leads[func.0 as usize] {
                let known = starters[func.0 as usize].iter().any(|(known, _)| known == at);
                if let (false, Some((_, origin))) = (known, starters[callee.0 as usize].first()) {
                    fresh.push((*at, *origin));
                }
            }
            changed |= !fresh.is_empty();
            starters[func.0 as usize].extend(fresh);
        }
        if !changed {
            break;
        }
    }
    starters
}

/// Calls of plain functions, and imports of modules, whose code runs at once.
fn leads(analysis: &Analysis<'_>, func: FuncId) -> Vec<(Val, FuncId)> {
    let calls = &analysis.contexts.calls[func.0 as usize];
    let mut found: Vec<(Val, FuncId)> = calls
        .iter()
        .filter(|call| !call.as_value && !call.spawns && !call.guessed)
        .map(|call| (call.at, call.callee))
        .collect();
    let module = analysis.project.module_of(func);
    for val in analysis.body(func).vals() {
        let Op::Import(idx) = analysis.body(func).op(val) else { continue };
        let import = analysis.project.modules[module.0 as usize].imports[idx as usize];
        let source = match analysis.project.imported(module, idx) {
            Symbol::Module(source) => Some(source),
            _ => analysis.project.find_module(module, import.module, import.level),
        };
        let parsed = |source: ModuleId| !analysis.project.modules[source.0 as usize].functions.is_empty();
        if let Some(source) = source.filter(|source| *source != module && parsed(*source)) {
            found.push((val, analysis.project.func_id(source, FuncIdx(0))));
        }
    }
    found
}

/// Starts in the function itself that outlive it, as far as it shows.
fn direct(analysis: &Analysis<'_>, func: FuncId) -> Vec<(Val, (FuncId, Val))> {
    let body = analysis.body(func);
    let starts = body.calls().filter(|call| {
        let Some((base, name)) = analysis.method_call(func, *call) else { return false };
        let types = analysis.types.of(func, base);
        let thread = types
            .iter()
            .any(|of| matches!(analysis.types.std_of(analysis.project, *of), Some(Std::Thread | Std::Timer)));
        thread && name == "start" || types.contains(&Type::Std(Std::Executor)) && matches!(name, "submit" | "map")
    });
    starts.map(|start| (start, (func, start))).collect()
}

/// A thread that runs when the fork comes: where it was started, and how sure we are.
fn alive(analysis: &Analysis<'_>, starters: &Starters, func: FuncId, fork: Val) -> Option<(FuncId, Val, Confidence)> {
    let (mut func, mut at) = (func, fork);
    for hop in 0..HOPS_MAX {
        let body = analysis.body(func);
        let before = starters[func.0 as usize]
            .iter()
            .find(|(start, _)| *start < at && !body.excludes(*start, at) && !is_over(analysis, func, *start, at));
        if let Some((_, (thread, start))) = before {
            return Some((*thread, *start, if hop == 0 { Confidence::High } else { Confidence::Medium }));
        }
        if let Some(site) = own_thread(analysis, func) {
            return Some((site.0, site.1, Confidence::High));
        }
        let callers = &analysis.contexts.callers[func.0 as usize];
        let mut sites = callers.iter().filter(|site| !site.as_value && !site.spawns && !site.guessed);
        // With several callers, one that has threads is enough; the first is followed further.
        let next = sites.clone().find(|site| {
            starters[site.caller.0 as usize]
                .iter()
                .any(|(start, _)| *start < site.at && !is_over(analysis, site.caller, *start, site.at))
        });
        let site = next.or_else(|| sites.next())?;
        (func, at) = (site.caller, site.at);
    }
    None
}

/// Where the function is handed to a thread or pool.
fn own_thread(analysis: &Analysis<'_>, func: FuncId) -> Option<(FuncId, Val)> {
    let groups =
        analysis.contexts.groups.iter().filter(|group| matches!(group.kind, EntryKind::Thread | EntryKind::Pool));
    groups.flat_map(|group| &group.entries).find(|entry| entry.func == func).and_then(|entry| entry.site)
}

/// Has the thread that is started at one node ended before another: was it joined, or its executor left?
fn is_over(analysis: &Analysis<'_>, func: FuncId, start: Val, fork: Val) -> bool {
    let body = analysis.body(func);
    let left = body.enclosing(start).any(|(id, block)| {
        matches!(block.kind, BlockKind::With(enter) if matches!(body.op(enter), Op::Enter { .. }))
            && !body.holds(id, fork)
            && analysis.method_call(func, start).is_some_and(|(_, name)| name != "start")
    });
    let started = analysis.method_call(func, start).map(|(base, _)| base);
    let joined = body.vals().skip(start.0 as usize).take_while(|val| *val < fork).any(|val| {
        let Some((base, name)) = analysis.method_call(func, val) else { return false };
        let same = started.is_none_or(|started| is_same(analysis, func, base, started));
        let std = analysis.types.std(analysis.project, func, base);
        let thread = matches!(std, Some(Std::Thread | Std::Timer | Std::Executor) | None);
        matches!(name, "join" | "shutdown" | "stop" | "close" | "terminate" | "cancel") && thread && same
    });
    left || joined
}

/// May two values be the same object? The element of a loop may be any.
fn is_same(analysis: &Analysis<'_>, func: FuncId, one: Val, two: Val) -> bool {
    let body = analysis.body(func);
    if analysis.project.function(func).kind == FunctionKind::Module {
        return match (body.op(one), body.op(two)) {
            (Op::Global(a), Op::Global(b)) => a == b || analysis.loops_around(func, one).any(|_| true),
            _ => false,
        };
    }
    let (a, b) = (body.origin(one), body.origin(two));
    let slots = |val: Val| analysis.types.slots_of(analysis.project, func, val);
    a == b || matches!(body.op(a), Op::Next(_)) || slots(one).iter().any(|slot| slots(two).contains(slot))
}
