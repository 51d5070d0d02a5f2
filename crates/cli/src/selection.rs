//! From the words of `--select` and `--ignore` to rules.

use std::collections::BTreeSet;

use facts::RuleInfo;

use crate::error::{Error, nearest};

/// Names of rules.
pub type Names = BTreeSet<&'static str>;

/// The rules that `words` mean: names, codes, beginnings of codes, or `all`.
///
/// # Errors
/// If a word means no rule.
pub fn resolve(words: &[String]) -> Result<Names, Error> {
    let mut names = Names::new();
    for word in words.iter().map(|word| word.trim()) {
        if word.is_empty() {
            let error = Error::new("a rule is missing between, before or after commas");
            return Err(error.help("write them as `RP1,unlocked-increment`; `raceproof rules` lists all of them"));
        }
        let before = names.len();
        let meant = check::rules().filter(|rule| means(word, rule));
        names.extend(meant.map(|rule| rule.name));
        let known = check::rules().any(|rule| means(word, rule));
        if names.len() == before && !known {
            return Err(unknown(word));
        }
    }
    Ok(names)
}

/// The rule with this name or code.
///
/// # Errors
/// If there is none.
pub fn rule(word: &str) -> Result<&'static RuleInfo, Error> {
    check::rules().find(|rule| rule.name == word || rule.code.eq_ignore_ascii_case(word)).ok_or_else(|| unknown(word))
}

fn means(word: &str, rule: &RuleInfo) -> bool {
    let is_code_start =
        word.len() >= 2 && rule.code.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    word.eq_ignore_ascii_case("all") || rule.name == word || is_code_start
}

fn unknown(word: &str) -> Error {
    let error = Error::new(format!("no rule `{word}`"));
    let names = check::rules().flat_map(|rule| [rule.name, rule.code]);
    match nearest(word, names) {
        Some(meant) => error.help(format!("did you mean `{meant}`? `raceproof rules` lists all of them")),
        None => error.help("`raceproof rules` lists all of them"),
    }
}

/// The rules to run: `select` or what is on by default, without `ignore`. `None` means what is on by default.
#[must_use]
pub fn chosen(select: Option<&Names>, ignore: &Names) -> Option<Vec<&'static str>> {
    if select.is_none() && ignore.is_empty() {
        return None;
    }
    let is_on = |rule: &RuleInfo| match select {
        Some(names) => names.contains(rule.name),
        None => rule.on_by_default,
    };
    let rules = check::rules().filter(|rule| is_on(rule) && !ignore.contains(rule.name));
    Some(rules.map(|rule| rule.name).collect())
}
