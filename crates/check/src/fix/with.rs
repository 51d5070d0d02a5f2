//! `with lock:` for `acquire()` and `release()`, and `while` for the `if` around a wait.

use facts::{Edit, Fix, Safety};

use super::local;
use super::sheet::{Sheet, Wrap};
use crate::analysis::Analysis;
use crate::body::{Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::source::outline::{Kind, Role};
use crate::types::{Std, Type};

/// Puts what stands between an `acquire()` and its `release()` into a `with` block.
#[must_use]
pub fn with_for_acquire(analysis: &Analysis<'_>, func: FuncId, acquire: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let (base, _) = analysis.method_call(func, acquire)?;
    let lock = analysis.files.text(analysis.span(func, base));
    let node = analysis.body(func).node(acquire);
    let first = sheet.outline.at(node.start)?;
    let bare = sheet.statement(first) == format!("{lock}.acquire()");
    if !bare || !local::is_plain(lock) || !enters(analysis, func, base) || !alone(sheet, first) {
        return None;
    }
    let span = Span { sheet, lock, first };
    let edits = span.tried().or_else(|| span.plain())?;
    Some(Fix { safety: Safety::Safe, title: format!("hold `{lock}` in a `with` block"), edits })
}

/// Can the object be entered?
fn enters(analysis: &Analysis<'_>, func: FuncId, base: Val) -> bool {
    let is_std = matches!(
        analysis.types.std(analysis.project, func, base),
        Some(Std::Lock | Std::RLock | Std::Condition | Std::Semaphore)
    );
    let has_enter = |of: &Type| match of {
        Type::Instance(class) => analysis.project.method(*class, Name::new("__enter__")).is_some(),
        _ => false,
    };
    is_std || analysis.types.of(func, base).iter().any(has_enter)
}

fn alone(sheet: Sheet<'_>, statement: usize) -> bool {
    sheet.starts_line(sheet.start(statement)) && sheet.stands_alone(statement, statement)
}

struct Span<'a> {
    sheet: Sheet<'a>,
    lock: &'a str,
    /// The statement that acquires.
    first: usize,
}

impl Span<'_> {
    fn following(&self) -> &[usize] {
        let statement = &self.sheet.outline.statements[self.first];
        &self.sheet.outline.suites[statement.suite].statements[statement.at + 1..]
    }

    fn releases(&self, statement: usize) -> bool {
        self.sheet.statement(statement) == format!("{}.release()", self.lock)
    }

    /// `acquire()`, statements, `try: ... finally: release()`
    fn tried(&self) -> Option<Vec<Edit>> {
        let (sheet, outline) = (self.sheet, self.sheet.outline);
        let following = self.following();
        let at = following.iter().position(|idx| outline.statements[*idx].kind == Kind::Try)?;
        let tried = following[at];
        let [body, last] = outline.parts[tried][..] else { return None };
        let [release] = outline.suites[last].statements[..] else { return None };
        if outline.suites[last].role != Role::Finally || !self.releases(release) || !alone(sheet, release) {
            return None;
        }
        let body = &outline.suites[body];
        let inside = *body.statements.last()?;
        let head = format!("with {}:", self.lock);
        let from = sheet.start(self.first);
        let cut = sheet.edit(sheet.line_end(sheet.end(inside)), sheet.end(tried), "");
        if at == 0 {
            let between = sheet.slice(sheet.end(self.first), sheet.start(tried));
            let edit = sheet.edit(from, body.head_end, head);
            return between.trim().is_empty().then(|| vec![edit, cut]);
        }
        // The statements before the `try` go into the block as well.
        let (one, two) = (following[0], following[at - 1]);
        let wrap = sheet.wrap(&Wrap::under(one, two, head))?;
        let next_line = sheet.line_end(body.head_end) + u32::try_from(sheet.eol().len()).ok()?;
        let bare = sheet.slice(body.head_end, sheet.line_end(body.head_end)).trim().is_empty();
        let gap = sheet.slice(sheet.end(self.first), sheet.start(one)).trim().is_empty();
        let edits = vec![
            sheet.edit(from, sheet.start(one), ""),
            wrap,
            sheet.edit(sheet.line_start(sheet.start(tried)), next_line, ""),
            cut,
        ];
        (bare && gap).then_some(edits)
    }

    /// `acquire()`, statements, `release()`
    fn plain(&self) -> Option<Vec<Edit>> {
        let sheet = self.sheet;
        let following = self.following();
        let at = following.iter().position(|idx| self.releases(*idx))?;
        let (one, two, release) = (*following.first()?, *following.get(at.checked_sub(1)?)?, following[at]);
        let gap = sheet.slice(sheet.end(self.first), sheet.start(one)).trim().is_empty();
        if !gap || !alone(sheet, release) {
            return None;
        }
        let mut wrap = Wrap::under(one, two, format!("with {}:", self.lock));
        wrap.dropped = self.early_releases(sheet.start(one)..sheet.end(two))?;
        Some(vec![
            sheet.edit(sheet.start(self.first), sheet.start(one), ""),
            sheet.wrap(&wrap)?,
            sheet.edit(sheet.line_end(sheet.end(two)), sheet.end(release), ""),
        ])
    }

    /// Releases on the way, each before it leaves: the block does that.
    fn early_releases(&self, bytes: std::ops::Range<u32>) -> Option<Vec<usize>> {
        let outline = self.sheet.outline;
        let mut found = Vec::new();
        for (idx, statement) in outline.statements.iter().enumerate().filter(|(_, it)| bytes.contains(&it.start)) {
            let text = self.sheet.statement(idx);
            if text.contains(&format!("{}.acquire(", self.lock)) && outline.parts[idx].is_empty() {
                return None;
            }
            if !self.releases(idx) {
                continue;
            }
            let next = outline.suites[statement.suite].statements.get(statement.at + 1)?;
            if outline.statements[*next].kind != Kind::Leave {
                return None;
            }
            found.push(idx);
        }
        Some(found)
    }
}

/// Tests again after a wait: `while` for `if`.
#[must_use]
pub fn loop_for_wait(analysis: &Analysis<'_>, func: FuncId, wait: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let (outline, body) = (sheet.outline, analysis.body(func));
    let (Op::Call { args, .. }, Some((_, "wait"))) = (body.op(wait), analysis.method_call(func, wait)) else {
        return None;
    };
    let statement = outline.at(body.node(wait).start)?;
    let suite = &outline.suites[outline.statements[statement].suite];
    let tested = suite.owner?;
    let last = suite.statements.last() == Some(&statement);
    let is_if = outline.statements[tested].kind == Kind::If && outline.parts[tested].len() == 1;
    if !is_if || !last || args.len > 0 {
        return None;
    }
    let start = sheet.start(tested);
    let edit = sheet.edit(start, start + 2, "while");
    Some(Fix {
        safety: Safety::Safe,
        title: "test again after the wait: `while` for `if`".to_owned(),
        edits: vec![edit],
    })
}
