//! Findings for people, in a terminal: what, where, both sides, why they meet, one bad order, what would repair it.
//!
//! It promises that no text of the program under check steers the terminal. It knows nothing of the terminal: width
//! and colour are not asked for here.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use facts::{Confidence, Evidence, Files, Finding, Fix, Path, Severity};

use crate::counts::Counts;
use crate::diff::{self, Kind};
use crate::words::{self, visible};
use crate::{Page, excerpt, timeline};

/// How a part of the text is coloured, if there is colour.
#[derive(Clone, Copy)]
enum Style {
    Error,
    Warning,
    Info,
    Strong,
    Added,
    Removed,
    Faint,
}

impl From<Severity> for Style {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Style::Error,
            Severity::Warning => Style::Warning,
            Severity::Info => Style::Info,
        }
    }
}

/// Shows one finding without colour, as the pages of the rules do. The result ends with a line break.
#[must_use]
pub fn finding(files: &Files, finding: &Finding) -> String {
    let mut text = Text { files, colour: false, out: String::new() };
    text.finding(finding);
    text.out
}

pub(crate) fn render(page: &Page<'_>) -> String {
    let mut text = Text { files: page.files, colour: page.colour, out: String::new() };
    for finding in page.findings {
        text.finding(finding);
        text.line("");
    }
    text.summary(page);
    text.out
}

struct Text<'a> {
    files: &'a Files,
    colour: bool,
    out: String,
}

impl Text<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Error => "1;31",
            Style::Warning => "1;33",
            Style::Info => "1;36",
            Style::Strong => "1",
            Style::Added => "32",
            Style::Removed => "31",
            Style::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line that begins with a word in bold: ` vote: ...`.
    fn labelled(&mut self, label: &str, text: &str) {
        let label = self.paint(Style::Strong, &format!("{label}:"));
        self.line(format!(" {label} {}", visible(text)));
    }

    fn finding(&mut self, finding: &Finding) {
        let rule = finding.rule;
        let head = format!("{}[{}]", rule.severity.as_str(), rule.name);
        let head = self.paint(rule.severity.into(), &head);
        let message = self.paint(Style::Strong, &format!(": {}", visible(&finding.message)));
        self.line(format!("{head}{message}").trim_end());
        self.place(finding);
        self.snippet(finding);
        self.evidence(&finding.evidence);
        if let Some(fix) = &finding.fix {
            self.fix(fix);
        }
        self.labelled("help", &format!("raceproof explain {}", rule.name));
    }

    fn evidence(&mut self, evidence: &Evidence) {
        let Evidence::Possible { paths, overlap, vote, order } = evidence else {
            for line in timeline::lines(self.files, evidence) {
                self.line(format!(" {}", visible(&line)).trim_end());
            }
            return;
        };
        for (idx, path) in paths.iter().enumerate() {
            self.side(&words::side(idx, paths.len()), path);
        }
        if !overlap.is_empty() {
            self.labelled("may overlap", overlap);
        }
        if let Some(vote) = vote {
            self.labelled("vote", &words::vote(vote));
        }
        if !order.is_empty() {
            let label = self.paint(Style::Strong, "a bad order:");
            self.line(format!(" {label}"));
            for (idx, event) in order.iter().enumerate() {
                self.line(format!("   {}. {}", idx + 1, visible(event)));
            }
        }
    }

    fn place(&mut self, finding: &Finding) {
        let start = self.files.start(finding.span);
        let path = visible(&self.files.get(finding.span.file).path);
        let mut line = format!(" {path}:{}:{}", start.line, start.column);
        if !finding.symbol.is_empty() {
            line.push_str(&format!(" in `{}`", visible(&finding.symbol)));
        }
        if finding.confidence != Confidence::High {
            let words = format!(" ({} confidence)", finding.confidence.as_str());
            line.push_str(&self.paint(Style::Faint, &words));
        }
        self.line(line);
    }

    /// The source with the spans underlined. Only the lines from the first mark to the last are handed on, so that
    /// the work does not grow with the file.
    fn snippet(&mut self, finding: &Finding) {
        let level = match finding.rule.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Info => Level::INFO,
        };
        let mut group = Group::with_level(level);
        for (idx, excerpt) in excerpt::of(self.files, finding).into_iter().enumerate() {
            let source = excerpt.source;
            let range = |mark: &excerpt::Mark<'_>| excerpt::range(source, mark.span);
            let window = excerpt::window(source, excerpt.marks.iter().map(range), 0);
            let mut snippet = Snippet::source(window.text).line_start(window.line as usize);
            if idx > 0 {
                snippet = snippet.path(visible(&source.path));
            }
            for mark in &excerpt.marks {
                let range = range(mark);
                let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                let mut annotation = kind.span(range.start - window.start..range.end - window.start);
                if !mark.label.is_empty() {
                    annotation = annotation.label(visible(mark.label));
                }
                snippet = snippet.annotation(annotation);
            }
            group = group.element(snippet);
        }
        let renderer = if self.colour { Renderer::styled() } else { Renderer::plain() };
        for line in renderer.render(&[group]).lines() {
            self.line(line.trim_end());
        }
    }

    fn side(&mut self, title: &str, path: &Path) {
        self.labelled(title, &path.thread);
        for call in &path.calls {
            let at = self.paint(Style::Faint, &format!("({})", self.at(call.span)));
            self.line(format!("   -> {} {at}", visible(&call.function)));
        }
        let at = self.paint(Style::Faint, &format!("({})", self.at(path.span)));
        let locks = words::locks(&path.locks);
        self.line(format!("   {} {at}, {}", visible(&path.action), visible(&locks)));
    }

    fn at(&self, span: facts::Span) -> String {
        visible(&words::at(self.files, span)).into_owned()
    }

    fn fix(&mut self, fix: &Fix) {
        self.labelled(&format!("fix ({})", fix.safety.as_str()), &fix.title);
        let Some(diff) = diff::of(self.files, fix) else {
            return;
        };
        let path = visible(diff.path);
        for sign in ["---", "+++"] {
            let line = self.paint(Style::Faint, &format!("{sign} {path}"));
            self.line(format!("   {line}"));
        }
        for line in &diff.lines {
            let text = format!("{}{}", line.sign(), visible(&line.text));
            let text = match line.kind {
                Kind::Hunk => self.paint(Style::Faint, &text),
                Kind::Same => text,
                Kind::Removed => self.paint(Style::Removed, &text),
                Kind::Added => self.paint(Style::Added, &text),
            };
            self.line(format!("   {text}").trim_end());
        }
    }

    fn summary(&mut self, page: &Page<'_>) {
        let counts = Counts::of(page.findings);
        let mut found = Vec::new();
        if counts.errors > 0 {
            found.push(self.paint(Style::Error, &words::many(counts.errors, "error")));
        }
        if counts.warnings > 0 {
            found.push(self.paint(Style::Warning, &words::many(counts.warnings, "warning")));
        }
        if counts.infos > 0 {
            found.push(self.paint(Style::Info, &format!("{} info", counts.infos)));
        }
        let found = match found.is_empty() {
            true => "no findings".to_owned(),
            false => format!("found {}", found.join(", ")),
        };
        let elapsed = page.summary.elapsed.as_ref().map(|time| format!(" ({time})")).unwrap_or_default();
        let files = words::many(page.summary.n_files, "file");
        self.line(format!("{found} in {files}{elapsed}"));
        for note in notes(&counts, page.summary.n_hidden) {
            self.line(note);
        }
    }
}

/// What can be repaired and what is not shown, a line each.
pub(crate) fn notes(counts: &Counts, n_hidden: usize) -> Vec<String> {
    let mut notes = Vec::new();
    match (counts.fixes_safe, counts.fixes_unsafe) {
        (0, 0) => {}
        (n, 0) => notes.push(format!("{n} fixable with raceproof fix")),
        (0, n) => notes.push(format!("{n} fixable with raceproof fix --unsafe")),
        (n, more) => {
            notes.push(format!("{n} fixable with raceproof fix ({more} more with --unsafe)"));
        }
    }
    if n_hidden > 0 {
        let hidden = words::many(n_hidden, "finding");
        let them = if n_hidden == 1 { "it" } else { "them" };
        notes.push(format!("{hidden} of low confidence hidden; --confidence low shows {them}"));
    }
    notes
}

#[cfg(test)]
mod tests;
