//! The list of rules, the folder of rules and their pages say the same, and each page is right.

use std::collections::BTreeSet;

use crate::document::{self, Rules};
use crate::page::{self, Page};
use crate::tree;

const FOLDER: &str = "crates/check/src/rules";
const HEADINGS: [&str; 4] = ["What is caught", "Why it matters", "What is accepted", "Limits"];

/// Rules about the run itself: they have pages, and the run raises them, not a file in the folder.
const ABOUT_THE_RUN: &str = "RP0";

/// Pages that cannot show in a Python program what is caught.
const WITHOUT_PROGRAMS: [&str; 2] = ["internal-error", "syntax-error"];

fn page_path(rule: &str) -> String {
    format!("{FOLDER}/{}.md", rule.replace('-', "_"))
}

fn page(rule: &facts::RuleInfo) -> Page {
    page::parse(&page_path(rule.name), rule.docs.to_owned())
}

#[test]
fn every_page_is_right() {
    let mut failures = Vec::new();
    // While a rule is written, `RACEPROOF_PAGE=its-name` runs its page alone.
    let only = std::env::var("RACEPROOF_PAGE").ok();
    for rule in check::rules().filter(|rule| only.as_deref().is_none_or(|only| only == rule.name)) {
        // What suppresses a finding, or fails to, shows only where there are findings.
        let rules = match rule.code.starts_with(ABOUT_THE_RUN) {
            true => Rules::Default,
            false => Rules::Only(rule.name),
        };
        failures.extend(document::run(&page(rule), rules));
    }
    let n = failures.len();
    assert!(failures.is_empty(), "{n} projects differ\n\n{}\n", failures.join("\n\n"));
}

#[test]
fn the_list_and_the_folder_hold_the_same_rules() {
    for ending in [".rs", ".md"] {
        let stems = stems(ending);
        let listed: BTreeSet<String> = check::rules()
            .filter(|rule| ending == ".md" || !rule.code.starts_with(ABOUT_THE_RUN))
            .map(|rule| rule.name.replace('-', "_"))
            .collect();
        let unlisted: Vec<_> = stems.difference(&listed).collect();
        let absent: Vec<_> = listed.difference(&stems).collect();
        assert!(unlisted.is_empty(), "not in the list of rules/mod.rs: {unlisted:?} ({ending})");
        assert!(absent.is_empty(), "in the list, but not in the folder: {absent:?} ({ending})");
    }
}

/// The names of the files in the folder, without their ends.
fn stems(ending: &str) -> BTreeSet<String> {
    let paths = tree::files(FOLDER, ending).into_iter();
    let stem = |path: String| {
        let name = path.strip_prefix(&format!("{FOLDER}/"))?.strip_suffix(ending)?;
        (name != "mod").then(|| name.to_owned())
    };
    paths.filter_map(stem).collect()
}

#[test]
fn names_and_codes_are_well_formed_unique_and_sorted() {
    let codes: Vec<&str> = check::rules().map(|rule| rule.code).collect();
    assert!(codes.is_sorted_by(|a, b| a < b), "sorted by code, each once: {codes:?}");
    let names: BTreeSet<&str> = check::rules().map(|rule| rule.name).collect();
    assert_eq!(names.len(), codes.len(), "a name is used twice");
    for rule in check::rules() {
        let digits = rule.code.strip_prefix("RP").unwrap_or("");
        let is_code = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        assert!(is_code, "`{}` is not RP and three digits", rule.code);
        let is_name = rule.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(is_name, "`{}` is not lower case with dashes", rule.name);
        let summary = rule.summary;
        assert!(!summary.ends_with('.') && !summary.contains('\n'), "{}: {summary}", rule.name);
    }
}

#[test]
fn every_page_has_the_fixed_shape() {
    let mut failures = Vec::new();
    for rule in check::rules() {
        let page = page(rule);
        let title = format!("# {} ({})", rule.name, rule.code);
        if page.title != title {
            failures.push(format!("{}: begins `{}`, not `{title}`", page.path, page.title));
        }
        if page.headings != HEADINGS {
            failures.push(format!("{}: has the headings {:?}", page.path, page.headings));
        }
        let mut caught = 0;
        for project in &page.projects {
            let expected = project.expected();
            let is_caught = project.heading == HEADINGS[0];
            caught += usize::from(is_caught);
            if is_caught == expected.is_empty() {
                failures.push(format!(
                    "{}:{}: {} findings are asked for under \"{}\"",
                    page.path,
                    project.line,
                    expected.len(),
                    project.heading
                ));
            }
            if let Some(other) = expected.iter().find(|expected| expected.rule != rule.name) {
                failures.push(format!("{}: asks for [{}]", page.path, other.rule));
            }
        }
        if WITHOUT_PROGRAMS.contains(&rule.name) {
            continue;
        }
        if caught == 0 {
            failures.push(format!("{}: shows nothing that is caught", page.path));
        }
        if !page.projects.iter().any(|project| project.output.is_some()) {
            failures.push(format!("{}: shows no output", page.path));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
