//! See `self_deadlock.md` beside this file: it is the documentation and the test.

use std::cell::OnceCell;

use facts::{Confidence, Finding, PlaceId, RuleInfo, Severity};
use rustc_hash::FxHashSet;

use super::Rule;
use crate::analysis::{Analysis, Reentry, Under};
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::{ClassId, FuncId};
use crate::summary::paths::{ObjectPath, Root};
use crate::summary::waits::Wait;
use crate::summary::{Effect, Source, What};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "self-deadlock",
        code: "RP302",
        severity: Severity::Error,
        summary: "a lock that is not reentrant is taken again by the thread that holds it",
        docs: include_str!("self_deadlock.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let hooks = analysis.logging_hooks();
    let mut seen: FxHashSet<(FuncId, Val, PlaceId)> = FxHashSet::default();
    let singles = OnceCell::new();
    let is_single = |class| singles.get_or_init(|| analysis.singles()).contains(&class);
    let stretches = analysis.under_locks();
    for under in &stretches {
        let place = under.held.lock.place;
        if analysis.reentry(place) != Reentry::Never || analysis.is_test(under.func) {
            continue;
        }
        for effect in &under.effects {
            let finding = match &effect.what {
                What::Takes { place: again, path } if *again == place => {
                    again_taken(analysis, under, effect, path, is_single)
                }
                What::Logs | What::Calls(_) | What::Waits(Wait::Network) => logged(analysis, under, effect, &hooks),
                _ => None,
            };
            if let Some(finding) = finding.filter(|_| seen.insert((under.func, effect.at, place))) {
                found.push(finding);
            }
        }
    }
    finalizers(analysis, found);
}

/// Directly, or through calls: the same object, by its path.
fn again_taken(
    analysis: &Analysis<'_>,
    under: &Under<'_>,
    effect: &Effect,
    path: &ObjectPath,
    is_single: impl Fn(ClassId) -> bool,
) -> Option<Finding> {
    let place = under.held.lock.place;
    let same = path.is_known() && *path == under.path;
    let is_only = || match analysis.summaries.slot(place) {
        Slot::Attr(class, _) => !effect.sure && is_single(class),
        Slot::Global(..) => true,
        Slot::Local(..) => false,
    };
    if !(same || is_only()) || effect.depends || is_rebound(analysis, under, effect) {
        return None;
    }
    let name = analysis.name_of(place, under.func);
    let message = match effect.via {
        None => format!("`{name}` is taken again while it is held"),
        Some((callee, _)) => {
            format!("`{}` takes `{name}` again while it is held", analysis.symbol(callee))
        }
    };
    let confidence = if effect.sure { Confidence::High } else { Confidence::Medium };
    Some(base(analysis, under, effect, message, name).confidence(confidence))
}

/// The path means another object where a part of it is stored in between.
fn is_rebound(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect) -> bool {
    let body = analysis.body(under.func);
    let Root::Local(func, local) = under.path.root else { return false };
    func == under.func
        && (under.held.at.0..effect.at.0)
            .any(|idx| matches!(body.op(Val(idx)), Op::StoreLocal { local: other, .. } if other == local))
}

fn base(analysis: &Analysis<'_>, under: &Under<'_>, effect: &Effect, message: String, name: String) -> Finding {
    let mut finding = Finding::new(&RULE.info, analysis.span(under.func, effect.at), message)
        .on(name)
        .within(analysis.symbol(under.func))
        .also(analysis.span(under.func, under.held.at), "it is taken here")
        .with_fix(fix::reentrant(analysis, analysis.summaries.slot(under.held.lock.place)));
    for (callee, span) in analysis.way(under.func, effect).into_iter().skip(1) {
        finding = finding.also(span, format!("which calls `{}`", analysis.symbol(callee)));
    }
    if effect.via.is_some() {
        finding = finding.also(analysis.span(effect.end.0, effect.end.1), "and again here, on the same thread");
    }
    finding
}

/// Logging under a lock that a logging handler takes; foreign code may log as well.
fn logged(
    analysis: &Analysis<'_>,
    under: &Under<'_>,
    effect: &Effect,
    hooks: &[(FuncId, Vec<Effect>)],
) -> Option<Finding> {
    let place = under.held.lock.place;
    let foreign = match effect.what {
        What::Calls(Source::Slot(slot)) => {
            let callbacks = &analysis.summaries.effects.callbacks;
            if !callbacks.is_handed_in(slot) {
                return None;
            }
            true
        }
        What::Calls(_) => return None,
        What::Waits(_) => true,
        _ => false,
    };
    let (hook, taken) = hooks.iter().find_map(|(hook, effects)| {
        let takes = |taken: &&Effect| matches!(taken.what, What::Takes { place: again, .. } if again == place);
        effects.iter().find(takes).map(|taken| (*hook, taken))
    })?;
    if analysis.notes_entry(taken.end) || analysis.notes_entry((under.func, under.held.at)) {
        return None;
    }
    let name = analysis.name_of(place, under.func);
    let verb = if foreign { "may log" } else { "logs" };
    let hook_name = analysis.symbol(hook);
    let message = format!("this {verb} while `{name}` is held, and the logging handler `{hook_name}` takes it again");
    let finding = base(analysis, under, effect, message, name)
        .also(analysis.span(taken.end.0, taken.end.1), "the handler takes it here");
    Some(if foreign { finding.confidence(Confidence::Medium) } else { finding })
}

/// `__del__`, weak reference callbacks and hooks of the collector come at any allocation.
fn finalizers(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let mut seen: FxHashSet<PlaceId> = FxHashSet::default();
    for group in analysis.contexts.groups.iter().filter(|group| group.kind == EntryKind::Finalizer) {
        for entry in &group.entries {
            if analysis.is_test(entry.func) {
                continue;
            }
            for effect in analysis.summaries.effects.of(entry.func) {
                let What::Takes { place, path } = &effect.what else { continue };
                if analysis.reentry(*place) != Reentry::Never || seen.contains(place) || effect.depends {
                    continue;
                }
                if entry.site.is_none() && analysis.dies_with(entry.func, path) {
                    continue;
                }
                let Some(under) = analysis.allocates_under(*place, entry.func) else { continue };
                seen.insert(*place);
                found.extend(finalizer(analysis, entry.func, effect, *place, under));
            }
        }
    }
}

fn finalizer(
    analysis: &Analysis<'_>,
    entry: FuncId,
    effect: &Effect,
    place: PlaceId,
    (holder, at): (FuncId, Val),
) -> Option<Finding> {
    let maker = analysis.makers(analysis.summaries.slot(place)).first()?;
    let name = analysis.name_of(place, maker.func);
    let message = format!(
        "`{name}` is not reentrant, but `{}` takes it, which can run at any time on a thread that holds it",
        analysis.symbol(entry)
    );
    let finding = Finding::new(&RULE.info, analysis.span(maker.func, maker.store), message)
        .on(name)
        .within(analysis.symbol(maker.func))
        .also(analysis.span(holder, at), "it is held here, and an allocation can start the finalizer")
        .also(analysis.project.head(entry), "the finalizer")
        .also(analysis.span(effect.end.0, effect.end.1), "it is taken again here")
        .with_fix(fix::reentrant(analysis, analysis.summaries.slot(place)));
    Some(finding.confidence(if effect.sure { Confidence::High } else { Confidence::Medium }))
}
