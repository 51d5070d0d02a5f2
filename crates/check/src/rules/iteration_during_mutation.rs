//! See `iteration_during_mutation.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, resizes};
use crate::fix;
use crate::summary::{Access, Touch};
use crate::types::Container;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "iteration-during-mutation",
        code: "RP205",
        severity: Severity::Error,
        summary: "a container is iterated while another thread can change its size",
        docs: include_str!("iteration_during_mutation.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        if matches!(analysis.container(place), None | Some(Container::List)) {
            continue;
        }
        for walk in analysis.accesses(place).filter(|access| !access.owned && access.touch == Touch::Iterate) {
            found.extend(finding(analysis, walk));
        }
    }
}

fn finding(analysis: &Analysis<'_>, walk: &Access) -> Option<Finding> {
    let stretch = analysis.walk(walk);
    let rival = analysis.rival(walk.place, stretch, Action::Read, resizes)?;
    let name = analysis.place_name(walk);
    let order = vec![
        format!("one thread is in the middle of `{name}`"),
        format!("another thread {}", analysis.doing(rival.access)),
        "the next step of the iteration raises RuntimeError: the container changed size".to_owned(),
    ];
    let message = format!("`{name}` is iterated while another thread can change its size");
    let finding = analysis.race(&RULE.info, walk, stretch, &rival, message, order);
    Some(finding.with_fix(fix::snapshot(analysis, walk, stretch)))
}
