//! See `event_loop_lock.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Conflict, Finding, LockKind, PlaceId, RuleInfo, Severity};
use rustc_hash::FxHashSet;

use super::Rule;
use crate::analysis::{Analysis, Loop, action_of, is_write};
use crate::body::Val;
use crate::contexts::{EntryKind, Reason};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Maker};
use crate::types::{Slot, Std};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "event-loop-lock",
        code: "RP305",
        severity: Severity::Error,
        summary: "an asyncio primitive is used between threads or between event loops",
        docs: include_str!("event_loop_lock.md"),
        on_by_default: true,
    },
    check,
};

/// Threads that are not the loop's.
const THREADS: [EntryKind; 3] = [EntryKind::Thread, EntryKind::Pool, EntryKind::Handler];

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let mut seen: FxHashSet<(FuncId, Val)> = FxHashSet::default();
    let loops = analysis.loops();
    let mut slots: Vec<Slot> = analysis.summaries.makers.keys().copied().collect();
    slots.sort_unstable();
    for slot in slots {
        for maker in analysis.makers(slot) {
            if analysis.is_test(maker.func) || !analysis.is_loop_object(maker) || seen.contains(&key(maker)) {
                continue;
            }
            let finding = several_loops(analysis, slot, maker, &loops)
                .or_else(|| guards_threads(analysis, slot, maker))
                .or_else(|| meant_for_threads(analysis, slot, maker));
            if let Some(finding) = finding {
                seen.insert(key(maker));
                found.push(finding.with_fix(fix::thread_lock(analysis, slot)));
            }
        }
    }
    for func in analysis.functions().filter(|func| !analysis.is_test(*func)) {
        touched(analysis, func, &mut seen, found);
    }
}

fn key(maker: &Maker) -> (FuncId, Val) {
    (maker.func, maker.store)
}

fn name(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> String {
    match analysis.summaries.places.get(&slot) {
        Some(place) => analysis.name_of(*place, maker.func),
        None => crate::contexts::slot_name(analysis.project, slot).to_string(),
    }
}

fn finding(analysis: &Analysis<'_>, maker: &Maker, message: String, place: String) -> Finding {
    Finding::new(&RULE.info, analysis.span(maker.func, maker.store), message)
        .on(place)
        .within(analysis.symbol(maker.func))
}

/// Used on two loops: several threads run one each, or the main thread and another do.
fn several_loops(analysis: &Analysis<'_>, slot: Slot, maker: &Maker, loops: &[Loop]) -> Option<Finding> {
    let shared = match slot {
        Slot::Global(..) => true,
        Slot::Attr(class, _) => {
            analysis
                .contexts
                .sharing(class)
                .is_some_and(|sharing| sharing.is_direct() && sharing.reason != Reason::OwnsLoopLock)
                || analysis.is_import_code(maker.func)
        }
        Slot::Local(..) => false,
    };
    if !shared {
        return None;
    }
    let (func, at) = analysis.loop_uses(slot).into_iter().find(|(func, _)| {
        let on: Vec<&Loop> = loops.iter().filter(|each| each.runs(*func)).collect();
        on.iter().any(|each| each.multiple) || on.len() > 1 && on.iter().any(|each| !each.main)
    })?;
    let name = name(analysis, slot, maker);
    let message = format!("`{name}` belongs to one event loop, but several loops use it");
    let mut finding =
        finding(analysis, maker, message, name).also(analysis.span(func, at), "used here").confidence(Confidence::High);
    for each in loops.iter().filter(|each| each.runs(func)).take(3) {
        if let Some((func, at)) = each.site {
            let note = if each.multiple { "several threads start a loop here" } else { "a loop is started here" };
            finding = finding.also(analysis.span(func, at), note);
        }
    }
    Some(finding)
}

/// The only guard of state that threads outside the loop reach.
fn guards_threads(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let lock = *analysis.summaries.places.get(&slot)?;
    let takers = analysis.summaries.takers.get(&lock).map_or(&[][..], Vec::as_slice);
    if !takers.iter().any(|(_, held)| held.lock.kind == LockKind::EventLoop) {
        return None;
    }
    for place in analysis.places_in(takers.iter().map(|(func, _)| *func)).into_iter().filter(|place| *place != lock) {
        let ours = analysis.accesses(place).filter(|access| !access.owned && holds(analysis, access, lock));
        for access in ours {
            let other = analysis.accesses(place).find(|other| {
                !other.owned
                    && !holds(analysis, other, lock)
                    && (is_write(access) || is_write(other))
                    && conflict(analysis, access, other)
                    && (off_loop(analysis, other.func, lock).is_some() || from_outside(analysis, other))
            });
            let Some(other) = other else { continue };
            let seen = off_loop(analysis, other.func, lock).is_some();
            let confidence = if seen { Confidence::High } else { Confidence::Medium };
            let name = name(analysis, slot, maker);
            let state = analysis.place_name(access);
            let message = format!("`{name}` guards `{state}` among the tasks of one loop, but a thread reaches it too");
            return Some(
                finding(analysis, maker, message, name)
                    .also(analysis.span(access.func, access.act), format!("`{state}` is used under it here"))
                    .also(analysis.span(other.func, other.act), "and here by a thread, which it does not keep out")
                    .confidence(confidence),
            );
        }
    }
    None
}

/// A lock for tasks whose own comment says that it is for threads.
fn meant_for_threads(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let std = analysis.types.std(analysis.project, maker.func, maker.call)?;
    let span = analysis.span(maker.func, maker.store);
    if !std.is_loop_lock() || !analysis.remarks(span).any(|text| text.to_ascii_lowercase().contains("thread")) {
        return None;
    }
    let name = name(analysis, slot, maker);
    let message = format!("`{name}` is meant for threads, its comment says, but it excludes tasks of one loop only");
    Some(finding(analysis, maker, message, name))
}

/// A plain method of an object that everybody finds changes the state: whoever has the object may call it, on any
/// thread.
fn from_outside(analysis: &Analysis<'_>, other: &Access) -> bool {
    let everybody = analysis
        .sharing(other.place)
        .is_some_and(|sharing| matches!(sharing.reason, Reason::Global | Reason::ClassAttribute | Reason::Configured));
    let function = analysis.project.function(other.func);
    everybody && is_write(other) && !function.is_async && !function.name.is_private() && !function.name.is_special()
}

fn holds(analysis: &Analysis<'_>, access: &Access, lock: PlaceId) -> bool {
    analysis.summaries.locks_at(access.func, access.act).holds(lock)
}

/// Do thread locks leave the two apart? `facts` decides, with two threads that surely overlap.
fn conflict(analysis: &Analysis<'_>, one: &Access, two: &Access) -> bool {
    let side = |access: &Access, entry: u32| facts::Access {
        place: access.place,
        action: if is_write(access) { Action::Write } else { action_of(access) },
        thread: facts::Thread { entry, multiple: false, on_event_loop: false },
        locks: analysis.summaries.locks_at(access.func, access.act),
        suspends: false,
        owned: false,
        span: analysis.span(access.func, access.act),
    };
    Conflict::between(&side(one, 0), &side(two, 1)).is_some()
}

/// A thread outside the loop that enters here, unless it is awaited by somebody who holds the lock.
fn off_loop(analysis: &Analysis<'_>, func: FuncId, lock: PlaceId) -> Option<usize> {
    if analysis.project.function(func).is_async {
        return None;
    }
    analysis.contexts.groups_of(func).find(|idx| {
        let group = &analysis.contexts.groups[*idx];
        let path = analysis.contexts.path(*idx, func);
        let plain = path.iter().skip(1).all(|(step, _)| !analysis.project.function(*step).is_async);
        let first = path.first().map_or(func, |(first, _)| *first);
        THREADS.contains(&group.kind)
            && plain
            && group.entries.iter().filter(|entry| entry.func == first).any(|entry| {
                !analysis.is_test(entry.func)
                    && !analysis.project.function(entry.func).is_async
                    && entry.site.is_none_or(|(caller, at)| {
                        !analysis.is_test(caller) && !analysis.summaries.locks_at(caller, at).holds(lock)
                    })
            })
    })
}

/// `event.set()`, `queue.put_nowait(x)`, `future.set_result(x)` on a thread: the loop is not woken.
fn touched(analysis: &Analysis<'_>, func: FuncId, seen: &mut FxHashSet<(FuncId, Val)>, found: &mut Vec<Finding>) {
    let body = analysis.body(func);
    for call in body.calls() {
        let Some((base, name)) = analysis.method_call(func, call) else { continue };
        if !matches!(name, "set" | "put_nowait" | "get_nowait" | "set_result" | "set_exception" | "release" | "notify")
        {
            continue;
        }
        let std = analysis.types.std(analysis.project, func, base);
        if !analysis.types.of(func, base).is_empty() && !std.is_some_and(|std| std.is_loop_bound() && std != Std::Task)
        {
            continue;
        }
        for maker in analysis.made_at(func, base) {
            let fits = match analysis.types.std(analysis.project, maker.func, maker.call) {
                Some(Std::AsyncEvent) => name == "set",
                Some(Std::AsyncQueue) => matches!(name, "put_nowait" | "get_nowait"),
                Some(Std::AsyncFuture) => matches!(name, "set_result" | "set_exception"),
                Some(std) if std.is_loop_lock() => matches!(name, "release" | "notify"),
                _ => false,
            };
            if !fits || analysis.is_test(maker.func) || seen.contains(&key(&maker)) || on_loop_only(analysis, func) {
                continue;
            }
            seen.insert(key(&maker));
            let shown = maker_name(analysis, &maker);
            let message = format!("`{shown}` belongs to an event loop, but a thread calls `{name}` on it");
            found.push(
                finding(analysis, &maker, message, shown)
                    .also(analysis.span(func, call), "this thread changes it, and does not wake the loop")
                    .confidence(Confidence::High),
            );
        }
    }
}

fn on_loop_only(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let nowhere = PlaceId(u32::MAX);
    off_loop(analysis, func, nowhere).is_none()
}

fn maker_name(analysis: &Analysis<'_>, maker: &Maker) -> String {
    analysis.files.text(analysis.span(maker.func, maker.store)).to_owned()
}
