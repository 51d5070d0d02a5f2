//! The lines of source around a finding, with what to point at in them.
//!
//! Spans that do not fit their text are cut to fit: a report is shown even for a finding that is wrong.

use std::collections::BTreeSet;
use std::ops::Range;

use facts::{FileId, Files, Finding, SourceFile, Span};

/// A mark that covers more lines than this is shown with its middle left out.
const N_LINES_WHOLE: u32 = 8;

/// Something to point at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark<'a> {
    pub span: Span,
    /// What is said about it; empty for the finding itself, whose message stands above.
    pub label: &'a str,
    /// Is it the finding itself, and not a related span?
    pub primary: bool,
}

/// All marks of a finding in one file.
#[derive(Debug)]
pub(crate) struct Excerpt<'a> {
    pub source: &'a SourceFile,
    pub marks: Vec<Mark<'a>>,
}

/// A part of a line that is marked in one way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub text: &'a str,
    pub marked: Marked,
}

/// How a part of a line is marked; if in several ways, the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Marked {
    No,
    Related,
    Primary,
}

/// A line with its marks.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub number: u32,
    /// Are lines left out before this one?
    pub after_gap: bool,
    /// The strongest mark that touches the line, be it empty there.
    pub marked: Marked,
    pub pieces: Vec<Piece<'a>>,
    /// What is said about the marks that begin here.
    pub labels: Vec<&'a str>,
}

impl Line<'_> {
    /// Is there nothing to see and nothing to say?
    fn is_blank(&self) -> bool {
        self.marked == Marked::No && self.pieces.iter().all(|piece| piece.text.trim().is_empty())
    }
}

/// A run of whole lines of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Window<'a> {
    /// The number of its first line.
    pub line: u32,
    /// Where it begins in the text.
    pub start: usize,
    pub text: &'a str,
}

/// The excerpts of a finding: its own file first, then those of the related spans as they are named.
pub(crate) fn of<'a>(files: &'a Files, finding: &'a Finding) -> Vec<Excerpt<'a>> {
    let primary = Mark { span: finding.span, label: "", primary: true };
    let related =
        finding.related.iter().map(|related| Mark { span: related.span, label: &related.message, primary: false });
    let mut excerpts: Vec<(FileId, Excerpt<'a>)> = Vec::new();
    for mark in std::iter::once(primary).chain(related) {
        let file = mark.span.file;
        match excerpts.iter_mut().find(|(id, _)| *id == file) {
            Some((_, excerpt)) => excerpt.marks.push(mark),
            None => {
                let source = files.get(file);
                excerpts.push((file, Excerpt { source, marks: vec![mark] }));
            }
        }
    }
    excerpts.into_iter().map(|(_, excerpt)| excerpt).collect()
}

/// The byte range of a span, cut so that it lies in the text and between characters.
pub(crate) fn range(source: &SourceFile, span: Span) -> Range<usize> {
    let start = source.text.floor_char_boundary(span.start as usize);
    let end = source.text.floor_char_boundary(span.end as usize).max(start);
    start..end
}

/// The lines that some ranges touch, and `context` lines on both sides.
pub(crate) fn window<'a>(
    source: &'a SourceFile,
    ranges: impl Iterator<Item = Range<usize>>,
    context: u32,
) -> Window<'a> {
    let touched = ranges.map(|range| lines_of(source, &range));
    let (first, last) = touched.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((1, 1));
    let line = first.saturating_sub(context).max(1);
    let start = source.line_start(line) as usize;
    let end = source.line_start(last + context + 1) as usize;
    Window { line, start, text: &source.text[start..end] }
}

/// The first and the last line that a range touches.
fn lines_of(source: &SourceFile, range: &Range<usize>) -> (u32, u32) {
    let line = |offset: usize| source.position(u32::try_from(offset).unwrap_or(u32::MAX)).line;
    (line(range.start), line(range.end.saturating_sub(1).max(range.start)))
}

impl<'a> Excerpt<'a> {
    /// The marked lines with `context` lines around them, without blank lines at the ends.
    pub(crate) fn lines(&self, context: u32) -> Vec<Line<'a>> {
        let n_lines = lines_of(self.source, &(self.source.text.len()..self.source.text.len())).0;
        let mut wanted = BTreeSet::new();
        for mark in &self.marks {
            let (first, last) = lines_of(self.source, &range(self.source, mark.span));
            let (from, to) = (first.saturating_sub(context).max(1), (last + context).min(n_lines));
            if last - first < N_LINES_WHOLE {
                wanted.extend(from..=to);
            } else {
                wanted.extend(from..=first + N_LINES_WHOLE / 2);
                wanted.extend(last - 1..=to);
            }
        }
        let mut lines: Vec<Line<'a>> = wanted.into_iter().map(|number| self.line(number)).collect();
        while lines.pop_if(|line| line.is_blank()).is_some() {}
        lines.drain(..lines.iter().take_while(|line| line.is_blank()).count());
        for idx in 1..lines.len() {
            lines[idx].after_gap = lines[idx - 1].number + 1 != lines[idx].number;
        }
        lines
    }

    fn line(&self, number: u32) -> Line<'a> {
        let text = self.source.line(number);
        let begin = self.source.line_start(number) as usize;
        let mut cuts = BTreeSet::from([0, text.len()]);
        let mut labels = Vec::new();
        let mut covers = Vec::new();
        let mut strongest = Marked::No;
        for mark in &self.marks {
            let range = range(self.source, mark.span);
            let (first, last) = lines_of(self.source, &range);
            if first == number && !mark.label.is_empty() {
                labels.push(mark.label);
            }
            let marked = if mark.primary { Marked::Primary } else { Marked::Related };
            if (first..=last).contains(&number) {
                strongest = strongest.max(marked);
            }
            let start = range.start.saturating_sub(begin).min(text.len());
            let end = range.end.saturating_sub(begin).min(text.len());
            cuts.extend([start, end]);
            covers.push((start..end, marked));
        }
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let pieces = cuts.windows(2).map(|cut| {
            let marked = covers.iter().filter(|(range, _)| range.contains(&cut[0])).map(|(_, marked)| *marked).max();
            Piece { text: &text[cut[0]..cut[1]], marked: marked.unwrap_or(Marked::No) }
        });
        Line { number, after_gap: false, marked: strongest, pieces: pieces.collect(), labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    /// Shows lines as `12|plain[related]{primary} <label`, with `...` for a gap.
    fn shown(excerpt: &Excerpt<'_>, context: u32) -> String {
        let mut out = String::new();
        for line in excerpt.lines(context) {
            if line.after_gap {
                out.push_str("...\n");
            }
            out.push_str(&format!("{}|", line.number));
            for piece in &line.pieces {
                match piece.marked {
                    Marked::No => out.push_str(piece.text),
                    Marked::Related => out.push_str(&format!("[{}]", piece.text)),
                    Marked::Primary => out.push_str(&format!("{{{}}}", piece.text)),
                }
            }
            for label in &line.labels {
                out.push_str(&format!(" <{label}"));
            }
            out.push('\n');
        }
        out
    }

    fn excerpt_of(text: &str, spans: &[(u32, u32, &'static str)], context: u32) -> String {
        let mut files = Files::default();
        let file = files.add("a.py", text);
        let marks = spans.iter().map(|(start, end, label)| Mark {
            span: Span::new(file, *start, *end),
            label,
            primary: label.is_empty(),
        });
        shown(&Excerpt { source: files.get(file), marks: marks.collect() }, context)
    }

    #[test]
    fn marks_overlap_and_gaps_show() {
        let text = "a = 1\nb = a + a\nc\nd\ne\nf\n";
        let spans = [(6, 15, ""), (10, 11, "read"), (20, 21, "too")];
        assert_eq!(excerpt_of(text, &spans, 0), "2|{b = }{a}{ + a} <read\n...\n5|[e] <too\n");
    }

    #[test]
    fn context_stops_at_the_ends_of_the_text() {
        assert_eq!(excerpt_of("é = 1\nx", &[(0, 2, "")], 5), "1|{é} = 1\n2|x\n");
    }

    #[test]
    fn blank_lines_at_the_ends_are_left_out_unless_marked() {
        assert_eq!(excerpt_of("\n\nx\n\ny\n\n", &[(2, 3, ""), (5, 6, "y")], 3), "3|{x}\n4|\n5|[y] <y\n");
        assert_eq!(excerpt_of("\nx\n\n", &[(3, 3, "")], 0), "3|\n");
    }

    #[test]
    fn a_long_mark_loses_its_middle() {
        let text = "x\n".repeat(30);
        let shown = excerpt_of(&text, &[(0, 60, "")], 0);
        assert_eq!(shown.lines().count(), 8);
        assert!(shown.contains("5|{x}\n...\n29|{x}\n30|{x}\n"), "{shown}");
    }

    #[test]
    fn spans_are_cut_between_characters() {
        assert_eq!(excerpt_of("日本\n", &[(1, 999, "")], 0), "1|{日本}\n");
        assert_eq!(excerpt_of("", &[(7, 9, "")], 2), "1|\n");
    }

    #[test]
    fn files_come_in_the_order_in_which_they_are_named() {
        let sample = Sample::new();
        let paths: Vec<_> =
            of(&sample.files, &sample.findings[0]).iter().map(|excerpt| excerpt.source.path.as_str()).collect();
        assert_eq!(paths, ["app/cache.py", "app/worker.py"]);
    }

    #[test]
    fn a_window_holds_whole_lines() {
        let mut files = Files::default();
        let file = files.add("a.py", "1\n2\n3\n4\n5");
        let source = files.get(file);
        let got = window(source, [4..5, 6..7].into_iter(), 1);
        assert_eq!(got, Window { line: 2, start: 2, text: "2\n3\n4\n5" });
    }
}
