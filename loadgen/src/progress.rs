//! The progress line on a terminal; nothing at all when standard error is something else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Steps of a bar whose length is a time.
const STEPS: u64 = 1_000;

/// One line that says what is going on.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// For work called `title`.
    pub fn new(title: &str) -> Self {
        let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3}% {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(title.to_owned());
        Progress(bar)
    }

    /// A part without a measure.
    pub fn stage(&self, what: &str) {
        self.0.set_position(0);
        self.0.set_message(what.to_owned());
    }

    /// `done` of `all` (seconds, znodes, rounds), with a count of replies beside it.
    pub fn at(&self, done: f64, all: f64, replies: u64) {
        self.0.set_position((done / all * STEPS as f64) as u64);
        self.0.set_message(format!("{replies} replies"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
