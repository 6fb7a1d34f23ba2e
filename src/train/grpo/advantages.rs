//! How much better each sample is than the others of its group.

use super::options::RewardScale;

/// Added to the standard deviation, as in TRL.
const LEAST_DEVIATION: f64 = 1e-4;

/// (reward - mean of its group) / (standard deviation + 1e-4), with `n - 1` in the deviation. `group` rewards in a row are
/// those of one prompt. NaN stands for a sample without a reward: its advantage is 0, and the others are compared without
/// it. From TRL's `GRPOTrainer._generate_and_score_completions`.
pub fn advantages(rewards: &[f64], group: usize, scale: RewardScale) -> Vec<f64> {
    let of_all = deviation(rewards);
    let of_group = |rewards: &[f64]| {
        let mean = mean(rewards);
        let divisor = match scale {
            RewardScale::Group => deviation(rewards) + LEAST_DEVIATION,
            RewardScale::Batch => of_all + LEAST_DEVIATION,
            RewardScale::None => 1.0,
        };
        let advantage = |reward: &f64| if reward.is_nan() { 0.0 } else { (reward - mean) / divisor };
        rewards.iter().map(advantage).collect::<Vec<f64>>()
    };
    rewards.chunks(group.max(1)).flat_map(of_group).collect()
}

fn rewarded(rewards: &[f64]) -> impl Iterator<Item = f64> + '_ {
    rewards.iter().copied().filter(|reward| !reward.is_nan())
}

/// NaN where there is no reward.
pub(super) fn mean(rewards: &[f64]) -> f64 {
    rewarded(rewards).sum::<f64>() / rewarded(rewards).count() as f64
}

/// The sample standard deviation; 0 of fewer than two rewards.
pub(super) fn deviation(rewards: &[f64]) -> f64 {
    let (mean, count) = (mean(rewards), rewarded(rewards).count());
    if count < 2 {
        return 0.0;
    }
    (rewarded(rewards).map(|reward| (reward - mean).powi(2)).sum::<f64>() / (count - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with torch 2.11 as in TRL: `(r - r.mean()) / (r.std() + 1e-4)`.
    #[test]
    fn advantages_are_those_of_trl() {
        let rewards = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0];
        let near = |found: Vec<f64>, expected: [f64; 8]| {
            assert!(found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-6), "{found:?}");
        };
        let group = [0.0, -0.707_056_781, -0.707_056_781, 1.414_113_562, 0.0, 0.0, 0.0, 0.0];
        near(advantages(&rewards, 4, RewardScale::Group), group);
        near(advantages(&rewards, 4, RewardScale::None), [0.0, -1.0, -1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        let batch = 1.069_044_968 + 1e-4;
        near(
            advantages(&rewards, 4, RewardScale::Batch),
            [0.0, -1.0 / batch, -1.0 / batch, 2.0 / batch, 0.0, 0.0, 0.0, 0.0],
        );
        assert_eq!(advantages(&[1.0, f64::NAN, 3.0], 3, RewardScale::None), [-1.0, 0.0, 1.0]);
    }
}
