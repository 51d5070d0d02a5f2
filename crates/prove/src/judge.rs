//! What a finding is worth after its scenario was explored.

use facts::{Confidence, Finding};

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
/// It is demoted only where all schedules of its scenario were walked through: that a sample shows nothing, or that no
/// scenario was found, says nothing against it.
#[must_use]
pub fn judge(finding: &Finding, word: Word) -> Judged {
    match word {
        Word::Failed => Judged { confidence: Confidence::High, is_demoted: false },
        Word::Proved => Judged { confidence: Confidence::Low, is_demoted: finding.confidence > Confidence::Low },
        Word::FailedElsewhere | Word::NothingFound | Word::GaveUp => {
            Judged { confidence: finding.confidence, is_demoted: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{FileId, RuleInfo, Severity, Span};

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
        let finding = Finding::new(&RULE, Span::new(FileId(0), 0, 1), "");
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
