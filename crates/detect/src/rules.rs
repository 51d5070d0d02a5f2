//! The rules that only a run can breach. What can be said of a text as well has its rule in `check`.

use facts::{RuleInfo, Severity};

/// Two threads write, and nothing orders them.
pub static WRITES: RuleInfo = RuleInfo {
    name: "unordered-writes",
    code: "RP911",
    severity: Severity::Warning,
    summary: "two threads write the same state and nothing orders them",
    docs: include_str!("rules/unordered_writes.md"),
    on_by_default: true,
};

/// One thread writes and another reads, and nothing orders them.
pub static READ: RuleInfo = RuleInfo {
    name: "unordered-read",
    code: "RP912",
    severity: Severity::Info,
    summary: "state is read while another thread may write it",
    docs: include_str!("rules/unordered_read.md"),
    on_by_default: true,
};

/// All of them.
pub static ALL: [&RuleInfo; 2] = [&WRITES, &READ];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_their_rule() {
        for rule in ALL {
            assert!(rule.docs.starts_with(&format!("# {} ({})\n", rule.name, rule.code)));
        }
    }
}
