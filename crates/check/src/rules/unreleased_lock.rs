//! See `unreleased_lock.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::body::{BlockId, BlockKind, Body, Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::waits::{Acquires, acquires};
use crate::types::{Slot, Std};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "unreleased-lock",
        code: "RP303",
        severity: Severity::Error,
        summary: "a lock is not released on every path, or released without being held",
        docs: include_str!("unreleased_lock.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions() {
        let function = analysis.project.function(func);
        // A context manager written as a generator holds both halves.
        if analysis.is_test(func) || is_protocol(function.name.as_str()) && !function.is_generator {
            continue;
        }
        let body = analysis.body(func);
        for val in body.calls() {
            let Some((base, "acquire")) = analysis.method_call(func, val) else { continue };
            if is_lock(analysis, func, base) {
                found.extend(acquire(analysis, func, val, base));
            }
        }
    }
}

/// Functions that are one half of a protocol: the other half is elsewhere.
fn is_protocol(name: &str) -> bool {
    let name = name.trim_matches('_').to_ascii_lowercase();
    matches!(name.as_str(), "enter" | "aenter" | "exit" | "aexit")
        || name.contains("acquire")
        || name.contains("lock") && !name.contains("block")
}

fn is_lock(analysis: &Analysis<'_>, func: FuncId, base: Val) -> bool {
    let known = analysis.types.of(func, base);
    matches!(analysis.types.std(analysis.project, func, base), Some(Std::Lock | Std::RLock | Std::Condition))
        || known.iter().any(|of| analysis.is_lock_class(*of))
}

fn acquire(analysis: &Analysis<'_>, func: FuncId, at: Val, base: Val) -> Option<Finding> {
    let body = analysis.body(func);
    let user = analysis.summaries.consumer(func, at).map(|user| body.op(user));
    if matches!(user, Some(Op::Return(_) | Op::Await(_) | Op::Yield(_))) {
        return None;
    }
    let slots = analysis.lock_slots(func, base);
    let same = |other: Val| analysis.is_same_lock(func, base, other);
    let releases: Vec<Val> = body
        .vals()
        .filter(|val| matches!(analysis.method_call(func, *val), Some((other, "release")) if same(other)))
        .collect();
    if is_handed_on(analysis, func, base, &slots) || releases.is_empty() {
        return None;
    }
    let after: Vec<Val> =
        releases.iter().copied().filter(|release| *release > at && !body.excludes(at, *release)).collect();
    // `get_lock().acquire()` has no name; where it is released it has one.
    let named = std::iter::once(base).chain(releases.iter().filter_map(|release| receiver(body, *release)));
    let named = named.into_iter().find(|val| !analysis.lock_slots(func, *val).is_empty()).unwrap_or(base);
    let name = analysis.lock_name(func, named);
    if acquires(body, at) != Acquires::Waits {
        let dropped = match user {
            Some(Op::Discard(_)) => true,
            Some(Op::StoreLocal { local, .. }) => !body.reads(local),
            _ => false,
        };
        let ignored = dropped && !may_wait(body, at);
        return (ignored && !after.is_empty()).then(|| {
            let message = format!("`{name}` may not have been acquired, but is released as if it had");
            finding(analysis, func, at, message, name).also(analysis.span(func, after[0]), "it is released here")
        });
    }
    // A loop that lets go and takes it back.
    if after.is_empty() {
        return None;
    }
    let problem = leak(body, at, &after)?;
    let is_yield = matches!(body.op(problem), Op::Yield(_));
    let message = match body.op(problem) {
        Op::Return(_) | Op::Break | Op::Continue | Op::Raise(_) => {
            format!("`{name}` stays acquired where this path leaves")
        }
        _ => format!("`{name}` stays acquired if something in between raises"),
    };
    let note = match body.op(problem) {
        Op::Return(_) | Op::Break | Op::Continue | Op::Raise(_) => "this leaves without a release",
        Op::Yield(_) => "an exception of the caller is raised here",
        _ => "this may raise",
    };
    let confidence = if is_yield { Confidence::High } else { Confidence::Medium };
    Some(finding(analysis, func, at, message, name).also(analysis.span(func, problem), note).confidence(confidence))
}

/// `acquire(*args)`, `acquire(blocking)`: the caller decides.
fn may_wait(body: &Body, at: Val) -> bool {
    let Op::Call { args, .. } = body.op(at) else { return false };
    body.args(args).iter().any(|arg| arg.starred || !matches!(body.op(arg.value), Op::Truth(_) | Op::Scalar))
}

fn finding(analysis: &Analysis<'_>, func: FuncId, at: Val, message: String, name: String) -> Finding {
    Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(name)
        .within(analysis.symbol(func))
        .confidence(Confidence::High)
        .with_fix(fix::with_for_acquire(analysis, func, at))
}

fn receiver(body: &Body, call: Val) -> Option<Val> {
    crate::summary::method_call(body, call).map(|(base, _)| base)
}

/// Released by somebody else, on purpose: `release` is handed on as a value or called in another function, or the
/// lock itself goes elsewhere.
fn is_handed_on(analysis: &Analysis<'_>, func: FuncId, base: Val, slots: &[Slot]) -> bool {
    let body = analysis.body(func);
    let value = body.vals().any(|val| match body.op(val) {
        Op::Attr { base: other, name } if name == "release" => {
            let user = analysis.summaries.consumer(func, val);
            let called = user.is_some_and(|user| matches!(body.op(user), Op::Call { func, .. } if func == val));
            !called && analysis.is_same_lock(func, base, other)
        }
        _ => false,
    });
    // A local lock that is made here serves to wait for somebody.
    let made_here = matches!(body.op(base), Op::Local(_)) && matches!(body.op(body.origin(base)), Op::Call { .. });
    value || made_here && slots.iter().all(|slot| matches!(slot, Slot::Local(..)))
}

/// A node between an acquisition and its release that can leave without the release.
fn leak(body: &Body, at: Val, releases: &[Val]) -> Option<Val> {
    let tried = releases.iter().find_map(|release| guarding_try(body, *release).map(|tried| (*release, tried)));
    let last = releases.last()?;
    // Up to the `try` whose `finally` releases; all in between must not fail.
    let end = match tried {
        Some((_, tried)) if body.holds(tried, at) => return None,
        Some((_, tried)) if body.block(tried).first > at.0 => body.block(tried).first,
        _ => last.0,
    };
    let protected = tried.is_some();
    let yields = (at.0 + 1..end).map(Val).find(|val| {
        matches!(body.op(*val), Op::Yield(_)) && !body.excludes(at, *val) && !is_after_release(body, at, *val, releases)
    });
    if yields.is_some() {
        return yields;
    }
    for idx in at.0 + 1..end {
        let val = Val(idx);
        if body.excludes(at, val) || is_after_release(body, at, val, releases) || is_call_of(body, val, releases) {
            continue;
        }
        let leaves = matches!(body.op(val), Op::Return(_) | Op::Break | Op::Continue | Op::Raise(_));
        if leaves && (!protected || !is_failure_of(body, at, val)) && leaves_region(body, at, val)
            || !protected && raises(body, val) && !is_caught(body, val, at, releases)
        {
            return Some(val);
        }
    }
    None
}

/// The `try` whose `finally`, or whose handler of everything, releases.
fn guarding_try(body: &Body, release: Val) -> Option<BlockId> {
    body.enclosing(release).find_map(|(_, block)| match block.kind {
        BlockKind::Finally(tried) => Some(tried),
        BlockKind::Except(tried, caught) if catches_all(body, caught) => Some(tried),
        _ => None,
    })
}

fn catches_all(body: &Body, caught: Option<Val>) -> bool {
    caught.is_none_or(|val| matches!(body.op(val), Op::Global(name) if name == "BaseException" || name == "Exception"))
}

/// Does some release stand on the way from the acquisition to the node?
fn is_after_release(body: &Body, at: Val, val: Val, releases: &[Val]) -> bool {
    releases.iter().any(|release| *release > at && *release < val && body.dominates(*release, val))
}

/// `lock.release` itself, and what leads to it.
fn is_call_of(body: &Body, val: Val, releases: &[Val]) -> bool {
    releases.iter().any(|release| {
        *release == val || matches!(body.op(*release), Op::Call { func, .. } if func == val || matches!(body.op(func), Op::Attr { base, .. } if base == val))
    })
}

/// `if not got: return`: this path has no lock.
fn is_failure_of(body: &Body, at: Val, val: Val) -> bool {
    body.enclosing(val).any(|(_, block)| match block.kind {
        BlockKind::Then(test) | BlockKind::Else(test) => {
            let mut found = false;
            body.operands(test, |operand| found |= operand == at || may_be(body, operand, at));
            found || test == at || may_be(body, test, at)
        }
        _ => false,
    })
}

/// Is the local given this value on some way?
fn may_be(body: &Body, read: Val, value: Val) -> bool {
    let Op::Local(local) = body.op(read) else { return false };
    let given = |store: &Val| matches!(body.op(*store), Op::StoreLocal { value: stored, .. } if stored == value);
    body.reaching(local, read).iter().any(given)
}

/// `break` and `continue` of a loop inside stay inside.
fn leaves_region(body: &Body, at: Val, val: Val) -> bool {
    match body.op(val) {
        Op::Break | Op::Continue => {
            let inner = body.enclosing(val).find(|(_, block)| matches!(block.kind, BlockKind::Loop(_)));
            inner.is_some_and(|(id, _)| body.holds(id, at))
        }
        _ => true,
    }
}

fn raises(body: &Body, val: Val) -> bool {
    matches!(body.op(val), Op::Call { .. } | Op::Item { .. } | Op::DelItem { .. } | Op::Await(_))
}

/// Is an exception of the node caught by a handler that releases, or that goes on to the release?
fn is_caught(body: &Body, val: Val, at: Val, releases: &[Val]) -> bool {
    body.enclosing(val).any(|(tried, block)| {
        block.kind == BlockKind::Try
            && block.first > at.0
            && body.blocks.iter().any(|handler| match handler.kind {
                BlockKind::Except(of, caught) if of == tried && catches_all(body, caught) => {
                    !handler.leaves
                        || releases.iter().any(|release| handler.first <= release.0 && release.0 < handler.end)
                }
                _ => false,
            })
    })
}
