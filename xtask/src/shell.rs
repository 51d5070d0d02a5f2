//! Starts other programs in the root of the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the repository: Cargo says at run time where it is, so that a moved checkout is not looked for at
/// its old place.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs a command in the root and waits for it; what it prints goes where ours goes.
pub fn run(command: &mut Command) -> Result<(), String> {
    run_in(&root(), command)
}

/// Runs a command in a folder and waits for it.
pub fn run_in(folder: &Path, command: &mut Command) -> Result<(), String> {
    let words = shown(command);
    eprintln!("$ {words}");
    let status = command.current_dir(folder).status().map_err(|cause| format!("`{words}` does not start: {cause}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{words}` failed")) }
}

/// Runs the last command of several: if it fails it has said why itself, and nothing is to be printed behind that.
pub fn run_last(command: &mut Command) -> Result<(), String> {
    run(command).map_err(|_| String::new())
}

/// Cargo, with these words.
pub fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words);
    command
}

/// Can a program be started with these words, and does it succeed?
pub fn is_there(program: &str, words: &[&str]) -> bool {
    Command::new(program)
        .args(words)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
