//! What has to outlive the process: incidents, the audit log and samples, in one SQLite file that several processes
//! may share.
//!
//! A commit is on the disk before it returns (WAL, `synchronous=FULL`). The functions here run inside the transaction
//! of [`crate::writer`], on its thread; nothing here is shared between threads.

mod audit;
mod incidents;
mod samples;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::Error;

pub use samples::{PROCESSES_MAX, Process, SAMPLES_MAX, Sample};

/// How many incidents are kept. Resolved ones make room, the oldest first; if there are none, reports are refused.
pub const INCIDENTS_MAX: i64 = 10_000;
/// How many entries of the audit log are kept; the oldest make room.
pub const AUDIT_MAX: i64 = 1_000_000;
/// How long a transaction waits for another process.
const BUSY: Duration = Duration::from_secs(10);

/// What brings a schema from its place in the list to the next version. Never changed, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE incident (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL,
        count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, fingerprint TEXT NOT NULL,
        context TEXT NOT NULL, process TEXT NOT NULL
    ) STRICT;
    CREATE INDEX incident_by_fingerprint ON incident (fingerprint, state);
    CREATE INDEX incident_by_age ON incident (state, last_seen);
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
        details TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE process (name TEXT PRIMARY KEY, last_seen REAL NOT NULL, live TEXT NOT NULL) STRICT;
    CREATE TABLE sample (process TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, value REAL NOT NULL) STRICT;
    CREATE INDEX sample_by_series ON sample (process, name, at);
    CREATE INDEX sample_by_age ON sample (at);
"];

/// The file that a store is in if nobody says another: `$RACEPROOF_STORE`, or a file in the folder that the system has
/// for the state of this user's programs. `variable` reads the environment.
#[must_use]
pub fn default_path(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = set("RACEPROOF_STORE") {
        return file;
    }
    let home = || set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_else(std::env::temp_dir);
    let folder = if cfg!(windows) {
        set("LOCALAPPDATA").unwrap_or_else(|| home().join("AppData/Local"))
    } else if cfg!(target_os = "macos") {
        home().join("Library/Application Support")
    } else {
        set("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state"))
    };
    folder.join("raceproof").join("monitor.db")
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file and makes it if it is not there; `:memory:` is a store that goes with the process.
    ///
    /// # Errors
    /// If the file cannot be opened, is no store, or was written by a newer raceproof.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = if path.as_os_str() == ":memory:" {
            Connection::open_in_memory()?
        } else {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                make_private(folder, path)?;
            }
            Connection::open(path)?
        };
        connection.busy_timeout(BUSY)?;
        // The answer says which mode it is now; in memory that is not `wal`, and need not be.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let store = Self { connection };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&self) -> Result<(), Error> {
        let known = MIGRATIONS.len() as i64;
        self.begin()?;
        let found: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > known {
            self.roll_back();
            return Err(Error::Newer { found, known });
        }
        for migration in &MIGRATIONS[usize::try_from(found).unwrap_or(0)..] {
            self.connection.execute_batch(migration)?;
        }
        if found < known {
            self.connection.pragma_update(None, "user_version", known)?;
        }
        self.commit()
    }

    /// Begins a transaction that writes.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Ends the transaction: what it wrote is on the disk.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        self.connection.execute_batch("COMMIT").map_err(|cause| {
            self.roll_back();
            cause.into()
        })
    }

    fn roll_back(&self) {
        // If there is no transaction to roll back, that is as good.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    /// Runs a part of a transaction that is undone alone if it fails.
    pub(crate) fn part<T>(&self, run: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        self.connection.execute_batch("SAVEPOINT part")?;
        let result = run(self);
        let end = if result.is_ok() { "RELEASE part" } else { "ROLLBACK TO part; RELEASE part" };
        self.connection.execute_batch(end)?;
        result
    }
}

/// Makes the folder of the store, if it is missing, and the file so that only its owner can read it: incidents hold
/// tracebacks and values.
fn make_private(folder: &Path, path: &Path) -> Result<(), Error> {
    let failed = |cause: std::io::Error| Error::Storage(format!("{}: {cause}", path.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/monitor.db");
        drop(Store::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert_eq!(Store::open(&path).unwrap_err(), Error::Newer { found: 99, known: MIGRATIONS.len() as i64 });
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(found, 99);
    }

    #[test]
    fn an_empty_file_is_migrated_and_a_foreign_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.db");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(Store::open(&empty).unwrap().incidents(10).unwrap(), []);
        let foreign = folder.path().join("foreign.db");
        std::fs::write(&foreign, "this is no database, and long enough to be taken for a header of one".repeat(20))
            .unwrap();
        assert!(matches!(Store::open(&foreign), Err(Error::Storage(_))));
    }

    #[test]
    fn the_environment_chooses_the_file() {
        let of = |pairs: &'static [(&str, &str)]| {
            default_path(move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("RACEPROOF_STORE", "/x/y.db"), ("HOME", "/home/ann")]), PathBuf::from("/x/y.db"));
        if cfg!(target_os = "linux") {
            let expected = PathBuf::from("/home/ann/.local/state/raceproof/monitor.db");
            assert_eq!(of(&[("HOME", "/home/ann"), ("XDG_STATE_HOME", "")]), expected);
            let expected = PathBuf::from("/state/raceproof/monitor.db");
            assert_eq!(of(&[("HOME", "/home/ann"), ("XDG_STATE_HOME", "/state")]), expected);
        }
    }

    #[test]
    fn commits_reach_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("monitor.db")).unwrap();
        let mode: String = store.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let synchronous: i64 = store.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor.db");
        drop(Store::open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_part_that_fails_is_undone_alone() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        store.begin().unwrap();
        let add = |store: &Store, action: &str| {
            let record = crate::audit::Record {
                actor: "a".to_owned(),
                action: action.to_owned(),
                subject: String::new(),
                details: "{}".to_owned(),
            };
            store.append(record, 1.0)
        };
        store.part(|store| add(store, "first")).unwrap();
        let failed: Result<(), Error> = store.part(|store| {
            add(store, "second")?;
            Err(Error::Busy)
        });
        assert_eq!(failed, Err(Error::Busy));
        store.part(|store| add(store, "third")).unwrap();
        store.commit().unwrap();
        let actions: Vec<String> = store.entries(0, 10).unwrap().into_iter().map(|entry| entry.action).collect();
        assert_eq!(actions, ["first", "third"]);
    }
}
