//! The child process that runs the program of the user: one for the questions about a file, within limits, and thrown
//! away after. It imports the file once, and forks for each question.
//!
//! Nothing of the program runs in this process. The child is `python -m raceproof.prove`; question and answer are
//! described in [`wire`].

pub mod wire;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use wire::{Answer, Answered, Batch};

/// How often a child is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A child gets so much longer than its time limit, to start and to say what it has: itself, and the one that it forks.
const SPARE: Duration = Duration::from_secs(20);
/// What is shown of a child that has failed.
const LINES_SHOWN: usize = 3;

/// Names the interpreter; the script `raceproof` sets it to its own.
pub const PYTHON: &str = "RACEPROOF_PYTHON";

/// The interpreter that runs programs; it is asked whether it can.
///
/// # Errors
/// If none is named, or it cannot.
pub fn python(named: Option<&Path>) -> Result<PathBuf, Error> {
    let path = named.map(Path::to_owned).or_else(|| {
        let ours = std::env::var_os(PYTHON).filter(|path| !path.is_empty());
        ours.map(PathBuf::from)
    });
    let Some(path) = path else {
        return Err(Error::new("there is no Python to run the program in")
            .help("start it as `python -m raceproof`, or name an interpreter that has raceproof with `--python`"));
    };
    let tried = Command::new(&path).args(["-P", "-c", "import raceproof.prove"]).stdin(Stdio::null()).output();
    let cannot = |cause: String| {
        Error::new(format!("`{}` cannot run programs for raceproof", path.display()))
            .because(cause)
            .help("it takes CPython 3.13 with raceproof installed; `--python` names another interpreter")
    };
    let output = tried.map_err(|cause| cannot(cause.to_string()))?;
    if !output.status.success() {
        return Err(cannot(last_lines(&String::from_utf8_lossy(&output.stderr))));
    }
    Ok(path)
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().rev().take(LINES_SHOWN).collect();
    let last: Vec<&str> = lines.into_iter().rev().map(str::trim).collect();
    last.join(" / ")
}

/// Asks a child; an answer for each question, or none for those that it did not begin in the time for all. That a child
/// dies or takes too long is an answer too: it gave up. `tell` is called after answers.
///
/// # Errors
/// If no child can be started.
pub fn ask(python: &Path, batch: &Batch, tell: &(dyn Fn() + Sync)) -> Result<Vec<Option<Answer>>, Error> {
    let cannot = |cause: std::io::Error| {
        Error::new(format!("cannot start `{}`", python.display()))
            .because(cause)
            .help("name an interpreter that has raceproof with `--python`")
    };
    // Files, so that neither side waits for the other to read.
    let (mut out, mut err) = (tempfile::tempfile().map_err(cannot)?, tempfile::tempfile().map_err(cannot)?);
    let mut input = tempfile::tempfile().map_err(cannot)?;
    input.write_all(batch.to_json().as_bytes()).and_then(|()| input.rewind()).map_err(cannot)?;
    let mut child = Command::new(python)
        .args(["-P", "-m", "raceproof.prove"])
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(out.try_clone().map_err(cannot)?))
        .stderr(Stdio::from(err.try_clone().map_err(cannot)?))
        .spawn()
        .map_err(cannot)?;
    let status = watch(&mut child, &out, Duration::from_secs(batch.time_limit) + SPARE, tell);
    let said = all_of(&mut out);
    let mut answers: Vec<Option<Answer>> = batch.questions.iter().map(|_| None).collect();
    for answered in said.lines().filter_map(|line| serde_json::from_str::<Answered>(line).ok()) {
        if let Some(answer) = answers.get_mut(answered.number) {
            *answer = Some(answered.answer);
        }
    }
    if !status.is_some_and(|status| status.success()) {
        let silent = Answer::gave_up(why_silent(status, batch, &all_of(&mut err)));
        answers.iter_mut().filter(|answer| answer.is_none()).for_each(|answer| *answer = Some(silent.clone()));
    }
    Ok(answers)
}

/// Why a child has not answered. The processes that it asks have limits, and so has the import: it takes code that
/// nothing can interrupt, or ends the process.
fn why_silent(status: Option<ExitStatus>, batch: &Batch, said: &str) -> String {
    let files = batch.files.iter().map(|file| file.rsplit('/').next().unwrap_or(file));
    let files = files.collect::<Vec<&str>>().join(", ");
    match status {
        None => format!("the time limit of {} s was reached while {files} was imported", batch.time_limit),
        Some(status) => format!("the process that imports {files} died, {status}: {}", last_lines(said)),
    }
}

/// Waits for the end of a child; one that says nothing for too long is killed.
fn watch(child: &mut Child, out: &File, limit: Duration, tell: &(dyn Fn() + Sync)) -> Option<ExitStatus> {
    let (mut begun, mut n_bytes) = (Instant::now(), 0);
    while begun.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(_) => break,
        }
        let now = out.metadata().map_or(0, |data| data.len());
        if now > n_bytes {
            (begun, n_bytes) = (Instant::now(), now);
            tell();
        }
    }
    // It may have ended by itself meanwhile, which is as good.
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn all_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read back was not said.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
