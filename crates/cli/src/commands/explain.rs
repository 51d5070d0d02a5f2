//! `raceproof explain`: the page of a rule, which is also its test.

use super::print;
use crate::Exit;
use crate::args::ExplainArgs;
use crate::error::Error;
use crate::selection;

pub(super) fn run(args: &ExplainArgs) -> Result<Exit, Error> {
    let rule = selection::rule(&args.rule)?;
    print(rule.docs)?;
    Ok(Exit::Clean)
}
