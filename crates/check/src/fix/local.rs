//! Reads shared state once, into a local, and goes on with the local.

use facts::Edit;

use super::guard;
use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::types::Slot;

/// A name for a local that stands for a place, one that nothing else in the function has: the name of the place, or
/// it in the place of `*`.
pub(super) fn name_for(analysis: &Analysis<'_>, func: FuncId, slot: Slot, forms: &[&str]) -> Option<String> {
    let stem = guard::stem(guard::slot_name(analysis, slot).as_str());
    let names = std::iter::once(stem.clone()).chain(forms.iter().map(|form| form.replace('*', &stem)));
    free(analysis, func, names)
}

/// The first of some names that means nothing in the function yet.
pub(super) fn free(analysis: &Analysis<'_>, func: FuncId, names: impl IntoIterator<Item = String>) -> Option<String> {
    let module = analysis.project.module_of(func);
    let globals = &analysis.project.globals[module.0 as usize];
    names.into_iter().find(|text| {
        let name = Name::new(text);
        let body = analysis.body(func);
        let read = body.vals().any(|val| matches!(body.op(val), Op::Global(used) if used == name));
        let captured = body.vals().any(|val| match body.op(val) {
            Op::Captured(owner, local) => {
                analysis.body(analysis.project.sibling(func, owner)).locals[local.0 as usize] == name
            }
            _ => false,
        });
        !body.locals.contains(&name) && !globals.contains_key(&name) && !read && !captured && !is_keyword(text)
    })
}

fn is_keyword(name: &str) -> bool {
    const WORDS: &str = " and as assert async await break class continue def del elif else except finally for from \
        global if import in is lambda nonlocal not or pass raise return try while with yield none true false self cls ";
    WORDS.contains(&format!(" {name} "))
}

/// Nodes that read a slot, among those of a function that lie in some bytes.
pub(super) fn reads(analysis: &Analysis<'_>, func: FuncId, slot: Slot, bytes: std::ops::Range<u32>) -> Vec<Val> {
    let body = analysis.body(func);
    let reads = body.vals().filter(|val| {
        matches!(body.op(*val), Op::Attr { .. } | Op::Global(_) | Op::Captured(..))
            && bytes.contains(&body.node(*val).start)
            && analysis.types.slots_of(analysis.project, func, *val).contains(&slot)
    });
    reads.collect()
}

/// The nodes of a function that store to a slot or delete it, among some bytes.
pub(super) fn stores(analysis: &Analysis<'_>, func: FuncId, slot: Slot, bytes: std::ops::Range<u32>) -> Vec<Val> {
    let body = analysis.body(func);
    let stores = body.vals().filter(|val| {
        matches!(
            body.op(*val),
            Op::StoreAttr { .. }
                | Op::StoreGlobal { .. }
                | Op::StoreCaptured { .. }
                | Op::DelAttr { .. }
                | Op::DelGlobal(_)
        ) && bytes.contains(&body.node(*val).start)
            && analysis.types.slots_of(analysis.project, func, *val).contains(&slot)
    });
    stores.collect()
}

/// Edits that put a local in the place of nodes.
pub(super) fn replaced(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    nodes: &[Val],
    text: &str,
) -> Vec<Edit> {
    let body = analysis.body(func);
    let mut edits: Vec<Edit> = nodes
        .iter()
        .map(|val| {
            let node = body.node(*val);
            sheet.edit(node.start, node.end, text)
        })
        .collect();
    edits.sort();
    edits.dedup();
    edits
}

/// The statement whose own head or text holds a node, if what stands before it runs once whenever it does: not a
/// `while`, not a later clause.
pub(super) fn statement_of(sheet: Sheet<'_>, at: u32) -> Option<usize> {
    let outline = sheet.outline;
    let statement = outline.at(at)?;
    let head_end = outline.parts[statement].first().map(|part| outline.suites[*part].head_end);
    let simple = !matches!(outline.statements[statement].kind, Kind::While | Kind::Function | Kind::Class);
    (simple && head_end.is_none_or(|end| at < end) && sheet.stands_alone(statement, statement)).then_some(statement)
}

/// Is the text a name, an attribute of one, or a literal: does writing it twice change nothing?
pub(super) fn is_plain(text: &str) -> bool {
    let dotted = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let literal = quote.is_some_and(|quote| {
        text.len() > 1 && text.ends_with(quote) && !text[1..text.len() - 1].contains([quote, '\\', '\n'])
    });
    let pair = text.starts_with('(') && text.ends_with(')') && !text.contains('\n') && {
        let inner = &text[1..text.len() - 1];
        inner.split(',').all(|part| {
            let part = part.trim();
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
        })
    };
    dotted || literal || pair
}
