//! See `blocking_under_lock.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};
use rustc_hash::FxHashMap;

use super::Rule;
use crate::analysis::{Analysis, Test, Under};
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::summary::waits::Wait;
use crate::summary::{Effect, Source, What};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "blocking-under-lock",
        code: "RP307",
        severity: Severity::Warning,
        summary: "something slow or endless is waited for while a lock is held",
        docs: include_str!("blocking_under_lock.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    // By the call that blocks: the surest finding.
    let mut best: FxHashMap<(FuncId, Val), Finding> = FxHashMap::default();
    for under in analysis.under_locks() {
        if analysis.is_test(under.func) || !is_wanted(analysis, &under) {
            continue;
        }
        for effect in &under.effects {
            let finding = match effect.what {
                What::Waits(wait) => waits(analysis, &under, effect, wait),
                What::Calls(source) => calls(analysis, &under, effect, source),
                _ => None,
            };
            let Some(finding) = finding else { continue };
            match best.get_mut(&effect.end) {
                Some(known) if known.confidence >= finding.confidence => {}
                Some(known) => *known = finding,
                None => {
                    best.insert(effect.end, finding);
                }
            }
        }
    }
    found.extend(best.into_values());
}

/// Is the lock taken anywhere by a thread that can come while this one holds it?
fn is_wanted(analysis: &Analysis<'_>, under: &Under<'_>) -> bool {
    let place = under.held.lock.place;
    analysis.functions().any(|func| {
        let held = &analysis.summaries.function(func).held;
        held.iter().any(|held| held.lock.place == place) && analysis.may_overlap(under.func, func).is_some()
    })
}

fn waits(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect, wait: Wait) -> Option<Finding> {
    let place = under.held.lock.place;
    let (func, call) = effect.end;
    if wait == Wait::Condition && releases(analysis, under, effect) || analysis.is_done(func, call) {
        return None;
    }
    let name = analysis.name_of(place, func);
    let needed = analysis.needs(func, call, wait, place);
    if needed.is_none() && (is_construction(analysis, under, effect) || is_short(analysis, func, call, wait)) {
        return None;
    }
    let message = match needed {
        Some(who) => format!(
            "this {} while `{name}` is held, and `{}` needs that lock: it never ends",
            wait.in_words(),
            analysis.symbol(who)
        ),
        None => format!("this {} while `{name}` is held", wait.in_words()),
    };
    let way = analysis.way(under.func, effect).len();
    let confidence = match (needed, effect.bounded) {
        (Some(_), false) => Confidence::High,
        (Some(_), true) => Confidence::Medium,
        (None, true) => Confidence::Low,
        // What lies deep, or reads a small file somewhere, is no more than a hint.
        (None, false) if way > 1 || wait == Wait::File && way > 0 => Confidence::Low,
        (None, false) if wait == Wait::Sleep && !is_literal(analysis, func, call) => Confidence::Low,
        (None, false) if effect.depends || !effect.sure || !analysis.is_typed_lock(place) => Confidence::Low,
        (None, false) => Confidence::Medium,
    };
    let mut finding = finding(analysis, under, effect, message).confidence(confidence);
    if let Some(who) = needed {
        finding = finding.also(analysis.project.head(who), "this needs the lock");
    }
    Some(finding)
}

/// A pause whose length is written down; of others it is not known whether they are long.
/// A module constant that is a number.
fn is_number(analysis: &Analysis<'_>, func: FuncId, name: crate::name::Name) -> bool {
    let module = analysis.project.module_of(func);
    match analysis.project.globals[module.0 as usize].get(&name).map(Vec::as_slice) {
        Some([store]) => matches!(analysis.body(store.func).op(store.value), Op::Scalar),
        _ => false,
    }
}

fn is_literal(analysis: &Analysis<'_>, func: FuncId, call: Val) -> bool {
    let body = analysis.body(func);
    match body.op(call) {
        Op::Call { args, .. } => body.args(args).first().is_some_and(|arg| match body.op(arg.value) {
            Op::Scalar => true,
            Op::Global(name) => is_number(analysis, func, name),
            _ => false,
        }),
        _ => false,
    }
}

/// `sleep(0)`, `waitpid(pid, WNOHANG)`
fn is_short(analysis: &Analysis<'_>, func: FuncId, call: Val, wait: Wait) -> bool {
    let text = analysis.files.text(analysis.span(func, call));
    match wait {
        Wait::Sleep => text.ends_with("(0)") || text.ends_with("(0.0)"),
        Wait::Process => text.contains("NOHANG"),
        _ => false,
    }
}

/// `Condition.wait` lets go of the lock that it belongs to.
fn releases(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect) -> bool {
    let (func, call) = effect.end;
    let slot = analysis.summaries.slot(under.held.lock.place);
    analysis.method_call(func, call).is_some_and(|(base, _)| analysis.lock_slots(func, base).contains(&slot))
}

/// One-time construction: the others have to wait for it anyway.
fn is_construction(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect) -> bool {
    let body = analysis.body(under.func);
    let conditions = analysis.conditions(under.func, effect.at);
    conditions.iter().any(|condition| {
        matches!(condition.test, Test::Absent | Test::LacksKey(_))
            && (under.held.first..under.held.end).any(|idx| match body.op(Val(idx)) {
                Op::StoreAttr { .. } | Op::StoreGlobal { .. } | Op::StoreCaptured { .. } => {
                    analysis.types.slots_of(analysis.project, under.func, Val(idx)).contains(&condition.slot)
                }
                Op::StoreItem { base, .. } => {
                    analysis.types.slots_of(analysis.project, under.func, base).contains(&condition.slot)
                }
                _ => false,
            })
    })
}

/// A function that was handed in: what it does, and which locks it takes, is not known here.
fn calls(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect, source: Source) -> Option<Finding> {
    let callbacks = &analysis.summaries.effects.callbacks;
    let known = match source {
        Source::Slot(slot) => callbacks.is_handed_in(slot) && is_public(slot),
        Source::Param(_) | Source::ParamElement(_) => false,
    };
    // One function that the object was made with (a clock, a factory) is a part of it; listeners come and go.
    let body = analysis.body(effect.end.0);
    let alone = match body.op(effect.end.1) {
        Op::Call { func: target, .. } => matches!(body.op(body.origin(target)), Op::Attr { .. } | Op::Global(_)),
        _ => true,
    };
    if !known || alone || effect.via.is_some() || is_construction(analysis, under, effect) {
        return None;
    }
    let name = analysis.name_of(under.held.lock.place, under.func);
    let message = format!("a callback runs while `{name}` is held");
    let typed = analysis.is_typed_lock(under.held.lock.place);
    Some(finding(analysis, under, effect, message).confidence(if typed { Confidence::Medium } else { Confidence::Low }))
}

fn is_public(slot: Slot) -> bool {
    matches!(slot, Slot::Attr(..) | Slot::Global(..))
}

fn finding(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect, message: String) -> Finding {
    let (func, at) = effect.end;
    let name = analysis.name_of(under.held.lock.place, func);
    let mut finding = Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(name)
        .within(analysis.symbol(func))
        .also(analysis.span(under.func, under.held.at), "the lock is taken here");
    for (callee, span) in analysis.way(under.func, effect) {
        finding = finding.also(span, format!("`{}` is called under it", analysis.symbol(callee)));
    }
    finding
}
