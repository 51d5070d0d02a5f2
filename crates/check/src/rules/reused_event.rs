//! See `reused_event.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Evidence, Finding, RuleInfo, Severity};
use rustc_hash::FxHashSet;

use super::Rule;
use crate::analysis::Analysis;
use crate::analysis::failures::methods;
use crate::analysis::signals::{Change, Waiter, changes, waiters};
use crate::body::{FunctionKind, Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::FuncId;
use crate::types::{Slot, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "reused-event",
        code: "RP405",
        severity: Severity::Error,
        summary: "an event that tells a thread to stop is cleared for the next one",
        docs: include_str!("reused_event.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let waiters = waiters(analysis);
    let slots: FxHashSet<Slot> = waiters.iter().map(|waiter| waiter.slot).collect();
    let changes = changes(analysis, &slots);
    let mut seen = FxHashSet::default();
    for waiter in &waiters {
        let stops: Vec<&Change> = changes
            .iter()
            .filter(|change| change.slot == waiter.slot && change.raises == waiter.ends_when_raised)
            .filter(|change| change.func != waiter.func && !is_making(analysis, change.func))
            .filter(|change| !undoes(&changes, change))
            .collect();
        for take_back in changes.iter().filter(|change| {
            change.slot == waiter.slot && change.raises != waiter.ends_when_raised && !is_making(analysis, change.func)
        }) {
            let stops: Vec<&Change> =
                stops.iter().copied().filter(|stop| are_kin(analysis, stop.func, take_back.func)).collect();
            if stops.is_empty() || seen.contains(&(take_back.func, take_back.at)) {
                continue;
            }
            if let Some(confidence) = is_lost(analysis, waiter, &stops, take_back) {
                seen.insert((take_back.func, take_back.at));
                found.push(finding(analysis, waiter, stops[0], take_back, confidence));
            }
        }
    }
}

/// Does a change only take back what its function did before, because a start failed?
fn undoes(changes: &[Change], change: &Change) -> bool {
    let same = |other: &&Change| other.slot == change.slot && other.func == change.func && other.at < change.at;
    changes.iter().filter(same).any(|other| other.raises != change.raises)
}

/// Can both be methods of one object, or are they not methods at all?
fn are_kin(analysis: &Analysis<'_>, one: FuncId, two: FuncId) -> bool {
    let (Some(one), Some(two)) = (analysis.project.class_of(one), analysis.project.class_of(two)) else { return true };
    let ancestors = |class| &analysis.project.class_info(class).mro;
    ancestors(one).contains(&two) || ancestors(two).contains(&one)
}

fn is_making(analysis: &Analysis<'_>, func: FuncId) -> bool {
    analysis.summaries.function(func).init_only || analysis.is_import_code(func) || analysis.is_test(func)
}

/// Can a thread miss that it was told to stop, because the signal is taken back for the next one?
fn is_lost(analysis: &Analysis<'_>, waiter: &Waiter, stops: &[&Change], take_back: &Change) -> Option<Confidence> {
    let (func, at) = (take_back.func, take_back.at);
    if func == waiter.func {
        // The thread itself, before its loop: a stop that came first is undone. In the loop it is a wake-up.
        let first = !analysis.loops_around(func, at).any(|_| true) && at < waiter.at;
        return (first && take_back.is_event && joins(analysis, func).is_empty()).then_some(Confidence::Medium);
    }
    let before = stops.iter().any(|stop| stop.func == func && stop.at < at);
    if !starts_after(analysis, waiter, func, at) || asks_alive(analysis, func, at) {
        return None;
    }
    let waits = |joins: &[(Val, bool)], upto: Option<Val>| {
        joins.iter().filter(|(join, _)| upto.is_none_or(|upto| *join < upto)).map(|(_, bounded)| *bounded).min()
    };
    let bounded = match waits(&joins(analysis, func), Some(at)) {
        Some(bounded) => Some(bounded),
        None => {
            let each: Vec<_> = stops.iter().map(|stop| waits(&joins(analysis, stop.func), None)).collect();
            if each.iter().any(Option::is_none) { None } else { each.into_iter().flatten().max() }
        }
    };
    match bounded {
        Some(false) => None,
        Some(true) if before => Some(Confidence::Medium),
        Some(true) => Some(Confidence::Low),
        None => Some(Confidence::Medium),
    }
}

/// The joins of threads in a function and in what it calls: where, and whether with a timeout.
fn joins(analysis: &Analysis<'_>, func: FuncId) -> Vec<(Val, bool)> {
    let mut found = direct_joins(analysis, func);
    for call in &analysis.contexts.calls[func.0 as usize] {
        if !call.as_value && !call.spawns && !call.guessed {
            found.extend(direct_joins(analysis, call.callee).into_iter().map(|(_, bounded)| (call.at, bounded)));
        }
    }
    found
}

fn direct_joins(analysis: &Analysis<'_>, func: FuncId) -> Vec<(Val, bool)> {
    let body = analysis.body(func);
    let joins = methods(body, &["join", "result"]).filter(|(_, base, _)| {
        !matches!(body.op(*base), Op::Str(_) | Op::Other(_))
            && !analysis
                .types
                .of(func, *base)
                .iter()
                .any(|of| matches!(of, Type::Plain | Type::Module(_) | Type::External(_)))
    });
    joins
        .map(|(call, ..)| match body.op(call) {
            Op::Call { args, .. } => (call, body.args(args).iter().any(|arg| !matches!(body.op(arg.value), Op::None))),
            _ => (call, false),
        })
        .collect()
}

/// Is the waiting loop handed to a thread or pool after `at`, here or in what is called from here?
fn starts_after(analysis: &Analysis<'_>, waiter: &Waiter, func: FuncId, at: Val) -> bool {
    let calls = &analysis.contexts.calls[func.0 as usize];
    let sites: Vec<(FuncId, Val)> = analysis
        .contexts
        .groups_of(waiter.func)
        .map(|idx| &analysis.contexts.groups[idx])
        .filter(|group| matches!(group.kind, EntryKind::Thread | EntryKind::Pool))
        .flat_map(|group| group.entries.iter().filter_map(|entry| entry.site))
        .collect();
    sites.iter().any(|(maker, site)| {
        *maker == func && *site > at || calls.iter().any(|call| call.at > at && !call.spawns && call.callee == *maker)
    })
}

/// Does the function look whether the old thread is still there before it goes on?
fn asks_alive(analysis: &Analysis<'_>, func: FuncId, at: Val) -> bool {
    let body = analysis.body(func);
    body.vals().take(at.0 as usize).any(|val| match body.op(val) {
        Op::Attr { name, .. } => matches!(name.as_str(), "is_alive" | "isAlive"),
        _ => false,
    })
}

fn finding(
    analysis: &Analysis<'_>,
    waiter: &Waiter,
    stop: &Change,
    take_back: &Change,
    confidence: Confidence,
) -> Finding {
    let body = analysis.body(take_back.func);
    let named = match body.op(take_back.at) {
        Op::Call { func, .. } => match body.op(func) {
            Op::Attr { base, .. } => base,
            _ => take_back.at,
        },
        _ => take_back.at,
    };
    let place = name(analysis, take_back.func, named);
    let again = if take_back.is_event && !take_back.raises { "cleared" } else { "taken back" };
    let order = vec![
        format!("`{}` tells the thread to stop", analysis.symbol(stop.func)),
        format!("`{}` takes the signal back before the thread has looked", analysis.symbol(take_back.func)),
        "the old thread goes on, beside the new one".to_owned(),
    ];
    let evidence = Evidence::Possible { paths: Vec::new(), overlap: String::new(), vote: None, order };
    Finding::new(
        &RULE.info,
        analysis.span(take_back.func, take_back.at),
        format!("`{place}` is {again} before the thread that it stops has seen it"),
    )
    .on(place)
    .within(analysis.symbol(take_back.func))
    .also(analysis.span(stop.func, stop.at), "the thread is told to stop here")
    .also(analysis.span(waiter.func, waiter.at), "the thread looks here")
    .confidence(confidence)
    .because(evidence)
    .with_fix(fix::event_for_each_run(analysis, waiter.slot, waiter.func, (take_back.func, take_back.at)))
}

fn name(analysis: &Analysis<'_>, func: FuncId, val: Val) -> String {
    let body = analysis.body(func);
    let own = analysis.project.function(func).kind == FunctionKind::Def;
    match body.op(val) {
        Op::Attr { base, name } | Op::StoreAttr { base, name, .. } => match body.op(base) {
            Op::Local(local) if own => format!("{}.{name}", body.locals[local.0 as usize]),
            _ => name.to_string(),
        },
        Op::Global(name) | Op::StoreGlobal { name, .. } => name.to_string(),
        Op::Captured(owner, local) => {
            analysis.body(analysis.project.sibling(func, owner)).locals[local.0 as usize].to_string()
        }
        _ => analysis.files.text(analysis.span(func, val)).to_owned(),
    }
}
