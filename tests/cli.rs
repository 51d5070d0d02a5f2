//! The command line, run as a program in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// One lost update, found with high confidence.
const LOST_UPDATE: &str = "\
import threading

hits = 0


def work():
    global hits
    hits += 1


for _ in range(2):
    threading.Thread(target=work).start()
";

/// The getter that a safe fix repairs.
const LAZY: &str = "\
from threading import Thread

_monitor = None


class Monitor:
    def __init__(self):
        self.samples = []


def get_monitor():
    global _monitor
    if _monitor is None:
        _monitor = Monitor()  # the only one
    return _monitor


def work():
    get_monitor().samples.append(1)


for _ in range(4):
    Thread(target=work).start()
";

/// A folder that is gone after the test.
struct Folder(TempDir);

/// How a run ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (path, text) in files {
            folder.write(path, text.as_bytes());
        }
        folder
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("a text")
    }

    fn run(&self, words: &str) -> Ran {
        let program = Path::new(env!("CARGO_BIN_EXE_raceproof-under-test"));
        let output = Command::new(program)
            .args(words.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let ran = Ran {
            code: output.status.code().expect("it is not killed"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }

    /// `check --format json`, and what it found.
    fn check(&self, words: &str) -> (i32, Vec<Value>) {
        let ran = self.run(&format!("check --format json {words}"));
        let page: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|cause| panic!("{cause}: {}{}", ran.out, ran.err));
        (ran.code, page["findings"].as_array().expect("a list").clone())
    }
}

fn texts<'v>(findings: &'v [Value], key: &str) -> Vec<&'v str> {
    findings.iter().map(|finding| finding[key].as_str().unwrap_or("")).collect()
}

#[test]
fn a_verb_that_runs_python_code_is_sent_to_the_package() {
    let folder = Folder::new(&[("bank.py", "x = 1\n")]);
    let ran = folder.run("explore bank.py::Transfer");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("`python -m raceproof explore ...`"), "{}", ran.err);
    // What is asked wrongly is said before that.
    let ran = folder.run("explore bank.py::");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("names no scenario"), "{}", ran.err);
}

#[test]
fn exit_codes_tell_clean_findings_and_failure_apart() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE), ("good.py", "x = 1\n")]);
    assert_eq!(folder.run("check good.py").code, 0);
    assert_eq!(folder.run("check bad.py").code, 1);
    assert_eq!(folder.run("check --exit-zero bad.py").code, 0);
    assert_eq!(folder.run("check absent.py").code, 2);
    assert_eq!(folder.run("check --no-such-option").code, 2);
    assert_eq!(folder.run("--help").code, 0);
}

#[test]
fn an_error_says_what_and_what_to_do() {
    let folder = Folder::new(&[]);
    let ran = folder.run("check absent.py");
    assert!(ran.err.starts_with("error: cannot look at `absent.py`\n because: "), "{}", ran.err);
    assert!(ran.err.contains("\n help: "), "{}", ran.err);
    let ran = folder.run("explain unlocked-incremnet");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean `unlocked-increment`?"), "{}", ran.err);
}

#[test]
fn json_keeps_its_contract() {
    let folder = Folder::new(&[("pkg/bad.py", LOST_UPDATE)]);
    let ran = folder.run("check --format json .");
    let page: Value = serde_json::from_str(&ran.out).expect("JSON");
    for key in ["schema", "tool", "runtime", "findings"] {
        assert!(page.get(key).is_some(), "{key}");
    }
    let finding = &page["findings"][0];
    let keys = [
        "rule",
        "code",
        "severity",
        "confidence",
        "path",
        "line",
        "column",
        "end_line",
        "symbol",
        "place",
        "message",
        "related",
        "fingerprint",
        "fix",
        "evidence",
    ];
    for key in keys {
        assert!(finding.get(key).is_some(), "{key}");
    }
    assert_eq!(finding["rule"], "unlocked-increment");
    assert_eq!(finding["path"], "pkg/bad.py");
    assert_eq!(finding["line"], 8);
    assert_eq!(finding["symbol"], "work");
    assert_eq!(finding["place"], "hits");
    assert_eq!(ran.out, folder.run("check --format json pkg").out, "same input, same bytes");
}

#[test]
fn every_format_is_written_and_goes_to_a_file_if_asked() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    for format in ["text", "json", "sarif", "github", "html"] {
        let ran = folder.run(&format!("check --format {format} --quiet"));
        assert_eq!(ran.code, 1, "{format}");
        assert!(ran.out.contains("unlocked-increment"), "{format}: {}", ran.out);
        let to_file = folder.run(&format!("check --format {format} --quiet --output out.txt"));
        assert_eq!(to_file.out, "");
        assert_eq!(folder.read("out.txt"), ran.out, "{format}");
    }
}

#[test]
fn rules_are_selected_and_ignored_by_name_code_and_beginning() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    for (words, code) in [
        ("--select unlocked-increment", 1),
        ("--select RP201", 1),
        ("--select RP2", 1),
        ("--select all", 1),
        ("--select RP1", 0),
        ("--ignore unlocked-increment", 0),
        ("--select RP2 --ignore rp201", 0),
        ("--select no-such-rule", 2),
    ] {
        assert_eq!(folder.run(&format!("check {words}")).code, code, "{words}");
    }
}

#[test]
fn the_configuration_is_the_nearest_and_raceproof_toml_wins() {
    let folder = Folder::new(&[
        ("a/bad.py", LOST_UPDATE),
        ("pyproject.toml", "[project]\nname = \"x\"\n[tool.raceproof]\nignore = [\"RP2\"]\n"),
    ]);
    assert_eq!(folder.run("check a").code, 0);
    assert_eq!(folder.run("check --isolated a").code, 1);
    folder.write("raceproof.toml", b"confidence = \"low\"\n");
    assert_eq!(folder.run("check a").code, 1);
    folder.write("a/raceproof.toml", b"per-path-ignores = { \"bad.py\" = [\"unlocked-increment\"] }\n");
    assert_eq!(folder.run("check a").code, 0);
    assert_eq!(folder.run("check --config raceproof.toml a").code, 1);
}

#[test]
fn a_shared_class_that_does_not_exist_is_said() {
    let folder = Folder::new(&[("a.py", "class Cache:\n    pass\n")]);
    folder.write("raceproof.toml", b"shared = [\"Cache\", \"a.Cach\"]\n");
    let ran = folder.run("check");
    assert_eq!(ran.err, "note: `shared` names `a.Cach`, and no file here defines such a class\n");
}

#[test]
fn a_mistake_in_the_configuration_is_placed() {
    let folder = Folder::new(&[("pyproject.toml", "[tool.raceproof]\nexlude = []\n"), ("a.py", "")]);
    let ran = folder.run("check");
    assert_eq!(ran.code, 2);
    let expected = "error: pyproject.toml:2:1 holds an unknown key, `exlude`\n help: did you mean `exclude`?\n";
    assert_eq!(ran.err, expected);
}

#[test]
fn files_are_left_out_by_gitignore_by_configuration_and_by_custom() {
    let folder = Folder::new(&[
        (".gitignore", "generated/\n"),
        ("generated/a.py", LOST_UPDATE),
        (".venv/lib/site-packages/b.py", LOST_UPDATE),
        ("build/c.py", LOST_UPDATE),
        ("vendor/d.py", LOST_UPDATE),
        ("raceproof.toml", "exclude = [\"vendor/\"]\n"),
        ("src/build/__init__.py", ""),
        ("src/build/e.py", LOST_UPDATE),
    ]);
    let (_, findings) = folder.check("");
    assert_eq!(texts(&findings, "path"), ["src/build/e.py"], "a package named build is code");
    let (_, findings) = folder.check("generated/a.py vendor/d.py");
    assert_eq!(texts(&findings, "path"), ["generated/a.py", "vendor/d.py"], "named is wanted");
    let (_, findings) = folder.check(".venv/lib/site-packages");
    assert_eq!(texts(&findings, "path"), [".venv/lib/site-packages/b.py"]);
}

#[test]
fn a_baseline_hides_what_is_known_and_says_what_is_gone() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    assert_eq!(folder.run("check --write-baseline --baseline known.json").code, 0);
    let known = folder.read("known.json");
    assert!(known.contains("\"rule\": \"unlocked-increment\""), "{known}");
    let moved = format!("# a line more\n\n{LOST_UPDATE}");
    folder.write("bad.py", moved.as_bytes());
    let ran = folder.run("check --baseline known.json");
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.err.contains("1 known finding hidden by the baseline"), "{}", ran.err);
    folder.write("new.py", LOST_UPDATE.replace("hits", "misses").as_bytes());
    let (code, findings) = folder.check("--baseline known.json");
    assert_eq!((code, texts(&findings, "path")), (1, vec!["new.py"]));
    folder.write("bad.py", b"x = 1\n");
    let ran = folder.run("check bad.py --baseline known.json");
    assert!(ran.err.contains("no longer occur"), "{}", ran.err);
    assert_eq!(folder.run("check --baseline absent.json").code, 2);
}

#[test]
fn fix_repairs_keeps_comments_and_is_idempotent() {
    let folder = Folder::new(&[("lazy.py", LAZY)]);
    let before = folder.run("fix --diff");
    assert_eq!(before.code, 1);
    assert!(before.out.starts_with("--- lazy.py\n+++ lazy.py\n@@ "), "{}", before.out);
    assert_eq!(folder.read("lazy.py"), LAZY, "a diff writes nothing");
    let ran = folder.run("fix");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let fixed = folder.read("lazy.py");
    assert!(fixed.contains("# the only one") && fixed.contains("with "), "{fixed}");
    assert_eq!(folder.check("").0, 0);
    assert_eq!(folder.run("fix").code, 0);
    assert_eq!(folder.read("lazy.py"), fixed);
    let left: Vec<_> = fs::read_dir(folder.0.path()).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
}

#[cfg(unix)]
#[test]
fn fix_keeps_permissions_line_endings_marks_and_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let crlf = LAZY.replace('\n', "\r\n");
    let folder = Folder::new(&[]);
    folder.write("real/lazy.py", format!("\u{feff}{crlf}").as_bytes());
    let real = folder.path("real/lazy.py");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("permissions");
    symlink(&real, folder.path("link.py")).expect("a link");
    let ran = folder.run("fix link.py");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let fixed = folder.read("real/lazy.py");
    assert!(fixed.starts_with('\u{feff}') && fixed.contains("with "), "{fixed}");
    assert_eq!(fixed.matches('\n').count(), fixed.matches("\r\n").count());
    assert_eq!(fs::metadata(&real).expect("a file").permissions().mode() & 0o777, 0o755);
    assert!(fs::symlink_metadata(folder.path("link.py")).expect("a link").is_symlink());
}

#[test]
fn fix_does_not_rewrite_other_encodings_and_says_so() {
    let folder = Folder::new(&[]);
    let text = LAZY.replace("the only one", "\u{e9}");
    let mut bytes = b"# coding: latin-1\n".to_vec();
    bytes.extend(text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")));
    folder.write("lazy.py", &bytes);
    let ran = folder.run("fix");
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("rewrites UTF-8 only"), "{}", ran.out);
    assert_eq!(fs::read(folder.path("lazy.py")).expect("a file"), bytes);
}

#[test]
fn suppression_needs_a_reason_and_must_be_used() {
    let allowed = LOST_UPDATE.replace("+= 1", "+= 1  # raceproof: allow[unlocked-increment] a rough number will do");
    let folder = Folder::new(&[("a.py", &allowed)]);
    assert_eq!(folder.run("check").code, 0, "{}", folder.run("check").out);
    folder.write("a.py", LOST_UPDATE.replace("+= 1", "+= 1  # raceproof: allow[unlocked-increment]").as_bytes());
    assert_eq!(folder.run("check").code, 1, "a reason is missing");
    folder.write("a.py", b"x = 1  # raceproof: allow[unlocked-increment] it never raced\n");
    assert_eq!(folder.run("check").code, 1, "nothing is suppressed");
}

#[test]
fn an_empty_tree_and_notebooks_are_said() {
    let folder = Folder::new(&[]);
    let ran = folder.run("check");
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("no Python files here"), "{}", ran.err);
    folder.write("a.ipynb", b"{}");
    folder.write("b.pyi", b"x: int\n");
    let ran = folder.run("check");
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("1 notebook passed over"), "{}", ran.err);
    assert!(ran.err.contains("1 stub file passed over"), "{}", ran.err);
}

#[test]
fn what_cannot_be_read_or_parsed_is_one_finding_each() {
    let folder = Folder::new(&[("good.py", LOST_UPDATE), ("syntax.py", "def f(:\n  return\n")]);
    folder.write("bytes.py", b"x = '\xff\xfe'\n");
    folder.write("unknown.py", b"# coding: no-such-encoding\n");
    folder.write("nul.py", b"x = 1\0\n");
    let large = fs::File::create(folder.path("large.py")).expect("a file");
    large.set_len(33 * 1024 * 1024).expect("a sparse file");
    let (code, findings) = folder.check("");
    let paths = ["bytes.py", "good.py", "large.py", "nul.py", "syntax.py", "unknown.py"];
    assert_eq!((code, texts(&findings, "path")), (1, paths.to_vec()));
}

#[cfg(unix)]
#[test]
fn what_is_no_plain_file_is_written_to_and_not_replaced() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    // The standard output is a pipe here.
    let run = folder.run("check --output /dev/stdout");
    assert_eq!(run.code, 1);
    assert!(run.out.contains("unlocked-increment"), "{}", run.out);
}

#[cfg(target_os = "linux")]
#[test]
fn files_whose_names_are_no_text_are_told_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new(&[]);
    for name in [b"a\xFE.py", b"a\xFF.py"] {
        fs::write(folder.path("").join(OsStr::from_bytes(name)), LOST_UPDATE).expect("a file");
    }
    let (_, findings) = folder.check("");
    assert_eq!(texts(&findings, "path"), ["a\\xFE.py", "a\\xFF.py"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_stderr_that_takes_nothing_does_no_harm() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    for words in ["check --statistics --format json", "fix --unsafe --diff"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let ended = Command::new(env!("CARGO_BIN_EXE_raceproof-under-test"))
            .args(words.split_whitespace())
            .current_dir(folder.path(""))
            .stdout(Stdio::null())
            .stderr(full)
            .status()
            .expect("it starts");
        assert_eq!(ended.code(), Some(1), "{words}");
    }
}

#[cfg(unix)]
#[test]
fn loops_of_links_and_closed_folders_do_no_harm() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new(&[("a/bad.py", LOST_UPDATE), ("closed/b.py", LOST_UPDATE)]);
    symlink(folder.path("a"), folder.path("a/again")).expect("a link");
    symlink(folder.path("nowhere"), folder.path("a/dangling.py")).expect("a link");
    let closed = folder.path("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("permissions");
    let is_closed = fs::read_dir(&closed).is_err();
    let (code, findings) = folder.check("");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("permissions");
    assert_eq!(code, 1);
    // A superuser can read everything.
    let second = if is_closed { "closed" } else { "closed/b.py" };
    assert_eq!(texts(&findings, "path"), ["a/bad.py", second]);
}

#[test]
fn odd_encodings_are_read_as_python_reads_them() {
    let folder = Folder::new(&[]);
    folder.write("marked.py", format!("\u{feff}{LOST_UPDATE}").as_bytes());
    let mut latin = b"#!/usr/bin/python\n# -*- coding: iso-8859-15 -*-\nname = '\xa4'\n".to_vec();
    latin.extend(LOST_UPDATE.bytes());
    folder.write("latin.py", &latin);
    let (_, findings) = folder.check("");
    assert_eq!(texts(&findings, "path"), ["latin.py", "marked.py"]);
    assert_eq!((&findings[0]["line"], &findings[1]["line"]), (&Value::from(11), &Value::from(8)));
}

#[test]
fn a_word_that_is_missing_beside_a_comma_is_named() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    for words in ["check --select RP1,", "check --ignore ,RP1"] {
        let ran = folder.run(words);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains("a rule is missing between, before or after commas"), "{}", ran.err);
    }
}

#[test]
fn sarif_holds_the_page_of_a_rule_once() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    let out = folder.run("check --format sarif").out;
    assert_eq!(out.matches("# unlocked-increment (RP201)").count(), 1);
}

#[test]
fn open_brackets_without_end_are_one_finding() {
    let folder = Folder::new(&[("good.py", LOST_UPDATE)]);
    folder.write("open.py", "[".repeat(5_000_000).as_bytes());
    let (_, findings) = folder.check("");
    assert_eq!(texts(&findings, "rule"), ["unlocked-increment", "syntax-error"]);
}

#[test]
fn a_limit_that_is_reached_is_said() {
    let threads: String =
        (0..240).map(|n| format!("def f{n}():\n    pass\nthreading.Thread(target=f{n}).start()\n")).collect();
    let folder = Folder::new(&[("many.py", &format!("import threading\n{threads}"))]);
    let ran = folder.run("check --format json");
    assert!(ran.err.contains("more than 220 threads, pools and tasks are started"), "{}", ran.err);
    assert!(ran.out.contains("\"limits\""), "{}", ran.out);
    assert!(!folder.run("check --format json --quiet").err.contains("220"));
}

#[test]
fn deep_nesting_ends() {
    let n = 20_000;
    let folder = Folder::new(&[("good.py", LOST_UPDATE)]);
    folder.write("brackets.py", format!("x = {}{}\n", "[".repeat(n), "]".repeat(n)).as_bytes());
    folder.write("sums.py", format!("x = 1{}\n", " + 1".repeat(n)).as_bytes());
    folder.write("dots.py", format!("x = a{}\n", ".b".repeat(n)).as_bytes());
    folder.write("nots.py", format!("x = {}1\n", "not ".repeat(n)).as_bytes());
    let blocks: String = (0..200).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
    folder.write("blocks.py", format!("{blocks}{}pass\n", " ".repeat(200)).as_bytes());
    let chain: String = (0..n / 10).map(|idx| format!("elif x == {idx}:\n    y = {idx}\n")).collect();
    folder.write("chain.py", format!("if x:\n    pass\n{chain}").as_bytes());
    let (code, findings) = folder.check("");
    assert_eq!(code, 1);
    assert!(texts(&findings, "path").contains(&"good.py"), "the rest is still checked");
}

#[test]
fn a_large_generated_file_is_checked() {
    let folder = Folder::new(&[("good.py", LOST_UPDATE)]);
    let mut text = String::from("TABLE = {}\n");
    let mut idx = 0;
    while text.len() < 10 * 1024 * 1024 {
        idx += 1;
        text.push_str(&format!("TABLE['key_{idx}'] = [{idx}, 'value {idx}', (1, 2, 3)]\n"));
        if idx % 100 == 0 {
            text.push_str(&format!("def make_{idx}(a):\n    return TABLE['key_{idx}'][0] + a\n"));
        }
    }
    folder.write("generated.py", text.as_bytes());
    let (code, findings) = folder.check("");
    assert_eq!(code, 1);
    assert!(texts(&findings, "path").contains(&"good.py"));
}

#[test]
fn rules_are_listed_and_explained() {
    let folder = Folder::new(&[]);
    let list = folder.run("rules");
    assert_eq!(list.code, 0);
    assert_eq!(list.out.lines().count(), check::rules().count());
    let page = folder.run("explain RP201");
    assert!(page.out.starts_with("# unlocked-increment (RP201)\n"), "{}", page.out);
    assert_eq!(page.out, folder.run("explain unlocked-increment").out);
}

#[test]
fn statistics_count_by_rule() {
    let folder = Folder::new(&[("a.py", LOST_UPDATE), ("b.py", LOST_UPDATE)]);
    let ran = folder.run("check --statistics");
    assert!(ran.out.contains("     2  RP201  unlocked-increment\n"), "{}", ran.out);
}

#[test]
fn nothing_is_coloured_when_piped_unless_asked() {
    let folder = Folder::new(&[("bad.py", LOST_UPDATE)]);
    assert!(!folder.run("check").out.contains('\u{1b}'));
    assert!(folder.run("check --color always").out.contains('\u{1b}'));
    assert!(!folder.run("check --color always --format json").out.contains('\u{1b}'));
}
