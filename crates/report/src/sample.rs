//! A set of findings for the tests of this crate: several files, other scripts, every kind of evidence and fix.

use facts::{
    CallStep, Confidence, Edit, Evidence, FileId, Files, Finding, Fingerprint, Fix, GuardVote, ObservedStep, Path,
    RuleInfo, Runtime, Safety, Severity, Span,
};

use crate::{Page, Summary};

const CACHE: &str = "\
import threading


class Cache:
    def __init__(self):
        self._lock = threading.Lock()
        self._hits = 0

    def get(self, key):
        self._hits += 1
        return key

    def reset(self):
        with self._lock:
            self._hits = 0
";

const WORKER: &str = "\
import threading
from app.cache import Cache

größe = {}  # naïve


def run(cache):
\tif \"日本\" not in größe: größe[\"日本\"] = cache.get(\"<b>&\")


for _ in range(2):
    threading.Thread(target=run, args=(Cache(),)).start()";

/// A rule that is on by default.
const fn rule(name: &'static str, code: &'static str, severity: Severity, summary: &'static str) -> RuleInfo {
    let docs = "# A rule\n\n## What is caught\nSomething.\n";
    RuleInfo { name, code, severity, summary, docs, on_by_default: true }
}

pub(crate) static INCREMENT: RuleInfo =
    rule("unlocked-increment", "RP201", Severity::Error, "shared state is read and written back without a lock");
pub(crate) static CHECK: RuleInfo =
    rule("check-then-act", "RP202", Severity::Warning, "a test and the use that depends on it are two steps");
pub(crate) static ORDER: RuleInfo =
    rule("lock-order-inversion", "RP301", Severity::Error, "two locks are taken in both orders");
pub(crate) static SHUTDOWN: RuleInfo = rule("no-shutdown", "RP403", Severity::Info, "a thread is never joined");
static UNUSED: RuleInfo = rule("useless-lock", "RP304", Severity::Warning, "a lock that nothing else takes");

/// `SHUTDOWN` is left out: a finding may be of a rule that is not in the list.
static RULES: [&RuleInfo; 4] = [&INCREMENT, &CHECK, &ORDER, &UNUSED];

/// Texts and findings that live as long as a test.
pub(crate) struct Sample {
    pub files: Files,
    pub findings: Vec<Finding>,
}

impl Sample {
    /// Five findings: three errors, a warning and an info.
    pub(crate) fn new() -> Self {
        let mut files = Files::default();
        let cache = files.add("app/cache.py", CACHE);
        let worker = files.add("app/worker.py", WORKER);
        let findings = vec![
            increment(&files, cache, worker),
            check_then_act(&files, worker),
            lock_order(&files, cache, worker),
            Finding::new(&SHUTDOWN, end_of(&files, worker), "a thread is started and never joined")
                .confidence(Confidence::Low),
            Finding::new(&INCREMENT, find(&files, cache, "_hits = 0\n\n"), "100%, really: a <b>, \"c\"")
                .with_fix(Some(lock_fix(&files, cache))),
        ];
        let mut sample = Self { files, findings };
        for (idx, finding) in sample.findings.iter_mut().enumerate() {
            finding.fingerprint = Fingerprint::of(&[finding.rule.name, &idx.to_string()]);
        }
        sample
    }

    /// No findings in one file.
    pub(crate) fn empty() -> Self {
        let mut files = Files::default();
        files.add("app/cache.py", CACHE);
        Self { files, findings: Vec::new() }
    }

    /// One finding that was seen in a run.
    pub(crate) fn observed() -> Self {
        let mut files = Files::default();
        let cache = files.add("app/cache.py", CACHE);
        let update = find(&files, cache, "self._hits += 1");
        let step = |thread, text: &str, decides| ObservedStep { thread, span: update, text: text.into(), decides };
        let evidence = Evidence::Observed {
            pattern: "lost update".into(),
            threads: vec!["T0 `Cache.get`".into(), "T1 `<b>&`".into()],
            steps: vec![
                step(0, "reads `self._hits` = 0", false),
                step(1, "reads `self._hits` = 0", true),
                step(1, "writes `self._hits` = 1", false),
                step(0, "writes `self._hits` = 1", true),
            ],
            ending: "the invariant does not hold: hits is 1, expected 2".into(),
            remedy: "if line 10 of T0 runs before line 10 of T1".into(),
            schedule: "1:T0@app/cache.py:get:write>T1".into(),
        };
        let mut finding = Finding::new(&INCREMENT, update, "an update of `self._hits` is lost")
            .on("self._hits")
            .within("Cache.get")
            .confidence(Confidence::High)
            .because(evidence);
        finding.fingerprint = Fingerprint::of(&["observed"]);
        Self { files, findings: vec![finding] }
    }

    /// Spans beyond the end of the text and inside a character, in a text without any line.
    pub(crate) fn with_odd_spans() -> Self {
        let mut files = Files::default();
        let empty = files.add("empty.py", "");
        let wide = files.add("wide.py", "日本");
        let path = Path {
            thread: "the main thread".into(),
            calls: vec![CallStep { function: "f".into(), span: Span::new(wide, 9, 99) }],
            locks: Vec::new(),
            span: Span::new(wide, 2, 1),
            action: String::new(),
        };
        let evidence = Evidence::Possible { paths: vec![path], overlap: String::new(), vote: None, order: Vec::new() };
        let edits = vec![Edit { span: Span::new(wide, 1, 2), text: "x".into() }];
        let fix = Fix { safety: Safety::Safe, title: "break it".into(), edits };
        let finding = Finding::new(&CHECK, Span::new(empty, 5, 9), "")
            .also(Span::new(wide, 1, 2), "inside a character")
            .also(Span::new(wide, 6, 60), "beyond the end")
            .also(Span::new(wide, 4, 2), "backwards")
            .because(evidence)
            .with_fix(Some(fix));
        Self { files, findings: vec![finding] }
    }

    /// The page of the sample, without colour.
    pub(crate) fn page(&self) -> Page<'_> {
        Page {
            files: &self.files,
            findings: &self.findings,
            rules: &RULES,
            runtime: Runtime::FreeThreaded,
            version: "0.1.0",
            colour: false,
            summary: Summary {
                n_files: self.files.len(),
                n_hidden: 1,
                elapsed: Some("0.12 s".into()),
                limits: Vec::new(),
            },
        }
    }
}

/// The span of the first `needle` in a text; a line break at the needle's end is not part of it.
fn find(files: &Files, file: FileId, needle: &str) -> Span {
    let start = files.get(file).text.find(needle).expect("the needle is in the text");
    let end = start + needle.trim_end().len();
    Span::new(file, u32::try_from(start).unwrap(), u32::try_from(end).unwrap())
}

fn end_of(files: &Files, file: FileId) -> Span {
    let end = u32::try_from(files.get(file).text.len()).unwrap();
    Span::new(file, end, end)
}

fn lock_fix(files: &Files, cache: FileId) -> Fix {
    let text = "with self._lock:\n            self._hits += 1";
    let edit = Edit { span: find(files, cache, "self._hits += 1"), text: text.into() };
    Fix { safety: Safety::Safe, title: "hold `_lock` around the update".into(), edits: vec![edit] }
}

fn call(function: &str, span: Span) -> CallStep {
    CallStep { function: function.into(), span }
}

fn increment(files: &Files, cache: FileId, worker: FileId) -> Finding {
    let update = find(files, cache, "self._hits += 1");
    let reset = end_of(files, cache);
    let reset = Span::new(cache, reset.start - 15, reset.start - 1);
    let evidence = Evidence::Possible {
        paths: vec![
            Path {
                thread: "a thread that runs `run`".into(),
                calls: vec![
                    call("run", find(files, worker, "def run(cache):")),
                    call("Cache.get", find(files, worker, "cache.get")),
                ],
                locks: Vec::new(),
                span: update,
                action: "updates `self._hits`".into(),
            },
            Path {
                thread: "any caller of `Cache`".into(),
                calls: vec![call("Cache.reset", find(files, cache, "def reset"))],
                locks: vec!["self._lock".into()],
                span: reset,
                action: "writes `self._hits`".into(),
            },
        ],
        overlap: "`run` is started twice and never joined".into(),
        vote: Some(GuardVote { lock: "self._lock".into(), with: 5, without: 1 }),
        order: vec![
            "thread 1 reads `self._hits` (0)".into(),
            "thread 2 reads `self._hits` (0)".into(),
            "both write 1: one update is lost".into(),
        ],
    };
    Finding::new(&INCREMENT, update, "`self._hits` is read and written back without a lock")
        .on("self._hits")
        .within("Cache.get")
        .also(find(files, cache, "_lock = threading"), "other accesses hold this lock")
        .also(find(files, worker, "threading.Thread(target=run"), "two threads are started here")
        .confidence(Confidence::High)
        .because(evidence)
        .with_fix(Some(lock_fix(files, cache)))
}

fn check_then_act(files: &Files, worker: FileId) -> Finding {
    let test = find(files, worker, "\"日本\" not in größe");
    let import = Span::new(worker, 0, 0);
    let store = find(files, worker, "größe[\"日本\"] = cache.get(\"<b>&\")");
    let fix = Fix {
        safety: Safety::Unsafe,
        title: "one `setdefault`".into(),
        edits: vec![
            Edit { span: store, text: "größe.setdefault(\"日本\", cache.get(\"<b>&\"))".into() },
            Edit { span: import, text: "import sys\n".into() },
        ],
    };
    Finding::new(&CHECK, test, "`größe` is tested and then filled in a second step")
        .on("größe")
        .within("run")
        .also(store, "and filled here")
        .with_fix(Some(fix))
}

fn lock_order(files: &Files, cache: FileId, worker: FileId) -> Finding {
    let side = |thread: &str, lock: &str, span: Span| Path {
        thread: thread.into(),
        calls: Vec::new(),
        locks: vec![lock.into()],
        span,
        action: "takes the next lock".into(),
    };
    let span = find(files, cache, "with self._lock:");
    let other = find(files, worker, "import threading");
    let evidence = Evidence::Possible {
        paths: vec![side("thread A", "a", span), side("thread B", "b", other), side("thread C", "c", other)],
        overlap: String::new(),
        vote: None,
        order: Vec::new(),
    };
    Finding::new(&ORDER, span, "`a`, `b` and `c` are taken in a circle").on("a").within("Cache.reset").because(evidence)
}
