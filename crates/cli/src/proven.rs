//! `fix --prove`: a repair is kept only if the scenario of its finding no longer fails.

use std::collections::BTreeMap;

use facts::{Files, Finding, Fingerprint};
use rayon::prelude::*;

use crate::child::wire::Answer;
use crate::error::Error;
use crate::progress::Progress;
use crate::prover::Prover;
use crate::repair::{Outcome, Refused, Terms, repair};

/// What the scenarios of fixed findings came to, by the identity of the finding.
#[derive(Default)]
pub struct Proven {
    /// Before the fix.
    before: BTreeMap<Fingerprint, Answer>,
    /// With all fixes that were kept.
    pub after: BTreeMap<Fingerprint, Answer>,
}

/// Repairs, and leaves out the fixes after which the scenario of their finding still fails.
///
/// # Errors
/// If no child can be started.
pub fn repair_and_prove(
    files: &Files,
    findings: &[Finding],
    terms: &Terms<'_>,
    prover: &Prover,
) -> Result<(Outcome, Proven), Error> {
    let mut proven = Proven::default();
    let mut refused: BTreeMap<Fingerprint, String> = BTreeMap::new();
    loop {
        let is_refused = |finding: &Finding| {
            findings.iter().any(|other| refused.contains_key(&other.fingerprint) && is_same(other, finding))
        };
        let narrowed = Terms { wanted: &|finding| (terms.wanted)(finding) && !is_refused(finding), ..*terms };
        let mut outcome = repair(copy(files), findings.to_vec(), &narrowed);
        let fixed: Vec<&Finding> =
            findings.iter().filter(|finding| outcome.fixed.iter().any(|fixed| fixed.is_of(finding))).collect();
        proven.learn(files, &outcome.files, &fixed, prover)?;
        let before = refused.len();
        for finding in fixed {
            let fails = proven.after.get(&finding.fingerprint).filter(|answer| answer.fails());
            if let Some(answer) = fails {
                let why = answer.reason.as_deref().unwrap_or("");
                refused.insert(finding.fingerprint, format!("its scenario still fails after the fix: {why}"));
            }
        }
        if refused.len() == before {
            outcome.refused.extend(refused_of(&outcome, findings, &refused));
            return Ok((outcome, proven));
        }
    }
}

impl Proven {
    /// Runs the scenarios of what was fixed: before, where that is not known yet, and after.
    fn learn(&mut self, files: &Files, after: &Files, fixed: &[&Finding], prover: &Prover) -> Result<(), Error> {
        let silent = Progress::silent();
        let unknown = fixed.iter().copied().filter(|it| !self.before.contains_key(&it.fingerprint));
        let unknown: Vec<&Finding> = unknown.collect();
        let groups: Vec<&[&Finding]> = unknown.chunk_by(|one, other| one.span.file == other.span.file).collect();
        let asked = groups.par_iter().map(|group| {
            let answers = prover.prove(files, group, None, &silent)?;
            Ok(group.iter().map(|finding| finding.fingerprint).zip(answers).collect())
        });
        self.before.extend(asked.collect::<Result<Vec<Vec<_>>, Error>>()?.into_iter().flatten());
        let failed = fixed.iter().map(|finding| (*finding, &self.before[&finding.fingerprint]));
        let failed: Vec<(&Finding, &Answer)> = failed.filter(|(_, answer)| answer.verdict == "failed").collect();
        let groups: Vec<&[(&Finding, &Answer)]> =
            failed.chunk_by(|(one, _), (other, _)| one.span.file == other.span.file).collect();
        let asked = groups.par_iter().map(|group| {
            let answers = prover.prove_again(files, after, group, &silent)?;
            Ok(group.iter().map(|(finding, _)| finding.fingerprint).zip(answers).collect())
        });
        self.after = asked.collect::<Result<Vec<Vec<_>>, Error>>()?.into_iter().flatten().collect();
        Ok(())
    }

    /// What is said of the fix of a finding, in words.
    #[must_use]
    pub fn words(&self, finding: &Finding) -> String {
        if let Some(after) = self.after.get(&finding.fingerprint).filter(|after| after.is_elsewhere) {
            let (reason, lines) = (after.reason.as_deref().unwrap_or(""), after.decisive.as_deref());
            let order = lines.map_or_else(String::new, |lines| format!(", by the order of {lines}"));
            return format!("failed before; its failure is gone, and another one is left{order}: {reason}");
        }
        let words = match (self.before.get(&finding.fingerprint), self.after.get(&finding.fingerprint)) {
            (_, Some(after)) => match after.verdict.as_str() {
                "proved" => "failed before, and is proved now",
                "nothing_found" => "failed before, and no schedule that was tried fails now",
                _ => "failed before, and nothing can be said now",
            },
            (Some(before), None) if before.verdict == "proved" => "no schedule of its scenario failed before",
            (Some(before), None) if before.verdict == "nothing_found" => "no schedule that was tried failed before",
            (Some(before), None) => {
                return format!("not proved: {}", before.reason.as_deref().unwrap_or("no scenario"));
            }
            (None, None) => "not proved",
        };
        words.to_owned()
    }
}

/// Are two findings one, before and after edits elsewhere?
fn is_same(one: &Finding, other: &Finding) -> bool {
    let key = |it: &Finding| (it.rule.name, it.span.file, it.symbol.clone(), it.place.clone());
    key(one) == key(other)
}

fn refused_of(outcome: &Outcome, findings: &[Finding], refused: &BTreeMap<Fingerprint, String>) -> Vec<Refused> {
    let known = findings.iter().filter_map(|finding| Some((finding, refused.get(&finding.fingerprint)?)));
    let left = known.map(|(finding, reason)| {
        let now = outcome.left.iter().find(|left| is_same(left, finding));
        Refused {
            file: finding.span.file,
            line: now.map_or(0, |now| outcome.files.start(now.span).line),
            rule: finding.rule.name,
            reason: reason.clone(),
        }
    });
    left.collect()
}

/// The same texts once more.
#[must_use]
pub fn copy(files: &Files) -> Files {
    let mut copy = Files::default();
    for (_, file) in files.iter() {
        copy.add(&file.path, file.text.clone());
    }
    copy
}
