//! Evaluations as one call: the options, the measurement, and the result as an object.

use super::bootstrap::Resampling;
use super::candidate::CandidateOptions;
use super::config::GenerationConfig;
use super::exact_match::ExactMatch;
use super::generation_call::GenerationCall;
use super::generation_eval::score_texts;
use super::generator::Generator;
use super::kobest::{self, KobestOptions};
use super::multiple_choice::{questions, Answers, ChoiceOptions, Metric};
use super::paired::PairedComparison;
use super::perplexity::{first, Perplexity, PerplexityOptions};
use super::prompt::{Prompt, PromptOptions};
use super::result::{by_name, Fields};
use super::Bootstrap;
use crate::data::Pace;
use crate::error::Result;
use crate::hub::{FetchObserver, Hub};
use crate::lora::Model;
use crate::options;
use crate::options::{OneOrMany, Refusal, Value};

options! {
    /// The perplexity of texts.
    #[derive(Debug, Clone)]
    pub struct PerplexityCall {
        /// The column of the texts, in a data set.
        pub column: String = "text".to_owned();
        pub perplexity: PerplexityOptions = PerplexityOptions::default(), is set;
        pub candidates: CandidateOptions = CandidateOptions::default(), is set;
        pub bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

impl PerplexityCall {
    pub fn run(&self, model: &Model, texts: Vec<String>, pace: Pace) -> Result<Fields> {
        let candidates = self.candidates.candidates("perplexity", &model.adapted)?;
        let results = Perplexity::measure(model, &candidates, &first(texts, pace), &self.perplexity)
            .map_err(|error| error.context("perplexity"))?;
        let fields = results.iter().map(|result| result.fields(&self.bootstrap)).collect::<Result<_>>()?;
        Ok(by_name(&self.candidates, &candidates, fields))
    }
}

options! {
    /// Multiple choice.
    #[derive(Debug, Clone)]
    pub struct ChoiceCall {
        /// Only the first rows.
        pub limit: Option<usize> = None, words "all rows";
        pub choice: ChoiceOptions = ChoiceOptions::default(), is set;
        pub candidates: CandidateOptions = CandidateOptions::default(), is set;
        pub bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

const CHOICE_METRICS: &[Metric] = &[Metric::Acc, Metric::AccNorm, Metric::AccBytes, Metric::F1];

impl ChoiceCall {
    /// Of each row its context, its choices, and the right one: its number or its text.
    pub fn run(
        &self,
        model: &Model,
        contexts: Vec<String>,
        choices: Vec<Vec<String>>,
        labels: &[Value],
    ) -> Result<Fields> {
        let candidates = self.candidates.candidates("multiple_choice", &model.adapted)?;
        let answers = questions(contexts, choices, labels)
            .and_then(|questions| Answers::measure(model, &candidates, &questions, &self.choice))
            .map_err(|error| error.context("multiple_choice"))?;
        let fields =
            answers.into_iter().map(|answers| Ok(answers.measured_by(CHOICE_METRICS, &self.bootstrap)?.fields()));
        Ok(by_name(&self.candidates, &candidates, fields.collect::<Result<_>>()?))
    }
}

/// KoBEST's tasks.
pub fn kobest(
    options: &KobestOptions,
    model: &Model,
    pace: Pace,
    hub: &Hub,
    observer: &mut dyn FetchObserver,
) -> Result<Fields> {
    let candidates = options.candidates.candidates("kobest", &model.adapted)?;
    let results = kobest::measure(model, &candidates, options, pace, hub, observer)?;
    Ok(by_name(&options.candidates, &candidates, results.iter().map(|result| result.fields()).collect()))
}

options! {
    /// Scores of the texts that are written after prompts.
    #[derive(Debug, Clone)]
    pub struct ScoreCall {
        pub exact_match: ExactMatch = ExactMatch::default(), is set;
        /// Only the first rows.
        pub limit: Option<usize> = None, words "all rows";
        /// The same as `stop`; a word of the language, so in quotes.
        pub until: Option<Vec<String>> = None;
        pub prompts: PromptOptions = PromptOptions::default(), is set;
        pub generation: GenerationCall = GenerationCall::default(), is set;
        pub candidates: CandidateOptions = CandidateOptions::default(), is set;
        pub resampling: Resampling = Resampling::default(), is set;
    }
    rule ScoreCall::rule;
}

impl ScoreCall {
    fn rule(&self) -> Option<Refusal> {
        let until = self.until.as_ref()?;
        if self.generation.has("stop") {
            let refusal = Refusal::new("until", "it or `stop`, which are the same", "both");
            return Some(refusal.with_hint("leave one of them out"));
        }
        let has_empty = until.iter().any(String::is_empty);
        has_empty.then(|| Refusal::new("until", "strings with at least one character", "an empty one"))
    }

    /// The settings of generation, checked.
    pub fn config(&self, generator: &Generator) -> Result<GenerationConfig> {
        let mut config = generator.config(self.generation.clone())?;
        if let Some(until) = &self.until {
            config.stop = OneOrMany(until.clone());
        }
        Ok(config)
    }

    /// Continues every prompt by `config`. `score` is called with the number of the prompt and the text, and `name` is
    /// that of the scores.
    pub fn run(
        &self,
        generator: &Generator,
        config: GenerationConfig,
        prompts: &[Prompt],
        name: &str,
        score: &mut dyn FnMut(usize, &str) -> Result<f64>,
    ) -> Result<Fields> {
        let config = generator.config_for(config, prompts)?;
        let candidates = self.candidates.candidates(generator.call, &generator.model.adapted)?;
        let scored = score_texts(generator.model, &candidates, prompts, &config, score)?;
        let bootstrap = self.bootstrap();
        let fields = scored.into_iter().map(|texts| texts.fields(name, &bootstrap)).collect::<Result<_>>()?;
        Ok(by_name(&self.candidates, &candidates, fields))
    }

    /// The seed of the draws is the bootstrap's too, where the call sets it.
    fn bootstrap(&self) -> Bootstrap {
        let seed = if self.generation.has("seed") { self.generation.config.seed } else { Bootstrap::default().seed };
        Bootstrap { resampling: self.resampling, seed }
    }
}

options! {
    /// Two candidates compared.
    #[derive(Debug, Clone)]
    pub struct CompareScoresCall {
        /// Which of the `scores` of the results.
        pub metric: Option<String> = None, words "the only one, or \"acc\"";
        pub bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

impl CompareScoresCall {
    pub fn run(&self, a: &[f64], b: &[f64]) -> Result<Fields> {
        let comparison =
            PairedComparison::of(a, b, &self.bootstrap).map_err(|error| error.context("compare_scores"))?;
        Ok(comparison.fields())
    }
}
