//! Data sets: loading rows, looking at them, changing and splitting them. Their tokens are `tokens`'s.

use crate::data::read::{locate, Format, Header, Quoting, Splits, TableOptions};
use crate::data::{Dataset as Rows, Like, LoadOptions, SplitOptions};
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::register_iterator;
use crate::script::values::json::{to_dynamic, to_row_value};
use crate::script::values::options::Options;
use crate::{hub, Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, FuncRegistration, Map};
use serde_json::Value;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Rows held out for testing, beside those to train on.
#[derive(Clone)]
pub struct DatasetSplit {
    pub train: Rows,
    pub test: Rows,
}

/// Loops over rows, and comparisons of the whole numbers in them that are beyond an int.
pub fn register_loops(module: &mut Module) {
    type Test = (&'static str, fn(Ordering) -> bool);
    // Without these, the engine takes values of two types for different, and neither for larger.
    let tests: [Test; 6] = [
        ("==", Ordering::is_eq),
        ("!=", Ordering::is_ne),
        ("<", Ordering::is_lt),
        ("<=", Ordering::is_le),
        (">", Ordering::is_gt),
        (">=", Ordering::is_ge),
    ];
    for (name, holds) in tests {
        let register = || FuncRegistration::new(name).in_global_namespace().with_purity(true).with_volatility(false);
        let compare = |left: i128, right: i128| left.cmp(&right);
        register().set_into_module(module, move |left: u64, right: i64| holds(compare(left.into(), right.into())));
        register().set_into_module(module, move |left: i64, right: u64| holds(compare(left.into(), right.into())));
    }
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
    /// Formats: jsonl (ndjson), json, csv, tsv, txt (one row per line, column `text`), parquet, arrow; by
    /// the extension. Text formats may be compressed (.gz, .bz2, .xz, .zst), a `*` in the name stands for
    /// several files, and a folder may be one that `save_to_disk` of datasets wrote. Of a folder or a data
    /// set with several splits the train split is loaded.
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
    /// Options: `format` ("jsonl", "json", "csv", "tsv", "txt", "parquet", "arrow"; by the extension),
    /// `split` ("train"; "validation", "test": of a folder or a data set of the hub with files for
    /// several; rows of one, as in "train[:10%]" or "train[100:200]", and several, as in
    /// "train+validation", with the rounding of datasets), `files` (which files of one, where it has
    /// several configurations: "ko/*.parquet", with `*` for any part of a name, `**` for folders too),
    /// `columns` (all that are not bytes; an array of those to read), `field` (the key of a JSON document
    /// under which its rows stand), `delimiter` ("," of csv, "\t" of tsv: one character), `quoting`
    /// ("minimal": quotes stand around fields, or "none": they are text; by what the file looks like),
    /// `header` (true: the first line; false: columns `0`, `1`, …; or an array of names for a file
    /// without that line), `revision` (of the hub).
    ///
    /// No value is changed in reading: times and decimals become the text that Python prints, whole
    /// numbers beyond 64 bits are refused, and a column that some rows lack is `()` in them.
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl", #{ format: "jsonl", split: "train[:50%]" });
    /// print(data.len);
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_dataset_with(context: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dataset> {
        Ok(load(&State::of(&context)?, &[name.to_owned()], options)?)
    }

    /// Load the rows of several files of one format, one after the other.
    ///
    /// ```rhai
    /// let data = load_dataset(["scripts/tiny/train.jsonl", "scripts/tiny/train.jsonl"]);
    /// print(data.len);
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_files(context: NativeCallContext, names: Array) -> RhaiResultOf<Dataset> {
        load_files_with(context, names, Map::new())
    }

    /// Load the rows of several files of one format, one after the other.
    ///
    /// Options: `format`, `split`, `columns`, `field`, `delimiter`, `quoting`, `header`, as of a single name.
    ///
    /// ```rhai
    /// let names = ["scripts/tiny/train.jsonl", "scripts/tiny/train.jsonl"];
    /// print(load_dataset(names, #{ columns: ["instruction"] }).columns);
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_files_with(context: NativeCallContext, names: Array, options: Map) -> RhaiResultOf<Dataset> {
        let names = texts("load_dataset", names)?;
        Ok(load(&State::of(&context)?, &names, options)?)
    }

    /// A data set from an array of maps.
    ///
    /// ```rhai
    /// let data = dataset([#{ text: "one" }, #{ text: "two" }]);
    /// print(data.columns);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn dataset(rows: Array) -> RhaiResultOf<Dataset> {
        let rows = rows.iter().enumerate().map(|(at, row)| match to_row_value(row, &Value::Null) {
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
            match to_row_value(&changed.into(), &known)? {
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

    /// The rows in a random order that the seed fixes.
    ///
    /// Options: `like` ("lorhai"; "datasets" for the order that `shuffle(seed)` of datasets gives).
    ///
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }, #{ n: 3 }]);
    /// print(data.shuffle(42, #{ like: "datasets" }).row(0));
    /// ```
    #[rhai_fn(name = "shuffle", global, pure, return_raw)]
    pub fn shuffle_like(data: &mut Dataset, seed: i64, options: Map) -> RhaiResultOf<Dataset> {
        let mut options = Options::new("shuffle", options);
        let like = options.take_choice("like", &Like::NAMES, Like::default())?;
        options.finish()?;
        let seed = u64::try_from(seed)
            .map_err(|_| Error::input(format!("shuffle: expected a seed of at least 0, found {seed}")))?;
        Ok(data.shuffle_like(seed, like))
    }

    /// Split into `train` and `test`.
    ///
    /// Options: `test` (0.1; below 1 a share of the rows, from 1 on a number of rows), `seed` (0),
    /// `group` (a column: rows with the same value of it stay on one side, so that no prompt is
    /// tested that was trained on; sizes are as near as the groups allow), `stratify` (a column:
    /// both sides have the same share of each of its values), `like` ("lorhai"; "datasets" for the rows
    /// that `train_test_split(test_size, seed)` of datasets chooses).
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl").split(#{ test: 0.2, seed: 1 });
    /// print(data.train.len);
    /// let rows = [#{ prompt: "a", n: 1 }, #{ prompt: "b", n: 2 }, #{ prompt: "a", n: 3 }];
    /// print(dataset(rows).split(#{ test: 1, group: "prompt" }).test.row(0).prompt);
    /// ```
    #[rhai_fn(name = "split", global, pure, return_raw)]
    pub fn split_rows(data: &mut Dataset, options: Map) -> RhaiResultOf<DatasetSplit> {
        let mut options = Options::new("split", options);
        let (test, seed, like) = split_options(&mut options)?;
        let group = options.take_opt("group")?;
        let stratify = options.take_opt("stratify")?;
        options.finish()?;
        let (train, test) = data.split_with(&SplitOptions { test, seed, like, group, stratify })?;
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

/// The rows of files, of a folder, or of a data set of the hub.
fn load(state: &State, names: &[String], options: Map) -> Result<Rows> {
    let mut options = Options::new("load_dataset", options);
    let revision: Option<String> = options.take_opt("revision")?;
    let load = load_options(&mut options)?;
    options.finish()?;
    let paths: Vec<PathBuf> = names.iter().map(|name| PathBuf::from(state.to_read(name))).collect();
    let splits = match (names, &paths[..]) {
        ([name], [path]) if !path.exists() && !name.contains(['*', '?', '[']) => {
            from_hub(name, revision, &load, state)?
        }
        ([], _) => return Err(Error::input("load_dataset: expected the names of files, found an empty array")),
        (_, [path, ..]) if revision.is_some() => return Err(local_revision(path)),
        _ => locate(&paths, &load)?,
    };
    splits.paths().iter().for_each(|path| state.note_read(path));
    let loaded = splits.read(&load)?;
    loaded.notes.iter().for_each(|note| state.note(&format!("note: {note}")));
    Ok(loaded.data)
}

fn load_options(options: &mut Options) -> Result<LoadOptions> {
    let format: Option<String> = options.take_opt("format")?;
    let delimiter: Option<String> = options.take_opt("delimiter")?;
    let delimiter = match delimiter.as_deref().map(str::as_bytes) {
        None => None,
        Some([byte]) => Some(*byte),
        Some(_) => {
            let found = format!("{:?}", delimiter.unwrap_or_default());
            return Err(options.wrong("delimiter", "one ASCII character", &found));
        }
    };
    let header = match options.take_any("header") {
        None => Header::default(),
        Some(value) => match (value.as_bool(), value.is_array()) {
            (Ok(true), _) => Header::FirstLine,
            (Ok(false), _) => Header::None,
            (_, true) => Header::Names(texts("load_dataset", value.into_array().unwrap_or_default())?),
            _ => return Err(options.mistyped("header", "bool or array of string", &value)),
        },
    };
    let quoting = Quoting::NAMES.map(|(name, quoting)| (name, Some(quoting)));
    Ok(LoadOptions {
        format: format.map(|name| Format::named(&name)).transpose()?,
        split: options.take_opt("split")?,
        files: options.take_opt("files")?,
        columns: options.take_opt("columns")?,
        field: options.take_opt("field")?,
        table: TableOptions { delimiter, quoting: options.take_choice("quoting", &quoting, None)?, header },
    })
}

/// What is read of a data set of the hub; train unless another split is asked for.
fn from_hub(name: &str, revision: Option<String>, load: &LoadOptions, state: &State) -> Result<Splits> {
    let named = revision.map_or(name.to_owned(), |revision| format!("{name}@{revision}"));
    // Of a repository with several formats the one that is asked for.
    let by_format = load.format.map(|format| format!("**.{}{{,.gz,.bz2,.xz,.zst,.zstd}}", format.extension()));
    let files = load.files.as_deref().or(by_format.as_deref());
    let found = hub::resolve_dataset(&named, files, &hub::Hub::from_env()?, &mut Downloads::new(state))?;
    Splits::choose(&found.splits, load.split.as_deref(), &format!("the data set `{name}`"))
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

/// The options that every split has.
pub(super) fn split_options(options: &mut Options) -> Result<(f64, u64, Like)> {
    let (test, seed) = (options.take("test", 0.1)?, options.take("seed", 0_u64)?);
    Ok((test, seed, options.take_choice("like", &Like::NAMES, Like::default())?))
}
