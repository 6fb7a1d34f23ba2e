//! Rows as tokens and labels, with the options of `tokenize`; their splits and batches.

use super::data::natural;
use crate::data::leak::shared_prompts;
use crate::data::{self, audit, Dataset as Rows, Like, TokenizeOptions, TokenizedDataset};
use crate::format::thousands;
use crate::hub::tokenizer::Tokenizer;
use crate::options;
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::rehearsal::TOKENIZED;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::{register_iterator, Handle};
use crate::script::values::options::Options;
use crate::train::sampler::grouped_by_length;
use crate::{Error, Result};
use rhai::plugin::*;
use rhai::{Dynamic, Map};

options! {
    #[derive(Debug, Clone)]
    struct SplitTokensOptions {
        /// The rows that are held out: a fraction of all if below 1, otherwise a number of rows.
        test: f64 = 0.1, range above(0.0);
        /// The seed of the random order.
        seed: u64 = 0;
        /// Whose random numbers: "datasets" chooses the rows that `train_test_split(test_size, seed)` of datasets does.
        like: Like = Like::default();
    }
}

options! {
    #[derive(Debug, Clone)]
    struct BatchesOptions {
        /// Rows per batch.
        size: usize = 8, alias ["batch_size"], range at_least(1.0);
        /// The seed of a random order.
        shuffle: Option<u64> = None, words "in file order";
        /// The number of the epoch: each has its own random order.
        epoch: u64 = 0;
        /// Leaves out the last batch if it has fewer rows than the others.
        drop_last: bool = false;
        /// Puts rows of similar length into one batch, as in `train`.
        group_by_length: bool = false;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("dataset.tokenize", TokenizeOptions::table),
    ("tokenized.split", SplitTokensOptions::table),
    ("tokenized.batches", BatchesOptions::table),
];

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

    /// Turn rows into token ids and labels with the model's tokenizer and chat template.
    ///
    /// Recognised columns, in this order: `messages`; `conversations` (ShareGPT's `from` and `value`);
    /// `prompt` and `completion`; `instruction`, `input` and `output`, a conversation where the model has
    /// a chat template and "### Instruction:" text where it has none; `text`. A note says which were
    /// read and which were not. An answer with `weight: 0` or `train: false` is not trained on.
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
        let mut options: TokenizeOptions = Options::read("tokenize", options)?;
        let model = model.read()?;
        let tokenizer = model.tokenizer()?;
        let state = State::of(&context)?;
        // Here, for what it only warns of is told.
        let audited = std::mem::replace(&mut options.audit, false);
        if options.chat_template.as_deref().is_some_and(|template| tokenizer.chat_template() != Some(template)) {
            let kept = if tokenizer.chat_template().is_some() { "keep the model's" } else { "have none" };
            state.note(&format!(
                "tokenize: only these rows follow the option `chat_template`: chat and saved files {kept}; for one \
                 template everywhere, set model.chat_template before"
            ));
        }
        let rows = tokens_of(data, tokenizer, &options, &state)?;
        state.note(&format!("note: {}", rows.info().read_as));
        if audited {
            audit::ensure_supervised(&rows, tokenizer)?.iter().for_each(|finding| state.note(&finding.to_string()));
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

    /// What the rows were read as, from which columns, and which columns were not used.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b", id: 1 }]).tokenize(model, #{});
    /// print(data.read_as);
    /// ```
    #[rhai_fn(get = "read_as", global, pure)]
    pub fn read_as(data: &mut Tokenized) -> String {
        data.rows.info().read_as.clone()
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
    /// To keep rows together by a column, split them before they are tokenized.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{}).split(#{ test: 0.5 });
    /// print(data.test.len);
    /// ```
    #[rhai_fn(name = "split", global, pure, return_raw, volatile)]
    pub fn split_tokens(
        context: NativeCallContext,
        data: &mut Tokenized,
        options: Map,
    ) -> RhaiResultOf<TokenizedSplit> {
        let SplitTokensOptions { test, seed, like } = Options::read("split", options)?;
        let (train, test) = data.rows.split_like(test, seed, like)?;
        let with = |rows| Tokenized { rows, tokenizer: data.tokenizer.clone() };
        Ok(audited(TokenizedSplit { train: with(train), test: with(test) }, &State::of(&context)?))
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
    #[rhai_fn(return_raw, volatile)]
    pub fn splits(context: NativeCallContext, train: Tokenized, test: Tokenized) -> RhaiResultOf<TokenizedSplit> {
        Ok(audited(TokenizedSplit { train, test }, &State::of(&context)?))
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
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 8, shuffle: 42 }) {
    ///     print(batch.rows);
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn batches(context: NativeCallContext, data: &mut Tokenized, options: Map) -> RhaiResultOf<Batches> {
        let BatchesOptions { size, shuffle, epoch, drop_last, group_by_length } = Options::read("batches", options)?;
        let state = State::of(&context)?;
        if state.rehearsing() {
            return Ok(tiny_batches(&data.rows, size, drop_last, &state));
        }
        let order = match shuffle {
            Some(seed) => data.rows.epoch_order(seed, epoch),
            None => (0..data.rows.len() as u32).collect(),
        };
        let length = |row: u32| data.rows.row(row as usize).map_or(0, |row| row.len());
        let order = if group_by_length { grouped_by_length(order, length, size) } else { order };
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
    ///     print(batch.seq_len);
    /// }
    /// ```
    #[rhai_fn(get = "seq_len", global, pure, return_raw)]
    pub fn batch_seq_len(batch: &mut Batch) -> RhaiResultOf<i64> {
        Ok(batch.read()?.seq_len as i64)
    }

    /// The old name of `batch.seq_len`, which goes in the next version.
    ///
    /// A script that reads it gets a note, once.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{ size: 1 }) {
    ///     print(batch.seq_len);
    /// }
    /// ```
    #[rhai_fn(get = "time", global, pure, return_raw)]
    pub fn batch_time(context: NativeCallContext, batch: &mut Batch) -> RhaiResultOf<i64> {
        State::of(&context)?
            .note_once("warning: `batch.time` is called `batch.seq_len` now; the old name goes in the next version");
        batch_seq_len(batch)
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

/// Warns of rows that are longer than the positions of the model that reads them.
pub(super) fn note_long(rows: &TokenizedDataset, model: &crate::lora::Model, state: &State) {
    let most = usize::try_from(model.decoder().config.max_position_embeddings).unwrap_or(usize::MAX);
    let is_long = |row: &crate::data::store::RowView| row.documents().any(|document| document.ids().len() > most);
    let count = rows.iter().filter(is_long).count();
    if count > 0 {
        state.note(&format!(
            "warning: {count} of {} rows are longer than the {} positions of the model",
            rows.len(),
            thousands(most as u64)
        ));
    }
}

/// Says where a prompt stands on both sides, unless rows stand for others that were not tokenized.
fn audited(split: TokenizedSplit, state: &State) -> TokenizedSplit {
    if !state.rehearsing() {
        if let Some(shared) = shared_prompts(&split.train.rows, &split.test.rows) {
            state.note(&shared.to_string());
        }
    }
    split
}

/// All rows as tokens; in a rehearsal a sample of them, which stands for all.
fn tokens_of(data: &Rows, tokenizer: &Tokenizer, options: &TokenizeOptions, state: &State) -> Result<TokenizedDataset> {
    if !state.rehearsing() {
        return data::tokenize(data, tokenizer, options);
    }
    let (rows, read) = data::tokenize_sample(data, tokenizer, options, TOKENIZED)?;
    if read < data.len() {
        state.note_for_summary(format!(
            "tokenized {} of {} rows, each of which stands for its neighbours: tokens are estimates",
            thousands(read as u64),
            thousands(data.len() as u64)
        ));
    }
    Ok(rows)
}

/// Two batches of the shortest rows, for a loop that is rehearsed.
fn tiny_batches(rows: &TokenizedDataset, size: usize, drop_last: bool, state: &State) -> Batches {
    let all = if drop_last { rows.len() / size } else { rows.len().div_ceil(size) };
    let few = state.capped(size);
    let data = rows.shortest(state.capped(all) * few);
    state.note_for_summary(format!(
        "a loop of the script's own over {} batches of {size} rows: {} of up to {few} were run, and no time is known",
        thousands(all as u64),
        state.capped(all)
    ));
    Batches { order: (0..data.len() as u32).collect(), data, size: few, drop_last: false }
}
