//! A model or adapter by name: a folder, or a repository on the hub.

use super::observe::FetchObserver;
use super::settings::Hub;
use super::snapshot::{snapshot, FileSelection};
use super::tokenizer::TEMPLATE_FOLDERS;
use super::{local, weights};
use crate::error::{Error, Kind, Result};
use hf_hub::RepoType;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "vocab.json"];
/// Fetched beside the weights if the repository has them.
const SMALL_FILES: [&str; 12] = [
    CONFIG,
    ADAPTER_CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// The files of a model.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// As the user wrote it.
    pub name: String,
    pub path: PathBuf,
    /// The commit, if it came from the hub.
    pub commit: Option<String>,
}

/// Finds the files of a model or adapter. An existing folder is used as it is. Anything else is a hub
/// name, `owner/name` or `owner/name@revision`, and is fetched into the hub cache, or used from there
/// without a request if it is cached.
///
/// # Errors
/// `Kind::Input` for a name that is neither, `Kind::Hub` for what the hub refuses or lacks,
/// `Kind::File` for a disk that is full or cannot be written.
pub fn resolve_model(name: &str, hub: &Hub, observer: &mut dyn FetchObserver) -> Result<ModelFolder> {
    local::ensure_may_load(name)?;
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(ModelFolder { name: name.into(), path: path.into(), commit: None });
    }
    if path.exists() {
        return Err(Error::input(format!("expected the folder of a model or a hub name, found the file `{name}`"))
            .with_hint(if name.ends_with(".gguf") {
                "GGUF files can be written but not read: give the folder of the model that it was made from"
            } else {
                "give the folder that holds config.json and the weights"
            }));
    }
    let repo = local::repo_name(name, local::Resource::Model)?;
    let snapshot = snapshot(hub, &repo, RepoType::Model, &ModelFiles, observer)
        .map_err(|error| local::with_nearest(error, name))?;
    Ok(ModelFolder { name: name.into(), path: snapshot.folder, commit: Some(snapshot.commit) })
}

/// Finds the `config.json` of a model, and fetches nothing else.
///
/// # Errors
/// As [`resolve_model`].
pub fn resolve_config(name: &str, hub: &Hub, observer: &mut dyn FetchObserver) -> Result<PathBuf> {
    local::ensure_may_load(name)?;
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.join(CONFIG));
    }
    if path.is_file() {
        return Ok(path.into());
    }
    let repo = local::repo_name(name, local::Resource::Model)?;
    let snapshot = snapshot(hub, &repo, RepoType::Model, &ConfigFile, observer)
        .map_err(|error| local::with_nearest(error, name))?;
    Ok(snapshot.folder.join(CONFIG))
}

struct ConfigFile;

impl FileSelection for ConfigFile {
    fn select(&self, files: &[String]) -> Result<Vec<String>> {
        if files.iter().any(|file| file == CONFIG) {
            Ok(vec![CONFIG.into()])
        } else {
            Err(Error::new(Kind::Hub, format!("expected {CONFIG} in it, found none"))
                .with_hint("is it a transformers model?"))
        }
    }

    fn select_more(&self, _snapshot: &Path) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn is_complete_without_listing(&self, snapshot: &Path, _offline: bool) -> bool {
        snapshot.join(CONFIG).is_file()
    }
}

struct ModelFiles;

impl FileSelection for ModelFiles {
    fn select(&self, files: &[String]) -> Result<Vec<String>> {
        let has = |name: &str| files.iter().any(|file| file == name);
        if !has(CONFIG) && !has(ADAPTER_CONFIG) {
            return Err(Error::new(Kind::Hub, format!("expected {CONFIG} or {ADAPTER_CONFIG} in it, found neither"))
                .with_hint("is it a transformers model or a PEFT adapter?"));
        }
        let mut chosen: Vec<String> =
            SMALL_FILES.iter().filter(|name| has(name)).map(|name| name.to_string()).collect();
        let weights = [weights::SINGLE_FILE, weights::INDEX_FILE].into_iter().find(|name| has(name));
        let adapter = Some(ADAPTER_WEIGHTS).filter(|name| has(name));
        if weights.is_none() && adapter.is_none() {
            return Err(no_weights(files));
        }
        chosen.extend(weights.into_iter().chain(adapter).map(String::from));
        let is_template = |name: &&String| {
            let inner = name.split_once('/').map(|(folder, _)| folder);
            inner.is_some_and(|folder| TEMPLATE_FOLDERS.contains(&folder)) && name.ends_with(".jinja")
        };
        chosen.extend(files.iter().filter(is_template).cloned());
        Ok(chosen)
    }

    fn select_more(&self, snapshot: &Path) -> Result<Vec<String>> {
        let index = snapshot.join(weights::INDEX_FILE);
        if index.is_file() && !snapshot.join(weights::SINGLE_FILE).is_file() {
            weights::shard_names(&index)
        } else {
            Ok(Vec::new())
        }
    }

    fn is_complete_without_listing(&self, snapshot: &Path, _offline: bool) -> bool {
        let has = |name: &str| snapshot.join(name).is_file();
        let shards =
            || self.select_more(snapshot).is_ok_and(|shards| !shards.is_empty() && shards.iter().all(|name| has(name)));
        let model = has(CONFIG) && TOKENIZERS.iter().any(|name| has(name)) && (has(weights::SINGLE_FILE) || shards());
        model || (has(ADAPTER_CONFIG) && has(ADAPTER_WEIGHTS))
    }
}

fn no_weights(files: &[String]) -> Error {
    let has = |end: &str| files.iter().any(|file| file.ends_with(end));
    if files.iter().any(|file| file == ADAPTER_CONFIG) && has("adapter_model.bin") {
        return Error::new(Kind::Hub, format!("expected {ADAPTER_WEIGHTS} in it, found the adapter as a pickle"))
            .with_hint(
                "a pickle can run any code, so it is not read: look for a revision with safetensors (such as \
             `@refs/pr/1`), or load the adapter in peft, save it again with save_pretrained and give that folder",
            );
    }
    let error = Error::new(Kind::Hub, format!("expected {} in it, found none", weights::SINGLE_FILE));
    if has(".bin") || has(".pth") || has(".pt") {
        return error.with_hint(
            "it has weights in the old pickle format only: look for a revision with safetensors (such as \
             `@refs/pr/1`), or convert it with transformers' save_pretrained and give the folder",
        );
    }
    if has(".gguf") {
        error.with_hint("it has only GGUF files: use the model that they were made from")
    } else {
        error.with_hint("is it a model?")
    }
}
