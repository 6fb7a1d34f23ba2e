//! Evaluation: perplexity, multiple choice, KoBEST, metrics over text, comparisons.

use crate::eval::calls::{self, ChoiceCall, CompareScoresCall, PerplexityCall, ScoreCall};
use crate::eval::exact_match::ExactMatch;
use crate::eval::field::first;
use crate::eval::generation_call::GenerationCall;
use crate::eval::generator::Generator;
use crate::eval::kobest::KobestOptions;
use crate::eval::table;
use crate::hub::Hub;
use crate::options;
use crate::options::{OptionSet, Value as OptionValue};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::exercises::{self, read_scores, read_texts};
use crate::script::values::from_script::to_value;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_json, to_map};
use crate::script::values::options::Options;
use crate::script::values::row_options::{score_by, FieldOption, MetricOption, EXACT_MATCH};
use crate::{lora, Error, Result};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::Value;

options! {
    #[derive(Debug, Clone)]
    struct MultipleChoiceCall {
        /// The context: a function of the row, or the name of a column.
        prompt: FieldOption = FieldOption::column("prompt");
        /// The choices, an array of strings: a function of the row, or the name of a column.
        choices: FieldOption = FieldOption::column("choices");
        /// The right choice, its number from 0 or its text: a function of the row, or the name of a column.
        label: FieldOption = FieldOption::column("label");
        call: ChoiceCall = ChoiceCall::default(), is set;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct ScoreGenerationCall {
        /// The prompt, a text, a message or a conversation: a function of the row, or the name of a column.
        prompt: Option<FieldOption> = None, words "\"prompt\"";
        /// The expected answer: a function of the row, or the name of a column.
        target: Option<FieldOption> = None, words "\"completion\"";
        /// "exact_match", or a function of output and row that returns a number or a bool.
        metric: MetricOption = MetricOption::ExactMatch;
        call: ScoreCall = ScoreCall::default(), is set;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("perplexity", PerplexityCall::table),
    ("multiple_choice", MultipleChoiceCall::table),
    ("kobest", KobestOptions::table),
    ("score_generation", ScoreGenerationCall::table),
    ("exact_match", ExactMatch::table),
    ("compare_scores", CompareScoresCall::table),
];

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
    /// is read alone: its first token is scored after BOS (EOS where the tokenizer has no BOS), every token is scored
    /// once. The numbers are those of lm-evaluation-harness, which scores a BOS that the tokenizer adds as well. The
    /// result has `perplexity` (per token; with several texts `perplexity_stderr` and
    /// `perplexity_interval` over draws of texts), `word_perplexity`, `byte_perplexity`,
    /// `bits_per_byte`, `loss` (nats per token), `loglikelihood` (nats), `tokens`, `words`,
    /// `bytes`, `texts`, and `scores.loss` (of each text).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let result = perplexity(model, ["the small fox", "a red boat"], #{ max_length: 64, stride: 32 });
    /// print(result.bits_per_byte);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn perplexity(context: NativeCallContext, model: Model, data: Dynamic, options: Map) -> RhaiResultOf<Map> {
        let call: PerplexityCall = Options::read("perplexity", options)?;
        let texts = read_texts(&data, &call.column)?;
        Ok(to_map(&call.run(&*model.read()?, texts, State::of(&context)?.pace())?))
    }

    /// Answer multiple-choice questions by log-likelihood, as lm-evaluation-harness does.
    ///
    /// Each of `prompt`, `choices` and `label` is a function of the row or the name of a column:
    /// the context, an array of strings, and which of them is right (its number from 0, or the
    /// string itself). A context longer than `max_length` loses its beginning. The result has `acc`, `acc_norm` (per character
    /// of the choice), `acc_bytes` and `f1` (macro), each with `…_stderr` and `…_interval`, `n`,
    /// `scores` (of each row, for `compare_scores`), and `items` (`answer`, `chosen` and
    /// `loglikelihoods` of each row).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ q: "Is the fox small?", options: ["no", "yes"], answer: 1 },
    ///                     #{ q: "Is the boat red?", options: ["no", "yes"], answer: "yes" }]);
    /// let result = multiple_choice(model, data, #{ prompt: |row| row.q, choices: "options", label: "answer" });
    /// print(result.table());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn multiple_choice(context: NativeCallContext, model: Model, data: Dataset, options: Map) -> RhaiResultOf<Map> {
        let MultipleChoiceCall { prompt, choices, label, call } = Options::read("multiple_choice", options)?;
        let rows = first(&data, call.limit, State::of(&context)?.pace());
        let prompts = prompt.values(&context, "prompt", &rows)?;
        let choices = choices.values(&context, "choices", &rows)?;
        let labels: Vec<Dynamic> = label.values(&context, "label", &rows)?;
        let labels: Vec<OptionValue> = labels.iter().map(to_value).collect();
        Ok(to_map(&call.run(&*model.read()?, prompts, choices, &labels)?))
    }

    /// Measure KoBEST's five tasks exactly as lm-evaluation-harness scores them.
    ///
    /// The result has a map for each task as `multiple_choice` gives it, with `acc` and `f1`, for hellaswag `acc_norm` too; and
    /// with several tasks `kobest`, their mean over all rows. `.table()` shows it, `write_json`
    /// saves it.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// write_text("kobest/SentiNeg/test.tsv", "Text\tLabel\n정말 좋다\t1\n정말 싫다\t0\n");
    /// let result = kobest(model, #{ data: "kobest", tasks: ["sentineg"] });
    /// print(result.sentineg.acc);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn kobest(context: NativeCallContext, model: Model, options: Map) -> RhaiResultOf<Map> {
        let (state, mut options) = (State::of(&context)?, Options::read::<KobestOptions>("kobest", options)?);
        options.data = state.to_read(&options.data);
        let (hub, mut downloads) = (Hub::from_env()?, Downloads::new(&state));
        Ok(to_map(&calls::kobest(&options, &*model.read()?, state.pace(), &hub, &mut downloads)?))
    }

    /// Score the texts that the model writes after each prompt: by exact match, or by your function.
    ///
    /// `prompt` and `target` are functions of the row or names of columns. A prompt is a text, a message or a
    /// conversation; without these options the rows may also be those that `tokenize` knows: of `messages` the last
    /// turn, which is the assistant's, is the expected answer.
    ///
    /// Without options the texts are greedy, whatever the model's file says, and have at most 64 new tokens. `seed` is
    /// that of draws, and of the bootstrap too where it is set; its default is 42 for the one and 0 for the other.
    ///
    /// The result has `exact_match` (`score` for your function) with `…_stderr` and `…_interval`, `n`, `scores`
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
        run_scoring(&context, &*model.read()?, &data, options)
    }

    /// Whether two texts are the same, apart from the differences that the options ignore.
    ///
    /// The options are those of Hugging Face's `evaluate`, and `strip`.
    ///
    /// ```rhai
    /// print(exact_match("Yes.", "yes", #{ ignore_case: true, ignore_punctuation: true }));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn exact_match(output: &str, target: &str, options: Map) -> RhaiResultOf<bool> {
        let exact: ExactMatch = Options::read("exact_match", options)?;
        Ok(exact.score(output, target) == 1.0)
    }

    /// Compare two adapters on the same items: paired bootstrap and, for accuracies, McNemar's test.
    ///
    /// `a` and `b` are results of an evaluation, or arrays with a score for each item. The result has `a` and `b` (the
    /// means), `difference`
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
        let call: CompareScoresCall = Options::read("compare_scores", options)?;
        let scores = |name, value| read_scores(name, value, call.metric.as_deref());
        Ok(to_map(&call.run(&scores("a", &a)?, &scores("b", &b)?)?))
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

fn run_scoring(
    context: &NativeCallContext,
    model: &lora::Model,
    rows: &crate::data::Dataset,
    options: Map,
) -> RhaiResultOf<Map> {
    const CALL: &str = "score_generation";
    let state = State::of(context)?;
    let note = |note: &str| state.note(note);
    let generator = Generator::new(CALL, model, &note, state.pace())?;
    let generation = GenerationCall::scored(generator.model_settings()?);
    let call = ScoreCall { generation, ..ScoreCall::default() };
    let options = Options::read_over(ScoreGenerationCall { call, ..ScoreGenerationCall::default() }, CALL, options)?;
    let ScoreGenerationCall { prompt, target, metric, call } = &options;
    let generator = generator.with_prompts(call.prompts);
    let config = call.config(&generator)?;
    let rows = first(rows, call.limit, state.pace());
    if rows.is_empty() {
        return Err(Error::data("score_generation: expected at least one row, found none").into());
    }
    let is_exact = matches!(metric, MetricOption::ExactMatch);
    let exercises = exercises::of_rows(context, &rows, &generator, prompt.as_ref(), target.as_ref(), is_exact)?;
    let run = |name, score: &mut dyn FnMut(usize, &str) -> Result<f64>| {
        call.run(&generator, config.clone(), &exercises.prompts, name, score)
    };
    let fields = match metric {
        MetricOption::ExactMatch => run(EXACT_MATCH, &mut |number, output| match exercises.targets.get(number) {
            Some(target) => Ok(call.exact_match.score(output, target)),
            None => Err(Error::bug("an output without a target")),
        })?,
        MetricOption::Function(function) => {
            let hint = "`metric` is called with two values: |output, row| …";
            let function = Callback::new(context, function.clone()).with_arity_hint(hint);
            let fields = run("score", &mut |number, output| score_by(&function, number, output, &*rows.row(number)?));
            function.settle(fields)?
        }
    };
    Ok(to_map(&fields))
}
