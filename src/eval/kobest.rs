//! KoBEST v1 (Kim and others, "KOBEST: Korean Balanced Evaluation of Significant Tasks", 2022): measures candidates on
//! its five tasks, as lm-evaluation-harness 0.4.13 does.
//!
//! Leaves to others: the tasks and their questions (`kobest/task.rs`).

mod task;

use super::bootstrap::Bootstrap;
use super::candidate::{Candidate, CandidateOptions};
use super::likelihood::ScoringOptions;
use super::measured::Measured;
use super::multiple_choice::{Answers, ChoiceOptions, MeasuredAnswers, Question};
use crate::error::Result;
use crate::hub::{self, Hub};
use crate::lora::Model;
use crate::options;
use crate::options::{OptionType, Refusal};

pub use task::Task;

/// The name of the data set on the hub.
pub const HUB_NAME: &str = "skt/kobest_v1";

options! {
    /// The tasks to measure, and how.
    #[derive(Debug, Clone)]
    pub struct KobestOptions {
        /// The tasks, in the order of the result.
        pub tasks: Vec<Task> = Task::ALL.to_vec();
        /// A data set on the hub, or a folder with a folder for each task.
        pub data: String = HUB_NAME.to_owned();
        /// Only the first test rows of each task.
        pub limit: Option<usize> = None, words "all test rows";
        /// Examples in the prompt; only 0 is supported.
        pub num_fewshot: usize = 0;
        pub scoring: ScoringOptions = ScoringOptions::default(), is set;
        pub candidates: CandidateOptions = CandidateOptions::default(), is set;
        pub bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
    rule KobestOptions::rule;
}

impl KobestOptions {
    fn rule(&self) -> Option<Refusal> {
        let refusal = Refusal::new("num_fewshot", "0", self.num_fewshot.to_value().describe());
        (self.num_fewshot != 0).then(|| refusal.with_hint("examples in the prompt are not supported"))
    }
}

/// The results of one candidate.
#[derive(Debug, Clone)]
pub struct KobestResult {
    pub tasks: Vec<(Task, MeasuredAnswers)>,
}

impl KobestResult {
    /// The metrics over all tasks, if there are several.
    pub fn together(&self) -> Option<Vec<Measured>> {
        let tasks = self.tasks.iter().map(|(_, task)| (task.answers.questions.len(), task.measured.clone()));
        (self.tasks.len() > 1).then(|| together(&tasks.collect::<Vec<_>>()))
    }

    /// The number of questions of all tasks.
    pub fn questions(&self) -> usize {
        self.tasks.iter().map(|(_, task)| task.answers.questions.len()).sum()
    }
}

/// Measures every candidate on every task.
pub fn measure(
    model: &Model,
    candidates: &[Candidate],
    options: &KobestOptions,
    hub: &Hub,
    observer: &mut dyn hub::FetchObserver,
) -> Result<Vec<KobestResult>> {
    // All data is read first, so that a missing file fails before any evaluation.
    let questions = options.tasks.iter().map(|task| task.questions(&options.data, options.limit, hub, observer));
    let questions: Vec<Vec<Question>> = questions.collect::<Result<_>>()?;
    let choice = ChoiceOptions { scoring: options.scoring, ..ChoiceOptions::default() };
    let mut results = vec![KobestResult { tasks: Vec::new() }; candidates.len()];
    for (task, questions) in options.tasks.iter().zip(&questions) {
        let answers = Answers::measure(model, candidates, questions, &choice);
        let answers = answers.map_err(|error| error.context(format!("kobest {}", task.name())))?;
        for (answers, result) in answers.into_iter().zip(&mut results) {
            result.tasks.push((*task, answers.measured_by(task.metrics(), &options.bootstrap)?));
        }
    }
    Ok(results)
}

/// The metrics over several tasks, as in the group `kobest` of lm-evaluation-harness: the mean over all items of the
/// tasks that have the metric, with the pooled standard error.
///
/// Takes the number of items of each task and its metrics.
pub fn together(tasks: &[(usize, Vec<Measured>)]) -> Vec<Measured> {
    let mut names: Vec<&str> = Vec::new();
    for metric in tasks.iter().flat_map(|(_, all)| all) {
        if !names.contains(&metric.name.as_str()) {
            names.push(&metric.name);
        }
    }
    let measured = |name: &str| -> Vec<(f64, &Measured)> {
        let each =
            tasks.iter().filter_map(|(size, all)| Some((*size as f64, all.iter().find(|one| one.name == name)?)));
        each.collect()
    };
    names.into_iter().map(|name| pooled(name, &measured(name))).collect()
}

/// `pooled_sample_stderr`: √(Σ(n − 1)·n·e² / (N − k) / N) over k tasks of n items, N in all.
fn pooled(name: &str, tasks: &[(f64, &Measured)]) -> Measured {
    let items: f64 = tasks.iter().map(|(size, _)| size).sum();
    let value = tasks.iter().map(|(size, one)| size * one.value).sum::<f64>() / items;
    let squares: Option<Vec<f64>> =
        tasks.iter().map(|(size, one)| Some((size - 1.0) * size * one.standard_error?.powi(2))).collect();
    let standard_error =
        squares.map(|squares| (squares.iter().sum::<f64>() / (items - tasks.len() as f64) / items).sqrt());
    Measured { name: name.to_owned(), value, standard_error, interval: None }
}
