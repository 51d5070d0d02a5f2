//! See `guarded_state_escapes.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, Lock, LockSet, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Escape, Part, Rival, Stretch, is_write};
use crate::body::{Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "guarded-state-escapes",
        code: "RP207",
        severity: Severity::Error,
        summary: "a container that a lock guards is handed out as it is",
        docs: include_str!("guarded_state_escapes.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let mut places = Vec::new();
    for func in analysis.functions() {
        if analysis.is_import_code(func) || analysis.is_test(func) || analysis.is_owned_by_maker(func) {
            continue;
        }
        let body = analysis.body(func);
        for at in body.vals() {
            let (Op::Return(Some(value)) | Op::Yield(Some(value))) = body.op(at) else { continue };
            for escape in analysis.escapes(func, value) {
                if places.contains(&escape.place) {
                    continue;
                }
                if let Some(finding) = escaping(analysis, func, at, value, escape) {
                    places.push(escape.place);
                    found.push(finding);
                }
            }
        }
    }
}

fn escaping(analysis: &Analysis<'_>, func: FuncId, at: Val, value: Val, escape: Escape) -> Option<Finding> {
    let place = escape.place;
    let known = analysis.container(place).is_some() || escape.part == Part::View && analysis.types_of(place).is_empty();
    if !known || escape.part == Part::Element && !hands_out_container(analysis, place) {
        return None;
    }
    let lock = guard(analysis, func, escape)?;
    let summary = analysis.summaries.function(func);
    let yields_under =
        matches!(analysis.body(func).op(at), Op::Yield(_)) && analysis.summaries.locks_at(func, at).holds(lock.place);
    if summary.entry.holds(lock.place) || yields_under || is_handed_over(analysis, func, escape, at) {
        return None;
    }
    // From where the lock is taken: for tasks, that is where another one can come in.
    let from = analysis.summaries.region_at(func, escape.read).map_or(escape.read, |region| region.at);
    let stretch = Stretch { func, from, to: at };
    let rival = analysis.rival_with(place, stretch, Action::Read, &LockSet::default(), false, |other| {
        changes_in_place(other, escape.part) && holds(analysis, other, lock)
    })?;
    Some(finding(analysis, stretch, value, escape, lock, &rival))
}

/// The lock under which the container is changed, and which this function takes for it, or should.
fn guard(analysis: &Analysis<'_>, func: FuncId, escape: Escape) -> Option<Lock> {
    let here = analysis.summaries.locks_at(func, escape.read);
    let is_public = !analysis.project.function(func).name.is_private();
    let changes =
        || analysis.accesses(escape.place).filter(|access| !access.owned && changes_in_place(access, escape.part));
    let locks =
        changes().flat_map(|access| analysis.summaries.locks_at(access.func, access.act).iter().collect::<Vec<_>>());
    let mut candidates = locks
        .filter(|lock| here.holds(lock.place) || is_public && here.is_empty() && is_of_one(analysis, escape, *lock));
    let lock = candidates.next()?;
    // Without a lock here, that of those who change it.
    let (with, all) = (changes().filter(|access| holds(analysis, access, lock)).count(), changes().count());
    (here.holds(lock.place) || with * 2 >= all).then_some(lock)
}

/// Do the place and the lock belong to one class or module? Others may hold a lock by chance.
fn is_of_one(analysis: &Analysis<'_>, escape: Escape, lock: Lock) -> bool {
    match (analysis.summaries.slot(escape.place), analysis.summaries.slot(lock.place)) {
        (Slot::Attr(one, _), Slot::Attr(two, _)) => {
            let mro = |class| &analysis.project.class_info(class).mro;
            mro(one).contains(&two) || mro(two).contains(&one)
        }
        (Slot::Global(one, _), Slot::Global(two, _)) => one == two,
        _ => false,
    }
}

fn holds(analysis: &Analysis<'_>, access: &Access, lock: Lock) -> bool {
    analysis.summaries.locks_at(access.func, access.act).holds(lock.place)
}

/// Is the container itself changed, not only replaced?
fn changes_in_place(access: &Access, part: Part) -> bool {
    is_write(access) && !matches!(access.touch, Touch::Store(_) | Touch::Update(_) | Touch::Delete)
        // `table[key].append(...)`
        || part == Part::Element && matches!(access.touch, Touch::ItemLoad)
}

fn hands_out_container(analysis: &Analysis<'_>, place: facts::PlaceId) -> bool {
    let elements = analysis.types.elements(analysis.summaries.slot(place));
    let containers = elements.iter().any(|of| analysis.types.container_of(analysis.project, *of).is_some());
    containers && analysis.elements_change(place)
}

/// Does the object keep a new container, so that the old one belongs to the caller?
fn is_handed_over(analysis: &Analysis<'_>, func: FuncId, escape: Escape, at: Val) -> bool {
    analysis.accesses_in(func).iter().any(|access| {
        let replaced = matches!(access.touch, Touch::Store(_) | Touch::Delete);
        let removed = escape.part == Part::Element && matches!(access.touch, Touch::ItemDelete | Touch::ItemStore);
        access.place == escape.place && (replaced || removed) && access.val > escape.read && access.act < at
    })
}

fn finding(
    analysis: &Analysis<'_>,
    stretch: Stretch,
    value: Val,
    escape: Escape,
    lock: Lock,
    rival: &Rival<'_>,
) -> Finding {
    let func = stretch.func;
    let name = analysis.name_of(escape.place, func);
    let lock_name = analysis.name_of(lock.place, func);
    let what = match escape.part {
        Part::Whole => format!("`{name}`"),
        Part::View => format!("a live view of `{name}`"),
        Part::Element => format!("what `{name}` holds"),
    };
    let order = vec![
        format!("one thread gets {what}, and `{lock_name}` is not held any more"),
        format!("another thread takes `{lock_name}` and {}", analysis.doing(rival.access)),
        "the first goes through the container while it changes".to_owned(),
    ];
    let evidence = analysis.evidence(stretch, format!("hands out {what}"), rival, None, order);
    let message = format!("{what} is handed out of the protection of `{lock_name}`");
    let mut finding = Finding::new(&RULE.info, analysis.span(func, value), message)
        .on(name)
        .within(analysis.symbol(func))
        .also(analysis.span(rival.access.func, rival.access.act), format!("changed here under `{lock_name}`"));
    for (caller, at) in users(analysis, func, lock).into_iter().take(3) {
        finding = finding.also(analysis.span(caller, at), "used here without the lock");
    }
    finding.confidence(rival.confidence).because(evidence).with_fix(fix::hand_out_copy(analysis, func, value))
}

/// Callers that go through what they get, or hand it on, without the lock.
fn users(analysis: &Analysis<'_>, func: FuncId, lock: Lock) -> Vec<(FuncId, Val)> {
    let sites = analysis.contexts.callers[func.0 as usize].iter();
    let sites =
        sites.filter(|site| !site.as_value && !analysis.summaries.locks_at(site.caller, site.at).holds(lock.place));
    let uses = sites.filter(|site| {
        let body = analysis.body(site.caller);
        let Some(user) = analysis.consumer(site.caller, site.at) else { return false };
        match body.op(user) {
            Op::Iter { .. } | Op::Return(_) | Op::Yield(_) => true,
            Op::Attr { name, .. } => matches!(name.as_str(), "items" | "values" | "keys"),
            Op::Call { .. } => analysis.external_callee(site.caller, user).is_some_and(|name| {
                matches!(name.as_str().rsplit('.').next(), Some("iter" | "sum" | "iteritems" | "itervalues" | "sorted"))
            }),
            _ => false,
        }
    });
    uses.map(|site| (site.caller, site.at)).collect()
}
