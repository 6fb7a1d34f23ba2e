//! A loaded model: its network, its adapters, its tokenizer, and its folder.

use super::adapted::AdaptedModel;
use super::trainable::MicroBatchDropout;
use crate::error::{Error, Result};
use crate::files::{self, manifest, FolderKind};
use crate::format::thousands;
use crate::hub;
use crate::hub::tokenizer::{is_tokenizer_file, Tokenizer};
use crate::hub::weights::{self, Weights};
use crate::model::config::set_saved_dtype;
use crate::model::family::wrapper::language_model;
use crate::model::{device, load, quantization, Config, Decoder, Quantization};
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::sandbox;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::Device;

options! {
    /// How to load a model.
    #[derive(Debug, Clone)]
    pub struct LoadOptions {
        /// The dtype of the weights, whatever the checkpoint's: "auto", "f32", "bf16" or "f16". "auto" is bf16 on a GPU
        /// that has it (f16 on older ones), and on a CPU that multiplies bf16 if the model is not small; f16 is slow on a CPU.
        pub dtype: String = "auto".to_owned();
        /// "auto" is what `--device` says, else the first GPU if there is one, otherwise the CPU; "cpu", "cuda", or one of
        /// several GPUs: "cuda:1".
        pub device: String = "auto".to_owned();
        /// The branch, tag or commit of a model of the hub.
        pub revision: Option<String> = None, words "`main`";
        pub quantization: Option<Quantization> = None, is set;
    }
    rule LoadOptions::rule;
}

impl LoadOptions {
    fn rule(&self) -> Option<Refusal> {
        device::dtype_problem(&self.dtype).or_else(|| device::device_problem(&self.device))
    }

    /// Says once per process which dtype "auto" is, where the processor decides.
    fn dtype_note(&self, decoder: &Decoder) -> Option<String> {
        static WAS_SAID: AtomicBool = AtomicBool::new(false);
        let decides = self.dtype == "auto" && decoder.device == Device::Cpu && !decoder.config.has_small_matrices();
        let is_first = decides && !WAS_SAID.swap(true, Ordering::Relaxed);
        let dtype = device::dtype_name(decoder.dtype);
        is_first.then(|| format!("dtype \"auto\" is {dtype}: {}", device::cpu_dtype_reason()))
    }
}

options! {
    /// How to make a model with random weights.
    #[derive(Debug, Clone)]
    pub struct RandomModelOptions {
        /// The seed of the weights.
        pub seed: u64 = 0;
        /// The dtype of the weights: "auto", "f32", "bf16" or "f16".
        pub dtype: String = "f32".to_owned();
        /// "auto" is what `--device` says, else the first GPU if there is one, otherwise the CPU; "cpu", "cuda", or one of
        /// several GPUs: "cuda:1".
        pub device: String = "auto".to_owned();
    }
    rule RandomModelOptions::rule;
}

impl RandomModelOptions {
    fn rule(&self) -> Option<Refusal> {
        self.load().rule()
    }

    /// The options of loading such a model.
    pub fn load(&self) -> LoadOptions {
        LoadOptions { dtype: self.dtype.clone(), device: self.device.clone(), ..LoadOptions::default() }
    }
}

/// The folder of a saved model. Without a manifest it looks like anyone's, so it has no mark.
pub const FOLDER: FolderKind = FolderKind { name: "model", mark: None, has_file: is_tokenizer_file };
/// Loading a model compares the SHA-256 of files up to this size with the manifest, and the sizes of all. Hashing
/// takes about a second for each GB, which for large weights would be most of the time to load them.
const MAX_HASHED: u64 = 256 << 20;

#[derive(Debug)]
pub struct Model {
    /// The hub name or folder that the user wrote.
    pub name: String,
    /// The folder of its files; `None` for a model without any.
    pub folder: Option<PathBuf>,
    /// The seed of its weights, if they are random rather than those in `folder`.
    pub random_seed: Option<u64>,
    /// The size of its vocabulary, if `resize_token_embeddings` changed it.
    pub resized: Option<i64>,
    pub adapted: AdaptedModel,
    tokenizer: Option<Tokenizer>,
    /// The number of forward passes in training so far, which keys their dropout.
    pub forwards: u64,
    /// Set while a run calls a loss of the caller: keys the dropout of its forward passes instead.
    pub micro_batch: Option<MicroBatchDropout>,
    /// Set while a run trains it.
    pub is_in_training: bool,
}

impl Model {
    /// Loads a model by hub name or folder, with its tokenizer where the folder has one.
    /// `observer` follows the downloads.
    pub fn load(name: &str, options: &LoadOptions, observer: &mut dyn hub::FetchObserver) -> Result<Self> {
        options.ensure_valid("load_model")?;
        // Before anything is fetched: it says if there is no such device.
        let device = device::parse_device(&options.device)?;
        let named = match &options.revision {
            Some(revision) => format!("{name}@{revision}"),
            None => name.to_owned(),
        };
        let hub::ModelFolder { path: folder, commit, .. } =
            hub::resolve_model(&named, &hub::Hub::from_env()?, observer)?;
        if commit.is_none() {
            // What is fetched from the hub was compared with the hub's hashes.
            manifest::verify(&folder, MAX_HASHED)?;
        }
        let mut config = Config::from_folder(&folder)?;
        config.quantization = config.quantization.or(options.quantization);
        let dtype = device::parse_dtype(&options.dtype, device, &config)?;
        let mut decoder = load::load(config, &Weights::open(&folder)?, dtype, device)?;
        decoder.notes.extend(options.dtype_note(&decoder));
        let tokenizer = tokenizer_in(&folder)?;
        Ok(Model {
            name: name.to_owned(),
            folder: Some(folder),
            random_seed: None,
            resized: None,
            adapted: AdaptedModel::new(decoder),
            tokenizer,
            forwards: 0,
            micro_batch: None,
            is_in_training: false,
        })
    }

    /// A model with random weights, from the `config.json` and the tokenizer in `folder`.
    pub fn random(folder: &Path, seed: u64, options: &LoadOptions) -> Result<Self> {
        options.ensure_valid("random_model")?;
        sandbox::ensure_may_read(folder)?;
        let device = device::parse_device(&options.device)?;
        let config = Config::from_folder(folder)?;
        let dtype = device::parse_dtype(&options.dtype, device, &config)?;
        let decoder = load::random(config, seed, dtype, device)?;
        let tokenizer = tokenizer_in(folder)?;
        Ok(Model {
            name: folder.display().to_string(),
            folder: Some(folder.to_owned()),
            random_seed: Some(seed),
            resized: None,
            adapted: AdaptedModel::new(decoder),
            tokenizer,
            forwards: 0,
            micro_batch: None,
            is_in_training: false,
        })
    }

    /// The same model, to be trained while this value can be used: see [`AdaptedModel::shallow_clone`].
    ///
    /// # Errors
    /// An adapter that is merged.
    pub fn shallow_clone(&self) -> Result<Self> {
        Ok(Model {
            name: self.name.clone(),
            folder: self.folder.clone(),
            random_seed: self.random_seed,
            resized: self.resized,
            adapted: self.adapted.shallow_clone()?,
            tokenizer: self.tokenizer.clone(),
            forwards: self.forwards,
            micro_batch: self.micro_batch,
            is_in_training: self.is_in_training,
        })
    }

    pub fn decoder(&self) -> &Decoder {
        &self.adapted.decoder
    }

    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::model(format!("the model `{}` has no tokenizer.json", self.name))
                .with_hint("put tokenizer.json and tokenizer_config.json into the model's folder")
        })
    }

    /// Gives embeddings and head `count` rows. The model must have no adapters yet.
    pub fn resize_token_embeddings(&mut self, count: i64) -> Result<()> {
        self.adapted.ensure_unmerged()?;
        self.adapted.ensure_base_frozen().map_err(|error| error.with_hint("resize it before model.train_all()"))?;
        if let Some(name) = self.adapted.names().next() {
            return Err(Error::input(format!(
                "resize_token_embeddings: expected a model without adapters, found `{name}`"
            ))
            .with_hint("resize it first, then add or load the adapters"));
        }
        self.adapted.decoder.resize_token_embeddings(count)?;
        self.resized = Some(count);
        Ok(())
    }

    /// Sets the chat template, for chats, for tokenizing, and in saved files.
    pub fn set_chat_template(&mut self, template: &str) -> Result<()> {
        let tokenizer = self.tokenizer()?.with_chat_template(template);
        self.tokenizer = Some(tokenizer);
        Ok(())
    }

    /// The hash of a chat template that is set here and in none of the model's files, for the settings of a run.
    pub fn assigned_template(&self) -> Option<String> {
        let template = self.tokenizer.as_ref().filter(|tokenizer| tokenizer.is_template_assigned())?.chat_template()?;
        Some(format!("{:x}", Sha256::digest(template)))
    }

    /// Saves the model as the folder `folder`, as transformers does: configuration, weights, tokenizer.
    /// 4-bit weights are saved as they are, in bitsandbytes' layout. A model that lorhai saved there is replaced as a
    /// whole; anything else only with `overwrite`.
    pub fn save(&mut self, folder: &Path, overwrite: bool) -> Result<()> {
        self.adapted.ensure_unmerged()?;
        let source = self.folder.clone().ok_or_else(|| Error::bug("the model has no configuration file"))?;
        let config = self.config_to_save(&source, folder)?;
        let weights = self.adapted.decoder.named_weights()?;
        let weights: Vec<_> =
            weights.into_iter().map(|(name, weight)| Ok((name, weight.f_detach()?))).collect::<Result<_>>()?;
        files::publish_folder(&FOLDER, folder, overwrite, |folder| {
            weights::save(&folder.join("model.safetensors"), &weights, &[])?;
            self.save_tokenizer(folder)?;
            let generation = source.join("generation_config.json");
            if generation.is_file() {
                files::write_atomic(&folder.join("generation_config.json"), &files::read(&generation)?)?;
            }
            files::write_atomic(&folder.join("config.json"), &config)
        })
    }

    /// Refuses to save something else over the files that this model was loaded from.
    pub fn ensure_not_base(&self, folder: &Path) -> Result<()> {
        if self.folder.as_deref().is_some_and(|base| is_same_folder(base, folder)) {
            return Err(Error::input(format!("`{}` holds the base model: expected another folder", folder.display()))
                .with_hint("give a new or empty folder"));
        }
        Ok(())
    }

    /// The source's config.json with the dtype of the weights in memory, and with `quantization_config` if
    /// they were quantised at loading.
    fn config_to_save(&self, source: &Path, folder: &Path) -> Result<Vec<u8>> {
        let path = source.join("config.json");
        let decoder = &self.adapted.decoder;
        let whole = files::read_json(&path)?;
        let mut config = language_model(&whole).into_owned();
        let mut is_quantized = config.get("quantization_config").is_some_and(|value| !value.is_null());
        let tied = decoder.config.tie_word_embeddings;
        let read = Config::from_json(&config)?;
        // The weights may hold a head that config.json ties, and codes are written as bytes.
        let unties = read.tie_word_embeddings != tied;
        let mut is_changed = unties || decoder.config.wrapper.is_some();
        if unties {
            config["tie_word_embeddings"] = tied.into();
        }
        if is_quantized && decoder.config.quantization.is_none() {
            config.as_object_mut().and_then(|config| config.remove("quantization_config"));
            (is_quantized, is_changed) = (false, true);
        }
        let storage = config.pointer_mut("/quantization_config/bnb_4bit_quant_storage");
        if let Some(storage) = storage.filter(|storage| **storage != "uint8") {
            *storage = "uint8".into();
            is_changed = true;
        }
        if let Some(quantization) = decoder.config.quantization.filter(|_| !is_quantized) {
            if is_same_folder(source, folder) {
                return Err(Error::input(format!(
                    "`{}` holds the full weights that this 4-bit model was made from: expected another folder",
                    folder.display()
                ))
                .with_hint("save it elsewhere; the full weights cannot be made from it again"));
            }
            config["quantization_config"] = quantization.to_json(decoder.dtype);
        } else if self.resized.is_none() {
            let saved = config.get("dtype").or_else(|| config.get("torch_dtype"));
            // Without a dtype in config.json transformers takes that of the weights.
            if is_quantized || saved.is_none_or(|saved| saved == quantization::torch_name(decoder.dtype)) {
                return if is_changed { Ok(files::json_text(&config)?.into_bytes()) } else { files::read(&path) };
            }
        }
        if self.resized.is_some() && is_same_folder(source, folder) {
            return Err(Error::input(format!(
                "`{}` holds the model with its original vocabulary: expected another folder",
                folder.display()
            ))
            .with_hint("save the resized model elsewhere"));
        }
        set_saved_dtype(&mut config, decoder.dtype);
        if self.resized.is_some() {
            config["vocab_size"] = decoder.config.vocab_size.into();
        }
        Ok(files::json_text(&config)?.into_bytes())
    }

    /// Writes the tokenizer's files, if the model has one.
    pub fn save_tokenizer(&self, folder: &Path) -> Result<()> {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.copy_to(folder),
            None => Ok(()),
        }
    }

    /// What the numbers of the base depend on, for records that tell one run from another.
    ///
    /// # Errors
    /// Files of the model that cannot be read.
    pub fn identity(&self) -> Result<Value> {
        let decoder = self.decoder();
        Ok(json!({
            "name": self.name,
            "fingerprint": self.folder.as_ref().map(|_| self.fingerprint()).transpose()?,
            "random_seed": self.random_seed,
            "vocab_size": self.resized,
            "dtype": device::dtype_name(decoder.dtype),
            "device": device::device_kind(decoder.device),
            "quantization": decoder.config.quantization.map(|quantization| quantization.to_json(decoder.dtype)),
        }))
    }

    /// A hash that changes when the model's files do: over the configuration and, for each weights
    /// file, its size, both ends, and a few kilobytes of every tensor in it, so that one that was
    /// trained shows wherever it lies. Copies of a folder have the same.
    pub fn fingerprint(&self) -> Result<String> {
        fingerprint_of(self.folder.as_deref().ok_or_else(|| Error::bug("the model has no folder"))?)
    }
}

/// Its name, its size, the dtype of its weights, its device.
impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoder = self.decoder();
        let count = thousands(decoder.config.parameter_count());
        let (dtype, device) = (decoder.weights_dtype(), device::device_name(decoder.device));
        write!(out, "Model `{}`: {count} parameters, {dtype}, on {device}", self.name)
    }
}

/// As [`Model::fingerprint`], of a model that is not loaded.
pub fn fingerprint_of(folder: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    // The manifest says nothing that the other files do not.
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|error| Error::file("read the folder", folder, &error))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors" || extension == "json"))
        .filter(|path| !path.ends_with(manifest::MANIFEST))
        .collect();
    paths.sort();
    for path in paths {
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        let file = files::open(&path)?;
        hash_ends(file, &mut hash).map_err(|error| Error::file("read", &path, &error))?;
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            hash_tensors(&path, &mut hash);
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    other.exists() && one.canonicalize().ok() == other.canonicalize().ok()
}

/// How much of each end of a file is hashed.
const END: u64 = 1 << 20;

fn hash_ends(mut file: File, hash: &mut Sha256) -> std::io::Result<()> {
    let size = file.metadata()?.len();
    hash.update(size.to_le_bytes());
    let mut bytes = Vec::new();
    file.by_ref().take(END).read_to_end(&mut bytes)?;
    if size > END {
        file.seek(SeekFrom::Start((size - END).max(END)))?;
        file.read_to_end(&mut bytes)?;
    }
    hash.update(&bytes);
    Ok(())
}

/// Hashes samples of each tensor in a file of which only the ends are hashed. A file that cannot be read
/// as tensors is left out: loading it reports what is wrong.
fn hash_tensors(path: &Path, hash: &mut Sha256) {
    let is_large = path.metadata().is_ok_and(|metadata| metadata.len() > 2 * END);
    let Some(weights) = is_large.then(|| Weights::open_files(&[path.to_path_buf()]).ok()).flatten() else { return };
    for name in weights.names() {
        weights.samples(name).for_each(|bytes| hash.update(bytes));
    }
}

fn tokenizer_in(folder: &Path) -> Result<Option<Tokenizer>> {
    folder.join("tokenizer.json").is_file().then(|| Tokenizer::from_folder(folder)).transpose()
}
