//! A sign of life on the terminal while a long run is under way, and nothing otherwise.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;

/// Runs shorter than this show nothing.
const QUIET_MS: u64 = 500;
const TICK_MS: u64 = 100;

/// Shows what is going on until it is dropped.
pub struct Progress {
    running: Option<(Sender<()>, JoinHandle<()>)>,
    n_done: Arc<AtomicUsize>,
}

impl Progress {
    /// Starts showing `message` on stderr after half a second, if stderr is a terminal and `wanted`.
    #[must_use]
    pub fn start(message: String, wanted: bool) -> Self {
        Self::showing(wanted, move |_| message.clone())
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::start(String::new(), false)
    }

    /// As `start`, with how many of `n` are done: see [`Progress::step`].
    #[must_use]
    pub fn counting(message: String, n: usize, wanted: bool) -> Self {
        Self::showing(wanted, move |n_done| format!("{message}, {n_done} of {n}"))
    }

    /// One more is done.
    pub fn step(&self) {
        self.n_done.fetch_add(1, Relaxed);
    }

    /// Writes to stdout while this is shown, without a trace of it among the lines.
    pub fn beside(&self, write: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        match &self.running {
            Some(_) => {
                // The bar draws itself again below what was written.
                eprint!("\r\x1b[2K");
                write()
            }
            None => write(),
        }
    }

    fn showing(wanted: bool, message: impl Fn(usize) -> String + Send + 'static) -> Self {
        let n_done = Arc::new(AtomicUsize::new(0));
        if !wanted || !std::io::stderr().is_terminal() {
            return Self { running: None, n_done };
        }
        let (done, ended) = channel();
        let counter = Arc::clone(&n_done);
        let shown = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_millis(QUIET_MS)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            while ended.recv_timeout(Duration::from_millis(TICK_MS)) == Err(RecvTimeoutError::Timeout) {
                bar.set_message(message(counter.load(Relaxed)));
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self { running: Some((done, shown)), n_done }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, shown)) = self.running.take() {
            drop(done);
            // A panic of the spinner is no reason to lose the findings.
            drop(shown.join());
        }
    }
}
