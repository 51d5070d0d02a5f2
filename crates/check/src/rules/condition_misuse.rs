//! See `condition_misuse.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::body::{Block, BlockKind, Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::types::{Slot, Std};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "condition-misuse",
        code: "RP308",
        severity: Severity::Error,
        summary: "a condition is waited for without a loop, or used without its lock",
        docs: include_str!("condition_misuse.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions().filter(|func| !analysis.is_test(*func)) {
        for val in analysis.body(func).calls() {
            let Some((base, name)) = analysis.method_call(func, val) else { continue };
            if !matches!(name, "wait" | "notify" | "notify_all" | "notifyAll")
                || analysis.types.std(analysis.project, func, base) != Some(Std::Condition)
                || is_own_method(analysis, func)
            {
                continue;
            }
            found.extend(match name {
                "wait" => wait(analysis, func, val, base),
                _ => notify(analysis, func, val, base),
            });
        }
    }
}

/// A class that passes the calls of a condition on.
fn is_own_method(analysis: &Analysis<'_>, func: FuncId) -> bool {
    matches!(analysis.project.function(func).name.as_str(), "wait" | "notify" | "notify_all" | "notifyAll" | "wait_for")
}

/// The beginning of the stretch in which the function itself holds the condition; `Some(None)` if every caller does.
fn held_since(analysis: &Analysis<'_>, func: FuncId, at: Val, slots: &[Slot]) -> Option<Option<u32>> {
    let function = analysis.summaries.function(func);
    let held = function.held.iter().filter(|held| held.first <= at.0 && at.0 < held.end);
    let own =
        held.filter(|held| slots.contains(&analysis.summaries.slot(held.lock.place))).map(|held| held.first).min();
    if own.is_some() {
        return Some(own);
    }
    let entry = function.entry.iter().any(|lock| slots.contains(&analysis.summaries.slot(lock.place)));
    entry.then_some(None)
}

fn wait(analysis: &Analysis<'_>, func: FuncId, at: Val, base: Val) -> Option<Finding> {
    let body = analysis.body(func);
    let slots = analysis.lock_slots(func, base);
    if slots.is_empty() {
        return None;
    }
    let since = match held_since(analysis, func, at, &slots) {
        Some(since) => since.unwrap_or(0),
        // Who holds it is not known here.
        None => return None,
    };
    let is_loop = |block: &Block| matches!(block.kind, BlockKind::Loop(_));
    let inside = body.enclosing(at).any(|(_, block)| is_loop(block) && block.first >= since);
    let outside = body.enclosing(at).any(|(_, block)| is_loop(block) && block.first < since);
    let timed = matches!(body.op(at), Op::Call { args, .. } if args.len > 0);
    if inside || outside && timed || goes_back(analysis, func) || is_tested_after(analysis, func, at) {
        return None;
    }
    let shown = analysis.condition_name(func, base);
    let message = match outside {
        true => format!("what `{shown}` waits for is tested before its lock is taken"),
        false => format!("`{shown}` is waited for without a loop that tests again"),
    };
    Some(finding(analysis, func, at, message, shown))
}

/// Is the first thing after the wait another test, or the way out? Then nothing is taken for granted.
fn is_tested_after(analysis: &Analysis<'_>, func: FuncId, at: Val) -> bool {
    let body = analysis.body(func);
    let end =
        body.enclosing(at).find(|(_, block)| matches!(block.kind, BlockKind::With(_))).map(|(_, block)| block.end);
    let end = end.unwrap_or_else(|| crate::project::as_u32(body.nodes.len()));
    for val in (at.0 + 1..end).map(Val) {
        let entered = body.enclosing(val).any(|(_, block)| match block.kind {
            BlockKind::Then(test) | BlockKind::Else(test) => test > at,
            BlockKind::Try => block.first > at.0,
            _ => false,
        });
        if entered || matches!(body.op(val), Op::Return(None)) {
            return true;
        }
        if matches!(body.op(val), Op::Discard(of) if of == at) || is_part_of_test(body, at, val) {
            continue;
        }
        if matches!(body.op(val), Op::Local(_) | Op::Attr { .. } | Op::Global(_) | Op::None) {
            continue;
        }
        return false;
    }
    matches!(body.op(at), Op::Call { args, .. } if args.len > 0)
}

/// Does a node only serve a test that comes after the wait?
fn is_part_of_test(body: &crate::body::Body, at: Val, val: Val) -> bool {
    body.blocks.iter().any(|block| {
        let (BlockKind::Then(test) | BlockKind::Else(test)) = block.kind else { return false };
        let (node, whole) = (body.node(val), body.node(test));
        test > at && val <= test && whole.start <= node.start && node.end <= whole.end
    })
}

/// A helper that only waits, called in a loop by those who test.
fn goes_back(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let callers = &analysis.contexts.callers[func.0 as usize];
    let private = analysis.project.function(func).name.is_private();
    let calls = |site: &crate::contexts::CallSite| !site.as_value && analysis.is_in_loop(site.caller, site.at);
    private && !callers.is_empty() && callers.iter().all(calls)
}

fn notify(analysis: &Analysis<'_>, func: FuncId, at: Val, base: Val) -> Option<Finding> {
    let slots = analysis.lock_slots(func, base);
    if slots.is_empty() || held_since(analysis, func, at, &slots).is_some() {
        return None;
    }
    // Some caller holds it, or callers are not known and a name says that they do.
    let place = analysis.summaries.places.get(&slots[0])?;
    let callers = &analysis.contexts.callers[func.0 as usize];
    let name = analysis.project.function(func).name;
    if callers.iter().any(|site| analysis.summaries.locks_at(site.caller, site.at).holds(*place))
        || callers.is_empty() && name.is_private()
        || name.as_str().contains("lock")
        || acquires_it(analysis, func, &slots)
    {
        return None;
    }
    let shown = analysis.condition_name(func, base);
    Some(finding(analysis, func, at, format!("`{shown}` is notified without its lock"), shown))
}

/// Is the lock taken in the function in some way that is not followed here?
fn acquires_it(analysis: &Analysis<'_>, func: FuncId, slots: &[Slot]) -> bool {
    analysis.body(func).vals().any(|val| {
        matches!(analysis.method_call(func, val), Some((base, "acquire" | "__enter__")) if analysis.lock_slots(func, base).iter().any(|slot| slots.contains(slot)))
    })
}

fn finding(analysis: &Analysis<'_>, func: FuncId, at: Val, message: String, name: String) -> Finding {
    Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(name)
        .within(analysis.symbol(func))
        .confidence(Confidence::High)
        .with_fix(fix::loop_for_wait(analysis, func, at))
}
