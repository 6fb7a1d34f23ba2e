//! Direct preference optimisation (Rafailov et al. 2023), and the losses hinge (SLiC) and IPO in its place, as in TRL's
//! `DPOTrainer`.

use super::answers::{host, values, AnswerLabels};
use super::loss::{columns, pairs, ObjectiveLoss};
use super::options::{DpoLoss, ObjectiveOptions};
use crate::error::Result;
use tch::Tensor;

/// `reference` holds the log-probability of each answer under the reference.
pub fn loss(
    options: &ObjectiveOptions,
    labels: &AnswerLabels,
    reference: &[f64],
    losses: &Tensor,
) -> Result<ObjectiveLoss> {
    let beta = options.beta();
    let logps = labels.logps(losses)?;
    let ratios = logps.f_sub(&host(reference, logps.device())?)?;
    let delta = |ratios: &Tensor| -> Result<Tensor> {
        let (chosen, rejected) = columns(ratios)?;
        Ok(chosen.f_sub(&rejected)?)
    };
    let rows = match options.dpo_loss() {
        DpoLoss::Sigmoid => delta(&ratios)?.f_mul_scalar(beta)?.f_log_sigmoid()?.f_neg()?,
        DpoLoss::Hinge => delta(&ratios)?.f_mul_scalar(-beta)?.f_add_scalar(1.0)?.f_relu()?,
        DpoLoss::Ipo => {
            // The mean over the tokens of each answer, as TRL has confirmed with IPO's authors.
            let counts: Vec<f64> = labels.counts.iter().map(|count| count.max(1.0)).collect();
            let means = ratios.f_div(&host(&counts, logps.device())?)?;
            delta(&means)?.f_sub_scalar(1.0 / (2.0 * beta))?.f_square()?
        }
    };
    let mut loss = ObjectiveLoss::of_rows(rows);
    let rewards: Vec<f64> = values(&ratios)?.iter().map(|ratio| beta * ratio).collect();
    loss.add_pairs(&pairs(&rewards), &pairs(&values(&logps)?));
    Ok(loss)
}
