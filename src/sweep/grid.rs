//! The grid: named axes of values, and the points of their product, or those that were chosen among them.
//!
//! Any option of `lora` or `train` can be an axis. The caller knows which names exist and what values mean; here
//! values are JSON.

use super::number;
use crate::bail;
use crate::error::{Kind, Result};
use crate::foreign::Foreign;
use crate::suggest;
use crate::train::settings_diff::canonical;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt;

/// The axis that repeats a trial with other random numbers; it varies fastest.
pub const SEED: &str = "seed";

/// The axis of the models that trials adapt.
pub const BASE: &str = "base";

/// The axis of the rows that trials train on.
pub const DATA: &str = "data";

/// The axis of functions that compute the loss.
pub const LOSS: &str = "loss";

/// More trials than this are a mistake.
const MOST_TRIALS: usize = 100_000;

/// Longer values and longer folder names are cut and get a hash.
const LONGEST_VALUE: usize = 40;
const LONGEST_NAME: usize = 160;

#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub key: String,
    pub values: Vec<Value>,
}

/// Axes in order: the first varies slowest, `seed` is always last.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    axes: Vec<Axis>,
    /// The points, where they are not the whole product of the axes.
    chosen: Option<Vec<Point>>,
}

impl Grid {
    /// Fails if there is no axis, an axis is empty, or a name or value occurs twice.
    pub fn new(axes: Vec<Axis>) -> Result<Self> {
        let axes = in_order(axes)?;
        let count = axes.iter().fold(1_usize, |count, axis| count.saturating_mul(axis.values.len()));
        if count > MOST_TRIALS {
            bail!(Kind::Input, "grid: expected at most {MOST_TRIALS} trials, found {count}"; hint: "shorten the axes");
        }
        Ok(Grid { axes, chosen: None })
    }

    /// As [`Grid::new`], with the points that were chosen in the product of the axes, in their order.
    ///
    /// # Errors
    /// No point, a point that is not in the product, or one that occurs twice.
    pub fn with_points(axes: Vec<Axis>, points: Vec<Point>) -> Result<Self> {
        let chosen = points.len();
        if chosen == 0 || chosen > MOST_TRIALS {
            bail!(Kind::Input, "sweep: expected 1 to {MOST_TRIALS} trials, found {chosen}");
        }
        let axes = in_order(axes)?;
        let mut seen = HashSet::new();
        for point in &points {
            let keys = point.values.keys().eq(axes.iter().map(|axis| &axis.key));
            let is_in_product =
                keys && axes.iter().all(|axis| axis.values.iter().any(|v| point.get(&axis.key) == Some(v)));
            if !is_in_product || !seen.insert(canonical(&Value::Object(point.values.clone()))) {
                bail!(Kind::Input, "grid: the point {point} is not in the product of the axes, or occurs twice");
            }
        }
        Ok(Grid { axes, chosen: Some(points) })
    }

    /// The points, where they are not the whole product.
    pub fn chosen(&self) -> Option<&[Point]> {
        self.chosen.as_deref()
    }

    /// Reads `{key: value or list of values}`. Fails for a key that is not in `known`. `seed` may be a count: 3 stands
    /// for 0, 1, 2. Any other single value is a list of one.
    pub fn from_json(map: &Map<String, Value>, known: &[&str]) -> Result<Self> {
        Self::new(axes_from_json(map, known)?)
    }

    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    pub fn axis(&self, key: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.key == key)
    }

    /// The points in order. In a whole product the last axis varies fastest.
    pub fn points(&self) -> Vec<Point> {
        self.chosen.clone().unwrap_or_else(|| product(&self.axes))
    }

    /// The number of points.
    pub fn count(&self) -> usize {
        let product = || self.axes.iter().map(|axis| axis.values.len()).product();
        self.chosen.as_ref().map_or_else(product, Vec::len)
    }

    /// The values of each axis.
    pub fn to_json(&self) -> Map<String, Value> {
        self.axes.iter().map(|axis| (axis.key.clone(), Value::from(axis.values.clone()))).collect()
    }
}

/// The points of the product of axes: the last one varies fastest. Without an axis there is one point.
pub fn product(axes: &[Axis]) -> Vec<Point> {
    let mut points = vec![Point::default()];
    for axis in axes {
        points = points.iter().flat_map(|point| axis.values.iter().map(|v| point.with(&axis.key, v))).collect();
    }
    points
}

/// The axes in this map, as [`Grid::from_json`] reads them, in its order.
pub fn axes_from_json(map: &Map<String, Value>, known: &[&str]) -> Result<Vec<Axis>> {
    let mut axes = Vec::with_capacity(map.len());
    for (key, value) in map {
        if key != SEED && !known.contains(&key.as_str()) {
            let known = known.iter().copied().chain([SEED]);
            bail!(Kind::Input, "grid: unknown option `{key}`"; hint: "{}", suggest::hint(key, known));
        }
        let values = match value {
            Value::Array(values) => values.clone(),
            count if key == SEED => seeds(count)?,
            single => vec![single.clone()],
        };
        axes.push(Axis { key: key.clone(), values });
    }
    Ok(axes)
}

/// The axes with the seed last.
///
/// # Errors
/// No axis, an empty one, or a name or value that occurs twice.
fn in_order(mut axes: Vec<Axis>) -> Result<Vec<Axis>> {
    if axes.is_empty() {
        bail!(Kind::Input, "grid: expected at least one axis, found none"; hint: "name what varies, e.g. rank: [4, 8, 16]");
    }
    axes.sort_by_key(|axis| axis.key == SEED);
    for (i, axis) in axes.iter().enumerate() {
        if axes.iter().take(i).any(|other| other.key == axis.key) {
            bail!(Kind::Input, "grid: the axis `{}` occurs twice", axis.key);
        }
        check_values(axis)?;
    }
    Ok(axes)
}

fn seeds(count: &Value) -> Result<Vec<Value>> {
    match count.as_u64() {
        Some(0) | None => {
            bail!(Kind::Input, "grid: seed: expected a list of seeds or a count of at least 1, found {count}")
        }
        Some(count) if count > MOST_TRIALS as u64 => {
            bail!(Kind::Input, "grid: seed: expected at most {MOST_TRIALS} seeds, found a count of {count}";
                hint: "for one seed of that value write seed: [{count}]")
        }
        Some(count) => Ok((0..count).map(Value::from).collect()),
    }
}

fn check_values(axis: &Axis) -> Result<()> {
    if axis.values.is_empty() {
        bail!(Kind::Input, "grid: {}: expected at least one value, found an empty list", axis.key);
    }
    let mut seen = HashSet::new();
    for value in &axis.values {
        if axis.key == SEED && value.as_u64().is_none() {
            bail!(Kind::Input, "grid: seed: expected whole numbers of at least 0, found {value}");
        }
        if !seen.insert(canonical(value)) {
            bail!(Kind::Input, "grid: {}: the value {value} occurs twice", axis.key);
        }
    }
    Ok(())
}

/// One combination of values, in the order of the axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    pub values: Map<String, Value>,
}

impl Point {
    /// The point with one more value.
    #[must_use]
    pub fn with(&self, key: &str, value: &Value) -> Self {
        let mut point = self.clone();
        point.values.insert(key.to_string(), value.clone());
        point
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The point without `key`.
    pub fn without(&self, key: &str) -> Self {
        Point { values: self.values.iter().filter(|(k, _)| *k != key).map(|(k, v)| (k.clone(), v.clone())).collect() }
    }

    /// The folder name, such as `rank-4_seed-0`. It depends on this point only, so that it stays the same when the
    /// grid grows. Values that are long or have other characters than a file name get a hash.
    pub fn folder_name(&self) -> String {
        let parts: Vec<String> =
            self.values.iter().map(|(key, value)| format!("{}-{}", file_characters(key), file_text(value))).collect();
        let name = parts.join("_");
        if name.len() <= LONGEST_NAME {
            return name;
        }
        format!("{}_{}", cut(&name, LONGEST_NAME - 9), short_hash(&canonical(&Value::Object(self.values.clone()))))
    }
}

/// `rank=4, seed=0`.
impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.values.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(out, "{comma}{}={}", Foreign(key), Foreign(&number::value(value)))?;
        }
        Ok(())
    }
}

fn file_text(value: &Value) -> String {
    let text = number::value(value);
    let safe = file_characters(&text);
    // No two values may have the same name: `4` is the number, so the string "4" gets a hash.
    let is_unique = match value {
        Value::String(text) => !matches!(text.as_str(), "" | "none" | "true" | "false") && text.parse::<f64>().is_err(),
        Value::Number(n) => text.parse::<f64>().ok() == n.as_f64(),
        Value::Array(_) | Value::Object(_) => false,
        Value::Null | Value::Bool(_) => true,
    };
    if is_unique && safe == text && text.len() <= LONGEST_VALUE {
        return text;
    }
    format!("{}-{}", cut(&safe, LONGEST_VALUE - 9), short_hash(&canonical(value)))
}

/// Keeps letters, digits and `.+-_`; any other character, such as a slash, becomes `-`.
fn file_characters(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    text.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}

fn cut(ascii: &str, length: usize) -> &str {
    ascii.get(..length).unwrap_or(ascii)
}

fn short_hash(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))[..8].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grid(value: Value) -> Result<Grid> {
        Grid::from_json(value.as_object().unwrap(), &["rank", "lr", "target_modules", "dropout"])
    }

    #[test]
    fn the_product_is_in_axis_order_with_the_seed_fastest() {
        let grid = grid(json!({"seed": 2, "rank": [8, 4], "lr": 1e-3})).unwrap();
        let points: Vec<String> = grid.points().iter().map(Point::to_string).collect();
        let expected = ["rank=8, lr=0.001, seed=0", "rank=8, lr=0.001, seed=1", "rank=4, lr=0.001, seed=0"];
        assert_eq!(points[..3], expected);
        assert_eq!(points.len(), 4);
    }

    #[test]
    fn wrong_grids_are_refused_by_name() {
        let cases = [
            (json!({}), "at least one axis"),
            (json!({"rank": []}), "rank: expected at least one value"),
            (json!({"rank": [4, 4.0]}), "rank: the value 4.0 occurs twice"),
            (json!({"rnak": [4]}), "unknown option `rnak`\n  hint: did you mean `rank`?"),
            (json!({"seed": 0}), "seed: expected a list of seeds or a count"),
            (json!({"seed": -1}), "seed: expected a list"),
            (json!({"seed": [0.5]}), "seed: expected whole numbers"),
            (json!({"seed": 123456789}), "write seed: [123456789]"),
            (json!({"seed": 50000, "rank": [1, 2, 4]}), "at most 100000 trials, found 150000"),
        ];
        for (value, expected) in cases {
            let error = grid(value.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }

    #[test]
    fn folder_names_are_readable_and_differ_for_different_values() {
        let name = |value: Value| Point { values: value.as_object().unwrap().clone() }.folder_name();
        assert_eq!(name(json!({"rank": 4, "seed": 0})), "rank-4_seed-0");
        assert_eq!(name(json!({"lr": 2e-4, "schedule": "cosine"})), "lr-0.0002_schedule-cosine");
        let odd = [
            json!(4),
            json!("4"),
            json!(["q_proj", "v_proj"]),
            json!("q_proj+v_proj"),
            json!("../../etc"),
            json!("a/b"),
            json!("a-b"),
            json!("한글"),
            json!(null),
            json!("none"),
            json!(""),
            json!(0.1),
            json!(0.1 + 1e-15),
            json!("x".repeat(500)),
            json!("x".repeat(501)),
            json!({"q_proj": 4}),
        ];
        let mut names: Vec<String> = odd.iter().map(|v| name(json!({"k": v}))).collect();
        assert!(names.iter().all(|n| n.len() < 60 && !n.contains('/') && n.is_ascii()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), odd.len(), "{names:?}");
        let long: Map<String, Value> = (0..40).map(|i| (format!("option_{i}"), json!(i))).collect();
        assert!(Point { values: long }.folder_name().len() <= LONGEST_NAME);
    }
}
