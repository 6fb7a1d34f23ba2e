//! The text of a tokenizer's chat templates: read from its files, replaced by an assigned one, and
//! saved. Leaves rendering to `data/template.rs`.

use super::{read_object, Tokenizer, CONFIG_FILE};
use crate::error::Result;
use crate::files;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where transformers keeps further templates, and where older releases kept them.
pub const TEMPLATE_FOLDERS: [&str; 2] = ["additional_chat_templates", "chat_templates"];
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The name of the template used if none is asked for.
const DEFAULT: &str = "default";

/// A chat template that replaces those of the tokenizer's files.
pub(super) struct AssignedTemplate {
    text: String,
    /// Of everything that decides ids and templates.
    pub(super) fingerprint: String,
}

impl Tokenizer {
    /// The same tokenizer with `text` as its only chat template. Does not check that it compiles.
    pub fn with_chat_template(&self, text: &str) -> Self {
        let inner = self.inner.clone();
        if inner.templates.len() == 1 && inner.templates.get(DEFAULT).is_some_and(|known| known == text) {
            return Tokenizer { inner, assigned_template: None };
        }
        let mut hash = Sha256::new();
        hash.update(&inner.fingerprint);
        hash.update(text);
        let assigned = AssignedTemplate { text: text.to_owned(), fingerprint: format!("{:x}", hash.finalize()) };
        Tokenizer { inner, assigned_template: Some(Arc::new(assigned)) }
    }

    /// The default chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template_named(DEFAULT)
    }

    /// A chat template by its name, if the tokenizer has several (`tool_use`, `rag`).
    pub fn chat_template_named(&self, name: &str) -> Option<&str> {
        match &self.assigned_template {
            Some(assigned) => (name == DEFAULT).then_some(assigned.text.as_str()),
            None => self.inner.templates.get(name).map(String::as_str),
        }
    }

    /// Whether the chat template was assigned rather than read from the tokenizer's files.
    pub fn is_template_assigned(&self) -> bool {
        self.assigned_template.is_some()
    }

    /// Writes the tokenizer files into `folder`, a new one, so that an adapter carries its tokenizer. Writes an assigned
    /// chat template to its own file, as transformers does.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        let assigned = self.assigned_template.as_ref();
        for path in &self.inner.paths {
            let name = path.file_name().unwrap_or_default();
            let template_folder =
                TEMPLATE_FOLDERS.iter().find(|inner| path.parent().is_some_and(|parent| parent.ends_with(inner)));
            if assigned.is_some() && (template_folder.is_some() || name == TEMPLATE_FILE) {
                continue;
            }
            let bytes = if assigned.is_some() && name == CONFIG_FILE {
                config_without_template(path)?
            } else {
                files::read(path)?
            };
            let target = template_folder.map_or(folder.to_path_buf(), |inner| folder.join(inner));
            files::write_atomic(&target.join(name), &bytes)?;
        }
        assigned.map_or(Ok(()), |assigned| files::write_atomic(&folder.join(TEMPLATE_FILE), assigned.text.as_bytes()))
    }
}

/// Whether [`copy_to`](Tokenizer::copy_to) may write a file of this name.
pub fn is_tokenizer_file(name: &str) -> bool {
    let is_template = |name: &str| name.ends_with(".jinja") && !name.contains('/');
    let inner = |folder: &&str| name.strip_prefix(*folder).and_then(|name| name.strip_prefix('/'));
    ["tokenizer.json", "special_tokens_map.json", CONFIG_FILE, TEMPLATE_FILE].contains(&name)
        || TEMPLATE_FOLDERS.iter().find_map(inner).is_some_and(is_template)
}

/// The default chat template of the files in `folder`, for example those of a saved adapter.
pub fn chat_template_in(folder: &Path) -> Result<Option<String>> {
    let settings = read_object(&folder.join(CONFIG_FILE))?.unwrap_or_default();
    Ok(read_templates(folder, &settings, &mut Vec::new())?.remove(DEFAULT))
}

/// The content of `tokenizer_config.json` at `path` without its `chat_template`.
fn config_without_template(path: &Path) -> Result<Vec<u8>> {
    let mut settings = read_object(path)?.unwrap_or_default();
    settings.shift_remove("chat_template");
    Ok(files::json_text(&Value::Object(settings))?.into_bytes())
}

/// Reads the templates by name, from `settings` and from template files. A file overrides the template
/// of that name in `settings`: template files are the newer format.
pub(super) fn read_templates(
    folder: &Path,
    settings: &Map<String, Value>,
    paths: &mut Vec<PathBuf>,
) -> Result<BTreeMap<String, String>> {
    let mut templates = templates_of(settings);
    for (name, path) in template_files(folder) {
        templates.insert(name, files::read_text(&path)?);
        paths.push(path);
    }
    Ok(templates)
}

/// `chat_template` of `tokenizer_config.json`: one text, a list of named texts, or an object of them.
fn templates_of(settings: &Map<String, Value>) -> BTreeMap<String, String> {
    match settings.get("chat_template") {
        Some(Value::String(text)) => BTreeMap::from([(DEFAULT.to_owned(), text.clone())]),
        Some(Value::Array(list)) => {
            let named = |entry: &Value| {
                Some((entry.get("name")?.as_str()?.to_owned(), entry.get("template")?.as_str()?.to_owned()))
            };
            list.iter().filter_map(named).collect()
        }
        Some(Value::Object(named)) => {
            named.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// The template files below `folder` with their names, sorted.
fn template_files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    let default = folder.join(TEMPLATE_FILE);
    if default.is_file() {
        named.push((DEFAULT.into(), default));
    }
    for entries in TEMPLATE_FOLDERS.iter().filter_map(|inner| std::fs::read_dir(folder.join(inner)).ok()) {
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        named.extend(files.filter(|path| path.extension().is_some_and(|end| end == "jinja")).filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some((name, path))
        }));
    }
    named.sort();
    named
}
