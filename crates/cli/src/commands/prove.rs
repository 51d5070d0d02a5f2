//! `raceproof prove`: makes findings happen, and says of each what came of it.

use std::fmt::Write;
use std::path::Path;

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
use crate::prover::Prover;
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
    let progress = Progress::start(format!("proving {}", counted(findings.len(), "finding")), !args.quiet);
    let answers = findings
        .par_iter()
        .map(|finding| prover.prove(&files, finding, args.write.as_deref()))
        .collect::<Result<Vec<Answer>, Error>>()?;
    let fixed = fixed(&job, &files, &findings);
    let after = findings
        .par_iter()
        .zip(&answers)
        .map(|(finding, answer)| after_fix(&prover, &files, &fixed, finding, answer))
        .collect::<Result<Vec<Option<AfterFix>>, Error>>()?;
    drop(progress);
    let mut proofs = Vec::new();
    for ((finding, answer), after_fix) in findings.iter().zip(answers).zip(after) {
        let test_path = match (&args.write, &answer.test) {
            (Some(folder), Some(text)) => Some(write_test(folder, finding, text)?),
            _ => None,
        };
        proofs.push(proof(&files, finding, answer, after_fix, test_path));
    }
    let text = match args.format {
        ProofFormat::Json => report(&proofs),
        ProofFormat::Text => proofs.iter().map(told).collect::<String>() + &sum(&proofs),
    };
    print(&text)?;
    if !args.quiet {
        remark(&job.notes);
    }
    let is_clean = proofs.iter().all(|proof| proof.answer.verdict == "proved");
    Ok(if is_clean { Exit::Clean } else { Exit::Findings })
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

fn after_fix(
    prover: &Prover,
    files: &Files,
    fixed: &Outcome,
    finding: &Finding,
    answer: &Answer,
) -> Result<Option<AfterFix>, Error> {
    let Some(fix) = finding.fix.as_ref().filter(|_| answer.verdict == "failed") else {
        return Ok(None);
    };
    let again = if fixed.fixed.iter().any(|fixed| fixed.is_of(finding)) {
        prover.prove_again(files, &fixed.files, finding, answer)?
    } else {
        Answer::gave_up("the fix was refused: it would not silence the finding, or make a new one")
    };
    Ok(Some(AfterFix { safety: fix.safety.as_str(), answer: again }))
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
        ("proved" | "nothing_found", _) => write!(text, " fails: {}", extent(answer)),
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
        line(&format!("after the {} fix", fix_word(after)), &after_in_words(&after.answer));
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

fn fix_word(after: &AfterFix) -> &str {
    after.safety
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
        "failed" => match &answer.decisive {
            Some(lines) => format!("still fails, by the order of {lines}: {reason}"),
            None => format!("still fails: {reason}"),
        },
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
