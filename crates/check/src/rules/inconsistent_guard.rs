//! See `inconsistent_guard.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, Lock, LockKind, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, DeclaredGuard, Guard, Stretch, action_of, is_write};
use crate::body::Op;
use crate::contexts::{CallSite, EntryKind};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::{Std, Type};

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
    found.extend(analysis.unmet_requirements().map(|(site, lock)| unmet(analysis, site, lock)));
    for place in analysis.places() {
        if let Some(declared) = analysis.declared_guard(place) {
            found.extend(contradictions(analysis, place, &declared));
            continue;
        }
        if is_sync_object(analysis, place) {
            continue;
        }
        let Some(guard) = analysis.guard(place).filter(|guard| guard.without > 0) else {
            found.extend(object_finding(analysis, place));
            continue;
        };
        let mut seen: Vec<FuncId> = Vec::new();
        for access in analysis.accesses(place).filter(|access| !access.owned && needs_guard(analysis, access)) {
            let locks = analysis.summaries.locks_at(access.func, access.act);
            if locks.holds(guard.lock.place) || seen.contains(&access.func) {
                continue;
            }
            if raises_flag(analysis, access) {
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
        if let Type::Instance(class) = of {
            let reason = analysis.contexts.sharing(*class).map(|sharing| sharing.reason);
            if reason == Some(crate::contexts::Reason::OwnsLock) {
                return true;
            }
        }
        analysis.types.std_of(analysis.project, *of).is_some_and(|std| std.is_thread_safe() && std != Std::Thread)
    })
}

/// A finalizer that raises a flag must not wait for a lock, and need not.
fn raises_flag(analysis: &Analysis<'_>, access: &Access) -> bool {
    let constant = match access.touch {
        Touch::Store(value) => matches!(analysis.body(access.func).op(value), Op::Truth(_) | Op::None),
        _ => false,
    };
    constant && analysis.contexts.is_reached_by(access.func, &[EntryKind::Finalizer])
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

fn finding(analysis: &Analysis<'_>, access: &Access, guard: Guard) -> Option<Finding> {
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
        .or_else(|| analysis.rival_of_region(access, guard.lock))?;
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

/// An object without a lock of its own: one method is called under a lock, and another that touches the same state
/// is called without it.
fn object_finding(analysis: &Analysis<'_>, place: PlaceId) -> Option<Finding> {
    let class = analysis.types_of(place).iter().find_map(|of| match of {
        Type::Instance(class) => Some(*class),
        _ => None,
    })?;
    let called = |access: &Access| match access.touch {
        Touch::Method(name) => analysis.project.method(class, name),
        _ => None,
    };
    let open = |access: &&crate::summary::Access| !access.owned && !access.aliased;
    for locked in analysis.accesses(place).filter(open) {
        let Some(ours) = called(locked) else { continue };
        let locks = analysis.summaries.locks_at(locked.func, locked.act);
        let Some(lock) = locks.iter().find(|lock| lock.kind == LockKind::Thread) else { continue };
        for bare in analysis.accesses(place).filter(open) {
            let Some(theirs) = called(bare) else { continue };
            let free = analysis.summaries.locks_at(bare.func, bare.act).is_empty();
            if !free || theirs == ours || !analysis.footprints_conflict(ours, theirs) {
                continue;
            }
            let guard = Guard { lock, with: 1, without: 2 };
            if let Some(finding) = finding(analysis, bare, guard) {
                return Some(finding);
            }
        }
    }
    None
}

/// Accesses without the lock that an annotation names.
fn contradictions(analysis: &Analysis<'_>, place: PlaceId, declared: &DeclaredGuard) -> Vec<Finding> {
    let bare = |access: &&Access| {
        !access.owned && !analysis.summaries.locks_at(access.func, access.act).holds(declared.lock.place)
    };
    analysis
        .accesses(place)
        .filter(bare)
        .map(|access| {
            let (name, lock) = (analysis.place_name(access), analysis.name_of(declared.lock.place, access.func));
            let message = format!("`{name}` is used without `{lock}`, which its annotation says guards it");
            Finding::new(&RULE.info, analysis.span(access.func, access.act), message)
                .on(name)
                .within(analysis.symbol(access.func))
                .also(declared.span, "declared here")
                .confidence(Confidence::High)
        })
        .collect()
}

/// A call without the lock that the function says its callers hold.
fn unmet(analysis: &Analysis<'_>, site: &CallSite, lock: Lock) -> Finding {
    let (name, callee) = (analysis.name_of(lock.place, site.caller), analysis.symbol(site.callee));
    let message = format!("`{callee}` is called without `{name}`, which it requires");
    Finding::new(&RULE.info, analysis.span(site.caller, site.at), message)
        .on(name)
        .within(analysis.symbol(site.caller))
        .also(analysis.project.head(site.callee), "required here")
        .confidence(Confidence::High)
}
