//! `raceproof fix`: repairs texts in memory, and replaces the files whose repair has proved to help.

use std::collections::BTreeMap;
use std::fmt::Write;

use facts::{FileId, Files, Finding, Safety};
use similar::TextDiff;

use super::{Job, counted, print, remark, whisper};
use crate::Exit;
use crate::args::FixArgs;
use crate::error::Error;
use crate::progress::Progress;
use crate::proven::{Proven, repair_and_prove};
use crate::prover::Prover;
use crate::repair::{Outcome, Terms, repair};
use crate::replace::replace;
use crate::texts::{Form, Texts, read_file};

/// Lines around a change in a diff.
const CONTEXT_LINES: usize = 3;

pub(super) fn run(args: &FixArgs) -> Result<Exit, Error> {
    let mut job = Job::load(&args.scope, !args.quiet)?;
    let files = std::mem::take(&mut job.texts.files);
    let before: Vec<String> = files.iter().map(|(_, file)| file.text.clone()).collect();
    let wanted = job.options.select.clone();
    widen(&mut job);
    let progress = Progress::start(format!("repairing {}", counted(files.len(), "file")), !args.quiet);
    let check = |files: &Files| job.filter.part(job.findings(files)).findings;
    let findings = check(&files);
    let terms = Terms {
        check: &check,
        wanted: &|finding: &Finding| wanted.as_ref().is_none_or(|names| names.contains(&finding.rule.name)),
        locked: &|file| locked(&job.texts, file),
        allow_unsafe: args.r#unsafe,
    };
    let (mut outcome, proven) = if args.prove {
        let prover = Prover::new(&args.limits, &files, &job.texts)?;
        let (outcome, proven) = repair_and_prove(&files, &findings, &terms, &prover)?;
        (outcome, Some((findings, proven)))
    } else {
        (repair(files, findings, &terms), None)
    };
    drop(progress);
    outcome.left.retain(|finding| (terms.wanted)(finding));
    let changed = changed(&before, &outcome.files);
    let mut failed = BTreeMap::new();
    if args.diff {
        print(&diff(&before, &changed, &outcome.files))?;
    } else {
        for file in &changed {
            if let Err(reason) = write_back(*file, &before, &job.texts, &outcome.files) {
                failed.insert(*file, reason);
            }
        }
    }
    tell(args, &outcome, &failed, proven.as_ref())?;
    if !args.quiet {
        remark(&job.notes);
    }
    finish(args, &outcome, &changed, &failed)
}

fn finish(
    args: &FixArgs,
    outcome: &Outcome,
    changed: &[FileId],
    failed: &BTreeMap<FileId, String>,
) -> Result<Exit, Error> {
    if let Some((file, reason)) = failed.iter().next() {
        let path = &outcome.files.get(*file).path;
        return Err(Error::new(format!("cannot replace `{path}`")).because(reason));
    }
    let is_clean = outcome.left.is_empty() && (!args.diff || changed.is_empty());
    Ok(if is_clean { Exit::Clean } else { Exit::Findings })
}

/// The results are judged by all rules that are on, not only by those that are to be fixed: a fix must not trade one
/// defect for another.
fn widen(job: &mut Job) {
    if let Some(names) = &mut job.options.select {
        let on = ::check::rules().filter(|rule| rule.on_by_default);
        names.extend(on.map(|rule| rule.name));
        names.sort_unstable();
        names.dedup();
    }
}

/// Why a file cannot be written back.
fn locked(texts: &Texts, file: FileId) -> Option<String> {
    match texts.origin(file) {
        Some((_, Form::Utf8 { .. })) => None,
        Some((_, Form::Other(name))) => {
            Some(format!("the file is written in {name}, and raceproof rewrites UTF-8 only"))
        }
        None => Some("the file could not be read".to_owned()),
    }
}

fn changed(before: &[String], after: &Files) -> Vec<FileId> {
    let changed = after.iter().filter(|(id, file)| before[id.0 as usize] != file.text);
    changed.map(|(id, _)| id).collect()
}

/// Replaces a file, unless somebody else has changed it since it was read.
fn write_back(file: FileId, before: &[String], texts: &Texts, after: &Files) -> Result<(), String> {
    let (path, form) = texts.origin(file).ok_or("the file could not be read")?;
    let (present, _) = read_file(path)?;
    if present != before[file.0 as usize] {
        return Err("it was changed while raceproof was at work; run `fix` again".to_owned());
    }
    let marked = *form == Form::Utf8 { marked: true };
    let mark = if marked { "\u{feff}" } else { "" };
    let text = format!("{mark}{}", after.get(file).text);
    replace(path, text.as_bytes()).map_err(|cause| cause.to_string())
}

fn diff(before: &[String], changed: &[FileId], after: &Files) -> String {
    let mut text = String::new();
    for id in changed {
        let file = after.get(*id);
        let diff = TextDiff::from_lines(&before[id.0 as usize], &file.text);
        let unified = diff.unified_diff().context_radius(CONTEXT_LINES).header(&file.path, &file.path).to_string();
        text.push_str(&unified);
    }
    text
}

/// Says for each file what was fixed, what was refused and why; then the sum. Beside a diff it goes to stderr.
fn tell(
    args: &FixArgs,
    outcome: &Outcome,
    failed: &BTreeMap<FileId, String>,
    proven: Option<&(Vec<Finding>, Proven)>,
) -> Result<(), Error> {
    let mut text = String::new();
    let mut n_files = 0;
    let mut n_fixed = 0;
    for (id, file) in outcome.files.iter() {
        let fixed: Vec<_> = outcome.fixed.iter().filter(|fixed| fixed.file == id).collect();
        if fixed.is_empty() || args.quiet || failed.contains_key(&id) {
            continue;
        }
        n_files += 1;
        n_fixed += fixed.len();
        let _ = writeln!(text, "{}: {} fixed", file.path, fixed.len());
        for fixed in fixed {
            let symbol = match fixed.symbol.as_str() {
                "" => String::new(),
                symbol => format!(" in `{symbol}`"),
            };
            let proof = proven.and_then(|(findings, proven)| {
                let finding = findings.iter().find(|finding| fixed.is_of(finding))?;
                Some(format!(" ({})", proven.words(finding)))
            });
            let _ = writeln!(text, "  [{}]{symbol}: {}{}", fixed.rule, fixed.title, proof.unwrap_or_default());
        }
    }
    for refused in &outcome.refused {
        let path = &outcome.files.get(refused.file).path;
        let line = refused.line;
        let _ = writeln!(text, "{path}:{line}: [{}] not fixed: {}", refused.rule, refused.reason);
    }
    if !args.quiet {
        text.push_str(&sum(args, outcome, n_fixed, n_files));
    }
    if args.diff {
        whisper(&text);
        return Ok(());
    }
    print(&text)
}

fn sum(args: &FixArgs, outcome: &Outcome, n_fixed: usize, n_files: usize) -> String {
    let did = if args.diff { "would fix" } else { "fixed" };
    let mut sum =
        format!("{did} {} in {}; {} left", counted(n_fixed, "finding"), counted(n_files, "file"), outcome.left.len());
    let risky = outcome.left.iter().filter(|finding| {
        let fix = finding.fix.as_ref();
        fix.is_some_and(|fix| fix.safety == Safety::Unsafe)
    });
    match risky.count() {
        n if n > 0 && !args.r#unsafe => {
            let _ = write!(sum, ", {n} of them with an unsafe fix (`--unsafe`)");
        }
        _ => {}
    }
    sum.push('\n');
    sum
}
