//! Rows as tokens and labels, with the options of `tokenize`; their splits and batches.

use crate::data::leak::shared_prompts;
use crate::data::tokenize::weights_of_column;
use crate::data::{audit, tokenize_at, SplitTokensOptions, TokenizeOptions};
use crate::options;
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::arguments::natural;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::{register_iterator, Handle};
use crate::script::values::json::to_json;
use crate::script::values::objects::{Tokenized, TokenizedSplit};
use crate::script::values::options::Options;
use crate::script::values::row_options::{weights_by, WeightsOption};
use crate::train::by_hand;
use crate::train::{Batches, BatchesOptions};
use crate::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

options! {
    /// How rows become tokens, labels and weights.
    #[derive(Debug, Clone)]
    struct TokenizeCall {
        options: TokenizeOptions = TokenizeOptions::default(), is set;
        /// How much labels count in the loss, which is then a weighted mean: the column with a number for each row, or a
        /// function of the row and its tokens (a map of `ids`, `texts` and `trained`) that returns a number for each
        /// token. Such rows are not cached.
        weights: Option<WeightsOption> = None, words "1 for all";
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("dataset.tokenize", TokenizeCall::table),
    ("tokenized.split", SplitTokensOptions::table),
    ("tokenized.batches", BatchesOptions::table),
];

/// Loops over batches.
pub fn register_loops(module: &mut Module) {
    register_iterator(module, |batches: Batches| {
        Ok(batches.into_iter().map(|batch| Ok(Dynamic::from(Handle::new(batch?)))))
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
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// Turn rows into token ids and labels with the model's tokenizer and chat template.
    ///
    /// Recognised columns, in this order: `messages`; `prompt` and `completion`; `instruction`, `input` and
    /// `output`, a conversation where the model has a chat template and "### Instruction:" text where it has
    /// none; `chosen` and `rejected`, with `prompt` or without; `conversations` (ShareGPT's `from` and `value`);
    /// `text`. A note says which were read and which were not. An answer with `weight: 0` or `train: false` is
    /// not trained on. docs/preferences.md has the rows of preferences, among them those of `prompt`,
    /// `completion` and a `label` that is true or false.
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
        let TokenizeCall { mut options, weights } = Options::read("tokenize", options)?;
        let (state, model) = (State::of(&context)?, model.read()?);
        let tokenizer = model.tokenizer()?;
        // Below, so that what it only warns of reaches the user too.
        let is_audited = std::mem::replace(&mut options.audit, false);
        options.template_note(tokenizer).iter().for_each(|note| state.note(note));
        let (rows, sampled) = match weights {
            None => tokenize_at(data, tokenizer, &options, state.pace(), None)?,
            Some(WeightsOption::Column(column)) => {
                data.ensure_columns(&[&column])?;
                let weigh = &mut weights_of_column(&column);
                tokenize_at(data, tokenizer, &options, state.pace(), Some(weigh))?
            }
            Some(WeightsOption::Function(function)) => {
                let callback = Callback::new(&context, function)
                    .with_arity_hint("weights takes a function of the row and its tokens: |row, tokens| [...]");
                let weigh = &mut |row: &_, tokens: &_| weights_by(&callback, tokenizer, row, tokens);
                callback.settle(tokenize_at(data, tokenizer, &options, state.pace(), Some(weigh)))?
            }
        };
        sampled.into_iter().for_each(|note| state.note_for_summary(note));
        state.note(&format!("note: {}", rows.info().read_as));
        if is_audited {
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
        Ok(audited(TokenizedSplit { train: data.with(train), test: data.with(test) }, &State::of(&context)?))
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
        Ok(data.with(data.rows.take(natural("take", count)?)))
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
        let state = State::of(&context)?;
        let (batches, note) = Batches::at(&data.rows, &Options::read("batches", options)?, state.pace());
        note.into_iter().for_each(|note| state.note_for_summary(note));
        Ok(batches)
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

    /// The token ids of the batch, i64 `[rows, seq_len]` on the CPU; what stands at padding has no meaning.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(batch.input_ids.to_array());
    /// }
    /// ```
    #[rhai_fn(get = "input_ids", global, pure, return_raw)]
    pub fn batch_input_ids(batch: &mut Batch) -> RhaiResultOf<Tensor> {
        let batch = batch.read()?;
        Ok(Handle::new(by_hand::cells(&batch, &batch.input_ids)?))
    }

    /// The label of each position, i64 `[rows, seq_len]` on the CPU: the token there, or -100 where none is trained.
    ///
    /// The label of a position is predicted by the position before it: compare `logits` at `t - 1` with `labels` at `t`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(batch.labels.to_array());
    /// }
    /// ```
    #[rhai_fn(get = "labels", global, pure, return_raw)]
    pub fn batch_labels(batch: &mut Batch) -> RhaiResultOf<Tensor> {
        let batch = batch.read()?;
        Ok(Handle::new(by_hand::cells(&batch, &batch.labels)?))
    }

    /// The position of each token in its document, i64 `[rows, seq_len]` on the CPU; 0 at padding.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(batch.position_ids.to_array());
    /// }
    /// ```
    #[rhai_fn(get = "position_ids", global, pure, return_raw)]
    pub fn batch_position_ids(batch: &mut Batch) -> RhaiResultOf<Tensor> {
        let batch = batch.read()?;
        Ok(Handle::new(by_hand::cells(&batch, &batch.position_ids)?))
    }

    /// How much each label counts in the loss, `[rows, seq_len]`: 1 unless `tokenize` was given other weights.
    ///
    /// At a position without a label the number means nothing.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b", sure: 0.5 }];
    /// for batch in dataset(rows).tokenize(model, #{ weights: "sure" }).batches(#{ size: 1 }) {
    ///     print(batch.weights);
    /// }
    /// ```
    #[rhai_fn(get = "weights", global, pure, return_raw)]
    pub fn batch_weights(batch: &mut Batch) -> RhaiResultOf<Tensor> {
        Ok(Handle::new(by_hand::weights(&*batch.read()?)?))
    }

    /// A batch of rows that you make yourself, from token ids and labels.
    ///
    /// Each row is a map of `input_ids`, `labels` (as long: the token to predict at each position, -100 where none is;
    /// without it, all tokens but the first) and `weights` (as long, numbers of at least 0; without it, 1). Other
    /// keys are ignored, so that it takes what `sample` returns. Rows are padded on the right.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let batch = model.batch([#{ input_ids: [1, 2, 3], labels: [-100, -100, 3] }, #{ input_ids: [1, 2] }]);
    /// print(model.forward(batch).loss.item());
    /// ```
    #[rhai_fn(name = "batch", global, pure, return_raw)]
    pub fn batch_of_rows(model: &mut Model, rows: Array) -> RhaiResultOf<Batch> {
        let rows = rows.iter().map(to_json).collect::<crate::Result<Vec<_>>>()?;
        Ok(Handle::new(by_hand::batch_of_rows(&rows, &*model.read()?)?))
    }
}

/// Warns of a prompt that stands on both sides.
fn audited(split: TokenizedSplit, state: &State) -> TokenizedSplit {
    let shared = shared_prompts(&split.train.rows, &split.test.rows, state.pace());
    shared.iter().for_each(|shared| state.note(&shared.to_string()));
    split
}
