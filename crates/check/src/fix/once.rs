//! Creates shared objects once: double-checked locking, and publication after the object is ready.

use std::ops::Range;

use facts::{Fix, Safety};

use super::guard::{self, Guard};
use super::hold;
use super::region::Region;
use super::sheet::{Line, Sheet, Wrap};
use crate::analysis::{Analysis, Condition, Stretch};
use crate::body::{BlockKind, Op, Val};
use crate::name::Name;
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
    /// Lines that test again: with a read into a local first, if the test is of a local.
    again: Vec<String>,
    /// Do the lines open a block?
    opens: bool,
}

/// Wraps the creation of a lazily made object in a lock, and tests again inside. Where making it awaits, it is made
/// outside of the lock, and the first one wins (unsafe: the other one was made for nothing).
#[must_use]
pub fn double_checked(
    analysis: &Analysis<'_>,
    store: &Access,
    condition: &Condition,
    stretch: Stretch,
) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(store.func))?;
    let found = creation(analysis, sheet, store, condition);
    let Some(creation) = found else {
        return hold::hold_lock(analysis, store, stretch, "test and creation");
    };
    let fits = |guard: &Guard| !creation.region.takes(analysis, sheet, guard.place);
    let guard = guard::voted(analysis, store)
        .filter(fits)
        .or_else(|| guard::seen(analysis, store).filter(fits))
        .or_else(|| guard::own(analysis, sheet, store).filter(fits))?;
    if creation.region.is_short(analysis, sheet) {
        creation.locked(&guard)
    } else {
        creation.first_wins(&guard)
    }
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
    let inside = outline.around(stored).find(|idx| outline.suites[outline.statements[*idx].suite].owner == Some(tested));
    let read_again = read_again(analysis, sheet, store.func, condition)?;
    let (region, lines, opens) = match inside {
        Some(inside) => under_test(sheet, store.func, inside)?,
        None => after_exit(sheet, store.func, tested, stored)?,
    };
    let again = read_again.into_iter().chain(lines).collect();
    Some(Creation { analysis, sheet, store, region, again, opens })
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

/// `if x is None: <suite>`
fn under_test(sheet: Sheet<'_>, func: FuncId, inside: usize) -> Option<Found> {
    let outline = sheet.outline;
    let suite = outline.statements[inside].suite;
    let line = match outline.suites[suite].role {
        Role::Body | Role::Elif => format!("if {}:", sheet.test(suite)?),
        Role::Else => {
            // Of several tests all have failed.
            let owner = outline.suites[suite].owner?;
            let [first, _] = outline.parts[owner][..] else { return None };
            negated(&sheet.test(first)?)
        }
        _ => return None,
    };
    let statements = &outline.suites[suite].statements;
    let region = Region { func, first: *statements.first()?, last: *statements.last()? };
    Some((region, vec![line], true))
}

fn negated(test: &str) -> String {
    match test.split_once(" is not ") {
        Some((left, "None")) if left.chars().all(|c| c.is_alphanumeric() || "_.".contains(c)) => {
            format!("if {left} is None:")
        }
        _ => format!("if not ({test}):"),
    }
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
    fn body(&self) -> &crate::body::Body {
        self.analysis.body(self.store.func)
    }

    /// `with lock:`, the test again, the same statements.
    fn locked(&self, guard: &Guard) -> Option<Fix> {
        let mut wrap = self.wrap(guard);
        self.publish_last(&mut wrap)?;
        let mut edits = vec![self.sheet.wrap(&wrap)?];
        edits.extend(guard.edits.iter().cloned());
        Some(Fix { safety: Safety::Safe, title: title(guard), edits })
    }

    fn wrap(&self, guard: &Guard) -> Wrap {
        let mut wrap = Wrap::under(self.region.first, self.region.last, format!("with {}:", guard.text));
        wrap.heads.extend(self.lines());
        wrap.depth += usize::from(self.opens);
        wrap
    }

    /// The lines that test again, one deeper than the lock.
    fn lines(&self) -> Vec<Line> {
        let base = self.sheet.indent(self.sheet.start(self.region.first));
        let strip = |line: &String| line.strip_prefix(base).unwrap_or(line).to_owned();
        self.again.iter().map(|line| (1, strip(line))).collect()
    }

    /// Where the object is used between its publication and the end of the statements, it is made in a local and
    /// published at the end; `None` where that cannot be done.
    fn publish_last(&self, wrap: &mut Wrap) -> Option<()> {
        let (analysis, store) = (self.analysis, self.store);
        let nodes = self.region.nodes(analysis, self.sheet);
        let uses = self.uses(store.act.0 + 1..nodes.end);
        let only_returned = uses.iter().all(|read| {
            let user = analysis.summaries.consumer(store.func, *read);
            user.is_some_and(|user| matches!(self.body().op(user), Op::Return(_)))
        });
        let rest = guard::reached(analysis, store.func, store.act.0 + 1..nodes.end);
        if analysis.accesses(store.place).any(|access| rest.contains(&access.func)) {
            return None;
        }
        if only_returned {
            return Some(());
        }
        let (local, publication) = self.in_local(wrap, &uses)?;
        let _ = local;
        let last = &self.sheet.outline.statements[self.region.last];
        if last.kind == Kind::Leave {
            let suite = &self.sheet.outline.suites[last.suite];
            let before = suite.statements.get(last.at.checked_sub(1)?)?;
            let at = self.sheet.end(*before);
            let unit = self.sheet.unit(self.region.first).repeat(wrap.depth);
            let indent = self.sheet.indent(self.sheet.start(self.region.first));
            let _ = (at, unit, indent);
            return None;
        }
        wrap.tails.push((wrap.depth, publication));
        Some(())
    }

    /// Reads of the place among some nodes.
    fn uses(&self, nodes: Range<u32>) -> Vec<Val> {
        let slot = self.analysis.summaries.slot(self.store.place);
        let body = self.body();
        let reads = nodes.map(Val).filter(|val| {
            matches!(body.op(*val), Op::Attr { .. } | Op::Global(_) | Op::Captured(..))
                && self.analysis.types.slots_of(self.analysis.project, self.store.func, *val).contains(&slot)
        });
        reads.collect()
    }

    /// Puts what is stored into a local instead, and gives its name and the line that publishes it.
    fn in_local(&self, wrap: &mut Wrap, uses: &[Val]) -> Option<(String, String)> {
        let (sheet, body, func) = (self.sheet, self.body(), self.store.func);
        let statement = sheet.outline.at(body.node(self.store.act).start)?;
        let (value, target) = match (sheet.outline.statements[statement].kind, body.op(self.store.act)) {
            (Kind::Assign(Some(value)), Op::StoreGlobal { .. } | Op::StoreAttr { .. }) => {
                let node = body.node(self.store.act);
                (value, sheet.slice(node.start, node.end).to_owned())
            }
            (Kind::Assign(Some(value)), Op::StoreItem { value: of, .. }) if matches!(body.op(of), Op::Local(_)) => {
                let node = body.node(self.store.act);
                (value, sheet.slice(node.start, node.end).to_owned())
            }
            _ => return None,
        };
        let stored = sheet.slice(value.0, value.1);
        if let Op::Local(local) = body.op(value_of(body.op(self.store.act))?) {
            // It is in a local already: the publication moves.
            if uses.is_empty() || matches!(body.op(self.store.act), Op::StoreGlobal { .. } | Op::StoreAttr { .. }) {
                wrap.dropped = Some(statement);
                replace(sheet, body, uses, stored, wrap);
                return Some((body.locals[local.0 as usize].to_string(), format!("{target} = {stored}")));
            }
            return None;
        }
        let name = self.local_name(func)?;
        wrap.inner.push((sheet.start(statement), value.0, format!("{name} = ")));
        replace(sheet, body, uses, &name, wrap);
        Some((name.clone(), format!("{target} = {name}")))
    }

    fn local_name(&self, func: FuncId) -> Option<String> {
        let slot = self.analysis.summaries.slot(self.store.place);
        let stem = guard::stem(guard::slot_name(self.analysis, slot).as_str());
        let module = self.analysis.project.module_of(func);
        let names = [stem.clone(), format!("new_{stem}"), format!("made_{stem}")];
        names.into_iter().find(|name| {
            let name = Name::new(name);
            let globals = &self.analysis.project.globals[module.0 as usize];
            !self.body().locals.contains(&name) && !globals.contains_key(&name) && !is_keyword(name.as_str())
        })
    }

    /// Made and made ready outside of the lock, then published under it, unless somebody was faster.
    fn first_wins(&self, guard: &Guard) -> Option<Fix> {
        let (analysis, sheet, body) = (self.analysis, self.sheet, self.body());
        let nodes = self.region.nodes(analysis, sheet);
        let uses = self.uses(self.store.act.0 + 1..nodes.end);
        let mut wrap = self.wrap(guard);
        wrap.heads.clear();
        wrap.depth = 0;
        let is_item = matches!(body.op(self.store.act), Op::StoreItem { .. });
        if is_item && !uses.is_empty() {
            return None;
        }
        let (_, publication) = self.in_local(&mut wrap, &uses)?;
        if sheet.outline.statements[self.region.last].kind == Kind::Leave {
            return None;
        }
        wrap.tails.push((0, format!("with {}:", guard.text)));
        wrap.tails.extend(self.lines());
        wrap.tails.push((1 + usize::from(self.opens), publication));
        let mut edits = vec![sheet.wrap(&wrap)?];
        edits.extend(guard.edits.iter().cloned());
        let title = format!("make it first, then assign it under `{}` unless another was faster", guard.text);
        Some(Fix { safety: Safety::Unsafe, title, edits })
    }
}

fn replace(sheet: Sheet<'_>, body: &crate::body::Body, uses: &[Val], name: &str, wrap: &mut Wrap) {
    let _ = sheet;
    wrap.inner.extend(uses.iter().map(|read| (body.node(*read).start, body.node(*read).end, name.to_owned())));
    wrap.inner.sort();
    wrap.inner.dedup();
}

fn value_of(op: Op) -> Option<Val> {
    match op {
        Op::StoreGlobal { value, .. } | Op::StoreAttr { value, .. } | Op::StoreItem { value, .. } => Some(value),
        _ => None,
    }
}

fn is_keyword(name: &str) -> bool {
    const WORDS: &str = " and as assert async await break class continue def del elif else except finally for from \
        global if import in is lambda nonlocal not or pass raise return try while with yield none true false ";
    WORDS.contains(&format!(" {name} "))
}

fn title(guard: &Guard) -> String {
    let new = if guard.edits.is_empty() { "" } else { "a new " };
    format!("test again under {new}`{}`", guard.text)
}
