//! See `inconsistent_guard.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, LockKind, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Stretch, action_of, is_write};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::Std;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "inconsistent-guard",
        code: "RP206",
        severity: Severity::Error,
        summary: "most accesses hold a lock, this one does not",
        docs: include_str!("inconsistent_guard.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        let Some(guard) = analysis.guard(place) else { continue };
        if guard.without == 0 || is_sync_object(analysis, place) {
            continue;
        }
        let mut seen: Vec<FuncId> = Vec::new();
        for access in analysis.accesses(place).filter(|access| !access.owned && needs_guard(analysis, access)) {
            let locks = analysis.summaries.locks_at(access.func, access.act);
            if locks.holds(guard.lock.place) || seen.contains(&access.func) {
                continue;
            }
            if let Some(finding) = finding(analysis, access, guard) {
                seen.push(access.func);
                found.push(finding);
            }
        }
    }
}

/// Locks, queues and events keep themselves.
fn is_sync_object(analysis: &Analysis<'_>, place: PlaceId) -> bool {
    analysis.types_of(place).iter().any(|of| {
        analysis.types.std_of(analysis.project, *of).is_some_and(|std| std.is_thread_safe() && std != Std::Thread)
    })
}

/// Writes, and calls on an object that the guard is held for elsewhere. A single read is out of date at once in any
/// case; the first test of double-checked locking is one.
fn needs_guard(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Method(name) => is_write(access) || calls_guarded_object(analysis, access, name.as_str()),
        _ => is_write(access),
    }
}

/// A method of an object (no built-in container) that other code calls only under the guard.
fn calls_guarded_object(analysis: &Analysis<'_>, access: &Access, name: &str) -> bool {
    if analysis.container(access.place).is_some() || matches!(name, "get" | "copy" | "keys" | "items" | "values") {
        return false;
    }
    let prefix = name.split('_').next().unwrap_or(name);
    prefix.len() > 2
        && analysis.accesses(access.place).any(|other| match other.touch {
            Touch::Method(other_name) => {
                !analysis.summaries.locks_at(other.func, other.act).is_empty()
                    && other_name.as_str().split('_').next() == Some(prefix)
            }
            _ => false,
        })
}

fn finding(analysis: &Analysis<'_>, access: &Access, guard: crate::analysis::Guard) -> Option<Finding> {
    let stretch = Stretch { func: access.func, from: access.val.min(access.act), to: access.act };
    let action = if is_write(access) { action_of(access) } else { Action::Write };
    let held = |other: &Access| analysis.summaries.locks_at(other.func, other.act).holds(guard.lock.place);
    let waits = |other: &Access| match guard.lock.kind {
        LockKind::Thread => true,
        // Tasks take turns only at awaits: the locked block must have one after the access.
        LockKind::EventLoop => analysis.region_suspends(other),
    };
    let rival = analysis
        .rival(access.place, stretch, action, |other| held(other) && waits(other))
        .or_else(|| analysis.rival_of_region(access, stretch, action, guard.lock))?;
    let name = analysis.place_name(access);
    let lock = analysis.name_of(guard.lock.place, access.func);
    let order = vec![
        format!("one thread holds `{lock}` and is in the middle of its work on `{name}`"),
        format!("another thread {} without the lock", analysis.doing(access)),
        "the first goes on with what it saw before".to_owned(),
    ];
    let message = format!(
        "`{name}` is used without `{lock}`, which {} of {} other accesses hold",
        guard.with,
        guard.with + guard.without - 1
    );
    let finding = analysis.race(&RULE.info, access, stretch, &rival, message, order);
    Some(finding.with_fix(fix::hold_lock(analysis, access, stretch, "the access")))
}
