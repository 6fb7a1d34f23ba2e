//! Shuffles and splits rows: at random, by groups that stay on one side, or stratified by class; with lorhai's random
//! numbers or those of `datasets`.

use super::dataset::Dataset;
use super::numpy::Generator;
use crate::error::{Error, Result};
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::random::Key;
use crate::{bail, Kind};
use serde_json::Value;
use std::collections::HashMap;

/// Whose random numbers determine the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Like {
    #[default]
    Lorhai,
    /// The same rows as `datasets` with the same seed.
    Datasets,
}

crate::choices!(Like, [("lorhai", Like::Lorhai), ("datasets", Like::Datasets)]);

options! {
    /// How rows are split.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SplitOptions {
        /// The rows that are held out: a fraction of all if below 1, otherwise a number of rows.
        pub test: f64 = 0.1, range above(0.0);
        /// The seed of the random order.
        pub seed: u64 = 0;
        /// Whose random numbers: "datasets" chooses the rows that `train_test_split(test_size, seed)` of datasets does.
        pub like: Like = Like::default();
        /// A column: rows with the same value in it stay on one side, so that no prompt is tested that was trained on.
        /// Sizes are as near as the groups allow.
        pub group: Option<String> = None;
        /// A column: both sides have the same proportion of each of its values.
        pub stratify: Option<String> = None;
    }
    rule SplitOptions::rule;
}

options! {
    /// How tokenized rows are split, whose columns are gone.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SplitTokensOptions {
        /// The rows that are held out: a fraction of all if below 1, otherwise a number of rows.
        pub test: f64 = 0.1, range above(0.0);
        /// The seed of the random order.
        pub seed: u64 = 0;
        /// Whose random numbers: "datasets" chooses the rows that `train_test_split(test_size, seed)` of datasets does.
        pub like: Like = Like::default();
    }
}

options! {
    /// How rows are shuffled.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ShuffleOptions {
        /// Whose random numbers: "datasets" gives the order that `shuffle(seed)` of datasets does.
        pub like: Like = Like::default();
    }
}

/// What errors name where an option cannot be used.
const CALL: &str = "split";

impl SplitOptions {
    fn rule(&self) -> Option<Refusal> {
        if self.test >= 1.0 && self.test.fract() != 0.0 {
            let size = options::Value::Float(self.test).describe();
            return Some(Refusal::new("test", "a fraction between 0 and 1 or a number of rows", size));
        }
        self.group.as_ref()?;
        if self.stratify.is_some() {
            return Some(Refusal::new("group", "it or `stratify`", "both").with_hint("leave one of them out"));
        }
        let refusal = Refusal::new("like", "\"lorhai\" beside `group`", "\"datasets\"");
        (self.like == Like::Datasets).then(|| refusal.with_hint("leave `like` out: datasets has no groups"))
    }
}

/// The indices of (train, test).
type Halves = (Vec<usize>, Vec<usize>);

impl Dataset {
    /// The rows in a random order that `seed` determines.
    pub fn shuffle(&self, seed: u64) -> Self {
        self.shuffle_like(seed, Like::default())
    }

    /// As [`shuffle`](Self::shuffle), with the random numbers of `like`.
    pub fn shuffle_like(&self, seed: u64, like: Like) -> Self {
        self.reorder(&order(self.len(), seed, "shuffle", like))
    }

    /// Splits into (train, test), in a random order that `seed` determines.
    ///
    /// `test` is a fraction of the rows if it is below 1, and a number of rows otherwise. Fails if one side would be
    /// empty.
    pub fn split(&self, test: f64, seed: u64) -> Result<(Self, Self)> {
        self.split_with(&SplitOptions { test, seed, ..SplitOptions::default() })
    }

    /// As [`split`](Self::split), by groups or by classes too. Fails if one side would be empty, and on an unknown
    /// column.
    pub fn split_with(&self, options: &SplitOptions) -> Result<(Self, Self)> {
        options.ensure_valid(CALL)?;
        let columns: Vec<&str> = options.group.iter().chain(&options.stratify).map(String::as_str).collect();
        self.ensure_columns(&columns)?;
        let count = test_count(self.len(), options.test)?;
        let (train, test) = match (&options.group, &options.stratify) {
            (None, None) => halves(self.len(), count, options),
            (Some(column), _) => by_group(self, column, count, options.seed)?,
            (None, Some(column)) => stratified(self, column, count, options)?,
        };
        Ok((self.select(&train)?, self.select(&test)?))
    }
}

/// The indices of rows in a random order that `seed` determines.
pub(super) fn order(len: usize, seed: u64, purpose: &str, like: Like) -> Vec<usize> {
    match like {
        Like::Lorhai => Key::new(seed).named(purpose).permutation(len).into_iter().map(|row| row as usize).collect(),
        Like::Datasets => Generator::new(seed).permutation(len),
    }
}

/// How many rows `test` holds out.
fn test_count(len: usize, test: f64) -> Result<usize> {
    let count = if test < 1.0 { ((len as f64 * test).ceil() as usize).min(len) } else { test as usize };
    if count == 0 || count >= len {
        bail!(Kind::Input, "{CALL}: option `test`: {test} of {len} rows leave one side of the split empty"; hint: "give a fraction below 1, or fewer rows than there are");
    }
    Ok(count)
}

/// The indices of (train, test) among `len` rows, each in a random order that the seed determines.
pub(super) fn split_rows(len: usize, test: f64, seed: u64, like: Like) -> Result<Halves> {
    let options = SplitOptions { test, seed, like, ..SplitOptions::default() };
    options.ensure_valid(CALL)?;
    Ok(halves(len, test_count(len, test)?, &options))
}

fn halves(len: usize, count: usize, options: &SplitOptions) -> Halves {
    let mut test = order(len, options.seed, "split", options.like);
    let train = test.split_off(count);
    (train, test)
}

/// The rows grouped by their value in a column; groups in the order of their first row.
fn groups(data: &Dataset, column: &str) -> Result<Vec<(Value, Vec<usize>)>> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(Value, Vec<usize>)> = Vec::new();
    for (index, row) in data.iter().enumerate() {
        let row = row?;
        let value = row.get(column).unwrap_or(&Value::Null);
        let number = *numbers.entry(value.to_string()).or_insert(groups.len());
        match groups.get_mut(number) {
            Some((_, rows)) => rows.push(index),
            None => groups.push((value.clone(), vec![index])),
        }
    }
    Ok(groups)
}

fn by_group(data: &Dataset, column: &str, count: usize, seed: u64) -> Result<Halves> {
    let groups = groups(data, column)?;
    if groups.len() < 2 {
        bail!(
            Kind::Input,
            "{CALL}: option `group`: all {} rows have the same `{column}`: the data cannot be split by it",
            data.len()
        );
    }
    let key = Key::new(seed).named("split");
    let order: Vec<usize> = key.permutation(groups.len()).into_iter().map(|group| group as usize).collect();
    let sizes: Vec<usize> = order.iter().map(|&group| groups[group].1.len()).collect();
    let mut is_test = vec![false; data.len()];
    for index in nearest_sum(&sizes, count, data.len()) {
        groups[order[index]].1.iter().for_each(|&row| is_test[row] = true);
    }
    let rows = key.permutation(data.len()).into_iter().map(|row| row as usize);
    let (test, train) = rows.partition(|&row| is_test[row]);
    Ok((train, test))
}

/// An exact search that would take more steps than this is replaced by a greedy one.
const MAX_SEARCH: usize = 100_000_000;

/// The indices of sizes whose sum is as near to `wanted` as possible, but neither 0 nor `all`. Among equally good choices
/// the order of the sizes decides.
fn nearest_sum(sizes: &[usize], wanted: usize, all: usize) -> Vec<usize> {
    let mut sum = 0;
    let greedy: Vec<usize> = (0..sizes.len())
        .filter(|&index| {
            let fits = sum + sizes[index] <= wanted;
            sum += if fits { sizes[index] } else { 0 };
            fits
        })
        .collect();
    let max_sum = (2 * wanted).min(all - 1);
    if sum == wanted || (sum > 0 && sizes.len().saturating_mul(max_sum) > MAX_SEARCH) {
        return greedy;
    }
    let smallest = || (0..sizes.len()).min_by_key(|&index| sizes[index]).into_iter().collect();
    if sizes.len().saturating_mul(max_sum) > MAX_SEARCH {
        return smallest();
    }
    // For each sum, the last group of a choice that reaches it. A group is entered only after all sums without it, so
    // following the groups back uses none twice.
    let mut last: Vec<Option<usize>> = vec![None; max_sum + 1];
    for (index, &size) in sizes.iter().enumerate() {
        for sum in (size..=max_sum).rev() {
            if last[sum].is_none() && (sum == size || last[sum - size].is_some_and(|before| before < index)) {
                last[sum] = Some(index);
            }
        }
    }
    let reached = (1..=max_sum).filter(|&sum| last[sum].is_some());
    let Some(mut sum) = reached.min_by_key(|&sum| sum.abs_diff(wanted)) else { return smallest() };
    let mut indices = Vec::new();
    while let Some(index) = last.get(sum).copied().flatten() {
        indices.push(index);
        sum -= sizes[index];
    }
    indices
}

/// With more, numpy uses another algorithm.
const MAX_CLASSES: usize = 10_000;

fn stratified(data: &Dataset, column: &str, count: usize, options: &SplitOptions) -> Result<Halves> {
    let mut classes = groups(data, column)?;
    classes.sort_by(|left, right| compare_values(&left.0, &right.0));
    let (len, number) = (data.len(), classes.len());
    if let Some((value, _)) = classes.iter().find(|(_, rows)| rows.len() < 2) {
        return Err(Error::input(format!("{CALL}: option `stratify`: only one row has `{column}` {value}"))
            .with_hint("each class needs at least two rows: filter the others out, or split without `stratify`"));
    }
    if number > count.min(len - count) {
        return Err(Error::input(format!(
            "{CALL}: option `stratify`: `{column}` has {number} values, more than the {} rows of one side",
            count.min(len - count)
        ))
        .with_hint("stratify by a column with few values; `group` keeps rows with the same value on one side"));
    }
    if number > MAX_CLASSES {
        bail!(
            Kind::Input,
            "{CALL}: option `stratify`: expected up to {MAX_CLASSES} values, found {number} in `{column}`"
        );
    }
    let sizes: Vec<usize> = classes.iter().map(|(_, rows)| rows.len()).collect();
    let mut draws = match options.like {
        Like::Datasets => Draws::Numpy(Generator::new(options.seed)),
        Like::Lorhai => Draws::Key(Key::new(options.seed).named("stratified split"), 0),
    };
    let train_sizes = proportional(&sizes, len - count, &mut draws);
    let left: Vec<usize> = sizes.iter().zip(&train_sizes).map(|(size, train)| size - train).collect();
    let test_sizes = proportional(&left, count, &mut draws);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (class, (_, rows)) in classes.iter().enumerate() {
        let order = draws.permutation(rows.len());
        let (from, to) = (train_sizes[class], train_sizes[class] + test_sizes[class]);
        train.extend(order[..from].iter().map(|&row| rows[row]));
        test.extend(order[from..to].iter().map(|&row| rows[row]));
    }
    draws.shuffle(&mut train);
    draws.shuffle(&mut test);
    Ok((train, test))
}

/// The order of `numpy.unique`: numbers by size, texts by their characters.
fn compare_values(left: &Value, right: &Value) -> std::cmp::Ordering {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => left.cmp(right),
            _ => left.to_string().cmp(&right.to_string()),
        },
    }
}

/// Distributes `count` rows over classes in proportion to their sizes: rounded down, then the rest to the largest
/// remainders, at random among equal ones.
fn proportional(sizes: &[usize], count: usize, draws: &mut Draws) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let exact: Vec<f64> = sizes.iter().map(|&size| (count * size) as f64 / all as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|exact| exact.floor() as usize).collect();
    let remainders: Vec<f64> = exact.iter().map(|exact| exact - exact.floor()).collect();
    let mut values = remainders.clone();
    values.sort_by(|left, right| right.total_cmp(left));
    values.dedup();
    let mut left = count.saturating_sub(counts.iter().sum());
    for value in values {
        if left == 0 {
            break;
        }
        let equal: Vec<usize> = (0..sizes.len()).filter(|&class| remainders[class] == value).collect();
        let add = equal.len().min(left);
        draws.choice(equal.len(), add).into_iter().for_each(|at| counts[equal[at]] += 1);
        left -= add;
    }
    counts
}

/// A source of random permutations, one after the other.
enum Draws {
    Key(Key, u64),
    Numpy(Generator),
}

impl Draws {
    fn permutation(&mut self, len: usize) -> Vec<usize> {
        match self {
            Draws::Key(key, drawn) => {
                *drawn += 1;
                key.numbered(*drawn).permutation(len).into_iter().map(|index| index as usize).collect()
            }
            Draws::Numpy(generator) => generator.permutation(len),
        }
    }

    fn shuffle(&mut self, values: &mut [usize]) {
        match self {
            Draws::Key(..) => {
                let shuffled: Vec<usize> = self.permutation(values.len()).into_iter().map(|at| values[at]).collect();
                values.copy_from_slice(&shuffled);
            }
            Draws::Numpy(generator) => generator.shuffle(values),
        }
    }

    fn choice(&mut self, len: usize, size: usize) -> Vec<usize> {
        match self {
            Draws::Key(..) => self.permutation(len).into_iter().take(size).collect(),
            Draws::Numpy(generator) => generator.choice(len as u32, size as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_as_near_as_the_sizes_allow() {
        let best = |sizes: &[usize], wanted: usize| {
            let all: usize = sizes.iter().sum();
            let sums = (1..1_u32 << sizes.len()).map(|bits| {
                sizes.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, size)| size).sum::<usize>()
            });
            sums.filter(|&sum| sum < all).map(|sum| sum.abs_diff(wanted)).min().unwrap()
        };
        let key = Key::new(5);
        for case in 0..300 {
            let key = key.numbered(case);
            let sizes: Vec<usize> = (0..2 + key.below(0, 9)).map(|at| 1 + key.below(1 + at, 12) as usize).collect();
            let all: usize = sizes.iter().sum();
            let wanted = 1 + key.below(99, all as u64 - 1) as usize;
            let mut chosen = nearest_sum(&sizes, wanted, all);
            let sum: usize = chosen.iter().map(|&index| sizes[index]).sum();
            assert_eq!(sum.abs_diff(wanted), best(&sizes, wanted), "{sizes:?} to {wanted}: {chosen:?}");
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(sum, chosen.iter().map(|&index| sizes[index]).sum::<usize>(), "no group twice");
            assert!(sum > 0 && sum < all);
        }
    }
}
