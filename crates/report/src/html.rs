//! Findings as one page that a person can send to a colleague.
//!
//! It promises that the page asks for nothing outside itself, can be read without scripts (they only filter), on
//! paper, and in the dark, and that no text of the program under check becomes markup. How it looks is in
//! `html.jinja`; here is what it says.

use facts::{Evidence, Files, Finding, Fix, Path, Severity};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, HtmlEscape};
use serde::Serialize;

use crate::counts::{self, Counts};
use crate::diff::{self, Kind};
use crate::excerpt::{self, Excerpt, Line, Marked};
use crate::words::{self, visible};
use crate::{Page, text};

/// Lines shown around a marked line.
const N_CONTEXT: u32 = 3;

#[derive(Serialize)]
struct View<'a> {
    title: String,
    version: &'a str,
    runtime: &'a str,
    files: String,
    elapsed: Option<String>,
    notes: Vec<String>,
    figures: [Figure; 3],
    rules: Vec<RuleRow>,
    severities: Vec<&'a str>,
    confidences: Vec<&'a str>,
    cards: Vec<Card<'a>>,
}

#[derive(Serialize)]
struct Figure {
    severity: &'static str,
    n: usize,
    label: &'static str,
}

#[derive(Serialize)]
struct RuleRow {
    name: &'static str,
    code: &'static str,
    severity: &'static str,
    summary: &'static str,
    n: usize,
}

#[derive(Serialize)]
struct Card<'a> {
    rule: &'a str,
    code: &'a str,
    severity: &'a str,
    confidence: &'a str,
    summary: &'a str,
    message: String,
    path: String,
    line: u32,
    column: u32,
    symbol: String,
    place: String,
    fingerprint: String,
    excerpts: Vec<Block>,
    sides: Vec<Side>,
    overlap: String,
    vote: Option<Vote>,
    order: Vec<String>,
    seen: Option<Seen>,
    fix: Option<Repair<'a>>,
}

/// What was seen in a run: a row for each step, a column for each thread.
#[derive(Serialize)]
struct Seen {
    pattern: String,
    threads: Vec<String>,
    steps: Vec<SeenStep>,
    ending: String,
    remedy: String,
    schedule: String,
}

#[derive(Serialize)]
struct SeenStep {
    thread: usize,
    text: String,
    at: String,
    decides: bool,
}

/// Lines of one file.
#[derive(Serialize)]
struct Block {
    path: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    number: u32,
    after_gap: bool,
    class: &'static str,
    pieces: Vec<Piece>,
    labels: Vec<String>,
}

#[derive(Serialize)]
struct Piece {
    class: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Side {
    title: String,
    thread: String,
    calls: Vec<Call>,
    action: String,
    at: String,
    source: String,
    locks: String,
    is_locked: bool,
}

#[derive(Serialize)]
struct Call {
    function: String,
    at: String,
}

#[derive(Serialize)]
struct Vote {
    words: String,
    with: u32,
    all: u32,
}

#[derive(Serialize)]
struct Repair<'a> {
    safety: &'a str,
    title: String,
    path: String,
    lines: Vec<DiffRow>,
}

#[derive(Serialize)]
struct DiffRow {
    class: &'static str,
    text: String,
}

pub(crate) fn render(page: &Page<'_>) -> String {
    let mut env = Environment::new();
    env.add_filter("code", |text: String| Value::from_safe_string(with_code(&text)));
    // The ending `.html` turns escaping on.
    env.add_template("report.html", include_str!("html.jinja"))
        .expect("the template is part of this program and tested");
    let template = env.get_template("report.html").expect("it was added just now");
    let mut html = template.render(Value::from(Serde(view(page)))).expect("the template asks only for what a view has");
    if !html.ends_with('\n') {
        html.push('\n');
    }
    html
}

/// Text with its `quoted` parts as code, escaped.
fn with_code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let mut html = String::with_capacity(text.len() + 32);
    for (idx, part) in parts.iter().enumerate() {
        let escaped = HtmlEscape(part);
        // The last part is quoted only if its quote were closed, and then an empty part follows.
        let opens = idx % 2 == 1;
        html += &match (opens, idx + 1 < parts.len()) {
            (true, true) => format!("<code>{escaped}</code>"),
            (true, false) => format!("`{escaped}"),
            (false, _) => escaped.to_string(),
        };
    }
    html
}

fn view<'a>(page: &Page<'a>) -> View<'a> {
    let counts = Counts::of(page.findings);
    let n_findings = words::many(page.findings.len(), "finding");
    let files = words::many(page.summary.n_files, "file");
    let figure = |severity: Severity, n, label| Figure { severity: severity.as_str(), n, label };
    let rules = counts::by_rule(page.findings).into_iter().map(|(rule, n)| RuleRow {
        name: rule.name,
        code: rule.code,
        severity: rule.severity.as_str(),
        summary: rule.summary,
        n,
    });
    View {
        title: format!("raceproof: {n_findings} in {files}"),
        version: page.version,
        runtime: page.runtime.as_str(),
        files,
        elapsed: page.summary.elapsed.clone(),
        notes: text::notes(&counts, page.summary.n_hidden),
        figures: [
            figure(Severity::Error, counts.errors, "errors"),
            figure(Severity::Warning, counts.warnings, "warnings"),
            figure(Severity::Info, counts.infos, "info"),
        ],
        rules: rules.collect(),
        severities: vec!["error", "warning", "info"],
        confidences: vec!["high", "medium", "low"],
        cards: page.findings.iter().map(|finding| card(page.files, finding)).collect(),
    }
}

fn card<'a>(files: &Files, finding: &'a Finding) -> Card<'a> {
    let (paths, overlap, vote, order) = match &finding.evidence {
        Evidence::Possible { paths, overlap, vote, order } => {
            (paths.as_slice(), overlap.as_str(), vote.as_ref(), order.as_slice())
        }
        Evidence::Observed { .. } => ([].as_slice(), "", None, [].as_slice()),
    };
    let start = files.start(finding.span);
    let sides = paths.iter().enumerate();
    Card {
        rule: finding.rule.name,
        code: finding.rule.code,
        severity: finding.rule.severity.as_str(),
        confidence: finding.confidence.as_str(),
        summary: finding.rule.summary,
        message: plain(&finding.message),
        path: plain(&files.get(finding.span.file).path),
        line: start.line,
        column: start.column,
        symbol: plain(&finding.symbol),
        place: plain(&finding.place),
        fingerprint: finding.fingerprint.to_string(),
        excerpts: excerpt::of(files, finding).iter().map(block).collect(),
        sides: sides.map(|(idx, path)| side(files, idx, paths.len(), path)).collect(),
        overlap: plain(overlap),
        vote: vote.map(|vote| Vote {
            words: plain(&words::vote(vote)),
            with: vote.with,
            all: vote.with + vote.without,
        }),
        order: order.iter().map(|event| plain(event)).collect(),
        seen: seen(files, &finding.evidence),
        fix: finding.fix.as_ref().map(|fix| repair(files, fix)),
    }
}

fn seen(files: &Files, evidence: &Evidence) -> Option<Seen> {
    let Evidence::Observed { pattern, threads, steps, ending, remedy, schedule } = evidence else {
        return None;
    };
    let steps = steps.iter().map(|step| SeenStep {
        thread: step.thread,
        text: plain(&step.text),
        at: plain(&words::at(files, step.span)),
        decides: step.decides,
    });
    Some(Seen {
        pattern: plain(pattern),
        threads: threads.iter().map(|name| plain(name)).collect(),
        steps: steps.collect(),
        ending: plain(ending),
        remedy: plain(remedy),
        schedule: plain(schedule),
    })
}

fn plain(text: &str) -> String {
    visible(text).into_owned()
}

fn block(excerpt: &Excerpt<'_>) -> Block {
    let rows = excerpt.lines(N_CONTEXT);
    Block { path: plain(&excerpt.source.path), rows: rows.iter().map(row).collect() }
}

fn row(line: &Line<'_>) -> Row {
    let pieces = line.pieces.iter().map(|piece| Piece { class: class(piece.marked), text: plain(piece.text) });
    Row {
        number: line.number,
        after_gap: line.after_gap,
        class: class(line.marked),
        pieces: pieces.collect(),
        labels: line.labels.iter().map(|label| plain(label)).collect(),
    }
}

fn class(marked: Marked) -> &'static str {
    match marked {
        Marked::No => "",
        Marked::Related => "related",
        Marked::Primary => "primary",
    }
}

fn side(files: &Files, idx: usize, n: usize, path: &Path) -> Side {
    let calls =
        path.calls.iter().map(|call| Call { function: plain(&call.function), at: plain(&words::at(files, call.span)) });
    let source = files.get(path.span.file).line(files.start(path.span).line);
    Side {
        title: words::side(idx, n),
        thread: plain(&path.thread),
        calls: calls.collect(),
        action: plain(&path.action),
        at: plain(&words::at(files, path.span)),
        source: plain(source.trim()),
        locks: plain(&words::locks(&path.locks)),
        is_locked: !path.locks.is_empty(),
    }
}

fn repair<'a>(files: &Files, fix: &'a Fix) -> Repair<'a> {
    let diff = diff::of(files, fix);
    let (path, lines) = diff.map_or((String::new(), Vec::new()), |diff| {
        let rows = diff.lines.iter().map(|line| DiffRow {
            class: match line.kind {
                Kind::Hunk => "hunk",
                Kind::Same => "same",
                Kind::Removed => "removed",
                Kind::Added => "added",
            },
            text: format!("{}{}", line.sign(), visible(&line.text)),
        });
        (plain(diff.path), rows.collect())
    });
    Repair { safety: fix.safety.as_str(), title: plain(&fix.title), path, lines }
}

#[cfg(test)]
mod tests;
