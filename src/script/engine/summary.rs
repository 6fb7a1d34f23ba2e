//! What a rehearsal of a script found, and the summary at its end.

use crate::format::{self, thousands};
use crate::overlay::{Overlay, Written};
use crate::table::{table, Align};
use crate::train::rehearsal::{duration, Planned};

/// What a rehearsal found until now.
#[derive(Debug, Default)]
pub struct Rehearsal {
    pub(super) plans: Vec<Line>,
    pub(super) notes: Vec<String>,
    pub(super) failed: usize,
}

/// A line of the table of the summary.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) what: String,
    /// Whether it is a run or a sweep, not some of its trials.
    pub(super) is_whole: bool,
    pub(super) trials: usize,
    /// Of one trial: steps, trained values, bytes.
    pub(super) steps: Option<u64>,
    pub(super) trainable: Option<u64>,
    pub(super) memory: Option<u64>,
    /// Of all of them.
    pub(super) tokens: Option<u64>,
    pub(super) seconds: Option<f64>,
}

impl Rehearsal {
    /// How many trials would fail.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// The summary, as text.
    pub fn summary(&self, script: &str, overlay: &Overlay) -> String {
        let mut text = format!("\nrehearsal of {script}: nothing was trained or written\n");
        text.push_str("the numbers that the script printed come from tiny pieces of its work and mean nothing\n");
        if !self.plans.is_empty() {
            let header = ["", "trials", "steps", "tokens", "trainable", "memory", "time"].map(str::to_owned);
            let align = [&[Align::Left][..], &[Align::Right; 6]].concat();
            let rows = self.plans.iter().map(Line::cells).collect();
            text.push_str(&format!("\n{}", table(header.to_vec(), rows, &align)));
            text.push_str("steps, trainable and memory are those of one trial; time is an estimate\n");
            let seconds: Vec<f64> = self.plans.iter().filter(|line| line.is_whole).filter_map(|l| l.seconds).collect();
            if seconds.len() > 1 {
                text.push_str(&format!("all together: about {}\n", duration(seconds.iter().sum())));
            }
        }
        for note in &self.notes {
            text.push_str(&format!("{note}\n"));
        }
        if let Some((path, bytes)) = overlay.missing_space() {
            text.push_str(&format!(
                "the disk of {} lacks {} for what a run would write\n",
                path.display(),
                format::bytes(bytes)
            ));
        }
        let written = overlay.written();
        if !written.is_empty() {
            text.push_str("\na run would write, with longer logs than are counted here\n");
            written.iter().for_each(|entry| text.push_str(&format!("  {}\n", shown(entry))));
        }
        text
    }
}

fn shown(Written { path, is_folder, files, bytes }: &Written) -> String {
    match (is_folder, files) {
        (true, 1) => format!("{}/ (1 file, {})", path.display(), format::bytes(*bytes)),
        (true, files) => format!("{}/ ({files} files, {})", path.display(), format::bytes(*bytes)),
        (false, _) => path.display().to_string(),
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let number = |value: Option<u64>| value.map_or(String::new(), thousands);
        vec![
            self.what.clone(),
            self.trials.to_string(),
            number(self.steps),
            number(self.tokens),
            number(self.trainable),
            self.memory.map_or(String::new(), format::bytes),
            self.seconds.map_or(String::new(), |seconds| format!("about {}", duration(seconds))),
        ]
    }

    /// Of trials that `planned` is one of.
    pub(super) fn of(what: String, trials: usize, tokens: u64, seconds: f64, planned: &Planned) -> Self {
        Line {
            what,
            is_whole: false,
            trials,
            steps: Some(planned.steps),
            tokens: Some(tokens),
            trainable: Some(planned.trainable),
            memory: Some(planned.memory.total()),
            seconds: Some(seconds),
        }
    }
}
