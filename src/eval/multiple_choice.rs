//! Multiple choice by log-likelihood: the choice that the model finds most likely after the
//! context, scored as lm-evaluation-harness does.

use super::bootstrap::Bootstrap;
use super::candidate::Candidate;
use super::encoder::Encoder;
use super::f1::macro_f1;
use super::likelihood::{log_likelihoods, Request, ScoringOptions};
use super::measured::Measured;
use crate::error::{Error, Result};
use crate::lora::Model;
use crate::options;
use crate::options::Value;

/// A context, what may follow it, and which of these is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub context: String,
    pub choices: Vec<String>,
    /// Which choice, from 0.
    pub answer: usize,
}

options! {
    /// How questions are asked.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChoiceOptions {
        /// The text between context and choice.
        pub delimiter: String = " ".to_owned();
        pub scoring: ScoringOptions = ScoringOptions::default(), is set;
    }
}

/// The questions of rows. A label is the number of the right choice, or its text.
pub fn questions(contexts: Vec<String>, choices: Vec<Vec<String>>, labels: &[Value]) -> Result<Vec<Question>> {
    let questions = contexts.into_iter().zip(choices).zip(labels).enumerate();
    let questions = questions.map(|(number, ((context, choices), label))| {
        let answer = labelled(label, &choices).map_err(|error| error.context(format!("row {number}")))?;
        Ok(Question { context, choices, answer })
    });
    questions.collect()
}

fn labelled(label: &Value, choices: &[String]) -> Result<usize> {
    let number = match label {
        Value::Text(text) => choices.iter().position(|choice| choice == text),
        Value::Int(int) => usize::try_from(*int).ok().filter(|&number| number < choices.len()),
        _ => None,
    };
    number.ok_or_else(|| {
        let last = choices.len().saturating_sub(1);
        Error::data(format!("expected a label from 0 to {last}, or one of the choices, found {}", label.describe()))
    })
}

/// How answers are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The fraction of questions whose most likely choice is right.
    Acc,
    /// The same by log-likelihood per character of the choice.
    AccNorm,
    /// The same by log-likelihood per byte of the choice.
    AccBytes,
    /// Macro-averaged F1 of the most likely choices.
    F1,
}

/// One question, answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Of each choice, in nats.
    pub log_likelihoods: Vec<f64>,
    /// The right choice.
    pub answer: usize,
    /// The most likely choice: as it is, per character, per byte.
    pub chosen: usize,
    pub chosen_norm: usize,
    pub chosen_bytes: usize,
}

/// The answers of one candidate, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredAnswers {
    pub answers: Answers,
    pub metrics: &'static [Metric],
    /// By metric.
    pub measured: Vec<Measured>,
}

/// All questions, answered by one candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    pub questions: Vec<Answered>,
}

impl Answers {
    /// Asks every candidate every question.
    ///
    /// # Errors
    /// By the number of the question: fewer than two choices, an empty choice, one without a token, or an answer that
    /// is no choice.
    pub fn measure(
        model: &Model,
        candidates: &[Candidate],
        questions: &[Question],
        options: &ChoiceOptions,
    ) -> Result<Vec<Answers>> {
        let ChoiceOptions { delimiter, scoring } = options;
        let encoder = Encoder::new(model, scoring.max_length)?;
        if questions.is_empty() {
            return Err(Error::data("expected at least one question, found none"));
        }
        let mut requests = Vec::new();
        for (at, question) in questions.iter().enumerate() {
            let of_choices = question.requests(&encoder, delimiter);
            requests.extend(of_choices.map_err(|error| error.context(format!("row {at}")))?);
        }
        let scores = log_likelihoods(model.decoder(), candidates, &requests, scoring.batch)?;
        Ok(scores.iter().map(|scores| Answers { questions: answered(questions, scores) }).collect())
    }

    /// The score of each question; `None` for F1, which is no mean of such.
    pub fn scores(&self, metric: Metric) -> Option<Vec<f64>> {
        let chosen: fn(&Answered) -> usize = match metric {
            Metric::Acc => |answered| answered.chosen,
            Metric::AccNorm => |answered| answered.chosen_norm,
            Metric::AccBytes => |answered| answered.chosen_bytes,
            Metric::F1 => return None,
        };
        Some(self.questions.iter().map(|answered| f64::from(chosen(answered) == answered.answer)).collect())
    }

    /// With each of `metrics`.
    pub fn measured_by(self, metrics: &'static [Metric], bootstrap: &Bootstrap) -> Result<MeasuredAnswers> {
        let measured = metrics.iter().map(|metric| self.measured(*metric, bootstrap)).collect::<Result<_>>()?;
        Ok(MeasuredAnswers { answers: self, metrics, measured })
    }

    pub fn measured(&self, metric: Metric, bootstrap: &Bootstrap) -> Result<Measured> {
        match self.scores(metric) {
            Some(scores) => Measured::mean(metric.name(), &scores, bootstrap),
            None => Measured::of(metric.name(), self.questions.len(), bootstrap, |drawn| self.f1(drawn)),
        }
    }

    fn f1(&self, drawn: &[u32]) -> f64 {
        macro_f1(drawn.iter().map(|&at| {
            let answered = &self.questions[at as usize];
            (answered.answer, answered.chosen)
        }))
    }
}

impl Metric {
    /// As lm-evaluation-harness calls it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::AccBytes => "acc_bytes",
            Metric::F1 => "f1",
        }
    }
}

impl Question {
    fn requests(&self, encoder: &Encoder, delimiter: &str) -> Result<Vec<Request>> {
        let count = self.choices.len();
        if count < 2 {
            return Err(Error::data(format!("expected at least 2 choices, found {count}")));
        }
        if self.answer >= count {
            return Err(Error::data(format!("expected a label from 0 to {}, found {}", count - 1, self.answer))
                .with_hint("labels count from 0"));
        }
        let request = |(at, choice): (usize, &String)| {
            if choice.is_empty() {
                return Err(Error::data(format!("choice {at} is empty")));
            }
            let pair = encoder.pair(&self.context, &format!("{delimiter}{choice}"));
            pair.map_err(|error| error.context(format!("choice {at}")))
        };
        self.choices.iter().enumerate().map(request).collect()
    }

    fn answered(&self, log_likelihoods: &[f64]) -> Answered {
        let by = |length: fn(&String) -> usize| {
            let each = log_likelihoods.iter().zip(&self.choices);
            largest(each.map(|(value, choice)| value / length(choice) as f64))
        };
        Answered {
            log_likelihoods: log_likelihoods.to_vec(),
            answer: self.answer,
            chosen: largest(log_likelihoods.iter().copied()),
            chosen_norm: by(|choice| choice.chars().count()),
            chosen_bytes: by(String::len),
        }
    }
}

fn answered(questions: &[Question], scores: &[f64]) -> Vec<Answered> {
    let mut rest = scores;
    let each = questions.iter().map(|question| {
        let (scores, others) = rest.split_at(question.choices.len().min(rest.len()));
        rest = others;
        question.answered(scores)
    });
    each.collect()
}

/// The index of the largest value, the first of equals, as `numpy.argmax`.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().reduce(better).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_decides_by_characters_and_by_bytes() {
        // Per character -1, -0.9; per byte -1/3, -0.9.
        let question = Question { context: "c".into(), choices: vec!["가나".into(), "abcde".into()], answer: 1 };
        let answered = question.answered(&[-2.0, -4.5]);
        assert_eq!((answered.chosen, answered.chosen_norm, answered.chosen_bytes), (0, 1, 0));
        let answers = Answers { questions: vec![answered] };
        assert_eq!(answers.scores(Metric::AccNorm), Some(vec![1.0]));
        assert_eq!(answers.scores(Metric::F1), None);
    }

    #[test]
    fn a_label_is_a_number_or_a_choice() {
        let choices = ["no".to_owned(), "yes".to_owned()];
        assert_eq!(labelled(&Value::Int(1), &choices).unwrap(), 1);
        assert_eq!(labelled(&Value::Text("no".to_owned()), &choices).unwrap(), 0);
        for label in [Value::Int(2), Value::Int(-1), Value::Text("maybe".to_owned()), Value::Unit] {
            assert!(labelled(&label, &choices).unwrap_err().message.contains("from 0 to 1"), "{}", label.describe());
        }
    }

    #[test]
    fn the_first_of_equals_is_chosen() {
        assert_eq!(largest([-2.0, -1.0, -1.0].into_iter()), 1);
    }
}
