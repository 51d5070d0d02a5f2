//! `raceproof prove`: makes findings happen, and says of each what came of it.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use facts::{Files, Finding};
use prove::{Judged, Word, judge};
use rayon::prelude::*;

use super::{Job, counted, print, remark};
use crate::Exit;
use crate::args::{ProofFormat, ProveArgs};
use crate::child::wire::{AfterFix, Answer, Proof, report};
use crate::discover::shown;
use crate::error::Error;
use crate::progress::Progress;
use crate::proven::copy;
use crate::prover::{Prover, by_file};
use crate::repair::{Outcome, Terms, repair};
use crate::replace::replace;

pub(super) fn run(args: &ProveArgs) -> Result<Exit, Error> {
    let mut job = Job::load(&args.scope, !args.quiet)?;
    let files = std::mem::take(&mut job.texts.files);
    let prover = Prover::new(&args.limits, &files, &job.texts)?;
    let findings = job.filter.part(job.findings(&files)).findings;
    if let Some(folder) = &args.write {
        std::fs::create_dir_all(folder).map_err(|cause| cannot_write(folder, &cause))?;
    }
    let fixed = fixed(&job, &files, &findings);
    let progress = Progress::counting("proving findings".to_owned(), findings.len(), !args.quiet);
    let asked = Asked { prover: &prover, files: &files, fixed: &fixed, folder: args.write.as_deref() };
    let is_text = args.format == ProofFormat::Text;
    let proofs = in_order(
        &by_file(&findings),
        |group| asked.proofs(group, &progress),
        |proofs| match is_text {
            true => progress.beside(|| print(&proofs.iter().map(told).collect::<String>())),
            false => Ok(()),
        },
    );
    drop(progress);
    let proofs: Vec<Proof> = proofs?.into_iter().flatten().collect();
    print(&if is_text { sum(&proofs) } else { report(&proofs) })?;
    if !args.quiet {
        remark(&job.notes);
    }
    let has = |verdict: &str| proofs.iter().any(|proof| proof.answer.verdict == verdict);
    Ok(match (has("failed"), has("gave_up")) {
        (true, _) => Exit::Findings,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Clean,
    })
}

/// Makes something of each group, several at a time, and tells of each in the order of the groups, as soon as those
/// before it are told.
fn in_order<T: Sync, R: Send>(
    groups: &[T],
    make: impl Fn(&T) -> Result<R, Error> + Sync,
    tell: impl Fn(&R) -> Result<(), Error> + Sync,
) -> Result<Vec<R>, Error> {
    let told = Mutex::new((0, groups.iter().map(|_| None).collect::<Vec<Option<R>>>()));
    // One after the other from the front, since that is the order in which they are told.
    let next = AtomicUsize::new(0);
    let work = |_| -> Result<(), Error> {
        loop {
            let idx = next.fetch_add(1, Relaxed);
            let Some(group) = groups.get(idx) else { return Ok(()) };
            let made = make(group)?;
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let (n_told, all) = &mut *told;
            all[idx] = Some(made);
            while let Some(made) = all.get(*n_told).and_then(Option::as_ref) {
                tell(made)?;
                *n_told += 1;
            }
        }
    };
    (0..rayon::current_num_threads()).into_par_iter().map(work).collect::<Result<Vec<()>, Error>>()?;
    let (_, all) = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(all.into_iter().flatten().collect())
}

/// What is asked of the findings of a file.
struct Asked<'a> {
    prover: &'a Prover,
    files: &'a Files,
    fixed: &'a Outcome,
    folder: Option<&'a Path>,
}

impl Asked<'_> {
    fn proofs(&self, group: &[Finding], progress: &Progress) -> Result<Vec<Proof>, Error> {
        let findings: Vec<&Finding> = group.iter().collect();
        let answers = self.prover.prove(self.files, &findings, self.folder, progress)?;
        let after = self.after_fix(&findings, &answers)?;
        let mut proofs = Vec::new();
        for ((finding, answer), after_fix) in findings.into_iter().zip(answers).zip(after) {
            let test_path = match (self.folder, &answer.test) {
                (Some(folder), Some(text)) => Some(write_test(folder, finding, text)?),
                _ => None,
            };
            proofs.push(proof(self.files, finding, answer, after_fix, test_path));
        }
        Ok(proofs)
    }

    /// What comes of those that failed and have a fix.
    fn after_fix(&self, findings: &[&Finding], answers: &[Answer]) -> Result<Vec<Option<AfterFix>>, Error> {
        let pairs = findings.iter().copied().zip(answers);
        let is_fixed = |finding: &Finding| self.fixed.fixed.iter().any(|fixed| fixed.is_of(finding));
        let asked: Vec<(&Finding, &Answer)> =
            pairs.clone().filter(|(finding, answer)| answer.verdict == "failed" && is_fixed(finding)).collect();
        let again = self.prover.prove_again(self.files, &self.fixed.files, &asked, &Progress::silent())?;
        let mut again = again.into_iter();
        let after = pairs.map(|(finding, answer)| {
            let fix = finding.fix.as_ref().filter(|_| answer.verdict == "failed")?;
            let refused = "the fix was refused: it would not silence the finding, or make a new one";
            let answer = if is_fixed(finding) { again.next() } else { None };
            let answer = answer.unwrap_or_else(|| Answer::gave_up(refused));
            Some(AfterFix { safety: fix.safety.as_str(), answer })
        });
        Ok(after.collect())
    }
}

/// All texts with all fixes that there are, the unsafe ones among them: what is asked is whether they help.
fn fixed(job: &Job, files: &Files, findings: &[Finding]) -> Outcome {
    let terms = Terms {
        check: &|files: &Files| job.filter.part(job.findings(files)).findings,
        wanted: &|_| true,
        locked: &|_| None,
        allow_unsafe: true,
    };
    repair(copy(files), findings.to_vec(), &terms)
}

fn proof(
    files: &Files,
    finding: &Finding,
    answer: Answer,
    after_fix: Option<AfterFix>,
    test_path: Option<String>,
) -> Proof {
    let Judged { confidence, is_demoted } = judge(finding, Word::of(&answer.verdict, answer.is_elsewhere));
    Proof {
        rule: finding.rule.name,
        code: finding.rule.code,
        path: files.get(finding.span.file).path.clone(),
        line: files.start(finding.span).line,
        symbol: finding.symbol.clone(),
        place: finding.place.clone(),
        message: finding.message.clone(),
        fingerprint: finding.fingerprint.to_string(),
        confidence: confidence.as_str(),
        is_demoted,
        answer,
        test_path,
        after_fix,
    }
}

fn write_test(folder: &Path, finding: &Finding, text: &str) -> Result<String, Error> {
    let rule = finding.rule.name.replace('-', "_");
    let path = folder.join(format!("test_{rule}_{}.py", finding.fingerprint));
    replace(&path, text.as_bytes()).map_err(|cause| cannot_write(&path, &cause))?;
    Ok(shown(&path))
}

fn cannot_write(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::new(format!("cannot write `{}`", shown(path))).because(cause)
}

/// One finding in words.
fn told(proof: &Proof) -> String {
    let answer = &proof.answer;
    let verdict = in_words(&answer.verdict);
    let mut text = format!("{}:{}: [{}] {}\n  {verdict}", proof.path, proof.line, proof.rule, proof.message);
    let _ = match (answer.verdict.as_str(), &answer.reason) {
        ("failed", _) if answer.is_elsewhere => write!(text, ", but not for the reason of this finding"),
        ("gave_up", Some(reason)) => write!(text, ": {reason}"),
        ("proved", _) | ("nothing_found", None) => write!(text, " fails: {}", extent(answer)),
        ("nothing_found", Some(reason)) => write!(text, " fails: {}; {reason}", extent(answer)),
        _ => Ok(()),
    };
    text.push('\n');
    if let ("failed", Some(reason)) = (answer.verdict.as_str(), &answer.reason) {
        let _ = writeln!(text, "  because: {reason}");
    }
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name}: {value}");
    };
    if let Some(words) = &answer.words {
        line("scenario", words);
    }
    if answer.verdict == "gave_up" && answer.words.is_none() {
        text.push('\n');
        return text;
    }
    if !answer.notes.is_empty() {
        line("note", &answer.notes.join("; "));
    }
    if proof.is_demoted {
        line("demoted", &format!("no schedule of the scenario fails; confidence is now {}", proof.confidence));
    }
    if let Some(after) = &proof.after_fix {
        line(&format!("after the {} fix", after.safety), &after_in_words(&after.answer));
    }
    if let Some(path) = &proof.test_path {
        line("test", path);
    }
    if let Some(explanation) = &answer.explanation {
        text.push_str(explanation);
        text.push('\n');
    }
    text.push('\n');
    text
}

fn in_words(verdict: &str) -> &str {
    match verdict {
        "failed" => "fails",
        "proved" => "proved: no schedule",
        "nothing_found" => "nothing found: no schedule that was tried",
        _ => "gave up",
    }
}

fn extent(answer: &Answer) -> String {
    format!("{} of {}", counted(answer.runs as usize, "run"), counted(answer.scenarios as usize, "scenario"))
}

fn after_in_words(answer: &Answer) -> String {
    let reason = answer.reason.as_deref().unwrap_or("");
    match answer.verdict.as_str() {
        "proved" => format!("proved, {}", counted(answer.runs as usize, "run")),
        "nothing_found" => format!("nothing found, {}", counted(answer.runs as usize, "run")),
        "failed" => {
            let how = if answer.is_elsewhere { "its failure is gone, and another one is left" } else { "still fails" };
            match &answer.decisive {
                Some(lines) => format!("{how}, by the order of {lines}: {reason}"),
                None => format!("{how}: {reason}"),
            }
        }
        _ => format!("gave up: {reason}"),
    }
}

fn sum(proofs: &[Proof]) -> String {
    let n = |verdict: &str| proofs.iter().filter(|proof| proof.answer.verdict == verdict).count();
    let n_demoted = proofs.iter().filter(|proof| proof.is_demoted).count();
    let n_repaired = proofs.iter().filter_map(|proof| proof.after_fix.as_ref());
    let n_repaired = n_repaired.filter(|after| after.answer.verdict == "proved").count();
    format!(
        "{}: {} fail, {} of these proved after the fix; {} proved and {n_demoted} demoted; nothing found in {}; gave up on {}\n",
        counted(proofs.len(), "finding"),
        n("failed"),
        n_repaired,
        n("proved"),
        n("nothing_found"),
        n("gave_up"),
    )
}
