//! One bar that tells how far the run is, on standard error. Must never print where nobody looks.

use indicatif::{ProgressBar, ProgressStyle};

/// How far the run is.
pub struct Progress(ProgressBar);

impl Progress {
    /// At the beginning of nothing.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}  {msg}").unwrap();
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Goes on to something of so many steps.
    pub fn begin(&self, what: impl Into<String>, steps: usize) {
        self.0.set_message(what.into());
        self.0.set_length(steps as u64);
        self.0.set_position(0);
    }

    /// One step done.
    pub fn step(&self) {
        self.0.inc(1);
    }

    /// So many steps done altogether.
    pub fn at(&self, steps: usize) {
        self.0.set_position(steps as u64);
    }

    /// Leaves no trace.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
