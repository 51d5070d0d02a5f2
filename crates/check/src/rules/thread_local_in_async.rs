//! See `thread_local_in_async.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Rule;
use crate::analysis::{Analysis, Stretch};
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::{Slot, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "thread-local-in-async",
        code: "RP406",
        severity: Severity::Error,
        summary: "a thread-local value is carried through asynchronous code",
        docs: include_str!("thread_local_in_async.md"),
        on_by_default: true,
    },
    check,
};

/// One value of a thread-local object: whose, and its name.
type Value = (Home, Name);

/// A thread-local object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Home {
    Slot(Slot),
    Class(ClassId),
}

impl Home {
    fn slot(self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Class(_) => None,
        }
    }
}

/// Reads and writes of one value.
#[derive(Default)]
struct Uses {
    name: String,
    /// The object, if it is none of a class.
    home: Option<Slot>,
    reads: Vec<(FuncId, Val)>,
    writes: Vec<(FuncId, Val)>,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let mut reported = FxHashSet::default();
    for uses in uses(analysis) {
        for (func, at, write) in mixed_up(analysis, &uses).into_iter().chain(missing(analysis, &uses)) {
            if !reported.insert((func, at)) || analysis.is_test(func) {
                continue;
            }
            let message = format!("`{}` may hold the value of another task here, or none", uses.name);
            found.push(
                Finding::new(&RULE.info, analysis.span(func, at), message)
                    .on(uses.name.clone())
                    .within(analysis.symbol(func))
                    .also(analysis.span(write.0, write.1), "written here, in asynchronous code")
                    .confidence(Confidence::Medium)
                    .with_fix(uses.home.and_then(|slot| fix::of_thread_local(analysis, slot))),
            );
        }
    }
}

/// All values of thread-local objects, in order of their first use.
fn uses(analysis: &Analysis<'_>) -> Vec<Uses> {
    let homes = homes(analysis);
    let mut order: Vec<Uses> = Vec::new();
    if homes.is_empty() {
        return order;
    }
    let mut index: FxHashMap<Value, usize> = FxHashMap::default();
    for func in analysis.functions() {
        let body = analysis.body(func);
        for at in body.vals() {
            let (base, name) = match body.op(at) {
                Op::Attr { base, name } | Op::StoreAttr { base, name, .. } => (base, name),
                _ => continue,
            };
            let Some(home) = home_of(analysis, &homes, func, base) else { continue };
            let idx = *index.entry((home, name)).or_insert_with(|| {
                let object = analysis.files.text(analysis.span(func, base));
                order.push(Uses { name: format!("{object}.{name}"), home: home.slot(), ..Uses::default() });
                order.len() - 1
            });
            if matches!(body.op(at), Op::Attr { .. }) {
                order[idx].reads.push((func, at));
            } else if !is_lazy(analysis, func, at) {
                order[idx].writes.push((func, at));
            }
        }
    }
    order
}

/// Attributes and globals that hold a `threading.local()`, and classes that inherit from it.
fn homes(analysis: &Analysis<'_>) -> FxHashSet<Home> {
    let is_local = |name: &str| matches!(name, "threading.local" | "_thread._local" | "_threading_local.local");
    let mut homes = FxHashSet::default();
    for class in analysis.project.class_ids() {
        if analysis.project.external_ancestors(class).any(|base| is_local(base.as_str())) {
            homes.insert(Home::Class(class));
        }
    }
    for func in analysis.functions() {
        let body = analysis.body(func);
        for store in body.writes() {
            let (Op::StoreGlobal { value, .. } | Op::StoreAttr { value, .. } | Op::StoreLocal { value, .. }) =
                body.op(store)
            else {
                continue;
            };
            if analysis.external_callee(func, value).is_some_and(|name| is_local(name.as_str())) {
                homes.extend(analysis.types.slots_of(analysis.project, func, store).into_iter().map(Home::Slot));
            }
        }
    }
    homes
}

fn home_of(analysis: &Analysis<'_>, homes: &FxHashSet<Home>, func: FuncId, base: Val) -> Option<Home> {
    let classes = analysis.types.of(func, base).iter().filter_map(|of| match of {
        Type::Instance(class) => Some(Home::Class(*class)),
        _ => None,
    });
    let own = matches!(analysis.body(func).op(base), Op::Local(local) if local.0 == 0)
        && analysis.project.class_of(func).is_some();
    let slots = analysis.types.slots_of(analysis.project, func, base).into_iter().map(Home::Slot);
    classes.filter(|_| !own).chain(slots).find(|home| homes.contains(home))
}

/// A value that is made once for each thread, where it is missing.
fn is_lazy(analysis: &Analysis<'_>, func: FuncId, at: Val) -> bool {
    let body = analysis.body(func);
    body.enclosing(at).any(|(_, block)| {
        matches!(block.kind, crate::body::BlockKind::Then(_) | crate::body::BlockKind::Else(_))
            || matches!(block.kind, crate::body::BlockKind::Except(..))
    })
}

/// Reads after an await of what the same coroutine wrote before it, directly or in what it calls.
fn mixed_up(analysis: &Analysis<'_>, uses: &Uses) -> Vec<(FuncId, Val, (FuncId, Val))> {
    let mut found = Vec::new();
    let coroutines = analysis.functions().filter(|func| analysis.project.function(*func).is_async);
    for func in coroutines {
        let writes = points(analysis, func, &uses.writes);
        if writes.is_empty() {
            continue;
        }
        let reads = points(analysis, func, &uses.reads);
        for (read, at) in reads {
            let earlier =
                writes.iter().filter(|(write, _)| *write < read && !analysis.body(func).excludes(*write, read));
            let Some((last, write)) = earlier.max_by_key(|(write, _)| *write) else { continue };
            // A helper that writes before it reads sees its own value.
            let fresh = at.0 != func && uses.writes.iter().any(|(writer, write)| *writer == at.0 && *write < at.1);
            if !fresh && analysis.suspends(Stretch { func, from: *last, to: read }) {
                found.push((at.0, at.1, *write));
            }
        }
    }
    found
}

/// Where a coroutine comes to some of these nodes: in itself, or in plain functions that it calls.
fn points(analysis: &Analysis<'_>, func: FuncId, nodes: &[(FuncId, Val)]) -> Vec<(Val, (FuncId, Val))> {
    let mut found: Vec<_> = nodes.iter().filter(|(of, _)| *of == func).map(|node| (node.1, *node)).collect();
    for call in &analysis.contexts.calls[func.0 as usize] {
        if call.as_value || call.spawns || call.guessed || analysis.project.function(call.callee).is_async {
            continue;
        }
        let inner = &analysis.contexts.calls[call.callee.0 as usize];
        let reaches = |of: FuncId| of == call.callee || inner.iter().any(|next| next.callee == of && !next.as_value);
        found.extend(nodes.iter().filter(|(of, _)| reaches(*of)).map(|node| (call.at, *node)));
    }
    found
}

/// Reads on threads and in handlers that never wrote the value: it was written by a coroutine, for its own thread.
fn missing(analysis: &Analysis<'_>, uses: &Uses) -> Vec<(FuncId, Val, (FuncId, Val))> {
    let writer = uses.writes.iter().find(|(func, at)| {
        let end = Val(crate::project::as_u32(analysis.body(*func).nodes.len().saturating_sub(1)));
        analysis.project.function(*func).is_async && analysis.suspends(Stretch { func: *func, from: *at, to: end })
    });
    let Some(writer) = writer else { return Vec::new() };
    let mut found = Vec::new();
    for (func, at) in &uses.reads {
        let own = uses.writes.iter().any(|(of, _)| of == func);
        if !own && (is_off_loop(analysis, uses, *func) || is_other_handler(analysis, *func, writer.0)) {
            found.push((*func, *at, *writer));
        }
    }
    found
}

/// Is the function run by a pool, thread or handler in which nobody writes the value?
fn is_off_loop(analysis: &Analysis<'_>, uses: &Uses, func: FuncId) -> bool {
    let threads = [EntryKind::Thread, EntryKind::Pool, EntryKind::Handler];
    analysis.contexts.groups_of(func).any(|idx| {
        let group = &analysis.contexts.groups[idx];
        let path = analysis.contexts.path(idx, func);
        let plain = path.iter().all(|(step, _)| !analysis.project.function(*step).is_async);
        threads.contains(&group.kind)
            && plain
            && !uses.writes.iter().any(|(writer, _)| {
                !analysis.project.function(*writer).is_async
                    && analysis.contexts.groups_of(*writer).any(|other| other == idx)
            })
    })
}

/// Is the function a handler of the loop by itself, beside the one that writes?
fn is_other_handler(analysis: &Analysis<'_>, func: FuncId, writer: FuncId) -> bool {
    func != writer
        && analysis.contexts.groups.iter().filter(|group| group.kind == EntryKind::Task).any(|group| {
            let entry = |func: FuncId| group.entries.iter().any(|entry| entry.func == func && entry.site.is_none());
            entry(func) && entry(writer)
        })
}
