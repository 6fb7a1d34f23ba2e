//! Checkpoints of a training loop that a script writes itself: trained values, optimizer, and the script's own values.

use super::folder;
use super::state::layout;
use crate::error::{Error, Kind, Result};
use crate::model::Parameters;
use crate::train::loss_scale::LossScale;
use crate::train::AdamW;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Kept beside the newest, should that be damaged.
const KEPT: usize = 2;
const PARAMETERS: &str = "parameters";
const MEAN: &str = "adamw_mean";
const SQUARE: &str = "adamw_square";

#[derive(Serialize, Deserialize)]
struct Record {
    layout: String,
    optimizer_steps: u64,
    loss_scale: LossScale,
    values: Value,
}

/// Saves into `folder`, as a checkpoint named by the optimizer's steps.
///
/// # Errors
/// A folder that cannot be written; earlier checkpoints stay.
pub fn save(folder: &Path, parameters: &Parameters, optimizer: &AdamW, values: Value) -> Result<PathBuf> {
    let (mean, square) = optimizer.moments();
    let tensors = [(PARAMETERS, parameters.flat()), (MEAN, mean), (SQUARE, square)];
    let tensors = tensors.into_iter().map(|(name, tensor)| Ok((name.to_owned(), tensor.f_detach()?)));
    let record = Record {
        layout: layout(parameters),
        optimizer_steps: optimizer.steps(),
        loss_scale: optimizer.loss_scale,
        values,
    };
    let path = folder::write(folder, optimizer.steps(), &record, &tensors.collect::<Result<Vec<_>>>()?)?;
    folder::prune(folder, KEPT)?;
    Ok(path)
}

/// Goes on from the newest whole checkpoint in `folder`: overwrites `parameters` and the state of `optimizer`, and
/// returns the script's values; `None` where there is no checkpoint. `note` gets lines for the user.
///
/// # Errors
/// A checkpoint of other parameters.
pub fn load(
    folder: &Path,
    parameters: &mut Parameters,
    optimizer: &mut AdamW,
    note: &mut dyn FnMut(&str),
) -> Result<Option<Value>> {
    for (step, path) in folder::list(folder) {
        let (record, tensors) = match folder::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind == Kind::Stopped => return Err(error),
            Err(error) => {
                note(&format!("the checkpoint of step {step} cannot be used: {}", error.message));
                continue;
            }
        };
        let record: Record = serde_json::from_value(record).map_err(|_| {
            Error::input(format!(
                "`{}` is not the checkpoint of a loop: expected one that save_checkpoint wrote",
                path.display()
            ))
            .with_hint("runs of train and sweep go on by themselves")
        })?;
        if record.layout != layout(parameters) {
            return Err(Error::input(format!("`{}` is of other trained parameters", path.display()))
                .with_hint("make the adapter as it was when the checkpoint was saved"));
        }
        parameters.restore(&tensors.tensor(PARAMETERS)?)?;
        parameters.zero_gradients()?;
        optimizer.restore(record.optimizer_steps, &tensors.tensor(MEAN)?, &tensors.tensor(SQUARE)?)?;
        optimizer.loss_scale = record.loss_scale;
        return Ok(Some(record.values));
    }
    Ok(None)
}
