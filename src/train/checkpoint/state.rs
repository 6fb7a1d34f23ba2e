//! The state of one run between two steps: all that it needs to go on as if it had never stopped.
//!
//! The order of rows and the dropout masks are functions of the seed and the step, so they are not part of it.

use crate::error::{Error, Kind, Result};
use crate::model::Parameters;
use crate::train::flat_loss::FlatLossWatch;
use crate::train::loss_scale::LossScale;
use crate::train::mean_metrics::MeanMetrics;
use crate::train::metrics::{number_from_json, number_to_json};
use crate::train::overfitting::{Overfitting, OverfittingWatch};
use crate::train::recorder::LogState;
use crate::train::stalled::StallWatch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tch::{Device, Tensor};

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunPosition {
    pub steps: u64,
    pub loss_sum: f64,
    pub tokens: u64,
    /// Spent training, also before a stop.
    pub time: Duration,
    pub evaluations_without_improvement: u64,
    /// The step of the last evaluation.
    pub evaluated_at: Option<u64>,
    /// The most memory held so far, in bytes.
    pub peak_memory: Option<u64>,
    /// On preferences, of the steps since the last one that was logged.
    #[serde(default)]
    pub metrics: MeanMetrics,
    /// The means that were logged last.
    #[serde(default)]
    pub logged: Vec<(String, f64)>,
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEvaluation {
    #[serde(with = "any_float")]
    pub loss: f64,
    pub step: u64,
}

/// The numbers of a run; its tensors are in [`RunState`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunNumbers {
    /// Of the trained parameters: see [`layout`].
    pub layout: String,
    pub position: RunPosition,
    pub optimizer_steps: u64,
    pub loss_scale: LossScale,
    pub best: Option<BestEvaluation>,
    #[serde(with = "any_floats", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub best_metrics: BTreeMap<String, f64>,
    #[serde(with = "any_float_or_none")]
    pub last_eval: Option<f64>,
    /// Of the last evaluation.
    #[serde(with = "any_floats", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval_metrics: BTreeMap<String, f64>,
    pub stopped_early: bool,
    pub overfitting_watch: OverfittingWatch,
    pub overfitting: Option<Overfitting>,
    pub stall_watch: StallWatch,
    pub flat_watch: FlatLossWatch,
    /// Why the run left those beside it.
    pub failure: Option<Error>,
    pub log: Option<LogState>,
    /// Samples that several steps train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Value>,
}

/// The state of a run. Its tensors are f32 `[total]`, and may be views of those that are trained.
#[derive(Debug)]
pub struct RunState {
    pub numbers: RunNumbers,
    pub parameters: Tensor,
    /// AdamW's running mean of the gradient.
    pub mean: Tensor,
    /// AdamW's running mean of its square.
    pub square: Tensor,
    /// The parameters of the best evaluation, where they are kept.
    pub best: Option<Tensor>,
}

const PARAMETERS: &str = "parameters";
const MEAN: &str = "adamw_mean";
const SQUARE: &str = "adamw_square";
const BEST: &str = "best_parameters";

impl RunState {
    /// The tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let always = [(PARAMETERS, &self.parameters), (MEAN, &self.mean), (SQUARE, &self.square)];
        always.into_iter().chain(self.best.as_ref().map(|best| (BEST, best)))
    }

    /// Puts a state together; `tensor` gives the tensor of a name, `None` where there is none.
    ///
    /// # Errors
    /// A tensor that is absent or cannot be read.
    pub fn assemble(numbers: RunNumbers, tensor: impl Fn(&str) -> Result<Option<Tensor>>) -> Result<Self> {
        let required = |name: &str| {
            let absent = || Error::new(Kind::File, format!("expected the tensor `{name}`, found none"));
            tensor(name)?.ok_or_else(absent)
        };
        Ok(RunState {
            numbers,
            parameters: required(PARAMETERS)?,
            mean: required(MEAN)?,
            square: required(SQUARE)?,
            best: tensor(BEST)?,
        })
    }

    /// Fails unless the state is one of `parameters`.
    pub fn ensure_fits(&self, parameters: &Parameters) -> Result<()> {
        let size = parameters.flat().size();
        let fits = self.numbers.layout == layout(parameters) && self.tensors().all(|(_, tensor)| tensor.size() == size);
        if fits {
            return Ok(());
        }
        Err(Error::input(format!(
            "the checkpoint is of other trained parameters: expected {}, found {}",
            parameters.count(),
            self.parameters.numel()
        ))
        .with_hint("train the adapter that was saved, or begin anew with resume: false"))
    }
}

/// A hash over the names and shapes of the trained parameters.
pub fn layout(parameters: &Parameters) -> String {
    let mut hash = Sha256::new();
    for (name, leaf) in parameters.names().iter().zip(parameters.leaves()) {
        hash.update(format!("{name} {:?}\n", leaf.size()));
    }
    format!("{:x}", hash.finalize())
}

/// CRC-32C over the values of a flat f32 tensor, to tell one start from another.
pub fn checksum(flat: &Tensor) -> Result<String> {
    const PIECE: i64 = 1 << 20;
    let (flat, mut piece, mut crc) = (flat.f_detach()?, vec![0.0_f32; PIECE as usize], 0);
    for begin in (0..flat.numel() as i64).step_by(PIECE as usize) {
        let length = PIECE.min(flat.numel() as i64 - begin);
        let values = flat.f_narrow(0, begin, length)?.f_to_device(Device::Cpu)?;
        values.f_copy_data(&mut piece, length as usize)?;
        for value in &piece[..length as usize] {
            crc = crc32c::crc32c_append(crc, &value.to_le_bytes());
        }
    }
    Ok(format!("{crc:08x}"))
}

/// Floats that may be NaN or infinite, which JSON has no numbers for.
mod any_float {
    use super::*;

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        number_to_json(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let value = Value::deserialize(deserializer)?;
        number_from_json(&value).ok_or_else(|| serde::de::Error::custom(format!("expected a number, found {value}")))
    }
}

mod any_float_or_none {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(number_to_json).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let value = Option::<Value>::deserialize(deserializer)?;
        Ok(value.as_ref().and_then(number_from_json))
    }
}

mod any_floats {
    use super::*;

    pub fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, number_to_json(*value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
        Ok(values.iter().filter_map(|(name, value)| Some((name.clone(), number_from_json(value)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_come_back_bit_for_bit() {
        for loss in [0.1 + 0.2, -0.0, f64::MIN_POSITIVE / 2.0, 1e308, f64::INFINITY, f64::NEG_INFINITY] {
            let best = BestEvaluation { loss, step: u64::MAX };
            let back: BestEvaluation = serde_json::from_str(&serde_json::to_string(&best).unwrap()).unwrap();
            assert_eq!((back.loss.to_bits(), back.step), (loss.to_bits(), u64::MAX));
        }
        let text = serde_json::to_string(&BestEvaluation { loss: f64::NAN, step: 1 }).unwrap();
        assert!(serde_json::from_str::<BestEvaluation>(&text).unwrap().loss.is_nan());
    }

    #[test]
    fn the_checksum_sees_every_bit_and_the_order() {
        let crc = |values: &[f32]| checksum(&Tensor::from_slice(values)).unwrap();
        // CRC-32C of the bytes 00 00 80 3f.
        assert_eq!(crc(&[1.0]), format!("{:08x}", crc32c::crc32c(&[0, 0, 0x80, 0x3f])));
        assert_ne!(crc(&[1.0, 2.0]), crc(&[2.0, 1.0]));
        assert_ne!(crc(&[0.0]), crc(&[-0.0]));
        let mut long = vec![0.5_f32; (1 << 20) + 3];
        let before = crc(&long);
        long[1 << 20] = f32::from_bits(0.5_f32.to_bits() + 1);
        assert_ne!(crc(&long), before);
    }
}
