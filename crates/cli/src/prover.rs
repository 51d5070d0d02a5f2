//! Asks for each finding whether it can be made to happen: its scenario, run in a child that it shares with the others
//! of its file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use facts::{Files, Finding};

use crate::args::Limits;
use crate::child::wire::{Answer, Batch, Function, Lines, Question, Side};
use crate::child::{ask, python};
use crate::error::Error;
use crate::progress::Progress;
use crate::texts::Texts;

/// What all questions have in common.
pub struct Prover {
    python: PathBuf,
    max_runs: u64,
    time_limit: u64,
    memory_limit: u64,
    /// When all has to be over, and how many seconds that were.
    ends: Option<(Instant, u64)>,
    /// For each path that is shown the one to open.
    paths: BTreeMap<String, String>,
    /// The folder that all of them are in.
    root: String,
}

impl Prover {
    /// Asks about these texts, within these limits. `files` are those that `texts` were read into.
    ///
    /// # Errors
    /// If there is no interpreter.
    pub fn new(limits: &Limits, files: &Files, texts: &Texts) -> Result<Self, Error> {
        let paths = files.iter().filter_map(|(id, file)| {
            let (path, _) = texts.origin(id)?;
            Some((file.path.clone(), absolute(path)))
        });
        let paths: BTreeMap<String, String> = paths.collect();
        Ok(Self {
            python: python(limits.python.as_deref())?,
            max_runs: limits.max_runs,
            time_limit: limits.time_limit,
            memory_limit: limits.memory_limit,
            ends: limits.budget.map(|seconds| (Instant::now() + Duration::from_secs(seconds), seconds)),
            root: folder_of_all(paths.values()),
            paths,
        })
    }

    /// What comes of the scenarios of findings of one file. With `folder`, the answers have the texts of tests.
    ///
    /// # Errors
    /// If no child can be started.
    pub fn prove(
        &self,
        files: &Files,
        findings: &[&Finding],
        folder: Option<&Path>,
        progress: &Progress,
    ) -> Result<Vec<Answer>, Error> {
        let questions = findings.iter().map(|finding| {
            let mut question = self.question(&prove::scenario(files, finding)?);
            question.folder = folder.map(absolute).unwrap_or_default();
            question.title = format!("[{}] {}", finding.rule.name, finding.message);
            question.fingerprint = finding.fingerprint.to_string();
            Ok(question)
        });
        self.ask(questions.collect(), BTreeMap::new(), progress)
    }

    /// What comes of the scenarios of earlier answers, now that texts have changed.
    ///
    /// # Errors
    /// If no child can be started.
    pub fn prove_again(
        &self,
        before: &Files,
        after: &Files,
        asked: &[(&Finding, &Answer)],
        progress: &Progress,
    ) -> Result<Vec<Answer>, Error> {
        let questions = asked.iter().map(|(finding, answer)| {
            let mut question = self.question(&prove::scenario(before, finding)?);
            (question.case, question.reason) = (answer.case.clone(), answer.reason.clone());
            Ok(question)
        });
        let changed = before.iter().filter(|(id, file)| after.get(*id).text != file.text);
        let overlay = changed.map(|(id, file)| (self.path(&file.path), after.get(id).text.clone())).collect();
        self.ask(questions.collect(), overlay, progress)
    }

    /// Asks one child. Where there is no question, there is a reason.
    fn ask(
        &self,
        questions: Vec<Result<Question, String>>,
        overlay: BTreeMap<String, String>,
        progress: &Progress,
    ) -> Result<Vec<Answer>, Error> {
        let left = self.ends.map(|(end, _)| end.saturating_duration_since(Instant::now()).as_secs());
        let used_up = || match self.ends {
            Some((_, seconds)) => format!("the budget of {seconds} s for all findings was used up before its turn"),
            None => String::new(),
        };
        let mut batch = Batch {
            questions: Vec::new(),
            files: Vec::new(),
            root: self.root.clone(),
            overlay,
            max_runs: self.max_runs,
            time_limit: self.time_limit,
            memory_limit: self.memory_limit,
            seconds_left: left,
        };
        let reasons: Vec<Option<String>> = questions
            .into_iter()
            .map(|question| match question {
                Ok(_) if left == Some(0) => Some(used_up()),
                Ok(question) => {
                    batch.questions.push(question);
                    None
                }
                Err(reason) => Some(reason),
            })
            .collect();
        let functions = batch.questions.iter().flat_map(|it| it.sides.iter().chain(&it.alone)).flat_map(|side| {
            side.functions.iter().map(|it| &it.file).chain(side.lines.iter().map(|it| &it.file)).cloned()
        });
        batch.files = functions.collect::<BTreeSet<String>>().into_iter().collect();
        let answers = match batch.questions.is_empty() {
            true => Vec::new(),
            false => ask(&self.python, &batch, &|| progress.step())?,
        };
        let mut answers = answers.into_iter();
        let next = |reason: Option<String>| match reason {
            Some(reason) => {
                progress.step();
                Answer::gave_up(reason)
            }
            None => answers.next().flatten().unwrap_or_else(|| Answer::gave_up(used_up())),
        };
        Ok(reasons.into_iter().map(next).collect())
    }

    fn question(&self, scenario: &prove::Scenario) -> Question {
        let lines = |it: &prove::Lines| Lines { file: self.path(&it.path), first: it.first, last: it.last };
        let side = |side: &prove::Side| Side {
            functions: side
                .functions
                .iter()
                .map(|it| Function { file: self.path(&it.path), function: it.name.clone() })
                .collect(),
            lines: side.lines.iter().map(lines).collect(),
            is_task: side.is_task,
        };
        Question {
            sides: scenario.sides.iter().map(side).collect(),
            alone: scenario.alone.iter().map(side).collect(),
            fault: scenario.fault.as_ref().map(lines),
            used: scenario.used.clone(),
            place: scenario.place.clone(),
            place_file: self.path(&scenario.place_path),
            expects: scenario.expects.iter().map(|it| it.as_str().to_owned()).collect(),
            ..Question::default()
        }
    }

    fn path(&self, shown: &str) -> String {
        self.paths.get(shown).cloned().unwrap_or_else(|| shown.to_owned())
    }
}

fn absolute(path: &Path) -> String {
    let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned()
}

/// The folder that all of these paths are in.
fn folder_of_all<'a>(mut paths: impl Iterator<Item = &'a String>) -> String {
    let Some(mut folder) = paths.next().and_then(|path| Path::new(path).parent()).map(Path::to_owned) else {
        return String::new();
    };
    for path in paths {
        while !Path::new(path).starts_with(&folder) && folder.pop() {}
    }
    folder.to_string_lossy().into_owned()
}

/// The findings of each file, in order.
#[must_use]
pub fn by_file(findings: &[Finding]) -> Vec<&[Finding]> {
    findings.chunk_by(|one, other| one.span.file == other.span.file).collect()
}
