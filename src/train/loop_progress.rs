//! Progress of a training loop that callers write themselves: a bar on a terminal, lines in a log, JSON objects.

use super::metrics::{number_to_json, MetricsRow};
use super::progress::Progress;
use crate::stderr;
use std::time::Instant;

/// The most numbers beside a bar.
const MOST_SHOWN: usize = 4;

/// Follows the rows that a loop logs.
pub struct LoopProgress {
    progress: Progress,
    name: Option<String>,
    total: u64,
    begun: Instant,
    /// The step before the first row, which may be that of a loop that goes on.
    from: Option<u64>,
}

impl LoopProgress {
    /// Of a loop of `total` steps.
    pub fn new(progress: Progress, name: Option<String>, total: u64) -> Self {
        LoopProgress { progress, name, total, begun: Instant::now(), from: None }
    }

    pub fn on_row(&mut self, row: &MetricsRow) {
        let total = self.total.max(row.step);
        let from = *self.from.get_or_insert(row.step.saturating_sub(1));
        let left = || {
            let (done, all) = (row.step.saturating_sub(from), total.saturating_sub(from));
            stderr::time_left(self.begun.elapsed().as_secs_f64(), done, all)
        };
        let name = self.name.as_deref();
        match &mut self.progress {
            Progress::Bar { bar, drawn, .. } => {
                bar.set_length(total);
                bar.set_position(row.step);
                if drawn.is_none_or(|drawn| drawn.elapsed() >= stderr::REDRAW) || row.step == total {
                    let name = name.map_or(String::new(), |name| format!("{name} · "));
                    bar.set_message(format!("{name}{}/{total} · {} · {}", row.step, numbers(row), left()));
                    *drawn = Some(Instant::now());
                }
            }
            Progress::Lines(lines) => {
                if lines.is_due(row.step, total) {
                    let name = name.map_or(String::new(), |name| format!("{name}: "));
                    stderr::note(&format!("{name}step {}/{total} {} {}", row.step, numbers(row), left()));
                }
            }
            Progress::Objects => {
                let steps = [("step", row.step.into()), ("total_steps", total.into())];
                let numbers = row.numbers().map(|(name, value)| (name, number_to_json(value)));
                stderr::object("step", steps.into_iter().chain(numbers));
            }
            Progress::Quiet => {}
        }
    }
}

fn numbers(row: &MetricsRow) -> String {
    let shown = row.numbers().take(MOST_SHOWN).map(|(name, value)| format!("{name} {}", short(value)));
    shown.collect::<Vec<_>>().join(" ")
}

/// Four decimals, or an exponent where these would hide the number.
fn short(value: f64) -> String {
    let is_plain = value == 0.0 || (1e-3..1e6).contains(&value.abs());
    if !is_plain {
        return format!("{value:.2e}");
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    format!("{value:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 3.0, 0.123456, 2e-5, 1e9, f64::NAN].map(short);
        assert_eq!(shown, ["0", "3", "0.1235", "2.00e-5", "1.00e9", "NaN"]);
        let extra = ["a", "b", "c", "d"].map(|name| (name.to_owned(), 1.5)).to_vec();
        let row = MetricsRow { step: 2, loss: Some(2.0), extra, ..MetricsRow::default() };
        assert_eq!(numbers(&row), "loss 2 a 1.5000 b 1.5000 c 1.5000");
    }
}
