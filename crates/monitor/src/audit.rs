//! The audit log: who did what to what. Entries form a chain of hashes, so that one that is changed, or taken out of
//! the middle, is found. Who can write to the file can also forge a whole new chain: this is no protection from them.

use sha2::{Digest, Sha256};

/// The hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who: a user, a component, a process.
    pub actor: String,
    /// What was done, such as `resolve`.
    pub action: String,
    /// To what: an id or a name.
    pub subject: String,
    /// More about it: the text of a JSON object.
    pub details: String,
}

/// What was written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the log, from 1, without gaps.
    pub seq: i64,
    /// When, in seconds since 1970.
    pub at_s: f64,
    /// See [`Record::actor`].
    pub actor: String,
    /// See [`Record::action`].
    pub action: String,
    /// See [`Record::subject`].
    pub subject: String,
    /// See [`Record::details`].
    pub details: String,
    /// The hash of the entry before.
    pub previous: String,
    /// The hash of all of the above.
    pub hash: String,
}

impl Entry {
    /// The entry that follows `previous`, which is the hash of entry `seq - 1`.
    #[must_use]
    pub fn after(seq: i64, previous: String, at_s: f64, record: Record) -> Self {
        let Record { actor, action, subject, details } = record;
        let mut entry = Entry { seq, at_s, actor, action, subject, details, previous, hash: String::new() };
        entry.hash = entry.expected_hash();
        entry
    }

    /// The hash that the entry should have.
    #[must_use]
    pub fn expected_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.seq.to_le_bytes());
        hash.update(self.at_s.to_bits().to_le_bytes());
        for part in [&self.actor, &self.action, &self.subject, &self.details, &self.previous] {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Looks at entries in order, and says at which the chain first breaks.
#[derive(Debug, Default)]
pub struct Verifier {
    last: Option<(i64, String)>,
}

impl Verifier {
    /// Does `entry` follow the one before, with the hash that it should have? The first entry that is looked at may
    /// follow entries that were dropped for their age.
    pub fn accepts(&mut self, entry: &Entry) -> bool {
        let follows = match &self.last {
            Some((seq, hash)) => entry.seq == seq + 1 && entry.previous == *hash,
            None => entry.seq > 1 || entry.previous == GENESIS,
        };
        self.last = Some((entry.seq, entry.hash.clone()));
        follows && entry.hash == entry.expected_hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for seq in 1..=4 {
            let previous = entries.last().map_or(GENESIS.to_owned(), |entry| entry.hash.clone());
            let record = Record {
                actor: "ann".to_owned(),
                action: "login".to_owned(),
                subject: format!("s{seq}"),
                details: "{}".to_owned(),
            };
            entries.push(Entry::after(seq, previous, seq as f64, record));
        }
        entries
    }

    fn breaks_at(entries: &[Entry]) -> Option<i64> {
        let mut verifier = Verifier::default();
        entries.iter().find(|entry| !verifier.accepts(entry)).map(|entry| entry.seq)
    }

    #[test]
    fn an_untouched_chain_holds_also_without_its_beginning() {
        assert_eq!(breaks_at(&chain()), None);
        assert_eq!(breaks_at(&chain()[2..]), None);
    }

    #[test]
    fn a_changed_entry_is_found() {
        let mut entries = chain();
        entries[1].subject = "other".to_owned();
        assert_eq!(breaks_at(&entries), Some(2));
        entries[1].hash = entries[1].expected_hash();
        assert_eq!(breaks_at(&entries), Some(3), "with a new hash, the next entry no longer follows");
    }

    #[test]
    fn an_entry_taken_out_of_the_middle_is_found() {
        let mut entries = chain();
        entries.remove(1);
        assert_eq!(breaks_at(&entries), Some(3));
    }
}
