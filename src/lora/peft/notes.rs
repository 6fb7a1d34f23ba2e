//! Which programs cannot use a saved adapter, and what to do then.

use crate::lora::adapter::Adapter;
use crate::lora::spec::Bias;
use crate::model::shapes::linear_shapes;
use crate::model::Config;

/// Limits of other programs that concern this adapter, shown when it is saved.
pub fn deployment_notes(adapter: &Adapter, config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let largest = adapter.targets.iter().map(|target| target.r).max().unwrap_or(0);
    if largest > 16 {
        notes.push(format!("vLLM: start it with --max-lora-rank {} (its default is 16)", vllm_rank(largest)));
    }
    if !adapter.spec.rank_pattern.is_empty() || !adapter.spec.alpha_pattern.is_empty() {
        notes.push("vLLM ignores rank_pattern and alpha_pattern: merge the adapter instead".to_owned());
    }
    if adapter.low_rank(&linear_shapes(config)[linear_shapes(config).len() - 1]).is_some() {
        notes.push("the output head is adapted: some servers do not support that".to_owned());
    }
    if adapter.embedding_target.is_some() {
        notes.push("the embeddings are adapted: some servers do not support that".to_owned());
    }
    let refused = [
        ("DoRA", adapter.spec.use_dora),
        ("modules_to_save", !adapter.spec.modules_to_save.is_empty()),
        ("bias", adapter.spec.bias != Bias::None),
        ("lora_bias", adapter.spec.lora_bias),
        ("trainable_token_indices", !adapter.spec.trainable_token_indices.is_none()),
    ];
    let refused: Vec<&str> = refused.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect();
    if !refused.is_empty() {
        notes.push(format!("vLLM refuses adapters with {}: merge the adapter instead", refused.join(", ")));
    }
    if !adapter.initial_factors.is_empty() {
        notes.push("this adapter was trained over a residual of the base: peft and lorhai compute that from the original base when they load the adapter, other programs do not; save it with `as_lora: true` for them".to_owned());
    }
    notes
}

/// The smallest of vLLM's rank limits that is at least `r`.
fn vllm_rank(r: i64) -> i64 {
    [8, 16, 32, 64, 128, 256, 320, 512].into_iter().find(|&limit| limit >= r).unwrap_or(r)
}
