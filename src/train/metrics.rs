//! The training log of one run: `metrics.jsonl`, one JSON object per row.
//!
//! The names are those of transformers' trainer. Absent numbers have no key. A number that is not finite is written
//! as the text "NaN", "Infinity" or "-Infinity", because JSON has no such numbers.

use super::log_file::{LogFile, LogPosition};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Map, Value};
use std::path::Path;

/// What was measured at one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricsRow {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done, with fractions.
    pub epoch: Option<f64>,
    /// Mean cross-entropy in nats per supervised token since the last row.
    pub loss: Option<f64>,
    pub learning_rate: Option<f64>,
    /// The gradient's norm before clipping.
    pub grad_norm: Option<f64>,
    pub tokens_per_s: Option<f64>,
    pub eval_loss: Option<f64>,
    /// Further metrics by name.
    pub extra: Vec<(String, f64)>,
}

impl MetricsRow {
    /// A row of these numbers.
    pub fn of(step: u64, numbers: impl IntoIterator<Item = (String, f64)>) -> Self {
        let mut row = MetricsRow { step, ..MetricsRow::default() };
        numbers.into_iter().for_each(|(name, value)| row.set(&name, value));
        row
    }

    /// The numbers of the row, in the order of the file.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        let fixed = [
            ("epoch", self.epoch),
            ("loss", self.loss),
            ("learning_rate", self.learning_rate),
            ("grad_norm", self.grad_norm),
            ("tokens_per_s", self.tokens_per_s),
            ("eval_loss", self.eval_loss),
        ];
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), *value));
        fixed.into_iter().filter_map(|(name, value)| Some((name, value?))).chain(extra)
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.numbers().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: f64) {
        match name {
            "epoch" => self.epoch = Some(value),
            "loss" => self.loss = Some(value),
            "learning_rate" => self.learning_rate = Some(value),
            "grad_norm" => self.grad_norm = Some(value),
            "tokens_per_s" => self.tokens_per_s = Some(value),
            "eval_loss" => self.eval_loss = Some(value),
            other => self.extra.push((other.to_string(), value)),
        }
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("step".into(), self.step.into());
        for (name, value) in self.numbers() {
            map.insert(name.into(), number_to_json(value));
        }
        Value::Object(map)
    }

    fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else {
            return Err(Error::new(Kind::File, "expected an object"));
        };
        let step = map.get("step").and_then(Value::as_u64);
        let step = step.ok_or_else(|| Error::new(Kind::File, "expected a whole number `step`"))?;
        let mut row = MetricsRow { step, ..Default::default() };
        for (name, value) in map.iter().filter(|(name, _)| *name != "step") {
            // Later versions may add values that are no numbers: ignored here.
            if let Some(value) = number_from_json(value) {
                row.set(name, value);
            }
        }
        Ok(row)
    }
}

/// Appends rows to `metrics.jsonl` while training runs.
pub struct MetricsLog(LogFile);

impl MetricsLog {
    /// Creates an empty log at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        LogFile::create(path).map(MetricsLog)
    }

    /// Writes the row as one line in one call. A row that the disk does not take is kept for later.
    pub fn append(&mut self, row: &MetricsRow) -> Result<()> {
        let mut line = row.to_json().to_string();
        line.push('\n');
        self.0.append(line.into_bytes());
        Ok(())
    }

    /// Goes on with the log at `path` behind its first bytes, which `position` describes; what lies beyond is dropped.
    ///
    /// # Errors
    /// A log that does not begin with these bytes, or cannot be written.
    pub fn resume(path: &Path, position: LogPosition) -> Result<Self> {
        LogFile::resume(path, position).map(MetricsLog)
    }

    /// Waits until every row is on the disk.
    ///
    /// # Errors
    /// Rows that wait in memory, for the disk takes none.
    pub fn sync(&mut self) -> Result<LogPosition> {
        self.0.sync()
    }

    /// Waits until every row is on the disk, as far as that is possible.
    pub fn finish(self) -> Result<()> {
        self.0.finish();
        Ok(())
    }
}

/// Reads a log. A last line without a newline is skipped: a crash cut it off, or it is being written. Any other
/// malformed line is an error that names it.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>> {
    let bytes = files::read(path)?;
    let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut rows = Vec::new();
    for (i, line) in bytes.get(..complete).unwrap_or_default().split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = serde_json::from_slice(line)
            .map_err(|error| Error::new(Kind::File, format!("not JSON: {}", crate::files::json_problem(&error))));
        let row = row.and_then(|value: Value| MetricsRow::from_json(&value));
        rows.push(row.map_err(|error| error.context(format!("`{}`, line {}", path.display(), i + 1)))?);
    }
    Ok(rows)
}

/// JSON has no infinity and no NaN: they become texts.
pub fn number_to_json(value: f64) -> Value {
    match value {
        _ if value.is_finite() => Value::from(value),
        _ if value.is_nan() => "NaN".into(),
        _ if value > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

/// The reverse of [`number_to_json`]; `None` for anything else.
pub fn number_from_json(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn row(step: u64) -> MetricsRow {
        let loss = Some(2.5 - step as f64 / 8.0);
        MetricsRow {
            step,
            loss,
            learning_rate: Some(2e-4),
            extra: vec![("memory_mb".into(), 12.0)],
            ..Default::default()
        }
    }

    fn written(folder: &Path, rows: &[MetricsRow]) -> PathBuf {
        let path = folder.join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        rows.iter().for_each(|row| log.append(row).unwrap());
        log.finish().unwrap();
        path
    }

    #[test]
    fn rows_come_back_and_numbers_that_are_none_too() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [row(1), MetricsRow { step: 2, eval_loss: Some(1.25), ..Default::default() }];
        let path = written(folder.path(), &rows);
        assert_eq!(read_metrics(&path).unwrap(), rows);
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first.lines().next().unwrap(), r#"{"step":1,"loss":2.375,"learning_rate":0.0002,"memory_mb":12.0}"#);
        let odd = MetricsRow { step: 3, loss: Some(f64::NAN), grad_norm: Some(f64::INFINITY), ..Default::default() };
        let back = read_metrics(&written(folder.path(), &[odd])).unwrap();
        assert!(back[0].loss.unwrap().is_nan() && back[0].grad_norm == Some(f64::INFINITY));
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_its_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<MetricsRow> = (1..4).map(row).collect();
        let path = written(folder.path(), &rows);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let lines = bytes[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(read_metrics(&path).unwrap(), rows[..lines], "cut to {length}");
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for (text, expected) in [("{\"step\":1}\n{\"st\n{\"step\":3}\n", "not JSON"), ("{\"step\":1}\n{}\n", "`step`")]
        {
            std::fs::write(&path, text).unwrap();
            let error = read_metrics(&path).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_full_disk_ends_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = MetricsLog::create(&path).unwrap();
        log.append(&row(1)).unwrap();
        log.finish().unwrap();
    }
}
