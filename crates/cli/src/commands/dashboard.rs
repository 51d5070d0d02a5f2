//! `raceproof dashboard`: serves the page about the programs that write to a store, until it is interrupted.

use std::sync::Arc;

use monitor::dashboard::{Dashboard, Source};
use monitor::store::default_path;
use monitor::writer::Writer;

use super::print;
use crate::Exit;
use crate::args::DashboardArgs;
use crate::error::Error;

pub(super) fn run(args: &DashboardArgs) -> Result<Exit, Error> {
    let path = args.store.clone().unwrap_or_else(|| default_path(|name| std::env::var_os(name)));
    // To open a store that is not there would make one, and show nothing.
    if !path.is_file() {
        return Err(Error::new(format!("there is no store at `{}`", path.display()))
            .help("a program that uses `raceproof.monitor` makes one; `--store FILE` names another"));
    }
    let source = Source { writer: Arc::new(Writer::new(path)), here: None };
    let dashboard =
        Dashboard::start(args.port, source).map_err(|cause| Error::new("cannot serve the page").because(cause))?;
    print(&format!("{}\n", dashboard.url()))?;
    dashboard.join();
    Ok(Exit::Clean)
}
