//! Runs the rounds of a sweep.

use super::space::Draws;
use super::tune::{Climb, Tune};
use crate::bail;
use crate::data::Pace;
use crate::error::{Error, Kind, Result};
use crate::sweep::columns::sign;
use crate::sweep::decide::DecideOptions;
use crate::sweep::folder::{ensure_sweep_or_empty, TUNING};
use crate::sweep::grid::{axes_from_json, product, Axis, Grid, Point, SEED};
use crate::sweep::lora_sweep::SweepReport;
use crate::sweep::number;
use crate::sweep::options::SweepOptions;
use crate::sweep::pruning::Pruning;
use crate::sweep::results::{SweepResult, TrialRow};
use serde_json::{json, Value};

/// Seeds of each setting before the first look at what is decided.
const FIRST_SEEDS: u64 = 3;

/// A sweep to run: all of its points so far.
#[derive(Debug, Clone)]
pub struct Round {
    pub grid: Grid,
    /// The options of the sweep, with the folder of this round, and without what only the first one does.
    pub options: SweepOptions,
    /// Its number, from 0; `None` where it is the whole sweep.
    pub number: Option<usize>,
}

/// Runs the rounds of the sweep that `options` describe; where nothing depends on results, there is one. `axis_names` are
/// the options that can vary; `None` where any name can. A rehearsal runs the first round alone.
///
/// # Errors
/// Of `run_round`; options that do not go together; a search space or settings of which nothing can be compared.
pub fn run_in_rounds<E: From<Error>>(
    options: &SweepOptions,
    axis_names: Option<&[&str]>,
    pace: Pace,
    run_round: &mut dyn FnMut(&Round) -> Result<SweepReport, E>,
    note: &mut dyn FnMut(&str),
) -> Result<SweepReport, E> {
    let mut sweep = Adaptive::new(options, axis_names, pace, run_round, note)?;
    if !options.is_adaptive() {
        let grid = Grid::new(sweep.axes.clone())?;
        return sweep.round(grid, options.clone(), None);
    }
    sweep.draw_and_compare()
}

/// A sweep whose trials depend on results.
struct Adaptive<'a, E> {
    options: &'a SweepOptions,
    pace: Pace,
    run_round: &'a mut dyn FnMut(&Round) -> Result<SweepReport, E>,
    note: &'a mut dyn FnMut(&str),
    /// The axes of the grid, the seed included.
    axes: Vec<Axis>,
    decide: Option<DecideOptions>,
    /// The seeds of every setting; `None` where they are no axis.
    seeds: Option<Vec<Value>>,
    /// Trials that were trained in rounds before the last one.
    trained: usize,
}

impl<'a, E: From<Error>> Adaptive<'a, E> {
    fn new(
        options: &'a SweepOptions,
        axis_names: Option<&[&str]>,
        pace: Pace,
        run_round: &'a mut dyn FnMut(&Round) -> Result<SweepReport, E>,
        note: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        let own: Vec<&str> = options.grid.0.keys().map(String::as_str).collect();
        let axes = axes_from_json(&options.grid.0, axis_names.unwrap_or(&own))?;
        if !axes.is_empty() {
            // An axis without a value, or with one twice, fails here, before anything trains.
            Grid::new(axes.clone())?;
        }
        let drawn: Vec<&str> = options.search.0.iter().map(|(key, _)| key.as_str()).collect();
        options.search.ensure_names(axis_names.unwrap_or(&drawn))?;
        if let Some(twice) = drawn.iter().find(|key| axes.iter().any(|axis| axis.key == **key)) {
            bail!(Kind::Input, "sweep: `{twice}` is an axis of the grid and drawn by `search`"; hint: "leave one of them out");
        }
        if let Some(Tune { option, .. }) = &options.tune {
            if drawn.contains(&option.as_str()) || axes.iter().any(|axis| axis.key == *option) {
                bail!(Kind::Input, "sweep: `{option}` is tuned, and also in `grid` or `search`"; hint: "leave one of them out");
            }
            if let Some(names) = axis_names.filter(|names| !names.contains(&option.as_str())) {
                bail!(Kind::Input, "tune: unknown option `{option}`"; hint: "{}", crate::suggest::hint(option, names.iter().copied()));
            }
            if options.sampler == super::tpe::Sampler::Tpe {
                bail!(Kind::Input, "sweep: expected no `tune` beside sampler: \"tpe\", which has every point compared at once"; hint: "draw `{option}` too, or leave out `sampler`");
            }
        }
        let seeds = axes.iter().find(|axis| axis.key == SEED).map(|axis| axis.values.clone());
        let seeds = match (&options.decide, seeds) {
            (Some(_), None) => Some((0..FIRST_SEEDS).map(Value::from).collect()),
            (_, seeds) => seeds,
        };
        let decide = options
            .decide
            .clone()
            .map(|decide| DecideOptions { metric: decide.metric.or_else(|| options.metric.clone()), ..decide });
        if let Some(other) = decide.as_ref().map(|decide| &decide.over).filter(|over| *over != SEED) {
            bail!(Kind::Input, "sweep: option `decide.over`: expected \"{SEED}\", found \"{other}\""; hint: "a sweep adds seeds alone");
        }
        Ok(Adaptive { options, decide, pace, run_round, note, axes, seeds, trained: 0 })
    }

    fn draw_and_compare(&mut self) -> Result<SweepReport, E> {
        let of_grid = product(&self.setting_axes());
        let (mut draws, mut drawn) = (Draws::default(), Vec::new());
        let (mut report, mut rounds): (Option<SweepReport>, usize) = (None, 0);
        while let Some(missing) = self.missing(&drawn) {
            let sampler = self.options.sampler;
            let known = report.as_ref().map_or_else(Vec::new, |report| self.scores(&report.result, &drawn));
            let mut draw = |number| sampler.draw(&self.options.search, number, self.options.search_seed, &known);
            let further = draws.take(sampler.next_count(drawn.len(), missing), &mut draw);
            if further.is_empty() {
                self.note_exhausted(drawn.len());
                break;
            }
            drawn.extend(further);
            if drawn.len() < self.options.trials.unwrap_or(0) && !self.pace.is_full() {
                break;
            }
            if self.missing(&drawn).is_some() {
                let settings = combined(&of_grid, &drawn);
                report = Some(self.compare(&settings, rounds)?);
                rounds += 1;
            }
        }
        let settings = if self.options.search.0.is_empty() { of_grid } else { combined(&of_grid, &drawn) };
        if self.decide.is_some() && settings.len() < 2 {
            let error = Error::input("sweep: `decide` compares settings: expected at least two, found one");
            return Err(error.with_hint("give an axis more values, e.g. rank: [4, 8, 16]").into());
        }
        let settings = match &self.options.tune {
            Some(tune) => self.tuned(tune, settings)?,
            None => settings,
        };
        let report = self.compare(&settings, rounds)?;
        match self.decide.clone() {
            Some(decide) => self.until_decided(&decide, &settings, rounds, report),
            None => Ok(self.finished(report)),
        }
    }

    /// How many points are still to be drawn; `None` for none.
    fn missing(&self, drawn: &[Point]) -> Option<usize> {
        self.options.trials.unwrap_or(0).checked_sub(drawn.len()).filter(|missing| *missing > 0)
    }

    fn note_exhausted(&mut self, points: usize) {
        let wanted = self.options.trials.unwrap_or(0);
        (self.note)(&format!("search: the space has {points} points: fewer than the {wanted} trials"));
    }

    fn setting_axes(&self) -> Vec<Axis> {
        self.axes.iter().filter(|axis| axis.key != SEED).cloned().collect()
    }

    /// Runs each of these settings with its first seeds.
    fn compare(&mut self, settings: &[Point], number: usize) -> Result<SweepReport, E> {
        let seeds = self.seeds.clone();
        self.compare_over(&settings.iter().map(|setting| (setting.clone(), seeds.clone())).collect::<Vec<_>>(), number)
    }

    /// Runs each of these settings with its seeds.
    fn compare_over(&mut self, settings: &[(Point, Option<Vec<Value>>)], number: usize) -> Result<SweepReport, E> {
        let of_setting = |(setting, seeds): &(Point, Option<Vec<Value>>)| match seeds {
            Some(seeds) => seeds.iter().map(|seed| setting.with(SEED, seed)).collect(),
            None => vec![setting.clone()],
        };
        let points: Vec<Point> = settings.iter().flat_map(of_setting).collect();
        let grid = self.grid_of(points)?;
        let options = SweepOptions {
            verify: self.options.verify && number == 0,
            decide: self.decide.clone(),
            ..self.options.clone()
        };
        self.round(grid, options, Some(number))
    }

    /// The axes of these points: those of the grid in its order, what was drawn from the smallest to the largest.
    fn grid_of(&self, points: Vec<Point>) -> Result<Grid> {
        let Some(first) = points.first() else { return Err(Error::bug("a round without a point")) };
        let mut axes = Vec::new();
        for key in first.values.keys() {
            let mut values: Vec<Value> = Vec::new();
            for value in points.iter().filter_map(|point| point.get(key)) {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            let is_drawn = self.options.search.0.iter().any(|(drawn, _)| drawn == key);
            let is_tuned = self.options.tune.as_ref().is_some_and(|tune| tune.option == *key);
            if (is_drawn || is_tuned) && values.iter().all(Value::is_number) {
                values.sort_by(|one, other| one.as_f64().unwrap_or(0.0).total_cmp(&other.as_f64().unwrap_or(0.0)));
            }
            axes.push(Axis { key: key.clone(), values });
        }
        Grid::with_points(axes, points)
    }

    fn round(&mut self, grid: Grid, options: SweepOptions, number: Option<usize>) -> Result<SweepReport, E> {
        let report = (self.run_round)(&Round { grid, options, number })?;
        self.trained += report.result.trained;
        Ok(report)
    }

    fn finished(&self, mut report: SweepReport) -> SweepReport {
        report.result.trained = self.trained;
        report
    }

    /// The metric that settings are compared by, and the sign that makes smaller values better.
    fn metric<'r>(&'r self, result: &'r SweepResult) -> (&'r str, f64) {
        let of_decide = self.decide.as_ref().and_then(|decide| decide.metric.as_deref());
        let metric = self.options.metric.as_deref().or(of_decide).unwrap_or_else(|| result.default_metric());
        (metric, sign(metric))
    }

    /// The mean score of each of these points that has one, over the points of the grid and the seeds beside it.
    fn scores(&self, result: &SweepResult, points: &[Point]) -> Vec<(Point, f64)> {
        let (metric, sign) = self.metric(result);
        let of_point = |point: &Point| {
            let is_of = |row: &&TrialRow| point.values.iter().all(|(key, value)| row.point.get(key) == Some(value));
            let scores: Option<Vec<f64>> = result.rows().iter().filter(is_of).map(|row| row.number(metric)).collect();
            let scores = scores.filter(|scores| !scores.is_empty())?;
            Some((point.clone(), sign * scores.iter().sum::<f64>() / scores.len() as f64))
        };
        points.iter().filter_map(of_point).collect()
    }

    /// Finds the best candidate of each setting, and returns the settings with it.
    fn tuned(&mut self, tune: &Tune, settings: Vec<Point>) -> Result<Vec<Point>, E> {
        let Tune { option, candidates } = tune;
        // Before anything trains.
        ensure_sweep_or_empty(&self.options.out)?;
        let mut climbs: Vec<Climb> = settings.iter().map(|_| Climb::new(candidates.len())).collect();
        // The comparison has seeds of its own, so that the choice does not favour the settings that were lucky here.
        let seed = self.seeds.as_ref().and_then(|seeds| seeds.first().cloned());
        let point = |setting: &Point, candidate: usize| {
            let point = setting.with(option, &candidates[candidate]);
            seed.as_ref().map_or(point.clone(), |seed| point.with(SEED, seed))
        };
        for number in 0.. {
            let next: Vec<Vec<usize>> = climbs.iter().map(Climb::next).collect();
            if next.iter().all(Vec::is_empty) {
                break;
            }
            let of_setting = |((setting, climb), next): ((&Point, &Climb), &Vec<usize>)| {
                let mut all: Vec<usize> = climb.tried().chain(next.iter().copied()).collect();
                all.sort_unstable();
                all.into_iter().map(|candidate| point(setting, candidate)).collect::<Vec<_>>()
            };
            let points = settings.iter().zip(&climbs).zip(&next).flat_map(of_setting).collect();
            let options = SweepOptions {
                out: self.options.out.join(TUNING),
                decide: None,
                tune: None,
                verify: false,
                // The search along the candidates needs every score.
                prune: Pruning::default(),
                ..self.options.clone()
            };
            let grid = self.grid_of(points)?;
            let report = self.round(grid, options, Some(number))?;
            let (metric, sign) = self.metric(&report.result);
            report.result.metric(metric)?;
            for ((setting, climb), next) in settings.iter().zip(&mut climbs).zip(next) {
                for candidate in next {
                    let tried = point(setting, candidate);
                    let row = report.result.rows().iter().find(|row| row.point == tried);
                    climb.record(candidate, row.and_then(|row| row.number(metric)).map(|score| sign * score));
                }
            }
            if !self.pace.is_full() {
                break;
            }
        }
        self.note_tuned(tune, &settings, &climbs);
        if self.options.decide.is_some() {
            self.seeds = self.seeds.take().map(|seeds| with_further(&seeds[1..], seeds.len(), &seeds));
        }
        let best = |(setting, climb): (&Point, &Climb)| {
            // Where every candidate failed, the trial says why.
            let candidate = climb.best().or(climb.tried().next()).unwrap_or(0);
            setting.with(option, &candidates[candidate])
        };
        Ok(settings.iter().zip(&climbs).map(best).collect())
    }

    fn note_tuned(&mut self, Tune { option, candidates }: &Tune, settings: &[Point], climbs: &[Climb]) {
        if !self.pace.is_full() {
            let (tried, all) = (climbs.first().map_or(0, |climb| climb.tried().count()), candidates.len());
            (self.note)(&format!(
                "tune: the plan has {tried} values of {option} for each setting; there may be up to {all}"
            ));
            return;
        }
        let value = |candidate: usize| number::value(&candidates[candidate]);
        let one = |(setting, climb): (&Point, &Climb)| {
            let best = climb.best().map_or("every trial failed".to_owned(), value);
            if setting.values.is_empty() {
                best
            } else {
                format!("{setting}: {best}")
            }
        };
        let all: Vec<String> = settings.iter().zip(climbs).map(one).collect();
        (self.note)(&format!("tuned {option}: {}", all.join("; ")));
        let at_ends: Vec<String> = settings
            .iter()
            .zip(climbs)
            .filter(|(_, climb)| climb.is_at_an_end())
            .map(|(setting, _)| setting.to_string())
            .collect();
        if !at_ends.is_empty() {
            let (low, high) = (value(0), value(candidates.len() - 1));
            (self.note)(&format!(
                "warning: tune: the best {option} of {} is the first or the last that was tried: look beyond {low} to {high}",
                if at_ends == [""] { "all trials".to_owned() } else { at_ends.join("; ") }
            ));
        }
    }

    /// Adds a seed to the settings that are in play, until the first that is enough is known.
    fn until_decided(
        &mut self,
        decide: &DecideOptions,
        settings: &[Point],
        mut rounds: usize,
        mut report: SweepReport,
    ) -> Result<SweepReport, E> {
        let seeds = self.seeds.clone().unwrap_or_default();
        let mut of_settings: Vec<(Point, Option<Vec<Value>>)> =
            settings.iter().map(|setting| (setting.clone(), Some(seeds.clone()))).collect();
        while self.pace.is_full() {
            let decision = report.result.decide(decide)?;
            let open: Vec<&Point> = decision.open().collect();
            let mut added = Vec::new();
            for (setting, seeds) in &mut of_settings {
                let Some(seeds) = seeds.as_mut().filter(|seeds| seeds.len() < decide.max_seeds) else { continue };
                if open.contains(&&*setting) {
                    *seeds = with_further(seeds, seeds.len() + 1, seeds);
                    added.push(setting.to_string());
                }
            }
            if added.is_empty() {
                (self.note)(&decision.to_string());
                break;
            }
            (self.note)(&format!("not decided yet: another seed of {}", added.join("; ")));
            rounds += 1;
            report = self.compare_over(&of_settings, rounds)?;
        }
        if !self.pace.is_full() {
            let (first, most) = (seeds.len(), decide.max_seeds);
            (self.note)(&format!("decide: the plan has {first} seeds of each setting; there may be up to {most}"));
        }
        Ok(self.finished(report))
    }
}

/// Every point of the grid with every point that was drawn, in the order of the grid.
fn combined(of_grid: &[Point], drawn: &[Point]) -> Vec<Point> {
    let both = |one: &Point, other: &Point| Point {
        values: one.values.iter().chain(&other.values).map(|(key, value)| (key.clone(), value.clone())).collect(),
    };
    of_grid.iter().flat_map(|one| drawn.iter().map(move |other| both(one, other))).collect()
}

/// `seeds`, and as many of the smallest further ones as make `count`, none of which is in `used`.
fn with_further(seeds: &[Value], count: usize, used: &[Value]) -> Vec<Value> {
    let further = (0_u64..).map(|seed| json!(seed)).filter(|seed| !used.contains(seed) && !seeds.contains(seed));
    let missing = count.saturating_sub(seeds.len());
    seeds.iter().cloned().chain(further.take(missing)).collect()
}
