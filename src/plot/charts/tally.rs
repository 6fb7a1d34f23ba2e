//! Means with their standard deviation, and the note below a chart that says what went into them.

/// Counts the values of each mean, for the note below the chart.
pub struct Tally {
    fewest: usize,
    most: usize,
    left_out: usize,
    /// Whether the chart draws the standard deviation.
    pub shows_spread: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { fewest: usize::MAX, most: 0, left_out: 0, shows_spread: true }
    }
}

impl Tally {
    /// The mean of the finite values, and mean ± sample standard deviation (n − 1) if there are two or
    /// more. NaN if no value is finite: the chart then notes that the point is missing.
    pub fn mean_of(&mut self, values: &[f64]) -> (f64, Option<(f64, f64)>) {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let count = finite.len();
        if count == 0 {
            return (f64::NAN, None);
        }
        self.left_out += values.len() - count;
        (self.fewest, self.most) = (self.fewest.min(count), self.most.max(count));
        let mean = finite.iter().sum::<f64>() / count as f64;
        if count == 1 {
            return (mean, None);
        }
        let square = finite.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (square / (count - 1) as f64).sqrt();
        (mean, Some((mean - deviation, mean + deviation)))
    }

    pub fn notes(&self, over: &str, bars: &str) -> Vec<String> {
        let mut notes = vec![];
        if self.most > 1 {
            let count = if self.fewest == self.most {
                self.most.to_string()
            } else {
                format!("{} to {}", self.fewest, self.most)
            };
            let bars = if self.shows_spread { format!(" {bars}: ± 1 standard deviation.") } else { String::new() };
            notes.push(format!("Mean over {count} {over}s.{bars}"));
        }
        if self.left_out > 0 {
            let values =
                if self.left_out == 1 { "1 value that is" } else { &format!("{} values that are", self.left_out) };
            notes.push(format!("Left out of the means: {values} NaN or infinite."));
        }
        notes
    }
}
