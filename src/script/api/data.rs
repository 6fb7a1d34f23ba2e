//! Data sets: loading rows, looking at them, changing and splitting them. Their tokens are `tokens`'s.

use crate::data::read::locate_or_fetch;
use crate::data::{Dataset as Rows, LoadOptions, ShuffleOptions, SplitOptions};
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::budget;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::arguments::{elements, natural};
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::register_iterator;
use crate::script::values::json::{to_dynamic, to_map, to_row_value};
use crate::script::values::large_ints::register_large_comparisons;
use crate::script::values::objects::DatasetSplit;
use crate::script::values::options::Options;
use crate::{Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map};
use serde_json::Value;

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("load_dataset", LoadOptions::table),
    ("dataset.shuffle", ShuffleOptions::table),
    ("dataset.split", SplitOptions::table),
];

/// Loops over rows.
pub fn register_loops(module: &mut Module) {
    register_iterator(module, |rows: Rows| Ok((0..rows.len()).map(move |row| row_of(&rows, row as i64))));
    register_large_comparisons(module);
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
    /// Rows of more than 64 MiB of text are kept in a file on the disk of the cache folder and read from there
    /// as they are used, so data may be larger than memory.
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
    /// Among the options, `files` and `revision` are for a single name.
    ///
    /// ```rhai
    /// let names = ["scripts/tiny/train.jsonl", "scripts/tiny/train.jsonl"];
    /// print(load_dataset(names, #{ columns: ["instruction"] }).columns);
    /// ```
    #[rhai_fn(name = "load_dataset", return_raw, volatile)]
    pub fn load_files_with(context: NativeCallContext, names: Array, options: Map) -> RhaiResultOf<Dataset> {
        let names = elements::<String>("load_dataset", names)?;
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
            let changed = callback.call_for_map([to_dynamic(&known)])?;
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
        let kept = data.filter(|row, _| callback.call([Dynamic::from_map(to_map(row))]));
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
        Ok(data.select(&elements::<usize>("select", rows)?)?)
    }

    /// Only the named columns.
    ///
    /// ```rhai
    /// let data = dataset([#{ a: 1, b: 2 }]);
    /// print(data.select_columns(["b"]).columns);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn select_columns(data: &mut Dataset, names: Array) -> RhaiResultOf<Dataset> {
        let names = elements::<String>("select_columns", names)?;
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
        let names = elements::<String>("remove_columns", names)?;
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
    /// ```rhai
    /// let data = dataset([#{ n: 1 }, #{ n: 2 }, #{ n: 3 }]);
    /// print(data.shuffle(42, #{ like: "datasets" }).row(0));
    /// ```
    #[rhai_fn(name = "shuffle", global, pure, return_raw)]
    pub fn shuffle_like(data: &mut Dataset, seed: i64, options: Map) -> RhaiResultOf<Dataset> {
        let ShuffleOptions { like } = Options::read("shuffle", options)?;
        let seed = u64::try_from(seed)
            .map_err(|_| Error::input(format!("shuffle: expected a seed of at least 0, found {seed}")))?;
        Ok(data.shuffle_like(seed, like))
    }

    /// Split into `train` and `test`.
    ///
    /// ```rhai
    /// let data = load_dataset("scripts/tiny/train.jsonl").split(#{ test: 0.2, seed: 1 });
    /// print(data.train.len);
    /// let rows = [#{ prompt: "a", n: 1 }, #{ prompt: "b", n: 2 }, #{ prompt: "a", n: 3 }];
    /// print(dataset(rows).split(#{ test: 1, group: "prompt" }).test.row(0).prompt);
    /// ```
    #[rhai_fn(name = "split", global, pure, return_raw)]
    pub fn split_rows(data: &mut Dataset, options: Map) -> RhaiResultOf<DatasetSplit> {
        let (train, test) = data.split_with(&Options::read("split", options)?)?;
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
        // A list of handles of rows.
        budget::charge_data("concatenate", (data.len() + other.len()) as u128 * 16)?;
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
    #[rhai_fn(global, pure, return_raw)]
    pub fn describe(data: &mut Dataset) -> RhaiResultOf<String> {
        Ok(data.describe()?.to_string())
    }

    /// The first rows as a table for reading.
    ///
    /// ```rhai
    /// print(load_dataset("scripts/tiny/train.jsonl").preview(3));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn preview(data: &mut Dataset, count: i64) -> RhaiResultOf<String> {
        Ok(data.preview(natural("preview", count)?)?)
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
    let options: LoadOptions = Options::read("load_dataset", options)?;
    let names: Vec<String> = names.iter().map(|name| state.to_read(name)).collect();
    let splits = locate_or_fetch(&names, &options, &mut Downloads::new(state))?;
    splits.paths().iter().for_each(|path| state.note_read(path));
    let loaded = splits.read(&options)?;
    loaded.notes.iter().for_each(|note| state.note(&format!("note: {note}")));
    Ok(loaded.data)
}

fn row_of(data: &Rows, index: i64) -> Result<Dynamic> {
    let row = data.row_at(index)?;
    Ok(Dynamic::from_map(to_map(&row)))
}
