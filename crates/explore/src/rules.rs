//! The rule of what an exploration has seen to fail.

use facts::{RuleInfo, Severity};

/// A schedule makes the scenario fail.
pub static OBSERVED_FAILURE: RuleInfo = RuleInfo {
    name: "observed-failure",
    code: "RP901",
    severity: Severity::Error,
    summary: "a schedule of the threads makes the scenario fail",
    docs: include_str!("rules/observed_failure.md"),
    on_by_default: true,
};

#[cfg(test)]
mod tests {
    use super::OBSERVED_FAILURE;

    #[test]
    fn the_page_names_its_rule() {
        let title = format!("# {} ({})\n", OBSERVED_FAILURE.name, OBSERVED_FAILURE.code);
        assert!(OBSERVED_FAILURE.docs.starts_with(&title));
    }
}
