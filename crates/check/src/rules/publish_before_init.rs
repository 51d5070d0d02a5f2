//! See `publish_before_init.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Made, Rival, Stretch, Test, is_write};
use crate::body::{BlockKind, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "publish-before-init",
        code: "RP102",
        severity: Severity::Error,
        summary: "a shared name is assigned before its object is ready",
        docs: include_str!("publish_before_init.md"),
        on_by_default: true,
    },
    check,
};

/// A new object becomes visible at `store`, and is made ready at `ready` of `func` only.
struct Early<'a> {
    store: &'a Access,
    made: Made,
    /// The function in which both happen: that of the store, or its caller.
    func: FuncId,
    /// Where the object is published, seen from `func`: the store, or the call that leads to it.
    from: Val,
    /// The last node that makes it ready.
    ready: Val,
    /// The object is made where the place was found empty.
    is_lazy: bool,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        let stores = analysis.accesses(place).filter(|access| !access.owned && !analysis.is_test(access.func));
        let mut early: Vec<(bool, Finding)> = stores.filter_map(|store| published(analysis, store)).collect();
        // One for each place: that of the getter, if there is one.
        early.sort_by_key(|(is_lazy, _)| !is_lazy);
        let mut early = early.into_iter().map(|(_, finding)| finding);
        if let Some(first) = early.next() {
            found.push(early.fold(first, |first, other| first.also(other.span, "assigned too early here as well")));
        }
    }
}

fn published(analysis: &Analysis<'_>, store: &Access) -> Option<(bool, Finding)> {
    let value = stored(analysis, store)?;
    let made = analysis.made(store.func, value).filter(|made| !analysis.is_thread(*made))?;
    let here = analysis.readied_after(store, value, made).map(|ready| Early {
        store,
        made,
        func: store.func,
        from: store.act,
        ready,
        is_lazy: is_lazy(analysis, store.func, store.act, store.place),
    });
    let early = here.or_else(|| by_a_caller(analysis, store, made))?;
    let counts = early.is_lazy || is_reload(analysis, &early);
    counts.then(|| finding(analysis, &early)).flatten().map(|finding| (early.is_lazy, finding))
}

/// Without a test, most stores belong to a start-up that runs once, before anybody else has the object. What is known
/// to run again: work on module and class state, loops, and methods that say so.
fn is_reload(analysis: &Analysis<'_>, early: &Early<'_>) -> bool {
    let (store, func) = (early.store, early.func);
    if matches!(early.made, Made::Foreign) || !matches!(store.touch, Touch::Store(_)) {
        return false;
    }
    let stretch = Stretch { func, from: early.from, to: early.ready };
    if !analysis.locks_over(stretch).is_empty() {
        return false;
    }
    let slot = analysis.summaries.slot(store.place);
    let is_global = matches!(slot, Slot::Global(..)) || analysis.is_class_attribute(slot);
    let body = analysis.body(func);
    let in_loop = body.enclosing(early.from).any(|(_, block)| matches!(block.kind, BlockKind::Loop(_)));
    let name = analysis.project.function(func).name.as_str();
    let again = ["reload", "refresh", "rebuild", "resync"].iter().any(|word| name.contains(word));
    let starts = ["init", "setup", "start", "create", "configure", "bootstrap"];
    let at_start = starts.iter().any(|word| name.trim_start_matches('_').starts_with(word));
    is_global && !at_start || in_loop || again
}

/// The value that a store makes visible.
fn stored(analysis: &Analysis<'_>, store: &Access) -> Option<Val> {
    match store.touch {
        Touch::Store(value) => Some(value),
        Touch::ItemStore => analysis.item_stored(store.func, store.act),
        _ => None,
    }
}

/// A helper publishes, and its caller makes ready in the next step.
fn by_a_caller<'a>(analysis: &Analysis<'_>, store: &'a Access, made: Made) -> Option<Early<'a>> {
    if !matches!(store.touch, Touch::Store(_)) {
        return None;
    }
    let on_object = matches!(analysis.summaries.slot(store.place), Slot::Attr(..));
    let sites = &analysis.contexts.callers[store.func.0 as usize];
    sites.iter().filter(|site| !site.as_value && !site.spawns && !site.guessed).find_map(|site| {
        let func = site.caller;
        let follows = !on_object || !analysis.self_callees(func, site.at).is_empty();
        if !follows || analysis.is_owned_by_maker(func) || analysis.is_import_code(func) {
            return None;
        }
        let ready = analysis.readied_by_call(func, site.at, store.place)?;
        let is_lazy = is_lazy(analysis, func, site.at, store.place);
        is_lazy.then_some(Early { store, made, func, from: site.at, ready, is_lazy })
    })
}

fn is_lazy(analysis: &Analysis<'_>, func: FuncId, at: Val, place: PlaceId) -> bool {
    let slot = analysis.summaries.slot(place);
    let tests = analysis.conditions(func, at);
    tests.iter().any(|test| test.slot == slot && matches!(test.test, Test::Absent | Test::LacksKey(_)))
}

fn finding(analysis: &Analysis<'_>, early: &Early<'_>) -> Option<Finding> {
    let (store, func) = (early.store, early.func);
    let stretch = Stretch { func, from: early.from, to: early.ready };
    // A reader that takes no lock is not to blame: it trusts what it finds assigned.
    let locks = analysis.locks_over(stretch);
    let rival = analysis.rival_with(store.place, stretch, Action::Write, &locks, false, |other| {
        takes(early, other) && !analysis.was_tested_under(&locks, other)
    })?;
    let name = analysis.place_name(store);
    let order = vec![
        format!("one thread assigns `{name}`, and has not made it ready yet"),
        format!("another thread {}: it gets the unfinished object", analysis.doing(rival.access)),
        "the first goes on to make it ready, too late for the other".to_owned(),
    ];
    let evidence = analysis.evidence(stretch, format!("makes `{name}` ready"), &rival, None, order);
    let mut finding = Finding::new(
        &RULE.info,
        analysis.span(store.func, store.act),
        format!("`{name}` is assigned before it is ready"),
    )
    .on(name)
    .within(analysis.symbol(store.func))
    .also(analysis.span(func, early.ready), "made ready only here, when others can already have it");
    if func != store.func {
        finding = finding.also(analysis.span(func, early.from), "published by this call");
    }
    let fix = (func == store.func).then(|| fix::publish_last(analysis, store, early.ready)).flatten();
    Some(finding.confidence(confidence(early, &rival)).because(evidence).with_fix(fix))
}

/// Can the other access be misled by an object that is not ready?
fn takes(early: &Early<'_>, other: &Access) -> bool {
    let reads = !is_write(other) && !matches!(other.touch, Touch::Snapshot if !early.is_lazy);
    // Without a test, a concurrent call of the same function would have its own turn.
    reads && (early.is_lazy || other.func != early.store.func)
}

fn confidence(early: &Early<'_>, rival: &Rival<'_>) -> Confidence {
    match early.made {
        Made::Container(_) | Made::Object(_) => rival.confidence,
        Made::Foreign => rival.confidence.min(Confidence::Medium),
    }
}
