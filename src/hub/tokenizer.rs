//! A tokenizer as the model folder describes it: text to ids and back.
//!
//! `tokenizer.json` decides how text becomes ids, as in the Python package `tokenizers`. Its
//! post-processor alone decides whether a BOS is added, as in transformers 5, which ignores
//! `add_bos_token` if there is a `tokenizer.json`. Special tokens are in [`special`], chat templates in
//! [`chat_template`], checks before parsing in [`vet`]. Leaves to others: rendering a template
//! (`data/template.rs`) and choosing labels (`data/`).

mod chat_template;
mod special;
mod vet;

pub use chat_template::{chat_template_in, is_tokenizer_file, TEMPLATE_FOLDERS};
pub use special::Token;

use crate::error::{Error, Kind, Result};
use crate::{fence, files};
use chat_template::{read_templates, AssignedTemplate};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONFIG_FILE: &str = "tokenizer_config.json";

/// Ids with the part of the text that each stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Byte ranges in the encoded text; `(0, 0)` for a token that the post-processor added.
    pub offsets: Vec<(usize, usize)>,
}

/// Text to ids and back. Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    /// Replaces the chat templates of the tokenizer's files.
    assigned_template: Option<Arc<AssignedTemplate>>,
}

/// What the files of the tokenizer say.
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
    /// # Errors
    /// `Kind::File` if `tokenizer.json` is missing or damaged, or names a special token that cannot be
    /// added.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            crate::bail!(Kind::File, "no tokenizer.json in `{}`", folder.display();
                hint: "a model folder holds tokenizer.json; to convert an older tokenizer, load and save it with \
                       transformers");
        }
        let mut hash = Sha256::new();
        let bytes = files::read(&path)?;
        hash.update(&bytes);
        let mut engine = parse(&path, bytes)?;
        let mut paths = vec![path];
        let mut settings = Map::new();
        // If both files name a token, tokenizer_config.json wins: it is the newer format.
        for name in ["special_tokens_map.json", CONFIG_FILE] {
            if let Some(object) = read_object(&folder.join(name))? {
                hash.update(Value::Object(object.clone()).to_string());
                settings.extend(object);
                paths.push(folder.join(name));
            }
        }
        special::add_tokens(&mut engine, &settings)?;
        let special = special::special_tokens(&engine, &settings);
        let templates = read_templates(folder, &settings, &mut paths)?;
        for (name, text) in &templates {
            hash.update(format!("{name}\n{text}"));
        }
        let end_ids = special::end_ids(folder, special.get("eos_token"))?;
        let positions = positions(folder, &settings)?;
        let adds_bos = special::adds_bos(&engine, special.get("bos_token"));
        let fingerprint = format!("{:x}", hash.finalize());
        let inner = Inner { engine, special, end_ids, positions, templates, adds_bos, paths, fingerprint };
        Ok(Tokenizer { inner: Arc::new(inner), assigned_template: None })
    }

    /// What its files take on disk.
    pub fn bytes(&self) -> u64 {
        let sizes = self.inner.paths.iter().filter_map(|path| std::fs::metadata(path).ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// The ids of `text`; `add_special` lets the post-processor add BOS and the like.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.guarded(|| self.inner.engine.encode_fast(text, add_special))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`encode`](Self::encode), with the byte range of each id.
    pub fn encode_with_offsets(&self, text: &str, add_special: bool) -> Result<Encoded> {
        let encoding = self.guarded(|| self.inner.engine.encode(text, add_special))?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// The text of `ids`. Skips ids outside the vocabulary, as `tokenizers` does.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.guarded(|| self.inner.engine.decode(ids, skip_special))
    }

    /// The vocabulary entry of `id`, as the file spells it (`Ġthe`, `▁the`, `<0x0A>`).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.engine.id_to_token(id)
    }

    /// The id of a vocabulary entry.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.engine.token_to_id(token)
    }

    /// The number of ids, added tokens included. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.engine.get_vocab_size(true)
    }

    /// The longest input that the files allow, in tokens, if they say.
    pub fn positions(&self) -> Option<usize> {
        self.inner.positions
    }

    /// SHA-256 (hex) of everything that decides ids and templates.
    pub fn fingerprint(&self) -> &str {
        self.assigned_template.as_ref().map_or(&self.inner.fingerprint, |assigned| &assigned.fingerprint)
    }

    /// As [`fingerprint`](Self::fingerprint), of the files alone.
    pub fn files_fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// Do ids stand for the same tokens? Templates and special roles may differ.
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        let vocabulary = |tokenizer: &Self| tokenizer.inner.engine.get_vocab(true);
        self.files_fingerprint() == other.files_fingerprint() || vocabulary(self) == vocabulary(other)
    }

    /// The files that the tokenizer was read from.
    pub fn paths(&self) -> &[PathBuf] {
        &self.inner.paths
    }

    /// Turns a panic into an error: some damaged tokenizers panic only when used.
    fn guarded<T>(&self, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        match fence::catch(work) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(Error::data(format!("the tokenizer failed: {error}"))),
            Err(panicked) if vet::is_search_without_end(&panicked.message) => Err(Error::data(
                "the tokenizer gave up: an expression of its tokenizer.json tries too many ways to match a text",
            )
            .with_hint("fetch the model again, or shorten texts that repeat one character thousands of times")),
            Err(_) => Err(Error::data("the tokenizer panicked: its tokenizer.json is damaged")),
        }
    }
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<tokenizers::Tokenizer> {
    let unusable = |detail: String| {
        Error::new(Kind::File, format!("`{}` is not a usable tokenizer: {detail}", path.display()))
            .with_hint("fetch the file again, or save it with `tokenizers` 0.19 or later")
    };
    if let Some(problem) = vet::problem(&bytes) {
        return Err(unusable(problem));
    }
    vet::bound_searches();
    let parsed = fence::catch(|| tokenizers::Tokenizer::from_bytes(&bytes));
    let mut engine = match parsed {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => return Err(unusable(error.to_string())),
        Err(_) => return Err(unusable("the reader panicked on it".into())),
    };
    // Truncation and padding that were saved with the file would cut rows silently. As in transformers,
    // a call asks for them or has neither.
    engine.with_padding(None);
    engine.with_truncation(None).map_err(|error| unusable(error.to_string()))?;
    Ok(engine)
}

/// The object in a JSON file, or `None` if there is no such file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    match files::read_json(path)? {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(Error::new(Kind::File, format!("`{}`: expected a JSON object", path.display()))),
    }
}

/// The smaller of the model's `max_position_embeddings` and the tokenizer's `model_max_length`. For no
/// limit, transformers writes a `model_max_length` of 1e30, which is no u64.
fn positions(folder: &Path, settings: &Map<String, Value>) -> Result<Option<usize>> {
    let config = read_object(&folder.join("config.json"))?.unwrap_or_default();
    let limits = [config.get("max_position_embeddings"), settings.get("model_max_length")];
    let limits = limits.into_iter().flatten().filter_map(Value::as_u64).filter_map(|limit| usize::try_from(limit).ok());
    Ok(limits.filter(|&limit| limit > 0).min())
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
            files::write_atomic(&folder.path().join(name), text.as_bytes()).unwrap();
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
    fn a_vocabulary_is_tokens_and_ids() {
        let of = |json: &str, config: &str| {
            let folder = folder(&[("tokenizer.json", json), ("tokenizer_config.json", config)]);
            Tokenizer::from_folder(folder.path()).unwrap()
        };
        let words = of(WORDS, "{}");
        assert!(words.has_vocabulary_of(&of(WORDS, r#"{"chat_template":"t","eos_token":"<s>"}"#)));
        assert!(!words.has_vocabulary_of(&of(&WORDS.replace(r#""a":1,"b":2"#, r#""b":1,"a":2"#), "{}")));
        assert!(!words.has_vocabulary_of(&of(WORDS, r#"{"eos_token":"</s>"}"#)), "it adds a token");
    }

    #[test]
    fn a_list_of_templates_is_read_by_name() {
        let config = r#"{"chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]}"#;
        let folder = folder(&[("tokenizer.json", WORDS), ("tokenizer_config.json", config)]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!((tokenizer.chat_template(), tokenizer.chat_template_named("tool_use")), (Some("d"), Some("t")));
    }

    #[test]
    fn an_assigned_template_replaces_all_others_when_saved() {
        let config = r#"{"eos_token":"<s>","chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]}"#;
        let source = folder(&[
            ("tokenizer.json", WORDS),
            ("tokenizer_config.json", config),
            ("chat_template.jinja", "old"),
            ("additional_chat_templates/rag.jinja", "r"),
        ]);
        let original = Tokenizer::from_folder(source.path()).unwrap();
        let tokenizer = original.with_chat_template("new");
        assert_eq!((tokenizer.chat_template(), tokenizer.chat_template_named("tool_use")), (Some("new"), None));
        assert_eq!((original.chat_template(), original.is_template_assigned()), (Some("old"), false));
        assert_ne!(tokenizer.fingerprint(), original.fingerprint());
        assert_eq!(tokenizer.files_fingerprint(), original.fingerprint());
        let saved = tempfile::tempdir().unwrap();
        tokenizer.copy_to(saved.path()).unwrap();
        let read = Tokenizer::from_folder(saved.path()).unwrap();
        assert_eq!((read.chat_template(), read.chat_template_named("tool_use")), (Some("new"), None));
        assert_eq!((read.chat_template_named("rag"), read.eos()), (None, original.eos()));
        assert!(!read.with_chat_template("new").is_template_assigned(), "the files hold this template");
        assert_eq!(chat_template_in(saved.path()).unwrap().as_deref(), Some("new"));
    }

    #[test]
    fn an_expression_that_tries_without_end_gives_up() {
        let regex = r#"{"type":"Split","pattern":{"Regex":"(a|aa)+$"},"behavior":"Isolated","invert":false}"#;
        let folder = folder(&[("tokenizer.json", &WORDS.replace(r#"{"type":"Whitespace"}"#, regex))]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("aaaa", false).unwrap().len(), 1);
        let error = tokenizer.encode(&format!("{}b", "a".repeat(60)), false).unwrap_err();
        assert!(error.message.contains("tries too many ways to match a text"), "{error}");
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
