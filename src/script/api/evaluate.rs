//! Evaluation: perplexity, multiple choice, KoBEST, metrics over text, comparisons. What each
//! reads and gives back is in `evaluate/`, a file for each kind.

mod asked;
mod choices;
mod comparison;
mod field;
mod perplexity;
mod written;

use crate::eval::table;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_json;
use crate::script::values::options::Options;
use crate::Error;
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::Value;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// Rows of named columns.
    pub type Dataset = crate::data::Dataset;

    /// The perplexity of texts per token, word and byte, by rolling windows.
    ///
    /// `data` is a string, an array of strings, or a data set with a text in each row. Each text
    /// stands for itself: its first token is given BOS (EOS where the tokenizer has no BOS), every
    /// token is scored once. The numbers are those of lm-evaluation-harness, which scores a BOS
    /// that the tokenizer adds as well. Options: `max_length` (the model's
    /// max_position_embeddings), `stride` (`max_length`; the tokens that each window after the
    /// first scores), `column` ("text"), `batch` (8 windows in a pass), `adapters` (what is active
    /// now; an array of names measures all of them in one pass and gives a map by name, where
    /// "base" is the bare model), `bootstrap_iters` (1000), `confidence` (0.95), `seed` (0). The
    /// result has `perplexity` (per token; with several texts `perplexity_stderr` and
    /// `perplexity_interval` over draws of texts), `word_perplexity`, `byte_perplexity`,
    /// `bits_per_byte`, `loss` (nats per token), `loglikelihood` (nats), `tokens`, `words`,
    /// `bytes`, `texts`, and `scores.loss` (of each text).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let found = perplexity(model, ["the small fox", "a red boat"], #{ max_length: 64, stride: 32 });
    /// print(found.bits_per_byte);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn perplexity(context: NativeCallContext, model: Model, data: Dynamic, options: Map) -> RhaiResultOf<Map> {
        let state = State::of(&context)?;
        Ok(super::perplexity::run(&state, &*model.read()?, &data, Options::new("perplexity", options))?)
    }

    /// Answer multiple-choice questions by log-likelihood, as lm-evaluation-harness does.
    ///
    /// Each of `prompt`, `choices` and `label` is a function of the row or the name of a column:
    /// the context, an array of strings, and which of them is right (its number from 0, or the
    /// string itself). Options: `prompt` ("prompt"), `choices` ("choices"), `label` ("label"),
    /// `delimiter` (" "; between context and choice), `limit` (all rows), `max_length` (the
    /// model's; a longer context loses its beginning), `batch` (8), `adapters`, `bootstrap_iters`,
    /// `confidence`, `seed` (as for `perplexity`). The result has `acc`, `acc_norm` (per character
    /// of the choice), `acc_bytes` and `f1` (macro), each with `…_stderr` and `…_interval`, `n`,
    /// `scores` (of each row, for `compare_scores`), and `items` (`answer`, `chosen` and
    /// `loglikelihoods` of each row).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ q: "Is the fox small?", options: ["no", "yes"], answer: 1 },
    ///                     #{ q: "Is the boat red?", options: ["no", "yes"], answer: "yes" }]);
    /// let found = multiple_choice(model, data, #{ prompt: |row| row.q, choices: "options", label: "answer" });
    /// print(found.table());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn multiple_choice(context: NativeCallContext, model: Model, data: Dataset, options: Map) -> RhaiResultOf<Map> {
        super::choices::run_multiple_choice(&context, &*model.read()?, &data, Options::new("multiple_choice", options))
    }

    /// Measure KoBEST's five tasks exactly as lm-evaluation-harness scores them.
    ///
    /// Options: `tasks` (all: ["boolq", "copa", "hellaswag", "sentineg", "wic"]), `data`
    /// ("skt/kobest_v1"; a data set of the hub, or a folder with a folder for each task), `limit`
    /// (all test rows), `num_fewshot` (0; nothing else), `max_length`, `batch` (8), `adapters`,
    /// `bootstrap_iters`, `confidence`, `seed` (as for `perplexity`). The result has a map for each
    /// task as `multiple_choice` gives it, with `acc` and `f1`, for hellaswag `acc_norm` too; and
    /// with several tasks `kobest`, their mean over all rows. `.table()` shows it, `write_json`
    /// saves it.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// write_text("kobest/SentiNeg/test.tsv", "Text\tLabel\n정말 좋다\t1\n정말 싫다\t0\n");
    /// let found = kobest(model, #{ data: "kobest", tasks: ["sentineg"] });
    /// print(found.sentineg.acc);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn kobest(context: NativeCallContext, model: Model, options: Map) -> RhaiResultOf<Map> {
        Ok(super::choices::run_kobest(&State::of(&context)?, &*model.read()?, Options::new("kobest", options))?)
    }

    /// Measure what the model writes after each prompt: by exact match, or by a function of yours.
    ///
    /// `prompt` and `target` are functions of the row or names of columns. A prompt is a text, a message or a
    /// conversation; without these options the rows may also be those that `tokenize` knows: of `messages` the last
    /// turn, which is the assistant's, is the wanted answer. `metric` is "exact_match" or a function of output and
    /// row that gives a number or a bool. Options: `prompt` ("prompt"), `target` ("completion"), `metric`
    /// ("exact_match"), `chat` (false: true takes a text as a user's message), `do_sample` (false, whatever the
    /// model's file says), `max_new_tokens` (64), `until` ([]; the same as `stop`; a word of the language, so in
    /// quotes), `strip` (false; white space at both ends does not count), `ignore_case` (false), `ignore_punctuation` (false),
    /// `ignore_numbers` (false), `regexes_to_ignore` ([]), `limit` (all rows), `adapters`, `bootstrap_iters`,
    /// `confidence` (as for `perplexity`), `seed` (42 for draws, 0 for the bootstrap), and those of `generate` but
    /// `stream`.
    ///
    /// The result has `exact_match` (`score` for a function of yours) with `…_stderr` and `…_interval`, `n`, `scores`
    /// and `outputs` (of each row).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "Repeat: fox ->", completion: " fox" }]);
    /// print(score_generation(model, data, #{ max_new_tokens: 4, strip: true }).exact_match);
    /// let short = |output, row| output.len() < 20;
    /// print(score_generation(model, data, #{ max_new_tokens: 4, metric: short }).score);
    /// let turns = [#{ role: "user", content: "Repeat: fox" }, #{ role: "assistant", content: "fox" }];
    /// print(score_generation(model, dataset([#{ messages: turns }]), #{ max_new_tokens: 4 }).outputs);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn score_generation(
        context: NativeCallContext,
        model: Model,
        data: Dataset,
        options: Map,
    ) -> RhaiResultOf<Map> {
        super::written::run(&context, &*model.read()?, &data, Options::new("score_generation", options))
    }

    /// True where the text that was written is the text that was wanted.
    ///
    /// Options, those of Hugging Face's `evaluate` and `strip`: `regexes_to_ignore` ([]),
    /// `ignore_case` (false), `ignore_punctuation` (false), `ignore_numbers` (false), `strip`
    /// (false; white space at both ends does not count).
    ///
    /// ```rhai
    /// print(exact_match("Yes.", "yes", #{ ignore_case: true, ignore_punctuation: true }));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn exact_match(written: &str, wanted: &str, options: Map) -> RhaiResultOf<bool> {
        let mut options = Options::new("exact_match", options);
        let exact = super::written::exact_match_of(&mut options)?;
        options.finish()?;
        Ok(exact.score(written, wanted) == 1.0)
    }

    /// Compare two adapters on the same items: paired bootstrap and, for accuracies, McNemar's test.
    ///
    /// `a` and `b` are results of an evaluation, or arrays with a score for each item. Options:
    /// `metric` (which of their `scores`; the only one, or "acc"), `bootstrap_iters` (1000),
    /// `confidence` (0.95), `seed` (0). The result has `a` and `b` (the means), `difference`
    /// (mean of a - b), `difference_stderr`, `interval` (percentiles of the difference over draws
    /// of items; without 0 in it the difference is hardly chance), `n`, and where every score is
    /// 0 or 1 `only_a`, `only_b` (items that just one got right) and `p_value` (McNemar's exact
    /// two-sided test).
    ///
    /// ```rhai
    /// print(compare_scores([1, 1, 0, 1], [0, 1, 0, 0], #{}).p_value);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn compare_scores(a: Dynamic, b: Dynamic, options: Map) -> RhaiResultOf<Map> {
        Ok(super::comparison::run(&a, &b, Options::new("compare_scores", options))?)
    }

    /// Results of an evaluation as a table: a line for each adapter and task.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(perplexity(model, "the small fox", #{}).table());
    /// ```
    #[rhai_fn(name = "table", global, pure, return_raw)]
    pub fn table_of_results(results: &mut Map) -> RhaiResultOf<String> {
        match to_json(&results.clone().into())? {
            Value::Object(results) => Ok(table::results_table(&results)),
            other => Err(Error::bug(format!("a map became {other}")).into()),
        }
    }
}
