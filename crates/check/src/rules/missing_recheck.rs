//! See `missing_recheck.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Condition, Rival, Stretch, Test, is_write};
use crate::body::Val;
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Held, Touch};
use crate::types::Type;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "missing-recheck",
        code: "RP103",
        severity: Severity::Error,
        summary: "a slot is tested without the lock and filled under it without a second test",
        docs: include_str!("missing_recheck.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        let stores = analysis.accesses(place).filter(|access| !access.owned && !analysis.is_test(access.func));
        // One for each place.
        found.extend(stores.filter_map(|store| filled(analysis, store)).next());
    }
}

/// Where a slot is filled: the store itself, or the call of a helper that does nothing but fill it.
#[derive(Clone, Copy)]
struct Filling<'a> {
    store: &'a Access,
    func: FuncId,
    at: Val,
}

fn filled(analysis: &Analysis<'_>, store: &Access) -> Option<Finding> {
    let value = match store.touch {
        Touch::Store(value) => value,
        Touch::ItemStore => analysis.item_stored(store.func, store.act)?,
        _ => return None,
    };
    let sure = matters(analysis, store.func, value)?;
    let here = Filling { store, func: store.func, at: store.act };
    let finding = unchecked(analysis, here).or_else(|| {
        let in_branch = analysis.body(store.func).enclosing(store.act).next().is_some();
        let sites = analysis.contexts.callers[store.func.0 as usize].iter();
        let direct = sites.filter(|site| !in_branch && !site.as_value && !site.spawns && !site.guessed);
        direct
            .filter(|site| !analysis.is_owned_by_maker(site.caller))
            .find_map(|site| unchecked(analysis, Filling { store, func: site.caller, at: site.at }))
    })?;
    Some(if sure { finding } else { finding.confidence(Confidence::Low) })
}

fn unchecked(analysis: &Analysis<'_>, filling: Filling<'_>) -> Option<Finding> {
    let Filling { store, func, at } = filling;
    let region = analysis.summaries.region_at(func, at)?;
    let slot = analysis.summaries.slot(store.place);
    let tests: Vec<Condition> = analysis
        .conditions(func, at)
        .into_iter()
        .filter(|test| test.slot == slot && matches!(test.test, Test::Absent | Test::LacksKey(_)))
        .collect();
    let first = tests.first()?;
    let is_held = |at: Val| analysis.summaries.locks_at(func, at).holds(region.lock.place);
    if tests.iter().any(|test| is_held(test.read)) || looked_at_again(analysis, filling, region) {
        return None;
    }
    let stretch = Stretch { func, from: first.read, to: at };
    let rival = analysis.rival(store.place, stretch, Action::Update, |other| creates(analysis, other))?;
    Some(finding(analysis, filling, first, region, &rival))
}

/// Is the slot read again under the lock, here or in a helper?
fn looked_at_again(analysis: &Analysis<'_>, filling: Filling<'_>, region: &Held) -> bool {
    let Filling { store, func, at } = filling;
    let place = store.place;
    let reads = |func: FuncId| {
        analysis.accesses_in(func).iter().filter(move |access| access.place == place && !is_write(access))
    };
    if reads(func).any(|access| region.first <= access.val.0 && access.val < at && access.act != at) {
        return true;
    }
    let calls = (region.first..=at.0).map(Val).flat_map(|at| analysis.callees(func, at));
    calls.into_iter().any(|callee| analysis.self_reach(callee).into_iter().any(|func| reads(func).next().is_some()))
}

/// Would a second construction matter? `None` if not, `false` if nothing is known of the value.
fn matters(analysis: &Analysis<'_>, func: FuncId, value: Val) -> Option<bool> {
    if analysis.is_plain(func, value) {
        return None;
    }
    let origin = analysis.body(func).origin(value);
    let types = analysis.types.of(func, origin);
    Some(analysis.made(func, value).is_some() || types.iter().any(|of| !matches!(of, Type::None | Type::Plain)))
}

/// Does an access put something into the slot?
fn creates(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Store(value) => !analysis.is_plain(access.func, value),
        Touch::ItemStore => true,
        _ => false,
    }
}

fn finding(
    analysis: &Analysis<'_>,
    filling: Filling<'_>,
    test: &Condition,
    region: &Held,
    rival: &Rival<'_>,
) -> Finding {
    let Filling { store, func, at } = filling;
    let name = analysis.place_name(store);
    let lock = analysis.name_of(region.lock.place, func);
    let stretch = Stretch { func, from: test.read, to: at };
    let order = vec![
        format!("one thread finds `{name}` missing, and takes `{lock}`"),
        format!("another thread finds `{name}` missing as well, and waits for `{lock}`"),
        format!("the first fills `{name}` and releases `{lock}`; the other fills it again"),
    ];
    let evidence = analysis.evidence(stretch, analysis.doing(store), rival, None, order);
    let message = format!("`{name}` is tested before `{lock}` is taken, and not again under it");
    let mut finding = Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(name)
        .within(analysis.symbol(func))
        .also(analysis.span(func, test.at), "tested here without the lock")
        .also(analysis.span(func, region.at), "another thread can have filled it before this lock is had");
    if func != store.func {
        finding = finding.also(analysis.span(store.func, store.act), "filled here");
    }
    let fix = (func == store.func).then(|| fix::recheck(analysis, store, test)).flatten();
    finding.confidence(rival.confidence).because(evidence).with_fix(fix)
}
