//! The rules: a plain list, in the order of their codes. Each is a pair of files of the same name.

use std::panic::{AssertUnwindSafe, catch_unwind};

use facts::{FileId, Finding, RuleInfo, Severity, Span};

use crate::Options;
use crate::analysis::Analysis;

mod blocking_under_lock;
mod condition_misuse;
mod event_loop_lock;
mod lock_across_await;
mod lock_order_inversion;
mod self_deadlock;
mod unreleased_lock;
mod useless_lock;
mod unlocked_increment;
mod unlocked_lazy_init;

/// A rule: data, and one function that appends findings.
pub struct Rule {
    /// What people and tools see.
    pub info: RuleInfo,
    /// Looks at the analysis and appends what it finds. Order among rules does not matter.
    pub check: fn(&Analysis<'_>, &mut Vec<Finding>),
}

/// All rules, in the order of their codes.
pub static RULES: &[&Rule] = &[
    &unlocked_lazy_init::RULE,
    &unlocked_increment::RULE,
    &lock_order_inversion::RULE,
    &self_deadlock::RULE,
    &unreleased_lock::RULE,
    &useless_lock::RULE,
    &event_loop_lock::RULE,
    &lock_across_await::RULE,
    &blocking_under_lock::RULE,
    &condition_misuse::RULE,
];

/// Raised when a rule panics: a bug of ours that must not hide the other rules.
pub static INTERNAL_ERROR: RuleInfo = RuleInfo {
    name: "internal-error",
    code: "RP000",
    severity: Severity::Warning,
    summary: "raceproof itself failed on this input",
    docs: include_str!("internal_error.md"),
    on_by_default: true,
};

/// Raised where a file cannot be read or parsed.
pub static SYNTAX_ERROR: RuleInfo = RuleInfo {
    name: "syntax-error",
    code: "RP001",
    severity: Severity::Error,
    summary: "the file cannot be read or parsed",
    docs: include_str!("syntax_error.md"),
    on_by_default: true,
};

/// Runs the selected rules.
#[must_use]
pub fn run(analysis: &Analysis<'_>, options: &Options) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in RULES {
        if !options.selects(&rule.info) {
            continue;
        }
        let before = found.len();
        let outcome = catch_unwind(AssertUnwindSafe(|| (rule.check)(analysis, &mut found)));
        if outcome.is_err() {
            found.truncate(before);
            let message = format!("the rule `{}` failed; please report it", rule.info.name);
            found.push(Finding::new(&INTERNAL_ERROR, Span::new(FileId(0), 0, 0), message));
        }
    }
    found
}
