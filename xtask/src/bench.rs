//! Measures `raceproof check` against the peers that are installed: wall time and peak memory, on the same folders, in
//! one go, so that the ratios mean something on any machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{cargo, is_there, root, run as run_command};

/// A run that takes longer is stopped, and said to have been.
const RUN_S_MAX: u64 = 600;
const POLL_MS: u64 = 2;

/// A tool, and how it is called on a folder.
struct Tool {
    name: &'static str,
    program: PathBuf,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    peak_kib: u64,
}

/// `cargo xtask bench`.
pub fn run(trees: &[PathBuf], runs: u32) -> Result<(), String> {
    run_command(&mut cargo(&["build", "--release", "--locked", "--package", "cli"]))?;
    let tools = tools();
    for tree in trees {
        if !tree.is_dir() {
            return Err(format!("`{}` is no folder", tree.display()));
        }
        measure(tree, &tools, runs.max(1));
    }
    if let Some(tree) = trees.first() {
        grow(tree, &tools[0], runs.max(1))?;
    }
    Ok(())
}

/// The same folder once, four times and twelve times: time should grow as the lines do.
fn grow(tree: &Path, tool: &Tool, runs: u32) -> Result<(), String> {
    println!("\n{} beside itself", tree.display());
    println!("| copies | wall (s) | peak (MiB) | time for each copy against one |");
    println!("|---|---|---|---|");
    let mut first = None;
    for copies in [1u32, 4, 12] {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        for idx in 0..copies {
            copy(tree, &folder.path().join(format!("copy_{idx}")))
                .map_err(|error| format!("{} cannot be copied: {error}", tree.display()))?;
        }
        let costs = (0..runs).filter_map(|_| cost(tool, folder.path()));
        let Some(best) = costs.min_by_key(|cost| cost.wall) else {
            return Err(format!("{copies} copies did not end in {RUN_S_MAX} s"));
        };
        let each = best.wall.as_secs_f64() / f64::from(copies);
        let one = *first.get_or_insert(each);
        let peak = as_f64(best.peak_kib) / 1024.0;
        println!("| {copies} | {:.2} | {peak:.0} | {:.2} |", best.wall.as_secs_f64(), each / one);
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&path, &target)?;
        } else if path.extension().is_some_and(|end| end == "py") {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn tools() -> Vec<Tool> {
    let ours = Tool {
        name: "raceproof",
        program: root().join("target/release/raceproof"),
        before: &["check", "--format", "json", "--isolated", "--exit-zero"],
        after: &[],
    };
    let peers = [
        (
            "ruff",
            &["check", "--select", "ALL", "--no-cache", "--isolated", "--output-format", "json", "--exit-zero"][..],
            &[][..],
        ),
        ("thread-safety", &["analyze"], &["--language", "python", "--output", "json", "--file", "thread-safety.json"]),
        ("threadcheck", &["scan", "--json"], &[]),
    ];
    let mut tools = vec![ours];
    for (name, before, after) in peers {
        if is_there(name, &["--help"]) {
            tools.push(Tool { name, program: PathBuf::from(name), before, after });
        } else {
            println!("`{name}` is not installed: left out");
        }
    }
    tools
}

fn measure(tree: &Path, tools: &[Tool], runs: u32) {
    println!("\n{} ({} lines)", tree.display(), lines(tree));
    println!("| tool | wall (s) | peak (MiB) | time against raceproof | memory against raceproof |");
    println!("|---|---|---|---|---|");
    let mut ours = None;
    for tool in tools {
        let costs: Vec<Cost> = (0..runs).filter_map(|_| cost(tool, tree)).collect();
        let Some(best) = costs.into_iter().min_by_key(|cost| cost.wall) else {
            println!("| {} | did not end in {RUN_S_MAX} s, or did not start | | | |", tool.name);
            continue;
        };
        let first = *ours.get_or_insert(best);
        println!(
            "| {} | {:.2} | {:.0} | {:.2} | {:.2} |",
            tool.name,
            best.wall.as_secs_f64(),
            as_f64(best.peak_kib) / 1024.0,
            best.wall.as_secs_f64() / first.wall.as_secs_f64(),
            as_f64(best.peak_kib) / as_f64(first.peak_kib.max(1)),
        );
    }
}

fn as_f64(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

/// One run, in an empty folder, so that a tool finds no configuration and what it writes is thrown away.
fn cost(tool: &Tool, tree: &Path) -> Option<Cost> {
    let (folder, tree) = (tempfile::tempdir().ok()?, tree.canonicalize().ok()?);
    let started = Instant::now();
    let mut child = Command::new(&tool.program)
        .current_dir(folder.path())
        .args(tool.before)
        .arg(tree)
        .args(tool.after)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut peak_kib = 0;
    loop {
        if child.try_wait().ok()?.is_some() {
            return Some(Cost { wall: started.elapsed(), peak_kib });
        }
        peak_kib = peak_kib.max(peak(child.id()).unwrap_or(0));
        if started.elapsed() > Duration::from_secs(RUN_S_MAX) {
            child.kill().ok()?;
            child.wait().ok()?;
            return None;
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// The high-water mark that the system keeps for a process; the last look before its end is close to its peak.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn lines(tree: &Path) -> usize {
    let mut folders = vec![tree.to_path_buf()];
    let mut n = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "py") => {
                    n += fs::read(path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
                }
                _ => {}
            }
        }
    }
    n
}
