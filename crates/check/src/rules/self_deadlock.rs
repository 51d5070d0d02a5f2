//! See `self_deadlock.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, LockKind, PlaceId, RuleInfo, Severity};
use rustc_hash::FxHashSet;

use super::Rule;
use crate::analysis::{Analysis, Reentry, Under};
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::summary::paths::{ObjectPath, Root};
use crate::summary::{Effect, What};
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
    let hooks = logging_hooks(analysis);
    let mut seen: FxHashSet<(FuncId, Val, PlaceId)> = FxHashSet::default();
    let stretches = analysis.under_locks();
    for under in &stretches {
        let place = under.held.lock.place;
        if analysis.reentry(place) != Reentry::Never || analysis.is_test(under.func) {
            continue;
        }
        for effect in &under.effects {
            let finding = match &effect.what {
                What::Takes { place: again, path } if *again == place => again_taken(analysis, under, effect, path),
                What::Logs => logged(analysis, under, effect, &hooks),
                _ => None,
            };
            if let Some(finding) = finding.filter(|_| seen.insert((under.func, effect.at, place))) {
                found.push(finding);
            }
        }
    }
    finalizers(analysis, &stretches, found);
}

/// Directly, or through calls: the same object, by its path.
fn again_taken(
    analysis: &Analysis<'_>,
    under: &Under<'_>,
    effect: &Effect,
    path: &ObjectPath,
) -> Option<Finding> {
    let place = under.held.lock.place;
    let same = path.is_known() && *path == under.path;
    let single = match analysis.summaries.slot(place) {
        Slot::Attr(class, _) => !effect.sure && analysis.is_single(class),
        Slot::Global(..) => true,
        Slot::Local(..) => false,
    };
    if !(same || single) || effect.depends || is_rebound(analysis, under, effect) {
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
        && (under.held.at.0..effect.at.0).any(|idx| matches!(body.op(Val(idx)), Op::StoreLocal { local: other, .. } if other == local))
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

/// The logging handlers of the project, with the locks that they take.
fn logging_hooks(analysis: &Analysis<'_>) -> Vec<(FuncId, Vec<Effect>)> {
    let emits = analysis.functions().filter(|func| {
        let function = analysis.project.function(*func);
        let class = analysis.project.class_of(*func);
        matches!(function.name.as_str(), "emit" | "handle" | "filter")
            && class.is_some_and(|class| {
                let mut bases = analysis.project.external_ancestors(class);
                bases.any(|base| base.as_str().starts_with("logging.") && !base.as_str().ends_with("Formatter"))
            })
    });
    emits.map(|func| (func, analysis.summaries.effects.of(func).to_vec())).collect()
}

/// Logging under a lock that a logging handler takes.
fn logged(
    analysis: &Analysis<'_>,
    under: &Under<'_>,
    effect: &Effect,
    hooks: &[(FuncId, Vec<Effect>)],
) -> Option<Finding> {
    let place = under.held.lock.place;
    let (hook, taken) = hooks.iter().find_map(|(hook, effects)| {
        let takes = |taken: &&Effect| matches!(taken.what, What::Takes { place: again, .. } if again == place);
        effects.iter().find(takes).map(|taken| (*hook, taken))
    })?;
    let name = analysis.name_of(place, under.func);
    let message =
        format!("this logs while `{name}` is held, and the handler `{}` takes it again", analysis.symbol(hook));
    let finding = base(analysis, under, effect, message, name);
    Some(finding.also(analysis.span(taken.end.0, taken.end.1), "the handler takes it here"))
}

/// `__del__`, weak reference callbacks and hooks of the collector come at any allocation.
fn finalizers(analysis: &Analysis<'_>, stretches: &[Under<'_>], found: &mut Vec<Finding>) {
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
                if entry.site.is_none() && is_own(analysis, entry.func, path) {
                    continue;
                }
                let Some(under) = met(analysis, stretches, *place, entry.func) else { continue };
                seen.insert(*place);
                found.extend(finalizer(analysis, entry.func, effect, *place, under));
            }
        }
    }
}

/// Stretches of the lock in which something is called or made, outside the finalizer itself.
fn met<'s, 'a>(
    analysis: &Analysis<'a>,
    stretches: &'s [Under<'a>],
    place: PlaceId,
    finalizer: FuncId,
) -> Option<(FuncId, Val)> {
    let _ = stretches;
    analysis.functions().filter(|func| *func != finalizer && !analysis.is_test(*func)).find_map(|func| {
        if analysis.is_owned_by_maker(func) {
            return None;
        }
        let body = analysis.body(func);
        let held = analysis.summaries.function(func).held.iter().find(|held| {
            let allocates = (held.first..held.end).any(|idx| {
                matches!(body.op(Val(idx)), Op::Call { .. } | Op::Display(..) | Op::Comprehension(..) | Op::StoreItem { .. })
            });
            held.lock.place == place && held.lock.kind == LockKind::Thread && allocates
        })?;
        Some((func, held.at))
    })
}

/// A dying object's own lock: nobody else can hold it, since nobody else has the object.
fn is_own(analysis: &Analysis<'_>, func: FuncId, path: &ObjectPath) -> bool {
    let Root::Param(0) = path.root else { return matches!(path.root, Root::Unknown | Root::Fresh) };
    if path.attrs.len() < 2 {
        return true;
    }
    let Some(class) = analysis.project.class_of(func) else { return false };
    let Some(place) = part_of(analysis, class, path.attrs[0]) else { return false };
    // A part that only the object itself ever makes dies with it.
    let mut stores = analysis.accesses(place).filter_map(|access| match access.touch {
        crate::summary::Touch::Store(value) => Some((access.func, value)),
        _ => None,
    });
    stores.all(|(func, value)| {
        let body = analysis.body(func);
        match body.op(body.origin(value)) {
            Op::None => true,
            Op::Call { func: target, .. } => {
                analysis.types.of(func, target).iter().any(|of| matches!(of, crate::types::Type::Class(_)))
            }
            _ => false,
        }
    })
}

/// An attribute of a class, or of the subclass that has it.
fn part_of(analysis: &Analysis<'_>, class: ClassId, name: Name) -> Option<PlaceId> {
    let mut work = vec![class];
    let mut steps = 0;
    while let Some(class) = work.pop() {
        let slot = Slot::Attr(analysis.types.owner(analysis.project, class, name), name);
        let place = analysis.summaries.places.get(&slot);
        if place.is_some_and(|place| analysis.accesses(*place).next().is_some()) {
            return place.copied();
        }
        steps += 1;
        if steps < 64 {
            work.extend(&analysis.project.class_info(class).subclasses);
        }
    }
    None
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
