//! What can go wrong in this crate. Small, since the callers turn it into exceptions or answers to a browser.

use std::fmt;

use uuid::Uuid;

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The store failed: the disk is full, the file is no database, the folder cannot be written.
    Storage(String),
    /// The file was written by a newer raceproof.
    Newer {
        /// The version of its schema.
        found: i64,
        /// The newest that this raceproof knows.
        known: i64,
    },
    /// Against the rules, such as acknowledging what is resolved.
    Refused(String),
    /// No incident has this id.
    Unknown(Uuid),
    /// The queue of the store had no room.
    Busy,
    /// It took longer than the caller would wait. The work may still be done.
    Timeout,
    /// The store was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Storage(cause) => write!(f, "the store failed: {cause}"),
            Error::Newer { found, known } => {
                write!(f, "the store has schema {found}, and this raceproof knows {known}: use a newer raceproof")
            }
            Error::Refused(why) => f.write_str(why),
            Error::Unknown(id) => write!(f, "no incident has the id {id}"),
            Error::Busy => f.write_str("the store has too much to write; try again"),
            Error::Timeout => f.write_str("the store took longer than the timeout"),
            Error::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(cause: rusqlite::Error) -> Self {
        Error::Storage(cause.to_string())
    }
}
