//! Runs pages: checks each project, compares what is found with what the page says, and tries every fix.
//!
//! With `RACEPROOF_ACCEPT=1` (`cargo xtask test --accept`) the `output` blocks are rewritten instead of compared. What
//! the comments ask for is never rewritten.

use std::fmt::Write;

use check::Options;
use facts::{Confidence, Files, Finding, Runtime};

use crate::page::{Expected, Page, Project};
use crate::tree;

/// Which rules a page is run with.
#[derive(Clone, Copy)]
pub enum Rules {
    /// One alone: the page is about it.
    Only(&'static str),
    /// Those that are on by default.
    Default,
}

/// Runs every project of a page; gives what is wrong with it, and rewrites its outputs if that is asked for.
pub fn run(page: &Page, rules: Rules) -> Vec<String> {
    let mut failures = Vec::new();
    let mut outputs = Vec::new();
    for project in &page.projects {
        let (files, options) = (load(project), options(project, rules));
        let findings = check(&files, &options);
        compare(page, project, &files, &findings, &mut failures);
        repair(page, project, rules, &mut failures);
        if let Some(output) = &project.output {
            let shown = show(&files, &findings);
            if shown != output.text {
                failures.extend(output_differs(page, project, &output.text, &shown));
                outputs.push((output.lines.clone(), shown));
            }
        }
    }
    if !outputs.is_empty() && accepts() {
        rewrite(page, outputs);
    }
    failures
}

/// Are outputs to be rewritten?
fn accepts() -> bool {
    std::env::var_os("RACEPROOF_ACCEPT").is_some_and(|value| value == "1")
}

fn load(project: &Project) -> Files {
    let mut files = Files::default();
    for file in &project.files {
        files.add(&file.path, &file.text);
    }
    files
}

fn options(project: &Project, rules: Rules) -> Options {
    let runtime = project.words.iter().find_map(|word| word.strip_prefix("runtime="));
    Options {
        runtime: match runtime {
            None | Some("free-threaded") => Runtime::FreeThreaded,
            Some("gil") => Runtime::Gil,
            Some("codon") => Runtime::Codon,
            Some(other) => panic!("no runtime `{other}`"),
        },
        select: match rules {
            Rules::Only(name) => Some(vec![name]),
            Rules::Default => None,
        },
        shared: Vec::new(),
    }
}

/// What a user sees who asks for nothing special.
fn check(files: &Files, options: &Options) -> Vec<Finding> {
    let mut findings = check::check(files, options);
    findings.retain(|finding| finding.confidence >= Confidence::Medium);
    findings
}

fn show(files: &Files, findings: &[Finding]) -> String {
    let shown = findings.iter().map(|finding| report::text::finding(files, finding));
    shown.collect::<Vec<_>>().join("\n")
}

/// Is each expected finding there, and no other?
fn compare(page: &Page, project: &Project, files: &Files, findings: &[Finding], failures: &mut Vec<String>) {
    let mut missing = project.expected();
    let mut surplus = Vec::new();
    for finding in findings {
        let found = Expected {
            path: files.get(finding.span.file).path.clone(),
            line: files.start(finding.span).line,
            rule: finding.rule.name.to_owned(),
        };
        match missing.iter().position(|expected| *expected == found) {
            Some(idx) => drop(missing.remove(idx)),
            None => surplus.push((found, finding)),
        }
    }
    if missing.is_empty() && surplus.is_empty() {
        return;
    }
    let mut text = place(page, project);
    for Expected { path, line, rule } in missing {
        let file = project.files.iter().find(|file| file.path == path).expect("it has the comment");
        let code = file.text.lines().nth(line as usize - 1).unwrap_or("").trim();
        let _ = write!(text, "\n   expected {path}:{line} [{rule}], not found: {code}");
    }
    for (Expected { path, line, rule }, finding) in surplus {
        let confidence = finding.confidence.as_str();
        let message = &finding.message;
        let _ = write!(text, "\n   found {path}:{line} [{rule}] ({confidence}), not expected: {message}");
    }
    failures.push(text);
}

/// Does every fix parse, silence its finding and make no new one? Rules that are on by default judge as well.
fn repair(page: &Page, project: &Project, rules: Rules, failures: &mut Vec<String>) {
    let mut options = options(project, rules);
    if let Some(names) = &mut options.select {
        names.extend(check::rules().filter(|rule| rule.on_by_default).map(|rule| rule.name));
    }
    let wanted = |finding: &Finding| match rules {
        Rules::Only(name) => finding.rule.name == name,
        Rules::Default => true,
    };
    let files = load(project);
    let terms = cli::repair::Terms {
        check: &|files| check(files, &options),
        wanted: &wanted,
        locked: &|_| None,
        allow_unsafe: true,
    };
    let findings = check(&files, &options);
    let outcome = cli::repair::repair(files, findings, &terms);
    for refused in outcome.refused {
        let path = &outcome.files.get(refused.file).path;
        let (line, rule, reason) = (refused.line, refused.rule, refused.reason);
        let place = place(page, project);
        failures.push(format!("{place}\n   fix of {path}:{line} [{rule}] refused: {reason}"));
    }
}

fn output_differs(page: &Page, project: &Project, said: &str, shown: &str) -> Option<String> {
    if accepts() {
        return None;
    }
    let place = place(page, project);
    let said = indented(said);
    let shown = indented(shown);
    Some(format!(
        "{place}\n   the page says:\n{said}   raceproof says:\n{shown}   accept it with `cargo xtask test --accept`"
    ))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

fn place(page: &Page, project: &Project) -> String {
    let files: Vec<&str> = project.files.iter().map(|file| file.path.as_str()).collect();
    format!("{}:{}, under \"{}\", {}:", page.path, project.line, project.heading, files.join(", "))
}

fn rewrite(page: &Page, outputs: Vec<(std::ops::Range<usize>, String)>) {
    let mut lines: Vec<String> = page.text.lines().map(str::to_owned).collect();
    for (range, text) in outputs.into_iter().rev() {
        lines.splice(range, text.lines().map(str::to_owned));
    }
    let text = lines.join("\n") + "\n";
    std::fs::write(tree::root().join(&page.path), text).expect("the page can be written");
}
