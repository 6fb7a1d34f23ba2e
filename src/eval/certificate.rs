//! A merged model on disk, and what merging did to it: measured before the folder is there.

use super::divergence::{divergence, sample, Divergence, Side};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::weights::{save_sharded, Weights};
use crate::lora::merge::{MergedWeights, Rounding};
use crate::lora::{Adapter, AdapterSet, Model};
use crate::model::config::set_saved_dtype;
use crate::model::{device, load, Config, NoAdapters};
use serde::Serialize;
use serde_json::{json, Value};
use std::path::Path;
use tch::Kind as Dtype;

/// The file that tells a folder of [`save_merged`] from others.
pub const FILE: &str = "merge_certificate.json";

#[derive(Debug, Clone, PartialEq)]
pub struct MergeOptions {
    /// The adapter; the active one if absent.
    pub adapter: Option<String>,
    /// "auto" (that of the loaded weights), "f32", "bf16" or "f16".
    pub dtype: String,
    /// Bytes in one file.
    pub max_shard_size: u64,
    /// The largest mean KL(base + adapter ‖ merged) that is accepted, in nats per token.
    pub tolerance: f64,
    /// Write the folder however far the merged model lies off.
    pub force: bool,
    /// What both models are compared on.
    pub text: Option<String>,
}

impl Default for MergeOptions {
    fn default() -> Self {
        let (adapter, text) = (None, None);
        MergeOptions {
            adapter,
            dtype: "auto".into(),
            max_shard_size: 5_000_000_000,
            tolerance: 0.01,
            force: false,
            text,
        }
    }
}

/// What a merge changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Certificate {
    pub adapter: String,
    pub dtype: String,
    /// Merged against base + adapter.
    #[serde(flatten)]
    pub divergence: Divergence,
    /// ‖ΔW − (round(W + ΔW) − W)‖ / ‖ΔW‖ over all layers.
    pub lost_to_rounding: f64,
    /// The layer that loses most, and its share.
    pub worst_layer: Option<(String, f64)>,
    /// The bound on `mean_kl`.
    pub tolerance: f64,
    /// Whether the bound is kept; a folder that does not keep it was forced.
    pub within_tolerance: bool,
}

impl std::fmt::Display for Certificate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Certificate { divergence: found, dtype, .. } = self;
        write!(
            out,
            "merged in {dtype}: max |Δlogit| {:.3e}, KL(adapter‖merged) {:.3e} (tolerance {}), perplexity {:.4} against {:.4}, {:.3} % of ΔW lost to rounding, on {} tokens",
            found.max_logit_difference,
            found.mean_kl,
            self.tolerance,
            found.candidate_perplexity,
            found.reference_perplexity,
            100.0 * self.lost_to_rounding,
            found.tokens
        )
    }
}

/// Writes `model` with an adapter in its weights as a transformers folder: weights,
/// configuration, tokenizer, generation settings, and the certificate.
///
/// Layers are merged and written one after the other. The written files are then read back
/// and compared with base + adapter, all in a folder beside the target; only a model within
/// the tolerance, or forced, gets its name.
///
/// # Errors
/// `Kind::Numeric` above the tolerance. Nothing is then left on disk.
pub fn save_merged(model: &Model, folder: &Path, options: &MergeOptions) -> Result<Certificate> {
    let (adapter, dtype, ids) = begin(model, folder, options)?;
    let part = files::temporary_beside(folder)?;
    let weights = MergedWeights::new(model.decoder(), Some(adapter), dtype)?;
    let rounding = write_folder(model, &weights, dtype, options.max_shard_size, part.path())?;
    let set = AdapterSet::one(adapter, None);
    let reference = Side { decoder: model.decoder(), adapters: &set };
    // f16 is for storing: the decoder computes in f32 or bf16.
    let computed = if dtype == Dtype::Half { Dtype::Float } else { dtype };
    let config = Config::from_folder(part.path())?;
    let decoder = load::load(config, &Weights::open(part.path())?, computed, model.decoder().device)?;
    let found = divergence(&ids, reference, Side { decoder: &decoder, adapters: &NoAdapters })?;
    drop(decoder);

    let name = options.adapter.as_deref().or(model.adapted.active_name()).unwrap_or_default();
    let certificate = rounding.certificate(name, device::dtype_name(dtype), found, options.tolerance);
    if !certificate.within_tolerance && !options.force {
        return Err(Error::new(
            Kind::Numeric,
            format!("the merged model lies too far from base and adapter: {certificate}"),
        )
        .with_hint("save it with dtype \"f32\", keep the adapter unmerged, raise `tolerance`, or give force: true"));
    }
    files::write_json(&part.path().join(FILE), &certificate)?;
    files::replace_folder(part, folder)?;
    Ok(certificate)
}

/// Refuses what [`save_merged`] would before it writes; gives the adapter, the dtype and what is compared on.
fn begin<'a>(model: &'a Model, folder: &Path, options: &MergeOptions) -> Result<(&'a Adapter, Dtype, Vec<i64>)> {
    model.adapted.ensure_unmerged()?;
    if options.tolerance.is_nan() || options.tolerance < 0.0 {
        bail!(Kind::Input, "`tolerance`: expected a number of at least 0, found {}", options.tolerance);
    }
    let adapter = model.adapted.adapter(options.adapter.as_deref())?;
    let dtype = saved_dtype(&options.dtype, model.decoder().dtype)?;
    let ids = sample(options.text.as_deref(), model.tokenizer().ok(), model.decoder().config.vocab_size)?;
    ensure_export_folder(model, folder)?;
    Ok((adapter, dtype, ids))
}

/// A certificate of nothing, for a rehearsal that writes nothing: all that is measured is not a number.
///
/// # Errors
/// Those of [`save_merged`] that come before it writes.
pub fn unmeasured(model: &Model, folder: &Path, options: &MergeOptions) -> Result<Certificate> {
    let (_, dtype, ids) = begin(model, folder, options)?;
    let name = options.adapter.as_deref().or(model.adapted.active_name()).unwrap_or_default();
    Ok(Certificate {
        adapter: name.to_owned(),
        dtype: device::dtype_name(dtype).to_owned(),
        divergence: Divergence::unmeasured(ids.len()),
        lost_to_rounding: f64::NAN,
        worst_layer: None,
        tolerance: options.tolerance,
        within_tolerance: true,
    })
}

/// Reads "auto", "f32", "bf16" or "f16".
fn saved_dtype(text: &str, loaded: Dtype) -> Result<Dtype> {
    match text {
        "auto" => Ok(loaded),
        "f32" | "float32" => Ok(Dtype::Float),
        "bf16" | "bfloat16" => Ok(Dtype::BFloat16),
        "f16" | "float16" => Ok(Dtype::Half),
        _ => bail!(Kind::Input, "`dtype`: expected auto, f32, bf16 or f16, found `{text}`"),
    }
}

/// Only what an earlier merge wrote, or an empty folder, is replaced.
fn ensure_export_folder(model: &Model, folder: &Path) -> Result<()> {
    let holds_files = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let is_base = model
        .folder
        .as_ref()
        .is_some_and(|base| base.canonicalize().ok() == folder.canonicalize().ok() && folder.exists());
    if is_base || (holds_files && !folder.join(FILE).is_file()) {
        bail!(Kind::Input, "`{}` holds files that are no merged model", folder.display(); hint: "give a new or empty folder");
    }
    Ok(())
}

/// The rounding of every merged layer.
struct Layers {
    total: Rounding,
    worst: Option<(String, f64)>,
}

impl Layers {
    fn add(&mut self, name: &str, rounding: Rounding) {
        self.total.add(rounding);
        if self.worst.as_ref().is_none_or(|(_, share)| rounding.share() > *share) {
            self.worst = Some((name.to_owned(), rounding.share()));
        }
    }

    fn certificate(self, adapter: &str, dtype: &str, divergence: Divergence, tolerance: f64) -> Certificate {
        Certificate {
            adapter: adapter.to_owned(),
            dtype: dtype.to_owned(),
            lost_to_rounding: self.total.share(),
            worst_layer: self.worst,
            within_tolerance: divergence.mean_kl <= tolerance,
            divergence,
            tolerance,
        }
    }
}

fn write_folder(model: &Model, weights: &MergedWeights, dtype: Dtype, limit: u64, folder: &Path) -> Result<Layers> {
    let bytes = |shape: &[i64]| shape.iter().product::<i64>() as u64 * dtype.elt_size_in_bytes() as u64;
    let sizes: Vec<_> = weights.shapes().into_iter().map(|(name, shape)| (name, bytes(&shape))).collect();
    let mut layers = Layers { total: Rounding::default(), worst: None };
    save_sharded(folder, &sizes, limit, &mut |name| {
        let (weight, rounding) = weights.weight(name)?;
        if let Some(rounding) = rounding {
            layers.add(name, rounding);
        }
        Ok(weight)
    })?;
    let source = model.folder.as_deref().ok_or_else(|| Error::bug("the model has no configuration file"))?;
    let config = merged_config(files::read_json(&source.join("config.json"))?, &weights.config, dtype);
    files::write_json(&folder.join("config.json"), &config)?;
    let generation = source.join("generation_config.json");
    if generation.is_file() {
        files::write_whole(&folder.join("generation_config.json"), &files::read(&generation)?)?;
    }
    model.save_tokenizer(folder)?;
    Ok(layers)
}

/// The base's config.json with the dtype of the merged weights, and a head of its own where
/// the adapter gave it one.
fn merged_config(mut config: Value, merged: &Config, dtype: Dtype) -> Value {
    set_saved_dtype(&mut config, dtype);
    config["tie_word_embeddings"] = json!(merged.tie_word_embeddings);
    config["vocab_size"] = json!(merged.vocab_size);
    if let Some(config) = config.as_object_mut() {
        // The written weights are dense, whatever the base's are.
        config.shift_remove("quantization_config");
    }
    config
}
