//! The baseline: findings that a project knows and has put off, so that only new ones fail its build.
//!
//! A finding is known by its fingerprint, which holds no line number; the rest of an entry is there for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use facts::{Files, Finding};
use serde::{Deserialize, Serialize};

use crate::discover::reason;
use crate::error::Error;
use crate::replace::replace;

/// The shape of the file; one that is newer is refused, not guessed at.
const SCHEMA: u32 = 1;

/// The name used where none is given.
pub const DEFAULT_NAME: &str = "raceproof-baseline.json";

/// The findings that are hidden.
#[derive(Debug, Default)]
pub struct Baseline {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: u32,
    findings: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    path: String,
    rule: String,
    symbol: String,
    place: String,
    fingerprint: String,
}

/// What a baseline did to a list of findings.
#[derive(Debug)]
pub struct Split {
    /// Not in the baseline.
    pub new: Vec<Finding>,
    /// How many were hidden.
    pub hidden: usize,
    /// Entries whose finding no longer occurs, as a line each.
    pub gone: Vec<String>,
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// If it is not there, or is no baseline.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|cause| {
            Error::new(format!("cannot read the baseline `{shown}`"))
                .because(reason(&cause))
                .help("write it with `raceproof check --write-baseline`")
        })?;
        let document: Document = serde_json::from_str(&text)
            .map_err(|cause| Error::new(format!("`{shown}` is no baseline")).because(cause))?;
        if document.schema != SCHEMA {
            return Err(Error::new(format!(
                "`{shown}` has schema {}, and this raceproof reads schema {SCHEMA}",
                document.schema
            ))
            .help("write it again with `--write-baseline`"));
        }
        let entries = document.findings.into_iter();
        Ok(Self { entries: entries.map(|entry| (entry.fingerprint.clone(), entry)).collect() })
    }

    /// Parts the findings that are new from those that are known. Entries of files outside this run (`looked_at`
    /// says) are not called gone: nobody looked.
    #[must_use]
    pub fn split(&self, findings: Vec<Finding>, looked_at: impl Fn(&str) -> bool) -> Split {
        let present: BTreeSet<String> = findings.iter().map(|finding| finding.fingerprint.to_string()).collect();
        let before = findings.len();
        let new: Vec<Finding> = findings
            .into_iter()
            .filter(|finding| !self.entries.contains_key(&finding.fingerprint.to_string()))
            .collect();
        let mut gone: Vec<&Entry> = self
            .entries
            .values()
            .filter(|entry| !present.contains(&entry.fingerprint) && looked_at(&entry.path))
            .collect();
        gone.sort();
        Split { hidden: before - new.len(), new, gone: gone.into_iter().map(Entry::line).collect() }
    }
}

impl Entry {
    fn line(&self) -> String {
        let Self { path, rule, place, .. } = self;
        match (self.symbol.is_empty(), place.is_empty()) {
            (true, true) => format!("{path} [{rule}]"),
            (true, false) => format!("{path} [{rule}] `{place}`"),
            (false, true) => format!("{path} [{rule}] in `{}`", self.symbol),
            (false, false) => format!("{path} [{rule}] `{place}` in `{}`", self.symbol),
        }
    }
}

/// Writes all findings to a baseline, sorted, replacing the file in one step.
///
/// # Errors
/// If the file cannot be written.
pub fn write(file: &Path, findings: &[Finding], files: &Files) -> Result<(), Error> {
    let mut entries: Vec<Entry> = findings
        .iter()
        .map(|finding| Entry {
            path: files.get(finding.span.file).path.clone(),
            rule: finding.rule.name.to_owned(),
            symbol: finding.symbol.clone(),
            place: finding.place.clone(),
            fingerprint: finding.fingerprint.to_string(),
        })
        .collect();
    entries.sort();
    entries.dedup();
    let document = Document { schema: SCHEMA, findings: entries };
    let failed = |cause: &dyn std::fmt::Display| {
        Error::new(format!("cannot write the baseline `{}`", file.display())).because(cause)
    };
    let mut text = serde_json::to_string_pretty(&document).map_err(|cause| failed(&cause))?;
    text.push('\n');
    replace(file, text.as_bytes()).map_err(|cause| failed(&reason(&cause)))
}
