//! See `nulled_while_used.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Stretch, Test};
use crate::body::Op;
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "nulled-while-used",
        code: "RP203",
        severity: Severity::Error,
        summary: "tested, then used again, while another thread sets it to None or deletes it",
        docs: include_str!("nulled_while_used.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places().filter(|place| analysis.accesses(*place).any(|access| nulls(analysis, access))) {
        let mut seen: Vec<FuncId> = Vec::new();
        for used in analysis.accesses(place).filter(|access| !access.owned && uses(analysis, access)) {
            if seen.contains(&used.func) {
                continue;
            }
            if let Some(finding) = finding(analysis, place, used).or_else(|| by_flag(analysis, place, used)) {
                seen.push(used.func);
                found.push(finding);
            }
        }
    }
}

/// Does the access take the value away?
fn nulls(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Store(value) => !access.owned && matches!(analysis.body(access.func).op(value), Op::None),
        Touch::Delete => !access.owned,
        _ => false,
    }
}

/// Does the access fail if the value is None?
fn uses(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Method(_) | Touch::Member | Touch::ItemLoad | Touch::ItemStore | Touch::Iterate | Touch::Len => {
            !access.aliased
        }
        // `self.x(...)`: called.
        Touch::Load => {
            let user = analysis.summaries.consumer(access.func, access.val);
            user.is_some_and(|user| match analysis.body(access.func).op(user) {
                Op::Call { func, .. } => func == access.val,
                _ => false,
            })
        }
        _ => false,
    }
}

fn finding(analysis: &Analysis<'_>, place: PlaceId, used: &Access) -> Option<Finding> {
    let slot = analysis.summaries.slot(place);
    let condition = analysis
        .conditions(used.func, used.act)
        .into_iter()
        .find(|condition| condition.slot == slot && condition.test == Test::Present && !condition.through_local)?;
    let body = analysis.body(used.func);
    // Assigned anew between test and use: what is used is our own.
    let renewed = (condition.read.0..used.val.0).map(crate::body::Val).any(|val| match body.op(val) {
        Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } => {
            !matches!(body.op(value), Op::None)
                && analysis.types.slots_of(analysis.project, used.func, val).contains(&slot)
        }
        _ => false,
    });
    if renewed || condition.read == used.val {
        return None;
    }
    let stretch = Stretch { func: used.func, from: condition.read.min(condition.at), to: used.val };
    let rival = analysis.rival(place, stretch, Action::Read, |other| nulls(analysis, other))?;
    let name = analysis.place_name(used);
    let who = analysis.who(&rival);
    let order = vec![
        format!("one {who} finds that `{name}` is there"),
        format!("another {who} {}", analysis.doing(rival.access)),
        format!("the first uses `{name}`, which is gone: AttributeError or TypeError"),
    ];
    let message = format!("`{name}` is tested and then used again, but another {who} can take it away in between");
    let finding = analysis.race(&RULE.info, used, stretch, &rival, message, order);
    let finding = finding.also(analysis.span(used.func, condition.at), "tested here");
    Some(finding.with_fix(fix::read_once(analysis, used, &condition, stretch)))
}

/// `if self._closed: raise ...`, then `self._socket.send(...)`, while `close` sets the flag and takes the socket away.
fn by_flag(analysis: &Analysis<'_>, place: PlaceId, used: &Access) -> Option<Finding> {
    analysis.flag_tests(used).into_iter().find_map(|test| {
        let stretch = Stretch { func: used.func, from: test.read.min(test.at), to: used.val };
        let closes = |other: &Access| nulls(analysis, other) && analysis.turns_over(&test, other);
        let rival = analysis.rival(place, stretch, Action::Read, closes)?;
        let name = analysis.place_name(used);
        let flag = analysis.text(used.func, test.read);
        let who = analysis.who(&rival);
        let order = vec![
            format!("one {who} finds by `{flag}` that `{name}` may be used"),
            format!("another {who} changes `{flag}` and {}", analysis.doing(rival.access)),
            format!("the first uses `{name}`, which is gone: AttributeError or TypeError"),
        ];
        let message =
            format!("`{flag}` is tested and then `{name}` is used, but another {who} can take it away in between");
        let finding = analysis.race(&RULE.info, used, stretch, &rival, message, order);
        Some(finding.also(analysis.span(used.func, test.at), "tested here"))
    })
}
