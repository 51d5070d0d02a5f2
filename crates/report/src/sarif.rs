//! Findings as SARIF 2.1.0, for tools that collect the results of many analysers.
//!
//! Rules stand with their pages, each side of a finding is a thread flow, a fix is a list of replacements. Columns
//! count characters. Nothing is said about the invocation: command line, times and machine are not known here.

mod schema;

use std::collections::BTreeMap;
use std::fmt::Write;

use facts::{Confidence, Evidence, FileId, Files, Finding, Fix, ObservedStep, Path, RuleInfo, Severity, Span};

use self::schema::{
    ArtifactChange, ArtifactLocation, CodeFlow, Configuration, Descriptor, DescriptorProperties, Driver, Location, Log,
    LogicalLocation, Outcome, OutcomeProperties, PhysicalLocation, Region, Repair, RepairProperties, Replacement, Run,
    RunProperties, Text, ThreadFlow, ThreadFlowLocation, Tool,
};
use crate::{Page, words};

/// The name under which other tools find our fingerprint; the number changes with its definition.
const FINGERPRINT: &str = "raceproof/v1";

pub(crate) fn render(page: &Page<'_>) -> String {
    let mut rules = page.rules.to_vec();
    for finding in page.findings {
        if !rules.iter().any(|rule| rule.name == finding.rule.name) {
            rules.push(finding.rule);
        }
    }
    let index: BTreeMap<&str, usize> = rules.iter().enumerate().map(|(idx, rule)| (rule.name, idx)).collect();
    let results = page.findings.iter().map(|finding| outcome(page.files, finding, index[finding.rule.name])).collect();
    let driver =
        Driver { name: "raceproof", version: page.version, rules: rules.into_iter().map(descriptor).collect() };
    let run = Run {
        tool: Tool { driver },
        column_kind: "unicodeCodePoints",
        results,
        properties: RunProperties { runtime: page.runtime.as_str() },
    };
    let log = Log { schema: "https://json.schemastore.org/sarif-2.1.0.json", version: "2.1.0", runs: [run] };
    let mut json = serde_json::to_string_pretty(&log).expect("text and numbers only");
    json.push('\n');
    json
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn descriptor(rule: &RuleInfo) -> Descriptor<'_> {
    let problem_severity = match rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "recommendation",
    };
    Descriptor {
        id: rule.name,
        name: pascal_case(rule.name),
        short_description: Text::plain(rule.summary),
        // Viewers show the page; what they fall back to need not hold it a second time.
        help: Text { text: format!("raceproof explain {}", rule.name), markdown: Some(rule.docs) },
        default_configuration: Configuration { enabled: rule.on_by_default, level: level(rule.severity) },
        properties: DescriptorProperties { code: rule.code, tags: ["concurrency", "thread-safety"], problem_severity },
    }
}

/// `unlocked-increment` as `UnlockedIncrement`: the schema asks for a name that reads as an identifier.
fn pascal_case(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>())
    };
    name.split('-').filter_map(capital).collect()
}

fn outcome<'a>(files: &Files, finding: &'a Finding, rule_index: usize) -> Outcome<'a> {
    let mut main = location(files, finding.span, None);
    if !finding.symbol.is_empty() {
        let kind = if finding.symbol.contains('.') { "member" } else { "function" };
        main.logical_locations = vec![LogicalLocation { fully_qualified_name: &finding.symbol, kind }];
    }
    let related = finding.related.iter().enumerate().map(|(idx, related)| {
        let mut related = location(files, related.span, Some(related.message.clone()));
        related.id = Some(idx + 1);
        related
    });
    let (flows, overlap, vote, order) = match &finding.evidence {
        Evidence::Possible { paths, overlap, vote, order } => {
            let flows = paths.iter().enumerate().map(|(idx, path)| thread_flow(files, idx, path));
            (flows.collect(), overlap.as_str(), vote.as_ref(), order.as_slice())
        }
        Evidence::Observed { threads, steps, .. } => (seen_flows(files, threads, steps), "", None, [].as_slice()),
    };
    Outcome {
        rule_id: finding.rule.name,
        rule_index,
        level: level(finding.rule.severity),
        rank: match finding.confidence {
            Confidence::High => 90.0,
            Confidence::Medium => 60.0,
            Confidence::Low => 30.0,
        },
        message: Text::plain(&finding.message),
        locations: [main],
        related_locations: related.collect(),
        code_flows: if flows.is_empty() { Vec::new() } else { vec![CodeFlow { thread_flows: flows }] },
        partial_fingerprints: BTreeMap::from([(FINGERPRINT, finding.fingerprint.to_string())]),
        fixes: finding.fix.iter().filter_map(|fix| repair(files, fix)).collect(),
        properties: OutcomeProperties {
            confidence: finding.confidence.as_str(),
            place: &finding.place,
            symbol: &finding.symbol,
            overlap,
            vote: vote.map(words::vote),
            order,
            schedule: match &finding.evidence {
                Evidence::Observed { schedule, .. } => schedule,
                Evidence::Possible { .. } => "",
            },
        },
    }
}

fn thread_flow<'a>(files: &Files, idx: usize, path: &'a Path) -> ThreadFlow<'a> {
    let calls = path.calls.iter().enumerate().map(|(depth, call)| ThreadFlowLocation {
        location: location(files, call.span, Some(format!("enters `{}`", call.function))),
        nesting_level: depth,
        importance: "important",
        execution_order: None,
    });
    let action = format!("{}, {}", path.action, words::locks(&path.locks));
    let access = ThreadFlowLocation {
        location: location(files, path.span, Some(action)),
        nesting_level: path.calls.len(),
        importance: "essential",
        execution_order: None,
    };
    ThreadFlow {
        id: format!("side-{}", idx + 1),
        message: Text::plain(&path.thread),
        locations: calls.chain([access]).collect(),
    }
}

/// What was seen, a flow for each thread; the order of execution says how they were interleaved.
fn seen_flows<'a>(files: &Files, threads: &'a [String], steps: &'a [ObservedStep]) -> Vec<ThreadFlow<'a>> {
    let flow = |(thread, name): (usize, &'a String)| {
        let own = steps.iter().enumerate().filter(|(_, step)| step.thread == thread);
        let locations = own.map(|(order, step)| ThreadFlowLocation {
            location: location(files, step.span, Some(step.text.clone())),
            nesting_level: 0,
            importance: if step.decides { "essential" } else { "important" },
            execution_order: Some(order + 1),
        });
        ThreadFlow { id: format!("thread-{thread}"), message: Text::plain(name), locations: locations.collect() }
    };
    let flows = threads.iter().enumerate().map(flow);
    // The schema wants at least one location in a flow.
    flows.filter(|flow| !flow.locations.is_empty()).collect()
}

/// The fix as replacements; `None` without edits, since the schema wants at least one.
fn repair<'a>(files: &Files, fix: &'a Fix) -> Option<Repair<'a>> {
    let file = fix.edits.first()?.span.file;
    let replacements = fix.edits.iter().map(|edit| Replacement {
        deleted_region: region(files, edit.span),
        inserted_content: Text::plain(&edit.text),
    });
    Some(Repair {
        description: Text::plain(&fix.title),
        artifact_changes: [ArtifactChange {
            artifact_location: artifact(files, file),
            replacements: replacements.collect(),
        }],
        properties: RepairProperties { safety: fix.safety.as_str() },
    })
}

fn location<'a>(files: &Files, span: Span, message: Option<String>) -> Location<'a> {
    Location {
        id: None,
        physical_location: PhysicalLocation {
            artifact_location: artifact(files, span.file),
            region: region(files, span),
        },
        logical_locations: Vec::new(),
        message: message.map(Text::plain),
    }
}

/// The end is exclusive: the column after the last character.
fn region(files: &Files, span: Span) -> Region {
    let start = files.start(span);
    let end = files.get(span.file).position(span.end.max(span.start));
    Region { start_line: start.line, start_column: start.column, end_line: end.line, end_column: end.column }
}

fn artifact(files: &Files, file: FileId) -> ArtifactLocation {
    ArtifactLocation { uri: uri(&files.get(file).path) }
}

/// A path as a URI: relative paths stay relative, absolute ones (also `C:/...`) get the scheme `file`.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len() + 8);
    let path = path.strip_prefix("./").unwrap_or(path);
    let bytes = path.as_bytes();
    if path.starts_with('/') {
        uri.push_str("file://");
    } else if bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1..3] == *b":/" {
        write!(uri, "file:///{}:", &path[..1]).expect("text takes all");
        return uri + &percent_encoded(&path[2..]);
    }
    uri + &percent_encoded(path)
}

fn percent_encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("text takes all"),
        }
    }
    out
}

#[cfg(test)]
mod tests;
