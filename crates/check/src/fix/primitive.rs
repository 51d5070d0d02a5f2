//! Another kind of lock in the place of one: reentrant, or one that keeps threads apart.

use facts::{Fix, Safety};

use super::import;
use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{BlockKind, Op, Val};
use crate::contexts::EntryKind;
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::types::Slot;

/// `threading.RLock` for `threading.Lock`.
#[must_use]
pub fn reentrant(analysis: &Analysis<'_>, lock: Slot) -> Option<Fix> {
    let (func, call) = made(analysis, lock, &["threading.Lock", "_thread.allocate_lock"])?;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let edits = replaced(analysis, sheet, func, call, ("threading", "RLock"))?;
    let name = super::guard::slot_name(analysis, lock);
    Some(Fix { safety: Safety::Unsafe, title: format!("make `{name}` reentrant"), edits })
}

/// `threading.Lock` for `asyncio.Lock`, where nothing is awaited under it.
#[must_use]
pub fn thread_lock(analysis: &Analysis<'_>, lock: Slot) -> Option<Fix> {
    let (func, call) = made(analysis, lock, &["asyncio.Lock"])?;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let place = *analysis.summaries.places.get(&lock)?;
    let mut edits = replaced(analysis, sheet, func, call, ("threading", "Lock"))?;
    let mut n_blocks = 0;
    for (func, held) in analysis.summaries.takers.get(&place).into_iter().flatten() {
        let body = analysis.body(*func);
        let Op::Enter { is_async: true, .. } = body.op(held.at) else { return None };
        let block = body.blocks.iter().find(|block| block.kind == BlockKind::With(held.at))?;
        let waits = (block.first..block.end).map(Val).any(|val| match body.op(val) {
            Op::Await(_) | Op::Yield(_) => true,
            Op::Iter { is_async, .. } | Op::Enter { is_async, .. } => is_async,
            _ => false,
        });
        let with = sheet.outline.at(body.node(held.at).start)?;
        let one = sheet.slice(sheet.start(with), body.node(held.at).start);
        let here = analysis.project.file_of(*func) == sheet.file;
        if waits || !here || sheet.outline.statements[with].kind != Kind::With || one != "async with " {
            return None;
        }
        let start = sheet.start(with);
        edits.push(sheet.edit(start, start + 6, ""));
        n_blocks += 1;
    }
    let name = super::guard::slot_name(analysis, lock);
    let title = format!("make `{name}` a lock that keeps threads apart");
    (n_blocks > 0).then_some(Fix { safety: Safety::Unsafe, title, edits })
}

/// `asyncio.Lock` for `threading.Lock`, and `asyncio.Semaphore` for a semaphore, where only coroutines use it.
#[must_use]
pub fn loop_lock(analysis: &Analysis<'_>, lock: Slot) -> Option<Fix> {
    let classes = ["threading.Lock", "threading.Semaphore", "threading.BoundedSemaphore"];
    let (func, call) = made(analysis, lock, &classes)?;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let class = analysis.external_callee(func, call)?;
    let member = class.as_str().rsplit('.').next()?;
    let mut edits = replaced(analysis, sheet, func, call, ("asyncio", member))?;
    let name = super::guard::slot_name(analysis, lock);
    for func in analysis.functions() {
        let body = analysis.body(func);
        for val in body.vals() {
            let (Op::Attr { .. } | Op::Global(_) | Op::Captured(..)) = body.op(val) else { continue };
            let is_lock = analysis.types.slots_of(analysis.project, func, val).contains(&lock);
            if is_lock {
                let in_file = analysis.project.file_of(func) == sheet.file;
                edits.extend(in_file.then(|| awaited(analysis, sheet, func, val)).flatten()?);
            } else if matches!(body.op(val), Op::Attr { name: used, .. } if used == name) {
                // The same lock, perhaps, through an object of unknown type.
                return None;
            }
        }
    }
    let title = format!("make `{name}` a lock of the event loop");
    Some(Fix { safety: Safety::Unsafe, title, edits })
}

/// One use of the lock in a coroutine: `with` becomes `async with`, `acquire()` is awaited. No use elsewhere can be.
#[allow(clippy::option_option)] // three answers
fn awaited(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId, val: Val) -> Option<Option<facts::Edit>> {
    let off_loop = [EntryKind::Thread, EntryKind::Pool, EntryKind::Handler, EntryKind::Finalizer, EntryKind::Hook];
    if !analysis.project.function(func).is_async || analysis.contexts.is_reached_by(func, &off_loop) {
        return None;
    }
    let body = analysis.body(func);
    let user = analysis.summaries.consumer(func, val)?;
    match body.op(user) {
        Op::Enter { is_async: false, .. } => {
            let start = body.node(val).start;
            let with = sheet.outline.at(start)?;
            let one = sheet.slice(sheet.start(with), start) == "with ";
            let is_with = sheet.outline.statements[with].kind == Kind::With;
            (one && is_with).then(|| Some(sheet.edit(sheet.start(with), sheet.start(with), "async ")))
        }
        Op::Attr { name, .. } => {
            let call = analysis.summaries.consumer(func, user)?;
            let Op::Call { func: target, args } = body.op(call) else { return None };
            let node = body.node(call);
            let statement = sheet.outline.at(node.start)?;
            let bare = sheet.start(statement) == node.start && sheet.end(statement) == node.end;
            match name.as_str() {
                _ if target != user || args.len > 0 => None,
                "acquire" if bare => Some(Some(sheet.edit(node.start, node.start, "await "))),
                "release" | "locked" => Some(None),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The one call that makes a lock.
fn made(analysis: &Analysis<'_>, lock: Slot, names: &[&str]) -> Option<(FuncId, Val)> {
    let [(func, value)] = analysis.stores(lock) else { return None };
    let (func, value) = (*func, *value);
    let known = analysis.external_callee(func, value).is_some_and(|name| names.contains(&name.as_str()));
    known.then_some((func, value))
}

fn replaced(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    call: Val,
    (package, member): (&str, &str),
) -> Option<Vec<facts::Edit>> {
    let body = analysis.body(func);
    let Op::Call { func: target, .. } = body.op(call) else { return None };
    let node = body.node(target);
    let before = if analysis.is_import_code(func) { node.start } else { u32::MAX };
    let new = import::member(analysis, sheet, analysis.project.module_of(func), package, member, before)?;
    let mut edits = vec![sheet.edit(node.start, node.end, new.text)];
    edits.extend(new.edit);
    Some(edits)
}
