//! The configuration: `[tool.raceproof]` of `pyproject.toml`, or `raceproof.toml`, which wins.
//!
//! One file counts, the nearest at or above all that is looked at. Its globs and paths are relative to its folder. An
//! unknown key is an error: a mistyped key that silently does nothing costs more than a failed run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::args::{ConfidenceArg, RuntimeArg};
use crate::discover::{absolute, reason, shown};
use crate::error::{Error, nearest};

/// A key of the configuration, as `docs/configuration.md` shows it.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What holds if it is not given.
    pub default: &'static str,
    /// What it does, in sentences.
    pub does: &'static str,
    /// A line that shows it.
    pub example: &'static str,
}

/// Every key, in the order in which the page shows them.
pub const KEYS: &[Key] = &[
    Key {
        name: "runtime",
        takes: "`\"gil\"`, `\"free-threaded\"` or `\"codon\"`",
        default: "`\"free-threaded\"`",
        does: "The runtime that the code is meant for. It decides what a single operation on a built-in container \
               promises.",
        example: "runtime = \"gil\"",
    },
    Key {
        name: "select",
        takes: "a list of rules",
        default: "every rule that is on by default",
        does: "Runs these rules only. A rule is given by name, by code, by the beginning of codes (`\"RP2\"`), or as \
               `\"all\"`.",
        example: "select = [\"RP1\", \"unlocked-increment\"]",
    },
    Key {
        name: "ignore",
        takes: "a list of rules",
        default: "none",
        does: "Leaves these rules out, after `select`.",
        example: "ignore = [\"no-shutdown\"]",
    },
    Key {
        name: "confidence",
        takes: "`\"low\"`, `\"medium\"` or `\"high\"`",
        default: "`\"medium\"`",
        does: "Hides findings that we are less sure of.",
        example: "confidence = \"high\"",
    },
    Key {
        name: "include",
        takes: "a list of globs",
        default: "every `.py` file",
        does: "Looks only at files that match one of them. Globs are read as in `.gitignore`.",
        example: "include = [\"src/\"]",
    },
    Key {
        name: "exclude",
        takes: "a list of globs",
        default: "none",
        does: "Leaves out files and folders that match one of them, besides what `.gitignore` leaves out. A file that \
               is named on the command line is looked at all the same.",
        example: "exclude = [\"*_pb2.py\", \"vendor/\"]",
    },
    Key {
        name: "per-path-ignores",
        takes: "a table from globs to lists of rules",
        default: "none",
        does: "Leaves rules out for the files that match.",
        example: "per-path-ignores = { \"tests/\" = [\"RP4\"] }",
    },
    Key {
        name: "shared",
        takes: "a list of class names, with or without their module",
        default: "none",
        does: "Treats instances of these classes as shared between threads, although nothing in the code shows it.",
        example: "shared = [\"Cache\", \"app.state.Registry\"]",
    },
    Key {
        name: "baseline",
        takes: "a path",
        default: "none",
        does: "Hides the findings that this file lists, as `--baseline` does.",
        example: "baseline = \"raceproof-baseline.json\"",
    },
];

/// The configuration as read, with the folder it holds for.
#[derive(Debug)]
pub struct Config {
    /// The folder that globs and paths are relative to.
    pub root: PathBuf,
    /// What was written.
    pub settings: Settings,
}

/// What can be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// See [`KEYS`], as for the others.
    #[serde(default, deserialize_with = "word")]
    pub runtime: Option<RuntimeArg>,
    /// Rules to run.
    pub select: Option<Vec<String>>,
    /// Rules to leave out.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The least confidence shown.
    #[serde(default, deserialize_with = "word")]
    pub confidence: Option<ConfidenceArg>,
    /// Files to look at.
    pub include: Option<Vec<String>>,
    /// Files to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Rules to leave out, by glob.
    #[serde(default)]
    pub per_path_ignores: BTreeMap<String, Vec<String>>,
    /// Classes whose instances are shared.
    #[serde(default)]
    pub shared: Vec<String>,
    /// Findings to hide.
    pub baseline: Option<PathBuf>,
}

/// Reads a word as the command line does.
fn word<'de, D: Deserializer<'de>, T: ValueEnum>(reader: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(reader)?;
    let known = || {
        let values = T::value_variants().iter().filter_map(T::to_possible_value);
        let names = values.map(|value| format!("`{}`", value.get_name()));
        names.collect::<Vec<_>>().join(", ")
    };
    T::from_str(&text, false).map(Some).map_err(|_| D::Error::custom(format!("`{text}` is none of {}", known())))
}

#[derive(Deserialize)]
struct Pyproject {
    tool: Option<Tools>,
}

#[derive(Deserialize)]
struct Tools {
    raceproof: Option<Settings>,
}

impl Config {
    /// No configuration: everything by default, globs relative to the current folder.
    #[must_use]
    pub fn none() -> Self {
        Self { root: absolute(Path::new(".")), settings: Settings::default() }
    }

    /// The nearest configuration at or above all of `paths`.
    ///
    /// # Errors
    /// If the file that counts cannot be read or is wrong.
    pub fn nearest(paths: &[PathBuf]) -> Result<Self, Error> {
        let Some(folder) = common_folder(paths) else {
            return Ok(Self::none());
        };
        for folder in folder.ancestors() {
            for name in ["raceproof.toml", "pyproject.toml"] {
                let file = folder.join(name);
                if file.is_file()
                    && let Some(config) = Self::read(&file)?
                {
                    return Ok(config);
                }
            }
        }
        Ok(Self::none())
    }

    /// The configuration in `file`, which was asked for by name.
    ///
    /// # Errors
    /// If it cannot be read, is wrong, or holds nothing for raceproof.
    pub fn from_file(file: &Path) -> Result<Self, Error> {
        Self::read(file)?.ok_or_else(|| {
            Error::new(format!("`{}` has no `[tool.raceproof]`", file.display()))
                .help("add the table, or give another file with `--config`")
        })
    }

    /// `None` if it is a `pyproject.toml` without our table.
    fn read(file: &Path) -> Result<Option<Self>, Error> {
        let text = std::fs::read_to_string(file)
            .map_err(|cause| Error::new(format!("cannot read `{}`", shown(file))).because(reason(&cause)))?;
        let is_pyproject = file.file_name().is_some_and(|name| name == "pyproject.toml");
        let read = if is_pyproject {
            toml::from_str::<Pyproject>(&text).map(|whole| whole.tool.and_then(|tools| tools.raceproof))
        } else {
            toml::from_str::<Settings>(&text).map(Some)
        };
        let settings = read.map_err(|error| explain(&error, file, &text))?;
        let root = absolute(file.parent().unwrap_or(Path::new(".")));
        Ok(settings.map(|settings| Self { root, settings }))
    }
}

/// The deepest folder that holds all of `paths`.
fn common_folder(paths: &[PathBuf]) -> Option<PathBuf> {
    let folders = paths.iter().map(|path| {
        let path = absolute(path);
        if path.is_dir() { path } else { path.parent().map(Path::to_path_buf).unwrap_or(path) }
    });
    folders.reduce(|common, folder| {
        common.ancestors().find(|above| folder.starts_with(above)).map(Path::to_path_buf).unwrap_or_default()
    })
}

/// A mistake in the configuration, with its line, its column and the key that was probably meant.
fn explain(error: &toml::de::Error, file: &Path, text: &str) -> Error {
    let message = error.message();
    let at = error.span().map_or_else(String::new, |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!(":{line}:{column}")
    });
    let place = format!("{}{at}", shown(file));
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let Some(key) = unknown else {
        return Error::new(format!("{place} cannot be used")).because(message).help("see docs/configuration.md");
    };
    let error = Error::new(format!("{place} holds an unknown key, `{key}`"));
    match nearest(key, KEYS.iter().map(|key| key.name)) {
        Some(meant) => error.help(format!("did you mean `{meant}`?")),
        None => error.help(format!(
            "the keys are {}",
            KEYS.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Error> {
        toml::from_str(text).map_err(|error| explain(&error, Path::new("/p/raceproof.toml"), text))
    }

    #[test]
    fn every_key_of_the_page_is_read_and_every_key_read_is_on_the_page() {
        let all: Vec<&str> = KEYS.iter().map(|key| key.example).collect();
        read(&all.join("\n")).expect("the examples of the page");
        let error = read("no-such-key-at-all = 1").expect_err("unknown");
        for key in KEYS {
            assert!(error.help.as_ref().expect("help").contains(key.name));
        }
    }

    #[test]
    fn an_unknown_key_is_placed_and_what_was_meant_is_named() {
        let error = read("runtime = \"gil\"\nexlude = []\n").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "error: /p/raceproof.toml:2:1 holds an unknown key, `exlude`\n help: did you mean `exclude`?"
        );
    }

    #[test]
    fn a_wrong_value_is_placed() {
        let error = read("runtime = \"jython\"\n").expect_err("wrong");
        assert_eq!(error.message, "/p/raceproof.toml:1:11 cannot be used");
    }
}
