//! The loss of a batch of samples.

use super::options::{GrpoOptions, ImportanceLevel};
use crate::error::Result;
use tch::{no_grad, Kind as Dtype, Tensor};

/// What the sum of the tokens' losses is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GrpoLossType {
    /// The mean over samples of each sample's mean: of the first paper; favours short samples that are good.
    Grpo,
    /// The mean over the tokens of a micro-batch.
    Bnpo,
    /// The sum over tokens by samples times `max_completion_length`: no sample's length counts.
    DrGrpo,
    /// The mean over all tokens of the step.
    #[default]
    Dapo,
}

/// The settings of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoLossConfig {
    pub loss_type: GrpoLossType,
    /// The weight of the divergence from the reference; 0 needs no reference.
    pub beta: f64,
    pub options: GrpoOptions,
}

/// What the loss is computed from; all f32, `[rows, seq_len]` unless it says otherwise, and 0 where `mask` is.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The log-probability of each token of a sample, with its graph.
    pub logprobs: &'a Tensor,
    /// The same by the model that drew the samples; `None` if that is the present one.
    pub old_logprobs: Option<&'a Tensor>,
    /// The same by the reference: needed if `beta` is above 0.
    pub reference_logprobs: Option<&'a Tensor>,
    /// 1 at the tokens of samples.
    pub mask: &'a Tensor,
    /// `[rows]`.
    pub advantages: &'a Tensor,
}

/// The loss of a micro-batch and what is logged of it.
#[derive(Debug)]
pub struct GrpoLoss {
    /// A scalar with its graph.
    pub loss: Tensor,
    /// Means over the tokens of samples: `kl` (where there is a reference), and the share of ratios that were clipped,
    /// `clip_ratio/low_mean`, `clip_ratio/high_mean`, `clip_ratio/region_mean`.
    pub metrics: Vec<(&'static str, f64)>,
}

/// -min(ratio · advantage, clipped ratio · advantage) + β · divergence, summed over tokens and divided as `loss_type`
/// says; the divergence is exp(d) - d - 1 with d = reference - model (Schulman's estimator), times the ratio unless
/// `use_bias_correction_kl` is off. From TRL's `GRPOTrainer._compute_loss`.
///
/// `tokens` is what "dapo" divides by: the tokens of all samples of the step, by its micro-batches. Micro-batches of a
/// step are averaged by the caller.
///
/// # Errors
/// Tensors of different shapes.
pub fn grpo_loss(terms: &Terms, config: &GrpoLossConfig, tokens: f64) -> Result<GrpoLoss> {
    let GrpoLossConfig { loss_type, beta, options } = config;
    let Terms { logprobs, mask, .. } = terms;
    let advantages = terms.advantages.f_unsqueeze(1)?;
    let old = match terms.old_logprobs {
        Some(old) => old.shallow_clone(),
        None => logprobs.f_detach()?,
    };
    let log_ratio = logprobs.f_sub(&old)?;
    let log_ratio = match options.importance_sampling_level {
        ImportanceLevel::Token => log_ratio,
        ImportanceLevel::Sequence => masked_means(&log_ratio, mask)?.f_unsqueeze(1)?,
    };
    let ratio = log_ratio.f_exp()?;
    let (low, high) = options.bounds();
    let free = ratio.f_mul(&advantages)?;
    let clipped = ratio.f_clamp(low, high)?.f_mul(&advantages)?;
    let mut losses = free.f_minimum(&clipped)?.f_neg()?;
    let mut metrics = clip_ratios(&ratio, &advantages, mask, (low, high))?;
    if let Some(reference) = terms.reference_logprobs.filter(|_| *beta > 0.0) {
        let difference = reference.f_sub(logprobs)?;
        let divergence = difference.f_exp()?.f_sub(&difference)?.f_sub_scalar(1.0)?;
        let divergence = if options.use_bias_correction_kl { divergence.f_mul(&ratio)? } else { divergence };
        metrics.push(("kl", masked_mean(&divergence, mask)?));
        losses = losses.f_add(&divergence.f_mul_scalar(*beta)?)?;
    }
    // One number for each sample counts once for each of its tokens.
    let losses = losses.f_mul(mask)?;
    let loss = match loss_type {
        GrpoLossType::Grpo => means(&losses, mask)?.f_mean(None)?,
        GrpoLossType::Bnpo => losses.f_sum(None)?.f_div(&mask.f_sum(None)?.f_clamp_min(1.0)?)?,
        GrpoLossType::DrGrpo => {
            losses.f_sum(None)?.f_div_scalar(mask.size()[0] as f64 * options.max_completion_length as f64)?
        }
        GrpoLossType::Dapo => losses.f_sum(None)?.f_div_scalar(tokens.max(1.0))?,
    };
    Ok(GrpoLoss { loss, metrics })
}

/// The mean of each row over its tokens, `[rows]`; 0 of a row without any.
fn masked_means(values: &Tensor, mask: &Tensor) -> Result<Tensor> {
    means(&values.f_mul(mask)?, mask)
}

/// As [`masked_means`], of values that are 0 elsewhere.
fn means(values: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let sum = |tensor: &Tensor| tensor.f_sum_dim_intlist([-1].as_slice(), false, Dtype::Float);
    Ok(sum(values)?.f_div(&sum(mask)?.f_clamp_min(1.0)?)?)
}

/// The mean over all tokens; of one number for each row, over rows.
fn masked_mean(values: &Tensor, mask: &Tensor) -> Result<f64> {
    let mean = no_grad(|| -> Result<Tensor> {
        if values.size().last() == Some(&1) && mask.size().last() != Some(&1) {
            return Ok(values.f_mean(None)?);
        }
        Ok(values.f_mul(mask)?.f_sum(None)?.f_div(&mask.f_sum(None)?.f_clamp_min(1.0)?)?)
    });
    Ok(mean?.f_detach()?.f_double_value(&[])?)
}

fn clip_ratios(
    ratio: &Tensor,
    advantages: &Tensor,
    mask: &Tensor,
    (low, high): (f64, f64),
) -> Result<Vec<(&'static str, f64)>> {
    let is_low = ratio.f_lt(low)?.f_logical_and(&advantages.f_lt(0.0)?)?;
    let is_high = ratio.f_gt(high)?.f_logical_and(&advantages.f_gt(0.0)?)?;
    let either = is_low.f_logical_or(&is_high)?;
    let share = |is_clipped: &Tensor| masked_mean(&is_clipped.f_to_kind(Dtype::Float)?, mask);
    Ok(vec![
        ("clip_ratio/low_mean", share(&is_low)?),
        ("clip_ratio/high_mean", share(&is_high)?),
        ("clip_ratio/region_mean", share(&either)?),
    ])
}
