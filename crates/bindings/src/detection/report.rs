//! What was found, as findings that `report` can show: both sides with their stacks, what matters most in front.

use std::collections::HashMap;
use std::rc::Rc;

use detect::Stack;
use detect::judge::{self, Judged, Pattern, Site, Source};
use detect::memory::{Access, Relation};
use detect::order::Nested;
use detect::rules;
use facts::{CallStep, Confidence, Evidence, Files, Finding, Fingerprint, Path, RuleInfo, Runtime, Span};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use report::{Format, Page, Summary};

use super::{CONFLICTS_MAX, DETECTOR, INSTRUCTIONS_MAX};
use crate::exploration::report::Spans;
use crate::raw::watch::{deaths, stacks};

/// Adds the type and the function.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Report>()?;
    module.add_function(wrap_pyfunction!(conclude, module)?)
}

fn rule(pattern: Pattern) -> &'static RuleInfo {
    match pattern {
        Pattern::LostUpdate => rule_named("unlocked-increment"),
        Pattern::UnorderedWrites => &rules::WRITES,
        Pattern::CheckThenAct => rule_named("check-then-act"),
        Pattern::SplitSection => rule_named("split-critical-section"),
        Pattern::Iteration => rule_named("iteration-during-mutation"),
        Pattern::TornRead => rule_named("torn-read"),
        Pattern::UnorderedRead => &rules::READ,
    }
}

/// The rule of `check` that says the same of the text.
fn rule_named(name: &str) -> &'static RuleInfo {
    check::rules().find(|rule| rule.name == name).expect("a rule of check")
}

/// One call of a stack, in words.
struct Call {
    file: String,
    line: u32,
    function: String,
    /// The text of the instruction, such as `self.n`.
    text: String,
    is_seen: bool,
}

/// Asks Python what stacks are.
struct Teller<'py> {
    py: Python<'py>,
    tell: Bound<'py, PyAny>,
    stacks: HashMap<Stack, Rc<Vec<Call>>>,
}

impl Teller<'_> {
    /// The calls of a stack in code that is seen, the innermost first; all of them if none is.
    fn calls(&mut self, stack: Stack) -> PyResult<Rc<Vec<Call>>> {
        if let Some(calls) = self.stacks.get(&stack) {
            return Ok(calls.clone());
        }
        let mut calls = Vec::new();
        for (code, offset) in stacks::calls(self.py, stack) {
            let (file, line, function, text, is_seen) = self.tell.call1((code, offset))?.extract()?;
            calls.push(Call { file, line, function, text, is_seen });
        }
        if calls.iter().any(|call| call.is_seen) {
            calls.retain(|call| call.is_seen);
        }
        let calls = Rc::new(calls);
        self.stacks.insert(stack, calls.clone());
        Ok(calls)
    }

    fn text(&mut self, stack: Stack) -> PyResult<String> {
        Ok(self.calls(stack)?.first().map_or_else(String::new, |call| call.text.clone()))
    }

    /// Where a lock was made.
    fn lock(&mut self, id: u32) -> PyResult<String> {
        let made = DETECTOR.locks.lock().get(&id).copied().unwrap_or(0);
        Ok(match self.calls(made)?.first() {
            Some(call) => format!("the lock made at {}:{}", short(&call.file), call.line),
            None => "a lock made before the detector began".to_owned(),
        })
    }
}

/// The last part of a path.
fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn thread_name(thread: u32) -> String {
    let names = DETECTOR.threads.lock();
    names.get(&thread).map_or_else(|| format!("thread {thread}"), |name| format!("`{name}`"))
}

/// Builds findings.
struct Builder<'a, 'py> {
    teller: Teller<'py>,
    spans: Spans<'a>,
}

impl Builder<'_, '_> {
    fn span(&mut self, stack: Stack) -> PyResult<Span> {
        let calls = self.teller.calls(stack)?;
        Ok(match calls.first() {
            Some(call) => self.spans.of(&call.file, call.line),
            None => self.spans.of("", 0),
        })
    }

    /// How a thread came there.
    fn path(&mut self, thread: u32, stack: Stack, locks: &[u32], action: String) -> PyResult<Path> {
        let calls = self.teller.calls(stack)?;
        let mut steps = Vec::new();
        for call in calls.iter().rev() {
            steps.push(CallStep { function: call.function.clone(), span: self.spans.of(&call.file, call.line) });
        }
        let mut named = Vec::new();
        for id in locks {
            named.push(self.teller.lock(*id)?);
        }
        Ok(Path { thread: thread_name(thread), calls: steps, locks: named, span: self.span(stack)?, action })
    }

    fn side(&mut self, access: &Access) -> PyResult<Path> {
        let text = self.teller.text(access.stack)?;
        let verb = match access.traits {
            traits if traits.writes && traits.is_one_step => "changes in",
            traits if traits.writes => "writes",
            traits if traits.iterates => "goes over",
            _ => "reads",
        };
        let locks = DETECTOR.memory.lock_sets.set(access.locks);
        self.path(access.thread, access.stack, &locks, format!("{verb} `{text}`"))
    }

    fn finding(&mut self, judged: &Judged) -> PyResult<Finding> {
        let (now, before) = (judged.conflict.now, judged.conflict.before);
        let mine = judged.pair.map_or(now, |(access, _)| access);
        let other = if mine == now { before } else { now };
        let text = self.teller.text(mine.stack)?;
        let place = match &judged.parts[..] {
            parts if parts.iter().all(|part| !part.is_empty() && !part.starts_with('[')) => {
                parts.iter().map(|part| format!("{}.{part}", judged.owner)).collect::<Vec<_>>().join(", ")
            }
            _ => text.clone(),
        };
        let rule = rule(judged.pattern);
        let (span, calls) = (self.span(mine.stack)?, self.teller.calls(mine.stack)?);
        let symbol = calls.first().map_or_else(String::new, |call| call.function.clone());
        let file = calls.first().map_or("", |call| &call.file);
        let paths = vec![self.side(&mine)?, self.side(&other)?];
        let order = self.order(judged, &mine, &other)?;
        let overlap = match judged.conflict.relation {
            Relation::Unordered => "in this run no lock, start, join or message orders the two",
            Relation::Between => "in this run the other thread wrote between the read and the write",
            Relation::Split => "a lock orders the two in this run, but it is free between the read and the write",
        };
        let evidence = Evidence::Possible { paths, overlap: overlap.to_owned(), vote: None, order };
        let mut finding = Finding::new(rule, span, message(judged.pattern, &place))
            .on(place.clone())
            .within(symbol.clone())
            .confidence(confidence(judged))
            .because(evidence);
        if let Some((_, read)) = judged.pair {
            finding = finding.also(self.span(read)?, "read here");
        }
        finding.fingerprint = Fingerprint::of(&[rule.code, short(file), &symbol, &place]);
        Ok(finding)
    }

    /// One bad order, for those patterns that have one.
    fn order(&mut self, judged: &Judged, mine: &Access, other: &Access) -> PyResult<Vec<String>> {
        let Some((_, read)) = judged.pair else { return Ok(Vec::new()) };
        let at = |builder: &mut Self, stack| -> PyResult<String> {
            let calls = builder.teller.calls(stack)?;
            Ok(calls.first().map_or_else(String::new, |call| format!("`{}` in line {}", call.text, call.line)))
        };
        let (one, two) = (thread_name(mine.thread), thread_name(other.thread));
        let ending = match judged.pattern {
            Pattern::LostUpdate => "what the other thread wrote is lost",
            _ => "although it is no longer so",
        };
        let meanwhile = match other.traits.writes {
            true => format!("{two} writes {}", at(self, other.stack)?),
            false => format!("{two} makes the same test, and goes on in the same way"),
        };
        Ok(vec![
            format!("{one} reads {}", at(self, read)?),
            meanwhile,
            format!("{one} writes {}: {ending}", at(self, mine.stack)?),
        ])
    }

    /// A circle of locks.
    fn circle(&mut self, circle: &[Nested]) -> PyResult<Finding> {
        let mut paths = Vec::new();
        for step in circle {
            let inner = self.teller.text(step.inner_stack)?;
            let action = format!("takes `{inner}` ({})", self.teller.lock(step.inner.id)?);
            paths.push(self.path(step.thread, step.inner_stack, &[step.outer.id], action)?);
        }
        let span = self.span(circle[0].inner_stack)?;
        let calls = self.teller.calls(circle[0].inner_stack)?;
        let symbol = calls.first().map_or_else(String::new, |call| call.function.clone());
        let file = calls.first().map_or("", |call| &call.file);
        let rule = rule_named("lock-order-inversion");
        let place = self.teller.text(circle[0].inner_stack)?;
        let n = circle.len();
        let message = format!("{n} threads take {n} locks in a circle: each may wait for the next for ever");
        let overlap = "no start, join, message or other lock keeps the threads apart".to_owned();
        let evidence = Evidence::Possible { paths, overlap, vote: None, order: Vec::new() };
        let mut finding = Finding::new(rule, span, message)
            .on(place.clone())
            .within(symbol.clone())
            .confidence(Confidence::High)
            .because(evidence);
        for step in circle {
            finding = finding.also(self.span(step.outer_stack)?, "the lock that is held is taken here");
        }
        finding.fingerprint = Fingerprint::of(&[rule.code, short(file), &symbol, &place]);
        Ok(finding)
    }

    /// A thread that waits for a lock that it holds.
    fn wait(&mut self, thread: u32, (held, waits): (Stack, Stack)) -> PyResult<Finding> {
        let rule = rule_named("self-deadlock");
        let span = self.span(waits)?;
        let path = self.path(thread, waits, &[], "waits for the lock that it holds".to_owned())?;
        let symbol = path.calls.last().map_or_else(String::new, |call| call.function.clone());
        let place = self.teller.text(waits)?;
        let evidence = Evidence::Possible { paths: vec![path], overlap: String::new(), vote: None, order: Vec::new() };
        let mut finding = Finding::new(rule, span, format!("{} waits for a lock that it holds", thread_name(thread)))
            .on(place.clone())
            .within(symbol.clone())
            .confidence(Confidence::High)
            .because(evidence)
            .also(self.span(held)?, "taken here");
        finding.fingerprint = Fingerprint::of(&[rule.code, &symbol, &place]);
        Ok(finding)
    }
}

fn message(pattern: Pattern, place: &str) -> String {
    match pattern {
        Pattern::LostUpdate => {
            format!("`{place}` is read and written back, and another thread can write it in between")
        }
        Pattern::UnorderedWrites => format!("two threads write `{place}`, and chance says whose value stays"),
        Pattern::CheckThenAct => {
            format!("`{place}` is tested and then changed, and another thread can change it in between")
        }
        Pattern::SplitSection => {
            format!("`{place}` is read under a lock and written under it later, and the lock is free in between")
        }
        Pattern::Iteration => format!("`{place}` is gone over while another thread changes its size"),
        Pattern::TornRead => format!("`{place}` are written together and read apart: the values may not fit"),
        Pattern::UnorderedRead => format!("`{place}` is read while another thread may write it"),
    }
}

fn confidence(judged: &Judged) -> Confidence {
    match (judged.pattern, judged.conflict.relation) {
        (Pattern::UnorderedRead, _) => Confidence::Low,
        (Pattern::UnorderedWrites | Pattern::TornRead, _) | (_, Relation::Split) => Confidence::Medium,
        _ => Confidence::High,
    }
}

/// What came of a run.
#[pyclass(frozen, module = "raceproof.detect")]
pub struct Report {
    files: Files,
    findings: Vec<Finding>,
    limits: Vec<String>,
}

/// Puts what was found in words. `tell(code, offset)` gives file, line, function, text, and whether the code is seen;
/// `branches(code, first, last)` says whether there is a branch between two instructions.
#[pyfunction]
fn conclude(py: Python<'_>, tell: Bound<'_, PyAny>, branches: Bound<'_, PyAny>) -> PyResult<Report> {
    let raced = DETECTOR.found.lock().raced.clone();
    let mut failure = None;
    let failed = std::cell::RefCell::new(&mut failure);
    let has_branch = |function: u64, first: u32, last: u32| {
        let Some(code) = stacks::code(py, function) else { return true };
        let answer = branches.call1((code, first, last)).and_then(|answer| answer.is_truthy());
        answer.unwrap_or_else(|cause| {
            **failed.borrow_mut() = Some(cause);
            true
        })
    };
    let site = |stack| stacks::innermost(stack).map(|(code, offset)| Site { function: code as u64, offset });
    let judged = judge::judge(&raced, &Source { site: &site, branches: &has_branch });
    if let Some(cause) = failure {
        return Err(cause);
    }
    let mut files = Files::default();
    let mut findings = Vec::new();
    {
        let teller = Teller { py, tell, stacks: HashMap::new() };
        let mut builder = Builder { teller, spans: Spans::new(&mut files) };
        let waits: Vec<_> = DETECTOR.waits.lock().iter().map(|(thread, stacks)| (*thread, *stacks)).collect();
        for (thread, stacks) in waits {
            findings.push(builder.wait(thread, stacks)?);
        }
        for circle in DETECTOR.order.circles(&DETECTOR.memory.lock_sets) {
            findings.push(builder.circle(&circle)?);
        }
        for judged in &judged {
            findings.push(builder.finding(judged)?);
        }
    }
    let mut limits = Vec::new();
    if DETECTOR.found.lock().is_full {
        limits.push(format!("more than {CONFLICTS_MAX} conflicts, of which the later ones were not kept"));
    }
    if DETECTOR.found.lock().has_long_code {
        limits.push(format!(
            "a function with more than {INSTRUCTIONS_MAX} instructions, of which the later ones were not watched"
        ));
    }
    if DETECTOR.memory.is_full() {
        limits.push("so many variables that not all of them were watched".to_owned());
    }
    if !deaths::is_listening() {
        limits
            .push("something else asked which objects die (tracemalloc does): some may be taken for others".to_owned());
    }
    Ok(Report { files, findings, limits })
}

#[pymethods]
impl Report {
    /// How many findings there are of this confidence at least (`low`, `medium` or `high`).
    #[pyo3(signature = (confidence = "medium"))]
    fn count(&self, confidence: &str) -> PyResult<usize> {
        let least = parse(confidence)?;
        Ok(self.findings.iter().filter(|finding| finding.confidence >= least).count())
    }

    /// The findings in short: rule, place, function, path, line and confidence.
    #[getter]
    fn findings(&self) -> Vec<(&'static str, String, String, String, u32, &'static str)> {
        let short = |finding: &Finding| {
            let path = self.files.get(finding.span.file).path.clone();
            let line = self.files.start(finding.span).line;
            let words = (finding.rule.name, finding.place.clone(), finding.symbol.clone());
            (words.0, words.1, words.2, path, line, finding.confidence.as_str())
        };
        self.findings.iter().map(short).collect()
    }

    /// The report in one of the formats of `raceproof check`.
    #[pyo3(signature = (format = "text", colour = false, confidence = "medium"))]
    fn render(&self, format: &str, colour: bool, confidence: &str) -> PyResult<String> {
        let format: Format =
            format.parse().map_err(|cause: report::UnknownFormat| PyValueError::new_err(cause.to_string()))?;
        let least = parse(confidence)?;
        let (shown, hidden): (Vec<_>, Vec<_>) =
            self.findings.iter().cloned().partition(|finding| finding.confidence >= least);
        let mut of_rules: Vec<&'static RuleInfo> = self.findings.iter().map(|finding| finding.rule).collect();
        of_rules.sort_by_key(|rule| rule.code);
        of_rules.dedup();
        let runtime = if cfg!(Py_GIL_DISABLED) { Runtime::FreeThreaded } else { Runtime::Gil };
        let summary =
            Summary { n_files: self.files.len(), n_hidden: hidden.len(), elapsed: None, limits: self.limits.clone() };
        let version = env!("CARGO_PKG_VERSION");
        let page = Page { files: &self.files, findings: &shown, rules: &of_rules, runtime, version, colour, summary };
        Ok(report::render(format, &page))
    }
}

fn parse(confidence: &str) -> PyResult<Confidence> {
    [Confidence::Low, Confidence::Medium, Confidence::High]
        .into_iter()
        .find(|known| known.as_str() == confidence)
        .ok_or_else(|| PyValueError::new_err(format!("no confidence `{confidence}`; they are low, medium and high")))
}
