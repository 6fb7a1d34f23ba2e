//! Results of evaluations as objects, with the names that scripts, tables and files know the numbers by.

use super::candidate::CandidateOptions;
use super::generation_eval::ScoredTexts;
use super::kobest::KobestResult;
use super::multiple_choice::MeasuredAnswers;
use super::paired::PairedComparison;
use super::perplexity::Perplexity;
use super::{Bootstrap, Candidate, Measured};
use crate::data::number;
use crate::error::Result;
use serde_json::{json, Map, Value};

/// An object; numbers that are not finite are those of [`number`].
pub type Fields = Map<String, Value>;

/// One result alone; those of named adapters by their names.
pub fn by_name(options: &CandidateOptions, candidates: &[Candidate], results: Vec<Fields>) -> Fields {
    if options.adapters.is_none() {
        return results.into_iter().next().unwrap_or_default();
    }
    let names = candidates.iter().map(|candidate| candidate.name.clone());
    names.zip(results.into_iter().map(Value::Object)).collect()
}

fn numbers(values: &[f64]) -> Value {
    values.iter().copied().map(number::value).collect()
}

fn insert(fields: &mut Fields, measured: &Measured) {
    let Measured { name, value, standard_error, interval } = measured;
    fields.insert(name.clone(), number::value(*value));
    fields.insert(format!("{name}_stderr"), standard_error.map_or(Value::Null, number::value));
    if let Some(interval) = interval {
        fields.insert(format!("{name}_interval"), numbers(interval));
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Perplexity {
    /// # Errors
    /// A bootstrap that is stopped.
    pub fn fields(&self, bootstrap: &Bootstrap) -> Result<Fields> {
        let texts = self.texts.len();
        let losses: Vec<f64> = self.texts.iter().map(|text| text.loss()).collect();
        let mut fields = object([
            ("word_perplexity", number::value(self.word_perplexity())),
            ("byte_perplexity", number::value(self.byte_perplexity())),
            ("bits_per_byte", number::value(self.bits_per_byte())),
            ("loss", number::value(self.loss())),
            ("loglikelihood", number::value(self.log_likelihood())),
            ("tokens", self.tokens().into()),
            ("words", self.words().into()),
            ("bytes", self.bytes().into()),
            ("texts", texts.into()),
            ("scores", object([("loss", numbers(&losses))]).into()),
        ]);
        insert(&mut fields, &Measured::of("perplexity", texts, bootstrap, |drawn| self.perplexity_of(drawn))?);
        Ok(fields)
    }
}

impl MeasuredAnswers {
    pub fn fields(&self) -> Fields {
        let MeasuredAnswers { answers, metrics, measured } = self;
        let scores: Fields = metrics
            .iter()
            .filter_map(|metric| Some((metric.name().into(), numbers(&answers.scores(*metric)?))))
            .collect();
        let items = answers.questions.iter().map(|answered| {
            let likelihoods = numbers(&answered.log_likelihoods);
            json!({ "answer": answered.answer, "chosen": answered.chosen, "loglikelihoods": likelihoods })
        });
        let mut fields =
            object([("scores", scores.into()), ("items", items.collect()), ("n", answers.questions.len().into())]);
        measured.iter().for_each(|measured| insert(&mut fields, measured));
        fields
    }
}

impl KobestResult {
    pub fn fields(&self) -> Fields {
        let mut fields: Fields =
            self.tasks.iter().map(|(task, answers)| (task.name().to_owned(), answers.fields().into())).collect();
        if let Some(metrics) = self.together() {
            let mut together = object([("n", self.questions().into())]);
            metrics.iter().for_each(|measured| insert(&mut together, measured));
            fields.insert("kobest".to_owned(), together.into());
        }
        fields
    }
}

impl ScoredTexts {
    /// `name` is that of the score.
    ///
    /// # Errors
    /// A bootstrap that is stopped.
    pub fn fields(self, name: &str, bootstrap: &Bootstrap) -> Result<Fields> {
        let ScoredTexts { outputs, scores } = self;
        let mut fields = object([
            ("n", scores.len().into()),
            ("scores", object([(name, numbers(&scores))]).into()),
            ("outputs", outputs.into()),
        ]);
        insert(&mut fields, &Measured::mean(name, &scores, bootstrap)?);
        Ok(fields)
    }
}

impl PairedComparison {
    pub fn fields(&self) -> Fields {
        let mut fields = object([
            ("n", self.items.into()),
            ("a", number::value(self.mean_a)),
            ("b", number::value(self.mean_b)),
            ("difference", number::value(self.difference)),
        ]);
        if let Some(spread) = self.spread {
            fields.insert("difference_stderr".to_owned(), number::value(spread.standard_error));
            fields.insert("interval".to_owned(), numbers(&[spread.low, spread.high]));
        }
        if let Some(mcnemar) = self.mcnemar {
            let counts = [("only_a", mcnemar.only_a.into()), ("only_b", mcnemar.only_b.into())];
            fields.extend(object(counts));
            fields.insert("p_value".to_owned(), number::value(mcnemar.p_value));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Spread;

    #[test]
    fn results_keep_numbers_that_are_not_finite() {
        let measured =
            Measured { name: "acc".into(), value: f64::INFINITY, standard_error: None, interval: Some([0.0, 1.0]) };
        let mut fields = Fields::new();
        insert(&mut fields, &measured);
        assert_eq!(number::not_finite(&fields["acc"]), Some(f64::INFINITY));
        assert_eq!((&fields["acc_stderr"], &fields["acc_interval"]), (&Value::Null, &json!([0.0, 1.0])));
    }

    #[test]
    fn comparisons_keep_numbers_that_are_not_finite() {
        let spread = Spread { standard_error: 0.5, low: f64::NEG_INFINITY, high: 1.0 };
        let (mean_a, mean_b, difference) = (f64::NAN, 1.0, f64::INFINITY);
        let comparison = PairedComparison { items: 2, mean_a, mean_b, difference, spread: Some(spread), mcnemar: None };
        let fields = comparison.fields();
        assert!(number::not_finite(&fields["a"]).is_some_and(f64::is_nan));
        assert_eq!(number::not_finite(&fields["difference"]), Some(f64::INFINITY));
        assert_eq!(number::not_finite(&fields["interval"][0]), Some(f64::NEG_INFINITY));
    }

    #[test]
    fn named_adapters_have_results_by_name() {
        let candidate = |name: &str| Candidate { name: name.to_owned(), adapter: None };
        let candidates = [candidate("base"), candidate("tuned")];
        let results = || vec![object([("n", 1.into())]), object([("n", 2.into())])];
        let names = CandidateOptions { adapters: Some(vec!["base".into(), "tuned".into()]) };
        assert_eq!(by_name(&names, &candidates, results())["tuned"]["n"], 2);
        assert_eq!(by_name(&CandidateOptions::default(), &candidates[..1], results())["n"], 1);
    }
}
