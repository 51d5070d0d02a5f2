//! What a finding is worth after its scenario was explored.

use facts::{Confidence, Evidence, Finding};

/// The verdict of an exploration, and whether the failure has to do with the finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A schedule fails, where the finding says.
    Failed,
    /// A schedule fails, but for another reason than the finding.
    FailedElsewhere,
    /// All schedules were walked through, and none fails.
    Proved,
    /// Some schedules were walked through, and none fails.
    NothingFound,
    /// There was nothing to run, or it could not be run.
    GaveUp,
}

impl Word {
    /// From the words of an outcome.
    #[must_use]
    pub fn of(verdict: &str, is_elsewhere: bool) -> Word {
        match (verdict, is_elsewhere) {
            ("failed", false) => Word::Failed,
            ("failed", true) => Word::FailedElsewhere,
            ("proved", _) => Word::Proved,
            ("nothing_found", _) => Word::NothingFound,
            _ => Word::GaveUp,
        }
    }

    /// The verdict.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Failed | Word::FailedElsewhere => "failed",
            Word::Proved => "proved",
            Word::NothingFound => "nothing_found",
            Word::GaveUp => "gave_up",
        }
    }
}

/// What is said of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How sure we are now.
    pub confidence: Confidence,
    /// Were we surer before?
    pub is_demoted: bool,
}

/// What is said of a finding whose scenario came to this.
///
/// It is demoted only where all schedules of its scenario were walked through, and the scenario is that of the two paths
/// that the finding is about: that a sample shows nothing, that no scenario was found, or that calls were chosen
/// which do no harm, says nothing against it.
#[must_use]
pub fn judge(finding: &Finding, word: Word) -> Judged {
    match word {
        Word::Failed => Judged { confidence: Confidence::High, is_demoted: false },
        Word::Proved if has_paths(finding) => {
            Judged { confidence: Confidence::Low, is_demoted: finding.confidence > Confidence::Low }
        }
        Word::Proved | Word::FailedElsewhere | Word::NothingFound | Word::GaveUp => {
            Judged { confidence: finding.confidence, is_demoted: false }
        }
    }
}

fn has_paths(finding: &Finding) -> bool {
    matches!(&finding.evidence, Evidence::Possible { paths, .. } if paths.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{FileId, Path, RuleInfo, Severity, Span};

    static RULE: RuleInfo = RuleInfo {
        name: "check-then-act",
        code: "RP999",
        severity: Severity::Error,
        summary: "",
        docs: "",
        on_by_default: true,
    };

    #[test]
    fn only_an_exhausted_scenario_demotes() {
        let span = Span::new(FileId(0), 0, 1);
        let path = Path { thread: String::new(), calls: Vec::new(), locks: Vec::new(), span, action: String::new() };
        let evidence = Evidence::Possible {
            paths: vec![path.clone(), path],
            overlap: String::new(),
            vote: None,
            order: Vec::new(),
        };
        let without = Finding::new(&RULE, span, "");
        assert!(!judge(&without, Word::Proved).is_demoted);
        let finding = without.because(evidence);
        for (verdict, is_elsewhere, is_demoted, confidence) in [
            ("failed", false, false, Confidence::High),
            ("failed", true, false, Confidence::Medium),
            ("proved", false, true, Confidence::Low),
            ("nothing_found", false, false, Confidence::Medium),
            ("gave_up", false, false, Confidence::Medium),
        ] {
            let word = Word::of(verdict, is_elsewhere);
            assert_eq!(word.as_str(), verdict);
            assert_eq!(judge(&finding, word), Judged { confidence, is_demoted }, "{verdict}");
        }
    }
}
