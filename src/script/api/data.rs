//! Data sets: rows, their tokens, and batches.

use crate::data::read::Format;
use crate::data::{self, audit, AssistantSpan, LoadOptions, LossOn, TokenizeOptions, Truncation};
use crate::data::{Dataset as Rows, TokenizedDataset};
use crate::hub::tokenizer::Tokenizer;
use crate::script::callback::Callback;
use crate::script::convert::RhaiResultOf;
use crate::script::downloads::Downloads;
use crate::script::handles::{register_iterator, Handle};
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

/// Token ids and labels, with the tokenizer that can show them.
#[derive(Clone)]
pub struct Tokenized {
    pub rows: TokenizedDataset,
    pub tokenizer: Tokenizer,
}

/// Tokenized rows held out for testing, beside those to train on.
#[derive(Clone)]
pub struct TokenizedSplit {
    pub train: Tokenized,
    pub test: Tokenized,
}

/// Row numbers of the batches of one epoch.
#[derive(Clone)]
pub struct Batches {
    data: TokenizedDataset,
    order: Vec<u32>,
    size: usize,
    drop_last: bool,
}

/// Loops over the batches of a [`Batches`].
pub fn register_loops(module: &mut Module) {
    register_iterator(module, |batches: Batches| {
        let size = batches.size;
        let whole = if batches.drop_last { batches.order.len() / size * size } else { batches.order.len() };
        let rows: Vec<Vec<u32>> = batches.order[..whole].chunks(size).map(<[u32]>::to_vec).collect();
        Ok(rows.into_iter().map(move |rows| Ok(Dynamic::from(Handle::new(batches.data.batch(&rows)?)))))
    });
    register_iterator(module, |rows: Rows| Ok((0..rows.len()).map(move |row| row_of(&rows, row as i64))));
}

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Rows of named columns.
    pub type Dataset = crate::data::Dataset;
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// Ids and labels that go through the model together.
    pub type Batch = Handle<crate::data::Batch>;

    /// Load rows from a file, a folder, or a data set of the hub.
    ///
    /// Formats: jsonl, json, csv, tsv, txt (one row per line, column `text`), parquet; by the
    /// extension.
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
    /// `split` (of a folder with files for several: "train", "test"), `files` (which files of a
    /// data set of the hub, as "ko/*.parquet"), `revision` (of the hub).
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
        let load = LoadOptions { format, split };
        let state = State::of(&context)?;
        let path = state.input(Path::new(name));
        let paths = match path.exists() {
            true => Rows::files(&path, &load)?,
            false => from_hub(name, revision, files, &load, &state)?,
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
            Ok(other) => Err(Error::data(format!("dataset: row {at}: expected a map, found {other}"))),
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
    /// ```rhai
    /// let data = dataset([#{ q: "2+2", a: "4" }]);
    /// let data = data.map(|row| #{ prompt: row.q, completion: row.a });
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

    /// Turn rows into token ids and labels with the model's tokenizer and chat template.
    ///
    /// Recognised columns: `messages`; `prompt` and `completion`; `text`; `instruction`,
    /// `input` and `output`. Options: `max_length` (1024; 0 for no limit), `loss_on`
    /// ("assistant", "completion" or "everything"; by the shape of the rows), `assistant_span`
    /// ("generated": what the model has to write; "turn": with the white space around it, as
    /// TRL's training template marks it), `packing` (false), `truncation` ("keep_start",
    /// "keep_end"), `append_eos` (true), `drop_unlabelled` (false), `text_column` ("text"),
    /// `chat_template` (the tokenizer's own), `template_variables` (#{}), `audit` (true),
    /// `cache` (true).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = load_dataset("scripts/tiny/train.jsonl")
    ///     .map(|row| #{ messages: [ #{ role: "user", content: row.instruction }, #{ role: "assistant", content: row.output } ] })
    ///     .tokenize(model, #{ max_length: 128, loss_on: "assistant" });
    /// print(data.show(0));
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn tokenize(
        context: NativeCallContext,
        data: &mut Dataset,
        model: Model,
        options: Map,
    ) -> RhaiResultOf<Tokenized> {
        let options = tokenize_options(options)?;
        let model = model.read()?;
        let tokenizer = model.tokenizer()?;
        let rows = data::tokenize(data, tokenizer, &options)?;
        let state = State::of(&context)?;
        for finding in audit::audit(&rows, tokenizer) {
            state.note(&finding.to_string());
        }
        Ok(Tokenized { rows, tokenizer: tokenizer.clone() })
    }

    /// The number of rows.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.len);
    /// ```
    #[rhai_fn(get = "len", global, pure)]
    pub fn tokenized_len(data: &mut Tokenized) -> i64 {
        data.rows.len() as i64
    }

    /// The number of tokens, padding left out.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.tokens);
    /// ```
    #[rhai_fn(get = "tokens", global, pure)]
    pub fn tokens(data: &mut Tokenized) -> i64 {
        data.rows.token_count() as i64
    }

    /// The number of tokens that a loss is taken at.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.labels);
    /// ```
    #[rhai_fn(get = "labels", global, pure)]
    pub fn labels(data: &mut Tokenized) -> i64 {
        data.rows.label_count() as i64
    }

    /// One row as tokens, with those marked that a loss is taken at.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// print(data.show(0));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn show(data: &mut Tokenized, row: i64) -> RhaiResultOf<String> {
        let index = natural("show", row)?;
        if index >= data.rows.len() {
            return Err(Error::input(format!("show: expected a row below {}, found {row}", data.rows.len())).into());
        }
        Ok(data.rows.show(index, &data.tokenizer))
    }

    /// What the supervision audit finds in these rows, as text; empty if nothing.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{ audit: false });
    /// print(data.audit());
    /// ```
    #[rhai_fn(name = "audit", global, pure)]
    pub fn audit_rows(data: &mut Tokenized) -> String {
        let findings = audit::audit(&data.rows, &data.tokenizer);
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Split tokenized rows into `train` and `test`.
    ///
    /// Options: `test` (0.1; below 1 a share of the rows, from 1 on a number of rows), `seed` (0).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{}).split(#{ test: 0.5 });
    /// print(data.test.len);
    /// ```
    #[rhai_fn(name = "split", global, pure, return_raw)]
    pub fn split_tokens(data: &mut Tokenized, options: Map) -> RhaiResultOf<TokenizedSplit> {
        let (test, seed) = split_options(options)?;
        let (train, test) = data.rows.split(test, seed)?;
        let with = |rows| Tokenized { rows, tokenizer: data.tokenizer.clone() };
        Ok(TokenizedSplit { train: with(train), test: with(test) })
    }

    /// Put tokenized rows to train on and rows to test on together, as `sweep` and `train` want them.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let train = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// let test = dataset([#{ prompt: "c", completion: " d" }]).tokenize(model, #{});
    /// let data = splits(train, test);
    /// print(data.train.len);
    /// ```
    pub fn splits(train: Tokenized, test: Tokenized) -> TokenizedSplit {
        TokenizedSplit { train, test }
    }

    /// The first rows.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.take(1).len);
    /// ```
    #[rhai_fn(name = "take", global, pure, return_raw)]
    pub fn take_tokens(data: &mut Tokenized, count: i64) -> RhaiResultOf<Tokenized> {
        Ok(Tokenized { rows: data.rows.take(natural("take", count)?), tokenizer: data.tokenizer.clone() })
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

    /// The rows to train on.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.split(#{ test: 1 }).train.tokens);
    /// ```
    #[rhai_fn(get = "train", global, pure)]
    pub fn train_tokens(split: &mut TokenizedSplit) -> Tokenized {
        split.train.clone()
    }

    /// The rows held out.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// print(data.split(#{ test: 1 }).test.tokens);
    /// ```
    #[rhai_fn(get = "test", global, pure)]
    pub fn test_tokens(split: &mut TokenizedSplit) -> Tokenized {
        split.test.clone()
    }

    /// Batches of one epoch, to loop over.
    ///
    /// Options: `size` (8), `shuffle` (the seed of the order; in file order without it),
    /// `epoch` (0; each has an order of its own), `drop_last` (false).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 8, shuffle: 42 }) {
    ///     print(batch.rows);
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn batches(data: &mut Tokenized, options: Map) -> RhaiResultOf<Batches> {
        let mut options = Options::new("batches", options);
        let size = options.take("size", 8_usize)?;
        let shuffle: Option<u64> = options.take_opt("shuffle")?;
        let epoch = options.take("epoch", 0_u64)?;
        let drop_last = options.take("drop_last", false)?;
        if size == 0 {
            return Err(options.wrong("size", "at least 1", "0").into());
        }
        options.finish()?;
        let order = match shuffle {
            Some(seed) => data.rows.epoch_order(seed, epoch),
            None => (0..data.rows.len() as u32).collect(),
        };
        Ok(Batches { data: data.rows.clone(), order, size, drop_last })
    }

    /// The number of rows of the batch.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 2 }) {
    ///     print(batch.rows);
    /// }
    /// ```
    #[rhai_fn(get = "rows", global, pure, return_raw)]
    pub fn batch_rows(batch: &mut Batch) -> RhaiResultOf<i64> {
        Ok(batch.read()?.rows as i64)
    }

    /// The number of positions per row, padding included.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 2 }) {
    ///     print(batch.time);
    /// }
    /// ```
    #[rhai_fn(get = "time", global, pure, return_raw)]
    pub fn batch_time(batch: &mut Batch) -> RhaiResultOf<i64> {
        Ok(batch.read()?.time as i64)
    }

    /// The number of tokens in the batch, padding left out.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 2 }) {
    ///     print(batch.tokens);
    /// }
    /// ```
    #[rhai_fn(get = "tokens", global, pure, return_raw)]
    pub fn batch_tokens(batch: &mut Batch) -> RhaiResultOf<i64> {
        Ok(batch.read()?.token_count() as i64)
    }
}

/// The files of one split of a data set of the hub; train unless another is asked for.
fn from_hub(
    name: &str,
    revision: Option<String>,
    pattern: Option<String>,
    load: &LoadOptions,
    state: &State,
) -> Result<Vec<PathBuf>> {
    let named = revision.map_or(name.to_owned(), |revision| format!("{name}@{revision}"));
    let found = hub::resolve_dataset(&named, pattern.as_deref(), &hub::Hub::from_env()?, &mut Downloads::new(state))?;
    let split = load.split.as_deref().unwrap_or("train");
    match found.splits.get(split) {
        Some(paths) => Ok(paths.clone()),
        None => Err(Error::input(format!("the data set `{name}` has no split `{split}`"))
            .with_hint(crate::suggest::hint(split, found.splits.keys().map(String::as_str)))),
    }
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

fn natural(function: &str, number: i64) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::input(format!("{function}: expected a number of at least 0, found {number}")))
}

fn texts(function: &str, values: Array) -> Result<Vec<String>> {
    Options::new(function, Map::from([("names".into(), values.into())])).take_required("names")
}

fn split_options(options: Map) -> Result<(f64, u64)> {
    let mut options = Options::new("split", options);
    let split = (options.take("test", 0.1)?, options.take("seed", 0_u64)?);
    options.finish()?;
    Ok(split)
}

fn tokenize_options(options: Map) -> Result<TokenizeOptions> {
    let mut options = Options::new("tokenize", options);
    let default = TokenizeOptions::default();
    let loss_on =
        [("assistant", LossOn::Assistant), ("completion", LossOn::Completion), ("everything", LossOn::Everything)];
    let loss_on = if options.has("loss_on") {
        Some(options.take_choice("loss_on", &loss_on, LossOn::Assistant)?)
    } else {
        let _: Option<String> = options.take_opt("loss_on")?;
        None
    };
    let span = [("generated", AssistantSpan::Generated), ("turn", AssistantSpan::Turn)];
    let truncation = [("keep_start", Truncation::KeepStart), ("keep_end", Truncation::KeepEnd)];
    let max_length = options.take("max_length", 1024_usize)?;
    let variables: Map = options.take("template_variables", Map::new())?;
    let chosen = TokenizeOptions {
        max_length: (max_length > 0).then_some(max_length),
        truncation: options.take_choice("truncation", &truncation, default.truncation)?,
        loss_on,
        assistant_span: options.take_choice("assistant_span", &span, default.assistant_span)?,
        packing: options.take("packing", default.packing)?,
        append_eos: options.take("append_eos", default.append_eos)?,
        drop_unlabelled: options.take("drop_unlabelled", default.drop_unlabelled)?,
        text_column: options.take("text_column", default.text_column)?,
        chat_template: options.take_opt("chat_template")?,
        template_variables: match to_json(&variables.into())? {
            Value::Object(variables) => variables,
            _ => default.template_variables,
        },
        audit: options.take("audit", default.audit)?,
        cache: options.take("cache", default.cache)?,
    };
    options.finish()?;
    Ok(chosen)
}
