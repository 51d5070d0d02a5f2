//! See `lost_exception.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::analysis::failures::{is_broad, is_silent, methods};
use crate::analysis::spawned::{Made, Reads, Spawned};
use crate::body::{Block, BlockKind, Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::{FuncId, as_u32};
use crate::types::{Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "lost-exception",
        code: "RP402",
        severity: Severity::Warning,
        summary: "an exception in a thread, task or future ends the work, and nobody learns of it",
        docs: include_str!("lost_exception.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let reads = analysis.reads();
    for func in analysis.functions().filter(|func| !analysis.is_test(*func)) {
        for call in analysis.body(func).calls() {
            if matches!(analysis.body(func).op(call), Op::Call { .. }) {
                found.extend(job(analysis, reads, func, call));
            }
        }
        found.extend(swallowed(analysis, func));
    }
    if has_hook(analysis) {
        return;
    }
    for made in analysis.spawned().iter().filter(|made| !analysis.is_test(made.func)) {
        found.extend(match made.made {
            Made::Thread => worker(analysis, made),
            Made::Timer => again(analysis, made),
            Made::Executor => None,
        });
    }
}

/// `threading.excepthook = report`
fn has_hook(analysis: &Analysis<'_>) -> bool {
    analysis.functions().any(|func| {
        let body = analysis.body(func);
        body.writes().any(|val| matches!(body.op(val), Op::StoreAttr { name, .. } if name == "excepthook"))
    })
}

/// How a call hands work over.
enum Job {
    Future,
    Results,
    Task,
}

fn job(analysis: &Analysis<'_>, reads: &Reads, func: FuncId, call: Val) -> Option<Finding> {
    let (job, runs) = handed(analysis, func, call)?;
    let trail = analysis.trail(reads, func, call);
    let reading = ["result", "exception", "add_done_callback", "get", "add_callback", "cancelled", "get_loop"];
    let held = trail.slots.is_empty() && !trail.escapes && !trail.awaited && !trail.entered && !trail.uses(&reading);
    let iterated = matches!(job, Job::Results)
        && trail.nodes.iter().any(|(func, val)| matches!(analysis.body(*func).op(*val), Op::Iter { .. } | Op::Next(_)));
    let used = matches!(job, Job::Results | Job::Task) && trail.nodes.len() > 1;
    if !held || iterated || used {
        return None;
    }
    let confidence = fails(analysis, func, runs)?;
    let (what, message) = match job {
        Job::Future => ("an error in it stays in the future", "the result of the job is never read"),
        Job::Results => ("an error shows only where the results are read", "the results of `map` are never read"),
        Job::Task => ("an error in it stays in the task", "the task is dropped"),
    };
    let message = format!("{message}: {what}, and nobody learns of it");
    let finding = Finding::new(&RULE.info, analysis.span(func, call), message);
    let fix = fix::report_job(analysis, func, call);
    Some(finding.within(analysis.symbol(func)).confidence(confidence).with_fix(fix))
}

/// The work that a call hands to a pool or loop.
fn handed(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<(Job, Val)> {
    let body = analysis.body(func);
    let Op::Call { args, .. } = body.op(call) else { return None };
    let first = body.args(args).first()?.value;
    if let Some(name) = analysis.external_callee(func, call) {
        let task = matches!(name.as_str(), "asyncio.create_task" | "asyncio.ensure_future");
        return task.then_some((Job::Task, first));
    }
    let (base, name) = analysis.method_call(func, call)?;
    let std = analysis.types.std(analysis.project, func, base);
    match (name, std) {
        ("submit", Some(Std::Executor)) => Some((Job::Future, first)),
        ("map", Some(Std::Executor)) if !uses_multiprocessing(analysis, func) => Some((Job::Results, first)),
        ("create_task", Some(Std::Loop)) => Some((Job::Task, first)),
        _ => None,
    }
}

/// `map` of `multiprocessing.pool.ThreadPool` waits, and raises what went wrong.
fn uses_multiprocessing(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let module = &analysis.project.modules[analysis.project.module_of(func).0 as usize];
    module.imports.iter().any(|import| import.module.as_str().starts_with("multiprocessing"))
}

/// Can the work fail, as far as its text is known?
fn fails(analysis: &Analysis<'_>, func: FuncId, work: Val) -> Option<Confidence> {
    let body = analysis.body(func);
    let target = match body.op(work) {
        Op::Call { func: target, .. } => target,
        _ => work,
    };
    let mut callees = smallvec::SmallVec::new();
    analysis.types.targets(analysis.project, func, target, &mut callees);
    if callees.is_empty() {
        return Some(Confidence::Low);
    }
    let mut risky = callees.iter().filter(|callee| {
        let end = as_u32(analysis.body(callee.func).nodes.len());
        analysis.can_fail(callee.func, 0, end).is_some()
    });
    risky.next().map(|_| Confidence::Medium)
}

/// A thread that works off a queue and ends at the first error.
fn worker(analysis: &Analysis<'_>, made: &Spawned) -> Option<Finding> {
    let target = *made.targets.first()?;
    let body = analysis.body(target);
    let (take, _, _) = methods(body, &["get"])
        .find(|(_, base, _)| analysis.types.std(analysis.project, target, *base) == Some(Std::Queue))?;
    let (around, _) = analysis.loops_around(target, take).last()?;
    let block = body.block(around);
    let failing = (block.first..block.end).map(Val).find(|val| {
        (calls_job(analysis, target, *val, take) || works_on(analysis, target, *val, take))
            && !analysis.is_caught(target, *val)
    })?;
    let message = "the first job that fails ends the thread, and later jobs wait for ever".to_owned();
    Some(
        Finding::new(&RULE.info, analysis.span(made.func, made.call), message)
            .within(analysis.symbol(made.func))
            .also(analysis.span(target, failing), "an error of the job leaves the loop here")
            .confidence(Confidence::Medium),
    )
}

/// Is what was taken from the queue called, itself or a part of it?
fn calls_job(analysis: &Analysis<'_>, func: FuncId, call: Val, take: Val) -> bool {
    let body = analysis.body(func);
    let Op::Call { func: target, .. } = body.op(call) else { return false };
    let mut at = body.origin(target);
    for _ in 0..4 {
        match body.op(at) {
            _ if at == take => return true,
            Op::Part(of, _) | Op::Item { base: of, .. } => at = body.origin(of),
            _ => return false,
        }
    }
    false
}

/// Is what was taken from the queue handed to a function of the project that can fail?
fn works_on(analysis: &Analysis<'_>, func: FuncId, call: Val, take: Val) -> bool {
    let body = analysis.body(func);
    let Op::Call { args, .. } = body.op(call) else { return false };
    let comes = |val: Val| match body.op(body.origin(val)) {
        Op::Part(of, _) => of == take,
        _ => body.origin(val) == take,
    };
    body.args(args).iter().any(|arg| comes(arg.value))
        && analysis.types.callees(analysis.project, func, call).iter().any(|callee| !callee.guessed)
        && analysis.can_fail(func, call.0, call.0 + 1).is_some()
}

/// A timer that starts itself again, after work that may fail.
fn again(analysis: &Analysis<'_>, made: &Spawned) -> Option<Finding> {
    if !made.targets.contains(&made.func) {
        return None;
    }
    let body = analysis.body(made.func);
    let certain = body.enclosing(made.call).any(|(_, block)| matches!(block.kind, BlockKind::Finally(_)));
    let failing = analysis.can_fail(made.func, 0, made.call.0)?;
    if certain || body.excludes(failing, made.call) {
        return None;
    }
    let message = "after one error the timer is never started again".to_owned();
    Some(
        Finding::new(&RULE.info, analysis.span(made.func, made.call), message)
            .within(analysis.symbol(made.func))
            .also(analysis.span(made.func, failing), "an error here leaves the function first")
            .confidence(Confidence::Medium),
    )
}

/// `except Exception: pass` around the work of a thread's loop.
fn swallowed(analysis: &Analysis<'_>, func: FuncId) -> Vec<Finding> {
    let runs = analysis.contexts.groups.iter().filter(|group| group.kind == EntryKind::Thread);
    if !runs.flat_map(|group| &group.entries).any(|entry| entry.func == func) {
        return Vec::new();
    }
    let body = analysis.body(func);
    let mut found = Vec::new();
    for handler in &body.blocks {
        let BlockKind::Except(tried, caught) = handler.kind else { continue };
        let tried = body.block(tried);
        let looped =
            (tried.first..tried.end).next().is_some_and(|at| analysis.loops_around(func, Val(at)).any(|_| true));
        if !looped || !is_broad(body, caught) || !is_silent(body, handler) || !does_work(analysis, func, tried) {
            continue;
        }
        let file = analysis.project.file_of(func);
        let head = facts::Span::new(file, handler.text_start, handler.text_start + as_u32("except".len()));
        found.push(
            Finding::new(&RULE.info, head, "every error of the thread's work is swallowed here".to_owned())
                .within(analysis.symbol(func))
                .confidence(Confidence::Medium)
                .with_fix(fix::report_error(analysis, func, head)),
        );
    }
    found
}

/// Is there work in a `try` whose failure somebody would want to know of? Not so: closing, waking, waiting.
fn does_work(analysis: &Analysis<'_>, func: FuncId, tried: &Block) -> bool {
    let body = analysis.body(func);
    (tried.first..tried.end).map(Val).any(|val| {
        let Op::Call { func: target, .. } = body.op(val) else { return false };
        let project = analysis.types.callees(analysis.project, func, val).iter().any(|callee| !callee.guessed);
        let own =
            matches!(body.op(body.origin(target)), Op::Call { .. } | Op::Part(..) | Op::Next(_) | Op::Item { .. })
                && !analysis.types.of(func, target).iter().any(|of| matches!(of, Type::External(_)));
        project || own
    })
}
