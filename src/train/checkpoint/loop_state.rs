//! The state of a training loop that a script writes itself: the trained values and optimizers that it names, and its
//! own values.

use super::folder;
use super::resume::{known_changes, Resumable};
use super::state::layout;
use crate::error::{Error, Kind, Result};
use crate::model::Parameters;
use crate::train::loss_scale::LossScale;
use crate::train::recorder::LogState;
use crate::train::settings_diff::Change;
use crate::train::AdamW;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

const PARAMETERS: &str = "parameters";
const GRADIENTS: &str = "gradients";
const MEAN: &str = "adamw_mean";
const SQUARE: &str = "adamw_square";
const TENSORS: [&str; 4] = [PARAMETERS, GRADIENTS, MEAN, SQUARE];

/// The numbers of an optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizerNumbers {
    pub steps: u64,
    /// Of the next step.
    pub lr: f64,
    pub loss_scale: LossScale,
}

/// What belongs to one set of trained values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartNumbers {
    layout: String,
    /// Forward passes of the model in training so far, which dropout depends on.
    pub forwards: u64,
    pub optimizer: Option<OptimizerNumbers>,
}

/// Trained values, with the optimizer over them if there is one.
#[derive(Debug)]
pub struct LoopPart {
    pub numbers: PartNumbers,
    tensors: Vec<(&'static str, Tensor)>,
}

impl LoopPart {
    /// The values are views: the part must be written before they change.
    pub fn of(parameters: &Parameters, forwards: u64, optimizer: Option<(&AdamW, f64)>) -> Result<Self> {
        let mut tensors = vec![(PARAMETERS, parameters.flat().f_detach()?)];
        // Saved in the middle of an accumulation.
        if parameters.gradient_norm()? != 0.0 {
            tensors.push((GRADIENTS, parameters.flat_gradient().shallow_clone()));
        }
        if let Some((adamw, _)) = optimizer {
            let (mean, square) = adamw.moments();
            tensors.extend([(MEAN, mean.shallow_clone()), (SQUARE, square.shallow_clone())]);
        }
        let optimizer =
            optimizer.map(|(adamw, lr)| OptimizerNumbers { steps: adamw.steps(), lr, loss_scale: adamw.loss_scale });
        Ok(LoopPart { numbers: PartNumbers { layout: layout(parameters), forwards, optimizer }, tensors })
    }

    /// Overwrites `parameters`, their gradients, and the state of `optimizer`.
    ///
    /// # Errors
    /// A part of other parameters, or without the optimizer.
    pub fn restore(&self, parameters: &mut Parameters, optimizer: Option<&mut AdamW>) -> Result<()> {
        if self.numbers.layout != layout(parameters) {
            return Err(Error::input("the checkpoint is of other trained parameters")
                .with_hint("make the adapter as it was when the checkpoint was saved"));
        }
        let tensor = |name: &str| self.tensors.iter().find(|(known, _)| *known == name).map(|(_, tensor)| tensor);
        let required = |name: &str| tensor(name).ok_or_else(|| Error::input(format!("the checkpoint has no `{name}`")));
        parameters.restore(required(PARAMETERS)?)?;
        match tensor(GRADIENTS) {
            Some(gradients) => parameters.restore_gradients(gradients)?,
            None => parameters.zero_gradients()?,
        }
        let Some(optimizer) = optimizer else { return Ok(()) };
        let Some(numbers) = &self.numbers.optimizer else {
            return Err(Error::input("expected the state of an optimizer, found that of a model alone"));
        };
        optimizer.restore(numbers.steps, required(MEAN)?, required(SQUARE)?)?;
        optimizer.loss_scale = numbers.loss_scale;
        Ok(())
    }
}

/// A loop at one moment.
#[derive(Debug)]
pub struct LoopState {
    /// The number of the checkpoint.
    pub step: u64,
    /// What must be the same for the loop to go on.
    pub conditions: Value,
    pub parts: BTreeMap<String, LoopPart>,
    /// An object: the script's own values.
    pub values: Value,
    /// How far the log has come; `None` where nothing was logged.
    pub log: Option<LogState>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    step: u64,
    conditions: Value,
    parts: BTreeMap<String, PartNumbers>,
    values: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogState>,
}

impl LoopState {
    /// The most steps of an optimizer; `None` without one.
    pub fn optimizer_steps(&self) -> Option<u64> {
        self.parts.values().filter_map(|part| Some(part.numbers.optimizer.as_ref()?.steps)).max()
    }

    /// Writes the state into `folder`, as the checkpoint of its step.
    ///
    /// # Errors
    /// A folder that cannot be written; earlier checkpoints stay.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let tensors = self.parts.iter().flat_map(|(name, part)| {
            part.tensors.iter().map(move |(kind, tensor)| (format!("{name}/{kind}"), tensor.shallow_clone()))
        });
        let record = Record {
            step: self.step,
            conditions: self.conditions.clone(),
            parts: self.parts.iter().map(|(name, part)| (name.clone(), part.numbers.clone())).collect(),
            values: self.values.clone(),
            log: self.log.clone(),
        };
        folder::write(folder, self.step, &record, &tensors.collect::<Vec<_>>())
    }
}

impl Resumable for LoopState {
    fn read(path: &Path) -> Result<Self> {
        let (record, tensors) = folder::read(path)?;
        let Record { step, conditions, parts, values, log } = serde_json::from_value(record).map_err(|_| {
            Error::new(
                Kind::File,
                format!("`{}` is of no loop: expected one that run.checkpoint wrote", path.display()),
            )
        })?;
        let part = |(name, numbers): (String, PartNumbers)| {
            let tensor = |kind: &'static str| {
                let key = format!("{name}/{kind}");
                tensors.info(&key).map(|_| Ok((kind, tensors.tensor(&key)?)))
            };
            let tensors = TENSORS.into_iter().filter_map(tensor).collect::<Result<_>>()?;
            Ok((name, LoopPart { numbers, tensors }))
        };
        let parts = parts.into_iter().map(part).collect::<Result<_>>()?;
        Ok(LoopState { step, conditions, parts, values, log })
    }

    fn step(&self) -> u64 {
        self.step
    }

    fn changes(&self, conditions: &Value) -> Result<Vec<Change>> {
        Ok(known_changes(&self.conditions, conditions))
    }
}
