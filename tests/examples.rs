//! `examples/`: each defect that its README lists is found, each safe look-alike stays silent.

use facts::{Confidence, Files, Finding};

use crate::tree;

const FOLDER: &str = "examples/graphmemory";

/// A row of the table.
struct Row {
    file: String,
    line: u32,
    place: String,
    rule: String,
    is_defect: bool,
}

fn rows() -> Vec<Row> {
    let readme = tree::read(&format!("{FOLDER}/README.md"));
    let rows: Vec<Row> = readme.lines().filter_map(row).collect();
    assert!(rows.iter().any(|row| row.is_defect) && rows.iter().any(|row| !row.is_defect));
    rows
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [file, at, place, rule, verdict] = cells[..] else {
        return None;
    };
    Some(Row {
        file: format!("{FOLDER}/{}", file.trim_matches('`')),
        line: at.parse().ok()?,
        place: place.trim_matches('`').to_owned(),
        rule: rule.trim_matches('`').to_owned(),
        is_defect: match verdict {
            "defect" => true,
            "safe" => false,
            other => panic!("`{other}` is neither defect nor safe: {line}"),
        },
    })
}

fn checked(paths: &[String]) -> (Files, Vec<Finding>) {
    let mut files = Files::default();
    for path in paths {
        files.add(path, tree::read(path));
    }
    let mut findings = check::check(&files, &check::Options::default());
    findings.retain(|finding| finding.confidence >= Confidence::Medium);
    (files, findings)
}

/// The lines of the function that a line stands in; the line itself at module level.
fn function_around(text: &str, line: u32) -> std::ops::RangeInclusive<u32> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |text: &str| text.len() - text.trim_start().len();
    let is_def = |text: &str| {
        let text = text.trim_start();
        text.starts_with("def ") || text.starts_with("async def ")
    };
    // A signature that is laid out over several lines closes at the depth of its `def`.
    let is_code = |text: &str| !text.trim().is_empty() && !text.trim_start().starts_with(')');
    let is_in = |idx: usize, inner: usize| is_code(lines[idx]) && indent(lines[idx]) < inner;
    let mut idx = line as usize - 1;
    let mut inner = indent(lines[idx]);
    while !is_def(lines[idx]) {
        match (0..idx).rev().find(|above| is_in(*above, inner)) {
            Some(above) => (idx, inner) = (above, indent(lines[above])),
            None => return line..=line,
        }
    }
    let after = (idx + 1..lines.len()).find(|below| is_code(lines[*below]) && indent(lines[*below]) <= inner);
    let number = |idx: usize| u32::try_from(idx).expect("few lines");
    number(idx + 1)..=number(after.unwrap_or(lines.len()))
}

fn names(finding: &Finding, place: &str) -> bool {
    place == "-" || finding.place == place || finding.message.contains(&format!("`{place}`"))
}

#[test]
fn listed_defects_are_found_and_safe_lookalikes_are_not() {
    let (files, findings) = checked(&tree::files(FOLDER, ".py"));
    let mut failures = Vec::new();
    for row in rows() {
        let text = files.iter().find(|(_, file)| file.path == row.file).map(|(_, file)| file.text.as_str());
        let text = text.unwrap_or_else(|| panic!("{} is listed and not there", row.file));
        let around = function_around(text, row.line);
        let is_here = |span: facts::Span, lines: &std::ops::RangeInclusive<u32>| {
            files.get(span.file).path == row.file && lines.contains(&files.start(span).line)
        };
        let Row { file, line, place, rule, .. } = &row;
        if row.is_defect {
            let found = findings.iter().any(|finding| {
                let mut spans = finding.related.iter().map(|related| related.span);
                finding.rule.name == rule
                    && names(finding, place)
                    && (is_here(finding.span, &around) || spans.any(|span| is_here(span, &around)))
            });
            if !found {
                failures.push(format!("{file}:{line} [{rule}] `{place}` is not found"));
            }
        } else if let Some(finding) =
            findings.iter().find(|finding| is_here(finding.span, &(*line..=*line)) && names(finding, place))
        {
            let (rule, message) = (finding.rule.name, &finding.message);
            failures.push(format!("{file}:{line} is safe, but [{rule}]: {message}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_small_example_shows_a_finding() {
    for path in tree::files("examples", ".py") {
        if !path.starts_with(FOLDER) {
            assert!(!checked(std::slice::from_ref(&path)).1.is_empty(), "{path}");
        }
    }
}

#[test]
fn the_function_around_a_line_is_found_by_indentation() {
    let text = "x = 1\n\ndef f(\n    a,\n):\n    if a:\n\n        b = 1\n    return b\n\ny = 2\n";
    assert_eq!(function_around(text, 8), 3..=10);
    assert_eq!(function_around(text, 3), 3..=10);
    assert_eq!(function_around(text, 11), 11..=11);
}

/// The texts after all fixes that the rules offer, and what is left.
fn repaired(files: Files) -> (Files, Vec<Finding>) {
    let check = |files: &Files| {
        let mut findings = check::check(files, &check::Options::default());
        findings.retain(|finding| finding.confidence >= Confidence::Medium);
        findings
    };
    let findings = check(&files);
    let terms = cli::repair::Terms { check: &check, wanted: &|_| true, locked: &|_| None, allow_unsafe: true };
    let outcome = cli::repair::repair(files, findings, &terms);
    (outcome.files, outcome.left)
}

#[test]
fn fixes_leave_texts_that_parse_with_fewer_findings_and_nothing_more_to_fix() {
    let (files, findings) = checked(&tree::files(FOLDER, ".py"));
    let before = findings.len();
    let (files, left) = repaired(files);
    for (_, file) in files.iter() {
        assert_eq!(check::syntax_error(&file.text), None, "{}", file.path);
    }
    assert!(left.len() * 2 < before, "{before} findings, {} after all fixes", left.len());
    let once: Vec<String> = files.iter().map(|(_, file)| file.text.clone()).collect();
    let (files, again) = repaired(files);
    let twice: Vec<String> = files.iter().map(|(_, file)| file.text.clone()).collect();
    assert_eq!(again.len(), left.len());
    assert!(once == twice, "a second run changed more");
}
