//! What is seen of a download: a bar on a terminal, one line a file elsewhere, an object for a
//! machine.

use super::state::State;
use crate::hub::Observer;
use crate::tell;
use indicatif::{HumanBytes, ProgressBar};
use serde_json::json;

pub struct Downloads {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Downloads {
    pub fn new(state: &State) -> Self {
        Downloads { quiet: state.quiet(), bar: None }
    }
}

impl Observer for Downloads {
    fn begin(&mut self, file: &str, done: u64, size: Option<u64>) {
        if self.quiet {
            return;
        }
        if tell::is_json() {
            let bytes = [("bytes", json!(done)), ("total_bytes", json!(size))];
            return tell::object("download", [("file", file.into())].into_iter().chain(bytes));
        }
        if !tell::has_bars() {
            return tell::note(&format!("fetching {file}"));
        }
        let bar = tell::bar(file, file.chars().count(), size.unwrap_or(0));
        bar.set_position(done);
        self.bar = Some(bar);
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            bar.set_message(beside_bar(bar));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            tell::remove(&bar);
        }
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            tell::note(text);
        }
    }
}

fn beside_bar(bar: &ProgressBar) -> String {
    let (done, all) = (bar.position(), bar.length().unwrap_or(0));
    format!("{}/{} · {}/s", HumanBytes(done), HumanBytes(all), HumanBytes(bar.per_sec() as u64))
}
