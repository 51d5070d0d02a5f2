//! An event for each run of a worker, so that nobody takes back what was said to the last one.

use facts::{Edit, Fix, Safety};

use super::sheet::Sheet;
use super::{import, local};
use crate::analysis::Analysis;
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::project::{ClassId, FuncId};
use crate::types::Slot;

/// A new event in the place of `clear()`, handed to the thread as an argument. `waiter` is what the thread runs.
#[must_use]
pub fn event_for_each_run(analysis: &Analysis<'_>, slot: Slot, waiter: FuncId, clear: (FuncId, Val)) -> Option<Fix> {
    let (func, at) = clear;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let Slot::Attr(class, attribute) = slot else { return None };
    let mut edits = Vec::new();
    if func == waiter {
        // A thread runs once: its event is as new as it is.
        let of = analysis.project.class_of(func)?;
        let is_thread = analysis.project.external_ancestors(of).any(|base| base == "threading.Thread");
        let statement = sheet.outline.at(analysis.body(func).node(at).start)?;
        let title = "leave the event as it was made: a thread runs once".to_owned();
        let fix = Fix { safety: Safety::Unsafe, title, edits: vec![sheet.without(statement)?] };
        return is_thread.then_some(fix);
    }
    let (base, "clear") = analysis.method_call(func, at)? else { return None };
    let whole = analysis.body(func).node(at);
    let text = analysis.files.text(analysis.span(func, base));
    let statement = sheet.outline.at(whole.start)?;
    let bare = sheet.start(statement) == whole.start && sheet.end(statement) == whole.end;
    let event = import::member(analysis, sheet, analysis.project.module_of(func), "threading", "Event", u32::MAX)?;
    if !bare || !local::is_plain(text) || analysis.project.file_of(waiter) != sheet.file {
        return None;
    }
    edits.push(sheet.edit(whole.start, whole.end, format!("{text} = {}()", event.text)));
    edits.extend(event.edit);
    edits.extend(handed(analysis, sheet, slot, waiter)?);
    edits.extend(taken(analysis, sheet, slot, waiter)?);
    // A subclass with another `_run` would not take the event.
    let name = analysis.project.function(waiter).name;
    let same = analysis.project.class_of(waiter).is_some_and(|of| {
        let info = analysis.project.class_info(of);
        let overrides = |sub: &ClassId| analysis.project.class_info(*sub).methods.contains_key(&name);
        info.mro.contains(&class) && !info.subclasses.iter().any(overrides)
    });
    let title = format!("give each run an event of its own in `{attribute}`, and hand it to the thread");
    same.then_some(Fix { safety: Safety::Unsafe, title, edits })
}

/// `Thread(target=self._run)` -> `Thread(target=self._run, args=(self._stop,))`, wherever such a thread is made.
fn handed(analysis: &Analysis<'_>, sheet: Sheet<'_>, slot: Slot, waiter: FuncId) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    for idx in analysis.contexts.groups_of(waiter) {
        for entry in &analysis.contexts.groups[idx].entries {
            let (maker, site) = entry.site?;
            if entry.func != waiter || entry.kind != EntryKind::Thread || analysis.project.file_of(maker) != sheet.file
            {
                return None;
            }
            let body = analysis.body(maker);
            let Op::Call { args, .. } = body.op(site) else { return None };
            let args = body.args(args);
            let only = args
                .iter()
                .all(|arg| arg.name.is_some_and(|name| matches!(name.as_str(), "target" | "daemon" | "name")));
            let target = args.iter().find(|arg| arg.name.is_some_and(|name| name == "target"))?.value;
            let Op::Attr { base, .. } = body.op(target) else { return None };
            let object = analysis.files.text(analysis.span(maker, base));
            if !only || !matches!(body.op(base), Op::Local(_)) {
                return None;
            }
            let Slot::Attr(_, name) = slot else { return None };
            let end = body.node(target).end;
            edits.push(sheet.edit(end, end, format!(", args=({object}.{name},)")));
        }
    }
    edits.sort();
    edits.dedup();
    (!edits.is_empty()).then_some(edits)
}

/// `def _run(self):` -> `def _run(self, stop):`, which is asked in the place of the attribute. Nothing that the worker
/// calls may ask the attribute: it would see the event of the next run.
fn taken(analysis: &Analysis<'_>, sheet: Sheet<'_>, slot: Slot, waiter: FuncId) -> Option<Vec<Edit>> {
    let function = analysis.project.function(waiter);
    let body = &function.body;
    let called = analysis.contexts.callers[waiter.0 as usize].iter().any(|site| !site.as_value && !site.spawns);
    let nodes = 0..super::sheet::as_u32(body.nodes.len());
    let bytes = function.start..function.end;
    let asks = |func: &FuncId| {
        let body = analysis.body(*func);
        body.vals().any(|val| {
            matches!(body.op(val), Op::Attr { .. })
                && analysis.types.slots_of(analysis.project, *func, val).contains(&slot)
        })
    };
    let others = super::guard::reached(analysis, waiter, nodes).iter().any(asks);
    let head = sheet.slice(function.start, function.head_end);
    let [this] = &function.params[..] else { return None };
    let whole = format!("({})", this.name);
    let open = head.find(&whole)?;
    if called || others {
        return None;
    }
    let stem = super::guard::stem(super::guard::slot_name(analysis, slot).as_str());
    let name = local::free(analysis, waiter, [stem, "stop_event".to_owned(), "stopped".to_owned()])?;
    let reads = local::reads(analysis, waiter, slot, bytes);
    if reads.is_empty() || !local::stores(analysis, waiter, slot, function.start..function.end).is_empty() {
        return None;
    }
    let mut edits = local::replaced(analysis, sheet, waiter, &reads, &name);
    let at = function.start + super::sheet::as_u32(open + whole.len() - 1);
    edits.push(sheet.edit(at, at, format!(", {name}")));
    Some(edits)
}
