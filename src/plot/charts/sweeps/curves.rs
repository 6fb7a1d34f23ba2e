//! What trials logged over tokens, seconds or steps: a curve for each of the best settings, as the mean over its seeds.

use super::study::Study;
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::{Axis, Chart, Mark, Numbers, Point, Series};
use crate::plot::charts::scale::Scale;
use crate::plot::charts::smooth;
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::recorder::TOKENS_SEEN;

/// What a loss is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Tokens,
    Seconds,
}

/// The logs of a setting's trials.
struct LoggedSetting {
    name: String,
    trials: Vec<usize>,
    runs: Vec<Log>,
}

/// The rows that a trial logged, with the tokens and seconds of the whole trial.
struct Log {
    rows: Vec<MetricsRow>,
    tokens: f64,
    seconds: f64,
}

/// Values of one run by their step: (step, x, y).
type Steps = Vec<(u64, f64, f64)>;

/// The charts that every report has of which the logs have the numbers.
pub fn all(study: &Study, most: usize) -> Result<Vec<(&'static str, &'static str, Chart)>> {
    let logs = logs(study, most)?;
    let mut charts = Vec::new();
    // Over steps of equally many tokens, the curves would be those over steps.
    if steps_differ(&logs) {
        charts.extend(
            against(study, &logs, Progress::Tokens)
                .map(|chart| ("loss_by_tokens", "The loss against the tokens trained on.", chart)),
        );
    }
    charts.extend(
        against(study, &logs, Progress::Seconds)
            .map(|chart| ("loss_by_seconds", "The loss against the time of training.", chart)),
    );
    charts.extend(
        over_steps(study, &logs, "grad_norm")
            .map(|chart| ("grad_norm", "The norm of the gradient before clipping.", chart)),
    );
    charts
        .extend(over_steps(study, &logs, "learning_rate").map(|chart| ("learning_rate", "The learning rate.", chart)));
    Ok(charts)
}

/// The held-out loss where it was evaluated on the way, else the training loss.
///
/// # Errors
/// No trial that logged a loss.
pub fn loss_against(study: &Study, progress: Progress, most: usize) -> Result<Chart> {
    match against(study, &logs(study, most)?, progress) {
        Some(chart) => Ok(chart),
        None => {
            bail!(Kind::Input, "chart: no trial logged a loss of two steps"; hint: "train with a smaller log_every")
        }
    }
}

/// A logged number over the steps.
///
/// # Errors
/// No trial that logged it.
pub fn logged(study: &Study, name: &str, most: usize) -> Result<Chart> {
    match over_steps(study, &logs(study, most)?, name) {
        Some(chart) => Ok(chart),
        None => {
            bail!(Kind::Input, "chart: no trial logged `{name}` of two steps"; hint: "train with a smaller log_every")
        }
    }
}

fn logs(study: &Study, most: usize) -> Result<Vec<LoggedSetting>> {
    let mut best = study.in_order();
    best.truncate(most);
    // In the order of the grid, as in other charts.
    let shown = study.settings.iter().filter(|setting| best.iter().any(|one| one.point == setting.point));
    let mut all = Vec::new();
    for setting in shown {
        let mut runs = Vec::new();
        for row in &setting.rows {
            let path = study.result.out.join(&row.dir).join("metrics.jsonl");
            let outcome = row.outcome().filter(|_| path.is_file());
            if let Some(outcome) = outcome {
                let rows = read_metrics(&path)?;
                runs.push(Log { rows, tokens: outcome.tokens as f64, seconds: outcome.seconds });
            }
        }
        let trials = setting.rows.iter().map(|row| row.index).collect();
        all.push(LoggedSetting { name: study.name(&setting.point), trials, runs });
    }
    Ok(all)
}

impl Log {
    /// The tokens until each row; in proportion to the steps, where the log does not say.
    fn tokens_at(&self, row: &MetricsRow, last_step: u64) -> f64 {
        let proportional = self.tokens * row.step as f64 / last_step.max(1) as f64;
        // A row of an evaluation has none; those of its step come before it.
        let logged = self.rows.iter().filter(|one| one.step == row.step).find_map(|one| one.get(TOKENS_SEEN));
        logged.unwrap_or(proportional)
    }

    fn seconds_at(&self, row: &MetricsRow, last_step: u64) -> f64 {
        let speed = self.rows.iter().filter(|one| one.step == row.step).find_map(|one| one.tokens_per_s);
        match speed.filter(|speed| *speed > 0.0) {
            Some(speed) => self.tokens_at(row, last_step) / speed,
            None => self.seconds * row.step as f64 / last_step.max(1) as f64,
        }
    }

    fn steps(&self, x: impl Fn(&Log, &MetricsRow, u64) -> f64, y: impl Fn(&MetricsRow) -> Option<f64>) -> Steps {
        let last = self.rows.iter().map(|row| row.step).max().unwrap_or(0);
        self.rows.iter().filter_map(|row| Some((row.step, x(self, row, last), y(row)?))).collect()
    }
}

/// Do steps of the settings have different numbers of tokens?
fn steps_differ(logs: &[LoggedSetting]) -> bool {
    let per_step = |run: &Log| run.tokens / run.rows.iter().map(|row| row.step).max().unwrap_or(0).max(1) as f64;
    let sizes: Vec<f64> = logs.iter().filter_map(|setting| setting.runs.first()).map(per_step).collect();
    let (low, high) = sizes.iter().fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    low > 0.0 && high > 1.02 * low
}

fn against(study: &Study, logs: &[LoggedSetting], progress: Progress) -> Option<Chart> {
    let x = |log: &Log, row: &MetricsRow, last: u64| match progress {
        Progress::Tokens => log.tokens_at(row, last),
        Progress::Seconds => log.seconds_at(row, last),
    };
    let of_loss = |value: fn(&MetricsRow) -> Option<f64>| -> Vec<Series> {
        logs.iter().filter_map(|setting| mean_curve(setting, |run| run.steps(x, value))).collect()
    };
    let (evaluated, trained) = (of_loss(|row| row.eval_loss), of_loss(|row| row.loss));
    let is_evaluated = !evaluated.is_empty();
    let mut series = if is_evaluated { evaluated } else { trained };
    if series.iter().all(|series| series.points.iter().all(|point| point.x <= 0.0)) {
        return None;
    }
    let mut notes = notes(study, logs);
    if !is_evaluated {
        notes.extend(smoothed(&mut series));
    }
    let (name, title) = match progress {
        Progress::Tokens => ("tokens", "tokens trained on".to_owned()),
        Progress::Seconds => ("seconds", super::unit_of(study.result, "seconds")),
    };
    let metric = if is_evaluated { "eval_loss" } else { "train_loss" };
    let mark = if is_evaluated { Mark::LineAndPoints } else { Mark::Line };
    series.iter_mut().for_each(|series| series.mark = mark);
    let axis = Axis {
        numbers: if progress == Progress::Tokens { Numbers::Short } else { Numbers::Auto },
        ..Axis::new(title, Scale::Linear)
    };
    Some(chart(study, format!("{metric} against {name}"), axis, super::unit_of(study.result, metric), series, notes))
}

fn over_steps(study: &Study, logs: &[LoggedSetting], name: &str) -> Option<Chart> {
    let of = |setting: &LoggedSetting| {
        mean_curve(setting, |run| run.steps(|_, row, _| row.step as f64, |row| row.get(name)))
    };
    let mut series: Vec<Series> = logs.iter().filter_map(of).collect();
    let mut notes = notes(study, logs);
    let is_rate = name == "learning_rate";
    let first = series.first()?.points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
    let is_same = |series: &Series| series.points.iter().map(|point| (point.x, point.y)).eq(first.iter().copied());
    if is_rate && series.len() > 1 && series.iter().all(is_same) {
        series.truncate(1);
        series.iter_mut().for_each(|series| (series.name, series.trials) = (String::new(), Vec::new()));
        notes = vec!["The same in all settings that are shown.".to_owned()];
    } else if !is_rate {
        notes.extend(smoothed(&mut series));
    }
    series.iter_mut().for_each(|series| series.mark = Mark::Line);
    let title = if is_rate { "learning rate" } else { "gradient norm" };
    let axis = Axis::new("step", Scale::Linear);
    Some(chart(
        study,
        format!("{}{} over steps", title[..1].to_uppercase(), &title[1..]),
        axis,
        title.to_owned(),
        series,
        notes,
    ))
}

fn chart(study: &Study, title: String, x: Axis, y: String, series: Vec<Series>, notes: Vec<String>) -> Chart {
    Chart {
        title,
        subtitle: study.subject.clone(),
        x,
        y: Axis::new(y, Scale::Linear),
        series,
        legend_title: study.heading(),
        notes,
        ..Chart::default()
    }
}

/// The mean over the runs of a setting at the steps that all of them have; `None` of fewer than two points.
fn mean_curve(setting: &LoggedSetting, steps: impl Fn(&Log) -> Steps) -> Option<Series> {
    let runs: Vec<Steps> = setting.runs.iter().map(steps).filter(|steps| !steps.is_empty()).collect();
    let first = runs.first()?;
    let mean = |(step, ..): &(u64, f64, f64)| {
        let here: Vec<&(u64, f64, f64)> = runs
            .iter()
            .filter_map(|run| run.binary_search_by_key(step, |(step, ..)| *step).ok().map(|at| &run[at]))
            .collect();
        let count = here.len() as f64;
        let is_whole = here.len() == runs.len();
        is_whole.then(|| {
            Point::new(
                here.iter().map(|(_, x, _)| x).sum::<f64>() / count,
                here.iter().map(|(.., y)| y).sum::<f64>() / count,
            )
        })
    };
    let points: Vec<Point> = first.iter().filter_map(mean).collect();
    let series = Series { name: setting.name.clone(), points, trials: setting.trials.clone(), ..Series::default() };
    (series.points.len() > 1).then_some(series)
}

/// Smooths long curves, with the curve as logged behind; returns a note that says so.
fn smoothed(series: &mut [Series]) -> Option<String> {
    let longest = series.iter().map(|series| series.points.len()).max().unwrap_or(0);
    let weight = (1.0 - 20.0 / longest.max(1) as f64).clamp(0.0, 0.97);
    if weight <= 0.0 {
        return None;
    }
    for series in series.iter_mut() {
        let values: Vec<f64> = series.points.iter().map(|point| point.y).collect();
        series.raw = series.points.iter().map(|point| (point.x, point.y)).collect();
        series.points.iter_mut().zip(smooth::ema(&values, weight)).for_each(|(point, y)| point.y = y);
    }
    Some(format!("Smoothed: moving average of weight {weight:.2}. Faint: as logged."))
}

fn notes(study: &Study, logs: &[LoggedSetting]) -> Vec<String> {
    let most = logs.iter().map(|setting| setting.runs.len()).max().unwrap_or(0);
    let mut notes = Vec::new();
    if most > 1 {
        notes.push(format!("Mean over {most} {}s.", study.over));
    }
    notes.extend(study.left_out(logs.len()));
    notes
}
