//! A merged model on disk, and what merging did to it: measured before the folder is there.

use super::divergence::{divergence, sample, Divergence, Side};
use crate::error::{Error, Kind, Result};
use crate::files::{self, FolderKind};
use crate::hub::tokenizer::is_tokenizer_file;
use crate::hub::weights::{parse_size, save_sharded, Weights, INDEX_FILE};
use crate::lora::merge::{MergedWeights, Rounding};
use crate::lora::{Adapter, AdapterSet, Model};
use crate::model::config::set_saved_dtype;
use crate::model::family::wrapper::language_model;
use crate::model::{device, load, Config, NoAdapters};
use crate::options;
use crate::options::{Mismatch, OptionSet, OptionType};
use serde::Serialize;
use serde_json::{json, Value};
use std::path::Path;
use tch::Kind as Dtype;

/// The file that marks a folder of [`save_merged`].
pub const FILE: &str = "merge_certificate.json";

/// The folder of a merged model. Versions of lorhai without manifests wrote the same files.
pub const FOLDER: FolderKind = FolderKind { name: "merged model", mark: Some(FILE), has_file: has_merged_file };

fn has_merged_file(name: &str) -> bool {
    let is_weights = name.starts_with("model") && (name.ends_with(".safetensors") || name == INDEX_FILE);
    is_weights || ["config.json", "generation_config.json", FILE].contains(&name) || is_tokenizer_file(name)
}

options! {
    #[derive(Debug, Clone, PartialEq)]
    pub struct MergeOptions {
        /// The adapter by its name.
        pub adapter: Option<String> = None, words "the active one";
        /// The dtype of the written weights; "auto" is that of the loaded ones.
        pub dtype: SavedDtype = SavedDtype::Auto;
        /// The most bytes of one file: "5GB", "500MB".
        pub max_shard_size: ShardSize = ShardSize(5_000_000_000);
        /// The largest mean KL divergence between base + adapter and the merged model that is accepted, in nats per
        /// token.
        pub tolerance: f64 = 0.01, range at_least(0.0);
        /// Write the folder above the tolerance too.
        pub force: bool = false;
        /// The text that both models are compared on.
        pub text: Option<String> = None, words "a short mixed text";
        /// Replace whatever the folder holds.
        pub overwrite: bool = false;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedDtype {
    Auto,
    F32,
    Bf16,
    F16,
}

crate::choices!(
    SavedDtype,
    [
        ("auto", SavedDtype::Auto),
        ("f32", SavedDtype::F32),
        ("bf16", SavedDtype::Bf16),
        ("f16", SavedDtype::F16),
        ("float32", SavedDtype::F32),
        ("bfloat16", SavedDtype::Bf16),
        ("float16", SavedDtype::F16),
    ]
);

impl SavedDtype {
    fn resolved(self, loaded: Dtype) -> Dtype {
        match self {
            SavedDtype::Auto => loaded,
            SavedDtype::F32 => Dtype::Float,
            SavedDtype::Bf16 => Dtype::BFloat16,
            SavedDtype::F16 => Dtype::Half,
        }
    }
}

/// Bytes, written with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize(pub u64);

impl OptionType for ShardSize {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn expected() -> String {
        "a size such as \"5GB\" or \"500MB\"".to_owned()
    }
    fn from_value(value: &options::Value) -> std::result::Result<Self, Mismatch> {
        let bytes = value.as_str().and_then(|text| parse_size(text).ok());
        bytes.map(ShardSize).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> options::Value {
        let (count, unit) = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")]
            .into_iter()
            .find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size))
            .map_or((self.0, "B"), |(size, unit)| (self.0 / size, unit));
        options::Value::Text(format!("{count}{unit}"))
    }
}

/// The measured effect of a merge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Certificate {
    pub adapter: String,
    pub dtype: String,
    /// Merged against base + adapter.
    #[serde(flatten)]
    pub divergence: Divergence,
    /// ‖ΔW − (round(W + ΔW) − W)‖ / ‖ΔW‖ over all layers.
    pub lost_to_rounding: f64,
    /// The layer that loses most, and the fraction that it loses.
    pub worst_layer: Option<(String, f64)>,
    /// The bound on `mean_kl`.
    pub tolerance: f64,
    /// Whether the bound is kept; a folder that does not keep it was forced.
    pub within_tolerance: bool,
}

impl std::fmt::Display for Certificate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Certificate { divergence, dtype, .. } = self;
        write!(
            out,
            "merged in {dtype}: max |Δlogit| {:.3e}, KL(adapter‖merged) {:.3e} (tolerance {}), perplexity {:.4} against {:.4}, {:.3} % of ΔW lost to rounding, on {} tokens",
            divergence.max_logit_difference,
            divergence.mean_kl,
            self.tolerance,
            divergence.candidate_perplexity,
            divergence.reference_perplexity,
            100.0 * self.lost_to_rounding,
            divergence.tokens
        )
    }
}

/// Writes `model` with an adapter in its weights as a transformers folder: weights,
/// configuration, tokenizer, generation settings, and the certificate.
///
/// Layers are merged and written one after the other. The written files are then read back
/// and compared with base + adapter, all in a folder beside the target; only a model within
/// the tolerance, or forced, gets its name. A merged model that lorhai saved there is replaced as a whole, anything else
/// only with `overwrite`.
///
/// # Errors
/// `Kind::Numeric` above the tolerance. Nothing is then left on disk.
pub fn save_merged(model: &Model, folder: &Path, options: &MergeOptions) -> Result<Certificate> {
    let (adapter, dtype, ids) = begin(model, folder, options)?;
    files::publish_folder(&FOLDER, folder, options.overwrite, |part| {
        let weights = MergedWeights::new(model.decoder(), Some(adapter), dtype)?;
        let rounding = write_folder(model, &weights, dtype, options.max_shard_size.0, part)?;
        let set = AdapterSet::one(adapter, None);
        let reference = Side { decoder: model.decoder(), adapters: &set };
        // f16 is for storing: the decoder computes in f32 or bf16.
        let computed = if dtype == Dtype::Half { Dtype::Float } else { dtype };
        let decoder = load::load(Config::from_folder(part)?, &Weights::open(part)?, computed, model.decoder().device)?;
        let divergence = divergence(&ids, reference, Side { decoder: &decoder, adapters: &NoAdapters })?;
        drop(decoder);

        let name = options.adapter.as_deref().or(model.adapted.active_name()).unwrap_or_default();
        let certificate = rounding.certificate(name, device::dtype_name(dtype), divergence, options.tolerance);
        if !certificate.within_tolerance && !options.force {
            return Err(Error::new(
                Kind::Numeric,
                format!("the merged model lies too far from base and adapter: {certificate}"),
            )
            .with_hint(
                "save it with dtype \"f32\", keep the adapter unmerged, raise `tolerance`, or give force: true",
            ));
        }
        files::write_json(&part.join(FILE), &certificate)?;
        Ok(certificate)
    })
}

/// Refuses what [`save_merged`] would before it writes. Returns the adapter, the dtype and the ids to compare on.
fn begin<'a>(model: &'a Model, folder: &Path, options: &MergeOptions) -> Result<(&'a Adapter, Dtype, Vec<i64>)> {
    model.adapted.ensure_unmerged()?;
    options.ensure_valid("save_merged")?;
    let adapter = model.adapted.adapter(options.adapter.as_deref())?;
    let dtype = options.dtype.resolved(model.decoder().dtype);
    let ids = sample(options.text.as_deref(), model.tokenizer().ok(), model.decoder().config.vocab_size)?;
    model.ensure_not_base(folder)?;
    files::ensure_replaceable(&FOLDER, folder, options.overwrite)?;
    Ok((adapter, dtype, ids))
}

/// A certificate for a rehearsal, which writes nothing: every measurement is NaN.
///
/// # Errors
/// The errors that [`save_merged`] finds before it writes.
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

/// The rounding of every merged layer.
struct Layers {
    total: Rounding,
    worst: Option<(String, f64)>,
}

impl Layers {
    fn add(&mut self, name: &str, rounding: Rounding) {
        self.total.add(rounding);
        if self.worst.as_ref().is_none_or(|(_, largest)| rounding.relative_error() > *largest) {
            self.worst = Some((name.to_owned(), rounding.relative_error()));
        }
    }

    fn certificate(self, adapter: &str, dtype: &str, divergence: Divergence, tolerance: f64) -> Certificate {
        Certificate {
            adapter: adapter.to_owned(),
            dtype: dtype.to_owned(),
            lost_to_rounding: self.total.relative_error(),
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
    let config = files::read_json(&source.join("config.json"))?;
    let config = merged_config(language_model(&config).into_owned(), &weights.config, dtype);
    files::write_json(&folder.join("config.json"), &config)?;
    let generation = source.join("generation_config.json");
    if generation.is_file() {
        files::write_atomic(&folder.join("generation_config.json"), &files::read(&generation)?)?;
    }
    model.save_tokenizer(folder)?;
    Ok(layers)
}

/// The base's config.json with the dtype of the merged weights, and an untied head where the adapter untied it.
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
