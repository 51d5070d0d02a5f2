//! The one error of the command line: what, why, and what to do. It is printed once, in [`crate::main`].

use std::fmt;

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub struct Error {
    /// What could not be done, lower case, no full stop.
    pub message: String,
    /// Why, the nearest cause first.
    pub causes: Vec<String>,
    /// What the reader can do, if we know.
    pub help: Option<String>,
}

impl Error {
    /// An error without causes or help.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), help: None }
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n because: {}", cause.trim_end().replace('\n', "\n  "))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n help: {help}")?;
        }
        Ok(())
    }
}

/// The name in `known` that a mistyped `word` most likely means: at most a third of its letters are wrong.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_recognised_and_a_foreign_one_is_not() {
        let known = ["check-then-act", "unlocked-increment", "unlocked-lazy-init"];
        assert_eq!(nearest("unlocked-incremnet", known), Some("unlocked-increment"));
        assert_eq!(nearest("check-than-act", known), Some("check-then-act"));
        assert_eq!(nearest("unused-import", known), None);
    }

    #[test]
    fn an_error_reads_from_what_to_help() {
        let error =
            Error::new("cannot read raceproof.toml").because("permission denied").help("give the file with `--config`");
        assert_eq!(
            error.to_string(),
            "error: cannot read raceproof.toml\n because: permission denied\n help: give the file with `--config`"
        );
    }
}
