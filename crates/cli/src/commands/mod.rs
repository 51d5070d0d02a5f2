//! The verbs, a module each, and what those that analyse have in common: a [`Job`].

mod check;
mod dashboard;
mod explain;
mod explore;
mod fix;
mod prove;
mod rules;
mod run;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use facts::{Confidence, FileId, Files, Finding};

use crate::args::{Command, Scope};
use crate::config::Config;
use crate::discover::{Discovered, Globs, Wanted, discover};
use crate::error::Error;
use crate::selection::{Names, chosen, resolve};
use crate::texts::{self, Texts};
use crate::{Answer, progress::Progress};

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Answer, Error> {
    let exit = match command {
        Command::Check(args) => check::run(args)?,
        Command::Fix(args) => fix::run(args)?,
        Command::Prove(args) => prove::run(args)?,
        Command::Explain(args) => explain::run(args)?,
        Command::Rules => rules::run()?,
        Command::Dashboard(args) => dashboard::run(args)?,
        Command::Explore(args) => return Ok(Answer::Run(explore::run(args)?)),
        Command::Run(args) => return Ok(Answer::Run(run::run(args))),
    };
    Ok(Answer::Exit(exit))
}

/// What is analysed, and how: arguments and configuration brought together, and the texts read.
struct Job {
    config: Config,
    texts: Texts,
    options: ::check::Options,
    /// What the options leave on, for readers.
    filter: Filter,
    /// Files that were passed over, in words.
    notes: Vec<String>,
}

/// Which findings are shown.
struct Filter {
    confidence: Confidence,
    ignored: Names,
    per_path: Vec<(Globs, Names)>,
    /// For each file, what the globs take from it.
    ignored_in: Vec<BTreeSet<&'static str>>,
}

/// What [`Filter::part`] makes of a list.
struct Shown {
    findings: Vec<Finding>,
    /// How many were of too low confidence.
    n_hidden: usize,
}

impl Job {
    fn load(scope: &Scope, shows_progress: bool) -> Result<Self, Error> {
        let config = match &scope.config {
            Some(file) => Config::from_file(file)?,
            None if scope.isolated => Config::none(),
            None => Config::nearest(&scope.paths)?,
        };
        let settings = &config.settings;
        let select = match (&scope.select[..], &settings.select) {
            ([], None) => None,
            ([], Some(words)) => Some(resolve(words)?),
            (words, _) => Some(resolve(words)?),
        };
        let mut ignored = resolve(&settings.ignore)?;
        ignored.extend(resolve(&scope.ignore)?);
        let runtime = scope.runtime.or(settings.runtime);
        let options = ::check::Options {
            runtime: runtime.map(Into::into).unwrap_or_default(),
            select: chosen(select.as_ref(), &ignored),
            shared: settings.shared.clone(),
        };
        let confidence = scope.confidence.or(settings.confidence);
        let mut filter = Filter {
            confidence: confidence.map_or(Confidence::Medium, Into::into),
            ignored,
            per_path: Vec::new(),
            ignored_in: Vec::new(),
        };
        for (glob, words) in &settings.per_path_ignores {
            let globs = Globs::new(&config.root, [glob.as_str()])?;
            filter.per_path.push((globs, resolve(words)?));
        }
        let progress = Progress::start("reading files".to_owned(), shows_progress);
        let found = discover(&scope.paths, &wanted(&config)?)?;
        let texts = texts::read(&found);
        drop(progress);
        filter.learn(&texts);
        let mut notes = notes(&found);
        notes.extend(unknown_classes(&options.shared, &texts.files));
        Ok(Self { config, options, filter, notes, texts })
    }

    /// The findings of all texts, and of those that could not be read.
    fn findings(&self, files: &Files) -> Vec<Finding> {
        self.checked(files).0
    }

    /// The same, and the limits of the analysis that were reached.
    fn checked(&self, files: &Files) -> (Vec<Finding>, Vec<String>) {
        let ::check::Checked { mut findings, limits } = ::check::check_and_note(files, &self.options);
        findings.extend(self.texts.findings.iter().cloned());
        // The paths of texts rise with their numbers, so this is the order that `check` gives.
        findings.sort_by_key(|finding| (finding.span.file, finding.span.start));
        (findings, limits)
    }
}

impl Filter {
    /// Looks the per-path rules up, once for each file.
    fn learn(&mut self, texts: &Texts) {
        self.ignored_in = texts
            .origins
            .iter()
            .map(|origin| {
                let Some((path, _)) = origin else {
                    return BTreeSet::new();
                };
                let matching = self.per_path.iter().filter(|(globs, _)| globs.matches(path, false));
                matching.flat_map(|(_, names)| names.iter().copied()).collect()
            })
            .collect();
    }

    fn ignores(&self, file: FileId, rule: &str) -> bool {
        let here = self.ignored_in.get(file.0 as usize);
        self.ignored.contains(rule) || here.is_some_and(|names| names.contains(rule))
    }

    fn part(&self, findings: Vec<Finding>) -> Shown {
        let mut findings = findings;
        findings.retain(|finding| !self.ignores(finding.span.file, finding.rule.name));
        let before = findings.len();
        findings.retain(|finding| finding.confidence >= self.confidence);
        Shown { n_hidden: before - findings.len(), findings }
    }
}

fn wanted(config: &Config) -> Result<Wanted, Error> {
    let globs = |words: &[String]| Globs::new(&config.root, words.iter().map(String::as_str));
    let settings = &config.settings;
    Ok(Wanted {
        include: settings.include.as_deref().map(globs).transpose()?,
        exclude: match &settings.exclude[..] {
            [] => None,
            words => Some(globs(words)?),
        },
    })
}

fn notes(found: &Discovered) -> Vec<String> {
    let mut notes = Vec::new();
    if found.files.is_empty() && found.unreadable.is_empty() {
        notes.push("no Python files here".to_owned());
    }
    if found.notebooks > 0 {
        let notebooks = counted(found.notebooks, "notebook");
        notes.push(format!("{notebooks} passed over: raceproof does not read notebooks"));
    }
    if found.stubs > 0 {
        let stubs = counted(found.stubs, "stub file");
        notes.push(format!("{stubs} passed over: there is no code in them that runs"));
    }
    notes
}

/// Classes that the configuration calls shared, and that no file defines: a slip of the pen would do nothing, silently.
fn unknown_classes(shared: &[String], files: &Files) -> Vec<String> {
    let is_defined = |class: &str| {
        let name = class.rsplit('.').next().unwrap_or(class);
        let head = |line: &str| {
            let rest = line.trim_start().strip_prefix("class ").map(str::trim_start);
            rest.and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        files.iter().any(|(_, file)| file.text.lines().any(head))
    };
    let unknown = shared.iter().filter(|class| !is_defined(class));
    unknown.map(|class| format!("`shared` names `{class}`, and no file here defines such a class")).collect()
}

/// `1 finding`, `2 findings`.
fn counted(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

/// Prints to stdout. A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new("cannot write to stdout").because(cause))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr. A stderr that takes nothing cannot be told about itself.
fn whisper(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints remarks that are no findings to stderr.
fn remark(lines: &[String]) {
    whisper(&lines.iter().map(|line| format!("note: {line}\n")).collect::<String>());
}

/// A path of the configuration, which is relative to its folder.
fn below(config: &Config, path: &std::path::Path) -> PathBuf {
    config.root.join(path)
}
