//! A tokenizer as the model folder describes it: ids, special tokens, chat template text.
//!
//! `tokenizer.json` decides how text becomes ids, as in the Python package `tokenizers`;
//! its post-processor alone decides whether a BOS is added, as in transformers 5, which
//! ignores `add_bos_token` beside a `tokenizer.json`. Leaves to others: rendering the
//! template (`data/template.rs`) and choosing labels (`data/`).

use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::AddedToken;

/// Where transformers keeps templates beside the default one, and where it once did.
pub const TEMPLATE_FOLDERS: [&str; 2] = ["additional_chat_templates", "chat_templates"];
const CONFIG_FILE: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The name of the template that is used where none is asked for.
const DEFAULT: &str = "default";

/// A token with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: u32,
    pub text: String,
}

/// Ids with the part of the text that each stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Byte ranges in the text that was encoded; `(0, 0)` for a token that was added.
    pub offsets: Vec<(usize, usize)>,
}

/// Text to ids and back. Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>, Option<Arc<AssignedTemplate>>);

/// A chat template that takes the place of those in the tokenizer's files.
struct AssignedTemplate {
    text: String,
    /// Of everything that decides ids and templates.
    fingerprint: String,
}

struct Inner {
    engine: tokenizers::Tokenizer,
    /// By role, as in transformers: `eos_token`, `pad_token`, …
    special: BTreeMap<String, Token>,
    end_ids: Vec<u32>,
    positions: Option<usize>,
    templates: BTreeMap<String, String>,
    adds_bos: bool,
    paths: Vec<PathBuf>,
    fingerprint: String,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tokenizer({} tokens)", self.vocab_size())
    }
}

impl Tokenizer {
    /// Reads the tokenizer files of a model folder.
    ///
    /// Fails where `tokenizer.json` is missing or damaged, or a special token is named
    /// that cannot be added.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            crate::bail!(Kind::File, "no tokenizer.json in `{}`", folder.display();
                hint: "a model folder holds tokenizer.json; an older one is converted by \
                       loading and saving it with transformers");
        }
        let mut hash = Sha256::new();
        let bytes = files::read(&path)?;
        hash.update(&bytes);
        let mut engine = parse(&path, bytes)?;
        let mut paths = vec![path];
        let mut settings = Map::new();
        // The newer file wins where both name a token.
        for name in ["special_tokens_map.json", CONFIG_FILE] {
            if let Some(found) = object(&folder.join(name))? {
                hash.update(Value::Object(found.clone()).to_string());
                settings.extend(found);
                paths.push(folder.join(name));
            }
        }
        add_tokens(&mut engine, &settings)?;
        let special = special_tokens(&engine, &settings);
        let templates = templates(folder, &settings, &mut paths)?;
        for (name, text) in &templates {
            hash.update(format!("{name}\n{text}"));
        }
        let end_ids = end_ids(folder, special.get("eos_token"))?;
        let positions = positions(folder, &settings)?;
        let adds_bos = adds_bos(&engine, special.get("bos_token"));
        let fingerprint = format!("{:x}", hash.finalize());
        Ok(Tokenizer(
            Arc::new(Inner { engine, special, end_ids, positions, templates, adds_bos, paths, fingerprint }),
            None,
        ))
    }

    /// The same tokenizer with `text` as its only chat template. Whether it compiles is for the caller to see.
    pub fn with_chat_template(&self, text: &str) -> Self {
        if self.0.templates.len() == 1 && self.0.templates.get(DEFAULT).is_some_and(|known| known == text) {
            return Tokenizer(self.0.clone(), None);
        }
        let mut hash = Sha256::new();
        hash.update(&self.0.fingerprint);
        hash.update(text);
        let assigned = AssignedTemplate { text: text.to_owned(), fingerprint: format!("{:x}", hash.finalize()) };
        Tokenizer(self.0.clone(), Some(Arc::new(assigned)))
    }

    /// The ids of `text`; `add_special` lets the post-processor add BOS and the like.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.guarded(|| self.0.engine.encode_fast(text, add_special))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`encode`](Self::encode), with the byte range of each id.
    pub fn encode_with_offsets(&self, text: &str, add_special: bool) -> Result<Encoded> {
        let encoding = self.guarded(|| self.0.engine.encode(text, add_special))?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// The text of `ids`. Ids outside the vocabulary are left out, as in `tokenizers`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.guarded(|| self.0.engine.decode(ids, skip_special))
    }

    /// The entry of the vocabulary for `id`, as it stands there (`Ġthe`, `▁the`, `<0x0A>`).
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.engine.id_to_token(id)
    }

    /// The id of an entry of the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.engine.token_to_id(token)
    }

    /// Whether `id` is a token that `decode` leaves out with `skip_special`.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.engine.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Every added token: special ones and those that are only never split.
    pub fn added_tokens(&self) -> Vec<Token> {
        let mut added: Vec<Token> = self
            .0
            .engine
            .get_added_tokens_decoder()
            .iter()
            .map(|(&id, token)| Token { id, text: token.content.clone() })
            .collect();
        added.sort_by_key(|token| token.id);
        added
    }

    pub fn bos(&self) -> Option<&Token> {
        self.special("bos_token")
    }
    pub fn eos(&self) -> Option<&Token> {
        self.special("eos_token")
    }
    pub fn pad(&self) -> Option<&Token> {
        self.special("pad_token")
    }
    pub fn unk(&self) -> Option<&Token> {
        self.special("unk_token")
    }

    /// The token of a role as transformers names it (`eos_token`, `pad_token`, …).
    pub fn special(&self, role: &str) -> Option<&Token> {
        self.0.special.get(role)
    }

    /// All roles and their tokens: what a chat template sees as variables.
    pub fn special_roles(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.0.special.iter().map(|(role, token)| (role.as_str(), token))
    }

    /// Ids that end generation: the tokenizer's eos first, then those of
    /// `generation_config.json` (or `config.json` where that is missing).
    pub fn end_ids(&self) -> &[u32] {
        &self.0.end_ids
    }

    /// The most tokens that the model beside the tokenizer was made for, where its files say so.
    pub fn positions(&self) -> Option<usize> {
        self.0.positions
    }

    /// Whether encoding with special tokens puts a BOS in front.
    pub fn adds_bos(&self) -> bool {
        self.0.adds_bos
    }

    /// The default chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template_named(DEFAULT)
    }

    /// A chat template by its name, where the tokenizer has several (`tool_use`, `rag`).
    pub fn chat_template_named(&self, name: &str) -> Option<&str> {
        match &self.1 {
            Some(assigned) => (name == DEFAULT).then_some(assigned.text.as_str()),
            None => self.0.templates.get(name).map(String::as_str),
        }
    }

    /// Whether the chat template is none of the tokenizer's files.
    pub fn is_template_assigned(&self) -> bool {
        self.1.is_some()
    }

    /// The number of ids, added tokens included. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.0.engine.get_vocab_size(true)
    }

    /// SHA-256 (hex) of everything that decides ids and templates.
    pub fn fingerprint(&self) -> &str {
        self.1.as_ref().map_or(&self.0.fingerprint, |assigned| &assigned.fingerprint)
    }

    /// As [`fingerprint`](Self::fingerprint), of the files alone.
    pub fn files_fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// The files that the tokenizer was read from.
    pub fn paths(&self) -> &[PathBuf] {
        &self.0.paths
    }

    /// Writes the tokenizer files into `folder`, so that an adapter carries its tokenizer. An assigned chat template
    /// is written as transformers does, to a file of its own.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        for path in &self.0.paths {
            let name = path.file_name().unwrap_or_default();
            let inner =
                TEMPLATE_FOLDERS.iter().find(|inner| path.parent().is_some_and(|parent| parent.ends_with(inner)));
            if self.1.is_some() && (inner.is_some() || name == TEMPLATE_FILE) {
                continue;
            }
            let bytes = match &self.1 {
                Some(_) if name == CONFIG_FILE => without_template(path)?,
                _ => files::read(path)?,
            };
            let folder = inner.map_or(folder.to_path_buf(), |inner| folder.join(inner));
            files::write_whole(&folder.join(name), &bytes)?;
        }
        let template = folder.join(TEMPLATE_FILE);
        match &self.1 {
            Some(assigned) => files::write_whole(&template, assigned.text.as_bytes()),
            // One that an earlier save left there would come before these files' own.
            None if !self.0.paths.iter().any(|path| path.ends_with(TEMPLATE_FILE)) && template.is_file() => {
                std::fs::remove_file(&template).map_err(|error| Error::file("remove", &template, &error))
            }
            None => Ok(()),
        }
    }

    /// Some crafted tokenizers panic only when used: that is an error like any other.
    fn guarded<T>(&self, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Error::data(format!("the tokenizer failed: {error}"))),
            Err(_) => Err(Error::data("the tokenizer panicked: its tokenizer.json is damaged")),
        }
    }
}

/// The default chat template that the files in `folder` hold, if they do: that of a saved adapter, say.
pub fn chat_template_in(folder: &Path) -> Result<Option<String>> {
    let settings = object(&folder.join(CONFIG_FILE))?.unwrap_or_default();
    Ok(templates(folder, &settings, &mut Vec::new())?.remove(DEFAULT))
}

/// A tokenizer's settings without the chat template, which then has a file of its own.
fn without_template(path: &Path) -> Result<Vec<u8>> {
    let mut settings = object(path)?.unwrap_or_default();
    settings.shift_remove("chat_template");
    Ok(files::json_text(&Value::Object(settings))?.into_bytes())
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<tokenizers::Tokenizer> {
    let failed = |detail: String| {
        Error::new(Kind::File, format!("`{}` is not a usable tokenizer: {detail}", path.display()))
            .with_hint("fetch the file again, or save it with `tokenizers` 0.19 or later")
    };
    let parsed = catch_unwind(|| tokenizers::Tokenizer::from_bytes(&bytes));
    let mut engine = match parsed {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("the reader panicked on it".into())),
    };
    // A call asks for truncation and padding or has none, as in transformers; what the
    // file was saved with must not cut rows behind the user's back.
    engine.with_padding(None);
    engine.with_truncation(None).map_err(|error| failed(error.to_string()))?;
    Ok(engine)
}

/// The object in a JSON file, or `None` where there is no such file.
fn object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    match files::read_json(path)? {
        Value::Object(found) => Ok(Some(found)),
        _ => Err(Error::new(Kind::File, format!("`{}`: expected a JSON object", path.display()))),
    }
}

/// The text of a token given as a string or as `{"content": …}`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Adds tokens that the settings name and `tokenizer.json` does not have, as transformers does.
fn add_tokens(engine: &mut tokenizers::Tokenizer, settings: &Map<String, Value>) -> Result<()> {
    let mut missing: Vec<AddedToken> = Vec::new();
    let mut by_id: Vec<(u64, &Value)> = match settings.get("added_tokens_decoder").and_then(Value::as_object) {
        Some(found) => found.iter().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect(),
        None => Vec::new(),
    };
    by_id.sort_by_key(|(id, _)| *id);
    for (_, token) in by_id {
        if let Ok(token) = serde_json::from_value::<AddedToken>(token.clone()) {
            missing.push(token);
        }
    }
    let named = settings.iter().filter(|(role, _)| role.ends_with("_token")).filter_map(|(_, value)| text_of(value));
    missing.extend(named.map(|text| AddedToken::from(text, true)));
    missing.retain(|token| !token.content.is_empty() && engine.token_to_id(&token.content).is_none());
    let added = catch_unwind(AssertUnwindSafe(|| engine.add_tokens(&missing)));
    added
        .map(|_| ())
        .map_err(|_| Error::new(Kind::File, "the tokenizer panicked on the tokens of tokenizer_config.json"))
}

fn special_tokens(engine: &tokenizers::Tokenizer, settings: &Map<String, Value>) -> BTreeMap<String, Token> {
    let roles = settings.iter().filter(|(role, _)| role.ends_with("_token"));
    let tokens = roles.filter_map(|(role, value)| {
        let text = text_of(value)?;
        Some((role.clone(), Token { id: engine.token_to_id(text)?, text: text.to_owned() }))
    });
    tokens.collect()
}

/// Reads the templates of both places; the newer place, files of their own, wins.
fn templates(
    folder: &Path,
    settings: &Map<String, Value>,
    paths: &mut Vec<PathBuf>,
) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    match settings.get("chat_template") {
        Some(Value::String(text)) => drop(found.insert(DEFAULT.to_owned(), text.clone())),
        Some(Value::Array(list)) => found.extend(list.iter().filter_map(|entry| {
            Some((entry.get("name")?.as_str()?.to_owned(), entry.get("template")?.as_str()?.to_owned()))
        })),
        Some(Value::Object(named)) => {
            found.extend(named.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))));
        }
        _ => {}
    }
    let default = folder.join(TEMPLATE_FILE);
    let mut own: Vec<(String, PathBuf)> = Vec::new();
    if default.is_file() {
        own.push((DEFAULT.into(), default));
    }
    for entries in TEMPLATE_FOLDERS.iter().filter_map(|inner| std::fs::read_dir(folder.join(inner)).ok()) {
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        own.extend(files.filter(|path| path.extension().is_some_and(|end| end == "jinja")).filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some((name, path))
        }));
    }
    own.sort();
    for (name, path) in own {
        found.insert(name, files::read_text(&path)?);
        paths.push(path);
    }
    Ok(found)
}

fn end_ids(folder: &Path, eos: Option<&Token>) -> Result<Vec<u32>> {
    let mut ids: Vec<u32> = eos.map(|token| token.id).into_iter().collect();
    for name in ["generation_config.json", "config.json"] {
        let Some(config) = object(&folder.join(name))? else { continue };
        let Some(value) = config.get("eos_token_id") else { continue };
        let listed: Vec<u32> = match value {
            Value::Array(list) => list.iter().filter_map(id_of).collect(),
            one => id_of(one).into_iter().collect(),
        };
        let new: Vec<u32> = listed.into_iter().filter(|id| !ids.contains(id)).collect();
        ids.extend(new);
        break;
    }
    Ok(ids)
}

/// The lesser of `max_position_embeddings` of the model and `model_max_length` of the tokenizer, for which
/// transformers writes 1e30 where there is none.
fn positions(folder: &Path, settings: &Map<String, Value>) -> Result<Option<usize>> {
    let config = object(&folder.join("config.json"))?.unwrap_or_default();
    let named = [config.get("max_position_embeddings"), settings.get("model_max_length")];
    let counts = named.into_iter().flatten().filter_map(Value::as_u64).filter_map(|count| usize::try_from(count).ok());
    Ok(counts.filter(|&count| count > 0).min())
}

fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn adds_bos(engine: &tokenizers::Tokenizer, bos: Option<&Token>) -> bool {
    let encoded = catch_unwind(AssertUnwindSafe(|| engine.encode_fast("a", true)));
    match (encoded, bos) {
        (Ok(Ok(encoding)), Some(bos)) => encoding.get_ids().first() == Some(&bos.id),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},
        "padding":null,"added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"<s>":0,"a":1,"b":2,"?":3},"unk_token":"?"}}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            files::write_whole(&folder.path().join(name), text.as_bytes()).unwrap();
        }
        folder
    }

    #[test]
    fn saved_truncation_does_not_cut_and_named_tokens_are_added() {
        let config = r#"{"bos_token":"<s>","eos_token":{"content":"</s>"},"chat_template":"old"}"#;
        let folder = folder(&[
            ("tokenizer.json", WORDS),
            ("tokenizer_config.json", config),
            ("generation_config.json", r#"{"eos_token_id":[4,7]}"#),
            ("chat_template.jinja", "new"),
        ]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("a b a b", true).unwrap(), [1, 2, 1, 2]);
        assert_eq!(tokenizer.eos(), Some(&Token { id: 4, text: "</s>".into() }));
        assert_eq!(tokenizer.end_ids(), [4, 7]);
        assert_eq!(tokenizer.encode("a</s>", false).unwrap(), [1, 4]);
        assert_eq!(tokenizer.chat_template(), Some("new"));
        assert!(!tokenizer.adds_bos() && tokenizer.is_special(0) && !tokenizer.is_special(1));
    }

    #[test]
    fn a_list_of_templates_is_read_by_name() {
        let config = r#"{"chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]}"#;
        let folder = folder(&[("tokenizer.json", WORDS), ("tokenizer_config.json", config)]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!((tokenizer.chat_template(), tokenizer.chat_template_named("tool_use")), (Some("d"), Some("t")));
    }

    #[test]
    fn an_assigned_template_is_saved_in_the_place_of_all_others() {
        let config = r#"{"eos_token":"<s>","chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]}"#;
        let source = folder(&[
            ("tokenizer.json", WORDS),
            ("tokenizer_config.json", config),
            ("chat_template.jinja", "old"),
            ("additional_chat_templates/rag.jinja", "r"),
        ]);
        let own = Tokenizer::from_folder(source.path()).unwrap();
        let tokenizer = own.with_chat_template("new");
        assert_eq!((tokenizer.chat_template(), tokenizer.chat_template_named("tool_use")), (Some("new"), None));
        assert_eq!((own.chat_template(), own.is_template_assigned()), (Some("old"), false));
        assert_ne!(tokenizer.fingerprint(), own.fingerprint());
        assert_eq!(tokenizer.files_fingerprint(), own.fingerprint());
        let saved = tempfile::tempdir().unwrap();
        tokenizer.copy_to(saved.path()).unwrap();
        let read = Tokenizer::from_folder(saved.path()).unwrap();
        assert_eq!((read.chat_template(), read.chat_template_named("tool_use")), (Some("new"), None));
        assert_eq!((read.chat_template_named("rag"), read.eos()), (None, own.eos()));
        assert!(!read.with_chat_template("new").is_template_assigned(), "it is that of the files");
        assert_eq!(chat_template_in(saved.path()).unwrap().as_deref(), Some("new"));
        // A tokenizer without that file leaves none of another behind.
        let bare = folder(&[("tokenizer.json", WORDS), ("tokenizer_config.json", r#"{"chat_template":"c"}"#)]);
        Tokenizer::from_folder(bare.path()).unwrap().copy_to(saved.path()).unwrap();
        assert_eq!(chat_template_in(saved.path()).unwrap().as_deref(), Some("c"));
    }

    #[test]
    fn damaged_files_are_errors() {
        let broken = [
            "",
            "{}",
            "[1]",
            r#"{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#,
            r#"{"version":"1.0","added_tokens":[],"model":{"type":"Unigram","unk_id":5,"vocab":[]}}"#,
            r#"{"version":"1.0","added_tokens":[],"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false},"model":{"type":"WordLevel","vocab":{},"unk_token":"?"}}"#,
        ];
        for text in broken {
            let folder = folder(&[("tokenizer.json", text)]);
            let error = Tokenizer::from_folder(folder.path()).unwrap_err();
            assert!(error.message.contains("tokenizer.json"), "{error}");
        }
        let error = Tokenizer::from_folder(folder(&[]).path()).unwrap_err();
        assert!(error.message.contains("no tokenizer.json"));
    }
}
