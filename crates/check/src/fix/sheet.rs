//! One text under repair: lines, indentation, and statements moved into a block.
//!
//! Comments and formatting stay as they are. Lines that begin inside a string keep their indentation, so the string
//! keeps its value. New lines end as the text's own lines do.

use facts::{Edit, FileId, Span};

use crate::analysis::Analysis;
use crate::source::outline::{Outline, Role};

/// A text with its statements.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'a> {
    pub(super) file: FileId,
    pub(super) text: &'a str,
    pub(super) outline: &'a Outline,
}

/// A new line and how much deeper it is than the statements that it replaces.
pub(super) type Line = (usize, String);

/// Statements that get new lines around them.
#[derive(Clone, Debug)]
pub(super) struct Wrap {
    /// The first statement.
    pub(super) first: usize,
    /// The last, of the same suite.
    pub(super) last: usize,
    /// Lines before.
    pub(super) heads: Vec<Line>,
    /// How much deeper the statements get.
    pub(super) depth: usize,
    /// Replaced inside, in order, none over a line break.
    pub(super) inner: Vec<(u32, u32, String)>,
    /// Statements among them that are dropped.
    pub(super) dropped: Vec<usize>,
    /// Lines after.
    pub(super) tails: Vec<Line>,
    /// Take the comments that open the suite along.
    pub(super) whole: bool,
    /// Lines that are dropped, from the first byte of one to the last of another.
    pub(super) cut: Vec<(u32, u32)>,
    /// Bytes whose lines stay as deep as they are.
    pub(super) level: Vec<(u32, u32)>,
}

impl Wrap {
    /// The statements go into a block under `head`.
    pub(super) fn under(first: usize, last: usize, head: String) -> Self {
        Self {
            first,
            last,
            heads: vec![(0, head)],
            depth: 1,
            inner: Vec::new(),
            dropped: Vec::new(),
            tails: Vec::new(),
            whole: false,
            cut: Vec::new(),
            level: Vec::new(),
        }
    }
}

impl<'a> Sheet<'a> {
    pub(super) fn of(analysis: &Analysis<'a>, file: FileId) -> Option<Self> {
        let outline = analysis.outlines.get(analysis.files, file);
        (!outline.suites.is_empty()).then(|| Self { file, text: &analysis.files.get(file).text, outline })
    }

    pub(super) fn slice(&self, start: u32, end: u32) -> &'a str {
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    pub(super) fn edit(&self, start: u32, end: u32, text: impl Into<String>) -> Edit {
        Edit { span: Span::new(self.file, start, end), text: text.into() }
    }

    pub(super) fn start(&self, statement: usize) -> u32 {
        self.outline.statements[statement].start
    }

    pub(super) fn end(&self, statement: usize) -> u32 {
        self.outline.statements[statement].end
    }

    /// The text of a statement.
    pub(super) fn statement(&self, statement: usize) -> &'a str {
        self.slice(self.start(statement), self.end(statement))
    }

    pub(super) fn line_start(&self, at: u32) -> u32 {
        self.text[..at as usize].rfind('\n').map_or(0, |idx| as_u32(idx + 1))
    }

    /// Where the line break after `at` stands, or the end of the text.
    pub(super) fn line_end(&self, at: u32) -> u32 {
        let rest = &self.text[at as usize..];
        let end = rest.find('\n').unwrap_or(rest.len());
        at + as_u32(rest[..end].trim_end_matches('\r').len())
    }

    pub(super) fn eol(&self) -> &'static str {
        let first = self.text.split_once('\n').map_or("", |(line, _)| line);
        if first.ends_with('\r') { "\r\n" } else { "\n" }
    }

    /// The space before the first word of a line.
    pub(super) fn indent(&self, at: u32) -> &'a str {
        let line = &self.text[self.line_start(at) as usize..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    /// Does nothing but space stand before `at` on its line?
    pub(super) fn starts_line(&self, at: u32) -> bool {
        self.slice(self.line_start(at), at).trim().is_empty()
    }

    /// Does nothing but a comment stand after `at` on its line?
    fn ends_line(&self, at: u32) -> bool {
        let rest = self.slice(at, self.line_end(at)).trim_start();
        rest.is_empty() || rest.starts_with('#')
    }

    /// One level of indentation, as the text around a statement has it.
    pub(super) fn unit(&self, near: usize) -> String {
        let around = self.outline.around(near).map(|idx| self.outline.statements[idx].suite);
        let all = around.chain(0..self.outline.suites.len());
        all.filter_map(|suite| self.unit_of(suite)).next().unwrap_or_else(|| "    ".to_owned())
    }

    fn unit_of(&self, suite: usize) -> Option<String> {
        let suite = &self.outline.suites[suite];
        let owner = self.start(suite.owner?);
        let first = self.start(*suite.statements.first()?);
        if !self.starts_line(first) || !self.starts_line(owner) {
            return None;
        }
        let unit = self.indent(first).strip_prefix(self.indent(owner))?;
        (!unit.is_empty()).then(|| unit.to_owned())
    }

    /// May lines be put before and after these statements?
    pub(super) fn stands_alone(&self, first: usize, last: usize) -> bool {
        let statement = &self.outline.statements[first];
        let suite = &self.outline.suites[statement.suite];
        let one_line = suite.role != Role::Module
            && statement.at == 0
            && self.line_start(suite.head_end) == self.line_start(statement.start);
        (self.starts_line(statement.start) || one_line) && self.ends_line(self.end(last))
    }

    /// The edit that a wrap is; `None` where the statements share their lines with others.
    pub(super) fn wrap(&self, wrap: &Wrap) -> Option<Edit> {
        if !self.stands_alone(wrap.first, wrap.last) {
            return None;
        }
        let (mut start, mut end) = (self.start(wrap.first), self.end(wrap.last));
        if wrap.whole {
            start = self.opening(wrap.first);
        }
        if !wrap.tails.is_empty() {
            end = self.line_end(end);
        }
        let unit = self.unit(wrap.first);
        let suite = &self.outline.suites[self.outline.statements[wrap.first].suite];
        let in_line = !self.starts_line(start);
        // `if x: y` becomes two lines.
        let base =
            if in_line { format!("{}{unit}", self.indent(suite.head_start)) } else { self.indent(start).to_owned() };
        let mut lines: Vec<String> = Vec::new();
        let new = |(depth, text): &Line| format!("{base}{}{text}", unit.repeat(*depth));
        lines.extend(wrap.heads.iter().map(new));
        self.body(wrap, start, end, &base, &unit, &mut lines)?;
        lines.extend(wrap.tails.iter().map(new));
        let eol = self.eol();
        let text = lines.join(eol);
        Some(if in_line {
            self.edit(suite.head_end, end, format!("{eol}{text}"))
        } else {
            self.edit(start, end, text.strip_prefix(&*base).unwrap_or(&text))
        })
    }

    /// Where the comments begin that stand between the head of a suite and its first statement.
    fn opening(&self, first: usize) -> u32 {
        let statement = &self.outline.statements[first];
        let suite = &self.outline.suites[statement.suite];
        let from = self.line_end(suite.head_end);
        if statement.at > 0 || suite.role == Role::Module || from >= statement.start {
            return statement.start;
        }
        let comment = self.slice(from, statement.start).find('#').map(|at| from + as_u32(at));
        let same = |at: u32| self.indent(at) == self.indent(statement.start) && self.starts_line(at);
        comment.filter(|at| same(*at)).unwrap_or(statement.start)
    }

    fn body(&self, wrap: &Wrap, start: u32, end: u32, base: &str, unit: &str, lines: &mut Vec<String>) -> Option<()> {
        let mut dropped = wrap.cut.clone();
        for statement in &wrap.dropped {
            if !self.stands_alone(*statement, *statement) || !self.starts_line(self.start(*statement)) {
                return None;
            }
            dropped.push((self.line_start(self.start(*statement)), self.line_end(self.end(*statement))));
        }
        let prefix = unit.repeat(wrap.depth);
        let level = |at: u32| wrap.level.iter().any(|(from, to)| *from < at && at <= *to);
        let mut inner = wrap.inner.iter().peekable();
        let mut at = start;
        while at <= end {
            let stop = self.line_end(at).min(end);
            let mut line = String::new();
            let mut from = at;
            while let Some((first, past, text)) = inner.next_if(|(first, ..)| *first < stop || *first == from) {
                if *first < from || *past > stop {
                    return None;
                }
                line.push_str(self.slice(from, *first));
                line.push_str(text);
                from = *past;
            }
            line.push_str(self.slice(from, stop));
            if !dropped.iter().any(|(from, to)| *from <= self.line_start(at) && at <= *to) {
                lines.push(if at == start {
                    format!("{base}{prefix}{line}")
                } else if line.trim().is_empty() || self.outline.in_string(at) || level(at) {
                    line
                } else {
                    format!("{prefix}{line}")
                });
            }
            let next = self.text[stop as usize..].find('\n').map_or(end, |idx| stop + as_u32(idx));
            at = next + 1;
        }
        inner.next().is_none().then_some(())
    }

    /// A line of its own after a statement, as deep as it.
    pub(super) fn line_after(&self, statement: usize, text: &str) -> Option<Edit> {
        if !self.starts_line(self.start(statement)) || !self.ends_line(self.end(statement)) {
            return None;
        }
        let at = self.line_end(self.end(statement));
        let indent = self.indent(self.start(statement));
        Some(self.edit(at, at, format!("{}{indent}{text}", self.eol())))
    }

    /// A line of its own before a statement, as deep as it.
    pub(super) fn line_before(&self, statement: usize, text: &str) -> Option<Edit> {
        let start = self.start(statement);
        let at = self.line_start(start);
        self.starts_line(start).then(|| self.edit(at, at, format!("{}{text}{}", self.indent(start), self.eol())))
    }

    /// A line of its own before a statement and the comments that stand directly above it.
    pub(super) fn line_above(&self, statement: usize, text: &str) -> Option<Edit> {
        let start = self.start(statement);
        if !self.starts_line(start) {
            return None;
        }
        let mut at = self.line_start(start);
        while let Some(before) = at.checked_sub(1).map(|end| self.line_start(end)) {
            if !self.slice(before, at).trim_start().starts_with('#') || self.outline.in_string(before) {
                break;
            }
            at = before;
        }
        Some(self.edit(at, at, format!("{}{text}{}", self.indent(start), self.eol())))
    }

    /// A line of its own at module level, with as many blank lines after it as stand before the statement.
    pub(super) fn definition_above(&self, statement: usize, text: &str) -> Option<Edit> {
        let edit = self.line_above(statement, text)?;
        let before = self.slice(0, edit.span.start);
        let n_breaks = before.len() - before.trim_end_matches(['\n', '\r']).len();
        let n_blank = (n_breaks / self.eol().len()).saturating_sub(1).clamp(1, 2);
        Some(self.edit(edit.span.start, edit.span.end, format!("{}{}", edit.text, self.eol().repeat(n_blank))))
    }

    /// The text without a statement and its line; `None` where it shares the line, or is all that its suite holds.
    pub(super) fn without(&self, statement: usize) -> Option<Edit> {
        let suite = &self.outline.suites[self.outline.statements[statement].suite];
        let alone = self.starts_line(self.start(statement)) && self.stands_alone(statement, statement);
        if suite.statements.len() < 2 || !alone {
            return None;
        }
        let from = self.line_start(self.start(statement));
        let end = self.line_end(self.end(statement));
        let next = self.text[end as usize..].find('\n').map_or(end, |idx| end + as_u32(idx) + 1);
        Some(self.edit(from, next, ""))
    }

    /// The same for a function, which takes the blank lines before it along.
    pub(super) fn without_block(&self, statement: usize) -> Option<Edit> {
        let edit = self.without(statement)?;
        let before = self.slice(0, edit.span.start);
        let kept = as_u32(before.trim_end_matches(['\n', '\r']).len() + self.eol().len());
        let first = self.outline.statements[statement].at == 0;
        Some(self.edit(if first { edit.span.start } else { kept.min(edit.span.start) }, edit.span.end, ""))
    }

    /// The test of an `if`, `elif` or `while`, as it is written; without line breaks.
    pub(super) fn test(&self, suite: usize) -> Option<String> {
        let suite = &self.outline.suites[suite];
        let head = self.slice(suite.head_start, suite.head_end.checked_sub(1)?);
        let test = ["if", "elif", "while"].iter().find_map(|word| head.strip_prefix(word))?.trim();
        (!test.contains(['\n', '#'])).then(|| test.to_owned())
    }
}

pub(super) fn as_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
