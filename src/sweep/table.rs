//! The results as an aligned table for the terminal.
//!
//! One line per setting, which is a point of the grid without the seed: mean ± sample standard deviation of each
//! metric, and mean ± standard error of the paired difference to a baseline. The default baseline is the first value
//! of every axis: a choice made before the results are known, unlike the best setting.

use super::columns::larger_is_better;
use super::grid::{Point, SEED};
use super::number::{decimals_for, fixed, value};
use super::place::difference_note;
use super::results::{Group, SweepResult, TrialRow};
use super::summary::{Paired, Summary};
use crate::bail;
use crate::error::{Kind, Result};
use crate::format::thousands;
use crate::options;
use crate::table::{self, Align};
use crate::train::outcome::PEAK_MEMORY;
use serde_json::{Map, Value};

/// The footnote on `eval_loss`, which is defined differently elsewhere.
pub const EVAL_LOSS_NOTE: &str =
    "eval_loss is the mean over all held-out labels; that of transformers and TRL is a mean of batch means";

/// The beginning of the footnote on `tokens_per_s`, which is easily taken for the speed of the sweep.
pub const SPEED_NOTE: &str = "tokens_per_s is that of a trial's worker, whose time the trials beside it share";

options! {
    /// The options of a table.
    #[derive(Debug, Clone)]
    pub struct TableOptions {
        /// The axis over which means are taken.
        pub over: Option<String> = None, words "\"seed\"";
        /// The metric that is compared with the baseline.
        pub metric: Option<String> = None,
            words "\"eval_loss\", or \"train_loss\" where nothing was evaluated";
        /// The setting that every line is compared with, a map of axis values. A missing axis has the value of the
        /// line.
        pub baseline: Option<Point> = None, words "the first value of every axis";
    }
}

/// One column: its cells as text, and the numbers of those that hold one.
#[derive(Debug, Clone)]
pub struct Column {
    pub title: String,
    pub cells: Vec<String>,
    pub numbers: Vec<Option<f64>>,
}

/// The parts of a table, for other layouts. All columns have the same length.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The axes.
    pub keys: Vec<Column>,
    /// Trained parameters, counts and the mean of each metric.
    pub metrics: Vec<Column>,
    /// Paired differences to the baseline; `None` for a single setting.
    pub differences: Option<Column>,
    pub footnotes: Vec<String>,
    /// The numbers of the trials of each line.
    pub trials: Vec<Vec<usize>>,
}

/// The input of the columns.
struct Table<'a> {
    result: &'a SweepResult,
    over: &'a str,
    metric: &'a str,
    baseline: &'a Map<String, Value>,
    groups: Vec<Group<'a>>,
}

impl SweepResult {
    pub fn table(&self) -> String {
        self.table_with(&TableOptions::default()).unwrap_or_else(|error| error.to_string())
    }

    /// Fails if an axis, a metric or a baseline value is unknown.
    pub fn table_with(&self, options: &TableOptions) -> Result<String> {
        Ok(self.columns_with(options)?.to_text())
    }

    /// The parts of the table. Fails as [`Self::table_with`] does.
    pub fn columns_with(&self, options: &TableOptions) -> Result<Columns> {
        let metric = options.metric.as_deref().unwrap_or(self.default_metric());
        self.ensure_number(metric)?;
        if let Some(over) = &options.over {
            self.ensure_axis(over)?;
        }
        let over = options.over.as_deref().unwrap_or(SEED);
        let baseline = self.baseline(options, over)?;
        let keys: Vec<&str> = self.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != over).collect();
        let groups = self.group_by(&keys);
        Ok(Table { result: self, over, metric, baseline: &baseline, groups }.columns())
    }

    fn baseline(&self, options: &TableOptions, over: &str) -> Result<Map<String, Value>> {
        let Some(baseline) = &options.baseline else {
            let point = |row: &TrialRow| row.point.without(over).values;
            let mut rows = self.rows().iter().filter(|row| row.outcome().is_some()).chain(self.rows());
            // The first values need not belong to a point that was chosen.
            if let Some(first) = rows.next().filter(|_| !self.is_whole_product()) {
                return Ok(point(first));
            }
            let others = self.axes().iter().filter(|axis| axis.key != over);
            let first: Map<String, Value> =
                others.filter_map(|axis| Some((axis.key.clone(), axis.values.first()?.clone()))).collect();
            // One that was stopped early has nothing to compare with: the first that was not takes its place.
            let is_pruned = self.pruned().any(|row| point(row) == first);
            let finished = self.rows().iter().find(|row| row.outcome().is_some()).filter(|_| is_pruned);
            return Ok(finished.map_or(first, point));
        };
        for (key, wanted) in &baseline.values {
            self.ensure_axis(key)?;
            let values = self.axis_values(key).unwrap_or_default();
            if !values.contains(wanted) || key == over {
                let known: Vec<String> = values.iter().map(value).collect();
                bail!(Kind::Input, "baseline: `{key}` has no value {wanted}"; hint: "its values: {}", known.join(", "));
            }
        }
        Ok(baseline.values.clone())
    }
}

impl Columns {
    fn to_text(&self) -> String {
        let all: Vec<&Column> = self.keys.iter().chain(&self.metrics).chain(&self.differences).collect();
        if all.first().is_none_or(|column| column.cells.is_empty()) {
            return "no trial was run\n".to_string();
        }
        let footnotes: Vec<String> = self.footnotes.iter().map(|line| format!("{line}\n")).collect();
        aligned(&all) + footnotes.concat().as_str()
    }
}

impl Table<'_> {
    fn columns(&self) -> Columns {
        let key = |key: &str| Column {
            title: key.to_string(),
            cells: self.groups.iter().map(|group| group.point.get(key).map_or(String::new(), value)).collect(),
            numbers: self.groups.iter().map(|group| group.point.get(key).and_then(Value::as_f64)).collect(),
        };
        let keys = self.result.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != self.over);
        let has_sizes =
            self.result.rows().iter().any(|row| row.outcome().is_none() || row.number("trainable_params").is_some());
        let mut metrics: Vec<Column> = has_sizes.then(|| self.sizes()).into_iter().collect();
        metrics.extend(self.counts());
        for metric in self.result.metrics() {
            let shown = !matches!(metric, "trainable_params" | "tokens" | "seconds" | PEAK_MEMORY);
            if shown && self.result.rows().iter().any(|row| row.number(metric).is_some()) {
                metrics.push(self.means(metric));
            }
        }
        let compared = self.groups.len() > 1;
        Columns {
            keys: keys.map(key).collect(),
            metrics,
            differences: compared.then(|| self.differences()),
            footnotes: self.footnotes(compared),
            trials: self.groups.iter().map(|group| group.rows.iter().map(|row| row.index).collect()).collect(),
        }
    }

    fn sizes(&self) -> Column {
        let size = |row: &&TrialRow| row.number("trainable_params");
        let mean = |group: &Group| Summary::of(group.rows.iter().filter_map(size)).map(|summary| summary.mean);
        let numbers: Vec<Option<f64>> = self.groups.iter().map(mean).collect();
        let cells = numbers.iter().map(|size| size.map_or(none(), |size| thousands(size as u64))).collect();
        Column { title: "trainable_params".into(), cells, numbers }
    }

    /// The column n, and those of failed trials and of trials that were stopped early, if there are any.
    fn counts(&self) -> Vec<Column> {
        let finished = |group: &Group| group.rows.iter().filter(|row| row.outcome().is_some()).count();
        let pruned = |group: &Group| group.rows.iter().filter(|row| row.pruned().is_some()).count();
        let column = |title: &str, count: &dyn Fn(&Group) -> usize| {
            let counts: Vec<usize> = self.groups.iter().map(count).collect();
            let (cells, numbers) = counts.iter().map(|count| (count.to_string(), Some(*count as f64))).unzip();
            Column { title: title.into(), cells, numbers }
        };
        let mut columns = vec![column("n", &finished)];
        if self.result.failed().next().is_some() {
            columns.push(column("failed", &|group| group.rows.len() - finished(group) - pruned(group)));
        }
        if self.result.pruned().next().is_some() {
            columns.push(column("pruned", &pruned));
        }
        columns
    }

    fn means(&self, metric: &str) -> Column {
        let summaries: Vec<Option<Summary>> = self
            .groups
            .iter()
            .map(|group| Summary::of(group.rows.iter().filter_map(|row| row.number(metric))))
            .collect();
        let decimals = decimals_for(summaries.iter().flatten().map(|summary| summary.mean));
        let pairs = summaries.iter().map(|summary| summary.map(|s| (s.mean, s.spread)));
        let numbers = summaries.iter().map(|summary| summary.map(|summary| summary.mean)).collect();
        Column { title: metric.to_string(), cells: with_errors(pairs, decimals, false), numbers }
    }

    fn differences(&self) -> Column {
        let differences: Vec<Option<Paired>> = self
            .groups
            .iter()
            .map(|group| {
                let baseline = self.baseline_of(group)?;
                Paired::of(group.rows.iter().filter_map(|row| self.pair(row, baseline)))
            })
            .collect();
        let means = self.groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.number(self.metric));
        let decimals = decimals_for(means);
        let pairs = differences.iter().map(|paired| paired.map(|p| (p.mean, p.standard_error)));
        let mut cells = with_errors(pairs, decimals, true);
        for (cell, group) in cells.iter_mut().zip(&self.groups) {
            if self.baseline_point(&group.point) == group.point {
                *cell = "baseline".to_string();
            }
        }
        let numbers = differences.iter().map(|paired| paired.map(|paired| paired.mean)).collect();
        Column { title: format!("Δ {}", self.metric), cells, numbers }
    }

    fn baseline_point(&self, point: &Point) -> Point {
        let value = |(key, value): (&String, &Value)| (key.clone(), self.baseline.get(key).unwrap_or(value).clone());
        Point { values: point.values.iter().map(value).collect() }
    }

    fn baseline_of(&self, group: &Group) -> Option<&Group<'_>> {
        let point = self.baseline_point(&group.point);
        self.groups.iter().find(|other| other.point == point)
    }

    /// The metrics of the row and of the baseline's trial with the same seed.
    fn pair(&self, row: &TrialRow, baseline: &Group) -> Option<(f64, f64)> {
        let partner = baseline.rows.iter().find(|other| other.point.get(self.over) == row.point.get(self.over))?;
        Some((row.number(self.metric)?, partner.number(self.metric)?))
    }

    fn footnotes(&self, compared: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let repeated = self.groups.iter().any(|group| group.rows.len() > 1);
        if repeated {
            notes.push(format!("± is the sample standard deviation over {}", self.over));
        }
        if compared {
            let direction = if larger_is_better(self.metric) { "positive" } else { "negative" };
            let baseline = Point { values: self.baseline.clone() };
            let (mean, within, error) = if repeated {
                ("mean ", format!(" within the same {}", self.over), ", ± its standard error")
            } else {
                ("", String::new(), "")
            };
            notes.push(format!("Δ is the {mean}difference to {baseline}{within}{error}; {direction} is better"));
            notes.extend(self.result.conclusions(self.metric, self.over));
        }
        // A trial alone has its worker to itself.
        if let Some(throughput) = self.result.throughput.filter(|_| self.result.rows().len() > 1) {
            notes.push(format!("{SPEED_NOTE}; the sweep trained {throughput}"));
        }
        // What an experiment of the caller calls so is its own.
        let is_ours = |row: &TrialRow| row.number("eval_loss").is_some() && row.number("trainable_params").is_some();
        if self.result.rows().iter().any(is_ours) {
            notes.push(EVAL_LOSS_NOTE.to_owned());
        }
        notes.extend(difference_note(self.result.rows().iter().filter_map(|row| row.place.as_ref())));
        notes.extend(self.result.pruning_note());
        for row in self.result.failed() {
            notes.push(format!("failed: {}: {}", row.point, row.value("error").as_str().unwrap_or_default()));
        }
        let planned = self.result.planned;
        let missing = planned.saturating_sub(self.result.rows().len());
        if missing > 0 {
            notes.push(format!("not run: {missing} of {planned} trials"));
        }
        notes
    }
}

fn none() -> String {
    "-".to_string()
}

/// Cells "mean ± error", all with the same decimals and aligned errors.
fn with_errors(pairs: impl Iterator<Item = Option<(f64, Option<f64>)>>, decimals: usize, signed: bool) -> Vec<String> {
    let mean = |x: f64| {
        let sign = if signed && x > 0.0 { "+" } else { "" };
        format!("{sign}{}", fixed(x, decimals))
    };
    let parts: Vec<Option<(String, Option<String>)>> =
        pairs.map(|pair| pair.map(|(x, error)| (mean(x), error.map(|error| fixed(error, decimals))))).collect();
    let width = parts.iter().flatten().filter_map(|(_, error)| error.as_ref()).map(String::len).max();
    let cell = |part: Option<(String, Option<String>)>| match (part, width) {
        (None, _) => none(),
        (Some((mean, _)), None) => mean,
        (Some((mean, Some(error))), Some(width)) => format!("{mean} ± {error:>width$}"),
        (Some((mean, None)), Some(width)) => format!("{mean}   {:width$}", ""),
    };
    parts.into_iter().map(cell).collect()
}

/// Columns two spaces apart, aligned to the right.
fn aligned(columns: &[&Column]) -> String {
    let height = columns.first().map_or(0, |column| column.cells.len());
    let titles = columns.iter().map(|column| column.title.clone()).collect();
    let row = |at: usize| columns.iter().map(|column| column.cells.get(at).cloned().unwrap_or_default()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain((0..height).map(row)).collect();
    table::lines(&rows, &vec![Align::Right; columns.len()])
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::result;
    use super::*;
    use serde_json::json;

    fn loss(point: &Point) -> Option<f64> {
        let number = |key| point.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let (rank, seed) = (number("rank"), number("seed"));
        (rank != 8.0 || seed != 2.0).then_some(3.0 - rank / 10.0 - rank * seed / 100.0)
    }

    #[test]
    fn the_table_is_what_is_expected_to_the_letter() {
        let table = result(json!({"rank": [2, 4, 8], "seed": 3}), loss).table();
        // By hand: rank 4 has 2.60, 2.56, 2.52, so −0.20, −0.22, −0.24 to rank 2: −0.22 ± 0.02/√3.
        let expected = "\
rank  trainable_params  n  failed       train_loss        eval_loss  eval_perplexity   tokens_per_s       Δ eval_loss
   2             1,000  3       0  3.2800 ± 0.0200  2.7800 ± 0.0200   16.121 ± 0.322  250.00 ± 0.00          baseline
   4             1,000  3       0  3.0600 ± 0.0400  2.5600 ± 0.0400   12.943 ± 0.518  250.00 ± 0.00  -0.2200 ± 0.0115
   8             1,000  2       1  2.6600 ± 0.0566  2.1600 ± 0.0566    8.678 ± 0.491  250.00 ± 0.00  -0.6300 ± 0.0300
± is the sample standard deviation over seed
Δ is the mean difference to rank=2 within the same seed, ± its standard error; negative is better
best: rank=4: mean eval_loss 2.5600 ± 0.0400 over 3 seeds; no other setting is within noise of it; not ranked, with fewer finished trials: rank=8
eval_loss is the mean over all held-out labels; that of transformers and TRL is a mean of batch means
failed: rank=8, seed=2: loss is NaN
";
        assert_eq!(table, expected, "\n{table}");
    }

    #[test]
    fn one_seed_shows_no_errors_and_no_seed_axis_is_fine() {
        let table = result(json!({"rank": [2, 4]}), loss).table();
        assert!(!table.contains('±') && table.contains("one seed says nothing of spread"), "{table}");
        assert!(table.contains("-0.2000"), "{table}");
    }

    #[test]
    fn another_baseline_may_be_named() {
        let result = result(json!({"rank": [2, 4], "lr": [0.1, 0.2], "seed": 2}), loss);
        let with = |baseline: Value| {
            let baseline = Some(Point { values: baseline.as_object().unwrap().clone() });
            result.table_with(&TableOptions { baseline, ..Default::default() })
        };
        let table = with(json!({"rank": 4})).unwrap();
        assert_eq!(table.matches("baseline").count(), 2, "{table}");
        assert!(table.contains("difference to rank=4 within the same seed"), "{table}");
        assert!(with(json!({"rank": 5})).unwrap_err().hint.unwrap().contains("2, 4"));
        assert!(with(json!({"rnak": 4})).unwrap_err().hint.unwrap().contains("`rank`"));
    }
}
