//! What is said between `raceproof prove` and its child, and to tools: JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of the report's form.
const SCHEMA: u32 = 1;

/// A function of a file, named absolutely.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    /// The path.
    pub file: String,
    /// The qualified name.
    pub function: String,
}

/// Lines of a file, named absolutely.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    /// The path.
    pub file: String,
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// One of those that run at once.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// From the access outwards.
    pub functions: Vec<Function>,
    /// Where it has to arrive, at one of these.
    pub lines: Vec<Lines>,
    /// Is it a task of an event loop?
    pub is_task: bool,
}

/// What a child is asked: about one state of the program, from which it is imported once.
#[derive(Debug, Serialize)]
pub struct Batch {
    /// One after the other, each in a process of its own.
    pub questions: Vec<Question>,
    /// The files to import.
    pub files: Vec<String>,
    /// The folder that all files of the program are in.
    pub root: String,
    /// Texts that take the place of files.
    pub overlay: BTreeMap<String, String>,
    /// The most runs of an exploration.
    pub max_runs: u64,
    /// Seconds for each.
    pub time_limit: u64,
    /// Megabytes for each.
    pub memory_limit: u64,
    /// Seconds for all; what is not begun by then is left out.
    pub seconds_left: Option<u64>,
}

impl Batch {
    /// As it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always have a JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is asked of one finding.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Question {
    /// Those that run at once.
    pub sides: Vec<Side>,
    /// Those of which each may do it by itself.
    pub alone: Vec<Side>,
    /// Where the first call raises.
    pub fault: Option<Lines>,
    /// What else uses this may be one of the calls; may be empty.
    pub used: String,
    /// The state, as it is spelled; may be empty.
    pub place: String,
    /// Where it is spelled so.
    pub place_file: String,
    /// Words of `prove::Expects`: the first that some schedule breaks.
    pub expects: Vec<String>,
    /// The scenario, where it is known from an earlier answer.
    pub case: Option<Value>,
    /// What failed there.
    pub reason: Option<String>,
    /// The folder for which a test is to be written; empty if none is.
    pub folder: String,
    /// What the test says of itself.
    pub title: String,
    /// The identity of the finding.
    pub fingerprint: String,
}

/// A line of what a child answers.
#[derive(Debug, Deserialize)]
pub struct Answered {
    /// The question, counted from zero.
    pub number: usize,
    /// What came of it.
    pub answer: Answer,
}

/// What a child answers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Answer {
    /// `failed`, `proved`, `nothing_found` or `gave_up`.
    pub verdict: String,
    /// What failed, or why nothing can be said.
    pub reason: Option<String>,
    /// Does it fail for another reason than the finding? With its fix: is the failure gone, and another one left?
    pub is_elsewhere: bool,
    /// Scenarios that were explored.
    pub scenarios: u64,
    /// Runs of all of them.
    pub runs: u64,
    /// What else has to be known, such as what was stubbed.
    pub notes: Vec<String>,
    /// The scenario in words.
    pub words: Option<String>,
    /// The scenario, to be asked for again.
    pub case: Option<Value>,
    /// The kind of the failure.
    pub kind: Option<String>,
    /// How the threads got into each other's way.
    pub pattern: Option<String>,
    /// The shortest schedule that fails.
    pub schedule: Option<String>,
    /// The run that fails, a column per thread.
    pub explanation: Option<String>,
    /// The lines whose order decides, in words.
    pub decisive: Option<String>,
    /// The same, step by step.
    pub steps: Option<Value>,
    /// How far the verdict reaches.
    pub certificate: Option<Value>,
    /// The text of the test; not part of reports.
    #[serde(skip_serializing)]
    pub test: Option<String>,
}

impl Answer {
    /// There is no answer, for this reason.
    #[must_use]
    pub fn gave_up(reason: impl Into<String>) -> Self {
        Self { verdict: "gave_up".to_owned(), reason: Some(reason.into()), ..Self::default() }
    }

    /// Has its failure come again? Another one counts for nothing.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.verdict == "failed" && !self.is_elsewhere
    }
}

/// What came of the fix of a finding.
#[derive(Clone, Debug, Serialize)]
pub struct AfterFix {
    /// `safe` or `unsafe`.
    pub safety: &'static str,
    /// What the same scenario came to.
    #[serde(flatten)]
    pub answer: Answer,
}

/// A finding, and what came of its scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The name of the rule.
    pub rule: &'static str,
    /// Its code.
    pub code: &'static str,
    /// Where: the path as it is shown.
    pub path: String,
    /// Where: the line.
    pub line: u32,
    /// The function.
    pub symbol: String,
    /// The state.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// The identity of the finding.
    pub fingerprint: String,
    /// How sure we are now.
    pub confidence: &'static str,
    /// Were we surer before its scenario was exhausted?
    pub is_demoted: bool,
    /// The verdict and all that goes with it.
    #[serde(flatten)]
    pub answer: Answer,
    /// The test that was written.
    pub test_path: Option<String>,
    /// The same scenario with the fix applied; none if there is no fix or the scenario did not fail.
    pub after_fix: Option<AfterFix>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    tool: &'static str,
    findings: &'a [Proof],
}

/// The report for tools.
#[must_use]
pub fn report(proofs: &[Proof]) -> String {
    let report = Report { schema: SCHEMA, tool: "raceproof prove", findings: proofs };
    // As above.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}
