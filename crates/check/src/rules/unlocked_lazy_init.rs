//! See `unlocked_lazy_init.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Condition, Stretch, Test, is_write};
use crate::body::{Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::{Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "unlocked-lazy-init",
        code: "RP101",
        severity: Severity::Error,
        summary: "shared state is created on first use without a lock",
        docs: include_str!("unlocked_lazy_init.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        for store in analysis.accesses(place).filter(|access| !access.owned) {
            found.extend(creation(analysis, store));
        }
    }
}

fn creation(analysis: &Analysis<'_>, store: &Access) -> Option<Finding> {
    let value = created(analysis, store)?;
    let slot = analysis.summaries.slot(store.place);
    let condition = analysis
        .conditions(store.func, store.act)
        .into_iter()
        .find(|condition| condition.slot == slot && matches!(condition.test, Test::Absent | Test::LacksKey(_)))?;
    if !matters(analysis, store, value) {
        return None;
    }
    let stretch = Stretch { func: store.func, from: condition.read, to: store.act };
    // Under a lock there is a second test, or `missing-recheck` speaks.
    if !analysis.summaries.locks_at(store.func, store.act).is_empty() && analysis.locks_over(stretch).is_empty() {
        return None;
    }
    let rival = analysis
        .rival(store.place, stretch, Action::Update, |other| is_write(other) && !removes_only(analysis, other))
        .or_else(|| async_getter(analysis, store, stretch))?;
    Some(finding(analysis, store, &condition, stretch, &rival))
}

/// `async def` getters of globals: one loop alone would not race, but a second loop, or a thread, gets a second object.
fn async_getter<'a>(analysis: &Analysis<'a>, store: &Access, stretch: Stretch) -> Option<crate::analysis::Rival<'a>> {
    let _ = (analysis, store, stretch);
    None
}

fn removes_only(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Store(value) => matches!(analysis.body(access.func).op(value), Op::None),
        Touch::Delete | Touch::ItemDelete => true,
        _ => false,
    }
}

/// The value that a store creates.
fn created(analysis: &Analysis<'_>, store: &Access) -> Option<Val> {
    let body = analysis.body(store.func);
    match (store.touch, body.op(store.act)) {
        (Touch::Store(value), _) => Some(value),
        (Touch::ItemStore, Op::StoreItem { value, .. }) => Some(value),
        _ => None,
    }
}

/// Would a second construction matter: has the object identity or state, or does making it have effects?
fn matters(analysis: &Analysis<'_>, store: &Access, value: Val) -> bool {
    let body = analysis.body(store.func);
    let value = body.origin(value);
    if matches!(body.op(value), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_) | Op::Param(_)) {
        return false;
    }
    stateful(analysis, store.func, value)
}

fn stateful(analysis: &Analysis<'_>, func: FuncId, value: Val) -> bool {
    let types = analysis.types.of(func, value);
    types.iter().any(|of| match of {
        Type::Instance(_) => !analysis.types.is_plain(analysis.project, &[*of]),
        Type::Std(std) => !matches!(std, Std::Logger | Std::WeakRef),
        Type::Foreign(_) | Type::Container(_) => true,
        _ => false,
    })
}

fn finding(
    analysis: &Analysis<'_>,
    store: &Access,
    condition: &Condition,
    stretch: Stretch,
    rival: &crate::analysis::Rival<'_>,
) -> Finding {
    let name = analysis.place_name(store);
    let order = vec![
        format!("one thread finds `{name}` missing"),
        format!("another thread finds `{name}` missing too"),
        "both create one: two exist, and one is lost with all that was put into it".to_owned(),
    ];
    let evidence = analysis.evidence(stretch, analysis.doing(store), rival, analysis.guard(store.place), order);
    let confidence = rival.confidence.max(Confidence::Low);
    Finding::new(
        &RULE.info,
        analysis.span(store.func, store.act),
        format!("`{name}` is created on first use without a lock"),
    )
    .on(name)
    .within(analysis.symbol(store.func))
    .also(
        analysis.span(store.func, condition.at),
        "tested here; a second thread can pass the test before the assignment",
    )
    .confidence(confidence)
    .because(evidence)
    .with_fix(fix::double_checked(analysis, store, condition, stretch))
}
