//! `raceproof run`: what is asked, for `raceproof.detect`.

use facts::Confidence;

use crate::args::RunArgs;
use crate::request::{Request, Setting};

pub(super) fn run(args: &RunArgs) -> Request {
    let confidence = args.confidence.map_or(Confidence::Medium, Into::into);
    Request {
        verb: "run",
        settings: vec![
            ("target", args.target.as_str().into()),
            ("arguments", Setting::Texts(args.arguments.clone())),
            ("is_module", Setting::Flag(args.module)),
            ("format", args.format.as_str().into()),
            ("output", args.output.as_ref().map(|path| path.to_string_lossy().into_owned()).into()),
            ("confidence", confidence.as_str().into()),
        ],
    }
}
