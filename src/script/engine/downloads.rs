//! What is seen of a download: a bar on a terminal, one line a file elsewhere, an object for a
//! machine. A rehearsal fetches small files alone.

use crate::error::{Error, Kind, Result};
use crate::format;
use crate::hub::FetchObserver;
use crate::script::engine::state::State;
use crate::stderr::{self, Mode};
use crate::table;
use indicatif::ProgressBar;
use serde_json::json;

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

impl FetchObserver for Downloads {
    fn permit(&mut self, what: &str, size: Option<u64>) -> Result<()> {
        if !self.rehearsing || size.is_some_and(|size| size <= SMALL) {
            return Ok(());
        }
        let size = size.map_or(String::new(), |size| format!(" ({})", format::bytes(size)));
        Err(Error::new(Kind::Hub, format!("{what}{size} is not in the cache, and a rehearsal does not fetch it"))
            .with_hint("a run would; to have it before, load it by that name in `lorhai repl`"))
    }

    fn begin(&mut self, file: &str, done: u64, size: Option<u64>) {
        match stderr::mode(self.quiet) {
            Mode::Quiet => {}
            Mode::Json => {
                let bytes = [("bytes", json!(done)), ("total_bytes", json!(size))];
                stderr::object("download", [("file", file.into())].into_iter().chain(bytes));
            }
            Mode::Lines => stderr::note(&format!("fetching {file}")),
            Mode::Bars => {
                let bar = stderr::bar(file, table::width(file), size.unwrap_or(0));
                bar.set_position(done);
                self.bar = Some(bar);
            }
        }
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            bar.set_message(beside_bar(bar));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            stderr::remove(&bar);
        }
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            stderr::note(text);
        }
    }
}

fn beside_bar(bar: &ProgressBar) -> String {
    let (done, all) = (bar.position(), bar.length().unwrap_or(0));
    let speed = format::bytes(bar.per_sec() as u64);
    format!("{}/{} · {speed}/s", format::bytes(done), format::bytes(all))
}
