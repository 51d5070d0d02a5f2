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
    /// The calls come to their end, and raise nothing that they do not raise one after another.
    End,
    /// The calls raise nothing that they do not raise one after another; those that wait may wait for ever.
    Raise,
    /// Each call comes to what it comes to when it is the only one.
    Own,
    /// Nobody looks for an attribute that an object does not have yet.
    Ready,
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
            Expects::Raise => "raise",
            Expects::Own => "own",
            Expects::Ready => "ready",
        }
    }
}

/// What to run against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Sides that run at once, or one that runs twice.
    pub sides: Vec<Side>,
    /// Sides of which each may do it by itself, with the threads that it starts.
    pub alone: Vec<Side>,
    /// Where the first call raises, as it may.
    pub fault: Option<Lines>,
    /// What else uses this may be one of the calls: a lock; empty if the sides are all there is.
    pub used: String,
    /// The state that the finding is about, as it is spelled; empty if there is none that a run could compare.
    pub place: String,
    /// The file in which it is spelled so.
    pub place_path: String,
    /// What has to hold: the first of these that some schedule breaks.
    pub expects: Vec<Expects>,
}

/// How a call leaves a lock behind, in the words of the rule.
const LEAVES: &[&str] = &["raise", "leaves"];

/// Locks in a circle that are taken by so many threads at most.
const SIDES_MAX: usize = 4;

/// Rules whose finding is shown by two paths whose outcome no order of the calls explains.
const SERIAL: &[&str] = &[
    "await-split-init",
    "check-then-act",
    "copy-then-reset",
    "inconsistent-guard",
    "missing-recheck",
    "nulled-while-used",
    "save-and-restore",
    "split-critical-section",
    "torn-read",
    "unlocked-lazy-init",
];

/// Rules without a scenario, and why.
const NONE: &[(&str, &str)] = &[
    ("blocking-under-lock", "how long others wait for a lock is a matter of time: no order of the calls fails"),
    ("fork-with-threads", "what a forked process does is not under control"),
    ("lazy-import", "a process imports a module once, so an import cannot be run again"),
    ("loop-touched-from-thread", "it takes an event loop that already runs, which no call of its own makes"),
    ("lost-exception", "it takes an error, which is then lost in every order of the threads"),
    ("mutable-class-attribute", "all instances share the container in every order of the threads"),
    ("no-shutdown", "what is left running at the end is the same in every order of the threads"),
    ("reused-event", "it takes a thread that is started again before it has ended, and runs on behind the calls"),
    ("unbounded-threads", "how many threads there are depends on how often it is called, not on their order"),
];

/// The scenario of a finding.
///
/// # Errors
/// Why there is none: lower case, no full stop.
pub fn scenario(files: &Files, finding: &Finding) -> Result<Scenario, String> {
    let name = finding.rule.name;
    if let Some((_, why)) = NONE.iter().find(|(rule, _)| *rule == name) {
        return Err((*why).to_owned());
    }
    let mut made = Scenario {
        sides: Vec::new(),
        alone: Vec::new(),
        fault: None,
        used: String::new(),
        place: finding.place.clone(),
        place_path: files.get(finding.span.file).path.clone(),
        expects: expects(name).ok_or_else(|| format!("no scenario is made of a finding of `{name}`"))?,
    };
    match name {
        "lock-order-inversion" => {
            (made.sides, made.place) = (paths(files, finding, SIDES_MAX)?, String::new());
        }
        "start-in-constructor" => match paths(files, finding, 2) {
            Ok(sides) => made.sides = sides,
            Err(_) => {
                let needed = finding.related.iter().find(|it| it.message.contains("needed"));
                let lines = needed.map_or_else(Vec::new, |needed| vec![lines(files, needed.span)]);
                made.alone = vec![Side { lines, ..itself(files, finding) }];
            }
        },
        // Where the slot is filled, and the class that inherits it.
        "shared-singleton-slot" => match &finding.related[..] {
            [filled, heir, ..] => made.sides = vec![at(files, &[filled.span]), at(files, &[heir.span])],
            _ => return Err("the finding does not say which class inherits the slot".to_owned()),
        },
        "event-loop-lock" => {
            made.used.clone_from(&finding.place);
            made.sides = uses(files, finding);
            made.alone = vec![at(files, &[finding.span])];
        }
        _ => of_one_function(files, finding, &mut made)?,
    }
    Ok(made)
}

/// The scenario of a finding that is about one function, if it is of such a rule; else that of its two paths.
fn of_one_function(files: &Files, finding: &Finding, made: &mut Scenario) -> Result<(), String> {
    match finding.rule.name {
        "self-deadlock" if finding.symbol.is_empty() || finding.symbol.ends_with("__init__") => {
            return Err(
                "it takes a garbage collection at one point of a call, which no schedule brings about".to_owned()
            );
        }
        "useless-lock" if finding.symbol.is_empty() => {
            return Err("the lock is made at module level, and the calls that should take it do not name it".to_owned());
        }
        "self-deadlock" => (made.sides, made.place) = (vec![itself(files, finding)], String::new()),
        "useless-lock" => {
            (made.used, made.place) = (std::mem::take(&mut made.place), String::new());
            made.sides = vec![itself(files, finding)];
        }
        "lock-across-await" => {
            // The other tasks run where it waits, or where it takes the lock.
            let span = finding.related.first().map_or(finding.span, |related| related.span);
            (made.used, made.place) = (std::mem::take(&mut made.place), String::new());
            made.sides = vec![Side { is_task: true, lines: vec![lines(files, span)], ..itself(files, finding) }];
        }
        "thread-local-in-async" => {
            (made.sides, made.place) = (vec![Side { is_task: true, ..itself(files, finding) }], String::new());
        }
        "unreleased-lock" => {
            let Some(problem) = finding.related.iter().find(|it| LEAVES.iter().any(|how| it.message.contains(how)))
            else {
                return Err("it fails in every order of the threads: what is released was not acquired".to_owned());
            };
            made.fault = problem.message.contains("raise").then(|| lines(files, problem.span));
            made.sides = vec![Side { lines: vec![lines(files, problem.span)], ..itself(files, finding) }];
            (made.used, made.place) = (std::mem::take(&mut made.place), String::new());
        }
        "condition-misuse" if !finding.message.contains("tested") && !finding.message.contains("loop") => {
            return Err("it fails in every order of the threads: the condition is used without its lock".to_owned());
        }
        "condition-misuse" => {
            (made.used, made.place) = (std::mem::take(&mut made.place), String::new());
            made.sides = vec![itself(files, finding)];
        }
        _ => made.sides = paths(files, finding, 2)?,
    }
    Ok(())
}

/// What has to hold for a rule: the first that some schedule breaks.
fn expects(name: &str) -> Option<Vec<Expects>> {
    Some(match name {
        name if SERIAL.contains(&name) => vec![Expects::Serial],
        "useless-lock" | "thread-local-in-async" => vec![Expects::Serial],
        // That a result was read after the update is another matter than the update.
        "unlocked-increment" => vec![Expects::Place],
        // A container that changes under an iteration raises, most of the time.
        "iteration-during-mutation" | "unguarded-collection" => vec![Expects::End, Expects::Serial],
        "guarded-state-escapes" | "publish-before-init" => vec![Expects::Whole],
        "lock-order-inversion" | "self-deadlock" | "event-loop-lock" | "lock-across-await" | "unreleased-lock" => {
            vec![Expects::End]
        }
        "condition-misuse" => vec![Expects::Raise, Expects::End],
        "shared-singleton-slot" => vec![Expects::Own],
        "start-in-constructor" => vec![Expects::Ready],
        _ => return None,
    })
}

/// The function that the finding is in.
fn itself(files: &Files, finding: &Finding) -> Side {
    let function = Function { path: files.get(finding.span.file).path.clone(), name: finding.symbol.clone() };
    Side { functions: vec![function], lines: vec![lines(files, finding.span)], is_task: false }
}

/// Whatever stands at these places.
fn at(files: &Files, spans: &[Span]) -> Side {
    let lines = spans.iter().map(|span| lines(files, *span)).collect();
    Side { functions: Vec::new(), lines, is_task: false }
}

fn lines(files: &Files, span: Span) -> Lines {
    let path = files.get(span.file).path.clone();
    Lines { path, first: files.start(span).line, last: files.end(span).line }
}

/// The first paths of the evidence, two at least.
fn paths(files: &Files, finding: &Finding, n_max: usize) -> Result<Vec<Side>, String> {
    let Evidence::Possible { paths, .. } = &finding.evidence else {
        return Err("it was seen in a run already".to_owned());
    };
    match &paths[..] {
        paths @ [_, _, ..] => Ok(paths.iter().take(n_max).map(|path| side(files, path)).collect()),
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
    let mut spans: Vec<Span> = finding.related.iter().map(|related| related.span).collect();
    if spans.is_empty() {
        spans.push(finding.span);
    }
    vec![at(files, &spans[..1]), at(files, &spans)]
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
        assert_eq!((scenario.place.as_str(), &scenario.expects[..]), ("self._x", &[Expects::Serial][..]));
    }

    #[test]
    fn what_has_no_scenario_says_why() {
        let mut files = Files::default();
        let file = files.add("a.py", "x\n");
        let finding = Finding::new(&STYLE, Span::new(file, 0, 1), "");
        assert!(scenario(&files, &finding).is_err_and(|reason| reason.contains("in every order")));
        let finding = Finding::new(&LAZY, Span::new(file, 0, 1), "").because(possible(vec![path(file, 0, &[])]));
        assert_eq!(
            scenario(&files, &finding).err().as_deref(),
            Some("the finding does not say how two threads get there")
        );
    }
}
