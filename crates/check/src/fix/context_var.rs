//! A `ContextVar` in the place of state that is meant for one call: each thread and each task has a value of its own.

use facts::{Edit, Fix, Safety};

use super::import;
use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::name::Name;
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::summary::mutating;
use crate::types::Slot;

/// Makes a `ContextVar` of a global or class attribute that only `writers` set for a while and put back. A setter
/// anywhere else means a value for all threads, which a `ContextVar` is not: then there is no fix.
#[must_use]
pub fn own_for_each(analysis: &Analysis<'_>, slot: Slot, writers: &[FuncId]) -> Option<Fix> {
    let (module, name) = match slot {
        Slot::Global(module, name) => (module, name),
        Slot::Attr(class, name) if analysis.is_class_attribute(slot) => {
            (analysis.project.class_info(class).module, name)
        }
        _ => return None,
    };
    let sheet = Sheet::of(analysis, analysis.project.modules[module.0 as usize].file)?;
    let mut change = Change { analysis, sheet, edits: Vec::new() };
    let mut n_made = 0;
    for func in analysis.functions() {
        if named_elsewhere(analysis, func, slot, name) {
            return None;
        }
        for val in analysis.body(func).vals() {
            if !analysis.types.slots_of(analysis.project, func, val).contains(&slot) {
                continue;
            }
            if analysis.project.file_of(func) != sheet.file {
                return None;
            }
            match analysis.body(func).op(val) {
                Op::Attr { .. } | Op::Global(_) => change.read(func, val, writers)?,
                // A local that stands for it reads what was read before.
                Op::Local(_) => match analysis.summaries.consumer(func, val) {
                    Some(user) if changes(analysis.body(func).op(user), val) => return None,
                    _ => {}
                },
                Op::StoreGlobal { update: false, .. }
                | Op::StoreAttr { update: false, .. }
                | Op::StoreLocal { update: false, .. } => match analysis.is_import_code(func) {
                    true => {
                        n_made += 1;
                        let var = import::member(
                            analysis,
                            sheet,
                            module,
                            "contextvars",
                            "ContextVar",
                            start(analysis, func, val),
                        )?;
                        change.edits.extend(var.edit);
                        change.around(func, val, None, &format!("{}(\"{name}\", default=", var.text), ")")?;
                    }
                    false if writers.contains(&func) => {
                        let text = change.text(func, val);
                        change.around(func, val, Some(val), &format!("{text}.set("), ")")?;
                    }
                    false => return None,
                },
                _ => return None,
            }
        }
    }
    change.without_declarations(name);
    let title = format!("make `{name}` a `ContextVar`: a value for each thread and task");
    (n_made == 1).then_some(Fix { safety: Safety::Unsafe, title, edits: change.edits })
}

/// Could somebody else mean the slot: by an import, through an object of unknown type, by its name in a string?
fn named_elsewhere(analysis: &Analysis<'_>, func: FuncId, slot: Slot, name: Name) -> bool {
    let body = analysis.body(func);
    let imports = &analysis.project.modules[analysis.project.module_of(func).0 as usize].imports;
    body.vals().any(|val| match body.op(val) {
        Op::Import(idx) => imports[idx as usize].member == Some(name),
        Op::Str(text) => text == name,
        Op::Attr { name: used, .. } | Op::StoreAttr { name: used, .. } | Op::DelAttr { name: used, .. } => {
            used == name && !analysis.types.slots_of(analysis.project, func, val).contains(&slot)
        }
        _ => false,
    })
}

fn start(analysis: &Analysis<'_>, func: FuncId, val: Val) -> u32 {
    analysis.body(func).node(val).start
}

/// Does the user of a container change it?
fn changes(user: Op, container: Val) -> bool {
    match user {
        Op::StoreItem { base, .. } | Op::DelItem { base, .. } | Op::StoreAttr { base, .. } => base == container,
        Op::Attr { base, name } => base == container && mutating(name.as_str()),
        _ => false,
    }
}

struct Change<'a> {
    analysis: &'a Analysis<'a>,
    sheet: Sheet<'a>,
    edits: Vec<Edit>,
}

impl Change<'_> {
    fn text(&self, func: FuncId, val: Val) -> String {
        self.analysis.files.text(self.analysis.span(func, val)).to_owned()
    }

    fn read(&mut self, func: FuncId, val: Val, writers: &[FuncId]) -> Option<()> {
        let body = self.analysis.body(func);
        let text = self.text(func, val);
        let user = self.analysis.summaries.consumer(func, val);
        match user.map(|user| (user, body.op(user))) {
            // A new container for this thread, not a change of the one that all have.
            Some((user, Op::StoreItem { base, key, update: false, .. })) if base == val && writers.contains(&func) => {
                let key = self.text(func, key);
                return self.around(func, user, Some(user), &format!("{text}.set({{**{text}.get(), {key}: "), "})");
            }
            Some((_, op)) if changes(op, val) => return None,
            _ => {}
        }
        let node = body.node(val);
        self.edits.push(self.sheet.edit(node.end, node.end, ".get()"));
        Some(())
    }

    /// Puts text before and after the value that a statement assigns; `target` is replaced by what comes before.
    fn around(&mut self, func: FuncId, store: Val, target: Option<Val>, before: &str, after: &str) -> Option<()> {
        let node = self.analysis.body(func).node(store);
        let statement = self.sheet.outline.at(node.start)?;
        let Kind::Assign(Some((from, to))) = self.sheet.outline.statements[statement].kind else { return None };
        // `(a, b) = f()`
        let whole = self.sheet.start(statement) == node.start && self.sheet.slice(node.end, from).trim() == "=";
        if !whole {
            return None;
        }
        let first = target.map_or(from, |_| node.start);
        self.edits.push(self.sheet.edit(first, from, before));
        self.edits.push(self.sheet.edit(to, to, after));
        Some(())
    }

    /// `global x` says nothing where `x` is no longer assigned.
    fn without_declarations(&mut self, name: Name) {
        let sheet = self.sheet;
        let declares = |idx: &usize| {
            sheet.outline.statements[*idx].kind == Kind::Declaration
                && sheet.statement(*idx) == format!("global {name}")
        };
        let lines: Vec<Edit> =
            (0..sheet.outline.statements.len()).filter(declares).filter_map(|idx| sheet.without(idx)).collect();
        self.edits.extend(lines);
    }
}

/// Makes a `ContextVar` of each value that a `threading.local()` of a module holds. Threads that are started without
/// a copy of the context would find none: where the values are read there, there is no fix.
#[must_use]
pub fn of_thread_local(analysis: &Analysis<'_>, slot: Slot) -> Option<Fix> {
    let Slot::Global(module, object) = slot else { return None };
    let sheet = Sheet::of(analysis, analysis.project.modules[module.0 as usize].file)?;
    let mut change = Change { analysis, sheet, edits: Vec::new() };
    let mut made = None;
    let mut names: Vec<Name> = Vec::new();
    for func in analysis.functions() {
        if named_elsewhere(analysis, func, slot, object) {
            return None;
        }
        let body = analysis.body(func);
        for val in body.vals() {
            if !analysis.types.slots_of(analysis.project, func, val).contains(&slot) {
                continue;
            }
            match (body.op(val), analysis.summaries.consumer(func, val)) {
                (Op::StoreGlobal { .. }, _) if made.is_none() && analysis.is_import_code(func) => {
                    made = Some((func, val))
                }
                (Op::Global(_), Some(user)) if analysis.project.file_of(func) == sheet.file => {
                    let name = change.value(func, val, user)?;
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                _ => return None,
            }
        }
    }
    let (func, store) = made?;
    let statement = sheet.outline.at(start(analysis, func, store))?;
    let Kind::Assign(Some(_)) = sheet.outline.statements[statement].kind else { return None };
    let globals = &analysis.project.globals[module.0 as usize];
    if names.is_empty() || names.iter().any(|name| globals.contains_key(&Name::new(&variable(object, *name)))) {
        return None;
    }
    let var = import::member(analysis, sheet, module, "contextvars", "ContextVar", sheet.start(statement))?;
    change.edits.extend(var.edit);
    let lines: Vec<String> = names
        .iter()
        .map(|name| variable(object, *name))
        .map(|name| format!("{name} = {}(\"{name}\")", var.text))
        .collect();
    let edit = sheet.edit(sheet.start(statement), sheet.end(statement), lines.join(sheet.eol()));
    change.edits.push(edit);
    let title = format!("keep what `{object}` holds in a `ContextVar`, which each task has for itself");
    Some(Fix { safety: Safety::Unsafe, title, edits: change.edits })
}

fn variable(object: Name, name: Name) -> String {
    format!("{object}_{name}")
}

impl Change<'_> {
    /// `request.user` -> `request_user.get()`, `request.user = x` -> `request_user.set(x)`
    fn value(&mut self, func: FuncId, object: Val, user: Val) -> Option<Name> {
        let (body, text) = (self.analysis.body(func), self.text(func, object));
        match body.op(user) {
            Op::Attr { base, name } if base == object && has_context(self.analysis, func) => {
                let node = body.node(user);
                let variable = variable(Name::new(&text), name);
                self.edits.push(self.sheet.edit(node.start, node.end, format!("{variable}.get()")));
                Some(name)
            }
            Op::StoreAttr { base, name, update: false, .. } if base == object => {
                let variable = variable(Name::new(&text), name);
                self.around(func, user, Some(user), &format!("{variable}.set("), ")")?;
                Some(name)
            }
            _ => None,
        }
    }
}

/// Does whoever runs the function have the context of the one who started it, and does it expect no AttributeError?
fn has_context(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let body = analysis.body(func);
    let expects = body.vals().any(|val| matches!(body.op(val), Op::Global(name) if name == "AttributeError"));
    let copies = |dotted: &str| {
        matches!(dotted, "asyncio.to_thread" | "anyio.to_thread.run_sync" | "starlette.concurrency.run_in_threadpool")
    };
    let bare = analysis.contexts.groups_of(func).any(|idx| {
        let group = &analysis.contexts.groups[idx];
        matches!(group.kind, EntryKind::Thread | EntryKind::Pool)
            && group.entries.iter().any(|entry| {
                let by = entry.site.and_then(|(maker, site)| analysis.external_callee(maker, site));
                !by.is_some_and(|dotted| copies(dotted.as_str()))
            })
    });
    !expects && !bare
}
