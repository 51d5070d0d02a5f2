//! See `unlocked_lazy_init.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Creation, Rival};
use crate::contexts::EntryKind;
use crate::fix;
use crate::summary::Access;
use crate::types::Slot;

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
            found.extend(finding(analysis, store));
        }
    }
}

fn finding(analysis: &Analysis<'_>, store: &Access) -> Option<Finding> {
    let creation = analysis.creation(store)?;
    let stretch = creation.stretch;
    let on_loop = analysis.project.function(store.func).is_async;
    if on_loop && analysis.suspends(stretch) {
        // `await-split-init` says more.
        return None;
    }
    // A store under a lock has a second test there, or `missing-recheck` speaks.
    if !analysis.summaries.locks_at(store.func, store.act).is_empty() && analysis.locks_over(stretch).is_empty() {
        return None;
    }
    let rival = analysis
        .rival(store.place, stretch, Action::Update, |other| analysis.creation(other).is_some())
        .or_else(|| from_two_loops(analysis, store, &creation))?;
    let name = analysis.place_name(store);
    let order = vec![
        format!("one thread finds {} missing", what(&name, &creation)),
        format!("another thread finds {} missing too", what(&name, &creation)),
        "both create one: callers hold two different objects, and what goes into one of them is lost".to_owned(),
    ];
    let message = format!("{} is created on first use without a lock", what(&name, &creation));
    let finding = analysis.race(&RULE.info, store, stretch, &rival, message, order);
    let tested = analysis.span(store.func, creation.condition.at);
    let confidence = if creation.certain { rival.confidence } else { Confidence::Low };
    let finding = finding.also(tested, "a second thread can pass this test before the assignment");
    let fix = fix::double_checked(analysis, store, &creation.condition, stretch);
    Some(finding.confidence(confidence).with_fix(fix))
}

fn what(name: &str, creation: &Creation) -> String {
    if creation.keyed { format!("an item of `{name}`") } else { format!("`{name}`") }
}

/// A public coroutine that creates a global: one event loop runs it in one piece, but a second loop, in another
/// thread, does not wait for the first.
fn from_two_loops<'a>(analysis: &Analysis<'a>, store: &Access, creation: &Creation) -> Option<Rival<'a>> {
    let on_class = matches!(analysis.summaries.slot(store.place), Slot::Global(..));
    let group = analysis
        .contexts
        .groups_of(store.func)
        .find(|group| analysis.contexts.groups[*group].kind == EntryKind::AsyncApi)?;
    let entered = analysis.contexts.entry(group, store.func).is_some();
    if !on_class || !entered || !analysis.locks_over(creation.stretch).is_empty() {
        return None;
    }
    let access = analysis.accesses(store.place).find(|access| access.val == store.val && access.func == store.func)?;
    Some(Rival { access, our_group: group, their_group: group, confidence: Confidence::Medium })
}
