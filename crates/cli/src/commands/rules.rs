//! `raceproof rules`: a line for each rule.

use super::print;
use crate::Exit;
use crate::error::Error;

pub(super) fn run() -> Result<Exit, Error> {
    let width = ::check::rules().map(|rule| rule.name.len()).max().unwrap_or(0);
    let lines = ::check::rules().map(|rule| {
        let severity = rule.severity.as_str();
        let off = if rule.on_by_default { "" } else { " (off by default)" };
        format!("{}  {:width$}  {severity:7}  {}{off}\n", rule.code, rule.name, rule.summary)
    });
    print(&lines.collect::<String>())?;
    Ok(Exit::Clean)
}
