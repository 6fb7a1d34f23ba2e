//! Evaluation: perplexity, multiple choice, KoBEST, metrics over text, comparisons.

use crate::data::Dataset as Rows;
use crate::eval::exact_match::ExactMatch;
use crate::eval::multiple_choice::{self, Answers, Metric, Question};
use crate::eval::paired::Comparison;
use crate::eval::perplexity::{self, Perplexity};
use crate::eval::{kobest, table, written, Bootstrap, Candidate, Measured};
use crate::lora::AdaptedModel;
use crate::script::callback::Callback;
use crate::script::convert::RhaiResultOf;
use crate::script::downloads::Downloads;
use crate::script::explain;
use crate::script::handles::Handle;
use crate::script::json::{to_dynamic, to_json};
use crate::script::options::Options;
use crate::script::state::State;
use crate::script::values::{describe, FromScript};
use crate::{hub, lora, Error, Kind, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map};
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
        Ok(run_perplexity(&State::of(&context)?, &*model.read()?, &data, Options::new("perplexity", options))?)
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
        run_multiple_choice(&context, &*model.read()?, &data, Options::new("multiple_choice", options))
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
        Ok(run_kobest(&State::of(&context)?, &*model.read()?, Options::new("kobest", options))?)
    }

    /// Measure what the model writes after each prompt: by exact match, or by a function of yours.
    ///
    /// `prompt` and `target` are functions of the row or names of columns. `metric` is
    /// "exact_match" or a function of output and row that gives a number or a bool. Options:
    /// `prompt` ("prompt"), `target` ("completion"), `metric` ("exact_match"), `max_new_tokens`
    /// (64), `until` ([]; texts before which the output ends), `strip` (false; white space at both
    /// ends does not count), `ignore_case` (false), `ignore_punctuation` (false),
    /// `ignore_numbers` (false), `regexes_to_ignore` ([]), `limit` (all rows), `adapters`,
    /// `bootstrap_iters`, `confidence`, `seed` (as for `perplexity`). The result has `exact_match`
    /// (`score` for a function of yours) with `…_stderr` and `…_interval`, `n`, `scores` and
    /// `outputs` (of each row). Writing is greedy.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "Repeat: fox ->", completion: " fox" }]);
    /// print(score_generation(model, data, #{ max_new_tokens: 4, strip: true }).exact_match);
    /// let short = |output, row| output.len() < 20;
    /// print(score_generation(model, data, #{ max_new_tokens: 4, metric: short }).score);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn score_generation(
        context: NativeCallContext,
        model: Model,
        data: Dataset,
        options: Map,
    ) -> RhaiResultOf<Map> {
        run_generation(&context, &*model.read()?, &data, Options::new("score_generation", options))
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
        let exact = exact_match_of(&mut options)?;
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
        Ok(run_comparison(&a, &b, Options::new("compare_scores", options))?)
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

/// Which candidates are measured, and how sure the numbers are made.
struct Asked {
    adapters: Option<Vec<String>>,
    bootstrap: Bootstrap,
}

impl Asked {
    fn take(options: &mut Options) -> Result<Self> {
        Ok(Asked { adapters: options.take_opt("adapters")?, bootstrap: take_bootstrap(options)? })
    }

    fn candidates<'a>(&self, model: &'a AdaptedModel) -> Result<Vec<Candidate<'a>>> {
        match &self.adapters {
            Some(names) => Candidate::named(model, names),
            None => Ok(vec![Candidate::current(model)]),
        }
    }

    /// One result as it is, those of named adapters by their names.
    fn result(&self, candidates: &[Candidate], results: Vec<Map>) -> Map {
        let named = candidates.iter().map(|candidate| candidate.name.as_str().into());
        match self.adapters {
            Some(_) => named.zip(results.into_iter().map(Dynamic::from)).collect(),
            None => results.into_iter().next().unwrap_or_default(),
        }
    }
}

fn take_bootstrap(options: &mut Options) -> Result<Bootstrap> {
    let default = Bootstrap::default();
    let bootstrap = Bootstrap {
        iterations: options.take("bootstrap_iters", default.iterations)?,
        confidence: options.take("confidence", default.confidence)?,
        seed: options.take("seed", default.seed)?,
    };
    bootstrap.check()?;
    Ok(bootstrap)
}

fn run_perplexity(state: &State, model: &lora::Model, data: &Dynamic, mut options: Options) -> Result<Map> {
    let column = options.take("column", "text".to_owned())?;
    let settings = perplexity::Settings {
        max_length: options.take_opt("max_length")?,
        stride: options.take_opt("stride")?,
        batch: options.take("batch", 8)?,
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let mut texts = texts_of(data, &column)?;
    if state.rehearsing() {
        texts = tiny_texts(&texts, state);
    }
    let candidates = asked.candidates(&model.adapted)?;
    let found =
        Perplexity::measure(model, &candidates, &texts, &settings).map_err(|error| error.context("perplexity"))?;
    let results = found.iter().map(|found| perplexity_map(found, &asked.bootstrap)).collect::<Result<_>>()?;
    Ok(asked.result(&candidates, results))
}

/// The beginnings of few texts.
fn tiny_texts(texts: &[String], state: &State) -> Vec<String> {
    const LETTERS: usize = 200;
    texts.iter().take(state.few(texts.len())).map(|text| text.chars().take(LETTERS).collect()).collect()
}

fn texts_of(data: &Dynamic, column: &str) -> Result<Vec<String>> {
    if let Some(text) = String::from_script(data) {
        return Ok(vec![text]);
    }
    if let Some(texts) = Vec::from_script(data) {
        return Ok(texts);
    }
    match data.clone().try_cast::<Rows>() {
        Some(rows) => from_column(&rows, column),
        None => Err(Error::input(format!(
            "perplexity: expected a string, an array of strings or a data set, found {}",
            describe(data)
        ))
        .with_hint("tokenized rows are measured by evaluate(model, data, #{})")),
    }
}

fn perplexity_map(found: &Perplexity, bootstrap: &Bootstrap) -> Result<Map> {
    let texts = found.texts.len();
    let mut map = Map::new();
    insert(&mut map, &Measured::of("perplexity", texts, bootstrap, |drawn| found.perplexity_of(drawn))?);
    map.insert("word_perplexity".into(), found.word_perplexity().into());
    map.insert("byte_perplexity".into(), found.byte_perplexity().into());
    map.insert("bits_per_byte".into(), found.bits_per_byte().into());
    map.insert("loss".into(), found.loss().into());
    map.insert("loglikelihood".into(), found.log_likelihood().into());
    for (name, count) in
        [("tokens", found.tokens()), ("words", found.words()), ("bytes", found.bytes()), ("texts", texts)]
    {
        map.insert(name.into(), (count as i64).into());
    }
    let losses = found.texts.iter().map(|text| text.loss()).collect::<Vec<_>>();
    map.insert("scores".into(), Map::from([("loss".into(), numbers(&losses))]).into());
    Ok(map)
}

fn run_multiple_choice(
    context: &NativeCallContext,
    model: &lora::Model,
    data: &Rows,
    mut options: Options,
) -> RhaiResultOf<Map> {
    let fields = [("prompt", "prompt"), ("choices", "choices"), ("label", "label")];
    let fields = fields.map(|(name, column)| Field::take(&mut options, name, column));
    let [prompt, choices, label] = fields;
    let (prompt, choices, label) = (prompt?, choices?, label?);
    let data = limited(data, &mut options, &State::of(context)?)?;
    let default = multiple_choice::Settings::default();
    let settings = multiple_choice::Settings {
        delimiter: options.take("delimiter", default.delimiter)?,
        max_length: options.take_opt("max_length")?,
        batch: options.take("batch", default.batch)?,
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let contexts: Vec<String> = prompt.values(context, &data)?;
    let choices: Vec<Vec<String>> = choices.values(context, &data)?;
    let labels: Vec<Dynamic> = label.values(context, &data)?;
    let questions =
        contexts.into_iter().zip(choices).zip(&labels).enumerate().map(|(at, ((context, choices), label))| {
            let answer =
                answer(label, &choices).map_err(|error| error.context(format!("multiple_choice: row {at}")))?;
            Ok(Question { context, choices, answer })
        });
    let questions: Vec<Question> = questions.collect::<Result<_>>()?;
    let candidates = asked.candidates(&model.adapted)?;
    let found = Answers::measure(model, &candidates, &questions, &settings)
        .map_err(|error| error.context("multiple_choice"))?;
    let metrics = [Metric::Acc, Metric::AccNorm, Metric::AccBytes, Metric::F1];
    let results = found.iter().map(|answers| {
        let measured = measured(answers, &metrics, &asked.bootstrap)?;
        Ok(answers_map(answers, &metrics, &measured))
    });
    Ok(asked.result(&candidates, results.collect::<Result<_>>()?))
}

/// The number of the right choice, given as such or as its text.
fn answer(label: &Dynamic, choices: &[String]) -> Result<usize> {
    let expected = format!("expected a label from 0 to {}, or one of the choices", choices.len().saturating_sub(1));
    let wrong = || Error::data(format!("{expected}, found {}", describe(label)));
    match String::from_script(label) {
        Some(text) => choices.iter().position(|choice| *choice == text).ok_or_else(wrong),
        None => usize::from_script(label).filter(|&at| at < choices.len()).ok_or_else(wrong),
    }
}

fn run_kobest(state: &State, model: &lora::Model, mut options: Options) -> Result<Map> {
    let tasks: Option<Vec<String>> = options.take_opt("tasks")?;
    let data = state.to_read(&options.take("data", kobest::HUB_NAME.to_owned())?);
    let limit: Option<usize> = options.take_opt("limit")?;
    let limit = if state.rehearsing() { Some(state.few(limit.unwrap_or(usize::MAX))) } else { limit };
    let num_fewshot = options.take("num_fewshot", 0_usize)?;
    if num_fewshot != 0 {
        let error = options.wrong("num_fewshot", "0", &num_fewshot.to_string());
        return Err(error.with_hint("examples in the prompt are not supported"));
    }
    let settings = multiple_choice::Settings {
        max_length: options.take_opt("max_length")?,
        batch: options.take("batch", 8)?,
        ..multiple_choice::Settings::default()
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let tasks = match tasks {
        Some(names) => names.iter().map(|name| kobest::Task::named(name)).collect::<Result<Vec<_>>>()?,
        None => kobest::Task::ALL.to_vec(),
    };
    let candidates = asked.candidates(&model.adapted)?;
    let (hub, mut downloads) = (hub::Hub::from_env()?, Downloads::new(state));
    // All data is read first, so that a missing file costs no evaluation.
    let questions = tasks.iter().map(|task| task.questions(&data, limit, &hub, &mut downloads));
    let questions: Vec<Vec<Question>> = questions.collect::<Result<_>>()?;
    let mut results = vec![Map::new(); candidates.len()];
    let mut sums: Vec<Vec<(usize, Vec<Measured>)>> = vec![Vec::new(); candidates.len()];
    for (task, questions) in tasks.iter().zip(&questions) {
        let found = Answers::measure(model, &candidates, questions, &settings)
            .map_err(|error| error.context(format!("kobest {}", task.name())))?;
        for ((answers, result), sums) in found.iter().zip(&mut results).zip(&mut sums) {
            let measured = measured(answers, task.metrics(), &asked.bootstrap)?;
            result.insert(task.name().into(), answers_map(answers, task.metrics(), &measured).into());
            sums.push((questions.len(), measured));
        }
    }
    if tasks.len() > 1 {
        results.iter_mut().zip(&sums).for_each(|(result, sums)| {
            result.insert("kobest".into(), together_map(sums).into());
        });
    }
    Ok(asked.result(&candidates, results))
}

fn together_map(tasks: &[(usize, Vec<Measured>)]) -> Map {
    let mut map = Map::new();
    kobest::together(tasks).iter().for_each(|measured| insert(&mut map, measured));
    map.insert("n".into(), (tasks.iter().map(|(items, _)| *items as i64).sum::<i64>()).into());
    map
}

fn measured(answers: &Answers, metrics: &[Metric], bootstrap: &Bootstrap) -> Result<Vec<Measured>> {
    metrics.iter().map(|metric| answers.measured(*metric, bootstrap)).collect()
}

fn answers_map(answers: &Answers, metrics: &[Metric], measured: &[Measured]) -> Map {
    let mut map = Map::new();
    measured.iter().for_each(|measured| insert(&mut map, measured));
    let scores = metrics.iter().filter_map(|metric| Some((metric.name().into(), numbers(&answers.scores(*metric)?))));
    map.insert("scores".into(), scores.collect::<Map>().into());
    let items = answers.questions.iter().map(|answered| {
        let item: Map = [
            ("answer".into(), (answered.answer as i64).into()),
            ("chosen".into(), (answered.chosen as i64).into()),
            ("loglikelihoods".into(), numbers(&answered.log_likelihoods)),
        ]
        .into();
        Dynamic::from(item)
    });
    map.insert("items".into(), items.collect::<Array>().into());
    map.insert("n".into(), (answers.questions.len() as i64).into());
    map
}

fn exact_match_of(options: &mut Options) -> Result<ExactMatch> {
    let patterns: Vec<String> = options.take("regexes_to_ignore", Vec::new())?;
    ExactMatch {
        ignore_case: options.take("ignore_case", false)?,
        ignore_punctuation: options.take("ignore_punctuation", false)?,
        ignore_numbers: options.take("ignore_numbers", false)?,
        strip: options.take("strip", false)?,
        ..ExactMatch::default()
    }
    .ignoring(&patterns)
}

fn run_generation(
    context: &NativeCallContext,
    model: &lora::Model,
    data: &Rows,
    mut options: Options,
) -> RhaiResultOf<Map> {
    let prompt = Field::take(&mut options, "prompt", "prompt")?;
    let target = Field::take(&mut options, "target", "completion")?;
    let metric = options.take_any("metric");
    let function = metric.clone().and_then(|metric| metric.try_cast::<FnPtr>());
    if let (Some(other), None) = (metric, &function) {
        if String::from_script(&other).as_deref() != Some(EXACT_MATCH) {
            return Err(options.wrong("metric", "\"exact_match\" or a function", &describe(&other)).into());
        }
    }
    let data = limited(data, &mut options, &State::of(context)?)?;
    let settings = written::Settings {
        max_new_tokens: State::of(context)?.few(options.take("max_new_tokens", 64)?),
        until: options.take("until", Vec::new())?,
    };
    let exact = exact_match_of(&mut options)?;
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    if data.is_empty() {
        return Err(Error::data("score_generation: expected at least one row, found none").into());
    }
    let prompts: Vec<String> = prompt.values(context, &data)?;
    // A function of yours looks at the row itself.
    let targets: Vec<String> = if function.is_some() { Vec::new() } else { target.values(context, &data)? };
    let candidates = asked.candidates(&model.adapted)?;
    let outputs = written::texts(model, &candidates, &prompts, &settings)?;
    let mut results = Vec::new();
    for outputs in outputs {
        let (name, scores) = match &function {
            Some(function) => ("score", scores_by(context, function.clone(), &outputs, &data)?),
            None => {
                let pairs = outputs.iter().zip(&targets);
                (EXACT_MATCH, pairs.map(|(output, target)| exact.score(output, target)).collect())
            }
        };
        results.push(written_map(name, &scores, outputs, &asked.bootstrap)?);
    }
    Ok(asked.result(&candidates, results))
}

const EXACT_MATCH: &str = "exact_match";

fn scores_by(context: &NativeCallContext, function: FnPtr, outputs: &[String], data: &Rows) -> RhaiResultOf<Vec<f64>> {
    let callback = Callback::new(context, function);
    let scores = outputs.iter().zip(data.iter()).enumerate().map(|(at, (output, row))| {
        let found: Dynamic = callback
            .call([output.as_str().into(), to_dynamic(&Value::Object(row.clone()))])
            .map_err(|error| in_row(at, of_metric(error)))?;
        let score = f64::from_script(&found).or_else(|| Some(f64::from(bool::from_script(&found)?)));
        score.filter(|score| score.is_finite()).ok_or_else(|| {
            Error::input(format!(
                "row {at}: `metric` must return a finite number or a bool, found {}",
                describe(&found)
            ))
        })
    });
    callback.settle(scores.collect::<Result<_>>())
}

/// Most closures of scripts are given one value.
fn of_metric(error: Error) -> Error {
    match error.message == explain::wrong_closure().message {
        true => error.with_hint("`metric` is given two: |output, row| …"),
        false => error,
    }
}

fn written_map(name: &str, scores: &[f64], outputs: Vec<String>, bootstrap: &Bootstrap) -> Result<Map> {
    let mut map = Map::new();
    insert(&mut map, &Measured::mean(name, scores, bootstrap)?);
    map.insert("n".into(), (scores.len() as i64).into());
    map.insert("scores".into(), Map::from([(name.into(), numbers(scores))]).into());
    map.insert("outputs".into(), outputs.into_iter().map(Dynamic::from).collect::<Array>().into());
    Ok(map)
}

fn run_comparison(a: &Dynamic, b: &Dynamic, mut options: Options) -> Result<Map> {
    let metric: Option<String> = options.take_opt("metric")?;
    let bootstrap = take_bootstrap(&mut options)?;
    options.finish()?;
    let (a, b) = (scores_of("a", a, metric.as_deref())?, scores_of("b", b, metric.as_deref())?);
    let found = Comparison::of(&a, &b, &bootstrap).map_err(|error| error.context("compare_scores"))?;
    let mut map = Map::new();
    map.insert("n".into(), (found.items as i64).into());
    map.insert("a".into(), found.mean_a.into());
    map.insert("b".into(), found.mean_b.into());
    map.insert("difference".into(), found.difference.into());
    if let Some(spread) = found.spread {
        map.insert("difference_stderr".into(), spread.standard_error.into());
        map.insert("interval".into(), numbers(&[spread.low, spread.high]));
    }
    if let Some(mcnemar) = found.mcnemar {
        map.insert("only_a".into(), (mcnemar.only_a as i64).into());
        map.insert("only_b".into(), (mcnemar.only_b as i64).into());
        map.insert("p_value".into(), mcnemar.p_value.into());
    }
    Ok(map)
}

/// The scores of items: given as such, or those of one metric in a result.
fn scores_of(name: &str, given: &Dynamic, metric: Option<&str>) -> Result<Vec<f64>> {
    if let Some(scores) = Vec::from_script(given) {
        return Ok(scores);
    }
    let scores = Map::from_script(given).and_then(|result| Map::from_script(result.get("scores")?));
    let scores = scores.ok_or_else(|| {
        Error::input(format!(
            "compare_scores: `{name}`: expected a result with `scores`, or an array of numbers, found {}",
            describe(given)
        ))
        .with_hint("of several adapters or tasks, name one: found.tuned, found.boolq")
    })?;
    let only = scores.keys().next().filter(|_| scores.len() == 1).map(|key| key.as_str());
    let metric = metric.or(only).unwrap_or("acc");
    scores.get(metric).and_then(Vec::from_script).ok_or_else(|| {
        let known = scores.keys().map(|key| key.as_str());
        Error::input(format!("compare_scores: `{name}` has no score per item called `{metric}`"))
            .with_hint(crate::suggest::hint(metric, known))
    })
}

/// What is taken of each row: a column, or what a function makes of the row.
enum Field {
    Column(String),
    Function { option: String, function: FnPtr },
}

impl Field {
    fn take(options: &mut Options, name: &str, column: &str) -> Result<Self> {
        let Some(given) = options.take_any(name) else { return Ok(Field::Column(column.to_owned())) };
        if let Some(function) = given.clone().try_cast::<FnPtr>() {
            return Ok(Field::Function { option: name.to_owned(), function });
        }
        match String::from_script(&given) {
            Some(column) => Ok(Field::Column(column)),
            None => Err(options.wrong(name, "a function of the row or the name of a column", &describe(&given))),
        }
    }

    fn values<T: FromScript>(&self, context: &NativeCallContext, data: &Rows) -> RhaiResultOf<Vec<T>> {
        match self {
            Field::Column(name) => Ok(from_column(data, name)?),
            Field::Function { option, function } => {
                let callback = Callback::new(context, function.clone());
                let values = data.iter().enumerate().map(|(at, row)| {
                    callback.call([to_dynamic(&Value::Object(row.clone()))]).map_err(|error| in_row(at, error)).map_err(
                        |error| if error.kind == Kind::Stopped { error } else { error.context(format!("`{option}`")) },
                    )
                });
                callback.settle(values.collect::<Result<_>>())
            }
        }
    }
}

fn from_column<T: FromScript>(data: &Rows, name: &str) -> Result<Vec<T>> {
    data.require_columns(&[name])?;
    let values = data.iter().enumerate().map(|(at, row)| {
        let value = row.get(name).map_or(Dynamic::UNIT, to_dynamic);
        T::from_script(&value).ok_or_else(|| {
            Error::data(format!("row {at}: column `{name}`: expected {}, found {}", T::expected(), describe(&value)))
        })
    });
    values.collect()
}

fn in_row(at: usize, error: Error) -> Error {
    match error.kind {
        Kind::Stopped => error,
        _ => error.context(format!("row {at}")),
    }
}

fn limited(data: &Rows, options: &mut Options, state: &State) -> Result<Rows> {
    Ok(data.take(state.few(options.take("limit", data.len())?)))
}

fn insert(map: &mut Map, measured: &Measured) {
    let name = &measured.name;
    map.insert(name.as_str().into(), measured.value.into());
    map.insert(format!("{name}_stderr").into(), measured.standard_error.map_or(Dynamic::UNIT, Into::into));
    if let Some(interval) = measured.interval {
        map.insert(format!("{name}_interval").into(), numbers(&interval));
    }
}

fn numbers(values: &[f64]) -> Dynamic {
    values.iter().map(|&value| value.into()).collect::<Array>().into()
}
