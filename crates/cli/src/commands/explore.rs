//! `raceproof explore`: what is asked, for `raceproof.runner`.

use crate::args::ExploreArgs;
use crate::error::Error;
use crate::request::Request;

pub(super) fn run(args: &ExploreArgs) -> Result<Request, Error> {
    let (file, name) = match args.scenario.rsplit_once("::") {
        Some((file, name)) => (file, Some(name.to_owned())),
        None => (args.scenario.as_str(), None),
    };
    if name.as_deref() == Some("") || file.is_empty() {
        return Err(Error::new(format!("`{}` names no scenario", args.scenario))
            .help("write the file, two colons, and a name in it, such as `tests/bank.py::Transfer`"));
    }
    if args.bound.is_some() && !["auto", "dfs"].contains(&args.strategy.as_str()) {
        return Err(Error::new("`--bound` goes with the strategies auto and dfs"));
    }
    Ok(Request {
        verb: "explore",
        settings: vec![
            ("file", file.into()),
            ("name", name.into()),
            ("strategy", args.strategy.as_str().into()),
            ("max_runs", args.max_runs.into()),
            ("bound", args.bound.map(u64::from).into()),
            ("seed", args.seed.into()),
            ("runtime", args.runtime.map(|runtime| facts::Runtime::from(runtime).as_str()).into()),
            ("format", args.format.as_str().into()),
            ("output", args.output.as_ref().map(|path| path.to_string_lossy().into_owned()).into()),
            ("replay", args.replay.clone().into()),
            ("time_limit", args.time_limit.into()),
            ("memory_limit", args.memory_limit.into()),
        ],
    })
}
