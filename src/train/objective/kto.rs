//! Kahneman-Tversky optimisation (Ethayarajh et al. 2024), as in TRL's `KTOTrainer`: each completion is desirable or not,
//! and is compared with the divergence of the model from the reference, estimated on prompts with the completions of
//! other rows of the batch.

use super::answers::{host, values, AnswerLabels};
use super::loss::{ObjectiveLoss, CHOSEN_LOGP, CHOSEN_REWARD, REJECTED_LOGP, REJECTED_REWARD};
use super::options::ObjectiveOptions;
use crate::error::Result;
use tch::Tensor;

/// `kl` is the estimated divergence, without a gradient.
pub fn loss(
    options: &ObjectiveOptions,
    labels: &AnswerLabels,
    (desirable, kl): (&[bool], f64),
    reference: &[f64],
    losses: &Tensor,
) -> Result<ObjectiveLoss> {
    let beta = options.beta();
    let ObjectiveOptions { desirable_weight, undesirable_weight, .. } = *options;
    let logps = labels.logps(losses)?;
    let device = logps.device();
    let ratios = logps.f_sub(&host(reference, device)?)?;
    let signs: Vec<f64> = desirable.iter().map(|&on| if on { beta } else { -beta }).collect();
    let weights: Vec<f64> =
        desirable.iter().map(|&on| if on { desirable_weight } else { undesirable_weight }).collect();
    let scaled = ratios.f_sub_scalar(kl)?.f_mul(&host(&signs, device)?)?;
    let rows = scaled.f_sigmoid()?.f_neg()?.f_add_scalar(1.0)?.f_mul(&host(&weights, device)?)?;
    let mut loss = ObjectiveLoss::of_rows(rows);
    for ((&on, ratio), logp) in desirable.iter().zip(values(&ratios)?).zip(values(&logps)?) {
        let (reward, logp_name) = if on { (CHOSEN_REWARD, CHOSEN_LOGP) } else { (REJECTED_REWARD, REJECTED_LOGP) };
        loss.metrics.add(reward, beta * ratio, 1.0);
        loss.metrics.add(logp_name, logp, 1.0);
    }
    loss.metrics.add("kl", kl, 1.0);
    Ok(loss)
}
