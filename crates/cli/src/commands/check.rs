//! `raceproof check`: findings, shown in a format.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use facts::{Finding, RuleInfo};
use report::{Format, Page, Summary};

use super::{Job, below, counted, print, remark, whisper};
use crate::Exit;
use crate::args::{CheckArgs, ColorArg};
use crate::baseline::{self, Baseline};
use crate::discover::{absolute, reason, shown};
use crate::error::Error;
use crate::progress::Progress;
use crate::replace::replace;

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Error> {
    let started = Instant::now();
    let mut job = Job::load(&args.scope, !args.quiet)?;
    let n_files = job.texts.files.len();
    let progress = Progress::start(format!("checking {}", counted(n_files, "file")), !args.quiet);
    let (found, limits) = job.checked(&job.texts.files);
    drop(progress);
    let mut parted = job.filter.part(found);
    let baseline_file = baseline_file(args, &job);
    if args.write_baseline {
        let file = baseline_file.unwrap_or_else(|| below(&job.config, Path::new(baseline::DEFAULT_NAME)));
        return write_baseline(&file, &parted.findings, &job, args.quiet);
    }
    if let Some(file) = baseline_file {
        parted.findings = hide_known(&file, parted.findings, &mut job, args)?;
    }
    let elapsed = format!("{:.2} s", started.elapsed().as_secs_f64());
    let page = Page {
        files: &job.texts.files,
        findings: &parted.findings,
        rules: &asked(&job),
        runtime: job.options.runtime,
        version: env!("CARGO_PKG_VERSION"),
        colour: args.output.is_none() && in_colour(args.color),
        summary: Summary {
            n_files,
            n_hidden: parted.n_hidden,
            limits: limits.clone(),
            elapsed: (args.format == Format::Text && !args.quiet).then_some(elapsed),
        },
    };
    show(args, &page)?;
    if !args.quiet {
        remark(&job.notes);
        remark(&limits);
    }
    Ok(if parted.findings.is_empty() || args.exit_zero { Exit::Clean } else { Exit::Findings })
}

fn show(args: &CheckArgs, page: &Page<'_>) -> Result<(), Error> {
    let text = if args.quiet && args.format == Format::Text {
        let findings = page.findings.iter();
        findings.map(|finding| report::text::finding(page.files, finding)).collect()
    } else {
        report::render(args.format, page)
    };
    match &args.output {
        Some(file) => replace(file, text.as_bytes())
            .map_err(|cause| Error::new(format!("cannot write `{}`", file.display())).because(reason(&cause)))?,
        None => print(&text)?,
    }
    if args.statistics {
        let table = statistics(page.findings);
        if args.output.is_none() && args.format == Format::Text {
            print(&table)?;
        } else {
            whisper(&table);
        }
    }
    Ok(())
}

/// The rules that this run was asked about.
fn asked(job: &Job) -> Vec<&'static RuleInfo> {
    let is_asked = |rule: &RuleInfo| match &job.options.select {
        Some(names) => names.contains(&rule.name),
        None => rule.on_by_default,
    };
    ::check::rules().filter(|rule| is_asked(rule)).collect()
}

fn in_colour(when: ColorArg) -> bool {
    match when {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            !is_off && !is_dumb && std::io::stdout().is_terminal()
        }
    }
}

/// Most frequent first.
fn statistics(findings: &[Finding]) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for finding in findings {
        *counts.entry((finding.rule.code, finding.rule.name)).or_insert(0) += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(rule, n)| (std::cmp::Reverse(*n), *rule));
    rows.iter().map(|((code, name), n)| format!("{n:>6}  {code}  {name}\n")).collect()
}

fn baseline_file(args: &CheckArgs, job: &Job) -> Option<PathBuf> {
    let configured = job.config.settings.baseline.as_deref();
    args.baseline.clone().or_else(|| configured.map(|file| below(&job.config, file)))
}

fn write_baseline(file: &Path, findings: &[Finding], job: &Job, quiet: bool) -> Result<Exit, Error> {
    baseline::write(file, findings, &job.texts.files)?;
    if !quiet {
        let n = counted(findings.len(), "finding");
        remark(&[format!("wrote {n} to the baseline `{}`", shown(file))]);
    }
    Ok(Exit::Clean)
}

/// Takes out what the baseline knows, and notes what it did.
fn hide_known(file: &Path, findings: Vec<Finding>, job: &mut Job, args: &CheckArgs) -> Result<Vec<Finding>, Error> {
    let roots: Vec<PathBuf> = args.scope.paths.iter().map(|path| absolute(path)).collect();
    let looked_at = |path: &str| {
        let path = absolute(Path::new(path));
        roots.iter().any(|root| path.starts_with(root))
    };
    let split = Baseline::read(file)?.split(findings, looked_at);
    if split.hidden > 0 {
        let n = counted(split.hidden, "known finding");
        job.notes.push(format!("{n} hidden by the baseline `{}`", shown(file)));
    }
    if !split.gone.is_empty() {
        let n = counted(split.gone.len(), "finding");
        let occur = if split.gone.len() == 1 { "occurs" } else { "occur" };
        job.notes.push(format!("{n} of the baseline no longer {occur}; write it again with `--write-baseline`:"));
        job.notes.extend(split.gone);
    }
    Ok(split.new)
}
