//! The outcome of an exploration as Python sees it, and as a finding that `report` can show.

use std::path::Path;

use explore::judge::Failure;
use explore::operation::Operation;
use explore::outcome::{Outcome, Reason, Verdict};
use explore::rules::OBSERVED_FAILURE;
use explore::schedule::Labels;
use explore::strategy::Coverage;
use explore::trace::Step;
use facts::{Action, Confidence, FileId, Files, Finding, Fingerprint, ObservedStep, Runtime, Span};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use report::{Format, Page, Summary};

use super::session::{Session, Told};

/// Adds `Exploration`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Exploration>()
}

/// A step in words.
#[derive(Clone)]
struct Line {
    thread: usize,
    file: String,
    line: u32,
    text: String,
    decides: bool,
    is_own: bool,
}

/// What came of an exploration.
#[pyclass(frozen, module = "raceproof.testing")]
pub struct Exploration {
    outcome: Outcome,
    labels: Labels,
    lines: Vec<Line>,
    remedy: String,
    /// Names of which each is one place for all objects, and whether all containers are one place.
    coarse: (Vec<String>, bool),
    /// The code objects that it has come to, by their numbers.
    entered: Vec<u32>,
}

impl Exploration {
    /// Of an outcome, with what was noted of its steps.
    pub fn new(outcome: Outcome, told: &[Told], session: &Session) -> Exploration {
        let labels = session.explorer.as_ref().map(|explorer| explorer.labels().clone()).unwrap_or_default();
        let (coarse, entered) = (session.coarse(), session.entered.clone());
        let Some(explanation) = &outcome.explanation else {
            return Exploration { outcome, labels, lines: Vec::new(), remedy: String::new(), coarse, entered };
        };
        let steps = &explanation.trace.steps;
        let is_own = |idx: usize| {
            let site = steps.get(idx).and_then(|step| session.site_of_label(step.label));
            site.is_some_and(|site| site.origin.is_own)
        };
        let is_access = |idx: usize| steps.get(idx).is_some_and(|step| step.event.operation.is_access());
        // A pair in the user's code says more than one in a library, and accesses say more than locks.
        let rank = |pair: &&(usize, usize)| {
            let both = |is: &dyn Fn(usize) -> bool| is(pair.0) && is(pair.1);
            (!both(&is_own), !both(&is_access))
        };
        let decisive = explanation.decisive.iter().min_by_key(rank).copied();
        let decides = |idx: usize| decisive.is_some_and(|(a, b)| a == idx || b == idx);
        let words = |idx: usize, step: &Step| {
            let noted = told.iter().find(|told| told.step == idx);
            let thread = step.event.thread.idx();
            if let Some((text, file, line)) = noted.and_then(|noted| noted.note.clone()) {
                if text.is_empty() {
                    return None;
                }
                return Some(Line { thread, file, line, text, decides: decides(idx), is_own: true });
            }
            let origin = session.site_of_label(step.label).map(|site| &site.origin);
            let what = origin.map_or("?", |origin| &origin.text);
            let text = in_words(step, what, noted.and_then(|noted| noted.value.as_deref()))?;
            let (file, line) = origin.map_or((String::new(), 0), |origin| (origin.file.clone(), origin.line));
            let is_own = origin.is_some_and(|origin| origin.is_own) || is_between_threads(step);
            Some(Line { thread, file, line, text, decides: decides(idx), is_own })
        };
        let all: Vec<Option<Line>> = steps.iter().enumerate().map(|(idx, step)| words(idx, step)).collect();
        let named = |idx: usize| {
            let line = all.get(idx)?.as_ref()?;
            Some(format!("T{} {} (line {})", line.thread, line.text, line.line))
        };
        let remedy = decisive.and_then(|(a, b)| Some(format!("if \"{}\" came before \"{}\"", named(b)?, named(a)?)));
        // What libraries do between is left out, unless there is nothing else.
        let has_own = all.iter().flatten().any(|line| line.is_own);
        let is_told = |line: &&Line| line.is_own || line.decides || !has_own;
        let lines = all.iter().flatten().filter(is_told).cloned().collect();
        Exploration { lines, remedy: remedy.unwrap_or_default(), labels, outcome, coarse, entered }
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.outcome.verdict {
            Verdict::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    fn finding(&self, files: &mut Files) -> Option<Finding> {
        let failure = self.failure()?;
        let explanation = self.outcome.explanation.as_ref()?;
        let mut spans = Spans::new(files);
        let steps: Vec<ObservedStep> = self
            .lines
            .iter()
            .map(|line| ObservedStep {
                thread: line.thread,
                span: spans.of(&line.file, line.line),
                text: line.text.clone(),
                decides: line.decides,
            })
            .collect();
        let first = steps.iter().find(|step| step.decides).or(steps.last()).map(|step| step.span);
        let span = first.unwrap_or_else(|| spans.of("", 0));
        let n = explanation.trace.n_threads;
        let evidence = facts::Evidence::Observed {
            pattern: explanation.pattern.as_str().to_owned(),
            threads: (0..n).map(|thread| format!("T{thread}")).collect(),
            steps,
            ending: failure.to_string(),
            remedy: self.remedy.clone(),
            schedule: self.outcome.schedule.clone().unwrap_or_default(),
        };
        let message = format!("{}: {failure}", explanation.pattern.as_str());
        let mut finding = Finding::new(&OBSERVED_FAILURE, span, message).confidence(Confidence::High).because(evidence);
        finding.fingerprint = Fingerprint::of(&[OBSERVED_FAILURE.code, self.outcome.schedule.as_deref().unwrap_or("")]);
        Some(finding)
    }
}

/// Spans of lines in files that are read as they are needed; a file that cannot be read is empty.
pub struct Spans<'a> {
    files: &'a mut Files,
    known: Vec<(String, FileId)>,
}

impl<'a> Spans<'a> {
    /// In these files, to which those that are read are added.
    pub fn new(files: &'a mut Files) -> Spans<'a> {
        Spans { files, known: Vec::new() }
    }

    /// The line of a file.
    pub fn of(&mut self, path: &str, line: u32) -> Span {
        let idx = self.known.iter().position(|(known, _)| known == path).unwrap_or_else(|| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let shown = std::env::current_dir().ok().and_then(|here| {
                Path::new(path).strip_prefix(here).ok().map(|path| path.to_string_lossy().into_owned())
            });
            let id = self.files.add(shown.unwrap_or_else(|| path.to_owned()), text);
            self.known.push((path.to_owned(), id));
            self.known.len() - 1
        });
        let id = self.known[idx].1;
        let file = self.files.get(id);
        let start = file.line_start(line);
        let content = file.line(line);
        let indent = content.len() - content.trim_start().len();
        Span::new(id, start + indent as u32, start + content.trim_end().len() as u32)
    }
}

/// Is it worth telling wherever it stands?
fn is_between_threads(step: &Step) -> bool {
    matches!(step.event.operation, Operation::Spawn { .. } | Operation::Join { .. } | Operation::Choice { .. })
}

/// A step in words, such as "reads `s.n` = 0"; nothing for those that say nothing to people.
fn in_words(step: &Step, what: &str, value: Option<&str>) -> Option<String> {
    use explore::operation::Effect;
    let missed = match step.event.effect {
        Effect::Failed => ", which is taken",
        Effect::TimedOut => ", and the time is over",
        _ => "",
    };
    let with_value = |verb: &str| match value {
        Some(value) => format!("{verb} `{what}` = {value}"),
        None => format!("{verb} `{what}`"),
    };
    Some(match step.event.operation {
        Operation::Access { action: Action::Read, .. } => with_value("reads"),
        Operation::Access { action: Action::Write, .. } => with_value("writes"),
        Operation::Access { .. } | Operation::Both { .. } => with_value("changes"),
        Operation::Acquire { .. } => format!("takes the lock in `{what}`{missed}"),
        Operation::TryAcquire { .. } => format!("tries the lock in `{what}`{missed}"),
        Operation::IsHeld { .. } => format!("asks for the lock in `{what}`"),
        Operation::Release { .. } => format!("gives the lock back in `{what}`"),
        Operation::Wait { .. } => format!("waits in `{what}`"),
        Operation::Wake { .. } => format!("goes on after the wait in `{what}`{missed}"),
        Operation::Notify { .. } => format!("notifies in `{what}`"),
        Operation::Spawn { child } => format!("starts {child}"),
        Operation::Join { child, .. } => format!("waits for the end of {child}{missed}"),
        Operation::Sleep { .. } => format!("wakes up in `{what}`"),
        Operation::Choice { .. } => format!("goes on in `{what}`"),
        Operation::Arm { .. } | Operation::Yield | Operation::Exit => return None,
    })
}

#[pymethods]
impl Exploration {
    /// `failed`, `proved`, `nothing_found` or `gave_up`.
    #[getter]
    fn verdict(&self) -> &'static str {
        self.outcome.verdict.as_str()
    }

    /// How many runs were made.
    #[getter]
    fn runs(&self) -> u64 {
        self.outcome.runs
    }

    /// What failed, or why nothing can be said; None otherwise.
    #[getter]
    fn reason(&self) -> Option<String> {
        match &self.outcome.verdict {
            Verdict::Failed(failure) => Some(failure.to_string()),
            Verdict::GaveUp(reason) => Some(match reason {
                Reason::Nondeterministic => {
                    "a run that failed did not fail again: the program depends on something else than the schedule"
                        .to_owned()
                }
                Reason::Vacuous => "no run had two threads that touch the same thing".to_owned(),
                Reason::Diverged(divergence) => {
                    format!("the program came off the schedule: {}", divergence.message(&self.labels))
                }
                Reason::Unfinished(_) => "no run came to its end: raise max_steps, or bound the loops".to_owned(),
            }),
            _ => None,
        }
    }

    /// The kind of failure: `raised`, `invariant`, `deadlock`, `missed wake-up`, `livelock`, `race`.
    #[getter]
    fn kind(&self) -> Option<&'static str> {
        Some(match self.failure()? {
            Failure::Raised { .. } => "raised",
            Failure::Invariant(_) => "invariant",
            Failure::NotLinearizable(_) => "not linearizable",
            Failure::Deadlock => "deadlock",
            Failure::MissedWakeUp => "missed wake-up",
            Failure::Livelock => "livelock",
            Failure::Race => "race",
        })
    }

    /// The shortest schedule that fails, as a text that replays it.
    #[getter]
    fn schedule(&self) -> Option<&str> {
        self.outcome.schedule.as_deref()
    }

    /// How the threads got into each other's way, such as `lost update`.
    #[getter]
    fn pattern(&self) -> Option<&'static str> {
        Some(self.outcome.explanation.as_ref()?.pattern.as_str())
    }

    /// The steps of the run that fails: thread, file, line, what happened, and whether the order of the step decides.
    #[getter]
    fn steps(&self) -> Vec<(usize, String, u32, String, bool)> {
        let lines = self.lines.iter();
        lines.map(|line| (line.thread, line.file.clone(), line.line, line.text.clone(), line.decides)).collect()
    }

    /// What would make it pass; empty if no single order decides.
    #[getter]
    fn remedy(&self) -> &str {
        &self.remedy
    }

    /// How far the verdict reaches.
    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let certificate = &self.outcome.certificate;
        let all = PyDict::new(py);
        all.set_item("semantics", &certificate.about.semantics)?;
        all.set_item("granularity", &certificate.about.granularity)?;
        all.set_item("visible", &certificate.about.visible)?;
        let bound = match certificate.coverage {
            Coverage::All => None,
            Coverage::Sample => Some("a sample".to_owned()),
            Coverage::Preemptions(n) => Some(format!("at most {n} preemptions")),
        };
        all.set_item("bound", bound)?;
        all.set_item("executions", certificate.executions)?;
        all.set_item("redundant", certificate.redundant)?;
        all.set_item("unfinished", certificate.unfinished)?;
        all.set_item("spins", certificate.spins)?;
        all.set_item("untracked", &certificate.untracked)?;
        Ok(all)
    }

    /// What was not told apart: names of which each is one place for all objects, and whether all containers are one.
    #[getter]
    fn coarse(&self) -> (Vec<String>, bool) {
        self.coarse.clone()
    }

    /// The code objects that the exploration has come to: the how-manieth ones that were described.
    #[getter]
    fn entered(&self) -> Vec<u32> {
        self.entered.clone()
    }

    /// The failure as a report in one of the formats of `raceproof check`. If there is none the text is empty, and other
    /// formats have no findings.
    #[pyo3(signature = (format = "text", colour = false))]
    fn render(&self, format: &str, colour: bool) -> PyResult<String> {
        let format: Format =
            format.parse().map_err(|cause: report::UnknownFormat| PyValueError::new_err(cause.to_string()))?;
        let mut files = Files::default();
        let findings: Vec<Finding> = self.finding(&mut files).into_iter().collect();
        if findings.is_empty() && format == Format::Text {
            return Ok(String::new());
        }
        let runtime =
            if self.outcome.certificate.about.semantics == "gil" { Runtime::Gil } else { Runtime::FreeThreaded };
        let page = Page {
            files: &files,
            findings: &findings,
            rules: &[&OBSERVED_FAILURE],
            runtime,
            version: env!("CARGO_PKG_VERSION"),
            colour,
            summary: Summary { n_files: files_of(&self.lines), ..Summary::default() },
        };
        Ok(report::render(format, &page))
    }
}

fn files_of(lines: &[Line]) -> usize {
    let mut files: Vec<&str> = lines.iter().map(|line| line.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    files.len()
}
