//! Samples of the health of processes: numbers over time, and the latest snapshot of what is alive. They are for
//! looking back from another process, so they are bounded in number and age.

use rusqlite::{OptionalExtension, params};

use super::Store;
use crate::error::Error;

/// How many samples are kept, of all processes together; the oldest make room.
pub const SAMPLES_MAX: i64 = 500_000;
/// How many processes are remembered; the ones that were not seen for the longest time make room.
pub const PROCESSES_MAX: i64 = 50;
/// How long a sample is kept.
const AGE_MAX_S: f64 = 24.0 * 3600.0;

/// A number at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name of the metric.
    pub name: String,
    /// When, in seconds since 1970.
    pub at_s: f64,
    /// The number.
    pub value: f64,
}

/// A process that writes samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `name:pid`.
    pub name: String,
    /// When it wrote last, in seconds since 1970.
    pub last_seen_s: f64,
}

impl Store {
    /// Keeps samples of a process, and what is alive in it now (the text of a JSON object).
    pub fn sample(&self, process: &str, now_s: f64, live: &str, samples: &[Sample]) -> Result<(), Error> {
        let seen = "INSERT OR REPLACE INTO process (name, last_seen, live) VALUES (?, ?, ?)";
        self.connection.prepare_cached(seen)?.execute(params![process, now_s, live])?;
        let mut statement =
            self.connection.prepare_cached("INSERT INTO sample (process, name, at, value) VALUES (?, ?, ?, ?)")?;
        for sample in samples.iter().filter(|sample| sample.value.is_finite()) {
            statement.execute(params![process, sample.name, sample.at_s, sample.value])?;
        }
        self.forget(now_s)
    }

    fn forget(&self, now_s: f64) -> Result<(), Error> {
        self.connection.prepare_cached("DELETE FROM sample WHERE at < ?")?.execute([now_s - AGE_MAX_S])?;
        let excess = "DELETE FROM sample WHERE rowid <= (SELECT max(rowid) FROM sample) - ?";
        self.connection.prepare_cached(excess)?.execute([SAMPLES_MAX])?;
        let old = "DELETE FROM process WHERE name IN
            (SELECT name FROM process ORDER BY last_seen DESC LIMIT -1 OFFSET ?)";
        self.connection.prepare_cached(old)?.execute([PROCESSES_MAX])?;
        Ok(())
    }

    /// The processes that wrote samples, the latest first.
    pub fn processes(&self) -> Result<Vec<Process>, Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT name, last_seen FROM process ORDER BY last_seen DESC")?;
        let rows = statement.query_map([], |row| Ok(Process { name: row.get(0)?, last_seen_s: row.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What was alive in a process when it wrote last: when, and the text of a JSON object.
    pub fn live(&self, process: &str) -> Result<Option<(f64, String)>, Error> {
        let query = "SELECT last_seen, live FROM process WHERE name = ?";
        let row = self.connection.query_row(query, [process], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(row.optional()?)
    }

    /// The samples of a process since `since_s`, by name and time.
    pub fn samples(&self, process: &str, since_s: f64) -> Result<Vec<Sample>, Error> {
        let query = "SELECT name, at, value FROM sample WHERE process = ? AND at >= ? ORDER BY name, at";
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map(params![process, since_s], |row| {
            Ok(Sample { name: row.get(0)?, at_s: row.get(1)?, value: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sample(at_s: f64) -> Sample {
        Sample { name: "rss".to_owned(), at_s, value: at_s * 2.0 }
    }

    #[test]
    fn samples_are_kept_for_a_day() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        store.sample("app:1", 10.0, "{}", &[sample(10.0)]).unwrap();
        store.sample("app:1", 11.0, "{\"n\":1}", &[sample(11.0)]).unwrap();
        assert_eq!(store.samples("app:1", 0.0).unwrap(), [sample(10.0), sample(11.0)]);
        assert_eq!(store.samples("app:1", 10.5).unwrap(), [sample(11.0)]);
        assert_eq!(store.live("app:1").unwrap(), Some((11.0, "{\"n\":1}".to_owned())));
        let later = 10.5 + AGE_MAX_S;
        store.sample("app:2", later, "{}", &[]).unwrap();
        assert_eq!(store.samples("app:1", 0.0).unwrap(), [sample(11.0)]);
        let names: Vec<String> = store.processes().unwrap().into_iter().map(|process| process.name).collect();
        assert_eq!(names, ["app:2", "app:1"]);
    }

    #[test]
    fn numbers_that_are_none_are_not_kept() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        let odd = Sample { name: "x".to_owned(), at_s: 1.0, value: f64::NAN };
        store.sample("app:1", 1.0, "{}", &[odd]).unwrap();
        assert_eq!(store.samples("app:1", 0.0).unwrap(), []);
    }

    #[test]
    fn processes_that_are_long_gone_are_forgotten() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        for n in 0..PROCESSES_MAX + 3 {
            store.sample(&format!("app:{n}"), n as f64, "{}", &[]).unwrap();
        }
        assert_eq!(store.processes().unwrap().len() as i64, PROCESSES_MAX);
        assert_eq!(store.live("app:0").unwrap(), None);
    }
}
