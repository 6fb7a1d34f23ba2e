//! The results of a sweep: one row per trial in grid order, in memory and as `results.json` and `results.csv`.
//!
//! `results.json` is a list of flat objects (pandas: `read_json`). Each has every column, `null` if the trial has no
//! such number.

use super::columns::{is_time, sign, NUMBERS, PLACE, PRUNED_AT, TEXTS};
use super::decide::DecideOptions;
use super::folder;
use super::grid::{Axis, Grid, Point};
use super::number;
use super::place::Place;
use super::record::{Measurements, PrunedTrial, Record, TrialResult};
use super::throughput::Throughput;
use super::trial::Trial;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::train::outcome::PEAK_MEMORY;
use crate::{files, foreign, sandbox, suggest};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

pub const JSON: &str = "results.json";
pub const CSV: &str = "results.csv";

/// One trial's result.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRow {
    /// The position in grid order.
    pub index: usize,
    pub point: Point,
    /// The trial's folder within `out`.
    pub dir: String,
    pub result: TrialResult,
    /// Where it ran, if that is known.
    pub place: Option<Place>,
}

impl TrialRow {
    pub fn new(trial: &Trial, result: TrialResult) -> Self {
        TrialRow { index: trial.index, point: trial.point.clone(), dir: trial.name.clone(), result, place: None }
    }

    /// The row of a trial that ran there.
    pub fn at(self, place: Option<Place>) -> Self {
        TrialRow { place, ..self }
    }

    pub fn outcome(&self) -> Option<&Measurements> {
        match &self.result {
            TrialResult::Finished(outcome) => Some(outcome),
            TrialResult::Failed(_) | TrialResult::Pruned(_) => None,
        }
    }

    /// The trial as it was stopped early, if it was.
    pub fn pruned(&self) -> Option<&PrunedTrial> {
        match &self.result {
            TrialResult::Pruned(pruned) => Some(pruned),
            TrialResult::Finished(_) | TrialResult::Failed(_) => None,
        }
    }

    /// A numeric column: a grid key or a metric. `None` for a trial that failed or was stopped early: its numbers are not
    /// those of a finished one.
    pub fn number(&self, key: &str) -> Option<f64> {
        let outcome = self.outcome()?;
        let number = match self.point.get(key) {
            Some(value) => value.as_f64()?,
            None => outcome.number(key)?,
        };
        number.is_finite().then_some(number)
    }

    /// Did one of several workers run it?
    fn is_shared(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.worker.is_some())
    }

    /// What the trial took, also if it was stopped early.
    fn count(&self, column: &str) -> Option<f64> {
        self.pruned().map_or_else(|| self.number(column), |pruned| pruned.measurements.number(column))
    }

    /// Any column as JSON; `null` if the trial has none.
    pub fn value(&self, column: &str) -> Value {
        match (column, &self.result) {
            ("dir", _) => self.dir.as_str().into(),
            ("status", TrialResult::Finished(_)) => "finished".into(),
            ("status", TrialResult::Failed(_)) => "failed".into(),
            ("status", TrialResult::Pruned(_)) => "pruned".into(),
            ("error", TrialResult::Failed(failure)) => failure.message.as_str().into(),
            ("error", _) => Value::Null,
            (PLACE, _) if self.is_shared() => self.place.as_ref().map_or(Value::Null, |place| place.short().into()),
            (PRUNED_AT, _) => self.pruned().map_or(Value::Null, |pruned| pruned.step.into()),
            ("trainable_params" | "tokens" | PEAK_MEMORY, _) => {
                self.count(column).map_or(Value::Null, |count| (count as u64).into())
            }
            ("tokens_per_s" | "seconds", _) => self.count(column).map_or(Value::Null, Value::from),
            _ => match self.point.get(column) {
                Some(value) => value.clone(),
                None => self.number(column).map_or(Value::Null, Value::from),
            },
        }
    }
}

/// Trials with the same values of some axes, those of `point`.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    pub point: Point,
    pub rows: Vec<&'a TrialRow>,
}

impl Group<'_> {
    /// Were all of its trials stopped early?
    pub fn is_pruned(&self) -> bool {
        self.rows.iter().all(|row| row.pruned().is_some())
    }
}

/// The results of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepResult {
    pub out: PathBuf,
    /// Trials that this run trained to their end.
    pub trained: usize,
    /// Trials that were finished before this run.
    pub skipped: usize,
    /// What the sweep decides, where it adds seeds until that is known.
    pub decide: Option<DecideOptions>,
    /// The option that each setting was tuned by, before settings were compared.
    pub tuned: Option<String>,
    /// The number of trials in the plan.
    pub planned: usize,
    /// The speed of the sweep as a whole, where it is known.
    pub throughput: Option<Throughput>,
    /// Does this process write charts and report? In a shared sweep one worker does.
    pub writes_report: bool,
    axes: Vec<Axis>,
    rows: Vec<TrialRow>,
}

impl SweepResult {
    pub fn new(out: &Path, grid: &Grid) -> Self {
        SweepResult {
            out: out.to_path_buf(),
            trained: 0,
            skipped: 0,
            decide: None,
            tuned: None,
            planned: grid.count(),
            throughput: None,
            writes_report: true,
            axes: grid.axes().to_vec(),
            rows: Vec::new(),
        }
    }

    /// Reads the results of an earlier sweep from its folder, finished or not.
    pub fn open(out: &Path) -> Result<Self> {
        sandbox::ensure_may_read(out)?;
        if !out.is_dir() {
            let error = Error::new(Kind::File, format!("there is no folder `{}`", out.display()));
            return Err(match suggest::nearest_path(out, Path::is_dir) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint("give the `out` of an earlier sweep"),
            });
        }
        let Some(marker) = folder::read_marker(out)? else {
            bail!(Kind::File, "`{}` is not a sweep's folder: expected `{}` in it", out.display(), folder::SWEEP; hint: "`lorhai runs FOLDER` lists the runs and sweeps below a folder")
        };
        let grid = folder::grid_of(&marker).map_err(|error| error.context(out.join(folder::SWEEP).display()))?;
        let mut result = Self::new(out, &grid);
        // Options of another version of this program are none.
        result.decide = marker.get(folder::DECIDE).and_then(|options| serde_json::from_value(options.clone()).ok());
        result.tuned = marker.get(folder::TUNED).and_then(Value::as_str).map(str::to_owned);
        for (index, point) in grid.points().into_iter().enumerate() {
            let dir = point.folder_name();
            let planned = marker.get(folder::TRIALS).and_then(|trials| trials.get(&dir)).and_then(Value::as_str);
            // A trial trained with earlier settings of the sweep is no result of this one.
            let is_current = |record: &Record| planned.is_none_or(|planned| planned == record.fingerprint);
            if let Some(record) = Record::read(&out.join(&dir)).filter(is_current) {
                result.rows.push(TrialRow { index, point, dir, result: record.result, place: record.place });
            }
        }
        result.skipped = result.rows.len();
        result.throughput = Throughput::read(out);
        Ok(result)
    }

    /// Inserts the row in grid order, or replaces the row of the same trial.
    pub fn insert(&mut self, row: TrialRow) {
        match self.rows.binary_search_by_key(&row.index, |row| row.index) {
            Ok(at) => self.rows[at] = row,
            Err(at) => self.rows.insert(at, row),
        }
    }

    /// The rows in grid order; trials that were not run have none.
    pub fn rows(&self) -> &[TrialRow] {
        &self.rows
    }

    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Is there a trial for every combination of values?
    pub fn is_whole_product(&self) -> bool {
        self.planned == self.axes.iter().map(|axis| axis.values.len()).product::<usize>()
    }

    pub fn axis_values(&self, key: &str) -> Option<&[Value]> {
        self.axes.iter().find(|axis| axis.key == key).map(|axis| axis.values.as_slice())
    }

    pub fn failed(&self) -> impl Iterator<Item = &TrialRow> {
        self.rows.iter().filter(|row| matches!(row.result, TrialResult::Failed(_)))
    }

    /// The trials that were stopped early.
    pub fn pruned(&self) -> impl Iterator<Item = &TrialRow> {
        self.rows.iter().filter(|row| row.pruned().is_some())
    }

    /// How many trials were stopped early, and the tokens that this saved; `None` where none was.
    pub fn pruning_note(&self) -> Option<String> {
        let pruned: Vec<&PrunedTrial> = self.pruned().filter_map(TrialRow::pruned).collect();
        let mut steps: Vec<u64> = pruned.iter().map(|pruned| pruned.step).collect();
        steps.sort_unstable();
        let (first, last) = (steps.first()?, steps.last()?);
        let at = if first == last { format!("step {first}") } else { format!("steps {first} to {last}") };
        let saved: u64 = pruned.iter().map(|one| one.planned_tokens.saturating_sub(one.measurements.tokens)).sum();
        let trained: u64 = self.rows.iter().filter_map(|row| row.count("tokens")).map(|tokens| tokens as u64).sum();
        let all = (saved + trained).max(1);
        let (count, trials) = (pruned.len(), self.rows.len());
        let share = 100.0 * saved as f64 / all as f64;
        Some(format!(
            "pruned: {count} of {trials} trials, stopped at {at}; that saved {share:.0} % of the tokens, {} of {}",
            thousands(saved),
            thousands(all)
        ))
    }

    /// The names of all metrics: the fixed ones, then further metrics of trials by name.
    pub fn metrics(&self) -> Vec<&str> {
        let mut further: BTreeSet<&str> =
            self.rows.iter().filter_map(TrialRow::outcome).flat_map(|o| o.metrics.keys()).map(String::as_str).collect();
        // A column even where the system does not report it.
        further.insert(PEAK_MEMORY);
        NUMBERS.into_iter().chain(further).collect()
    }

    /// The metrics that functions of the caller measured.
    pub fn measured(&self) -> Vec<&str> {
        let outcomes = self.rows.iter().filter_map(TrialRow::outcome);
        let names: BTreeSet<&str> = outcomes.flat_map(|outcome| &outcome.measured).map(String::as_str).collect();
        names.into_iter().collect()
    }

    /// The metric by which trials are compared by default: `eval_loss`, or `train_loss` if nothing was evaluated; in
    /// experiments without losses the first metric by name.
    pub fn default_metric(&self) -> &str {
        let is_known = |metric: &&str| self.rows.iter().any(|row| row.number(metric).is_some());
        let losses = ["eval_loss", "train_loss"].into_iter();
        losses.chain(self.measured()).find(is_known).unwrap_or("train_loss")
    }

    /// One number per row, `None` if a trial failed or has no such number.
    pub fn metric(&self, name: &str) -> Result<Vec<Option<f64>>> {
        self.ensure_number(name)?;
        Ok(self.rows.iter().map(|row| row.number(name)).collect())
    }

    /// Groups the rows by their values of `keys`, in grid order.
    pub fn group_by(&self, keys: &[&str]) -> Vec<Group<'_>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for row in &self.rows {
            let values: Map<String, Value> =
                row.point.values.iter().filter(|(k, _)| keys.contains(&k.as_str())).map(pair).collect();
            let at = *known.entry(Value::Object(values.clone()).to_string()).or_insert(groups.len());
            match groups.get_mut(at) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group { point: Point { values }, rows: vec![row] }),
            }
        }
        groups
    }

    /// The finished trial with the best `metric`: the smallest, or the largest if
    /// [`larger_is_better`](super::columns::larger_is_better). Of equal trials it is the first in grid order. Among several seeds the best trial is also a lucky one: to choose a setting, use
    /// [`Self::best`].
    pub fn best_trial(&self, metric: &str) -> Result<&TrialRow> {
        self.ensure_number(metric)?;
        let sign = sign(metric);
        let scored = self.rows.iter().filter_map(|row| Some((sign * row.number(metric)?, row)));
        match scored.min_by(|left, right| left.0.total_cmp(&right.0)) {
            Some((_, row)) => Ok(row),
            None => {
                bail!(Kind::Input, "best_trial: no finished trial has the metric `{metric}`"; hint: "print(result.table()) shows why trials failed")
            }
        }
    }

    /// All columns in the order of the files.
    pub fn columns(&self) -> Vec<&str> {
        let axes = self.axes.iter().map(|axis| axis.key.as_str());
        let pruned_at = self.pruned().next().map(|_| PRUNED_AT);
        let is_axis = self.axes.iter().any(|axis| axis.key == PLACE);
        let place = self.rows.iter().any(TrialRow::is_shared).then_some(PLACE).filter(|_| !is_axis);
        axes.chain(self.metrics()).chain(pruned_at).chain(place).chain(TEXTS).collect()
    }

    pub fn to_json(&self) -> Value {
        self.json_of(|_| true)
    }

    /// A row with all columns.
    pub fn object(&self, row: &TrialRow) -> Map<String, Value> {
        self.columns().into_iter().map(|column| (column.to_owned(), row.value(column))).collect()
    }

    /// All rows, in the order of the grid.
    pub fn rows_as_objects(&self) -> Vec<Map<String, Value>> {
        self.rows.iter().map(|row| self.object(row)).collect()
    }

    /// The rows as JSON without the columns that depend on clock and machine (see [`is_time`]), to compare two runs.
    pub fn without_times(&self) -> Value {
        self.json_of(|column| !is_time(column) && column != PLACE)
    }

    fn json_of(&self, keep: impl Fn(&str) -> bool) -> Value {
        let columns: Vec<&str> = self.columns().into_iter().filter(|column| keep(column)).collect();
        let object = |row: &TrialRow| columns.iter().map(|column| (column.to_string(), row.value(column))).collect();
        Value::Array(self.rows.iter().map(|row| Value::Object(object(row))).collect())
    }

    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let columns = self.columns();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let failed = |error: csv::Error| Error::bug(format!("cannot write CSV: {error}"));
        let shown = |text: &str| foreign::line(text).into_owned();
        writer.write_record(columns.iter().map(|column| shown(column))).map_err(failed)?;
        for row in &self.rows {
            writer.write_record(columns.iter().map(|column| shown(&cell(&row.value(column))))).map_err(failed)?;
        }
        writer.into_inner().map_err(|error| Error::bug(format!("cannot write CSV: {error}")))
    }

    /// Writes `results.json` and `results.csv` into `out`, each atomically.
    pub fn write(&self) -> Result<()> {
        files::write_json(&self.out.join(JSON), &self.to_json())?;
        files::write_atomic(&self.out.join(CSV), &self.to_csv()?)
    }

    /// Fails, with a suggestion, if `name` is neither an axis nor a metric.
    pub(super) fn ensure_number(&self, name: &str) -> Result<()> {
        let known: Vec<&str> = self.axes.iter().map(|axis| axis.key.as_str()).chain(self.metrics()).collect();
        if !known.contains(&name) {
            bail!(Kind::Input, "unknown metric `{name}`"; hint: "{}", suggest::hint(name, known))
        }
        Ok(())
    }

    pub(super) fn ensure_axis(&self, key: &str) -> Result<()> {
        let known: Vec<&str> = self.axes.iter().map(|axis| axis.key.as_str()).collect();
        if !known.contains(&key) {
            bail!(Kind::Input, "`{key}` is no axis of this grid"; hint: "{}", suggest::hint(key, known))
        }
        Ok(())
    }
}

fn pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => number::value(value),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sweep::Failure;
    use serde_json::json;
    use std::collections::BTreeMap;

    pub fn outcome(train_loss: f64, eval_loss: f64) -> Measurements {
        let metrics = BTreeMap::new();
        let (trainable_params, tokens, seconds) = (1000, 500, 2.0);
        let (train_loss, eval_loss, measured) = (Some(train_loss), Some(eval_loss), BTreeSet::new());
        Measurements { trainable_params, train_loss, eval_loss, tokens, seconds, metrics, measured }
    }

    /// Makes rows for the points of `grid` from `eval_loss`; a trial without a loss has failed.
    pub fn result(grid: Value, eval_loss: impl Fn(&Point) -> Option<f64>) -> SweepResult {
        let keys = ["rank", "lr", "target_modules"];
        let grid = Grid::from_json(grid.as_object().unwrap(), &keys).unwrap();
        let mut result = SweepResult::new(Path::new("out"), &grid);
        // In reverse, because the order of running must not matter.
        for (index, point) in grid.points().into_iter().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let trial_result = match eval_loss(&point) {
                Some(loss) => TrialResult::Finished(outcome(loss + 0.5, loss)),
                None => {
                    TrialResult::Failed(Failure { kind: "numeric".into(), message: "loss is NaN".into(), hint: None })
                }
            };
            result.insert(TrialRow { index, dir: point.folder_name(), point, result: trial_result, place: None });
        }
        result
    }

    /// A sweep with these losses, by rank and seed; a trial without a loss has failed.
    pub fn by_rank_and_seed(losses: Value) -> SweepResult {
        let seeds = losses.as_object().unwrap().values().next().unwrap().as_array().unwrap().len();
        let ranks: Vec<u64> = losses.as_object().unwrap().keys().map(|rank| rank.parse().unwrap()).collect();
        result(json!({"rank": ranks, "seed": seeds}), |point| {
            losses[point.get("rank")?.to_string()][point.get("seed")?.as_u64()? as usize].as_f64()
        })
    }

    fn by_rank(point: &Point) -> Option<f64> {
        let (rank, seed) = (point.get("rank")?.as_f64()?, point.get("seed")?.as_f64()?);
        (rank != 4.0 || seed != 1.0).then_some(3.0 - rank / 10.0 + seed / 100.0)
    }

    #[test]
    fn rows_are_in_grid_order_with_every_column() {
        let result = result(json!({"rank": [2, 4], "seed": 2}), by_rank);
        let rows = result.to_json();
        assert_eq!(rows[0]["dir"], "rank-2_seed-0");
        assert_eq!(rows[0]["eval_perplexity"], json!(2.8_f64.exp()));
        assert_eq!(rows[0]["tokens_per_s"], 250.0);
        assert_eq!(rows[3]["status"], "failed");
        assert_eq!((&rows[3]["error"], &rows[3]["eval_loss"]), (&json!("loss is NaN"), &Value::Null));
        let keys: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
        assert_eq!(keys[..3], ["rank", "seed", "trainable_params"]);
        let times_apart = result.without_times();
        assert!(times_apart[0].get("seconds").is_none() && times_apart[0].get("tokens_per_s").is_none());
        assert!(times_apart[0].get("tokens").is_some());
    }

    #[test]
    fn csv_has_a_header_and_plain_cells() {
        let grid = json!({"target_modules": [["q_proj", "v_proj"], "all-linear"], "seed": 1});
        let text = String::from_utf8(result(grid, |_| Some(1.5)).to_csv().unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let header = "target_modules,seed,trainable_params,train_loss,eval_loss,eval_perplexity,tokens,tokens_per_s,seconds,peak_memory,dir,status,error";
        assert_eq!(lines[0], header);
        assert!(lines[1].starts_with("q_proj+v_proj,0,1000,2.0,1.5,4.48"), "{}", lines[1]);
        assert!(lines[2].ends_with(",finished,"), "{}", lines[2]);
    }

    #[test]
    fn the_best_trial_knows_the_direction_and_the_names() {
        let result = result(json!({"rank": [2, 4, 8], "seed": 2}), by_rank);
        assert_eq!(result.best_trial("eval_loss").unwrap().dir, "rank-8_seed-0");
        assert_eq!(result.best_trial("tokens_per_s").unwrap().dir, "rank-2_seed-0");
        let error = result.best_trial("eval_los").unwrap_err();
        assert!(error.hint.unwrap().contains("did you mean `eval_loss`"));
        assert_eq!((sign("eval_accuracy"), sign("train_loss")), (-1.0, 1.0));
    }

    #[test]
    fn groups_hold_the_rows_that_agree() {
        let result = result(json!({"rank": [2, 4], "seed": 2}), by_rank);
        let groups = result.group_by(&["rank"]);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1].point.to_string(), "rank=4");
        assert_eq!(groups[1].rows.len(), 2);
        assert_eq!(result.metric("eval_loss").unwrap()[3], None);
        assert_eq!(result.failed().count(), 1);
    }
}
