//! The special tokens of a tokenizer: by role, those that end generation, and those that only
//! `tokenizer_config.json` names.

use super::vet::ensure_token_lengths;
use super::{read_object, Tokenizer};
use crate::error::{Error, Kind, Result};
use crate::fence;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::AddedToken;

/// A token with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: u32,
    pub text: String,
}

impl Tokenizer {
    /// Whether `id` is a token that `decode` skips with `skip_special`.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.engine.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Every added token: the special ones and those that are merely never split.
    pub fn added_tokens(&self) -> Vec<Token> {
        let added = self.inner.engine.get_added_tokens_decoder();
        let mut tokens: Vec<Token> =
            added.iter().map(|(&id, token)| Token { id, text: token.content.clone() }).collect();
        tokens.sort_by_key(|token| token.id);
        tokens
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

    /// The token of a role, by transformers' name (`eos_token`, `pad_token`, …).
    pub fn special(&self, role: &str) -> Option<&Token> {
        self.inner.special.get(role)
    }

    /// All roles and their tokens: the variables of a chat template.
    pub fn special_roles(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.inner.special.iter().map(|(role, token)| (role.as_str(), token))
    }

    /// Ids that end generation: the tokenizer's eos first, then those of `generation_config.json`, or of
    /// `config.json` if that file is missing.
    pub fn end_ids(&self) -> &[u32] {
        &self.inner.end_ids
    }

    /// Whether encoding with special tokens adds a BOS at the start.
    pub fn adds_bos(&self) -> bool {
        self.inner.adds_bos
    }
}

/// The text of a token given as a string or as `{"content": …}`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Adds tokens that the settings name and `tokenizer.json` lacks, as transformers does.
pub(super) fn add_tokens(engine: &mut tokenizers::Tokenizer, settings: &Map<String, Value>) -> Result<()> {
    let mut missing: Vec<AddedToken> = Vec::new();
    let decoder = settings.get("added_tokens_decoder").and_then(Value::as_object);
    let mut by_id: Vec<(u64, &Value)> =
        decoder.into_iter().flatten().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
    by_id.sort_by_key(|(id, _)| *id);
    for (_, token) in by_id {
        if let Ok(token) = serde_json::from_value::<AddedToken>(token.clone()) {
            missing.push(token);
        }
    }
    let named = settings.iter().filter(|(role, _)| role.ends_with("_token")).filter_map(|(_, value)| text_of(value));
    missing.extend(named.map(|text| AddedToken::from(text, true)));
    missing.retain(|token| !token.content.is_empty() && engine.token_to_id(&token.content).is_none());
    ensure_token_lengths(missing.iter().map(|token| token.content.as_str()))
        .map_err(|error| Error { kind: Kind::File, ..error.context("tokenizer_config.json") })?;
    let added = fence::catch(|| engine.add_tokens(&missing));
    added
        .map(|_| ())
        .map_err(|_| Error::new(Kind::File, "the tokenizer panicked on the tokens of tokenizer_config.json"))
}

pub(super) fn special_tokens(engine: &tokenizers::Tokenizer, settings: &Map<String, Value>) -> BTreeMap<String, Token> {
    let roles = settings.iter().filter(|(role, _)| role.ends_with("_token"));
    let tokens = roles.filter_map(|(role, value)| {
        let text = text_of(value)?;
        Some((role.clone(), Token { id: engine.token_to_id(text)?, text: text.to_owned() }))
    });
    tokens.collect()
}

pub(super) fn end_ids(folder: &Path, eos: Option<&Token>) -> Result<Vec<u32>> {
    let mut ids: Vec<u32> = eos.map(|token| token.id).into_iter().collect();
    for name in ["generation_config.json", "config.json"] {
        let Some(config) = read_object(&folder.join(name))? else { continue };
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

fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

pub(super) fn adds_bos(engine: &tokenizers::Tokenizer, bos: Option<&Token>) -> bool {
    let encoded = fence::catch(|| engine.encode_fast("a", true));
    match (encoded, bos) {
        (Ok(Ok(encoding)), Some(bos)) => encoding.get_ids().first() == Some(&bos.id),
        _ => false,
    }
}
