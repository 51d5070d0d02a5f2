//! What a rule is to a reader: plain, static data.

/// How bad a finding of the rule would be, if it is one. Confidence says how sure we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing breaks at once.
    Info,
    /// Breaks under load or on shutdown.
    Warning,
    /// Loses data, crashes or hangs.
    Error,
}

impl Severity {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A rule as people and tools see it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RuleInfo {
    /// What the rule forbids, in lower case with dashes; the identity of the rule.
    pub name: &'static str,
    /// A short alias, `RP` and three digits; never reused.
    pub code: &'static str,
    /// How bad a breach is.
    pub severity: Severity,
    /// One line, lower case, no full stop.
    pub summary: &'static str,
    /// The page: documentation, output of `explain`, and test.
    pub docs: &'static str,
    /// Is the rule on without being selected?
    pub on_by_default: bool,
}
