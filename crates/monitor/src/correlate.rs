//! Which alerts have one cause.
//!
//! # The rule
//! Labels of an alert name what it is about, such as `lock=db`. An alert joins the group with which it shares the most
//! labels (name and value), if it shares one at all and the latest alert of the group is at most the window old; among
//! equals the one with the latest alert. Otherwise it begins a group. An alert without labels is about its kind. A group
//! takes over the labels of the alerts that join it, so a chain of causes becomes one group.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::incident::Severity;

/// How many groups are remembered; those whose latest alert is the oldest make room.
pub const GROUPS_MAX: usize = 1_000;
/// How many labels a group takes over.
pub const LABELS_MAX: usize = 64;

/// A sign that something is wrong.
#[derive(Clone, Debug)]
pub struct Alert {
    /// What sort of thing.
    pub kind: String,
    /// One sentence for people.
    pub title: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
}

/// Alerts of one cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its identity: the fingerprint of the incident.
    pub fingerprint: String,
    /// The title of its first alert.
    pub title: String,
    /// The kind of its first alert.
    pub kind: String,
    /// The worst of its alerts.
    pub severity: Severity,
    /// How many alerts of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// What its alerts are about.
    pub labels: BTreeSet<(String, String)>,
    /// When its latest alert came, in seconds since 1970.
    pub last_seen_s: f64,
}

impl Group {
    fn of(alert: Alert, labels: BTreeSet<(String, String)>, now_s: f64) -> Self {
        Group {
            fingerprint: format!("group-{}", Uuid::new_v4()),
            kinds: BTreeMap::from([(alert.kind.clone(), 1)]),
            kind: alert.kind,
            title: alert.title,
            severity: alert.severity,
            labels,
            last_seen_s: now_s,
        }
    }

    fn join(&mut self, alert: Alert, labels: BTreeSet<(String, String)>, now_s: f64) {
        *self.kinds.entry(alert.kind).or_default() += 1;
        self.severity = self.severity.max(alert.severity);
        self.last_seen_s = self.last_seen_s.max(now_s);
        let room = LABELS_MAX.saturating_sub(self.labels.len());
        let fresh: Vec<_> = labels.difference(&self.labels).take(room).cloned().collect();
        self.labels.extend(fresh);
    }

    /// How many alerts it has.
    #[must_use]
    pub fn n_alerts(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// One sentence for people: that of the first alert, and how many came after.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.n_alerts() - 1 {
            0 => self.title.clone(),
            1 => format!("{} (and 1 more alert)", self.title),
            n => format!("{} (and {n} more alerts)", self.title),
        }
    }
}

/// Puts alerts into groups. An alert is assigned in one step, whatever other threads assign.
#[derive(Debug, Default)]
pub struct Correlator {
    groups: Mutex<Vec<Group>>,
}

impl Correlator {
    /// The group of an alert, with the alert in it.
    pub fn assign(&self, alert: Alert, window_s: f64, now_s: f64) -> Group {
        let mut labels: BTreeSet<(String, String)> = alert.labels.clone().into_iter().collect();
        if labels.is_empty() {
            labels.insert(("kind".to_owned(), alert.kind.clone()));
        }
        let mut groups = self.groups.lock();
        groups.retain(|group| now_s - group.last_seen_s <= window_s);
        let nearest = groups
            .iter_mut()
            .map(|group| (group.labels.intersection(&labels).count(), group))
            .filter(|(n_shared, _)| *n_shared > 0)
            .max_by(|(left, old), (right, new)| left.cmp(right).then(old.last_seen_s.total_cmp(&new.last_seen_s)));
        if let Some((_, group)) = nearest {
            group.join(alert, labels, now_s);
            return group.clone();
        }
        if groups.len() >= GROUPS_MAX {
            let ages = groups.iter().enumerate().map(|(place, group)| (group.last_seen_s, place));
            let oldest = ages.min_by(|left, right| left.0.total_cmp(&right.0));
            oldest.map(|(_, place)| groups.swap_remove(place));
        }
        let group = Group::of(alert, labels, now_s);
        groups.push(group.clone());
        group
    }

    /// How many groups are open.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.groups.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: &str, labels: &[(&str, &str)]) -> Alert {
        Alert {
            kind: kind.to_owned(),
            title: format!("{kind} happened"),
            severity: Severity::Warning,
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn alerts_that_share_a_label_in_the_window_are_one_group() {
        let correlator = Correlator::default();
        let first = correlator.assign(alert("long-hold", &[("lock", "db")]), 60.0, 0.0);
        let severe = Alert { severity: Severity::Error, ..alert("slow-query", &[("lock", "db"), ("table", "users")]) };
        let second = correlator.assign(severe, 60.0, 50.0);
        let third = correlator.assign(alert("timeout", &[("table", "users")]), 60.0, 100.0);
        assert_eq!((&second.fingerprint, &third.fingerprint), (&first.fingerprint, &first.fingerprint));
        assert_eq!((third.n_alerts(), third.severity), (3, Severity::Error));
        assert_eq!(third.summary(), "long-hold happened (and 2 more alerts)");
    }

    #[test]
    fn other_values_and_later_alerts_are_other_groups() {
        let correlator = Correlator::default();
        let first = correlator.assign(alert("long-hold", &[("lock", "db")]), 60.0, 0.0);
        let other = correlator.assign(alert("long-hold", &[("lock", "cache")]), 60.0, 1.0);
        let later = correlator.assign(alert("long-hold", &[("lock", "db")]), 60.0, 61.0);
        assert_ne!(first.fingerprint, other.fingerprint);
        assert_ne!(first.fingerprint, later.fingerprint);
    }

    #[test]
    fn an_alert_joins_the_group_with_which_it_shares_most() {
        let correlator = Correlator::default();
        let near = correlator.assign(alert("a", &[("lock", "db"), ("pool", "io")]), 60.0, 0.0);
        correlator.assign(alert("b", &[("host", "h")]), 60.0, 5.0);
        let joined = correlator.assign(alert("c", &[("lock", "db"), ("pool", "io"), ("host", "h")]), 60.0, 6.0);
        assert_eq!(joined.fingerprint, near.fingerprint);
    }

    #[test]
    fn without_labels_the_kind_is_the_cause() {
        let correlator = Correlator::default();
        let first = correlator.assign(alert("disk-full", &[]), 60.0, 0.0);
        assert_eq!(correlator.assign(alert("disk-full", &[]), 60.0, 1.0).fingerprint, first.fingerprint);
        assert_ne!(correlator.assign(alert("net-down", &[]), 60.0, 1.0).fingerprint, first.fingerprint);
    }

    #[test]
    fn groups_and_labels_are_bounded() {
        let correlator = Correlator::default();
        for n in 0..GROUPS_MAX + 10 {
            correlator.assign(alert("a", &[("n", &n.to_string())]), 1e9, n as f64);
        }
        assert_eq!(correlator.n_groups(), GROUPS_MAX);
        let mut group = correlator.assign(alert("a", &[("lock", "db")]), 1e9, 1e6);
        for n in 0..LABELS_MAX + 10 {
            group = correlator.assign(alert("a", &[("lock", "db"), ("x", &n.to_string())]), 1e9, 1e6);
        }
        assert_eq!(group.labels.len(), LABELS_MAX);
    }

    #[test]
    fn threads_agree_on_one_group() {
        let correlator = Correlator::default();
        let last = std::thread::scope(|scope| {
            let work = || (0..500).map(|_| correlator.assign(alert("a", &[("lock", "db")]), 60.0, 1.0)).last();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            let groups = threads.into_iter().filter_map(|thread| thread.join().unwrap());
            groups.map(|group| group.n_alerts()).max()
        });
        assert_eq!((correlator.n_groups(), last), (1, Some(2_000)));
    }
}
