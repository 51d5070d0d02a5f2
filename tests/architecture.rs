//! The shape of the source, held by tests. Each failure says which rule of docs/ARCHITECTURE.md or docs/STYLE.md is
//! meant; an exception needs a line in one of the short lists here, with its reason.

use crate::tree;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;
const RULE_LINES_MAX: usize = 250;

/// Functions that may be longer: file, name, reason. One that is short again must leave the list.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Files that may be longer: file, reason. One that is short again must leave the list.
const LONG_FILES: &[(&str, &str)] = &[];

/// The stages of `check`, first to last. A module may use its own stage and those before it.
const STAGES: &[&str] = &[
    "name",
    "parallel",
    "body",
    "source",
    "project",
    "types",
    "claims",
    "annotations",
    "contexts",
    "summary",
    "analysis",
    "fix",
    "rules",
    "suppress",
    "places",
];

/// The stages of `explore`, first to last.
const STAGES_OF_EXPLORE: &[&str] = &[
    "operation",
    "state",
    "trace",
    "happens_before",
    "visibility",
    "engine",
    "schedule",
    "strategy",
    "judge",
    "explain",
    "shrink",
    "linear",
    "outcome",
    "rules",
];

/// The stages of `detect`, first to last.
const STAGES_OF_DETECT: &[&str] = &["clock", "lock", "thread", "memory", "order", "judge", "rules"];

/// Which of our crates a crate may use.
fn may_use(name: &str) -> &'static [&'static str] {
    match name {
        "facts" => &[],
        "report" | "check" | "explore" | "detect" => &["facts"],
        "primitives" => &["facts"],
        "prove" => &["facts", "check", "explore"],
        "monitor" => &["facts", "report", "primitives"],
        "cli" => &["facts", "report", "check", "explore", "detect", "prove", "monitor"],
        "bindings" => &["facts", "report", "check", "explore", "detect", "primitives", "monitor", "cli"],
        "tests" | "xtask" => &["facts", "report", "check", "explore", "cli"],
        _ => panic!("`{name}` has no line in the table: see docs/ARCHITECTURE.md"),
    }
}

fn manifest(path: &str) -> toml::Table {
    tree::read(path).parse().unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

fn manifests() -> Vec<(String, toml::Table)> {
    let mut paths = tree::files("crates", "Cargo.toml");
    paths.extend(["tests/Cargo.toml".to_owned(), "xtask/Cargo.toml".to_owned()]);
    let named = paths.into_iter().map(|path| {
        let manifest = manifest(&path);
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        (name, manifest)
    });
    named.collect()
}

fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|name| manifest.get(*name)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

/// A source file without its comments and without its unit tests.
struct Source {
    path: String,
    code: Vec<String>,
}

fn sources(folder: &str) -> Vec<Source> {
    let read = |path: String| {
        let text = tree::read(&path);
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        let code = product.lines().map(|line| match line.trim_start().starts_with("//") {
            true => String::new(),
            false => line.to_owned(),
        });
        Source { code: code.collect(), path }
    };
    tree::files(folder, ".rs").into_iter().map(read).collect()
}

/// Where one of `words` stands in the code below `folder`, outside the places where it may.
fn named(folder: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(folder) {
        if allowed.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (number, line) in (1..).zip(&source.code) {
            if let Some(word) = words.iter().find(|word| names(line, word)) {
                found.push(format!("{}:{number}: `{word}`", source.path));
            }
        }
    }
    found
}

/// Does `line` hold `word`, not as the end of a longer one?
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut starts = line.match_indices(word).map(|(at, _)| at);
    starts.any(|at| !line[..at].ends_with(is_part))
}

#[test]
fn crates_import_only_downwards() {
    let manifests = manifests();
    let ours: Vec<&String> = manifests.iter().map(|(name, _)| name).collect();
    for (name, manifest) in &manifests {
        for other in dependencies(manifest).iter().filter(|other| ours.contains(other)) {
            assert!(
                may_use(name).contains(&other.as_str()),
                "`{name}` may not use `{other}`: see docs/ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn every_crate_denies_unsafe_and_takes_the_lints_of_the_workspace() {
    let workspace = manifest("Cargo.toml");
    let lints = &workspace["workspace"]["lints"]["rust"];
    assert_eq!(lints["unsafe_code"].as_str(), Some("deny"));
    for (name, manifest) in manifests() {
        let takes = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(takes.and_then(toml::Value::as_bool), Some(true), "`{name}`");
    }
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let rooms = ["crates/primitives/src/raw/", "crates/bindings/src/raw/"];
    let found = named("crates", &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"], &rooms);
    assert!(found.is_empty(), "unsafe code outside its rooms:\n{}", found.join("\n"));
    let doors = ["crates/primitives/src/lib.rs", "crates/bindings/src/lib.rs"];
    let found = named("crates", &["allow(unsafe_code"], &doors);
    assert!(found.is_empty(), "a door to unsafe code that is none:\n{}", found.join("\n"));
}

#[test]
fn each_unsafe_block_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for path in
        ["crates/primitives/src/raw", "crates/bindings/src/raw"].iter().flat_map(|room| tree::files(room, ".rs"))
    {
        let text = tree::read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (idx, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let opens = code.contains("unsafe {") || code.contains("unsafe impl");
            let near = &lines[idx.saturating_sub(6)..=idx];
            if opens && !near.iter().any(|line| line.contains("SAFETY:")) {
                wrong.push(format!("{path}:{}", idx + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "no `// SAFETY:` before:\n{}", wrong.join("\n"));
}

#[test]
fn python_is_named_in_the_bindings_only() {
    let found = named("crates", &["pyo3", "PyObject", "PyResult"], &["crates/bindings/"]);
    assert!(found.is_empty(), "PyO3 outside bindings:\n{}", found.join("\n"));
}

#[test]
fn the_parser_is_named_behind_one_door_and_pinned() {
    let allowed = ["crates/check/src/source/", "crates/check/src/types"];
    let found = named("crates", &["ruff_python", "ruff_text", "ruff_source", "ruff_index", "rustpython_"], &allowed);
    assert!(found.is_empty(), "the parser is named outside check/src/source:\n{}", found.join("\n"));
    let workspace = manifest("Cargo.toml");
    let dependencies = workspace["workspace"]["dependencies"].as_table().expect("a table");
    for (name, version) in dependencies.iter().filter(|(name, _)| name.starts_with("ruff_")) {
        let version = version.as_str().or_else(|| version.get("version")?.as_str());
        assert!(version.is_some_and(|version| version.starts_with('=')), "`{name}` is not pinned");
    }
}

#[test]
fn serialisation_stays_at_the_edge() {
    let allowed = [
        "crates/report/",
        "crates/cli/src/config",
        "crates/cli/src/baseline",
        "crates/cli/src/child/",
        "crates/monitor/src/wire.rs",
    ];
    let found = named("crates", &["serde", "serde_json", "toml"], &allowed);
    assert!(found.is_empty(), "serde outside report, cli's readers and the answers of monitor:\n{}", found.join("\n"));
}

#[test]
fn analysis_touches_no_file_clock_environment_or_process() {
    let words = [
        "std::fs",
        "std::env",
        "std::time",
        "std::process",
        "std::net",
        "std::io",
        "fs::",
        "Instant",
        "SystemTime",
        "File::open",
        "println!",
        "eprintln!",
        "dbg!",
    ];
    for folder in
        ["crates/facts/src", "crates/report/src", "crates/check/src", "crates/explore/src", "crates/prove/src"]
    {
        let found = named(folder, &words, &[]);
        assert!(found.is_empty(), "only cli touches the world outside:\n{}", found.join("\n"));
    }
}

#[test]
fn threads_start_in_one_place_and_nowhere_else() {
    let words = ["rayon", "par_iter", "into_par_iter", "std::thread", "thread::spawn"];
    let rooms = [
        "crates/check/src/parallel.rs",
        "crates/explore/src/gate",
        "crates/explore/src/stress",
        "crates/explore/src/bench",
    ];
    for folder in
        ["crates/facts/src", "crates/report/src", "crates/check/src", "crates/explore/src", "crates/prove/src"]
    {
        let found = named(folder, &words, &rooms);
        assert!(found.is_empty(), "threads outside their rooms:\n{}", found.join("\n"));
    }
}

/// The modules of this crate that a line imports: `crate::a::…`, `crate::{a, b::c}`.
fn imported(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        let heads = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        let name = |head: &str| -> String {
            head.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        modules.extend(heads.into_iter().map(name));
    }
    // The types of `lib.rs`, such as `Options`, are the arguments of the run and belong to no stage.
    modules.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    modules
}

/// The parts of `a, b::{c, d}, e} …`, up to the brace that closes.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[begin..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn imports_are_read() {
    assert_eq!(imported("use crate::{body::{A, B}, name, Options};"), ["body", "name"]);
    assert_eq!(imported("use crate::body::Body; crate::types::x()"), ["body", "types"]);
}

#[test]
fn stages_import_only_earlier_stages() {
    stages_in_order("crates/check/src/", STAGES);
    stages_in_order("crates/explore/src/", STAGES_OF_EXPLORE);
    stages_in_order("crates/detect/src/", STAGES_OF_DETECT);
}

fn stages_in_order(folder: &str, stages: &[&str]) {
    let rank = |stage: &str| stages.iter().position(|known| *known == stage);
    let mut wrong = Vec::new();
    for source in sources(folder) {
        let below = source.path.strip_prefix(folder).expect("below");
        let stage = below.split('/').next().unwrap_or("").trim_end_matches(".rs");
        if stage == "lib" {
            continue;
        }
        let Some(mine) = rank(stage) else {
            wrong.push(format!("`{stage}` is no stage: give it a place in tests/architecture.rs"));
            continue;
        };
        for other in imported(&source.code.join("\n")) {
            if rank(&other).is_some_and(|theirs| theirs > mine) {
                wrong.push(format!("{}: `{stage}` may not use `{other}`", source.path));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn all_sources() -> Vec<String> {
    ["crates", "tests", "xtask"].iter().flat_map(|folder| tree::files(folder, ".rs")).collect()
}

fn python_sources() -> Vec<String> {
    let files = |folder: &&str| [".py", ".pyi"].map(|ending| tree::files(folder, ending)).concat();
    ["python", "benches"].iter().flat_map(files).collect()
}

#[test]
fn every_file_opens_with_what_it_promises() {
    for path in all_sources() {
        let text = tree::read(&path);
        assert!(text.starts_with("//! "), "{path}: a module opens with `//!`: see docs/STYLE.md");
    }
}

#[test]
fn no_module_is_named_after_nothing() {
    for path in all_sources() {
        let stem = path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        let is_vague = ["utils", "util", "common", "helpers", "core", "misc"].contains(&stem);
        assert!(!is_vague, "{path}: name it after what it does");
    }
}

#[test]
fn files_and_functions_stay_short() {
    let mut wrong = Vec::new();
    let (mut long_files, mut long_functions) = (Vec::new(), Vec::new());
    for path in all_sources().into_iter().chain(python_sources()) {
        let text = tree::read(&path);
        let lines: Vec<&str> = text.lines().collect();
        let is_rule = path.starts_with("crates/check/src/rules/") && !path.ends_with("/mod.rs");
        let max = if is_rule { RULE_LINES_MAX } else { FILE_LINES_MAX };
        if lines.len() > max {
            long_files.push(path.clone());
            if !LONG_FILES.iter().any(|(file, _)| *file == path) {
                wrong.push(format!("{path}: {} lines, of at most {max}", lines.len()));
            }
        }
        for (name, line, n) in functions(&lines) {
            if n <= FUNCTION_LINES_MAX {
                continue;
            }
            if !LONG_FUNCTIONS.iter().any(|(file, other, _)| *file == path && *other == name) {
                wrong.push(format!("{path}:{line}: `{name}` has {n} lines, of at most {FUNCTION_LINES_MAX}"));
            }
            long_functions.push((path.clone(), name));
        }
    }
    for (file, _) in LONG_FILES {
        if !long_files.iter().any(|path| path == file) {
            wrong.push(format!("{file}: is short again; take it off the list"));
        }
    }
    for (file, name, _) in LONG_FUNCTIONS {
        if !long_functions.iter().any(|(path, other)| path == file && other == name) {
            wrong.push(format!("{file}: `{name}` is short again; take it off the list"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Name, line and length of each function, by the indentation that rustfmt gives it.
fn functions(lines: &[&str]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async "];
        let mut rest = code;
        while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)) {
            rest = shorter;
        }
        let Some(signature) = rest.strip_prefix("fn ") else {
            continue;
        };
        let name: String = signature.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        // A body on one line, a declaration without one, or the end of a slot: `} else null_mut()`.
        let is_one_line = line.ends_with(['}', ';']);
        let ends = |other: &&&str| is_one_line || **other == close || other.starts_with(&format!("{close} else"));
        if let Some(n) = lines[begin..].iter().position(|line| ends(&line)) {
            found.push((name, begin + 1, n + 1));
        }
    }
    found
}
