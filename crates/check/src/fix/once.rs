//! Creates shared objects once: double-checked locking, and publication after the object is ready.

use facts::{Fix, Safety};

use super::entry::Entry;
use super::guard::{self, Guard};
use super::hold;
use super::publish::Publication;
use super::region::Region;
use super::sheet::{Line, Sheet, Wrap};
use crate::analysis::{Analysis, Condition, Stretch};
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;
use crate::source::outline::{Kind, Role};
use crate::summary::Access;

/// A creation that is tested for and then done.
struct Creation<'a> {
    analysis: &'a Analysis<'a>,
    sheet: Sheet<'a>,
    store: &'a Access,
    /// The statements that create, in the suite under the test or after the early exit.
    region: Region,
    /// Reads into the local that is tested, if it is a local.
    read_again: Option<String>,
    /// Lines that test again.
    lines: Vec<String>,
    /// Do the lines open a block?
    opens: bool,
    /// An entry that is looked up again afterwards.
    entry: Option<Entry>,
}

/// Wraps the creation of a lazily made object in a lock, and tests again inside. Where making it awaits, it is made
/// outside of the lock, and the first one wins (unsafe: the other one was made for nothing).
#[must_use]
pub fn double_checked(analysis: &Analysis<'_>, store: &Access, condition: &Condition, stretch: Stretch) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(store.func))?;
    let found = creation(analysis, sheet, store, condition);
    let Some(creation) = found else {
        return hold::hold_lock(analysis, store, stretch, "test and creation");
    };
    let fits = |guard: &Guard| {
        !creation.region.takes(analysis, sheet, guard.place) && guard::suits(analysis, guard, store.place)
    };
    let guard =
        guard::voted(analysis, store).filter(fits).or_else(|| guard::seen(analysis, store).filter(fits)).or_else(
            || guard::own(analysis, sheet, store).filter(fits).filter(|_| analysis.guard(store.place).is_none()),
        )?;
    if guard.is_async || creation.region.is_short(analysis, sheet) {
        creation.locked(&guard)
    } else {
        creation.first_wins(&guard)
    }
}

/// Tests again under a lock that is there already.
#[must_use]
pub fn recheck(analysis: &Analysis<'_>, store: &Access, condition: &Condition) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(store.func))?;
    let (outline, body) = (sheet.outline, analysis.body(store.func));
    let stored = outline.at(body.node(store.act).start)?;
    let locked = outline.around(stored).find(|idx| outline.statements[*idx].kind == Kind::With)?;
    let statements = &outline.suites[*outline.parts[locked].first()?].statements;
    let (first, mut last) = (*statements.first()?, *statements.last()?);
    let tested = outline.at(body.node(condition.at).start)?;
    let mut lines: Vec<String> = read_again(analysis, sheet, store.func, condition)?.into_iter().collect();
    let mut opens = false;
    if sheet.start(tested) >= sheet.start(locked) {
        // Only the local is tested again.
        lines.first()?;
    } else if outline.statements[tested].kind == Kind::If {
        let inside =
            outline.around(locked).find(|idx| outline.suites[outline.statements[*idx].suite].owner == Some(tested));
        let (_, again, is_block) = match inside {
            Some(inside) => under_test(sheet, store.func, inside)?,
            None => after_exit(sheet, store.func, tested, locked)?,
        };
        lines.extend(again);
        opens = is_block;
    } else {
        lines.extend(tried_again(analysis, sheet, store.func, condition, tested)?);
    }
    if opens && outline.statements[last].kind == Kind::Leave {
        // What is returned must be there for both.
        let returned = sheet.statement(last).strip_prefix("return")?.trim();
        let shared = analysis.place_name(store);
        let before = outline.statements[last].at.checked_sub(1)?;
        if returned != shared && !returned.starts_with(&format!("{shared}[")) {
            return None;
        }
        last = statements[before];
    }
    let base = sheet.indent(sheet.start(tested));
    let heads = lines.iter().map(|line| (0, line.strip_prefix(base).unwrap_or(line).to_owned())).collect();
    let mut wrap = Wrap::under(first, last, String::new());
    wrap.heads = heads;
    wrap.depth = usize::from(opens);
    wrap.whole = opens;
    let lock = sheet
        .slice(outline.suites[outline.parts[locked][0]].head_start, outline.suites[outline.parts[locked][0]].head_end);
    let lock = lock.trim_start_matches("async ").trim_start_matches("with ").trim_end_matches(':').trim();
    Some(Fix { safety: Safety::Safe, title: format!("test again under `{lock}`"), edits: vec![sheet.wrap(&wrap)?] })
}

/// `try: return d[k]`, `except KeyError: pass`: the same test, without the exception.
fn tried_again(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    condition: &Condition,
    tested: usize,
) -> Option<Vec<String>> {
    let body = analysis.body(func);
    let (Op::Item { base, key }, Kind::Leave) = (body.op(condition.at), sheet.outline.statements[tested].kind) else {
        return None;
    };
    let text = |val| analysis.files.text(analysis.span(func, val));
    let whole = sheet.statement(tested);
    if whole.contains('\n') {
        return None;
    }
    let unit = sheet.unit(tested);
    Some(vec![format!("if {} in {}:", text(key), text(base)), format!("{unit}{whole}")])
}

fn creation<'a>(
    analysis: &'a Analysis<'a>,
    sheet: Sheet<'a>,
    store: &'a Access,
    condition: &Condition,
) -> Option<Creation<'a>> {
    let body = analysis.body(store.func);
    let at = body.node(condition.at);
    let (_, block) = body.enclosing(store.act).find(|(_, block)| match block.kind {
        BlockKind::Then(test) | BlockKind::Else(test) => {
            let test = body.node(test);
            test.start <= at.start && at.end <= test.end
        }
        _ => false,
    })?;
    let (BlockKind::Then(test) | BlockKind::Else(test)) = block.kind else { return None };
    let outline = sheet.outline;
    let tested = outline.at(body.node(test).start)?;
    if outline.statements[tested].kind != Kind::If {
        return None;
    }
    let stored = outline.at(body.node(store.act).start)?;
    let inside =
        outline.around(stored).find(|idx| outline.suites[outline.statements[*idx].suite].owner == Some(tested));
    let read_again = read_again(analysis, sheet, store.func, condition)?;
    let (region, lines, opens) = match inside {
        Some(inside) => under_test(sheet, store.func, inside)?,
        None => after_exit(sheet, store.func, tested, stored)?,
    };
    let entry = Entry::of(analysis, sheet, store, condition).filter(|_| opens && read_again.is_none());
    Some(Creation { analysis, sheet, store, region, read_again, lines, opens, entry })
}

/// The statement that reads the place into the local that is tested; none if the place is tested itself.
#[allow(clippy::option_option)] // three answers
fn read_again(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    condition: &Condition,
) -> Option<Option<String>> {
    if !condition.through_local {
        return Some(None);
    }
    let body = analysis.body(func);
    let statement = sheet.outline.at(body.node(condition.read).start)?;
    let text = sheet.statement(statement);
    match sheet.outline.statements[statement].kind {
        Kind::Assign(Some(_)) if !text.contains('\n') && !text.contains("await ") => Some(Some(text.to_owned())),
        // `if (x := d.get(k)) is None` reads again by itself.
        Kind::If if text.contains(":=") => Some(None),
        _ => None,
    }
}

type Found = (Region, Vec<String>, bool);

/// `if x is None: <suite>`. Whoever finds the object made goes on as if the first test had found it: behind the `if`,
/// so that there must be no other branch, or one that leaves at once.
fn under_test(sheet: Sheet<'_>, func: FuncId, inside: usize) -> Option<Found> {
    let outline = sheet.outline;
    let suite = outline.statements[inside].suite;
    let parts = &outline.parts[outline.suites[suite].owner?];
    let (lines, opens) = match outline.suites[suite].role {
        Role::Body | Role::Elif if parts.last() == Some(&suite) => (vec![format!("if {}:", sheet.test(suite)?)], true),
        Role::Else => {
            let [other, _] = parts[..] else { return None };
            let [exit] = outline.suites[other].statements[..] else { return None };
            let text = sheet.statement(exit);
            if outline.statements[exit].kind != Kind::Leave || text.contains('\n') {
                return None;
            }
            (vec![format!("if {}:", sheet.test(other)?), format!("{}{text}", sheet.unit(exit))], false)
        }
        _ => return None,
    };
    let statements = &outline.suites[suite].statements;
    let region = Region { func, first: *statements.first()?, last: *statements.last()? };
    Some((region, lines, opens))
}

/// `if x is not None: return x`, then the rest.
fn after_exit(sheet: Sheet<'_>, func: FuncId, tested: usize, stored: usize) -> Option<Found> {
    let outline = sheet.outline;
    let suite = outline.statements[tested].suite;
    let last = outline.around(stored).find(|idx| outline.statements[*idx].suite == suite)?;
    let statements = &outline.suites[suite].statements;
    let first = *statements.get(outline.statements[tested].at + 1)?;
    // A short exit is repeated; it must leave by itself.
    let [part] = outline.parts[tested][..] else { return None };
    let [exit] = outline.suites[part].statements[..] else { return None };
    if outline.statements[exit].kind != Kind::Leave || first > last {
        return None;
    }
    let lines = sheet.statement(tested).lines().map(str::to_owned).collect();
    Some((Region { func, first, last }, lines, false))
}

impl Creation<'_> {
    fn publication(&self) -> Publication<'_> {
        Publication { analysis: self.analysis, sheet: self.sheet, store: self.store, region: self.region }
    }

    /// `with lock:`, the test again, the same statements.
    fn locked(&self, guard: &Guard) -> Option<Fix> {
        let mut wrap = self.wrap(guard);
        let mut edits = Vec::new();
        if let Some(entry) = &self.entry {
            wrap.heads.truncate(1);
            wrap.heads.extend([(1, entry.read()), (1, entry.head())]);
            let start = self.sheet.start(self.sheet.outline.at(self.store_start())?);
            wrap.inner.push((start, start, format!("{} = ", entry.name)));
            edits.extend(entry.around(self.analysis, self.sheet)?);
        } else {
            self.publish_last(&mut wrap)?;
        }
        edits.push(self.sheet.wrap(&wrap)?);
        edits.extend(guard.edits.iter().cloned());
        Some(Fix { safety: Safety::Safe, title: title(guard), edits })
    }

    fn store_start(&self) -> u32 {
        self.analysis.body(self.store.func).node(self.store.act).start
    }

    fn wrap(&self, guard: &Guard) -> Wrap {
        let is_async = if guard.is_async { "async " } else { "" };
        let mut wrap = Wrap::under(self.region.first, self.region.last, format!("{is_async}with {}:", guard.text));
        wrap.heads.extend(self.lines(self.read_again.iter().chain(&self.lines)));
        wrap.depth += usize::from(self.opens);
        wrap.whole = self.opens;
        wrap
    }

    /// Lines of the test, one deeper than the lock.
    fn lines<'s>(&self, lines: impl Iterator<Item = &'s String>) -> Vec<Line> {
        let base = self.sheet.indent(self.sheet.start(self.region.first));
        lines.map(|line| (1, line.strip_prefix(base).unwrap_or(line).to_owned())).collect()
    }

    /// The lines that test the place itself, though the first test was of a local: that now holds what is to be
    /// published.
    fn tests_of_place(&self) -> Option<Vec<String>> {
        if self.lines.iter().any(|line| line.contains(":=")) {
            return None;
        }
        let Some(read) = &self.read_again else { return Some(self.lines.clone()) };
        let (local, place) = read.split_once('=')?;
        let (local, place) = (local.trim(), place.trim());
        let plain = !place.contains(|c: char| c.is_whitespace()) && self.lines.len() == 1;
        let tested = self.lines.first()?;
        let parts: Vec<&str> = tested.split(local).collect();
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let [before, after] = parts[..] else { return None };
        let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
        (plain && alone).then(|| vec![format!("{before}{place}{after}")])
    }

    /// Where the object is used between its publication and the end of the statements, it is made in a local and
    /// published at the end; `None` where that cannot be done.
    fn publish_last(&self, wrap: &mut Wrap) -> Option<()> {
        let publication = self.publication();
        let uses = publication.uses();
        let returned = |read: &Val| {
            let user = self.analysis.summaries.consumer(self.store.func, *read);
            user.is_some_and(|user| matches!(self.analysis.body(self.store.func).op(user), Op::Return(_)))
        };
        if publication.is_seen_by_others() {
            return None;
        }
        if uses.iter().all(returned) {
            return Some(());
        }
        let line = publication.in_local(wrap, &uses)?;
        publication.at_end(wrap, line)
    }

    /// Made and made ready outside of the lock, then published under it, unless somebody was faster.
    fn first_wins(&self, guard: &Guard) -> Option<Fix> {
        let sheet = self.sheet;
        let publication = self.publication();
        let mut wrap = self.wrap(guard);
        wrap.heads.clear();
        wrap.depth = 0;
        wrap.whole = false;
        if sheet.outline.statements[self.region.last].kind == Kind::Leave || publication.is_seen_by_others() {
            return None;
        }
        let line = publication.in_local(&mut wrap, &publication.uses())?;
        wrap.tails.push((0, format!("with {}:", guard.text)));
        wrap.tails.extend(self.lines(self.tests_of_place()?.iter()));
        wrap.tails.push((1 + usize::from(self.opens), line));
        wrap.tails.extend(self.read_again.iter().map(|read| (1, read.clone())));
        let mut edits = vec![sheet.wrap(&wrap)?];
        edits.extend(guard.edits.iter().cloned());
        let title = format!("make it first, then assign it under `{}` unless another was faster", guard.text);
        Some(Fix { safety: Safety::Unsafe, title, edits })
    }
}

fn title(guard: &Guard) -> String {
    let new = if guard.edits.is_empty() { "" } else { "a new " };
    format!("test again under {new}`{}`", guard.text)
}
