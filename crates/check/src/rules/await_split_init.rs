//! See `await_split_init.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Creation};
use crate::body::Op;
use crate::fix;
use crate::summary::Access;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "await-split-init",
        code: "RP105",
        severity: Severity::Error,
        summary: "shared state is tested before an await and created after it",
        docs: include_str!("await_split_init.md"),
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
    let creation = made(analysis, store)?;
    let stretch = creation.stretch;
    if !analysis.project.function(store.func).is_async || !analysis.suspends(stretch) {
        return None;
    }
    let rival = analysis.rival(store.place, stretch, Action::Update, |other| made(analysis, other).is_some())?;
    let name = analysis.place_name(store);
    let order = vec![
        format!("one task finds `{name}` missing and awaits"),
        format!("meanwhile another task finds `{name}` missing too, and awaits"),
        "both create one; the second assignment throws the first away".to_owned(),
    ];
    let message = format!("`{name}` is tested before an await and created after it");
    let finding = analysis.race(&RULE.info, store, stretch, &rival, message, order);
    let tested = analysis.span(store.func, creation.condition.at);
    let fix = fix::double_checked(analysis, store, &creation.condition, stretch);
    Some(finding.also(tested, "another task can pass this test during the await").with_fix(fix))
}

/// What is made after an await was not cheap, so that even a second equal one matters; a plain flag does not.
fn made(analysis: &Analysis<'_>, store: &Access) -> Option<Creation> {
    let creation = analysis.lazy_store(store)?;
    let body = analysis.body(store.func);
    let value = body.origin(creation.value);
    let constant = matches!(body.op(value), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_));
    let plain = analysis.types.is_plain(analysis.project, analysis.types.of(store.func, value));
    (!constant && !plain).then_some(creation)
}
