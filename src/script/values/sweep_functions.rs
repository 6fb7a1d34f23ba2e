//! The functions of a script that take part in the trials of a LoRA sweep: their loss, and metrics of what they trained.

use crate::data::Batch;
use crate::error::{Error, Result};
use crate::lora::adapted::DEFAULT_NAME;
use crate::lora::{self, Adapter};
use crate::options;
use crate::options::Refusal;
use crate::random::Key;
use crate::script::values::callback::Callback;
use crate::script::values::function_identity;
use crate::script::values::grid::NamedValues;
use crate::script::values::handles::Handle;
use crate::script::values::run_functions::{self, RunCallbacks, RunFunctions};
use crate::script::values::sweep_inputs::SweepInputs;
use crate::sweep::Trial;
use crate::train::callbacks::LossFunction;
use crate::train::TrainConfig;
use rhai::{Dynamic, FnPtr, NativeCallContext};
use std::collections::BTreeMap;

options! {
    /// The option `train` of a sweep.
    #[derive(Debug, Clone)]
    pub struct TrialTraining {
        pub config: TrainConfig = TrainConfig::default(), is set;
        /// The loss of a micro-batch instead of the cross-entropy over its labels: `|model, batch|`, or
        /// `|model, batch, point|`, returns a tensor of one number. Trials with such a loss train one after the other.
        pub loss: Option<FnPtr> = None, alias ["compute_loss_func"], words "cross-entropy";
    }
}

/// The functions of one sweep.
pub struct SweepFunctions<'a> {
    pub context: &'a NativeCallContext<'a>,
    pub inputs: &'a SweepInputs,
    pub named: &'a NamedValues,
    pub metrics: Option<Callback<'a>>,
    /// For every point in grid order; `None` is the built-in loss.
    pub losses: Vec<Option<LossOfTrial>>,
}

/// A loss of the script's.
#[derive(Clone)]
pub struct LossOfTrial {
    pub function: FnPtr,
    /// Does it get the point as its third argument?
    pub takes_point: bool,
}

impl LossOfTrial {
    /// # Errors
    /// A function of other arguments, as far as that is known.
    pub fn new(context: &NativeCallContext, function: FnPtr) -> Result<Self> {
        let takes = |arguments: usize| function_identity::takes(context, &function, arguments);
        let takes_point = match (takes(2), takes(3)) {
            (Some(false), Some(true)) => true,
            (Some(false), _) => {
                let expected = "a function of the model and a batch";
                let refusal = Refusal::new("train.loss", expected, "one with other arguments");
                let hint = "|model, batch| model.forward(batch).loss, or |model, batch, point| …";
                return Err(refusal.with_hint(hint).error("sweep"));
            }
            _ => false,
        };
        Ok(LossOfTrial { function, takes_point })
    }
}

impl<'a> SweepFunctions<'a> {
    /// What the script measures of a trained adapter, which is the active one of the model that it gets.
    pub fn measure(&self, trial: &Trial, adapter: Adapter) -> Result<BTreeMap<String, f64>> {
        let Some(callback) = &self.metrics else { return Ok(BTreeMap::new()) };
        let model = self.model(trial, adapter)?;
        let point = Dynamic::from_map(self.inputs.values_at(self.named, trial.index, &trial.point));
        let numbers = callback.call_for_map([Dynamic::from(Handle::new(model)), point]);
        run_functions::results("metrics", &numbers.map_err(|error| error.context("metrics"))?)
    }

    /// The loss of a trial over the adapter that it trains.
    pub fn loss(&self, trial: &Trial, adapter: Adapter) -> Result<Box<LossFunction<'a>>> {
        let loss = self.losses.get(trial.index).cloned().flatten();
        let LossOfTrial { function, takes_point } = loss.ok_or_else(|| Error::bug("a trial without its loss"))?;
        let model = Handle::new(self.model(trial, adapter)?);
        let functions = RunFunctions { loss: Some(function), ..RunFunctions::default() };
        let mut callbacks = RunCallbacks::new(self.context, &model, functions)?;
        if takes_point {
            callbacks.point = Some(Dynamic::from_map(self.inputs.values_at(self.named, trial.index, &trial.point)));
        }
        Ok(Box::new(move |batch: &Batch, key: Key| {
            callbacks.loss(batch, key).map_err(|error| {
                // The record of a trial has no place in a script.
                match callbacks.loss.as_ref().and_then(Callback::failed_line) {
                    Some(line) => error.context(format!("line {line}")),
                    None => error,
                }
            })
        }))
    }

    /// The base of a trial with its adapter, which is active.
    fn model(&self, trial: &Trial, adapter: Adapter) -> Result<lora::Model> {
        let mut model = self.inputs.base(trial.index)?.shallow_clone()?;
        let is_taken = model.adapted.names().any(|name| name == DEFAULT_NAME);
        model.adapted.insert(if is_taken { "trial" } else { DEFAULT_NAME }, adapter)?;
        Ok(model)
    }
}
