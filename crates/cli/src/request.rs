//! What only Python can do: the command line says what, and `raceproof.runner` does it.

/// A verb that runs Python code, with all that was said on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The verb.
    pub verb: &'static str,
    /// What was said, under the names of the options.
    pub settings: Vec<(&'static str, Setting)>,
}

/// What was said for one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing.
    Nothing,
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// Words.
    Texts(Vec<String>),
    /// Yes or no.
    Flag(bool),
}

impl<T: Into<Setting>> From<Option<T>> for Setting {
    fn from(said: Option<T>) -> Self {
        said.map_or(Setting::Nothing, Into::into)
    }
}

impl From<String> for Setting {
    fn from(said: String) -> Self {
        Setting::Text(said)
    }
}

impl From<&str> for Setting {
    fn from(said: &str) -> Self {
        Setting::Text(said.to_owned())
    }
}

impl From<u64> for Setting {
    fn from(said: u64) -> Self {
        Setting::Number(said)
    }
}
