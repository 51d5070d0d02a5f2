//! The audit log in the store.

use rusqlite::{OptionalExtension, Row, params};

use super::{AUDIT_MAX, Store};
use crate::audit::{Entry, GENESIS, Record, Verifier};
use crate::error::Error;

const COLUMNS: &str = "seq, at, actor, action, subject, details, previous, hash";
/// The oldest entries go in steps, since counting all at each append would be slow.
const STEP: i64 = 1_000;

impl Store {
    /// Appends to the audit log.
    pub fn append(&self, record: Record, now_s: f64) -> Result<Entry, Error> {
        let last = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
        let last = self.connection.prepare_cached(last)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
        let (seq, previous): (i64, String) = last.optional()?.unwrap_or((0, GENESIS.to_owned()));
        let entry = Entry::after(seq + 1, previous, now_s, record);
        let statement = format!("INSERT INTO audit ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?)");
        self.connection.prepare_cached(&statement)?.execute(params![
            entry.seq,
            entry.at_s,
            entry.actor,
            entry.action,
            entry.subject,
            entry.details,
            entry.previous,
            entry.hash,
        ])?;
        if entry.seq % STEP == 0 {
            self.connection.execute("DELETE FROM audit WHERE seq <= ?", [entry.seq - AUDIT_MAX])?;
        }
        Ok(entry)
    }

    /// Up to `limit` entries after the entry `after`, the oldest first.
    pub fn entries(&self, after: i64, limit: i64) -> Result<Vec<Entry>, Error> {
        let query = format!("SELECT {COLUMNS} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?");
        let mut statement = self.connection.prepare_cached(&query)?;
        let rows = statement.query_map([after, limit], entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The latest entries, the latest first.
    pub fn latest_entries(&self, limit: i64) -> Result<Vec<Entry>, Error> {
        let query = format!("SELECT {COLUMNS} FROM audit ORDER BY seq DESC LIMIT ?");
        let mut statement = self.connection.prepare_cached(&query)?;
        let rows = statement.query_map([limit], entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The number of the first entry that was changed, or that follows one that was taken out.
    pub fn broken_entry(&self) -> Result<Option<i64>, Error> {
        let mut statement = self.connection.prepare(&format!("SELECT {COLUMNS} FROM audit ORDER BY seq"))?;
        let mut verifier = Verifier::default();
        for read in statement.query_map([], entry)? {
            let read = read?;
            if !verifier.accepts(&read) {
                return Ok(Some(read.seq));
            }
        }
        Ok(None)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get(0)?,
        at_s: row.get(1)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        details: row.get(5)?,
        previous: row.get(6)?,
        hash: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_changed_behind_our_back_is_found() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        for n in 0..5 {
            let record = Record {
                actor: "ann".to_owned(),
                action: "login".to_owned(),
                subject: n.to_string(),
                details: "{}".to_owned(),
            };
            store.append(record, f64::from(n)).unwrap();
        }
        assert_eq!(store.broken_entry().unwrap(), None);
        assert_eq!(store.entries(3, 10).unwrap().len(), 2);
        store.connection.execute("UPDATE audit SET actor = 'bob' WHERE seq = 3", []).unwrap();
        assert_eq!(store.broken_entry().unwrap(), Some(3));
        store.connection.execute("DELETE FROM audit WHERE seq = 3", []).unwrap();
        assert_eq!(store.broken_entry().unwrap(), Some(4));
    }
}
