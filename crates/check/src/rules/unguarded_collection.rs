//! See `unguarded_collection.md` beside this file: it is the documentation and the test.

use std::cmp::Reverse;

use facts::{Action, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Stretch, is_write, removes, resizes};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::Container;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "unguarded-collection",
        code: "RP204",
        severity: Severity::Error,
        summary: "a shared collection is read in several steps while another thread changes it",
        docs: include_str!("unguarded_collection.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places().filter(|place| analysis.container(*place).is_some()) {
        if !analysis.runtime.container_steps_are_atomic() {
            found.extend(bare(analysis, place));
            continue;
        }
        let mut seen: Vec<FuncId> = Vec::new();
        for access in analysis.accesses(place).filter(|access| !access.owned) {
            if seen.contains(&access.func) {
                continue;
            }
            if let Some(finding) = walk_finding(analysis, place, access) {
                seen.push(access.func);
                found.push(finding);
            }
        }
    }
}

/// A walk through the container, step by step.
fn walk_finding(analysis: &Analysis<'_>, place: PlaceId, walk: &Access) -> Option<Finding> {
    if walk.touch != Touch::Iterate {
        return None;
    }
    let mut stretch = analysis.walk(walk);
    // A list that only grows at its end is walked safely; not so one that is asked twice for one answer.
    let only_grows = |other: &Access| match other.touch {
        Touch::Method(name) => matches!(name.as_str(), "append" | "extend"),
        _ => false,
    };
    let again =
        analysis.accesses(place).filter(|other| other.func == walk.func && other.act > walk.act).find(|other| {
            matches!(other.touch, Touch::Len | Touch::Iterate | Touch::ItemLoad)
                && same_statement(analysis, walk, other)
        });
    if let Some(again) = again {
        stretch.to = again.act;
    }
    let is_list = analysis.container(place) == Some(Container::List);
    let disturbs = |other: &Access| match is_list {
        true => again.is_some() && resizes(other) || removes(other) || resizes(other) && !only_grows(other),
        false => resizes(other),
    };
    let rival = analysis.rival(place, stretch, Action::Read, disturbs)?;
    let name = analysis.place_name(walk);
    let who = analysis.who(&rival);
    let order = vec![
        format!("one {who} is in the middle of `{name}`"),
        format!("another {who} {}", analysis.doing(rival.access)),
        "the first skips an element, sees one twice, or fails".to_owned(),
    ];
    let message = format!("`{name}` is read in several steps while another {who} changes it");
    let finding = analysis.race(&RULE.info, walk, stretch, &rival, message, order);
    Some(finding.with_fix(fix::snapshot(analysis, walk, stretch)))
}

/// How many accesses a finding names beside the first.
const OTHERS_MAX: usize = 16;

/// Where single steps are not atomic, every access needs the lock: one finding for all of them.
fn bare(analysis: &Analysis<'_>, place: PlaceId) -> Option<Finding> {
    let accesses = analysis.accesses(place).filter(|access| !access.owned);
    let all: Vec<_> = accesses.filter_map(|access| Some((access, bare_finding(analysis, access)?))).collect();
    let (first, finding) =
        all.iter().min_by_key(|(access, finding)| (Reverse(finding.confidence), access.func, access.act))?;
    let stretch = Stretch { func: first.func, from: first.val, to: first.act };
    let mut finding = finding.clone().with_fix(fix::hold_lock(analysis, first, stretch, "the access"));
    let mut named: Vec<FuncId> = vec![first.func];
    for (access, other) in &all {
        let known = finding.related.iter().any(|related| related.span == other.span);
        if !named.contains(&access.func) && !known && named.len() <= OTHERS_MAX {
            named.push(access.func);
            finding = finding.also(other.span, "the same here");
        }
    }
    Some(finding)
}

fn bare_finding(analysis: &Analysis<'_>, access: &Access) -> Option<Finding> {
    if matches!(access.touch, Touch::Load | Touch::Store(_) | Touch::Escape | Touch::Member) {
        return None;
    }
    let stretch = Stretch { func: access.func, from: access.val, to: access.act };
    let action = if is_write(access) { Action::Write } else { Action::Read };
    let in_place = |other: &Access| is_write(other) && !matches!(other.touch, Touch::Store(_) | Touch::Delete);
    let rival = analysis.rival(access.place, stretch, action, in_place)?;
    let name = analysis.place_name(access);
    let who = analysis.who(&rival);
    let order = vec![
        format!("one {who} is inside an operation on `{name}`"),
        format!("another {who} {}", analysis.doing(rival.access)),
        format!("on {} nothing keeps the two apart: the container is corrupted", analysis.runtime),
    ];
    let message = format!("`{name}` is used without a lock, and `{}` has no locks in its containers", analysis.runtime);
    Some(analysis.race(&RULE.info, access, stretch, &rival, message, order))
}

/// Do two accesses belong to one statement?
fn same_statement(analysis: &Analysis<'_>, first: &Access, second: &Access) -> bool {
    let root = |access: &Access| {
        let mut at = access.act;
        while let Some(user) = analysis.summaries.consumer(access.func, at) {
            at = user;
        }
        at
    };
    root(first) == root(second)
}
