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

/// The lines of the statement that begins on a line: the line alone, a call that is laid out over several, a block.
fn construct_at(text: &str, line: u32) -> std::ops::RangeInclusive<u32> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |text: &str| text.len() - text.trim_start().len();
    let first = line as usize - 1;
    let inside = |text: &&&str| {
        text.trim().is_empty() || indent(text) > indent(lines[first]) || text.trim_start().starts_with([')', ']', '}'])
    };
    let n_inside = lines[first + 1..].iter().take_while(inside).count();
    let n_blank = lines[first + 1..][..n_inside].iter().rev().take_while(|text| text.trim().is_empty()).count();
    line..=line + u32::try_from(n_inside - n_blank).expect("few lines")
}

fn names(finding: &Finding, place: &str) -> bool {
    place == "-" || finding.place == place || finding.message.contains(&format!("`{place}`"))
}

#[test]
fn listed_defects_are_found_and_nothing_else_is() {
    let (files, findings) = checked(&tree::files(FOLDER, ".py"));
    let rows = rows();
    let mut failures = Vec::new();
    let mut listed = vec![false; findings.len()];
    for row in &rows {
        let text = files.iter().find(|(_, file)| file.path == row.file).map(|(_, file)| file.text.as_str());
        let text = text.unwrap_or_else(|| panic!("{} is listed and not there", row.file));
        let construct = construct_at(text, row.line);
        let is_here = |finding: &Finding| {
            files.get(finding.span.file).path == row.file && construct.contains(&files.start(finding.span).line)
        };
        let Row { file, line, place, rule, .. } = row;
        let found = findings.iter().position(|finding| {
            row.is_defect && finding.rule.name == rule && names(finding, place) && is_here(finding)
        });
        match found {
            Some(idx) => listed[idx] = true,
            None if row.is_defect => failures.push(format!("{file}:{line} [{rule}] `{place}` is not found")),
            None => {}
        }
    }
    for (finding, _) in findings.iter().zip(&listed).filter(|(_, listed)| !**listed) {
        let (path, line) = (&files.get(finding.span.file).path, files.start(finding.span).line);
        let (rule, place, message) = (finding.rule.name, &finding.place, &finding.message);
        let safe = rows
            .iter()
            .any(|row| !row.is_defect && row.file == *path && row.line == line && names(finding, &row.place));
        let what = if safe { "is safe" } else { "is not listed" };
        failures.push(format!("{path}:{line} {what}, but [{rule}] `{place}`: {message}"));
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
fn a_construct_ends_with_its_block() {
    let text = "x = 1\n\nwith lock:\n    a = 1\n\n    b = f(\n        c,\n    )\n\ny = 2\n";
    assert_eq!(construct_at(text, 1), 1..=1);
    assert_eq!(construct_at(text, 3), 3..=8);
    assert_eq!(construct_at(text, 6), 6..=8);
    assert_eq!(construct_at(text, 10), 10..=10);
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
