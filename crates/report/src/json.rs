//! Findings for tools: the contract of raceproof itself (DESIGN section 8).
//!
//! It promises that a field is never renamed or dropped without a new number of the schema; fields may be added.
//! Lines and columns count from 1, columns in characters.

use facts::{Evidence, Files, Finding};
use serde::Serialize;

use crate::Page;

/// The number of the contract.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    tool: Tool<'a>,
    runtime: &'a str,
    findings: Vec<Item<'a>>,
    /// Where the analysis stopped looking; left out where it did not.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    limits: &'a [String],
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Item<'a> {
    rule: &'a str,
    code: &'a str,
    severity: &'a str,
    confidence: &'a str,
    path: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    symbol: &'a str,
    place: &'a str,
    message: &'a str,
    related: Vec<Related<'a>>,
    fingerprint: String,
    fix: Option<&'a str>,
    evidence: Why<'a>,
}

#[derive(Serialize)]
struct Related<'a> {
    path: &'a str,
    line: u32,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Why<'a> {
    Possible {
        paths: Vec<Side<'a>>,
        overlap: &'a str,
        vote: Option<Vote<'a>>,
        order: &'a [String],
    },
    Observed {
        pattern: &'a str,
        threads: &'a [String],
        steps: Vec<SeenStep<'a>>,
        ending: &'a str,
        remedy: &'a str,
        schedule: &'a str,
    },
}

#[derive(Serialize)]
struct SeenStep<'a> {
    thread: usize,
    text: &'a str,
    path: &'a str,
    line: u32,
    decides: bool,
}

#[derive(Serialize)]
struct Side<'a> {
    thread: &'a str,
    calls: Vec<Call<'a>>,
    locks: &'a [String],
    action: &'a str,
    path: &'a str,
    line: u32,
}

#[derive(Serialize)]
struct Call<'a> {
    function: &'a str,
    path: &'a str,
    line: u32,
}

#[derive(Serialize)]
struct Vote<'a> {
    lock: &'a str,
    with: u32,
    without: u32,
}

pub(crate) fn render(page: &Page<'_>) -> String {
    let report = Report {
        schema: SCHEMA,
        tool: Tool { name: "raceproof", version: page.version },
        runtime: page.runtime.as_str(),
        findings: page.findings.iter().map(|finding| item(page.files, finding)).collect(),
        limits: &page.summary.limits,
    };
    let mut json = serde_json::to_string_pretty(&report).expect("text and numbers only");
    json.push('\n');
    json
}

fn item<'a>(files: &'a Files, finding: &'a Finding) -> Item<'a> {
    let start = files.start(finding.span);
    let related = finding.related.iter().map(|related| Related {
        path: &files.get(related.span.file).path,
        line: files.start(related.span).line,
        message: &related.message,
    });
    Item {
        rule: finding.rule.name,
        code: finding.rule.code,
        severity: finding.rule.severity.as_str(),
        confidence: finding.confidence.as_str(),
        path: &files.get(finding.span.file).path,
        line: start.line,
        column: start.column,
        end_line: files.end(finding.span).line,
        symbol: &finding.symbol,
        place: &finding.place,
        message: &finding.message,
        related: related.collect(),
        fingerprint: finding.fingerprint.to_string(),
        fix: finding.fix.as_ref().map(|fix| fix.safety.as_str()),
        evidence: why(files, &finding.evidence),
    }
}

fn why<'a>(files: &'a Files, evidence: &'a Evidence) -> Why<'a> {
    let (paths, overlap, vote, order) = match evidence {
        Evidence::Possible { paths, overlap, vote, order } => (paths, overlap, vote, order),
        Evidence::Observed { pattern, threads, steps, ending, remedy, schedule } => {
            let seen = steps.iter().map(|step| SeenStep {
                thread: step.thread,
                text: &step.text,
                path: &files.get(step.span.file).path,
                line: files.start(step.span).line,
                decides: step.decides,
            });
            return Why::Observed { pattern, threads, steps: seen.collect(), ending, remedy, schedule };
        }
    };
    let sides = paths.iter().map(|path| Side {
        thread: &path.thread,
        calls: path
            .calls
            .iter()
            .map(|call| Call {
                function: &call.function,
                path: &files.get(call.span.file).path,
                line: files.start(call.span).line,
            })
            .collect(),
        locks: &path.locks,
        action: &path.action,
        path: &files.get(path.span.file).path,
        line: files.start(path.span).line,
    });
    let vote = vote.as_ref().map(|vote| Vote { lock: &vote.lock, with: vote.with, without: vote.without });
    Why::Possible { paths: sides.collect(), overlap, vote, order }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sample::Sample;

    fn shown(sample: &Sample) -> Value {
        serde_json::from_str(&render(&sample.page())).unwrap()
    }

    #[test]
    fn a_finding_says_all_that_the_contract_names() {
        let report = shown(&Sample::new());
        assert_eq!(
            report["findings"][0],
            json!({
                "rule": "unlocked-increment",
                "code": "RP201",
                "severity": "error",
                "confidence": "high",
                "path": "app/cache.py",
                "line": 10,
                "column": 9,
                "end_line": 10,
                "symbol": "Cache.get",
                "place": "self._hits",
                "message": "`self._hits` is read and written back without a lock",
                "related": [
                    {"path": "app/cache.py", "line": 6, "message": "other accesses hold this lock"},
                    {"path": "app/worker.py", "line": 12, "message": "two threads are started here"},
                ],
                "fingerprint": "07645e7f3fc06f20",
                "fix": "safe",
                "evidence": {
                    "kind": "possible",
                    "paths": [
                        {
                            "thread": "a thread that runs `run`",
                            "calls": [
                                {"function": "run", "path": "app/worker.py", "line": 7},
                                {"function": "Cache.get", "path": "app/worker.py", "line": 8},
                            ],
                            "locks": [],
                            "action": "updates `self._hits`",
                            "path": "app/cache.py",
                            "line": 10,
                        },
                        {
                            "thread": "any caller of `Cache`",
                            "calls": [{"function": "Cache.reset", "path": "app/cache.py", "line": 13}],
                            "locks": ["self._lock"],
                            "action": "writes `self._hits`",
                            "path": "app/cache.py",
                            "line": 15,
                        },
                    ],
                    "overlap": "`run` is started twice and never joined",
                    "vote": {"lock": "self._lock", "with": 5, "without": 1},
                    "order": [
                        "thread 1 reads `self._hits` (0)",
                        "thread 2 reads `self._hits` (0)",
                        "both write 1: one update is lost",
                    ],
                },
            })
        );
    }

    #[test]
    fn what_is_absent_is_null_or_empty() {
        let report = shown(&Sample::new());
        let info = &report["findings"][3];
        assert_eq!(info["fix"], Value::Null);
        assert_eq!(info["symbol"], "");
        let none = json!({"kind": "possible", "paths": [], "overlap": "", "vote": null, "order": []});
        assert_eq!(info["evidence"], none);
        assert_eq!(report["findings"][1]["fix"], "unsafe");
        assert_eq!(report["findings"][1]["column"], 5, "characters, not bytes");
    }

    #[test]
    fn the_head_is_there_without_findings() {
        let head = json!({
            "schema": 1,
            "tool": {"name": "raceproof", "version": "0.1.0"},
            "runtime": "free-threaded",
            "findings": [],
        });
        assert_eq!(shown(&Sample::empty()), head);
    }
}
