//! Data sets: loading rows, looking at them, changing and splitting them. Their tokens are `tokens`'s.

use crate::data::read::Format;
use crate::data::{Dataset as Rows, LoadOptions};
use crate::script::callback::Callback;
use crate::script::convert::RhaiResultOf;
use crate::script::downloads::Downloads;
use crate::script::handles::register_iterator;
use crate::script::json::{to_dynamic, to_json, to_json_ordered};
use crate::script::options::Options;
use crate::script::state::State;
use crate::{hub, Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Rows held out for testing, beside those to train on.
#[derive(Clone)]
pub struct DatasetSplit {
    pub train: Rows,
    pub test: Rows,
}

/// Loops over rows.
pub fn register_loops(module: &mut Module) {
    register_iterator(module, |rows: Rows| Ok((0..rows.len()).map(move |row| row_of(&rows, row as i64))));
}

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Rows of named columns.
    pub type Dataset = crate::data::Dataset;

    /// Load rows from a file, a folder, or a data set of the hub.
    ///
    /// Formats: jsonl (ndjson), json, csv, tsv, txt (one row per line, column `text`), parquet; by the
    /// extension. Of a folder or a data set with several splits the train split is loaded.
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl");
    /// print(data.len);
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_dataset(context: NativeCallContext, name: &str) -> RhaiResultOf<Dataset> {
        load_dataset_with(context, name, Map::new())
    }

    /// Load rows from a file, a folder, or a data set of the hub.
    ///
    /// Options: `format` ("jsonl", "json", "csv", "tsv", "txt", "parquet"; by the extension),
    /// `split` ("train"; "validation", "test": of a folder or a data set of the hub with files for
    /// several), `files` (which files of one, where it has several configurations: "ko/*.parquet",
    /// with `*` for any part of a name, `**` for folders too), `revision` (of the hub).
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl", #{ format: "jsonl" });
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_dataset_with(context: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dataset> {
        let mut options = Options::new("load_dataset", options);
        let format: Option<String> = options.take_opt("format")?;
        let split: Option<String> = options.take_opt("split")?;
        let revision: Option<String> = options.take_opt("revision")?;
        let files: Option<String> = options.take_opt("files")?;
        options.finish()?;
        let format = format.map(|name| Format::named(&name)).transpose()?;
        let load = LoadOptions { format, split, files };
        let state = State::of(&context)?;
        let path = PathBuf::from(state.to_read(name));
        let paths = match (path.exists(), &revision) {
            (false, _) => from_hub(name, revision, &load, &state)?,
            (true, None) => Rows::files(&path, &load)?,
            (true, Some(_)) => return Err(local_revision(&path).into()),
        };
        paths.iter().for_each(|path| state.note_read(path));
        Ok(Rows::load_files(&paths, load.format)?)
    }

    /// A data set from an array of maps.
    ///
    /// ```rhai
    /// let data = dataset([#{ text: "one" }, #{ text: "two" }]);
    /// print(data.columns);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn dataset(rows: Array) -> RhaiResultOf<Dataset> {
        let rows = rows.iter().enumerate().map(|(at, row)| match to_json(row) {
            Ok(Value::Object(row)) => Ok(row),
            Ok(other) => Err(Error::data(format!("dataset: row {at}: expected a map, found {other}"))
                .with_hint("a row is a map of columns, as in #{ text: \"…\" }")),
            Err(error) => Err(error.context(format!("dataset: row {at}"))),
        });
        Ok(Rows::from_rows(rows.collect::<Result<Vec<_>>>()?))
    }

    /// The number of rows.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").len);
    /// ```
    #[rhai_fn(get = "len", global, pure)]
    pub fn len(data: &mut Dataset) -> i64 {
        data.len() as i64
    }

    /// The names of the columns.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").columns);
    /// ```
    #[rhai_fn(get = "columns", global, pure)]
    pub fn columns(data: &mut Dataset) -> Array {
        data.columns().into_iter().map(Dynamic::from).collect()
    }

    /// One row as a map; negative numbers count from the end.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").row(0));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn row(data: &mut Dataset, index: i64) -> RhaiResultOf<Dynamic> {
        Ok(row_of(data, index)?)
    }

    /// A new data set of what the function makes of each row.
    ///
    /// The map that it gives is the whole new row: unlike in `datasets`, other columns are left out.
    /// To keep them, change the row and give it back.
    ///
    /// ```rhai
    /// let data = dataset([#{ q: "2+2", a: "4" }]);
    /// let pairs = data.map(|row| #{ prompt: row.q, completion: row.a });
    /// let longer = data.map(|row| { row.length = row.q.len; row });
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn map(context: NativeCallContext, data: &mut Dataset, change: FnPtr) -> RhaiResultOf<Dataset> {
        let callback = Callback::new(&context, change);
        let mapped = data.map(|row, _| {
            let known = Value::Object(row);
            let changed: Map = callback.call([to_dynamic(&known)])?;
            match to_json_ordered(&changed.into(), &known)? {
                Value::Object(row) => Ok(row),
                other => Err(Error::bug(format!("a map became {other}"))),
            }
        });
        callback.settle(mapped)
    }

    /// The rows for which the function gives true.
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }]);
    /// print(data.filter(|row| row.n > 1).len);
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn filter(context: NativeCallContext, data: &mut Dataset, keep: FnPtr) -> RhaiResultOf<Dataset> {
        let callback = Callback::new(&context, keep);
        let kept = data.filter(|row, _| callback.call([to_dynamic(&Value::Object(row.clone()))]));
        callback.settle(kept)
    }

    /// The rows with the given numbers, in that order.
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }, #{ n: 3 }]);
    /// print(data.select([2, 0]).row(0).n);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn select(data: &mut Dataset, rows: Array) -> RhaiResultOf<Dataset> {
        let mut options = Options::new("select", Map::from([("rows".into(), rows.into())]));
        Ok(data.select(&options.take_required::<Vec<usize>>("rows")?)?)
    }

    /// Only the named columns.
    ///
    /// ```rhai
    /// let data = dataset([#{ a: 1, b: 2 }]);
    /// print(data.select_columns(["b"]).columns);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn select_columns(data: &mut Dataset, names: Array) -> RhaiResultOf<Dataset> {
        let names = texts("select_columns", names)?;
        Ok(data.select_columns(&names.iter().map(String::as_str).collect::<Vec<_>>())?)
    }

    /// All columns but the named ones.
    ///
    /// ```rhai
    /// let data = dataset([#{ a: 1, b: 2 }]);
    /// print(data.remove_columns(["b"]).columns);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn remove_columns(data: &mut Dataset, names: Array) -> RhaiResultOf<Dataset> {
        let names = texts("remove_columns", names)?;
        Ok(data.remove_columns(&names.iter().map(String::as_str).collect::<Vec<_>>())?)
    }

    /// Give a column another name.
    ///
    /// ```rhai
    /// let data = dataset([#{ question: "?" }]);
    /// print(data.rename("question", "prompt").columns);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn rename(data: &mut Dataset, old: &str, new: &str) -> RhaiResultOf<Dataset> {
        Ok(data.rename(old, new)?)
    }

    /// The rows in a random order that the seed fixes.
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }, #{ n: 3 }]);
    /// print(data.shuffle(0).row(0));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn shuffle(data: &mut Dataset, seed: i64) -> RhaiResultOf<Dataset> {
        Ok(data.shuffle(seed as u64))
    }

    /// Split into `train` and `test`.
    ///
    /// Options: `test` (0.1; below 1 a share of the rows, from 1 on a number of rows), `seed` (0).
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl").split(#{ test: 0.2, seed: 1 });
    /// print(data.train.len);
    /// ```
    #[rhai_fn(name = "split", global, pure, return_raw)]
    pub fn split_rows(data: &mut Dataset, options: Map) -> RhaiResultOf<DatasetSplit> {
        let (test, seed) = split_options(options)?;
        let (train, test) = data.split(test, seed)?;
        Ok(DatasetSplit { train, test })
    }

    /// The rows of one data set, then those of another with the same columns.
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }]).concatenate(dataset([#{ n: 2 }]));
    /// print(data.len);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn concatenate(data: &mut Dataset, other: Dataset) -> RhaiResultOf<Dataset> {
        Ok(data.concatenate(&other)?)
    }

    /// The first rows.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").take(2).len);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn take(data: &mut Dataset, count: i64) -> RhaiResultOf<Dataset> {
        Ok(data.take(natural("take", count)?))
    }

    /// All but the first rows.
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }]);
    /// print(data.skip(1).row(0).n);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn skip(data: &mut Dataset, count: i64) -> RhaiResultOf<Dataset> {
        Ok(data.skip(natural("skip", count)?))
    }

    /// A table of the columns: type, missing values, smallest, mean and largest.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").describe());
    /// ```
    #[rhai_fn(global, pure)]
    pub fn describe(data: &mut Dataset) -> String {
        data.describe().to_string()
    }

    /// The first rows as a table for reading.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").preview(3));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn preview(data: &mut Dataset, count: i64) -> RhaiResultOf<String> {
        Ok(data.preview(natural("preview", count)?))
    }

    /// The rows to train on.
    ///
    /// ```rhai
    /// let halves = dataset([#{ n: 1 }, #{ n: 2 }]).split(#{ test: 1 });
    /// print(halves.train.len);
    /// ```
    #[rhai_fn(get = "train", global, pure)]
    pub fn train_rows(split: &mut DatasetSplit) -> Dataset {
        split.train.clone()
    }

    /// The rows held out.
    ///
    /// ```rhai
    /// let halves = dataset([#{ n: 1 }, #{ n: 2 }]).split(#{ test: 1 });
    /// print(halves.test.len);
    /// ```
    #[rhai_fn(get = "test", global, pure)]
    pub fn test_rows(split: &mut DatasetSplit) -> Dataset {
        split.test.clone()
    }
}

/// The files of one split of a data set of the hub; train unless another is asked for.
fn from_hub(name: &str, revision: Option<String>, load: &LoadOptions, state: &State) -> Result<Vec<PathBuf>> {
    let named = revision.map_or(name.to_owned(), |revision| format!("{name}@{revision}"));
    // Of a repository with several formats the one that is asked for.
    let by_format = load.format.map(|format| format!("**.{}", format.ending()));
    let files = load.files.as_deref().or(by_format.as_deref());
    let found = hub::resolve_dataset(&named, files, &hub::Hub::from_env()?, &mut Downloads::new(state))?;
    let split = load.split.as_deref().unwrap_or("train");
    match found.splits.get(hub::dataset::split_named(split).unwrap_or(split)) {
        Some(paths) => Ok(paths.clone()),
        None => Err(Error::input(format!("the data set `{name}` has no split `{split}`"))
            .with_hint(crate::suggest::hint(split, found.splits.keys().map(String::as_str)))),
    }
}

fn local_revision(path: &Path) -> Error {
    Error::input(format!("option `revision`: expected a name of the hub, found the path `{}`", path.display()))
        .with_hint("leave it out: what lies on this machine has no revisions")
}

fn row_of(data: &Rows, index: i64) -> Result<Dynamic> {
    let count = data.len() as i64;
    let at = if index < 0 { index + count } else { index };
    match usize::try_from(at).ok().and_then(|at| data.row(at)) {
        Some(row) => Ok(to_dynamic(&Value::Object(row.clone()))),
        None if count == 0 => Err(Error::input(format!("row: there is no row {index}: the data set is empty"))),
        None => Err(Error::input(format!("row: expected a number from {} to {}, found {index}", -count, count - 1))),
    }
}

pub(super) fn natural(function: &str, number: i64) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::input(format!("{function}: expected a number of at least 0, found {number}")))
}

fn texts(function: &str, values: Array) -> Result<Vec<String>> {
    Options::new(function, Map::from([("names".into(), values.into())])).take_required("names")
}

pub(super) fn split_options(options: Map) -> Result<(f64, u64)> {
    let mut options = Options::new("split", options);
    let split = (options.take("test", 0.1)?, options.take("seed", 0_u64)?);
    options.finish()?;
    Ok(split)
}
