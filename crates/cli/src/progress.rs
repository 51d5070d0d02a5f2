//! A sign of life on the terminal while a long run is under way, and nothing otherwise.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Runs shorter than this show nothing.
const QUIET_MS: u64 = 500;
const TICK_MS: u64 = 100;

/// Shows what is going on until it is dropped.
pub struct Progress {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts showing `message` on stderr after half a second, if stderr is a terminal and `wanted`.
    #[must_use]
    pub fn start(message: String, wanted: bool) -> Self {
        if !wanted || !std::io::stderr().is_terminal() {
            return Self { running: None };
        }
        let (done, ended) = channel();
        let shown = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_millis(QUIET_MS)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(message);
            while ended.recv_timeout(Duration::from_millis(TICK_MS)) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self { running: Some((done, shown)) }
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
