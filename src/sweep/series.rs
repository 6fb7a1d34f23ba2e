//! Results as series of points, for charts.

use super::grid::Point;
use super::number;
use super::record::TrialResult;
use super::results::{SweepResult, TrialRow};
use super::summary::Summary;
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::Value;

/// One point of a series: the values of all trials at one x.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryPoint {
    /// A number; for an axis that is not numeric, the index of the value in its list.
    pub x: f64,
    /// The value of x as text; if x is a metric, the point of the grid.
    pub label: String,
    pub mean: f64,
    /// The sample standard deviation; `None` for a single value.
    pub spread: Option<f64>,
    /// The number of values, and of failed trials beside them.
    pub n: usize,
    pub failed: usize,
    /// The values in grid order, and the numbers of their trials.
    pub values: Vec<f64>,
    pub trials: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SummarySeries {
    /// Such as `lr=0.0002`, or the metric's name if there is only one series.
    pub name: String,
    /// In order of x, without those at which every trial failed.
    pub points: Vec<SummaryPoint>,
}

impl SweepResult {
    /// Returns `y_metric` against `x_key`: one series per value of `group_by`, one point per x. A point is a mean over
    /// the axis `over`.
    ///
    /// `x_key` is an axis or a metric (its mean over the point's trials). With an axis as x, every other axis that
    /// varies must be `over` or `group_by`: otherwise different settings would be averaged unnoticed.
    pub fn series(
        &self,
        x_key: &str,
        y_metric: &str,
        over: Option<&str>,
        group_by: Option<&str>,
    ) -> Result<Vec<SummarySeries>> {
        self.ensure_number(x_key)?;
        self.ensure_number(y_metric)?;
        for key in [over, group_by].into_iter().flatten() {
            self.ensure_axis(key)?;
        }
        if self.axis_values(x_key).is_some() {
            self.ensure_covered(x_key, over, group_by)?;
        }
        let keys: Vec<&str> = group_by.into_iter().collect();
        let mut series = Vec::new();
        for group in self.group_by(&keys) {
            let name = if keys.is_empty() { y_metric.to_string() } else { group.point.to_string() };
            series.push(SummarySeries { name, points: self.points(&group.rows, x_key, y_metric, over) });
        }
        Ok(series)
    }

    fn ensure_covered(&self, x_key: &str, over: Option<&str>, group_by: Option<&str>) -> Result<()> {
        let named = [Some(x_key), over, group_by, self.settled_axis()];
        let uncovered =
            self.axes().iter().find(|axis| axis.values.len() > 1 && !named.contains(&Some(axis.key.as_str())));
        match uncovered {
            None => Ok(()),
            Some(axis) => bail!(Kind::Input, "chart: `{}` varies as well: expected it in over or group_by", axis.key;
                hint: "e.g. group_by: \"{}\"", axis.key),
        }
    }

    fn points(&self, rows: &[&TrialRow], x_key: &str, y_metric: &str, over: Option<&str>) -> Vec<SummaryPoint> {
        let mut settings: Vec<(Point, Vec<&TrialRow>)> = Vec::new();
        for row in rows {
            let setting = over.map_or_else(|| row.point.clone(), |key| row.point.without(key));
            match settings.iter_mut().find(|(known, _)| *known == setting) {
                Some((_, rows)) => rows.push(row),
                None => settings.push((setting, vec![row])),
            }
        }
        let mut points: Vec<SummaryPoint> =
            settings.iter().filter_map(|(setting, rows)| self.point(setting, rows, x_key, y_metric)).collect();
        points.sort_by(|left, right| left.x.total_cmp(&right.x));
        points
    }

    fn point(&self, setting: &Point, rows: &[&TrialRow], x_key: &str, y_metric: &str) -> Option<SummaryPoint> {
        let numbers = rows.iter().filter_map(|row| Some((row.number(y_metric)?, row.index)));
        let (values, trials): (Vec<f64>, Vec<usize>) = numbers.unzip();
        let summary = Summary::of(values.iter().copied())?;
        let (x, label) = match setting.get(x_key) {
            Some(value) => (self.position(x_key, value), number::value(value)),
            // A metric, or the axis `over`.
            None => {
                let x = Summary::of(rows.iter().filter_map(|row| row.number(x_key)))?.mean;
                (x, setting.to_string())
            }
        };
        let failed = rows.iter().filter(|row| matches!(row.result, TrialResult::Failed(_))).count();
        let Summary { mean, spread, n, .. } = summary;
        Some(SummaryPoint { x, label, mean, spread, n, failed, values, trials })
    }

    /// The x of a value: the number itself on a numeric axis, else its index.
    fn position(&self, key: &str, value: &Value) -> f64 {
        let values = self.axis_values(key).unwrap_or_default();
        if values.iter().all(Value::is_number) {
            value.as_f64().unwrap_or(f64::NAN)
        } else {
            values.iter().position(|known| known == value).unwrap_or(0) as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::result;
    use super::*;
    use serde_json::json;

    fn loss(point: &Point) -> Option<f64> {
        let number = |key| point.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        (number("rank") != 16.0 || number("seed") != 0.0)
            .then(|| number("rank") + number("seed") + 100.0 * number("lr"))
    }

    #[test]
    fn seeds_become_one_point() {
        let result = result(json!({"rank": [16, 4], "seed": 3}), loss);
        let series = result.series("rank", "eval_loss", Some("seed"), None).unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].name, "eval_loss");
        let [four, sixteen] = &series[0].points[..] else { panic!("{series:?}") };
        assert_eq!((four.x, four.mean, four.spread, four.n, four.failed), (4.0, 5.0, Some(1.0), 3, 0));
        assert_eq!((sixteen.x, sixteen.mean, sixteen.n, sixteen.failed), (16.0, 17.5, 2, 1));
        assert_eq!(sixteen.values, [17.0, 18.0]);
    }

    #[test]
    fn a_second_axis_makes_groups_and_may_not_be_forgotten() {
        let result = result(json!({"rank": [2, 4], "lr": [0.1, 0.2], "seed": 2}), loss);
        let series = result.series("rank", "eval_loss", Some("seed"), Some("lr")).unwrap();
        assert_eq!(series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["lr=0.1", "lr=0.2"]);
        assert_eq!(series[1].points[0].mean, 22.5);
        let error = result.series("rank", "eval_loss", Some("seed"), None).unwrap_err();
        assert!(error.message.contains("`lr` varies as well"), "{error}");
        let error = result.series("rank", "eval_loss", Some("sede"), None).unwrap_err();
        assert!(error.hint.unwrap().contains("`seed`"));
    }

    #[test]
    fn x_may_be_a_metric_or_text() {
        let by_size = result(json!({"rank": [2, 4], "seed": 2}), loss);
        let series = by_size.series("trainable_params", "eval_loss", Some("seed"), None).unwrap();
        assert_eq!(series[0].points.len(), 2);
        assert_eq!(series[0].points[0].x, 1000.0);
        let by_name = result(json!({"target_modules": ["all-linear", ["q_proj", "v_proj"]]}), |_| Some(1.0));
        let series = by_name.series("target_modules", "eval_loss", None, None).unwrap();
        let labels: Vec<(f64, &str)> = series[0].points.iter().map(|p| (p.x, p.label.as_str())).collect();
        assert_eq!(labels, [(0.0, "all-linear"), (1.0, "q_proj+v_proj")]);
    }
}
