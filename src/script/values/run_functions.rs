//! The functions that a script gives to a run: `train(model, data, #{ loss: |model, batch| …, on_step: |report| … })`.
//!
//! While they run, the script's model is free to be used: the run trains a shallow clone of it.

use crate::bail;
use crate::data::Batch;
use crate::error::{Error, Kind, Result};
use crate::lora;
use crate::lora::trainable::MicroBatchDropout;
use crate::model::Parameters;
use crate::options;
use crate::random::Key;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use crate::train::callbacks::Metrics;
use crate::train::observer::{EvalReport, StepReport};
use rhai::{Dynamic, FnPtr, Map, NativeCallContext};
use std::ops::ControlFlow;
use tch::Tensor;

options! {
    #[derive(Debug, Clone)]
    pub struct RunFunctions {
        /// The loss of a micro-batch instead of the cross-entropy over its labels: `|model, batch|` returns a tensor of one
        /// number. A step takes the mean over its micro-batches. `eval_loss` stays the cross-entropy.
        pub loss: Option<FnPtr> = None, alias ["compute_loss_func"], words "cross-entropy";
        /// Called after every step: `|report|`. Returns `"stop"` to end the run.
        pub on_step: Option<FnPtr> = None;
        /// Called after every evaluation: `|report|`. Returns `"stop"` to end the run.
        pub on_eval: Option<FnPtr> = None;
        /// Measures the model at every evaluation: `|model|` returns a map of numbers. `accuracy` is logged and returned as
        /// `eval_accuracy`.
        pub metrics: Option<FnPtr> = None, alias ["compute_metrics"];
    }
}

/// The functions of one run.
pub struct RunCallbacks<'a> {
    model: Handle<lora::Model>,
    /// What the run trains.
    trained: Parameters,
    /// The third argument of the loss, in a trial of a sweep.
    pub point: Option<Dynamic>,
    pub loss: Option<Callback<'a>>,
    pub on_step: Option<Callback<'a>>,
    pub on_eval: Option<Callback<'a>>,
    pub metrics: Option<Callback<'a>>,
}

const STOP: &str = "stop";

impl<'a> RunCallbacks<'a> {
    /// Marks the model as in training as long as this value lives.
    ///
    /// # Errors
    /// A model that trains nothing, or is in training already.
    pub fn new(
        context: &'a NativeCallContext<'a>,
        model: &Handle<lora::Model>,
        functions: RunFunctions,
    ) -> Result<RunCallbacks<'a>> {
        let mut locked = model.write()?;
        if locked.is_in_training {
            bail!(Kind::Input, "this model is in training: expected another model in a function of the run";
                hint: "load the model a second time with load_model, or train after the run");
        }
        let trained = locked.adapted.trainable()?.shallow_clone();
        locked.is_in_training = true;
        drop(locked);
        let callback = |function: Option<FnPtr>, hint: &'static str| {
            function.map(|function| Callback::new(context, function).with_arity_hint(hint))
        };
        let RunFunctions { loss, on_step, on_eval, metrics } = functions;
        Ok(RunCallbacks {
            model: model.clone(),
            trained,
            point: None,
            loss: callback(loss, "a loss takes the model and a batch: |model, batch| model.forward(batch).loss"),
            on_step: callback(on_step, "on_step takes a report: |report| print(report.loss)"),
            on_eval: callback(on_eval, "on_eval takes a report: |report| print(report.eval_loss)"),
            metrics: callback(metrics, "metrics takes the model: |model| #{ accuracy: 0.5 }"),
        })
    }

    /// The loss that the script computes. The key is that of the micro-batch's dropout.
    pub fn loss(&self, batch: &Batch, key: Key) -> Result<Tensor> {
        let Some(callback) = &self.loss else { return Err(no_function("loss")) };
        self.model.write()?.micro_batch = Some(MicroBatchDropout::new(key));
        let batch = Dynamic::from(Handle::new(batch.clone()));
        let arguments = [Dynamic::from(self.model.clone()), batch].into_iter().chain(self.point.clone());
        let loss = callback.call_for_object::<Handle<Tensor>>("tensor", arguments);
        self.model.write()?.micro_batch = None;
        let loss = loss.map_err(|error| error.context("loss"))?;
        self.ensure_same_parameters("loss")?;
        let loss = loss.read()?.shallow_clone();
        Ok(loss)
    }

    pub fn on_step(&self, report: &StepReport) -> Result<ControlFlow<()>> {
        self.report("on_step", self.on_step.as_ref(), step_report(report))
    }

    pub fn on_eval(&self, report: &EvalReport) -> Result<ControlFlow<()>> {
        self.report("on_eval", self.on_eval.as_ref(), eval_report(report))
    }

    /// The numbers under the names that they are logged by.
    pub fn metrics(&self) -> Result<Metrics> {
        let Some(callback) = &self.metrics else { return Err(no_function("metrics")) };
        let numbers = callback.call_for_map([Dynamic::from(self.model.clone())]);
        let numbers = numbers.map_err(|error| error.context("metrics"))?;
        self.ensure_same_parameters("metrics")?;
        eval_metrics(&numbers)
    }

    fn report(&self, name: &str, callback: Option<&Callback>, report: Map) -> Result<ControlFlow<()>> {
        let Some(callback) = callback else { return Err(no_function(name)) };
        let answer = callback.call_for_any([Dynamic::from_map(report)]).map_err(|error| error.context(name))?;
        self.ensure_same_parameters(name)?;
        let text = answer.read_lock::<rhai::ImmutableString>();
        if text.as_ref().is_some_and(|text| text.as_str() == STOP) {
            return Ok(ControlFlow::Break(()));
        }
        if text.is_some() || answer.is_bool() {
            bail!(Kind::Input, "{name}: expected \"{STOP}\" or nothing, found {}", describe(&answer);
                hint: "\"{STOP}\" ends the run; a function returns its last expression if no `;` follows it");
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The run goes on with what it began with.
    fn ensure_same_parameters(&self, name: &str) -> Result<()> {
        if self.model.read()?.adapted.trains(&self.trained) {
            return Ok(());
        }
        bail!(Kind::Input, "{name}: the function left another adapter active than the one that is trained";
            hint: "with_adapters(model, [\"other\"], || …) uses another adapter for a time")
    }

    /// The result of the run, with the place in the script where a function, or one of `others`, failed.
    pub fn settle<T>(&self, others: &[Callback<'a>], result: Result<T>) -> RhaiResultOf<T> {
        let callbacks = [&self.loss, &self.on_step, &self.on_eval, &self.metrics];
        Callback::settle_any(callbacks.into_iter().flatten().chain(others), result)
    }
}

impl Drop for RunCallbacks<'_> {
    fn drop(&mut self) {
        if let Ok(mut model) = self.model.write() {
            model.is_in_training = false;
            model.micro_batch = None;
        }
    }
}

fn no_function(name: &str) -> Error {
    Error::bug(format!("a run calls `{name}`, which it was not given"))
}

fn step_report(report: &StepReport) -> Map {
    let count = |count: u64| Dynamic::from(i64::try_from(count).unwrap_or(i64::MAX));
    let fields = [
        ("step", count(report.step)),
        ("total_steps", count(report.total_steps)),
        ("epoch", report.epoch.into()),
        ("loss", report.loss.into()),
        ("learning_rate", report.learning_rate.into()),
        ("grad_norm", report.grad_norm.into()),
        ("tokens", count(report.tokens as u64)),
        ("seconds", report.seconds.into()),
        ("tokens_per_s", report.tokens_per_s.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn eval_report(report: &EvalReport) -> Map {
    let fields = [
        ("step", Dynamic::from(i64::try_from(report.step).unwrap_or(i64::MAX))),
        ("epoch", report.epoch.into()),
        ("eval_loss", report.loss.into()),
        ("eval_perplexity", report.perplexity.map_or(Dynamic::UNIT, Dynamic::from)),
        ("is_best", report.is_best.into()),
    ];
    let metrics = report.metrics.iter().map(|(name, value)| (name.as_str(), Dynamic::from(*value)));
    fields.into_iter().chain(metrics).map(|(name, value)| (name.into(), value)).collect()
}

/// Names of an evaluation that metrics of a script cannot have.
const TAKEN: [&str; 2] = ["eval_loss", "eval_perplexity"];

/// By their names in logs, which begin with `eval_` as in transformers.
fn eval_metrics(numbers: &Map) -> Result<Metrics> {
    let named = numbers.iter().map(|(name, value)| {
        let name = if name.starts_with("eval_") { name.to_string() } else { format!("eval_{name}") };
        if TAKEN.contains(&name.as_str()) {
            bail!(Kind::Input, "metrics: `{name}` is measured by the run itself: expected another name");
        }
        Ok((name.clone(), number("metrics", &name, value)?))
    });
    named.collect()
}

/// The numbers of a map by their names.
///
/// # Errors
/// As [`number`].
pub fn numbers<C: FromIterator<(String, f64)>>(function: &str, values: &Map) -> Result<C> {
    values.iter().map(|(name, value)| Ok((name.to_string(), number(function, name, value)?))).collect()
}

/// The results of a trial: numbers, where true counts as 1. Values that are `()` are left out.
///
/// # Errors
/// As [`number`].
pub fn results<C: FromIterator<(String, f64)>>(function: &str, values: &Map) -> Result<C> {
    let present = values.iter().filter(|(_, value)| !value.is_unit());
    let result = |(name, value): (&rhai::Identifier, &Dynamic)| match value.as_bool() {
        Ok(is_true) => Ok((name.to_string(), f64::from(is_true))),
        Err(_) => Ok((name.to_string(), number(function, name, value)?)),
    };
    present.map(result).collect()
}

/// The number that a script calls `name`.
///
/// # Errors
/// Anything but an int or a float.
pub fn number(function: &str, name: &str, value: &Dynamic) -> Result<f64> {
    if let Ok(int) = value.as_int() {
        return Ok(int as f64);
    }
    value.as_float().map_err(|_| {
        let error = Error::input(format!("{function}: `{name}`: expected a number, found {}", describe(value)));
        if value.is::<Handle<Tensor>>() {
            error.with_hint("`.item()` is the number of a tensor")
        } else {
            error
        }
    })
}
