//! The figures of a page: how many findings of which severity, of which rule, and how many can be repaired.
//!
//! Only what is shown is counted.

use facts::{Finding, RuleInfo, Safety, Severity};

/// The figures of a list of findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub errors: usize,
    pub warnings: usize,
    pub infos: usize,
    /// Findings with a fix that may be applied unasked.
    pub fixes_safe: usize,
    /// Findings with a fix that a person should look at.
    pub fixes_unsafe: usize,
}

impl Counts {
    pub(crate) fn of(findings: &[Finding]) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            match finding.rule.severity {
                Severity::Error => counts.errors += 1,
                Severity::Warning => counts.warnings += 1,
                Severity::Info => counts.infos += 1,
            }
            match finding.fix.as_ref().map(|fix| fix.safety) {
                Some(Safety::Safe) => counts.fixes_safe += 1,
                Some(Safety::Unsafe) => counts.fixes_unsafe += 1,
                None => {}
            }
        }
        counts
    }
}

/// The rules that have findings, with how many: the worst severity first, then by count, then by name.
pub(crate) fn by_rule(findings: &[Finding]) -> Vec<(&'static RuleInfo, usize)> {
    let mut rules: Vec<(&'static RuleInfo, usize)> = Vec::new();
    for finding in findings {
        match rules.iter_mut().find(|(rule, _)| rule.name == finding.rule.name) {
            Some((_, n)) => *n += 1,
            None => rules.push((finding.rule, 1)),
        }
    }
    rules.sort_by(|(a, n_a), (b, n_b)| (b.severity, n_b).cmp(&(a.severity, n_a)).then_with(|| a.name.cmp(b.name)));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn the_worst_rule_comes_first() {
        let sample = Sample::new();
        let names: Vec<_> = by_rule(&sample.findings).into_iter().map(|(rule, n)| (rule.name, n)).collect();
        assert_eq!(
            names,
            [("unlocked-increment", 2), ("lock-order-inversion", 1), ("check-then-act", 1), ("no-shutdown", 1)]
        );
    }

    #[test]
    fn severities_and_fixes_are_counted() {
        let counts = Counts::of(&Sample::new().findings);
        let expected = Counts { errors: 3, warnings: 1, infos: 1, fixes_safe: 2, fixes_unsafe: 1 };
        assert_eq!(counts, expected);
    }
}
