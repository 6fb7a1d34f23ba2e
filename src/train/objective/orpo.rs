//! Odds-ratio preference optimisation (Hong et al. 2024), as in TRL's `ORPOTrainer`: the cross-entropy of the chosen
//! text, its prompt included, and the odds ratio of the mean log-probabilities. Needs no reference.

use super::answers::{host, values, AnswerLabels};
use super::loss::{columns, pairs, Nll, ObjectiveLoss, NLL};
use super::options::ObjectiveOptions;
use crate::error::Result;
use tch::Tensor;

pub fn loss(options: &ObjectiveOptions, labels: &AnswerLabels, losses: &Tensor) -> Result<ObjectiveLoss> {
    let beta = options.beta();
    let counts: Vec<f64> = labels.counts.iter().map(|count| count.max(1.0)).collect();
    let logps = labels.logps(losses)?;
    let logps = logps.f_div(&host(&counts, logps.device())?)?;
    let (chosen, rejected) = columns(&logps)?;
    let log_odds = chosen.f_sub(&rejected)?.f_sub(&log1mexp(&chosen)?.f_sub(&log1mexp(&rejected)?)?)?;
    let ratio = log_odds.f_log_sigmoid()?;
    let mut loss = ObjectiveLoss::of_rows(ratio.f_mul_scalar(-beta)?);
    let (sum, count) = labels.chosen_loss(losses, 2)?;
    let logps = values(&logps)?;
    let rewards: Vec<f64> = logps.iter().map(|logp| beta * logp).collect();
    loss.add_pairs(&pairs(&rewards), &pairs(&logps));
    let rows = labels.answers as f64 / 2.0;
    loss.metrics.add("log_odds_ratio", values(&ratio)?.iter().sum(), rows);
    loss.metrics.add("log_odds_chosen", values(&log_odds)?.iter().sum(), rows);
    loss.metrics.add(NLL, sum.f_double_value(&[])?, count);
    loss.nll = Some(Nll { sum, labels: count, weight: 1.0 });
    Ok(loss)
}

/// log(1 - eˣ) of negative x, without cancellation on either side of -ln 2.
fn log1mexp(x: &Tensor) -> Result<Tensor> {
    let limit = -std::f64::consts::LN_2;
    // The branch that is not taken must have a finite gradient: 0 · NaN would be NaN.
    let low = x.f_clamp_max(limit)?.f_exp()?.f_neg()?.f_log1p()?;
    let high = x.f_clamp_min(limit)?.f_expm1()?.f_neg()?.f_log()?;
    Ok(low.f_where_self(&x.f_lt(limit)?, &high)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log1mexp_is_exact_near_zero_and_far_from_it() {
        let x = Tensor::from_slice(&[-1e-10, -0.5, -0.7, -5.0, -60.0]).set_requires_grad(true);
        let y = log1mexp(&x).unwrap();
        // From Python's decimal with 50 digits.
        let expected = [
            -23.025850929990458,
            -0.9327521295671886,
            -0.6863410028083852,
            -0.006760749449488557,
            -8.75651076269652e-27,
        ];
        for (found, expected) in values(&y).unwrap().iter().zip(expected) {
            assert!((found / expected - 1.0_f64).abs() < 1e-14, "{found} {expected}");
        }
        y.sum(None).backward();
        // d/dx = -eˣ / (1 - eˣ)
        for (x, slope) in values(&x).unwrap().iter().zip(values(&x.grad()).unwrap()) {
            assert!((slope * x.exp_m1() / x.exp() - 1.0).abs() < 1e-9, "{x} {slope}");
        }
    }
}
