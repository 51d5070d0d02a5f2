//! Text in, text out: the sample findings as a person sees them.

use facts::{RuleInfo, Safety, Span};

use super::*;
use crate::sample::{self, Sample};

/// A finding of `rule` on `start..end` of `text`, shown.
fn shown(rule: &'static RuleInfo, text: &str, start: u32, end: u32) -> String {
    let mut files = Files::default();
    let file = files.add("a.py", text);
    finding(&files, &Finding::new(rule, Span::new(file, start, end), "this is bad"))
}

#[test]
fn a_race_is_told_from_both_sides() {
    let sample = Sample::new();
    assert_eq!(
        finding(&sample.files, &sample.findings[0]),
        "\
error[unlocked-increment]: `self._hits` is read and written back without a lock
 app/cache.py:10:9 in `Cache.get`
   |
 6 |         self._lock = threading.Lock()
   |              ----------------- other accesses hold this lock
...
10 |         self._hits += 1
   |         ^^^^^^^^^^^^^^^
   |
  ::: app/worker.py:12:5
   |
12 |     threading.Thread(target=run, args=(Cache(),)).start()
   |     --------------------------- two threads are started here
 one side: a thread that runs `run`
   -> run (app/worker.py:7)
   -> Cache.get (app/worker.py:8)
   updates `self._hits` (app/cache.py:10), no lock
 the other side: any caller of `Cache`
   -> Cache.reset (app/cache.py:13)
   writes `self._hits` (app/cache.py:15), holding `self._lock`
 may overlap: `run` is started twice and never joined
 vote: `self._lock` is held at 5 of 6 accesses
 a bad order:
   1. thread 1 reads `self._hits` (0)
   2. thread 2 reads `self._hits` (0)
   3. both write 1: one update is lost
 fix (safe): hold `_lock` around the update
   --- app/cache.py
   +++ app/cache.py
   @@ -8,5 +8,6 @@

        def get(self, key):
   -        self._hits += 1
   +        with self._lock:
   +            self._hits += 1
            return key

 help: raceproof explain unlocked-increment
"
    );
}

#[test]
fn tabs_and_wide_letters_keep_the_marks_in_place() {
    let sample = Sample::new();
    assert_eq!(
        finding(&sample.files, &sample.findings[1]),
        "\
warning[check-then-act]: `größe` is tested and then filled in a second step
 app/worker.py:8:5 in `run` (medium confidence)
  |
8 |     if \"日本\" not in größe: größe[\"日本\"] = cache.get(\"<b>&\")
  |        ^^^^^^^^^^^^^^^^^^^  --------------------------------- and filled here
 fix (unsafe): one `setdefault`
   --- app/worker.py
   +++ app/worker.py
   @@ -1,2 +1,3 @@
   +import sys
    import threading
    from app.cache import Cache
   @@ -6,5 +7,5 @@

    def run(cache):
   -    if \"日本\" not in größe: größe[\"日本\"] = cache.get(\"<b>&\")
   +    if \"日本\" not in größe: größe.setdefault(\"日本\", cache.get(\"<b>&\"))


 help: raceproof explain check-then-act
"
    );
}

#[test]
fn more_than_two_sides_are_numbered() {
    let sample = Sample::new();
    let shown = finding(&sample.files, &sample.findings[2]);
    let sides = "\
 side 1: thread A
   takes the next lock (app/cache.py:14), holding `a`
 side 2: thread B
   takes the next lock (app/worker.py:1), holding `b`
 side 3: thread C
   takes the next lock (app/worker.py:1), holding `c`
 help: raceproof explain lock-order-inversion
";
    assert!(shown.ends_with(sides), "{shown}");
}

#[test]
fn a_finding_without_evidence_is_short() {
    assert_eq!(
        shown(&sample::SHUTDOWN, "x = 1\ny = 2", 11, 11),
        "\
info[no-shutdown]: this is bad
 a.py:2:6 (medium confidence)
  |
2 | y = 2
  |      ^
 help: raceproof explain no-shutdown
"
    );
}

#[test]
fn a_long_span_is_folded() {
    let text = format!("def f():\n{}    return 1\n", "    work()\n".repeat(40));
    let shown = shown(&sample::INCREMENT, &text, 0, u32::try_from(text.len() - 1).unwrap());
    assert!(shown.contains("def f():\n") && shown.contains("return 1\n"), "{shown}");
    assert!(shown.lines().count() < 15, "{shown}");
}

#[test]
fn the_program_cannot_steer_the_terminal() {
    let shown = shown(&sample::INCREMENT, "x = '\x1b[31m\u{202e}'\n", 0, 1);
    assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown}");
}

#[test]
fn colour_adds_escapes_and_nothing_else() {
    let sample = Sample::new();
    let mut page = sample.page();
    let plain = render(&page);
    assert!(!plain.contains('\x1b'));
    page.colour = true;
    let coloured = render(&page);
    assert!(coloured.starts_with("\x1b[1;31merror[unlocked-increment]\x1b[0m"));
    let mut stripped = String::new();
    for (idx, part) in coloured.split("\x1b[").enumerate() {
        stripped.push_str(if idx == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&stripped), trimmed(&plain));
}

#[test]
fn the_summary_counts_what_is_shown() {
    let sample = Sample::new();
    let shown = render(&sample.page());
    let summary = "
found 3 errors, 1 warning, 1 info in 2 files (0.12 s)
2 fixable with raceproof fix (1 more with --unsafe)
1 finding of low confidence hidden; --confidence low shows it
";
    assert!(shown.ends_with(summary), "{shown}");
}

#[test]
fn nothing_found_is_said() {
    let sample = Sample::empty();
    let mut page = sample.page();
    page.summary = crate::Summary { n_files: 3, n_hidden: 0, elapsed: None, limits: Vec::new() };
    assert_eq!(render(&page), "no findings in 3 files\n");
    page.summary.n_hidden = 2;
    let hidden = "2 findings of low confidence hidden; --confidence low shows them\n";
    assert_eq!(render(&page), format!("no findings in 3 files\n{hidden}"));
}

#[test]
fn only_unsafe_fixes_are_said_to_be_so() {
    let sample = Sample::new();
    let is_unsafe = |finding: &&Finding| finding.fix.as_ref().is_some_and(|fix| fix.safety == Safety::Unsafe);
    let findings: Vec<Finding> = sample.findings.iter().filter(is_unsafe).cloned().collect();
    let notes = notes(&Counts::of(&findings), 0);
    assert_eq!(notes, ["1 fixable with raceproof fix --unsafe"]);
}
