//! Training on rewards with group-relative advantages (GRPO, Shao et al. 2024, arXiv 2402.03300), as TRL's `GRPOTrainer`
//! does it: several samples of each prompt, a reward for each, and a loss that makes those better than their group more
//! likely.
//!
//! [`options`] names the settings, [`advantages`] compares the rewards of a group, [`loss`] is the loss of a batch of
//! samples. Leaves to others: drawing the samples and rewarding them (functions that the caller hands in).

pub mod advantages;
pub mod loss;
pub mod options;
pub mod rollout;

pub use loss::{grpo_loss, GrpoLossConfig, GrpoLossType, Terms};
pub use options::GrpoOptions;
