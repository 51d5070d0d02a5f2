//! Incidents in the store. Each change of state is also written to the audit log, in the same transaction.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::{INCIDENTS_MAX, Store};
use crate::audit::Record;
use crate::error::Error;
use crate::incident::{Incident, Report, Severity, State};

const COLUMNS: &str = "id, kind, title, severity, state, count, first_seen, last_seen, fingerprint, context, process";

impl Store {
    /// Counts a report on the incident that has its fingerprint and is not resolved, or makes a new incident.
    pub fn report(&self, report: Report, now_s: f64) -> Result<Incident, Error> {
        let query = format!(
            "SELECT {COLUMNS} FROM incident WHERE fingerprint = ? AND state <> 'resolved' ORDER BY last_seen DESC LIMIT 1"
        );
        let known = self.connection.query_row(&query, [report.fingerprint()], incident).optional()?;
        let incident = match known {
            Some(mut incident) => {
                incident.again(report, now_s);
                incident
            }
            None => report.first(now_s),
        };
        self.put(&incident)?;
        Ok(incident)
    }

    /// Keeps an incident as it is, in the place of one with the same id.
    pub fn put(&self, incident: &Incident) -> Result<(), Error> {
        if self.incident(incident.id)?.is_none() {
            self.make_room()?;
        }
        let statement = format!("INSERT OR REPLACE INTO incident ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)");
        self.connection.prepare_cached(&statement)?.execute(params![
            incident.id.to_string(),
            incident.kind,
            incident.title,
            incident.severity.as_str(),
            incident.state.as_str(),
            i64::try_from(incident.count).unwrap_or(i64::MAX),
            incident.first_seen_s,
            incident.last_seen_s,
            incident.fingerprint,
            incident.context,
            incident.process,
        ])?;
        Ok(())
    }

    fn make_room(&self) -> Result<(), Error> {
        let n: i64 = self.connection.query_row("SELECT count(*) FROM incident", [], |row| row.get(0))?;
        if n < INCIDENTS_MAX {
            return Ok(());
        }
        let oldest = "DELETE FROM incident WHERE id =
            (SELECT id FROM incident WHERE state = 'resolved' ORDER BY last_seen LIMIT 1)";
        if self.connection.execute(oldest, [])? == 0 {
            let why = format!("{INCIDENTS_MAX} incidents are not resolved: resolve or remove some");
            return Err(Error::Refused(why));
        }
        Ok(())
    }

    /// The incident with this id.
    pub fn incident(&self, id: Uuid) -> Result<Option<Incident>, Error> {
        let query = format!("SELECT {COLUMNS} FROM incident WHERE id = ?");
        Ok(self.connection.prepare_cached(&query)?.query_row([id.to_string()], incident).optional()?)
    }

    /// The incidents that were seen last, up to `limit`, in the order of their first report.
    pub fn incidents(&self, limit: i64) -> Result<Vec<Incident>, Error> {
        let query = format!(
            "SELECT {COLUMNS} FROM (SELECT rowid AS place, * FROM incident ORDER BY last_seen DESC LIMIT ?)
             ORDER BY first_seen, place"
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        let rows = statement.query_map([limit], incident)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Marks an incident as being worked on; says whether that is a change.
    pub fn acknowledge(&self, id: Uuid, actor: &str, now_s: f64) -> Result<bool, Error> {
        let next = self.incident(id)?.ok_or(Error::Unknown(id))?.state.acknowledged()?;
        self.enter(id, next, "acknowledge", actor, now_s)
    }

    /// Marks an incident as over; says whether that is a change.
    pub fn resolve(&self, id: Uuid, actor: &str, now_s: f64) -> Result<bool, Error> {
        let next = self.incident(id)?.ok_or(Error::Unknown(id))?.state.resolved();
        self.enter(id, next, "resolve", actor, now_s)
    }

    fn enter(&self, id: Uuid, next: Option<State>, action: &str, actor: &str, now_s: f64) -> Result<bool, Error> {
        let Some(state) = next else {
            return Ok(false);
        };
        let statement = "UPDATE incident SET state = ? WHERE id = ?";
        self.connection.execute(statement, params![state.as_str(), id.to_string()])?;
        self.note(action, id, actor, now_s)?;
        Ok(true)
    }

    /// Removes an incident; says whether there was one.
    pub fn remove(&self, id: Uuid, actor: &str, now_s: f64) -> Result<bool, Error> {
        let removed = self.connection.execute("DELETE FROM incident WHERE id = ?", [id.to_string()])? > 0;
        if removed {
            self.note("remove", id, actor, now_s)?;
        }
        Ok(removed)
    }

    fn note(&self, action: &str, id: Uuid, actor: &str, now_s: f64) -> Result<(), Error> {
        let record = Record {
            actor: actor.to_owned(),
            action: format!("incident.{action}"),
            subject: id.to_string(),
            details: "{}".to_owned(),
        };
        self.append(record, now_s).map(|_| ())
    }
}

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    fn known<T>(at: usize, word: String, value: Option<T>) -> rusqlite::Result<T> {
        value.ok_or_else(|| {
            rusqlite::Error::FromSqlConversionFailure(at, Type::Text, format!("`{word}` is unknown").into())
        })
    }
    let (id, severity, state): (String, String, String) = (row.get(0)?, row.get(3)?, row.get(4)?);
    Ok(Incident {
        id: known(0, id.clone(), Uuid::parse_str(&id).ok())?,
        kind: row.get(1)?,
        title: row.get(2)?,
        severity: known(3, severity.clone(), Severity::named(&severity))?,
        state: known(4, state.clone(), State::named(&state))?,
        count: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
        first_seen_s: row.get(6)?,
        last_seen_s: row.get(7)?,
        fingerprint: row.get(8)?,
        context: row.get(9)?,
        process: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn store() -> Store {
        Store::open(Path::new(":memory:")).unwrap()
    }

    fn report(title: &str) -> Report {
        Report {
            kind: "long-hold".to_owned(),
            title: title.to_owned(),
            severity: Severity::Warning,
            fingerprint: None,
            context: "{\"held_s\":3}".to_owned(),
            process: "app:1".to_owned(),
        }
    }

    #[test]
    fn a_report_counts_until_the_incident_is_resolved() {
        let store = store();
        let first = store.report(report("a"), 1.0).unwrap();
        let second = store.report(report("a"), 2.0).unwrap();
        assert_eq!((second.id, second.count), (first.id, 2));
        assert!(store.acknowledge(first.id, "ann", 3.0).unwrap());
        assert_eq!(store.report(report("a"), 4.0).unwrap().id, first.id);
        assert!(store.resolve(first.id, "ann", 5.0).unwrap());
        let fresh = store.report(report("a"), 6.0).unwrap();
        assert_ne!(fresh.id, first.id);
        assert_eq!(fresh.count, 1);
        let states: Vec<State> = store.incidents(10).unwrap().iter().map(|incident| incident.state).collect();
        assert_eq!(states, [State::Resolved, State::Open]);
    }

    #[test]
    fn what_is_read_is_what_was_kept() {
        let store = store();
        let kept = store.report(report("a"), 1.5).unwrap();
        assert_eq!(store.incident(kept.id).unwrap(), Some(kept.clone()));
        assert_eq!(store.incidents(10).unwrap(), [kept]);
        assert_eq!(store.incident(Uuid::new_v4()).unwrap(), None);
    }

    #[test]
    fn changes_of_state_are_in_the_audit_log_once() {
        let store = store();
        let id = store.report(report("a"), 1.0).unwrap().id;
        assert!(store.acknowledge(id, "ann", 2.0).unwrap());
        assert!(!store.acknowledge(id, "bob", 3.0).unwrap());
        assert!(store.resolve(id, "bob", 4.0).unwrap());
        assert!(!store.resolve(id, "bob", 5.0).unwrap());
        assert!(matches!(store.acknowledge(id, "bob", 6.0), Err(Error::Refused(_))));
        assert!(store.remove(id, "bob", 7.0).unwrap());
        assert!(!store.remove(id, "bob", 8.0).unwrap());
        assert_eq!(store.resolve(id, "bob", 9.0), Err(Error::Unknown(id)));
        let done: Vec<(String, String)> =
            store.entries(0, 10).unwrap().into_iter().map(|entry| (entry.actor, entry.action)).collect();
        let expected = [("ann", "incident.acknowledge"), ("bob", "incident.resolve"), ("bob", "incident.remove")];
        assert_eq!(done, expected.map(|(actor, action)| (actor.to_owned(), action.to_owned())));
    }

    #[test]
    fn resolved_incidents_make_room_and_open_ones_do_not() {
        let store = store();
        store.begin().unwrap();
        for n in 0..INCIDENTS_MAX {
            store.put(&report(&n.to_string()).first(n as f64)).unwrap();
        }
        assert!(matches!(store.report(report("one more"), 1e6), Err(Error::Refused(_))));
        let oldest = store.incidents(INCIDENTS_MAX).unwrap()[0].id;
        store.resolve(oldest, "ann", 1e6).unwrap();
        store.report(report("one more"), 1e6).unwrap();
        store.commit().unwrap();
        assert_eq!(store.incident(oldest).unwrap(), None);
        assert_eq!(store.incidents(INCIDENTS_MAX + 10).unwrap().len() as i64, INCIDENTS_MAX);
    }
}
