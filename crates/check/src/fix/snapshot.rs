//! Copies a container in one step, and works on the copy.

use std::ops::Range;

use facts::{Edit, Fix, Safety};

use super::guard::{self, Guard};
use super::region::Region;
use super::sheet::Sheet;
use super::{hold, local};
use crate::analysis::{Analysis, Stretch, is_write};
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::summary::{Access, Touch};
use crate::types::Container;

/// Walks through a copy of a container, where copying it is one step (safe); else under a lock.
#[must_use]
pub fn snapshot(analysis: &Analysis<'_>, walk: &Access, stretch: Stretch) -> Option<Fix> {
    let atomic = analysis.runtime.snapshots_are_atomic();
    let copied = atomic.then(|| copied(analysis, walk)).flatten();
    copied
        .or_else(|| copied_under_lock(analysis, walk))
        .or_else(|| hold::hold_lock(analysis, walk, stretch, "the walk"))
}

/// `for x in xs:` -> `with lock: copy = list(xs)`, `for x in copy:`
fn copied_under_lock(analysis: &Analysis<'_>, walk: &Access) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(walk.func))?;
    let whole = analysis.body(walk.func).node(viewed(analysis, walk));
    let statement = local::statement_of(sheet, whole.start)?;
    let text = sheet.slice(whole.start, whole.end);
    if sheet.outline.statements[statement].kind != Kind::For || text.contains('\n') {
        return None;
    }
    let suits = |guard: &Guard| guard::suits(analysis, guard, walk.place) && !guard.is_async;
    let voted = guard::voted(analysis, walk).filter(suits);
    let safety = if voted.is_some() { Safety::Safe } else { Safety::Unsafe };
    let guard = voted.or_else(|| hold::any(analysis, sheet, walk, suits))?;
    let mut edits = match safety {
        Safety::Safe => Vec::new(),
        Safety::Unsafe => hold::everywhere(analysis, sheet, walk, None, &guard)?,
    };
    let slot = analysis.summaries.slot(walk.place);
    let name = local::name_for(analysis, walk.func, slot, &["*_copy", "*_now"])?;
    let (indent, unit, eol) = (sheet.indent(sheet.start(statement)), sheet.unit(statement), sheet.eol());
    let lines = format!("with {}:{eol}{indent}{unit}{name} = list({text})", guard.text);
    edits.push(sheet.line_before(statement, &lines)?);
    edits.push(sheet.edit(whole.start, whole.end, name));
    edits.extend(guard.edits.iter().cloned());
    Some(Fix { safety, title: hold::title(&guard, "the copy that is gone through"), edits })
}

/// `for x in d.items()` -> `for x in list(d.items())`, where nothing is known of the container.
#[must_use]
pub fn copy_of(analysis: &Analysis<'_>, func: FuncId, over: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let node = analysis.body(func).node(over);
    let text = sheet.slice(node.start, node.end);
    let edits = vec![sheet.edit(node.start, node.start, "list("), sheet.edit(node.end, node.end, ")")];
    let title = format!("go through a copy of `{text}`");
    (!text.contains('\n') && analysis.runtime.snapshots_are_atomic()).then_some(Fix {
        safety: Safety::Safe,
        title,
        edits,
    })
}

fn copied(analysis: &Analysis<'_>, walk: &Access) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(walk.func))?;
    let container = analysis.container(walk.place)?;
    if matches!(container, Container::WeakSet | Container::WeakDict) {
        return None;
    }
    let node = analysis.body(walk.func).node(walk.val);
    let bytes = match local::statement_of(sheet, node.start) {
        Some(statement) => {
            let outline = sheet.outline;
            let head_end = outline.parts[statement].first().map(|part| outline.suites[*part].head_end);
            sheet.start(statement)..head_end.unwrap_or(sheet.end(statement))
        }
        None => node.start..node.end,
    };
    let slot = analysis.summaries.slot(walk.place);
    let bytes = together(analysis, sheet, walk).unwrap_or(bytes);
    let reads = local::reads(analysis, walk.func, slot, bytes);
    let edits = if reads.len() > 1 && !walk.aliased {
        read_once(analysis, sheet, walk, &reads)?
    } else {
        in_place(analysis, sheet, walk, container)?
    };
    let name = analysis.place_name(walk);
    let what = if walk.touch == Touch::Iterate { "go through" } else { "use" };
    Some(Fix { safety: Safety::Safe, title: format!("{what} a copy of `{name}`"), edits })
}

/// From the first to the last simple statement of the suite that reads the container, where nothing in between waits
/// or changes it: one copy serves them all.
fn together(analysis: &Analysis<'_>, sheet: Sheet<'_>, walk: &Access) -> Option<Range<u32>> {
    let outline = sheet.outline;
    let own = outline.at(analysis.body(walk.func).node(walk.val).start)?;
    let suite = outline.statements[own].suite;
    let mut found = vec![own];
    for other in analysis.accesses(walk.place).filter(|other| other.func == walk.func) {
        let at = outline.at(analysis.body(walk.func).node(other.val).start)?;
        if is_write(other) || other.aliased {
            return None;
        }
        if outline.statements[at].suite == suite {
            found.push(at);
        }
    }
    let (first, last) = (*found.iter().min()?, *found.iter().max()?);
    let run = &outline.suites[suite].statements;
    let simple = run.iter().filter(|idx| (first..=last).contains(idx)).all(|idx| outline.parts[*idx].is_empty());
    let region = Region { func: walk.func, first, last };
    (simple && first < last && region.is_short(analysis, sheet)).then(|| region.bytes(sheet))
}

/// `for x in d.items()` -> `for x in list(d.items())`
fn in_place(analysis: &Analysis<'_>, sheet: Sheet<'_>, walk: &Access, container: Container) -> Option<Vec<Edit>> {
    let body = analysis.body(walk.func);
    let whole = viewed(analysis, walk);
    let node = body.node(whole);
    let is_view = whole != walk.val;
    let deep = analysis.external_callee(walk.func, walk.act).is_some_and(|name| name == "copy.deepcopy");
    if container == Container::Deque || deep {
        return (!is_view).then(|| vec![sheet.edit(node.end, node.end, ".copy()")]);
    }
    Some(vec![sheet.edit(node.start, node.start, "list("), sheet.edit(node.end, node.end, ")")])
}

/// The place, or the view of it: `d.items()`.
fn viewed(analysis: &Analysis<'_>, walk: &Access) -> Val {
    let body = analysis.body(walk.func);
    let consumer = |val| analysis.summaries.consumer(walk.func, val);
    let Some(attr) = consumer(walk.val) else { return walk.val };
    match (body.op(attr), consumer(attr)) {
        (Op::Attr { name, .. }, Some(call)) if matches!(name.as_str(), "items" | "keys" | "values") => call,
        _ => walk.val,
    }
}

/// Several reads in one statement see one copy.
fn read_once(analysis: &Analysis<'_>, sheet: Sheet<'_>, walk: &Access, reads: &[Val]) -> Option<Vec<Edit>> {
    let body = analysis.body(walk.func);
    let node = body.node(walk.val);
    let first = body.node(*reads.iter().min()?).start;
    let statement = local::statement_of(sheet, first)?;
    let text = sheet.slice(node.start, node.end);
    if !local::is_plain(text) || !sheet.starts_line(sheet.start(statement)) {
        return None;
    }
    let slot = analysis.summaries.slot(walk.place);
    let name = local::name_for(analysis, walk.func, slot, &["*_copy", "*_now"])?;
    let mut edits = local::replaced(analysis, sheet, walk.func, reads, &name);
    edits.push(sheet.line_before(statement, &format!("{name} = {text}.copy()"))?);
    Some(edits)
}
