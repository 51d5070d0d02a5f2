//! See `lock_across_await.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, LockKind, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::body::{Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::Held;
use crate::summary::waits::{Acquires, acquires};
use crate::types::Std;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "lock-across-await",
        code: "RP306",
        severity: Severity::Error,
        summary: "a coroutine holds a thread lock over an `await`, or blocks its loop to get one",
        docs: include_str!("lock_across_await.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions() {
        if !analysis.project.function(func).is_async || analysis.is_test(func) {
            continue;
        }
        for held in &analysis.summaries.function(func).held {
            if held.lock.kind == LockKind::Thread && is_with(analysis, func, held) {
                found.extend(held_over(analysis, func, held));
            }
        }
        for val in analysis.body(func).vals() {
            found.extend(acquired(analysis, func, val));
        }
    }
}

fn is_with(analysis: &Analysis<'_>, func: FuncId, held: &Held) -> bool {
    matches!(analysis.body(func).op(held.at), Op::Enter { .. })
}

fn held_over(analysis: &Analysis<'_>, func: FuncId, held: &Held) -> Option<Finding> {
    let at = suspended_in(analysis, func, held.first, held.end).filter(|at| !analysis.is_let_go(func, held, *at))?;
    let name = analysis.name_of(held.lock.place, func);
    let typed = analysis.is_typed_lock(held.lock.place);
    let finding = Finding::new(
        &RULE.info,
        analysis.span(func, held.at),
        format!("the thread lock `{name}` stays held while the coroutine waits"),
    )
    .on(name)
    .within(analysis.symbol(func))
    .also(analysis.span(func, at), "other tasks run here, and block the loop if they want the lock");
    let fix = fix::loop_lock(analysis, analysis.summaries.slot(held.lock.place));
    Some(finding.confidence(if typed { Confidence::High } else { Confidence::Medium }).with_fix(fix))
}

fn suspended_in(analysis: &Analysis<'_>, func: FuncId, first: u32, end: u32) -> Option<Val> {
    (first..end).map(Val).find(|val| analysis.suspends_at(func, *val, 0))
}

/// `lock.acquire()` in a coroutine blocks the whole loop until the lock is free.
fn acquired(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Finding> {
    let body = analysis.body(func);
    let (base, "acquire") = analysis.method_call(func, call)? else { return None };
    let std = analysis.types.std(analysis.project, func, base)?;
    if !std.is_thread_lock() || acquires(body, call) == Acquires::Tries {
        return None;
    }
    let awaited = analysis.summaries.consumer(func, call).is_some_and(|user| matches!(body.op(user), Op::Await(_)));
    if awaited {
        return None;
    }
    let held = analysis.summaries.function(func).held.iter().find(|held| held.at == call);
    let over = match (held, std) {
        (Some(held), _) => {
            suspended_in(analysis, func, held.first, held.end).filter(|at| !analysis.is_let_go(func, held, *at))
        }
        (None, Std::Semaphore) => suspended_in(analysis, func, call.0, body.block(body.node(call).block).end),
        _ => None,
    };
    // A short section, written with two calls.
    if over.is_none() && std != Std::Semaphore && acquires(body, call) == Acquires::Waits {
        return None;
    }
    let name = analysis.lock_name(func, base);
    let message = match over {
        Some(_) => format!("the thread lock `{name}` stays held while the coroutine waits"),
        None => format!("the whole loop stands still until `{name}` is free"),
    };
    let finding = Finding::new(&RULE.info, analysis.span(func, call), message)
        .on(name)
        .within(analysis.symbol(func))
        .confidence(Confidence::High)
        .with_fix(analysis.lock_slots(func, base).first().and_then(|slot| fix::loop_lock(analysis, *slot)));
    Some(match over {
        Some(at) => finding.also(analysis.span(func, at), "other tasks run here, and block the loop if they want it"),
        None => finding,
    })
}
