//! The bases and the rows of a sweep: arguments of the call, axes of the grid, or the option `data`.

use crate::error::{Error, Result};
use crate::lora;
use crate::options::{Mismatch, OptionType, Value};
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, to_dynamic, to_value};
use crate::script::values::grid::NamedValues;
use crate::script::values::handles::Handle;
use crate::script::values::objects::TokenizedSplit;
use crate::sweep::grid::{BASE, DATA};
use crate::sweep::{Point, TrialInputs};
use rhai::{Dynamic, FnPtr, Map, NativeCallContext};
use std::collections::BTreeMap;

/// The option `data`.
#[derive(Clone)]
pub enum RowsOption {
    Split(TokenizedSplit),
    /// Makes the rows of a base, and of a value of the axis `data`.
    Function(FnPtr),
}

impl std::fmt::Debug for RowsOption {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            RowsOption::Split(_) => "rows",
            RowsOption::Function(_) => "a function that makes rows",
        })
    }
}

impl OptionType for RowsOption {
    fn type_name() -> String {
        "split or function".to_owned()
    }
    fn expected() -> String {
        "tokenized rows and held-out ones, or a function |p| that makes them".to_owned()
    }
    fn from_value(value: &Value) -> std::result::Result<Self, Mismatch> {
        let dynamic = to_dynamic(value);
        if let Some(function) = dynamic.clone().try_cast::<FnPtr>() {
            return Ok(RowsOption::Function(function));
        }
        let split = dynamic.try_cast::<TokenizedSplit>().map(RowsOption::Split);
        split.ok_or_else(|| Mismatch::of::<Self>(value).with_hint(FUNCTION))
    }
    fn to_value(&self) -> Value {
        match self {
            RowsOption::Split(split) => to_value(&Dynamic::from(split.clone())),
            RowsOption::Function(function) => to_value(&Dynamic::from(function.clone())),
        }
    }
}

const FUNCTION: &str = "as in data: |p| rows.tokenize(p.base, #{ … }).split(#{ test: 0.1 })";

/// What the call names beside the grid.
#[derive(Clone, Copy, Default)]
pub struct SweepArguments<'a> {
    pub base: Option<&'a Handle<lora::Model>>,
    pub data: Option<&'a TokenizedSplit>,
    pub rows: Option<&'a RowsOption>,
}

/// The base and the rows of every point.
pub struct SweepInputs {
    /// With their names, where the base is an axis.
    bases: Vec<(Option<String>, lora::Model)>,
    splits: Vec<TokenizedSplit>,
    /// The numbers of base and split, in the order of the points.
    of_points: Vec<(usize, usize)>,
    /// Do functions of the point find the rows in it?
    is_data_of_points: bool,
}

impl SweepInputs {
    /// Calls the function that makes rows, once for each base and each value of the axis `data`.
    ///
    /// # Errors
    /// No base or no rows, or two of them; values of other types; rows whose ids mean other tokens to the base.
    pub fn resolve(
        points: &[Point],
        named: &NamedValues,
        arguments: SweepArguments,
        context: &NativeCallContext,
    ) -> RhaiResultOf<Self> {
        let bases = bases(named, arguments.base)?;
        let source = RowsSource::of(named, arguments)?;
        let callback = match source {
            RowsSource::Function(function) => Some(
                Callback::new(context, function.clone())
                    .with_arity_hint("data takes the base and the value of the axis `data`, as one map: |p| …"),
            ),
            _ => None,
        };
        let is_data_of_points = !matches!(source, RowsSource::Argument(_));
        let mut inputs = SweepInputs { bases, splits: Vec::new(), of_points: Vec::new(), is_data_of_points };
        let mut known: BTreeMap<(usize, Option<String>), usize> = BTreeMap::new();
        for point in points {
            let name = |axis: &str| point.get(axis).and_then(serde_json::Value::as_str).map(str::to_owned);
            let base_name = name(BASE);
            let base = inputs.bases.iter().position(|(known, _)| *known == base_name);
            let base = base.ok_or_else(|| Error::bug("a point without a base"))?;
            let key = (base, name(DATA));
            if let Some(&split) = known.get(&key) {
                inputs.of_points.push((base, split));
                continue;
            }
            let split = match (&source, &callback) {
                (RowsSource::Argument(split) | RowsSource::Option(split), _) => (*split).clone(),
                (RowsSource::Axis(splits), _) => named_split(splits, key.1.as_deref())?,
                (RowsSource::Function(_), Some(callback)) => {
                    let values = values_for_rows(named, point, arguments.base);
                    let split =
                        callback.call_for_object::<TokenizedSplit>("tokenized rows and held-out ones", [values]);
                    callback.settle(split.map_err(|error| error.context("data")))?
                }
                (RowsSource::Function(_), None) => return Err(Error::bug("a function that is not called").into()),
            };
            if is_data_of_points || base_name.is_some() {
                ensure_tokens_of(&inputs.bases[base], &split)?;
            }
            known.insert(key, inputs.splits.len());
            inputs.of_points.push((base, inputs.splits.len()));
            inputs.splits.push(split);
        }
        Ok(inputs)
    }

    /// For each point, in their order.
    pub fn of_trials(&self) -> Vec<TrialInputs<'_>> {
        let inputs = |&(base, split): &(usize, usize)| {
            let TokenizedSplit { train, test } = &self.splits[split];
            TrialInputs { base: &self.bases[base].1, train: &train.rows, test: &test.rows }
        };
        self.of_points.iter().map(inputs).collect()
    }

    /// The base of the point with this number.
    pub fn base(&self, point: usize) -> Result<&lora::Model> {
        let base = self.of_points.get(point).and_then(|&(base, _)| self.bases.get(base));
        base.map(|(_, base)| base).ok_or_else(|| Error::bug("a point without a base"))
    }

    /// What functions get as the point with this number: values with names themselves, and the rows under `data`.
    pub fn values_at(&self, named: &NamedValues, number: usize, point: &Point) -> Map {
        let mut values = named.values_at(point);
        let split = self.of_points.get(number).and_then(|&(_, split)| self.splits.get(split));
        if let Some(split) = split.filter(|_| self.is_data_of_points) {
            values.insert(DATA.into(), Dynamic::from(split.clone()));
        }
        values
    }

    /// The only base, where it is no axis.
    pub fn single_base(&self) -> Option<&lora::Model> {
        self.bases.first().filter(|(name, _)| name.is_none()).map(|(_, base)| base)
    }

    pub fn bases(&self) -> impl Iterator<Item = (&str, &lora::Model)> {
        self.bases.iter().map(|(name, base)| (name.as_deref().unwrap_or_default(), base))
    }
}

/// Where the rows come from.
enum RowsSource<'a> {
    Argument(&'a TokenizedSplit),
    Option(&'a TokenizedSplit),
    Axis(&'a Map),
    Function(&'a FnPtr),
}

impl<'a> RowsSource<'a> {
    fn of(named: &'a NamedValues, SweepArguments { base, data, rows }: SweepArguments<'a>) -> Result<Self> {
        let twice = |one: &str, other: &str, hint: &str| {
            Err(Error::input(format!("sweep: `data` is {one} and {other}")).with_hint(hint))
        };
        let before_options = if base.is_some() { "base, " } else { "" };
        match (data, rows, named.of(DATA)) {
            (Some(_), _, Some(_)) => twice(
                "an argument",
                "an axis of the grid",
                &format!("write sweep({before_options}#{{ grid: #{{ data: … }}, … }})"),
            ),
            (Some(_), Some(_), None) => twice("an argument", "an option", "leave one of them out"),
            (None, Some(RowsOption::Split(_)), Some(_)) => twice(
                "an option",
                "an axis of the grid",
                "a function makes rows of each value: data: |p| p.data.tokenize(p.base, #{ … }).split(#{ test: 0.1 })",
            ),
            (Some(split), None, None) => Ok(RowsSource::Argument(split)),
            (None, Some(RowsOption::Split(split)), None) => Ok(RowsSource::Option(split)),
            (None, Some(RowsOption::Function(function)), _) => Ok(RowsSource::Function(function)),
            (None, None, Some(splits)) => Ok(RowsSource::Axis(splits)),
            (None, None, None) => {
                let error = Error::input("sweep: expected data, as an argument, an option or an axis of the grid");
                Err(error
                    .with_hint("sweep(base, data, #{ … }), data: |p| …, or grid: #{ data: #{ small: d1, all: d2 } }"))
            }
        }
    }
}

/// The bases by their names on the axis, or the argument.
fn bases(named: &NamedValues, argument: Option<&Handle<lora::Model>>) -> Result<Vec<(Option<String>, lora::Model)>> {
    match (argument, named.of(BASE)) {
        (Some(_), Some(_)) => Err(Error::input("sweep: the base is an argument and an axis of the grid")
            .with_hint("write sweep(#{ grid: #{ base: … }, data: …, … })")),
        // The functions of the script may use the model itself.
        (Some(model), None) => Ok(vec![(None, model.read()?.shallow_clone()?)]),
        (None, Some(models)) => models.iter().map(|(name, model)| named_base(name, model)).collect(),
        (None, None) => Err(Error::input("sweep: expected a base model, as an argument or as an axis of the grid")
            .with_hint("sweep(base, data, #{ … }), or grid: #{ base: #{ small: m1, large: m2 } }")),
    }
}

fn named_base(name: &str, model: &Dynamic) -> Result<(Option<String>, lora::Model)> {
    let Some(model) = model.clone().try_cast::<Handle<lora::Model>>() else {
        let description = describe(model);
        return Err(Error::input(format!("grid: {BASE}: `{name}`: expected a model, found {description}"))
            .with_hint("load it first: base: #{ small: load_model(\"…\"), … }"));
    };
    let model = model.read()?.shallow_clone().map_err(|error| error.context(format!("grid: {BASE}: `{name}`")))?;
    Ok((Some(name.to_owned()), model))
}

fn named_split(splits: &Map, name: Option<&str>) -> Result<TokenizedSplit> {
    let name = name.ok_or_else(|| Error::bug("a point without rows"))?;
    let value = splits.get(name).cloned().unwrap_or(Dynamic::UNIT);
    value.try_cast_result::<TokenizedSplit>().map_err(|other| {
        let description = describe(&other);
        let text = format!("grid: {DATA}: `{name}`: expected tokenized rows and held-out ones, found {description}");
        Error::input(text).with_hint(
            "split tokenized data, as in data.split(#{ test: 0.1 }), or have the option `data` make rows of each value: |p| …",
        )
    })
}

/// What the function that makes rows may look at: nothing else can change the rows.
fn values_for_rows(named: &NamedValues, point: &Point, base: Option<&Handle<lora::Model>>) -> Dynamic {
    let mut values = named.values_at(point);
    values.retain(|axis, _| [BASE, DATA].contains(&axis.as_str()));
    if let Some(base) = base {
        values.insert(BASE.into(), Dynamic::from(base.clone()));
    }
    Dynamic::from_map(values)
}

/// Fails for rows of a tokenizer whose ids stand for other tokens.
fn ensure_tokens_of((name, base): &(Option<String>, lora::Model), split: &TokenizedSplit) -> Result<()> {
    let Ok(tokenizer) = base.tokenizer() else { return Ok(()) };
    let halves = [&split.train, &split.test];
    if halves.iter().all(|half| half.tokenizer.has_vocabulary_of(tokenizer)) {
        return Ok(());
    }
    let base = name.as_deref().unwrap_or(&base.name);
    Err(Error::input(format!(
        "sweep: base `{base}`: expected rows in the tokens of its tokenizer, found those of another"
    ))
    .with_hint("make rows for each base: data: |p| rows.tokenize(p.base, #{ … }).split(#{ test: 0.1 })"))
}
