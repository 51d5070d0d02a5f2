//! Finds a free-threaded CPython or obtains one, and makes `.venv` with it: `docs/guide/python.md` says the order.
//! Where none can be had, a CPython with a GIL takes its place, and that is said loudly.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::shell::{self, root};
use crate::{debian, shell::is_there};

/// The minor versions that the extension can be built for, newest first.
const FREE_THREADED: [&str; 2] = ["3.14t", "3.13t"];

/// The file in the environment that holds what was installed into it.
const INSTALLED: &str = "raceproof-installed";

const ASK: &str = "import sys; print('{}.{}.{}'.format(*sys.version_info), \
    getattr(sys, '_is_gil_enabled', lambda: True)(), sys.base_prefix)";

/// An interpreter that was started and asked.
#[derive(Debug, Clone)]
pub struct Python {
    /// The executable.
    pub path: PathBuf,
    version: String,
    has_gil: bool,
    base: String,
}

impl Python {
    fn ask(path: impl AsRef<Path>) -> Option<Python> {
        let path = path.as_ref();
        let output = Command::new(path).args(["-X", "gil=0", "-c", ASK]).stderr(Stdio::null()).output().ok()?;
        let output = if output.status.success() {
            output
        } else {
            // A build that cannot run without a GIL refuses the option.
            Command::new(path).args(["-c", ASK]).stderr(Stdio::null()).output().ok()?
        };
        let said = String::from_utf8(output.stdout).ok()?;
        let [version, has_gil, base] = said.trim().splitn(3, ' ').collect::<Vec<_>>().try_into().ok()?;
        let (version, has_gil, base) = (version.to_owned(), has_gil == "True", base.to_owned());
        Some(Python { path: path.to_path_buf(), version, has_gil, base })
    }

    fn shown(&self) -> String {
        let gil = if self.has_gil { "with a GIL" } else { "free-threaded" };
        format!("CPython {} ({gil})", self.version)
    }

    /// Starts it with these words, in the root of the repository.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words);
        command
    }

    /// Starts a program that is installed in the same environment.
    pub fn tool(&self, name: &str) -> Command {
        Command::new(self.path.with_file_name(name))
    }

    /// Is a program of this name installed in the same environment?
    pub fn has_tool(&self, name: &str) -> bool {
        self.path.with_file_name(name).exists()
    }
}

/// The interpreter of `.venv`, which is made if it is not there, with the tools of the `dev` group installed.
pub fn environment() -> Result<Python, String> {
    let folder = root().join(".venv");
    let path = folder.join("bin/python");
    let wanted = env::var_os("RACEPROOF_PYTHON");
    let there = Python::ask(&path);
    let python = match (wanted, there) {
        (Some(wanted), there) => {
            let advice = "RACEPROOF_PYTHON names a Python that does not start";
            let wanted = Python::ask(&wanted).ok_or_else(|| format!("{advice}: {}", wanted.display()))?;
            match there {
                Some(there) if there.base == wanted.base => there,
                Some(there) => {
                    let advice = "remove .venv, or unset RACEPROOF_PYTHON";
                    return Err(format!(
                        "RACEPROOF_PYTHON is another Python than that of .venv ({}): {advice}",
                        there.base
                    ));
                }
                None => make(&folder, &wanted)?,
            }
        }
        (None, Some(there)) => there,
        (None, None) => make(&folder, &find_or_obtain()?)?,
    };
    eprintln!("python: {} in .venv, of {}", python.shown(), python.base);
    if python.has_gil {
        eprintln!("WARNING: this Python has a GIL. Nothing runs in parallel on it, so the tests cannot see a race.");
        eprintln!("WARNING: set RACEPROOF_PYTHON to a free-threaded Python and remove .venv to have them seen.");
    }
    install(&python, &folder)?;
    Ok(python)
}

fn find_or_obtain() -> Result<Python, String> {
    if let Some(found) = find() {
        return Ok(found);
    }
    eprintln!("python: no free-threaded Python is here; getting one");
    for obtain in [from_uv, debian::build] {
        match obtain() {
            Ok(path) => match Python::ask(&path) {
                Some(python) => return Ok(python),
                None => eprintln!("note: {} does not start", path.display()),
            },
            Err(reason) => eprintln!("note: {reason}"),
        }
    }
    let fallback = ["python3.14", "python3.13", "python3.12", "python3"].into_iter().find_map(Python::ask);
    fallback.ok_or_else(|| "no Python is installed; install a free-threaded CPython 3.13 or 3.14".to_owned())
}

/// A free-threaded Python that is installed: on PATH, built by an earlier run, or known to uv.
fn find() -> Option<Python> {
    let on_path = FREE_THREADED.iter().map(|version| PathBuf::from(format!("python{version}")));
    let built = debian::folder().map(|folder| folder.join("bin/python3.13t"));
    let known = FREE_THREADED.iter().filter_map(|version| uv(&["python", "find", "--no-project", version]).ok());
    let candidates = on_path.chain(built).chain(known);
    candidates.filter_map(Python::ask).find(|python| !python.has_gil)
}

fn from_uv() -> Result<PathBuf, String> {
    if !is_there("uv", &["--version"]) {
        return Err("uv is not installed, so it cannot get a Python".to_owned());
    }
    let version = FREE_THREADED[0];
    uv(&["python", "install", version])?;
    uv(&["python", "find", "--no-project", version])
}

/// What uv prints, as a path.
fn uv(words: &[&str]) -> Result<PathBuf, String> {
    let failed = || format!("`uv {}` failed", words.join(" "));
    let output = Command::new("uv").args(words).stderr(Stdio::null()).output().map_err(|_| failed())?;
    match output.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())),
        false => Err(failed()),
    }
}

fn make(folder: &Path, python: &Python) -> Result<Python, String> {
    eprintln!("python: making .venv with {}", python.path.display());
    shell::run(python.command(&["-m", "venv"]).arg(folder))?;
    Python::ask(folder.join("bin/python")).ok_or_else(|| "the Python of .venv does not start".to_owned())
}

/// Installs the `dev` group of pyproject.toml unless that has been done.
fn install(python: &Python, folder: &Path) -> Result<(), String> {
    let wanted = development_packages()?;
    let mark = folder.join(INSTALLED);
    let text = wanted.join("\n");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == text) {
        return Ok(());
    }
    if python.has_tool("uv") {
        let mut install = python.tool("uv");
        install.args(["pip", "install", "--quiet", "--python"]).arg(&python.path).args(&wanted);
        shell::run(&mut install)?;
    } else {
        shell::run(python.command(&["-m", "pip", "install", "--quiet"]).args(&wanted))?;
    }
    fs::write(&mark, text).map_err(|cause| format!("{}: {cause}", mark.display()))
}

fn development_packages() -> Result<Vec<String>, String> {
    let text = fs::read_to_string(root().join("pyproject.toml")).map_err(|cause| format!("pyproject.toml: {cause}"))?;
    let project: toml::Table = text.parse().map_err(|cause| format!("pyproject.toml: {cause}"))?;
    let group = project.get("dependency-groups").and_then(|groups| groups.get("dev")).and_then(|dev| dev.as_array());
    let packages = group.ok_or("pyproject.toml has no dependency group `dev`")?;
    Ok(packages.iter().filter_map(|package| package.as_str().map(str::to_owned)).collect())
}
