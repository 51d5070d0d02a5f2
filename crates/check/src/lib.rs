//! The static side: texts in, findings out. Reads no file, clock or environment, and never executes what it reads.

use facts::{Files, Finding, RuleInfo, Runtime};

/// What a run is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The runtime that the code is meant for.
    pub runtime: Runtime,
    /// Names of the rules to run; `None` runs those that are on by default.
    pub select: Option<Vec<&'static str>>,
    /// Classes (`Name` or `module.Name`) whose instances are shared between threads though nothing in the texts
    /// shows it.
    pub shared: Vec<String>,
}

/// Checks a set of files. Never fails: a file that does not parse becomes a finding.
///
/// Findings are sorted by path, position and rule, and carry their fingerprints.
#[must_use]
pub fn check(_files: &Files, _options: &Options) -> Vec<Finding> {
    Vec::new()
}

/// All rules, sorted by code.
pub fn rules() -> impl Iterator<Item = &'static RuleInfo> {
    std::iter::empty()
}

/// The finding for a file whose text could not be had (`reason`: lower case, no full stop). `file` has an empty text.
#[must_use]
pub fn unreadable(_file: facts::FileId, _reason: &str) -> Finding {
    unimplemented!()
}

/// Why `text` does not parse as Python; `None` if it does.
#[must_use]
pub fn syntax_error(_text: &str) -> Option<String> {
    None
}
