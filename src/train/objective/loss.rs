//! The loss of a batch of preferences, and what is logged of it.

use crate::error::Result;
use crate::train::mean_metrics::MeanMetrics;
use tch::Tensor;

pub const CHOSEN_REWARD: &str = "rewards/chosen";
pub const REJECTED_REWARD: &str = "rewards/rejected";
pub const MARGIN: &str = "rewards/margins";
pub const ACCURACY: &str = "rewards/accuracies";
pub const CHOSEN_LOGP: &str = "logps/chosen";
pub const REJECTED_LOGP: &str = "logps/rejected";
pub const NLL: &str = "nll_loss";

/// The loss of a batch: the mean over its rows, and a cross-entropy beside it.
#[derive(Debug)]
pub struct ObjectiveLoss {
    /// f64 `[rows]`.
    pub rows: Tensor,
    pub nll: Option<Nll>,
    /// Sums over rows.
    pub metrics: MeanMetrics,
}

/// A cross-entropy that is added to the loss.
#[derive(Debug)]
pub struct Nll {
    /// Scalar, f64.
    pub sum: Tensor,
    pub labels: f64,
    pub weight: f64,
}

impl ObjectiveLoss {
    pub fn of_rows(rows: Tensor) -> Self {
        ObjectiveLoss { rows, nll: None, metrics: MeanMetrics::default() }
    }

    /// The scalar to call `backward` on, f64.
    pub fn mean(&self) -> Result<Tensor> {
        let mean = self.rows.f_mean(None)?;
        match &self.nll {
            Some(Nll { sum, labels, weight }) if *weight != 0.0 => {
                Ok(mean.f_add(&sum.f_mul_scalar(weight / labels.max(1.0))?)?)
            }
            _ => Ok(mean),
        }
    }

    /// The metrics of pairs: rewards and log-probabilities of `[chosen, rejected]` of each row.
    pub fn add_pairs(&mut self, rewards: &[[f64; 2]], logps: &[[f64; 2]]) {
        let rows = rewards.len() as f64;
        let sum = |values: &[[f64; 2]], side: usize| values.iter().map(|pair| pair[side]).sum::<f64>();
        let correct = rewards.iter().filter(|[chosen, rejected]| chosen > rejected).count() as f64;
        for (name, sum) in [
            (CHOSEN_REWARD, sum(rewards, 0)),
            (REJECTED_REWARD, sum(rewards, 1)),
            (ACCURACY, correct),
            (CHOSEN_LOGP, sum(logps, 0)),
            (REJECTED_LOGP, sum(logps, 1)),
        ] {
            self.metrics.add(name, sum, rows);
        }
    }
}

/// The means of a batch or a split, with the margin between the mean rewards.
pub fn means(metrics: &MeanMetrics) -> Vec<(String, f64)> {
    let mut means: Vec<(String, f64)> = metrics.means().map(|(name, mean)| (name.to_owned(), mean)).collect();
    if let (Some(chosen), Some(rejected)) = (metrics.mean(CHOSEN_REWARD), metrics.mean(REJECTED_REWARD)) {
        means.push((MARGIN.to_owned(), chosen - rejected));
    }
    means
}

/// Pairs from values of `[chosen, rejected, chosen, …]`.
pub fn pairs(values: &[f64]) -> Vec<[f64; 2]> {
    values.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// The columns of `[rows · 2]` values of `[chosen, rejected, …]`, each `[rows]`.
pub fn columns(values: &Tensor) -> Result<(Tensor, Tensor)> {
    let rows = values.f_view([-1, 2])?;
    Ok((rows.f_select(1, 0)?, rows.f_select(1, 1)?))
}
