//! The verdicts on the settings of a sweep, as values and as a sentence.

use super::looks::FIRST_LOOK;
use super::options::DecideOptions;
use super::sequential::{answer, judge, seeds_needed, Comparison, Judged, Rules, Verdict};
use crate::bail;
use crate::error::{Kind, Result};
use crate::sweep::columns::sign;
use crate::sweep::grid::Point;
use crate::sweep::number::{fixed, significant, value};
use crate::sweep::ranking::listed;
use crate::sweep::results::{SweepResult, TrialRow};
use serde_json::{json, Map, Value};
use std::fmt;

/// The most settings that a sentence names.
const MOST_NAMED: usize = 3;

/// What a sweep says about its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub metric: String,
    pub rules: Rules,
    /// In the order of the grid, which is the order of preference.
    pub settings: Vec<(Point, Judged)>,
    /// The number of the first setting that is enough, where that is known.
    pub answer: Option<usize>,
    /// Settings with a trial that failed or was not run, which are not compared.
    pub left_out: Vec<Point>,
    over: String,
    /// The option that each setting was tuned by, where settings are named without it.
    settled: Option<String>,
    /// The most seeds that every setting in play has.
    seeds: usize,
}

impl SweepResult {
    /// Finds the first setting in the order of the grid that is enough: see [`sequential`](super::sequential).
    ///
    /// # Errors
    /// An unknown metric or axis, fewer than two settings with a seed.
    pub fn decide(&self, options: &DecideOptions) -> Result<Decision> {
        let metric = options.metric.as_deref().unwrap_or(self.default_metric());
        self.ensure_number(metric)?;
        let over = options.over.as_str();
        let Some(repeats) = self.axis_values(over) else {
            bail!(Kind::Input, "decide: expected an axis `{over}` that repeats each setting, found none";
                hint: "add `seed: 3` to the grid")
        };
        let sign = sign(metric);
        let keys: Vec<&str> = self.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != over).collect();
        let (mut points, mut values, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        // A setting that was stopped early is no candidate.
        for group in self.group_by(&keys).into_iter().filter(|group| !group.is_pruned()) {
            // The seeds up to the first that was not run: pairs need the same ones.
            let of_repeat = |repeat: &Value| group.rows.iter().find(|row| row.point.get(over) == Some(repeat));
            let rows: Vec<&&TrialRow> = repeats.iter().map_while(of_repeat).collect();
            let numbers: Option<Vec<f64>> = rows.iter().map(|row| Some(sign * row.number(metric)?)).collect();
            match numbers.filter(|numbers| !numbers.is_empty()) {
                Some(numbers) => {
                    points.push(group.point);
                    values.push(numbers);
                }
                None => left_out.push(group.point),
            }
        }
        if points.len() < 2 {
            bail!(Kind::Input, "decide: expected at least two settings whose trials have `{metric}`, found {}", points.len();
                hint: "print(result.table()) shows what each trial has")
        }
        let DecideOptions { margin, confidence, max_seeds, .. } = *options;
        let rules = Rules { margin, confidence, max_seeds };
        let judged = judge(&values, &rules);
        Ok(Decision {
            metric: metric.to_owned(),
            rules,
            answer: answer(&judged),
            settings: points.into_iter().zip(judged).collect(),
            left_out,
            over: over.to_owned(),
            settled: self.settled_axis().map(str::to_owned),
            seeds: values.iter().map(Vec::len).min().unwrap_or(0),
        })
    }
}

impl Decision {
    /// The settings of which another seed would tell more.
    pub fn open(&self) -> impl Iterator<Item = &Point> {
        self.settings.iter().filter(|(_, judged)| judged.is_in_play).map(|(point, _)| point)
    }

    /// As an object: the values of the answer by their names, the verdicts in `settings`, and a sentence in `summary`.
    pub fn fields(&self) -> Map<String, Value> {
        let setting = |(point, judged): &(Point, Judged)| {
            let mut fields = point.values.clone();
            let comparison = judged.comparison;
            fields.insert("verdict".to_owned(), judged.verdict.name().into());
            fields.insert("difference".to_owned(), comparison.map(|one| one.difference).into());
            fields.insert("interval".to_owned(), comparison.map(|one| one.half_width).into());
            fields.insert("seeds".to_owned(), judged.seeds.into());
            fields.insert("seeds_needed".to_owned(), seeds_needed(judged, self.rules.margin).into());
            Value::Object(fields)
        };
        let mut all = self.answer.map_or_else(Map::new, |at| self.settings[at].0.values.clone());
        let fields = [
            ("decided", json!(self.answer.is_some())),
            ("metric", json!(self.metric)),
            ("margin", json!(self.rules.margin)),
            ("confidence", json!(self.rules.confidence)),
            ("settings", self.settings.iter().map(setting).collect()),
            ("left_out", self.left_out.iter().map(|point| Value::Object(point.values.clone())).collect()),
            ("summary", json!(self.to_string())),
        ];
        all.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    /// The values of a setting in which it differs from others: "16"; "rank=16, lr=0.001" of several axes.
    pub fn name(&self, at: usize) -> String {
        let point = &self.settings[at].0;
        match self.varying().as_slice() {
            [key] => point.get(key).map_or_else(String::new, value),
            keys => {
                let values = point.values.iter().filter(|(key, _)| keys.contains(&key.as_str()));
                Point { values: values.map(|(key, value)| (key.clone(), value.clone())).collect() }.to_string()
            }
        }
    }

    /// The name of the setting that a sentence begins with: "rank 16".
    pub fn full_name(&self, at: usize) -> String {
        match self.varying().as_slice() {
            [key] => format!("{key} {}", self.name(at)),
            _ => self.name(at),
        }
    }

    /// The axes in which the settings differ, without the one that tuning has settled.
    fn varying(&self) -> Vec<&str> {
        let Some((first, _)) = self.settings.first() else { return Vec::new() };
        let differs = |key: &&str| self.settings.iter().any(|(point, _)| point.get(key) != first.get(key));
        let keys = first.values.keys().map(String::as_str).filter(|key| self.settled.as_deref() != Some(key));
        keys.filter(differs).collect()
    }

    /// "0.031 ± 0.006", with one decimal more than the margin has, and as many as the interval needs, up to two further.
    fn difference(&self, comparison: &Comparison) -> String {
        let decimals = |x: f64| if x > 0.0 { (-x.log10().floor()).clamp(0.0, 9.0) } else { 0.0 };
        let margin = decimals(self.rules.margin) + 1.0;
        let decimals = decimals(comparison.half_width).clamp(margin, margin + 2.0) as usize;
        format!("{} ± {}", fixed(comparison.difference, decimals), fixed(comparison.half_width, decimals))
    }

    fn margin(&self) -> String {
        significant(self.rules.margin, 6)
    }

    /// The settings of these numbers, each with how much worse than the best one it is.
    fn worse(&self, numbers: impl DoubleEndedIterator<Item = usize>) -> Option<String> {
        // The nearest to the answer first.
        let texts: Vec<String> = numbers
            .rev()
            .filter_map(|at| {
                let comparison = self.settings[at].1.comparison?;
                Some(format!("{} is worse by {}", self.name(at), self.difference(&comparison)))
            })
            .collect();
        let more = texts.len().saturating_sub(MOST_NAMED);
        let rest = if more > 0 { format!(" and {more} more are worse") } else { String::new() };
        (!texts.is_empty()).then(|| format!("{}{rest}", texts[..texts.len() - more].join(", ")))
    }

    fn decided(&self, at: usize) -> String {
        let judged = &self.settings[at].1;
        let mut parts = vec![match judged.comparison {
            Some(comparison) if comparison.leader != at => format!(
                "{} is enough: {} is better by {}, below the margin of {}",
                self.full_name(at),
                self.name(comparison.leader),
                self.difference(&comparison),
                self.margin()
            ),
            _ => format!("{} is enough: no other setting has a better mean", self.full_name(at)),
        }];
        parts.extend(self.worse(0..at));
        parts.join("; ")
    }

    fn undecided(&self) -> String {
        if self.seeds < FIRST_LOOK {
            return format!(
                "not decided: expected at least {FIRST_LOOK} {}s of each setting, found {}",
                self.over, self.seeds
            );
        }
        let first = self.settings.iter().position(|(_, judged)| judged.verdict != Verdict::Worse);
        let Some((at, comparison)) = first.and_then(|at| Some((at, self.settings[at].1.comparison?))) else {
            return "not decided".to_owned();
        };
        let mut text = format!("not decided after {} {}s: ", self.settings[at].1.seeds, self.over);
        if comparison.difference - comparison.half_width > self.rules.margin {
            // Worse than the one with the best mean; but that one need not be the best.
            let (name, leader) = (self.full_name(at), self.name(comparison.leader));
            text += &format!(
                "{name} is worse than {leader} by {}, above the margin of {}, but another setting that may be the best is nearer to it",
                self.difference(&comparison), self.margin()
            );
            return text;
        }
        text += &match comparison.leader == at {
            true => {
                format!("another setting may be better than {} by the margin of {}", self.full_name(at), self.margin())
            }
            false => format!(
                "{} is worse than {} by {}, and the margin is {}",
                self.full_name(at),
                self.name(comparison.leader),
                self.difference(&comparison),
                self.margin()
            ),
        };
        match seeds_needed(&self.settings[at].1, self.rules.margin) {
            Some(seeds) if seeds > self.rules.max_seeds => {
                text += &format!(
                    "; about {seeds} {}s would decide, estimated from the spread so far: more than max_seeds: {}",
                    self.over, self.rules.max_seeds
                );
            }
            Some(seeds) => {
                text += &format!("; about {seeds} {}s would decide, estimated from the spread so far", self.over);
            }
            None => {}
        }
        text
    }
}

/// `by eval_loss, rank 16 is enough: 64 is better by 0.004 ± 0.003, below the margin of 0.01; 8 is worse by 0.031 ± 0.006`.
impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.answer.map_or_else(|| self.undecided(), |at| self.decided(at));
        write!(out, "by {}, {text}", self.metric)?;
        match self.left_out.as_slice() {
            [] => Ok(()),
            points => write!(out, "; not compared, because a trial failed: {}", listed(points.iter())),
        }
    }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Enough => "enough",
            Verdict::Worse => "worse",
            Verdict::Open => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionSet;
    use crate::sweep::results::tests::{by_rank_and_seed as of, result};

    fn decided(losses: Value, margin: f64) -> Decision {
        of(losses).decide(&DecideOptions { margin, ..DecideOptions::default() }).unwrap()
    }

    #[test]
    fn the_smallest_rank_that_is_enough_is_named() {
        let losses = json!({
            "8": [1.130, 2.131, 3.130], "16": [1.104, 2.104, 3.104], "64": [1.100, 2.100, 3.1001],
        });
        let decision = decided(losses, 0.02);
        assert_eq!(decision.answer, Some(1));
        let fields = decision.fields();
        assert_eq!((&fields["rank"], &fields["decided"]), (&json!(16), &json!(true)));
        assert_eq!(fields["settings"][0]["verdict"], "worse");
        let text = decision.to_string();
        assert!(text.starts_with("by eval_loss, rank 16 is enough: 64 is better by 0.004 ± "), "{text}");
        assert!(text.contains(", below the margin of 0.02; 8 is worse by 0.030 ± "), "{text}");
    }

    #[test]
    fn what_is_open_says_how_many_seeds_it_would_need() {
        let decision = decided(json!({"8": [1.02, 2.01, 3.04], "16": [1.0, 2.0, 3.0]}), 0.01);
        assert_eq!((decision.answer, decision.open().count()), (None, 2));
        let text = decision.to_string();
        assert!(text.contains("not decided after 3 seeds: rank 8 is worse than 16 by 0.023 ± "), "{text}");
        assert!(
            text.contains("seeds would decide, estimated from the spread so far: more than max_seeds: 12"),
            "{text}"
        );
        let few = decided(json!({"8": [1.0, 2.0], "16": [1.0, 2.0]}), 0.01).to_string();
        assert_eq!(few, "by eval_loss, not decided: expected at least 3 seeds of each setting, found 2");
    }

    /// By the comparison with the leader alone 8 would be worse. But 32 may be the best, and 8 is not known to be worse by the
    /// margin than that.
    #[test]
    fn an_open_leader_is_named() {
        let losses = json!({"8": [0.65, 0.65, 0.65], "32": [0.47, 0.4, 0.33], "128": [-0.06, 0.0, 0.06]});
        let text = decided(losses, 0.3).to_string();
        let expected = "above the margin of 0.3, but another setting that may be the best is nearer to it";
        assert!(
            text.starts_with("by eval_loss, not decided after 3 seeds: rank 8 is worse than 128 by 0.65"),
            "{text}"
        );
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn settings_with_a_failed_trial_are_left_out() {
        let losses = json!({"4": [1.0, null, 3.0], "8": [1.0, 2.0, 3.0], "16": [1.0, 2.0, 3.0]});
        let text = decided(losses, 0.01).to_string();
        assert!(
            text.ends_with("no other setting has a better mean; not compared, because a trial failed: rank=4"),
            "{text}"
        );
    }

    #[test]
    fn the_first_in_the_order_of_the_grid_is_preferred() {
        let losses = json!({"16": [1.0, 2.0, 3.0], "8": [1.0, 2.0, 3.0]});
        assert_eq!(decided(losses, 0.01).fields()["rank"], 16);
    }

    #[test]
    fn settings_are_named_without_what_they_were_tuned_by() {
        // Rank 8 was tuned to 0.003, rank 16 to 0.001; the other pairs were not run.
        let of = |tuned: Option<&str>| {
            let mut sweep = result(json!({"rank": [8, 16], "lr": [1e-3, 3e-3], "seed": 3}), |point| {
                let is_run = (point.get("rank")? == 8) == (point.get("lr")?.as_f64()? > 2e-3);
                is_run.then_some(point.get("seed")?.as_f64()?)
            });
            sweep.tuned = tuned.map(str::to_owned);
            sweep.decide(&DecideOptions { margin: 0.1, ..DecideOptions::default() }).unwrap().to_string()
        };
        assert!(of(Some("lr")).starts_with("by eval_loss, rank 8 is enough: "), "{}", of(Some("lr")));
        assert!(of(None).starts_with("by eval_loss, rank=8, lr=0.003 is enough: "), "{}", of(None));
        // Where nothing else tells settings apart, the option is their name.
        let mut rates = result(json!({"lr": [1e-3, 3e-3], "seed": 3}), |point| point.get("seed")?.as_f64());
        rates.tuned = Some("lr".to_owned());
        let text = rates.decide(&DecideOptions { margin: 0.1, ..DecideOptions::default() }).unwrap().to_string();
        assert!(text.starts_with("by eval_loss, lr 0.001 is enough: "), "{text}");
    }

    #[test]
    fn a_sweep_without_seeds_is_refused() {
        let alone = result(json!({"rank": [2, 4]}), |point| point.get("rank")?.as_f64());
        let error = alone.decide(&DecideOptions { margin: 0.1, ..DecideOptions::default() }).unwrap_err();
        assert_eq!(error.hint.unwrap(), "add `seed: 3` to the grid");
        let error = DecideOptions::default().ensure_valid("decide").unwrap_err();
        assert!(error.message.contains("margin"), "{error:?}");
    }
}
