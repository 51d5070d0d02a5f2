//! What a fix changes, as lines of a unified diff.
//!
//! Only the lines near the edits are compared. Edits that do not fit their text, or that overlap, give no diff: what
//! cannot be applied is not shown.

use std::ops::Range;

use facts::{Edit, Files, Fix, SourceFile};
use similar::{ChangeTag, DiffOp, TextDiff};

use crate::excerpt;

/// Lines shown around a change.
const N_CONTEXT: u32 = 2;

/// Edits shown of one fix: one that holds a lock at hundreds of places is not read here, and each of those places may
/// have a finding of its own with the same fix.
const N_EDITS_MAX: usize = 40;

/// What a line of a diff says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Where the lines below stand, or how many edits are not shown.
    Hunk,
    Same,
    Removed,
    Added,
}

/// A line of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiffLine {
    pub kind: Kind,
    /// The line without its sign and its line break.
    pub text: String,
}

impl DiffLine {
    /// What stands before the text.
    pub(crate) fn sign(&self) -> &'static str {
        match self.kind {
            Kind::Hunk => "",
            Kind::Same => " ",
            Kind::Removed => "-",
            Kind::Added => "+",
        }
    }
}

/// What a fix changes in its file.
#[derive(Debug)]
pub(crate) struct Diff<'a> {
    pub path: &'a str,
    pub lines: Vec<DiffLine>,
}

/// The diff of a fix; `None` if it changes nothing or cannot be applied.
pub(crate) fn of<'a>(files: &'a Files, fix: &Fix) -> Option<Diff<'a>> {
    let source = files.get(fix.edits.first()?.span.file);
    let mut edits: Vec<&Edit> = fix.edits.iter().collect();
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    if edits.iter().any(|edit| source.text.get(bytes(edit)).is_none()) {
        return None;
    }
    let n_more = edits.len().saturating_sub(N_EDITS_MAX);
    edits.truncate(N_EDITS_MAX);
    let mut lines = Vec::new();
    let mut shift = 0;
    for near in edits.chunk_by(|one, two| are_near(source, one, two)) {
        let window = excerpt::window(source, near.iter().map(|edit| bytes(edit)), N_CONTEXT);
        let edited = apply(&window, near)?;
        compare(window.text, &edited, window.line as usize, shift, &mut lines);
        shift += edited.lines().count().cast_signed() - window.text.lines().count().cast_signed();
    }
    if n_more > 0 {
        let text = format!("... {n_more} more, which `raceproof fix --diff` shows");
        lines.push(DiffLine { kind: Kind::Hunk, text });
    }
    (!lines.is_empty()).then_some(Diff { path: &source.path, lines })
}

fn bytes(edit: &Edit) -> Range<usize> {
    edit.span.start as usize..edit.span.end as usize
}

/// Do the lines shown around two edits meet? The whole text is never compared: a fix may touch both of its ends.
fn are_near(source: &SourceFile, one: &Edit, two: &Edit) -> bool {
    source.position(two.span.start).line <= source.position(one.span.end).line + 2 * N_CONTEXT + 1
}

/// The text of a window with edits in it; `None` if they overlap.
fn apply(window: &excerpt::Window<'_>, edits: &[&Edit]) -> Option<String> {
    let mut edited = String::with_capacity(window.text.len() + 64);
    let mut done = 0;
    for edit in edits {
        let range = bytes(edit);
        edited.push_str(window.text.get(done..range.start - window.start)?);
        edited.push_str(&edit.text);
        done = range.end - window.start;
    }
    edited.push_str(window.text.get(done..)?);
    Some(edited)
}

/// Appends the hunks of a window. `shift` is by how many lines the edits before it have moved the new text.
fn compare(old: &str, new: &str, first_line: usize, shift: isize, lines: &mut Vec<DiffLine>) {
    let diff = TextDiff::from_lines(old, new);
    for ops in diff.grouped_ops(N_CONTEXT as usize) {
        lines.push(DiffLine { kind: Kind::Hunk, text: hunk(&ops, first_line, shift) });
        for change in ops.iter().flat_map(|op| diff.iter_changes(op)) {
            let kind = match change.tag() {
                ChangeTag::Equal => Kind::Same,
                ChangeTag::Delete => Kind::Removed,
                ChangeTag::Insert => Kind::Added,
            };
            let text = change.value().trim_end_matches(['\r', '\n']).to_owned();
            lines.push(DiffLine { kind, text });
        }
    }
}

/// The head of a hunk, such as `@@ -13,3 +13,4 @@`.
fn hunk(ops: &[DiffOp], first_line: usize, shift: isize) -> String {
    let mut parts = Vec::new();
    for (sign, shift, side) in [('-', 0, DiffOp::old_range as fn(&DiffOp) -> _), ('+', shift, DiffOp::new_range)] {
        let start = ops.first().map_or(0, |op| side(op).start);
        let n: usize = ops.iter().map(|op| side(op).len()).sum();
        // By convention an empty side names the line before it.
        let line = (start + first_line).saturating_add_signed(shift).saturating_sub(usize::from(n == 0));
        parts.push(format!("{sign}{line},{n}"));
    }
    format!("@@ {} @@", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use facts::{Safety, Span};

    use super::*;

    fn diff_of(text: &str, edits: &[(u32, u32, &str)]) -> Option<String> {
        let mut files = Files::default();
        let file = files.add("a.py", text);
        let edits = edits
            .iter()
            .map(|(start, end, text)| Edit { span: Span::new(file, *start, *end), text: (*text).to_owned() });
        let fix = Fix { safety: Safety::Safe, title: String::new(), edits: edits.collect() };
        let diff = of(&files, &fix)?;
        assert_eq!(diff.path, "a.py");
        Some(diff.lines.iter().map(|line| format!("{}{}\n", line.sign(), line.text)).collect())
    }

    #[test]
    fn lines_are_numbered_as_in_the_whole_text() {
        let shown = diff_of("1\n2\n3\n4\n5\n6\n7\n8\n", &[(8, 9, "five\nmore")]).unwrap();
        assert_eq!(shown, "@@ -3,5 +3,6 @@\n 3\n 4\n-5\n+five\n+more\n 6\n 7\n");
    }

    #[test]
    fn edits_far_apart_give_two_hunks() {
        let text: String = (1..=12).map(|n| format!("{n}\n")).collect();
        let shown = diff_of(&text, &[(21, 23, "z"), (0, 0, "y\n")]).unwrap();
        assert_eq!(shown, "@@ -1,2 +1,3 @@\n+y\n 1\n 2\n@@ -9,4 +10,4 @@\n 9\n 10\n-11\n+z\n 12\n");
    }

    #[test]
    fn of_very_many_edits_the_first_are_shown() {
        let text = "x\n".repeat(50);
        let edits: Vec<_> = (0..50).map(|n| (2 * n, 2 * n + 1, "y")).collect();
        let shown = diff_of(&text, &edits).unwrap();
        assert_eq!(shown.matches("+y").count(), 40);
        assert!(shown.ends_with("... 10 more, which `raceproof fix --diff` shows\n"));
    }

    #[test]
    fn an_empty_text_can_be_filled() {
        assert_eq!(diff_of("", &[(0, 0, "x = 1\n")]).unwrap(), "@@ -0,0 +1,1 @@\n+x = 1\n");
    }

    #[test]
    fn what_cannot_be_applied_is_not_shown() {
        assert_eq!(diff_of("abc\n", &[(1, 99, "x")]), None);
        assert_eq!(diff_of("é\n", &[(1, 2, "x")]), None);
        assert_eq!(diff_of("abc\n", &[(0, 2, "x"), (1, 3, "y")]), None);
        assert_eq!(diff_of("abc\n", &[(0, 1, "a")]), None);
        assert_eq!(diff_of("abc\n", &[]), None);
    }
}
