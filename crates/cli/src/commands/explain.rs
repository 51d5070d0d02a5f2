//! `raceproof explain`: the page of a rule, which is also its test.

use facts::RuleInfo;

use super::print;
use crate::Exit;
use crate::args::ExplainArgs;
use crate::error::Error;
use crate::selection;

pub(super) fn run(args: &ExplainArgs) -> Result<Exit, Error> {
    let is_meant = |rule: &&RuleInfo| rule.name == args.rule || rule.code.eq_ignore_ascii_case(&args.rule);
    let mut of_runs = detect::rules::ALL.into_iter().chain([&explore::rules::OBSERVED_FAILURE]);
    let rule = match of_runs.find(is_meant) {
        Some(rule) => rule,
        None => selection::rule(&args.rule)?,
    };
    print(rule.docs)?;
    Ok(Exit::Clean)
}
