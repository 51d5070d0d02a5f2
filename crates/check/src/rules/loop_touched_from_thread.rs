//! See `loop_touched_from_thread.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::body::{BlockKind, Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::FuncId;
use crate::types::{Slot, Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "loop-touched-from-thread",
        code: "RP404",
        severity: Severity::Error,
        summary: "an event loop is used from a thread that does not run it",
        docs: include_str!("loop_touched_from_thread.md"),
        on_by_default: true,
    },
    check,
};

/// Groups whose functions run on threads without the program's loop.
const OFF_LOOP: [EntryKind; 3] = [EntryKind::Thread, EntryKind::Pool, EntryKind::Handler];

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let homes = homes(analysis);
    for func in analysis.functions() {
        if analysis.project.function(func).is_async || analysis.is_test(func) {
            continue;
        }
        for call in analysis.body(func).calls() {
            let Some((base, name)) = touched(analysis, func, call) else { continue };
            if asks_thread(analysis, func, call) {
                continue;
            }
            let thread = off_loop(analysis, &homes, func, base);
            let Some((thread, confidence)) = thread.or_else(|| elsewhere(analysis, &homes, func, base, name)) else {
                continue;
            };
            let remedy = match name {
                "create_task" | "ensure_future" => "run_coroutine_threadsafe",
                _ => "call_soon_threadsafe",
            };
            let place = analysis.files.text(analysis.span(func, base)).to_owned();
            let message =
                format!("`{place}.{name}` is called on {thread}, not on the loop's own thread: use `{remedy}`");
            let finding = Finding::new(&RULE.info, analysis.span(func, call), message);
            let finding = finding.with_fix(fix::through_loop(analysis, func, call));
            found.push(finding.on(place).within(analysis.symbol(func)).confidence(confidence));
        }
    }
}

/// A method call that only the loop's own thread may make: the receiver and the method.
fn touched<'a>(analysis: &Analysis<'a>, func: FuncId, call: Val) -> Option<(Val, &'a str)> {
    if let Some(on) = explicit_loop(analysis, func, call) {
        return Some((on, "ensure_future"));
    }
    let (base, name) = analysis.method_call(func, call)?;
    // A value that may also be of another kind is left alone: `concurrent.futures.Future` has the same methods.
    let types = analysis.types.of(func, base);
    let all_bound = types.iter().all(|of| match of {
        Type::Std(std) => std.is_loop_bound() || *std == Std::Loop,
        other => *other == Type::None,
    });
    if !all_bound {
        return None;
    }
    let of = |std: Std| types.contains(&Type::Std(std));
    let bound = match name {
        "call_soon" | "call_later" | "call_at" | "create_task" | "stop" | "add_reader" | "add_writer"
        | "remove_reader" | "remove_writer" => of(Std::Loop),
        "set_result" | "set_exception" => of(Std::AsyncFuture),
        "put_nowait" | "get_nowait" => of(Std::AsyncQueue),
        "set" | "clear" => of(Std::AsyncEvent),
        "cancel" => of(Std::AsyncFuture) || of(Std::Task),
        _ => false,
    };
    bound.then_some((base, name))
}

/// The loop of `asyncio.ensure_future(coroutine, loop=loop)`.
fn explicit_loop(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Val> {
    let Op::Call { args, .. } = analysis.body(func).op(call) else { return None };
    analysis.external_callee(func, call).filter(|name| *name == "asyncio.ensure_future")?;
    let named = analysis.body(func).args(args).iter().find(|arg| arg.name.is_some_and(|name| name == "loop"))?;
    analysis.types.of(func, named.value).contains(&Type::Std(Std::Loop)).then_some(named.value)
}

/// A loop that some function runs until it is stopped: its slot, and the groups of threads that run it.
struct Home {
    slot: Slot,
    func: FuncId,
    groups: Vec<usize>,
}

fn homes(analysis: &Analysis<'_>) -> Vec<Home> {
    let mut homes = Vec::new();
    for func in analysis.functions() {
        for call in analysis.body(func).calls() {
            let Some((base, "run_forever" | "run_until_complete")) = analysis.method_call(func, call) else { continue };
            let groups: Vec<usize> = analysis.contexts.groups_of(func).collect();
            let slots = analysis.types.slots_of(analysis.project, func, base);
            homes.extend(slots.into_iter().map(|slot| Home { slot, func, groups: groups.clone() }));
        }
    }
    homes
}

/// Does a thread or pool lead here, other than one that runs a loop of its own?
fn off_loop(analysis: &Analysis<'_>, homes: &[Home], func: FuncId, base: Val) -> Option<(String, Confidence)> {
    if is_own(analysis, func, base) {
        return None;
    }
    let slots = analysis.types.slots_of(analysis.project, func, base);
    analysis.contexts.groups_of(func).find_map(|idx| {
        let group = &analysis.contexts.groups[idx];
        if !OFF_LOOP.contains(&group.kind) || homes.iter().any(|home| home.groups.contains(&idx)) {
            return None;
        }
        let path = analysis.contexts.path(idx, func);
        let on_loop = path.iter().any(|(step, call)| {
            analysis.project.function(*step).is_async
                || call.is_some_and(|(caller, at)| schedules(analysis, caller, at) || asks_thread(analysis, caller, at))
        });
        // The object was made on this very thread.
        let made_here = slots.iter().any(|slot| is_stored_by(analysis, *slot, idx));
        let guessed = path.iter().any(|(_, call)| call.is_some_and(|(caller, at)| is_guess(analysis, caller, at)));
        let first = path.first().map_or(func, |(first, _)| *first);
        let in_test = analysis.contexts.entry(idx, first).and_then(|entry| entry.site);
        if on_loop || made_here || guessed || in_test.is_some_and(|(maker, _)| analysis.is_test(maker)) {
            return None;
        }
        let confidence = match group.kind {
            _ if types_guess(analysis, &path) => Confidence::Low,
            EntryKind::Thread | EntryKind::Pool => Confidence::High,
            _ => Confidence::Medium,
        };
        Some((analysis.entry_in_words(idx, first), confidence))
    })
}

/// Is the receiver got in the function itself, so that it is the loop of this thread or a fresh one?
fn is_own(analysis: &Analysis<'_>, func: FuncId, base: Val) -> bool {
    let body = analysis.body(func);
    matches!(body.op(body.origin(base)), Op::Call { .. })
}

/// Does a test ask on which thread or loop this is?
fn asks_thread(analysis: &Analysis<'_>, func: FuncId, at: Val) -> bool {
    let body = analysis.body(func);
    let mut work: Vec<Val> = body
        .enclosing(at)
        .filter_map(|(_, block)| match block.kind {
            BlockKind::Then(test) | BlockKind::Else(test) => Some(test),
            _ => None,
        })
        .collect();
    while let Some(val) = work.pop() {
        let name = match body.op(val) {
            Op::Attr { name, .. } | Op::Global(name) => name.as_str(),
            _ => "",
        };
        if matches!(name, "get_ident" | "current_thread" | "main_thread" | "get_running_loop" | "get_native_id") {
            return true;
        }
        match body.origin(val) {
            origin if origin != val => work.push(origin),
            _ => body.operands(val, |operand| work.push(operand)),
        }
    }
    false
}

/// Does a call hand its argument back to the loop?
fn schedules(analysis: &Analysis<'_>, func: FuncId, call: Val) -> bool {
    let external = analysis.external_callee(func, call);
    matches!(
        analysis.method_call(func, call),
        Some((_, "call_soon_threadsafe" | "call_soon" | "call_later" | "call_at" | "run_coroutine_threadsafe"))
    ) || external.is_some_and(|name| name.as_str().starts_with("asyncio.run"))
}

fn is_guess(analysis: &Analysis<'_>, caller: FuncId, at: Val) -> bool {
    analysis.contexts.calls[caller.0 as usize].iter().any(|site| site.at == at && (site.guessed || site.as_value))
}

/// A long way is a way of many guesses about types.
fn types_guess(analysis: &Analysis<'_>, path: &[(FuncId, Option<(FuncId, Val)>)]) -> bool {
    let modules: std::collections::BTreeSet<_> =
        path.iter().map(|(func, _)| analysis.project.module_of(*func)).collect();
    path.len() > 5 || modules.len() > 2
}

/// Is a slot given its value by code of this group alone?
fn is_stored_by(analysis: &Analysis<'_>, slot: Slot, group: usize) -> bool {
    let Some(place) = analysis.summaries.places.get(&slot) else { return false };
    let mut stores = analysis.accesses(*place).filter(|access| {
        let body = analysis.body(access.func);
        match access.touch {
            crate::summary::Touch::Store(value) => !matches!(body.op(value), Op::None),
            _ => false,
        }
    });
    let Some(first) = stores.next() else { return false };
    let here = |func: FuncId| analysis.contexts.groups_of(func).any(|idx| idx == group);
    here(first.func) && stores.all(|access| here(access.func))
}

/// Is the loop run by a thread that the project starts, and this code runs on another?
fn elsewhere(
    analysis: &Analysis<'_>,
    homes: &[Home],
    func: FuncId,
    base: Val,
    name: &str,
) -> Option<(String, Confidence)> {
    let slots = analysis.types.slots_of(analysis.project, func, base);
    let home = homes.iter().find(|home| {
        let threads = home.groups.iter().any(|idx| analysis.contexts.groups[*idx].kind == EntryKind::Thread);
        slots.contains(&home.slot) && threads && home.func != func
    })?;
    let kinds: Vec<EntryKind> =
        analysis.contexts.groups_of(func).map(|idx| analysis.contexts.groups[idx].kind).collect();
    let same = analysis
        .contexts
        .groups_of(func)
        .any(|idx| home.groups.contains(&idx) && analysis.contexts.groups[idx].kind == EntryKind::Thread);
    let tasks = kinds.iter().any(|kind| matches!(kind, EntryKind::Task | EntryKind::AsyncApi));
    // Before the thread starts, the loop is nobody's yet.
    let starts = analysis.body(func).vals().any(|val| {
        matches!(analysis.method_call(func, val), Some((base, "start"))
            if analysis.types.std(analysis.project, func, base) == Some(Std::Thread))
    });
    let making = analysis.summaries.function(func).init_only;
    if same || tasks || starts || making || kinds.is_empty() || name == "create_future" {
        return None;
    }
    let runner = analysis.symbol(home.func);
    Some((format!("a thread other than that of `{runner}`"), Confidence::Medium))
}
