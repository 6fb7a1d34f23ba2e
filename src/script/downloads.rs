//! What a person sees of a download: a bar on a terminal, one line a file elsewhere. A rehearsal fetches
//! small files alone.

use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::hub::Observer;
use crate::train::memory::amount;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

pub struct Downloads {
    quiet: bool,
    rehearsing: bool,
    bar: Option<ProgressBar>,
}

impl Downloads {
    pub fn new(state: &State) -> Self {
        Downloads { quiet: state.quiet(), rehearsing: state.rehearsing(), bar: None }
    }
}

/// The largest file that a rehearsal fetches: configurations and tokenizers are smaller, weights are not.
const SMALL: u64 = 32 << 20;

impl Observer for Downloads {
    fn permit(&mut self, what: &str, size: Option<u64>) -> Result<()> {
        if !self.rehearsing || size.is_some_and(|size| size <= SMALL) {
            return Ok(());
        }
        let size = size.map_or(String::new(), |size| format!(" ({})", amount(size)));
        Err(Error::new(Kind::Hub, format!("{what}{size} is not in the cache, and a rehearsal does not fetch it"))
            .with_hint("a run would; to have it before, load it by that name in `lorhai repl`"))
    }

    fn begin(&mut self, file: &str, done: u64, size: Option<u64>) {
        if self.quiet {
            return;
        }
        if !std::io::stderr().is_terminal() {
            eprintln!("fetching {file}");
            return;
        }
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(file.to_owned());
        bar.set_position(done);
        self.bar = Some(bar);
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}
