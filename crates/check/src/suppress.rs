//! Comments that silence findings: `# raceproof: allow[rule, rule] reason`.
//!
//! A comment holds for the findings of its line; on the head of a function or class, for all of it. What it silences
//! is judged by all rules that ran, at any confidence, so that a comment that silences nothing can be told.

use facts::{Confidence, FileId, Files, Finding, RuleInfo, Span};

use crate::Options;
use crate::annotations::{ALLOW, Directive, directives, line_meant};
use crate::body::{FunctionKind, Module};
use crate::rules;

/// Findings about the run itself, which no comment silences.
const ABOUT_THE_RUN: &str = "RP0";

/// One rule that a comment allows.
struct Allowed<'a> {
    /// As it is written.
    name: &'a str,
    rule: Option<&'static RuleInfo>,
    /// Which comment.
    comment: usize,
    used: bool,
}

/// One comment.
struct Comment<'a> {
    said: Directive<'a>,
    symbol: &'static str,
    own_line: u32,
    line: u32,
    /// The whole function or class, if it stands on its head.
    whole: Option<Span>,
}

/// Takes out what comments allow, and adds what is wrong with the comments.
#[must_use]
pub fn apply(files: &Files, modules: &[Module], options: &Options, mut found: Vec<Finding>) -> Vec<Finding> {
    let (comments, mut allowed) = read(files, modules);
    if comments.is_empty() {
        return found;
    }
    found.retain(|finding| {
        let mut silenced = false;
        for allow in allowed.iter_mut().filter(|allow| allow.rule == Some(finding.rule)) {
            if comments[allow.comment].covers(files, finding) {
                allow.used = true;
                silenced = true;
            }
        }
        !silenced
    });
    // Where a rule failed, nothing can be said of what it would have found.
    let failed = found.iter().any(|finding| finding.rule == &rules::INTERNAL_ERROR);
    let report = |rule: &'static RuleInfo, comment: &Comment<'_>, message: String| {
        Finding::new(rule, comment.said.span, message).within(comment.symbol).confidence(Confidence::High)
    };
    if options.selects(&rules::UNUSED_SUPPRESSION) {
        for allow in allowed.iter().filter(|allow| !allow.used) {
            let message = match allow.rule {
                None => format!("there is no rule `{}`", allow.name),
                Some(rule) if options.selects(rule) && !failed => format!("there is no `{}` to allow here", rule.name),
                Some(_) => continue,
            };
            found.push(report(&rules::UNUSED_SUPPRESSION, &comments[allow.comment], message));
        }
        for comment in comments.iter().filter(|comment| comment.said.args.as_ref().is_none_or(Vec::is_empty)) {
            found.push(report(&rules::UNUSED_SUPPRESSION, comment, "the comment allows no rule".to_owned()));
        }
    }
    if options.selects(&rules::UNEXPLAINED_SUPPRESSION) {
        for comment in comments.iter().filter(|comment| !comment.said.is_explained()) {
            let message = "the comment does not say why the finding is allowed".to_owned();
            found.push(report(&rules::UNEXPLAINED_SUPPRESSION, comment, message));
        }
    }
    found
}

fn read<'a>(files: &'a Files, modules: &[Module]) -> (Vec<Comment<'a>>, Vec<Allowed<'a>>) {
    let (mut comments, mut allowed) = (Vec::new(), Vec::new());
    for module in modules {
        for comment in &module.comments {
            for said in directives(files, module.file, comment) {
                if said.word != ALLOW {
                    continue;
                }
                for name in said.args.iter().flatten() {
                    let rule = crate::rules()
                        .find(|rule| rule.name == *name || rule.code.eq_ignore_ascii_case(name))
                        .filter(|rule| !rule.code.starts_with(ABOUT_THE_RUN));
                    allowed.push(Allowed { name, rule, comment: comments.len(), used: false });
                }
                let own_line = files.get(module.file).position(comment.start).line;
                let line = line_meant(files, module.file, comment);
                let (symbol, whole) = around(files, module, said.span, own_line);
                comments.push(Comment { said, symbol, own_line, line, whole });
            }
        }
    }
    (comments, allowed)
}

/// The function around a comment, and all of the function or class on whose head it stands.
fn around(files: &Files, module: &Module, comment: Span, line: u32) -> (&'static str, Option<Span>) {
    let at = |offset: u32| files.get(module.file).position(offset).line;
    let heads = |start: u32, end: u32| at(start) <= line && line <= at(end);
    let functions = module.functions.iter().filter(|function| function.kind == FunctionKind::Def);
    let symbol = functions
        .clone()
        .filter(|function| function.start <= comment.start && comment.end <= function.end)
        .max_by_key(|function| function.start)
        .map_or("", |function| function.qualname.as_str());
    let whole = |file: FileId, start: u32, end: u32| Some(Span::new(file, start, end));
    if let Some(class) = module.classes.iter().find(|class| heads(class.start, class.head_end)) {
        return (symbol, whole(module.file, class.start, class.end));
    }
    match functions.clone().find(|function| heads(function.start, function.head_end)) {
        Some(function) => (function.qualname.as_str(), whole(module.file, function.start, function.end)),
        None => (symbol, None),
    }
}

impl Comment<'_> {
    fn covers(&self, files: &Files, finding: &Finding) -> bool {
        if finding.span.file != self.said.span.file {
            return false;
        }
        let lines = files.start(finding.span).line..=files.end(finding.span).line;
        lines.contains(&self.line)
            || lines.contains(&self.own_line)
            || self.whole.is_some_and(|whole| whole.contains(finding.span))
    }
}
