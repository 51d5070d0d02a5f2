//! Assigns a shared name when what it names is ready, not before.

use std::ops::Range;

use facts::{Fix, Safety};

use super::guard;
use super::local;
use super::region::Region;
use super::sheet::{Sheet, Wrap};
use crate::analysis::{Analysis, Stretch};
use crate::body::{Op, Val};
use crate::source::outline::Kind;
use crate::summary::Access;

/// Makes and fills the object in a local, and assigns the shared name last.
#[must_use]
pub fn publish_last(analysis: &Analysis<'_>, store: &Access, ready: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(store.func))?;
    let region = Region::of(analysis, sheet, Stretch { func: store.func, from: store.act, to: ready })?;
    let statement = sheet.outline.at(analysis.body(store.func).node(store.act).start)?;
    if statement != region.first || region.first == region.last {
        return None;
    }
    let publication = Publication { analysis, sheet, store, region };
    let mut wrap = Wrap::under(region.first, region.last, String::new());
    wrap.heads.clear();
    wrap.depth = 0;
    let uses = publication.uses();
    if publication.is_seen_by_others() {
        return None;
    }
    let line = publication.in_local(&mut wrap, &uses)?;
    publication.at_end(&mut wrap, line)?;
    let edit = sheet.wrap(&wrap)?;
    let title = format!("assign `{}` when it is ready", analysis.place_name(store));
    Some(Fix { safety: Safety::Safe, title, edits: vec![edit] })
}

/// A store to a shared place, and the statements that belong to it.
pub(super) struct Publication<'a> {
    pub(super) analysis: &'a Analysis<'a>,
    pub(super) sheet: Sheet<'a>,
    pub(super) store: &'a Access,
    pub(super) region: Region,
}

impl Publication<'_> {
    fn body(&self) -> &crate::body::Body {
        self.analysis.body(self.store.func)
    }

    /// The nodes of the region after the store.
    pub(super) fn after(&self) -> Range<u32> {
        let nodes = self.region.nodes(self.analysis, self.sheet);
        (self.store.act.0 + 1).min(nodes.end)..nodes.end
    }

    /// Reads of the place after the store: of the item, if the place is a container.
    pub(super) fn uses(&self) -> Vec<Val> {
        let (analysis, func) = (self.analysis, self.store.func);
        let slot = analysis.summaries.slot(self.store.place);
        let end = self.sheet.end(self.region.last);
        let start = self.body().node(self.store.act).end;
        let after = self.after();
        let reads = local::reads(analysis, func, slot, start..end).into_iter().filter(|val| after.contains(&val.0));
        match self.body().op(self.store.act) {
            Op::StoreItem { base, key, .. } => {
                let text = |val: Val| analysis.files.text(analysis.span(func, val));
                let item = |read: Val| {
                    let user = analysis.summaries.consumer(func, read)?;
                    match self.body().op(user) {
                        Op::Item { base: of, key: at } if text(of) == text(base) && text(at) == text(key) => Some(user),
                        _ => None,
                    }
                };
                reads.map(|read| item(read).unwrap_or(read)).collect()
            }
            _ => reads.collect(),
        }
    }

    /// Do functions that run before the end look at the place themselves?
    pub(super) fn is_seen_by_others(&self) -> bool {
        let rest = guard::reached(self.analysis, self.store.func, self.after());
        self.analysis.accesses(self.store.place).any(|access| rest.contains(&access.func))
    }

    /// Puts what is stored into a local instead, and gives the line that publishes it.
    pub(super) fn in_local(&self, wrap: &mut Wrap, uses: &[Val]) -> Option<String> {
        let (sheet, body) = (self.sheet, self.body());
        let node = body.node(self.store.act);
        let statement = sheet.outline.at(node.start)?;
        let Kind::Assign(Some(value)) = sheet.outline.statements[statement].kind else { return None };
        let (of, is_item) = match node.op {
            Op::StoreGlobal { value, .. } | Op::StoreAttr { value, .. } => (value, false),
            Op::StoreItem { value, .. } => (value, true),
            _ => return None,
        };
        // `a, b = b, a`
        if body.node(of).start != value.0 || body.node(of).end != value.1 {
            return None;
        }
        let target = sheet.slice(node.start, node.end);
        let stored = sheet.slice(value.0, value.1);
        let is_whole = |read: &Val| !is_item || matches!(body.op(*read), Op::Item { .. });
        if target.contains('\n') || !uses.iter().all(is_whole) {
            return None;
        }
        if let Op::Local(_) = body.op(of) {
            // It is in a local already: only the publication moves.
            wrap.dropped = vec![statement];
            self.replace(wrap, uses, stored);
            return Some(format!("{target} = {stored}"));
        }
        let slot = self.analysis.summaries.slot(self.store.place);
        let name = match is_item {
            false => local::name_for(self.analysis, self.store.func, slot, &["new_*", "made_*"])?,
            true => local::free(self.analysis, self.store.func, ["made".to_owned(), "new_entry".to_owned()])?,
        };
        wrap.inner.push((sheet.start(statement), value.0, format!("{name} = ")));
        self.replace(wrap, uses, &name);
        Some(format!("{target} = {name}"))
    }

    fn replace(&self, wrap: &mut Wrap, uses: &[Val], name: &str) {
        let node = |read: &Val| self.body().node(*read);
        wrap.inner.extend(uses.iter().map(|read| (node(read).start, node(read).end, name.to_owned())));
        wrap.inner.sort();
        wrap.inner.dedup();
    }

    /// Puts a line at the end of the statements: before the `return`, if they end with one.
    pub(super) fn at_end(&self, wrap: &mut Wrap, line: String) -> Option<()> {
        let last = self.sheet.outline.statements[wrap.last];
        if last.kind != Kind::Leave {
            wrap.tails.push((wrap.depth, line));
            return Some(());
        }
        if !self.sheet.starts_line(last.start) {
            return None;
        }
        let deeper = self.sheet.unit(wrap.first).repeat(wrap.depth);
        let indent = self.sheet.indent(last.start);
        wrap.inner.push((last.start, last.start, format!("{line}{}{deeper}{indent}", self.sheet.eol())));
        wrap.inner.sort();
        Some(())
    }
}
