//! The child process that runs the program of the user: one for each question, within limits, and thrown away after.
//!
//! Nothing of the program runs in this process. The child is `python -m raceproof.prove`; question and answer are
//! described in [`wire`].

pub mod wire;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use wire::{Answer, Question};

/// How often a child is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A child gets so much longer than its time limit, to start and to say what it has.
const SPARE: Duration = Duration::from_secs(10);
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

/// Asks a child. A child that dies or takes too long is an answer too: it gave up.
///
/// # Errors
/// If no child can be started.
pub fn ask(python: &Path, question: &Question) -> Result<Answer, Error> {
    let cannot = |cause: std::io::Error| {
        Error::new(format!("cannot start `{}`", python.display()))
            .because(cause)
            .help("name an interpreter that has raceproof with `--python`")
    };
    // Files, so that neither side waits for the other to read.
    let (mut out, mut err) = (tempfile::tempfile().map_err(cannot)?, tempfile::tempfile().map_err(cannot)?);
    let mut input = tempfile::tempfile().map_err(cannot)?;
    input.write_all(question.to_json().as_bytes()).and_then(|()| input.rewind()).map_err(cannot)?;
    let mut child = Command::new(python)
        .args(["-P", "-m", "raceproof.prove"])
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(out.try_clone().map_err(cannot)?))
        .stderr(Stdio::from(err.try_clone().map_err(cannot)?))
        .spawn()
        .map_err(cannot)?;
    let limit = Duration::from_secs(question.time_limit) + SPARE;
    if !ends_within(&mut child, limit) {
        return Ok(Answer::gave_up(format!("the time limit of {} s was reached", question.time_limit)));
    }
    let text = all_of(&mut out);
    Ok(Answer::from_json(&text)
        .unwrap_or_else(|| Answer::gave_up(format!("the process that ran it died: {}", last_lines(&all_of(&mut err))))))
}

/// Waits for the end of a child; one that does not end in time is killed.
fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(_) => break,
        }
    }
    // It may have ended by itself meanwhile, which is as good.
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn all_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read back was not said.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
