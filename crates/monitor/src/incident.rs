//! What an incident is and what may become of it: open, acknowledged, resolved. Data and transitions, no IO.
//!
//! An incident is known by its id. Reports with the same fingerprint count on one incident as long as it is not
//! resolved; after that they make a new one.

use facts::Fingerprint;
use uuid::Uuid;

use crate::error::Error;

/// How bad an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Breaks under load or later.
    Warning,
    /// Something was lost, or hangs.
    Error,
    /// A person has to act now.
    Critical,
}

impl Severity {
    /// From mild to bad.
    pub const ALL: [Severity; 4] = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];

    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }

    /// The severity that a word names. `low`, `medium` and `high` are taken too, since many programs say those.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "low" => Some(Severity::Info),
            "medium" => Some(Severity::Warning),
            "high" => Some(Severity::Error),
            _ => Self::ALL.into_iter().find(|severity| severity.as_str() == word),
        }
    }
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody has looked at it.
    Open,
    /// Somebody works on it.
    Acknowledged,
    /// It is over; nothing changes it any more.
    Resolved,
}

impl State {
    /// In the order in which an incident goes through them.
    pub const ALL: [State; 3] = [State::Open, State::Acknowledged, State::Resolved];

    /// The word used in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Resolved => "resolved",
        }
    }

    /// The state that a word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The state after somebody has acknowledged; `None` if that is no change.
    ///
    /// # Errors
    /// What is resolved cannot be acknowledged.
    pub fn acknowledged(self) -> Result<Option<Self>, Error> {
        match self {
            State::Open => Ok(Some(State::Acknowledged)),
            State::Acknowledged => Ok(None),
            State::Resolved => Err(Error::Refused("a resolved incident cannot be acknowledged".to_owned())),
        }
    }

    /// The state after somebody has resolved; `None` if that is no change.
    #[must_use]
    pub fn resolved(self) -> Option<Self> {
        (self != State::Resolved).then_some(State::Resolved)
    }
}

/// Something that went wrong, once or many times.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its identity.
    pub id: Uuid,
    /// What sort of thing, such as `lock-order-inversion`.
    pub kind: String,
    /// One sentence for people.
    pub title: String,
    /// How bad: the worst of its reports.
    pub severity: Severity,
    /// Where it stands.
    pub state: State,
    /// How often it was reported.
    pub count: u64,
    /// The first report, in seconds since 1970.
    pub first_seen_s: f64,
    /// The latest report, in seconds since 1970.
    pub last_seen_s: f64,
    /// What its reports have in common.
    pub fingerprint: String,
    /// What else was known at the latest report: the text of a JSON object.
    pub context: String,
    /// The process that reported it first, as `name:pid`.
    pub process: String,
}

/// One report of something that went wrong.
#[derive(Clone, Debug)]
pub struct Report {
    /// See [`Incident::kind`].
    pub kind: String,
    /// See [`Incident::title`].
    pub title: String,
    /// See [`Incident::severity`].
    pub severity: Severity,
    /// What reports of the same thing have in common; made of kind and title if there is none.
    pub fingerprint: Option<String>,
    /// The text of a JSON object.
    pub context: String,
    /// The process that reports, as `name:pid`.
    pub process: String,
}

impl Report {
    /// What reports of the same thing have in common.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match &self.fingerprint {
            Some(given) => given.clone(),
            None => Fingerprint::of(&[&self.kind, &self.title]).to_string(),
        }
    }

    /// The incident of a first report.
    #[must_use]
    pub fn first(self, now_s: f64) -> Incident {
        Incident {
            id: Uuid::new_v4(),
            fingerprint: self.fingerprint(),
            kind: self.kind,
            title: self.title,
            severity: self.severity,
            state: State::Open,
            count: 1,
            first_seen_s: now_s,
            last_seen_s: now_s,
            context: self.context,
            process: self.process,
        }
    }
}

impl Incident {
    /// The incident after one more report: counted, the worst severity, the latest title and context.
    pub fn again(&mut self, report: Report, now_s: f64) {
        self.count += 1;
        self.last_seen_s = self.last_seen_s.max(now_s);
        self.severity = self.severity.max(report.severity);
        self.title = report.title;
        self.context = report.context;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severity: Severity) -> Report {
        Report {
            kind: "long-hold".to_owned(),
            title: "`db` was held for 3 s".to_owned(),
            severity,
            fingerprint: None,
            context: "{}".to_owned(),
            process: "app:1".to_owned(),
        }
    }

    #[test]
    fn a_further_report_counts_and_keeps_the_worst_severity() {
        let mut incident = report(Severity::Error).first(10.0);
        incident.again(report(Severity::Warning), 12.0);
        incident.again(report(Severity::Warning), 11.0);
        assert_eq!((incident.count, incident.severity), (3, Severity::Error));
        assert_eq!((incident.first_seen_s, incident.last_seen_s), (10.0, 12.0));
    }

    #[test]
    fn reports_of_the_same_kind_and_title_have_one_fingerprint() {
        assert_eq!(report(Severity::Info).fingerprint(), report(Severity::Error).fingerprint());
        let other = Report { kind: "lost-exception".to_owned(), ..report(Severity::Info) };
        assert_ne!(other.fingerprint(), report(Severity::Info).fingerprint());
    }

    #[test]
    fn states_go_forward_only() {
        assert_eq!(State::Open.acknowledged().unwrap(), Some(State::Acknowledged));
        assert_eq!(State::Acknowledged.acknowledged().unwrap(), None);
        assert!(State::Resolved.acknowledged().is_err());
        assert_eq!(State::Open.resolved(), Some(State::Resolved));
        assert_eq!(State::Acknowledged.resolved(), Some(State::Resolved));
        assert_eq!(State::Resolved.resolved(), None);
    }

    #[test]
    fn words_name_severities_and_states() {
        for severity in Severity::ALL {
            assert_eq!(Severity::named(severity.as_str()), Some(severity));
        }
        assert_eq!(Severity::named("HIGH"), Some(Severity::Error));
        assert_eq!(Severity::named("odd"), None);
        for state in State::ALL {
            assert_eq!(State::named(state.as_str()), Some(state));
        }
    }
}
