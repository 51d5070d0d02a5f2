//! The rules: a plain list, in the order of their codes. Each is a pair of files of the same name.

use std::panic::{AssertUnwindSafe, catch_unwind};

use facts::{FileId, Finding, RuleInfo, Severity, Span};

use crate::Options;
use crate::analysis::Analysis;
use crate::parallel;

mod await_split_init;
mod blocking_under_lock;
mod check_then_act;
mod condition_misuse;
mod copy_then_reset;
mod event_loop_lock;
mod fork_with_threads;
mod guarded_state_escapes;
mod inconsistent_guard;
mod iteration_during_mutation;
mod lazy_import;
mod lock_across_await;
mod lock_order_inversion;
mod loop_touched_from_thread;
mod lost_exception;
mod missing_recheck;
mod mutable_class_attribute;
mod no_shutdown;
mod nulled_while_used;
mod publish_before_init;
mod reused_event;
mod save_and_restore;
mod self_deadlock;
mod shared_singleton_slot;
mod split_critical_section;
mod start_in_constructor;
mod thread_local_in_async;
mod torn_read;
mod unbounded_threads;
mod unguarded_collection;
mod unlocked_increment;
mod unlocked_lazy_init;
mod unreleased_lock;
mod useless_lock;

/// A rule: data, and one function that appends findings.
pub struct Rule {
    /// What people and tools see.
    pub info: RuleInfo,
    /// Looks at the analysis and appends what it finds. Order among rules does not matter.
    pub check: fn(&Analysis<'_>, &mut Vec<Finding>),
}

/// All rules, in the order of their codes.
#[rustfmt::skip] // a line each, so that a new rule is one line
pub static RULES: &[&Rule] = &[
    &unlocked_lazy_init::RULE,
    &publish_before_init::RULE,
    &missing_recheck::RULE,
    &shared_singleton_slot::RULE,
    &await_split_init::RULE,
    &start_in_constructor::RULE,
    &lazy_import::RULE,
    &unlocked_increment::RULE,
    &check_then_act::RULE,
    &nulled_while_used::RULE,
    &unguarded_collection::RULE,
    &iteration_during_mutation::RULE,
    &inconsistent_guard::RULE,
    &guarded_state_escapes::RULE,
    &split_critical_section::RULE,
    &copy_then_reset::RULE,
    &save_and_restore::RULE,
    &mutable_class_attribute::RULE,
    &torn_read::RULE,
    &lock_order_inversion::RULE,
    &self_deadlock::RULE,
    &unreleased_lock::RULE,
    &useless_lock::RULE,
    &event_loop_lock::RULE,
    &lock_across_await::RULE,
    &blocking_under_lock::RULE,
    &condition_misuse::RULE,
    &unbounded_threads::RULE,
    &lost_exception::RULE,
    &no_shutdown::RULE,
    &loop_touched_from_thread::RULE,
    &reused_event::RULE,
    &thread_local_in_async::RULE,
    &fork_with_threads::RULE,
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

/// Raised where a comment allows a finding that is not there.
pub static UNUSED_SUPPRESSION: RuleInfo = RuleInfo {
    name: "unused-suppression",
    code: "RP002",
    severity: Severity::Warning,
    summary: "a comment allows a finding that does not exist",
    docs: include_str!("unused_suppression.md"),
    on_by_default: true,
};

/// Raised where a comment allows a finding and does not say why.
pub static UNEXPLAINED_SUPPRESSION: RuleInfo = RuleInfo {
    name: "unexplained-suppression",
    code: "RP003",
    severity: Severity::Warning,
    summary: "a comment allows a finding and does not say why",
    docs: include_str!("unexplained_suppression.md"),
    on_by_default: true,
};

/// Raised where a claim of the user's cannot be understood.
pub static UNKNOWN_ANNOTATION: RuleInfo = RuleInfo {
    name: "unknown-annotation",
    code: "RP004",
    severity: Severity::Warning,
    summary: "an annotation says something that cannot be used",
    docs: include_str!("unknown_annotation.md"),
    on_by_default: true,
};

/// Rules about the run itself and about what people write for it: no page of theirs has a function beside it.
pub static ABOUT_THE_RUN: [&RuleInfo; 5] =
    [&INTERNAL_ERROR, &SYNTAX_ERROR, &UNUSED_SUPPRESSION, &UNEXPLAINED_SUPPRESSION, &UNKNOWN_ANNOTATION];

/// Runs those of some rules that are selected.
#[must_use]
pub fn run(rules: &[&Rule], analysis: &Analysis<'_>, options: &Options) -> Vec<Finding> {
    let rules = rules.iter().filter(|rule| options.selects(&rule.info)).collect();
    let found = parallel::map(rules, |rule| {
        let mut found = Vec::new();
        if catch_unwind(AssertUnwindSafe(|| (rule.check)(analysis, &mut found))).is_err() {
            let message = format!("the rule `{}` failed; please report it", rule.info.name);
            found = vec![Finding::new(&INTERNAL_ERROR, Span::new(FileId(0), 0, 0), message)];
        }
        found
    });
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    static BROKEN: Rule = Rule {
        info: RuleInfo { name: "broken", code: "RP999", ..INTERNAL_ERROR },
        check: |_, found| {
            found.push(Finding::new(&INTERNAL_ERROR, Span::new(FileId(0), 0, 0), "half of what it wanted to say"));
            panic!("a bug of ours");
        },
    };

    #[test]
    fn a_rule_that_panics_is_one_finding_and_hides_no_other() {
        let mut files = facts::Files::default();
        let text = "import threading\nn = 0\ndef add():\n    global n\n    n += 1\n\
                    for _ in range(2):\n    threading.Thread(target=add).start()\n";
        files.add("main.py", text);
        let options = Options { select: Some(vec!["broken", "unlocked-increment"]), ..Options::default() };
        let checked = crate::check_with(&[&BROKEN, &unlocked_increment::RULE], &files, &options);
        let found: Vec<_> =
            checked.findings.iter().map(|finding| (finding.rule.name, finding.message.as_str())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], ("internal-error", "the rule `broken` failed; please report it"));
        assert_eq!(found[1].0, "unlocked-increment");
    }
}
