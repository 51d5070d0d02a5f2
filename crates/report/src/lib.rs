//! How findings are shown: to people as text or as a page, to tools as JSON, SARIF or workflow commands.
//!
//! It promises the same bytes for the same page: it reads no file, clock, environment or terminal, and it shows the
//! findings in the order in which it gets them. It does not sort, filter or judge them.

mod counts;
mod diff;
mod excerpt;
mod github;
mod html;
mod json;
mod sarif;
pub mod text;
mod timeline;
mod words;

#[cfg(test)]
mod sample;

use facts::{Files, Finding, RuleInfo, Runtime};

/// A way to show findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people, in a terminal.
    #[default]
    Text,
    /// For tools: the contract of raceproof itself.
    Json,
    /// For tools that collect the results of many analysers (SARIF 2.1.0).
    Sarif,
    /// Annotations of a pull request, as workflow commands of GitHub Actions.
    Github,
    /// One page that a person can send to a colleague.
    Html,
}

impl Format {
    /// Every format, in the order in which help shows them.
    pub const ALL: [Format; 5] = [Format::Text, Format::Json, Format::Sarif, Format::Github, Format::Html];

    /// The word used on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Sarif => "sarif",
            Format::Github => "github",
            Format::Html => "html",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Format::ALL.into_iter().find(|format| format.as_str() == word).ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}

/// A word that names no [`Format`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(pub String);

impl std::fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Format::ALL.map(Format::as_str).join(", ");
        write!(f, "no format `{}`; the formats are {known}", self.0)
    }
}

impl std::error::Error for UnknownFormat {}

/// All that a report is made of.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// The texts that the spans point into.
    pub files: &'a Files,
    /// What to show, in this order.
    pub findings: &'a [Finding],
    /// The rules that were asked about; a finding of another rule is shown all the same.
    pub rules: &'a [&'static RuleInfo],
    /// The runtime that the code was checked for.
    pub runtime: Runtime,
    /// The version of raceproof.
    pub version: &'a str,
    /// May the text hold ANSI colours? The other formats never do.
    pub colour: bool,
    /// What the findings alone do not tell.
    pub summary: Summary,
}

/// What the findings alone do not tell about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many files were checked.
    pub n_files: usize,
    /// How many findings are not shown because their confidence is low.
    pub n_hidden: usize,
    /// How long it took, such as `0.12 s`. Without it, the same input gives the same bytes.
    pub elapsed: Option<String>,
    /// Limits of the analysis that were reached, in words.
    pub limits: Vec<String>,
}

/// Shows a page in a format. The result ends with a line break, unless it is empty.
#[must_use]
pub fn render(format: Format, page: &Page<'_>) -> String {
    match format {
        Format::Text => text::render(page),
        Format::Json => json::render(page),
        Format::Sarif => sarif::render(page),
        Format::Github => github::render(page),
        Format::Html => html::render(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_as_they_are_written() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "xml".parse::<Format>().unwrap_err();
        assert_eq!(error.to_string(), "no format `xml`; the formats are text, json, sarif, github, html");
    }

    #[test]
    fn every_format_gives_the_same_bytes_twice() {
        let (once, again) = (sample::Sample::new(), sample::Sample::new());
        for format in Format::ALL {
            let shown = render(format, &once.page());
            assert!(shown.ends_with('\n'), "{format}");
            assert_eq!(shown, render(format, &again.page()), "{format}");
        }
    }

    #[test]
    fn every_format_shows_what_was_seen() {
        let seen = sample::Sample::observed();
        for format in Format::ALL {
            let shown = render(format, &seen.page());
            for part in ["writes", "1:T0@app", "the invariant does not hold"] {
                let may_lack = format == Format::Sarif && part.starts_with("the invariant");
                assert!(may_lack || shown.contains(part), "{format}: {part}\n{shown}");
            }
            assert!(format != Format::Html || !shown.contains("<b>&"), "markup of the program");
        }
    }

    #[test]
    fn spans_that_do_not_fit_are_shown_without_a_panic() {
        let odd = sample::Sample::with_odd_spans();
        for format in Format::ALL {
            assert!(!render(format, &odd.page()).is_empty(), "{format}");
        }
    }
}
