//! A finding: what is wrong, where, how sure we are, why, and what would repair it.

use crate::{RuleInfo, Span};

/// How sure we are of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// A type is unknown; hidden unless asked for.
    Low,
    /// Library mode, or one step is inferred.
    Medium,
    /// Both entry points and all types are resolved.
    High,
}

impl Confidence {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

/// Another place in the texts that belongs to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What is there, lower case, no full stop.
    pub message: String,
}

/// One call on the way from an entry point to an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStep {
    /// The function that is entered, as `Class.method`.
    pub function: String,
    /// Where it is called; for the entry point itself, where it is defined.
    pub span: Span,
}

/// How one thread gets to its access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The entry point in words, such as "a thread that runs `Sender.run`".
    pub thread: String,
    /// From the entry point to the function of the access.
    pub calls: Vec<CallStep>,
    /// Names of the locks held at the access.
    pub locks: Vec<String>,
    /// The access.
    pub span: Span,
    /// What is done there, such as "reads `self._conns`".
    pub action: String,
}

/// What the other accesses of the place do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardVote {
    /// The lock that most accesses hold.
    pub lock: String,
    /// Accesses that hold it.
    pub with: u32,
    /// Accesses that do not.
    pub without: u32,
}

/// One thing that a thread did, in a run that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedStep {
    /// Which of the threads.
    pub thread: usize,
    /// Where.
    pub span: Span,
    /// What, with the value, such as "reads `self.n` = 0".
    pub text: String,
    /// Is it one of the pair whose order decides?
    pub decides: bool,
}

/// Why we believe a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Seen in the text: it may happen.
    Possible {
        /// How each side gets there; empty for rules about one function alone.
        paths: Vec<Path>,
        /// Why the sides can run at once, a sentence without a full stop; may be empty.
        overlap: String,
        /// The guard that other accesses hold.
        vote: Option<GuardVote>,
        /// One bad order of events, a line each.
        order: Vec<String>,
    },
    /// Seen in a run: it happened, and can be made to happen again.
    Observed {
        /// How the threads got into each other's way, such as "lost update".
        pattern: String,
        /// The names of the threads.
        threads: Vec<String>,
        /// What they did, in order, in the shortest run that fails.
        steps: Vec<ObservedStep>,
        /// What was wrong at the end, a sentence without a full stop.
        ending: String,
        /// What would make it pass, a sentence without a full stop; may be empty.
        remedy: String,
        /// The schedule: gives the same run again.
        schedule: String,
    },
}

/// May a fix be applied without being asked for by name?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Safety {
    /// Changes nothing but the defect.
    Safe,
    /// Likely right, but a person should look: it can change timing, identity or an interface.
    Unsafe,
}

impl Safety {
    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Safety::Safe => "safe",
            Safety::Unsafe => "unsafe",
        }
    }
}

/// The text of a span is replaced; an empty span inserts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// What is replaced.
    pub span: Span,
    /// What stands there afterwards.
    pub text: String,
}

/// Edits that repair a finding. They do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// May it be applied unasked?
    pub safety: Safety,
    /// What it does, lower case, such as "hold `_lock` around the update".
    pub title: String,
    /// The edits, in one file.
    pub edits: Vec<Edit>,
}

/// The identity of a finding, from rule, path, symbol, place and an ordinal: no line numbers, so that it survives
/// edits elsewhere in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Fingerprint {
    /// Of the parts that name a finding; FNV-1a over the parts and their separators.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for part in parts {
            for byte in part.bytes().chain([0]) {
                hash ^= u64::from(byte);
                hash = hash.wrapping_mul(0x0100_0000_01b3);
            }
        }
        Self(hash)
    }
}

/// One breach of a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is breached.
    pub rule: &'static RuleInfo,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// The state it is about, such as `self._conns` or `_monitor`; for locks, the lock. May be empty.
    pub place: String,
    /// The function it is in, as `Class.method`; empty at module level.
    pub symbol: String,
    /// Where.
    pub span: Span,
    /// The other side, and whatever else helps.
    pub related: Vec<Related>,
    /// How sure.
    pub confidence: Confidence,
    /// Its identity; [`Fingerprint`] of zero until the run has numbered its findings.
    pub fingerprint: Fingerprint,
    /// Why.
    pub evidence: Evidence,
    /// What would repair it.
    pub fix: Option<Fix>,
}

impl Finding {
    /// A finding of medium confidence without related spans, evidence or fix.
    #[must_use]
    pub fn new(rule: &'static RuleInfo, span: Span, message: impl Into<String>) -> Self {
        Self {
            rule,
            message: message.into(),
            place: String::new(),
            symbol: String::new(),
            span,
            related: Vec::new(),
            confidence: Confidence::Medium,
            fingerprint: Fingerprint(0),
            evidence: Evidence::Possible { paths: Vec::new(), overlap: String::new(), vote: None, order: Vec::new() },
            fix: None,
        }
    }

    /// Names the state it is about.
    #[must_use]
    pub fn on(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// Names the function it is in.
    #[must_use]
    pub fn within(mut self, symbol: impl Into<String>) -> Self {
        self.symbol = symbol.into();
        self
    }

    /// Adds a related span.
    #[must_use]
    pub fn also(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push(Related { span, message: message.into() });
        self
    }

    /// Says how sure we are.
    #[must_use]
    pub fn confidence(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }

    /// Says why.
    #[must_use]
    pub fn because(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// Says what would repair it; `None` leaves it as it is.
    #[must_use]
    pub fn with_fix(mut self, fix: Option<Fix>) -> Self {
        self.fix = fix.or(self.fix);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_parts_apart() {
        assert_ne!(Fingerprint::of(&["ab", "c"]), Fingerprint::of(&["a", "bc"]));
        assert_eq!(Fingerprint::of(&["a"]).to_string().len(), 16);
    }
}
