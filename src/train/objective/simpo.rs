//! Simple preference optimisation (Meng et al. 2024), as in TRL's `CPOTrainer` with `loss_type="simpo"`: the mean
//! log-probabilities of the answers are the rewards, and the cross-entropy of the chosen answers is added. Needs no
//! reference.

use super::answers::{host, values, AnswerLabels};
use super::loss::{columns, pairs, Nll, ObjectiveLoss, NLL};
use super::options::ObjectiveOptions;
use crate::error::Result;
use tch::Tensor;

pub fn loss(options: &ObjectiveOptions, labels: &AnswerLabels, losses: &Tensor) -> Result<ObjectiveLoss> {
    let beta = options.beta();
    let ObjectiveOptions { label_smoothing, simpo_gamma, cpo_alpha, .. } = *options;
    let counts: Vec<f64> = labels.counts.iter().map(|count| count.max(1.0)).collect();
    let logps = labels.logps(losses)?;
    let logps = logps.f_div(&host(&counts, logps.device())?)?;
    let (chosen, rejected) = columns(&logps)?;
    let logits = chosen.f_sub(&rejected)?.f_sub_scalar(simpo_gamma / beta)?.f_mul_scalar(beta)?;
    let kept = logits.f_log_sigmoid()?.f_mul_scalar(label_smoothing - 1.0)?;
    let flipped = logits.f_neg()?.f_log_sigmoid()?.f_mul_scalar(-label_smoothing)?;
    let mut loss = ObjectiveLoss::of_rows(kept.f_add(&flipped)?);
    let logps = values(&logps)?;
    let rewards: Vec<f64> = logps.iter().map(|logp| beta * logp).collect();
    loss.add_pairs(&pairs(&rewards), &pairs(&logps));
    if cpo_alpha > 0.0 {
        let (sum, count) = labels.chosen_loss(losses, 2)?;
        loss.metrics.add(NLL, sum.f_double_value(&[])?, count);
        loss.nll = Some(Nll { sum, labels: count, weight: cpo_alpha });
    } else {
        // TRL logs it as 0 where it does not compute it.
        loss.metrics.add(NLL, 0.0, 1.0);
    }
    Ok(loss)
}
