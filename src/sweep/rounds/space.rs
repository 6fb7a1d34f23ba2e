//! The search space: options with the values that may be drawn for each, and how points are drawn from it.

use crate::bail;
use crate::error::{Kind, Result};
use crate::options::{Mismatch, OptionType, Table, Value};
use crate::sweep::axes::Axes;
use crate::sweep::grid::{Point, SEED};
use crate::sweep::number::significant;
use crate::train::settings_diff::canonical;
use serde_json::Map;
use std::collections::HashSet;

/// Drawn numbers are rounded to so many significant digits: enough for any option, short enough to read.
const DIGITS: usize = 4;

/// So many draws in a row may give points that are known already before the space counts as exhausted.
const MOST_REPEATS: usize = 1000;

/// The crate that computes the sequence has so many dimensions, and so many points.
const MOST_DIMENSIONS: usize = 256;
const MOST_SAMPLES: usize = 1 << 16;

/// The values that an option may have.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Numbers between two others, all as likely.
    Uniform { low: f64, high: f64 },
    /// Numbers whose logarithms are as likely between those of two others.
    LogUniform { low: f64, high: f64 },
    /// Whole numbers, both ends included.
    IntUniform { low: i64, high: i64 },
    /// One of these values.
    Choice(Vec<serde_json::Value>),
}

impl Distribution {
    /// The value at a position in [0, 1).
    pub fn value_at(&self, position: f64) -> serde_json::Value {
        match self {
            Distribution::Uniform { low, high } => rounded(low + position * (high - low), *low, *high),
            Distribution::LogUniform { low, high } => rounded(low * (high / low).powf(position), *low, *high),
            Distribution::IntUniform { low, high } => {
                let count = (high - low + 1) as f64;
                (low + ((position * count) as i64)).min(*high).into()
            }
            Distribution::Choice(values) => {
                let at = ((position * values.len() as f64) as usize).min(values.len().saturating_sub(1));
                values.get(at).cloned().unwrap_or_default()
            }
        }
    }

    /// The position of a value that [`value_at`](Distribution::value_at) gave: of whole numbers and choices the middle of
    /// their share.
    pub fn position_of(&self, value: &serde_json::Value) -> Option<f64> {
        let position = match self {
            Distribution::Uniform { low, high } => (value.as_f64()? - low) / (high - low),
            Distribution::LogUniform { low, high } => (value.as_f64()? / low).ln() / (high / low).ln(),
            Distribution::IntUniform { low, high } => ((value.as_i64()? - low) as f64 + 0.5) / (high - low + 1) as f64,
            Distribution::Choice(values) => {
                (values.iter().position(|one| one == value)? as f64 + 0.5) / values.len() as f64
            }
        };
        // Rounding may have moved it to the end itself.
        Some(position.clamp(0.0, 1.0 - f64::EPSILON))
    }

    /// Candidates in order, for a search along a line: those of a choice, or numbers from end to end about half a decade
    /// (logarithmic) or a sixth of the range apart.
    pub fn candidates(&self) -> Vec<serde_json::Value> {
        let spaced = |steps: usize| -> Vec<serde_json::Value> {
            let at = |step: usize| match self {
                Distribution::Uniform { low, high } => {
                    rounded(low + (high - low) * step as f64 / steps as f64, *low, *high)
                }
                Distribution::LogUniform { low, high } => {
                    rounded(low * (high / low).powf(step as f64 / steps as f64), *low, *high)
                }
                Distribution::IntUniform { low, high } => {
                    (low + ((high - low) as f64 * step as f64 / steps as f64).round() as i64).into()
                }
                Distribution::Choice(_) => serde_json::Value::Null,
            };
            let mut values: Vec<serde_json::Value> = (0..=steps).map(at).collect();
            values.dedup();
            values
        };
        match self {
            Distribution::Choice(values) => values.clone(),
            Distribution::LogUniform { low, high } => spaced(((high / low).log10() * 2.0).ceil().max(2.0) as usize),
            Distribution::IntUniform { low, high } => spaced(usize::try_from(high - low).unwrap_or(6).clamp(1, 6)),
            Distribution::Uniform { .. } => spaced(6),
        }
    }

    /// Reads what `uniform`, `log_uniform`, `int_uniform` and `choice` return, or a list of values.
    fn read(value: &Value) -> Result<Self, String> {
        if let Value::Array(items) = value {
            return choice(items);
        }
        let entries = value.as_map().ok_or("")?;
        let entry = |name: &str| entries.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let number = |name: &str| entry(name).and_then(Value::as_f64).ok_or("");
        let distribution = match entry(DISTRIBUTION).and_then(Value::as_str) {
            Some("uniform") => Distribution::Uniform { low: number("low")?, high: number("high")? },
            Some("log_uniform") => Distribution::LogUniform { low: number("low")?, high: number("high")? },
            Some("int_uniform") => match (entry("low"), entry("high")) {
                (Some(Value::Int(low)), Some(Value::Int(high))) => Distribution::IntUniform { low: *low, high: *high },
                _ => return Err(String::new()),
            },
            Some("choice") => return choice(entry("values").and_then(Value::as_array).ok_or("")?),
            _ => return Err(String::new()),
        };
        match distribution.problem() {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(distribution),
        }
    }

    /// What is expected of the ends or the values, where they are otherwise.
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Distribution::Uniform { low, high } if !(low < high && (high - low).is_finite()) => Some("low < high"),
            Distribution::LogUniform { low, high } if !(0.0 < *low && low < high && high.is_finite()) => {
                Some("0 < low < high")
            }
            // Positions have 53 bits.
            Distribution::IntUniform { low, high }
                if low >= high || high.checked_sub(*low).is_none_or(|n| n >= 1 << 52) =>
            {
                Some("low < high, fewer than 2^52 apart")
            }
            Distribution::Choice(values) if values.is_empty() => Some("at least one value"),
            _ => None,
        }
    }
}

fn choice(items: &[Value]) -> Result<Distribution, String> {
    let values: Option<Vec<serde_json::Value>> = items.iter().map(Value::to_json).collect();
    let values =
        values.ok_or("values that JSON can hold; functions, models and data stand in a grid, by their names")?;
    let mut seen = HashSet::new();
    if values.iter().any(|value| !seen.insert(canonical(value))) {
        return Err("values that differ".to_owned());
    }
    let distribution = Distribution::Choice(values);
    match distribution.problem() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(distribution),
    }
}

fn rounded(value: f64, low: f64, high: f64) -> serde_json::Value {
    let short: f64 = significant(value, DIGITS).parse().unwrap_or(value);
    short.clamp(low, high).into()
}

/// The key of a distribution's kind in the map that stands for it in a script.
pub const DISTRIBUTION: &str = "distribution";

impl OptionType for Distribution {
    fn type_name() -> String {
        "distribution".to_owned()
    }
    fn expected() -> String {
        "values to draw from: log_uniform(low, high), uniform(low, high), int_uniform(low, high), choice([…]) or a list"
            .to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        Distribution::read(value).map_err(|problem| {
            let mismatch = Mismatch::of::<Self>(value);
            if problem.is_empty() {
                mismatch
            } else {
                Mismatch { expected: problem, ..mismatch }
            }
        })
    }
    fn to_value(&self) -> Value {
        let ends = |name: &str, low: Value, high: Value| {
            Value::Map(vec![
                (DISTRIBUTION.to_owned(), Value::Text(name.to_owned())),
                ("low".to_owned(), low),
                ("high".to_owned(), high),
            ])
        };
        match self {
            Distribution::Uniform { low, high } => ends("uniform", Value::Float(*low), Value::Float(*high)),
            Distribution::LogUniform { low, high } => ends("log_uniform", Value::Float(*low), Value::Float(*high)),
            Distribution::IntUniform { low, high } => ends("int_uniform", Value::Int(*low), Value::Int(*high)),
            Distribution::Choice(values) => Value::Map(vec![
                (DISTRIBUTION.to_owned(), Value::Text("choice".to_owned())),
                ("values".to_owned(), Value::Array(values.iter().map(Value::from).collect())),
            ]),
        }
    }
}

/// The options whose values are drawn, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Space(pub Vec<(String, Distribution)>);

impl OptionType for Space {
    fn type_name() -> String {
        "map of distributions".to_owned()
    }
    fn inner() -> Option<&'static Table> {
        Axes::inner()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let entries = value.as_map().ok_or_else(|| Mismatch::of::<Self>(value))?;
        let read = |(key, value): &(String, Value)| {
            Ok((key.clone(), Distribution::from_value(value).map_err(|mismatch| mismatch.at(key, value))?))
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Space)
    }
    fn to_value(&self) -> Value {
        Value::Map(self.0.iter().map(|(key, distribution)| (key.clone(), distribution.to_value())).collect())
    }
}

impl Space {
    /// # Errors
    /// The seed, an option that is not in `known`, too many options.
    pub fn ensure_names(&self, known: &[&str]) -> Result<()> {
        for (key, _) in &self.0 {
            if key == SEED {
                bail!(Kind::Input, "search: `{SEED}` cannot be drawn: it repeats every point"; hint: "write seed: 3 in the grid, or use `decide`");
            }
            if !known.contains(&key.as_str()) {
                let hint = crate::suggest::hint(key, known.iter().copied());
                bail!(Kind::Input, "search: unknown option `{key}`"; hint: "{hint}");
            }
        }
        if self.0.len() > MOST_DIMENSIONS {
            bail!(Kind::Input, "search: expected at most {MOST_DIMENSIONS} options, found {}", self.0.len());
        }
        Ok(())
    }

    /// The point at these positions, one for each option.
    pub fn point_at(&self, mut positions: impl FnMut(usize) -> f64) -> Point {
        let value = |(at, (key, distribution)): (usize, &(String, Distribution))| {
            (key.clone(), distribution.value_at(positions(at)))
        };
        Point { values: self.0.iter().enumerate().map(value).collect::<Map<_, _>>() }
    }
}

/// Distinct points, as a source draws them. Points that were drawn before are left out.
#[derive(Default)]
pub struct Draws {
    seen: HashSet<String>,
    drawn: u64,
}

impl Draws {
    /// Up to `count` further points; fewer where the space has no more.
    pub fn take(&mut self, count: usize, point: &mut dyn FnMut(u64) -> Point) -> Vec<Point> {
        let (mut points, mut repeats) = (Vec::new(), 0);
        while points.len() < count && repeats < MOST_REPEATS && self.drawn < MOST_SAMPLES as u64 {
            let drawn = point(self.drawn);
            self.drawn += 1;
            if self.seen.insert(canonical(&serde_json::Value::Object(drawn.values.clone()))) {
                points.push(drawn);
                repeats = 0;
            } else {
                repeats += 1;
            }
        }
        points
    }
}

/// The point with this number in a Sobol sequence over the space: its points lie more evenly than random ones, whatever
/// their number (Owen scrambling; Burley 2020).
pub fn sobol(space: &Space, number: u64, seed: u64) -> Point {
    // Folded: the crate takes 32 bits.
    let seed = (seed ^ (seed >> 32)) as u32;
    space.point_at(|dimension| f64::from(sobol_burley::sample(number as u32, dimension as u32, seed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn space(text: &[(&str, Distribution)]) -> Space {
        Space(text.iter().map(|(key, distribution)| (key.to_string(), distribution.clone())).collect())
    }

    #[test]
    fn values_lie_within_their_ends_and_are_short() {
        let lr = Distribution::LogUniform { low: 1e-5, high: 1e-3 };
        assert_eq!(lr.value_at(0.0), json!(1e-5));
        assert_eq!(lr.value_at(0.5), json!(1e-4));
        assert_eq!(lr.value_at(0.123), json!(1.762e-5));
        assert_eq!(Distribution::Uniform { low: 0.0, high: 0.3 }.value_at(1.0 / 3.0), json!(0.1));
        let rank = Distribution::IntUniform { low: 1, high: 4 };
        assert_eq!([0.0, 0.24, 0.26, 0.999].map(|at| rank.value_at(at).as_i64().unwrap()), [1, 1, 2, 4]);
        let choice = Distribution::Choice(vec![json!(4), json!("x")]);
        assert_eq!([0.4, 0.5].map(|at| choice.value_at(at)), [json!(4), json!("x")]);
        for distribution in [lr, rank, choice] {
            for at in [0.1, 0.6, 0.9] {
                let value = distribution.value_at(at);
                assert_eq!(distribution.value_at(distribution.position_of(&value).unwrap()), value);
            }
        }
    }

    #[test]
    fn candidates_go_from_end_to_end() {
        let lr = Distribution::LogUniform { low: 1e-5, high: 1e-2 };
        let numbers: Vec<f64> = lr.candidates().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(numbers, [1e-5, 3.162e-5, 1e-4, 3.162e-4, 1e-3, 3.162e-3, 1e-2]);
        assert_eq!(Distribution::IntUniform { low: 1, high: 3 }.candidates(), [json!(1), json!(2), json!(3)]);
    }

    #[test]
    fn sobol_points_fill_every_cell() {
        // A net: of 64 points every cell of an 8 × 8 grid has one.
        let unit = Distribution::Uniform { low: 0.0, high: 8.0 };
        let space = space(&[("x", unit.clone()), ("y", unit)]);
        let cells: HashSet<(u64, u64)> = (0..64)
            .map(|number| {
                let point = sobol(&space, number, 7);
                let cell = |key: &str| point.get(key).unwrap().as_f64().unwrap() as u64;
                (cell("x"), cell("y"))
            })
            .collect();
        assert!(cells.len() >= 60, "{} cells", cells.len());
        assert_ne!(sobol(&space, 3, 7), sobol(&space, 3, 8));
    }

    #[test]
    fn small_spaces_are_drawn_once() {
        let space = space(&[("rank", Distribution::Choice(vec![json!(2), json!(4), json!(8)]))]);
        let mut draws = Draws::default();
        let points = draws.take(10, &mut |number| sobol(&space, number, 0));
        assert_eq!(points.len(), 3);
        assert!(draws.take(1, &mut |number| sobol(&space, number, 0)).is_empty());
    }

    #[test]
    fn distributions_are_read_as_they_are_written() {
        for one in [
            Distribution::Uniform { low: 0.0, high: 0.5 },
            Distribution::LogUniform { low: 1e-5, high: 1e-3 },
            Distribution::IntUniform { low: 1, high: 64 },
            Distribution::Choice(vec![json!(1), json!("a")]),
        ] {
            assert_eq!(Distribution::from_value(&one.to_value()).unwrap(), one);
        }
        let list = Value::from(&json!([1, 2]));
        assert_eq!(Distribution::from_value(&list).unwrap(), Distribution::Choice(vec![json!(1), json!(2)]));
        let wrong = |low: f64, high: f64| Distribution::from_value(&Distribution::LogUniform { low, high }.to_value());
        assert_eq!(wrong(1e-3, 1e-5).unwrap_err().expected, "0 < low < high");
        assert!(wrong(0.0, 1.0).is_err() && Distribution::from_value(&Value::Int(3)).is_err());
    }
}
