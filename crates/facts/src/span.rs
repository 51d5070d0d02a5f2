//! Texts and byte ranges in them. Line and column are derived when a person or a tool asks for them.

use std::sync::OnceLock;

/// Names one text in a [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A byte range, `start..end`, in one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text that the range lies in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A range of `file`.
    #[must_use]
    pub fn new(file: FileId, start: u32, end: u32) -> Self {
        Self { file, start, end }
    }

    /// Does `self` hold all of `other`?
    #[must_use]
    pub fn contains(self, other: Span) -> bool {
        self.file == other.file && self.start <= other.start && other.end <= self.end
    }
}

/// A line and a column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

/// One text with the path it is shown under.
#[derive(Debug)]
pub struct SourceFile {
    /// As shown to people and tools, with `/` between its parts.
    pub path: String,
    /// The whole text.
    pub text: String,
    line_starts: OnceLock<Vec<u32>>,
}

/// All texts of one run. A [`FileId`] is an index into it.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<SourceFile>,
}

impl Files {
    /// Adds a text and gives its name back.
    ///
    /// # Panics
    /// If there are more than four billion texts.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).expect("fewer than 2^32 files"));
        self.files.push(SourceFile { path: path.into(), text: text.into(), line_starts: OnceLock::new() });
        id
    }

    /// The text named `id`.
    #[must_use]
    pub fn get(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// The texts with their names, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files
            .iter()
            .enumerate()
            .map(|(idx, file)| (FileId(u32::try_from(idx).expect("fewer than 2^32 files")), file))
    }

    /// How many texts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Is there no text at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The text of a span; empty if the span does not fit the text.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file).text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Where a span begins.
    #[must_use]
    pub fn start(&self, span: Span) -> Position {
        self.get(span.file).position(span.start)
    }

    /// Where a span ends: the position of its last character, so that `end_line` is the last line it touches.
    #[must_use]
    pub fn end(&self, span: Span) -> Position {
        self.get(span.file).position(span.end.saturating_sub(1).max(span.start))
    }
}

impl SourceFile {
    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let breaks = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(breaks.map(|(idx, _)| u32::try_from(idx + 1).unwrap_or(u32::MAX))).collect()
        })
    }

    /// Line and column of a byte offset; an offset past the end is the end.
    #[must_use]
    pub fn position(&self, offset: u32) -> Position {
        let starts = self.line_starts();
        let line = starts.partition_point(|start| *start <= offset).max(1);
        let begin = starts[line - 1] as usize;
        let upto = (offset as usize).min(self.text.len()).max(begin);
        let column = self.text.as_bytes()[begin..upto].iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        }
    }

    /// The byte offset at which a line (counted from 1) begins; the end of the text for lines past it.
    #[must_use]
    pub fn line_start(&self, line: u32) -> u32 {
        self.line_starts()
            .get(line.saturating_sub(1) as usize)
            .copied()
            .unwrap_or_else(|| u32::try_from(self.text.len()).unwrap_or(u32::MAX))
    }

    /// The text of a line (counted from 1), without its line break.
    #[must_use]
    pub fn line(&self, line: u32) -> &str {
        let begin = self.line_start(line) as usize;
        let rest = &self.text[begin..];
        rest.split('\n').next().unwrap_or("").trim_end_matches('\r')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_lines_from_one() {
        let mut files = Files::default();
        let id = files.add("a.py", "é = 1\nx = 2\n");
        let x = Span::new(id, 7, 8);
        assert_eq!(files.text(x), "x");
        assert_eq!(files.start(x), Position { line: 2, column: 1 });
        let equals = Span::new(id, 3, 4);
        assert_eq!(files.start(equals), Position { line: 1, column: 3 });
        assert_eq!(files.get(id).line(2), "x = 2");
        assert_eq!(files.get(id).line(9), "");
    }
}
