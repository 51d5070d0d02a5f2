//! See `unlocked_increment.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Stretch, is_write};
use crate::body::Op;
use crate::fix;
use crate::summary::{Access, Touch};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "unlocked-increment",
        code: "RP201",
        severity: Severity::Error,
        summary: "shared state is read and written back without a lock",
        docs: include_str!("unlocked_increment.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        for update in analysis.accesses(place).filter(|access| !access.owned) {
            if let Some(finding) = update_finding(analysis, update) {
                found.push(finding);
            }
        }
    }
}

fn update_finding(analysis: &Analysis<'_>, update: &Access) -> Option<Finding> {
    let from = match update.touch {
        Touch::Update(read) => read,
        // Each thread has a key of its own: nobody else updates that item.
        Touch::ItemUpdate if !has_own_key(analysis, update) => update.val,
        _ => return None,
    };
    let stretch = Stretch { func: update.func, from: from.min(update.val), to: update.act };
    if analysis.has_locked_twin(update) {
        return None;
    }
    let rival = analysis.rival(update.place, stretch, Action::Update, is_write)?;
    let name = analysis.place_name(update);
    let who = analysis.who(&rival);
    let order = vec![
        format!("one {who} reads `{name}`"),
        format!("another {who} {}", analysis.doing(rival.access)),
        format!("the first writes `{name}` from what it read: the other's change is lost"),
    ];
    let message = format!("`{name}` is read and written back without a lock");
    let finding = analysis.race(&RULE.info, update, stretch, &rival, message, order);
    Some(finding.with_fix(fix::hold_lock(analysis, update, stretch, "the update")))
}

fn has_own_key(analysis: &Analysis<'_>, update: &Access) -> bool {
    match analysis.body(update.func).op(update.act) {
        Op::StoreItem { key, .. } => analysis.is_own_key(update.func, key),
        _ => false,
    }
}
