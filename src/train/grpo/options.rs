//! The settings of GRPO, with the names and defaults of TRL's `GRPOConfig`.

use crate::options;

/// What the ratio of probabilities is computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImportanceLevel {
    #[default]
    Token,
    /// The geometric mean over the tokens of a sample, as in GSPO.
    Sequence,
}

/// What rewards are divided by, after the mean of their group is subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RewardScale {
    /// The standard deviation of the group.
    #[default]
    Group,
    /// The standard deviation of all rewards of the step.
    Batch,
    None,
}

crate::choices!(ImportanceLevel, [("token", ImportanceLevel::Token), ("sequence", ImportanceLevel::Sequence)]);
crate::choices!(
    RewardScale,
    [("group", RewardScale::Group), ("batch", RewardScale::Batch), ("none", RewardScale::None)]
);

options! {
    #[derive(Debug, Clone, PartialEq)]
    pub struct GrpoOptions {
        /// Samples of each prompt: a group. `batch` × `accumulation` must be a multiple of it.
        pub num_generations: usize = 8, range at_least(2.0);
        /// The most new tokens of a sample.
        pub max_completion_length: usize = 512, alias ["max_new_tokens"], range at_least(1.0);
        /// Divides the scores that samples are drawn from, and those of the loss.
        pub temperature: f64 = 1.0, range above(0.0);
        /// Draw only from the fewest most likely tokens whose probabilities add up to this.
        pub top_p: f64 = 1.0, range between(0.0, 1.0);
        /// Draw only from this many of the most likely tokens; 0 for all.
        pub top_k: i64 = 0, range at_least(0.0);
        /// Multiply the divergence by the ratio of probabilities, as in DeepSeek-V3.2.
        pub use_bias_correction_kl: bool = true;
        /// How far the ratio of probabilities counts: from 1 - `epsilon` to 1 + `epsilon_high`.
        pub epsilon: f64 = 0.2, range between(0.0, 1.0);
        /// As `epsilon`, above 1.
        pub epsilon_high: Option<f64> = None, range at_least(0.0), words "`epsilon`";
        /// Steps on the same samples.
        pub num_iterations: u64 = 1, range at_least(1.0);
        /// What the ratio of probabilities is computed over.
        pub importance_sampling_level: ImportanceLevel = ImportanceLevel::default();
        /// What rewards are divided by, after the mean of their group is subtracted.
        pub scale_rewards: RewardScale = RewardScale::default();
        /// Leave samples out that reached `max_completion_length`.
        pub mask_truncated_completions: bool = false;
    }
}

impl GrpoOptions {
    /// The bounds between which the ratio of probabilities counts.
    pub fn bounds(&self) -> (f64, f64) {
        (1.0 - self.epsilon, 1.0 + self.epsilon_high.unwrap_or(self.epsilon))
    }
}
