//! Another kind of lock in the place of one: reentrant, or one that keeps threads apart.

use facts::{Fix, Safety};

use super::import;
use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::types::Slot;

/// `threading.RLock` for `threading.Lock`.
#[must_use]
pub fn reentrant(analysis: &Analysis<'_>, lock: Slot) -> Option<Fix> {
    let (func, call) = made(analysis, lock, &["threading.Lock", "_thread.allocate_lock"])?;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let edits = replaced(analysis, sheet, func, call, "RLock")?;
    let name = super::guard::slot_name(analysis, lock);
    Some(Fix { safety: Safety::Unsafe, title: format!("make `{name}` reentrant"), edits })
}

/// `threading.Lock` for `asyncio.Lock`, where nothing is awaited under it.
#[must_use]
pub fn thread_lock(analysis: &Analysis<'_>, lock: Slot) -> Option<Fix> {
    let (func, call) = made(analysis, lock, &["asyncio.Lock"])?;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let place = *analysis.summaries.places.get(&lock)?;
    let mut edits = replaced(analysis, sheet, func, call, "Lock")?;
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
    member: &str,
) -> Option<Vec<facts::Edit>> {
    let body = analysis.body(func);
    let Op::Call { func: target, .. } = body.op(call) else { return None };
    let node = body.node(target);
    let before = if analysis.is_import_code(func) { node.start } else { u32::MAX };
    let new = import::member(analysis, sheet, analysis.project.module_of(func), "threading", member, before)?;
    let mut edits = vec![sheet.edit(node.start, node.end, new.text)];
    edits.extend(new.edit);
    Some(edits)
}
