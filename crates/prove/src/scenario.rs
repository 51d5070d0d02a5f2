//! What a finding says of the run that would show it.

use facts::{Evidence, Files, Finding, Path, Span};

/// A function or method, by its qualified name in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The path of the file, as it is shown.
    pub path: String,
    /// Such as `Class.method`.
    pub name: String,
}

/// Lines of a file, both ends included, counted from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The path of the file, as it is shown.
    pub path: String,
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// One of the two that run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Functions that lead to the access, from the one that has it outwards. Empty: those around [`Side::lines`].
    pub functions: Vec<Function>,
    /// Where it has to arrive: at one of these.
    pub lines: Vec<Lines>,
    /// Is it a task of an event loop?
    pub is_task: bool,
}

/// What has to hold at the end of each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// The outcome is one that the same calls have when they run one after another.
    Serial,
    /// The place is left as it is after the same calls one after another, whatever they return.
    Place,
    /// As with [`Expects::Serial`], and what a call returns is whole when it returns it.
    Whole,
    /// The calls come to their end.
    End,
}

impl Expects {
    /// The word used on the way to Python.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Expects::Serial => "serial",
            Expects::Place => "place",
            Expects::Whole => "whole",
            Expects::End => "end",
        }
    }
}

/// What to run against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Two sides, or one that runs twice.
    pub sides: Vec<Side>,
    /// The state that the finding is about, as it is spelled; empty if there is none that a run could compare.
    pub place: String,
    /// The file in which it is spelled so.
    pub place_path: String,
    /// What has to hold.
    pub expects: Expects,
}

/// Rules whose finding is shown by two paths whose outcome no order of the calls explains.
const SERIAL: &[&str] = &[
    "await-split-init",
    "check-then-act",
    "copy-then-reset",
    "inconsistent-guard",
    "iteration-during-mutation",
    "missing-recheck",
    "nulled-while-used",
    "split-critical-section",
    "torn-read",
    "unguarded-collection",
    "unlocked-lazy-init",
];

/// The scenario of a finding.
///
/// # Errors
/// Why there is none: lower case, no full stop.
pub fn scenario(files: &Files, finding: &Finding) -> Result<Scenario, String> {
    let of = |sides, place: &str, expects| Scenario {
        sides,
        place: place.to_owned(),
        place_path: files.get(finding.span.file).path.clone(),
        expects,
    };
    match finding.rule.name {
        name if SERIAL.contains(&name) => Ok(of(paths(files, finding)?, &finding.place, Expects::Serial)),
        // That a result was read after the update is another matter than the update.
        "unlocked-increment" => Ok(of(paths(files, finding)?, &finding.place, Expects::Place)),
        "publish-before-init" => Ok(of(paths(files, finding)?, &finding.place, Expects::Whole)),
        "lock-order-inversion" => Ok(of(paths(files, finding)?, "", Expects::End)),
        "self-deadlock" => {
            let function = Function { path: files.get(finding.span.file).path.clone(), name: finding.symbol.clone() };
            let lines = vec![lines(files, finding.span)];
            Ok(of(vec![Side { functions: vec![function], lines, is_task: false }], "", Expects::End))
        }
        "event-loop-lock" => Ok(of(uses(files, finding), &finding.place, Expects::End)),
        name => Err(format!("no two calls show a finding of `{name}`: what it says is not about their order")),
    }
}

fn lines(files: &Files, span: Span) -> Lines {
    let path = files.get(span.file).path.clone();
    Lines { path, first: files.start(span).line, last: files.end(span).line }
}

/// The two paths of the evidence.
fn paths(files: &Files, finding: &Finding) -> Result<Vec<Side>, String> {
    let Evidence::Possible { paths, .. } = &finding.evidence else {
        return Err("it was seen in a run already".to_owned());
    };
    match &paths[..] {
        [first, second, ..] => Ok(vec![side(files, first), side(files, second)]),
        _ => Err("the finding does not say how two threads get there".to_owned()),
    }
}

fn side(files: &Files, path: &Path) -> Side {
    let file_of = |idx: usize| path.calls.get(idx + 1).map_or(path.span.file, |next| next.span.file);
    let functions = (0..path.calls.len()).rev().map(|idx| Function {
        // A call is made in the function that was entered before.
        path: files.get(file_of(idx)).path.clone(),
        name: path.calls[idx].function.clone(),
    });
    Side {
        // What is made inside of a function cannot be called from outside.
        functions: functions.filter(|function| !function.name.contains('<')).collect(),
        lines: vec![lines(files, path.span)],
        is_task: path.thread.starts_with("a task"),
    }
}

/// The uses of a lock that the finding names: what holds it twice, in two event loops, or beside the thread that does
/// not take it. Where it names none, the line that makes the lock: who uses it is looked up where the program runs.
fn uses(files: &Files, finding: &Finding) -> Vec<Side> {
    let mut spans: Vec<Lines> = finding.related.iter().map(|related| lines(files, related.span)).collect();
    if spans.is_empty() {
        spans.push(lines(files, finding.span));
    }
    let side = |lines: &[Lines]| Side { functions: Vec::new(), lines: lines.to_vec(), is_task: false };
    vec![side(&spans[..1]), side(&spans)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{CallStep, FileId, RuleInfo, Severity};

    static LAZY: RuleInfo = RuleInfo {
        name: "unlocked-lazy-init",
        code: "RP101",
        severity: Severity::Error,
        summary: "",
        docs: "",
        on_by_default: true,
    };
    static STYLE: RuleInfo = RuleInfo { name: "no-shutdown", ..LAZY };

    fn path(file: FileId, at: u32, calls: &[(&str, FileId)]) -> Path {
        let calls =
            calls.iter().map(|(name, file)| CallStep { function: (*name).to_owned(), span: Span::new(*file, 0, 1) });
        Path {
            thread: "a task that awaits `get`".to_owned(),
            calls: calls.collect(),
            locks: Vec::new(),
            span: Span::new(file, at, at + 1),
            action: String::new(),
        }
    }

    fn possible(paths: Vec<Path>) -> Evidence {
        Evidence::Possible { paths, overlap: String::new(), vote: None, order: Vec::new() }
    }

    #[test]
    fn a_path_gives_its_functions_from_the_access_outwards_each_in_its_file() {
        let mut files = Files::default();
        let (api, db) = (files.add("api.py", "x\ny\n"), files.add("db.py", "a\nb\n"));
        let calls = [("handle.<lambda>", api), ("serve", api), ("Db.get", api)];
        let evidence = possible(vec![path(db, 2, &calls), path(db, 0, &[("Db.get", db)])]);
        let finding = Finding::new(&LAZY, Span::new(db, 2, 3), "").on("self._x").because(evidence);
        let scenario = scenario(&files, &finding).expect("a scenario");
        let names: Vec<(&str, &str)> =
            scenario.sides[0].functions.iter().map(|it| (it.path.as_str(), it.name.as_str())).collect();
        assert_eq!(names, [("db.py", "Db.get"), ("api.py", "serve")]);
        assert_eq!(scenario.sides[0].lines, [Lines { path: "db.py".to_owned(), first: 2, last: 2 }]);
        assert!(scenario.sides[0].is_task);
        assert_eq!((scenario.place.as_str(), scenario.expects), ("self._x", Expects::Serial));
    }

    #[test]
    fn what_has_no_scenario_says_why() {
        let mut files = Files::default();
        let file = files.add("a.py", "x\n");
        let finding = Finding::new(&STYLE, Span::new(file, 0, 1), "");
        assert!(scenario(&files, &finding).is_err_and(|reason| reason.contains("no-shutdown")));
        let finding = Finding::new(&LAZY, Span::new(file, 0, 1), "").because(possible(vec![path(file, 0, &[])]));
        assert_eq!(
            scenario(&files, &finding).err().as_deref(),
            Some("the finding does not say how two threads get there")
        );
    }
}
