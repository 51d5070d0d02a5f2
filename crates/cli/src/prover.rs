//! Asks for each finding whether it can be made to happen: its scenario, run in a child.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use facts::{Files, Finding};

use crate::args::Limits;
use crate::child::wire::{Answer, Function, Lines, Question, Side};
use crate::child::{ask, python};
use crate::error::Error;
use crate::texts::Texts;

/// What all questions have in common.
pub struct Prover {
    python: PathBuf,
    max_runs: u64,
    time_limit: u64,
    memory_limit: u64,
    /// For each path that is shown the one to open.
    paths: BTreeMap<String, String>,
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
        Ok(Self {
            python: python(limits.python.as_deref())?,
            max_runs: limits.max_runs,
            time_limit: limits.time_limit,
            memory_limit: limits.memory_limit,
            paths: paths.collect(),
        })
    }

    /// What comes of the scenario of a finding. With `folder`, the answer has the text of a test for it.
    ///
    /// # Errors
    /// If no child can be started.
    pub fn prove(&self, files: &Files, finding: &Finding, folder: Option<&Path>) -> Result<Answer, Error> {
        let scenario = match prove::scenario(files, finding) {
            Ok(scenario) => scenario,
            Err(reason) => return Ok(Answer::gave_up(reason)),
        };
        let mut question = self.question(&scenario);
        question.folder = folder.map(absolute).unwrap_or_default();
        question.title = format!("[{}] {}", finding.rule.name, finding.message);
        question.fingerprint = finding.fingerprint.to_string();
        ask(&self.python, &question)
    }

    /// What comes of the scenario of an earlier answer, now that texts have changed.
    ///
    /// # Errors
    /// If no child can be started.
    pub fn prove_again(
        &self,
        before: &Files,
        after: &Files,
        finding: &Finding,
        answer: &Answer,
    ) -> Result<Answer, Error> {
        let Ok(scenario) = prove::scenario(before, finding) else {
            return Ok(Answer::gave_up("it had no scenario"));
        };
        let mut question = self.question(&scenario);
        question.case = answer.case.clone();
        let changed = before.iter().filter(|(id, file)| after.get(*id).text != file.text);
        question.overlay = changed.map(|(id, file)| (self.path(&file.path), after.get(id).text.clone())).collect();
        ask(&self.python, &question)
    }

    fn question(&self, scenario: &prove::Scenario) -> Question {
        let sides = scenario.sides.iter().map(|side| Side {
            functions: side
                .functions
                .iter()
                .map(|it| Function { file: self.path(&it.path), function: it.name.clone() })
                .collect(),
            lines: side
                .lines
                .iter()
                .map(|it| Lines { file: self.path(&it.path), first: it.first, last: it.last })
                .collect(),
            is_task: side.is_task,
        });
        Question {
            sides: sides.collect(),
            place: scenario.place.clone(),
            place_file: self.path(&scenario.place_path),
            expects: scenario.expects.iter().map(|it| it.as_str().to_owned()).collect(),
            max_runs: self.max_runs,
            time_limit: self.time_limit,
            memory_limit: self.memory_limit,
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
