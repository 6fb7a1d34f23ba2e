//! A tokenizer as settings for llama.cpp: tokens, their kinds, merges or scores, special ids.
//!
//! llama.cpp implements two kinds of BPE: byte-level (`gpt2`), which splits text in a way that a setting
//! names, and sentencepiece's (`llama`).

use super::splitter::splitter;
use super::{Settings, Value};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::tokenizer::{Token, Tokenizer};
use serde_json::Value as Json;
use std::collections::HashMap;

/// The codes of the kinds of tokens in the format.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The score of a token that no merge makes: below the score of every token that one does.
const NO_MERGE: f32 = -1e6;

/// The settings that describe `tokenizer` to llama.cpp, for an embedding of `rows` rows. Rows without a
/// token get an unused one.
///
/// # Errors
/// `Kind::Data` if llama.cpp cannot split text in the same way.
pub fn vocabulary(tokenizer: &Tokenizer, rows: usize) -> Result<Settings> {
    let file = tokenizer.paths().first().ok_or_else(|| Error::bug("a tokenizer without a file"))?;
    let json = files::read_json(file)?;
    if json["model"]["type"] != "BPE" {
        let kind = &json["model"]["type"];
        bail!(Kind::Data, "GGUF: expected a BPE tokenizer, found {kind}"; hint: "lorhai cannot convert this tokenizer for llama.cpp");
    }
    let sentencepiece = json["model"]["byte_fallback"] == true;
    let (tokens, kinds) = tokens(tokenizer, rows, sentencepiece)?;
    let mut settings = Settings::new();
    let mut put = |key: &str, value: Value| settings.push((format!("tokenizer.{key}"), value));
    put("ggml.model", if sentencepiece { "llama" } else { "gpt2" }.into());
    put("ggml.pre", if sentencepiece { "default" } else { splitter(&json)? }.into());
    put("ggml.token_type", Value::List(kinds.into_iter().map(Value::I32).collect()));
    let merges = merges(&json)?;
    if sentencepiece {
        put("ggml.scores", Value::List(scores(&tokens, &merges).map(Value::F32).collect()));
        put("ggml.add_space_prefix", Value::Bool(adds_space(&json)));
    } else {
        put("ggml.merges", Value::List(merges.iter().map(|(a, b)| Value::Text(format!("{a} {b}"))).collect()));
    }
    put("ggml.tokens", Value::List(tokens.into_iter().map(Value::Text).collect()));
    for (role, token) in special_ids(tokenizer) {
        put(&format!("ggml.{role}_token_id"), Value::U32(token));
    }
    put("ggml.add_bos_token", Value::Bool(tokenizer.adds_bos()));
    if let Some(template) = tokenizer.chat_template() {
        put("chat_template", template.into());
    }
    Ok(settings)
}

/// The text and kind of each of `rows` ids.
fn tokens(tokenizer: &Tokenizer, rows: usize, sentencepiece: bool) -> Result<(Vec<String>, Vec<i32>)> {
    let added: HashMap<u32, String> =
        tokenizer.added_tokens().into_iter().map(|token| (token.id, token.text)).collect();
    if let Some(beyond) = added.keys().find(|id| **id as usize >= rows) {
        bail!(Kind::Data, "GGUF: the token {beyond} has no row in the embedding, which has {rows}"; hint: "the tokenizer belongs to another model");
    }
    let unknown = tokenizer.unk().map(|token| token.id);
    let token = |id: u32| match (tokenizer.token(id), added.get(&id)) {
        (None, _) => (format!("[PAD{id}]"), UNUSED),
        (Some(text), _) if sentencepiece && unknown == Some(id) => (text, UNKNOWN),
        (Some(text), _) if sentencepiece && is_byte(&text) => (text, BYTE),
        (Some(text), Some(_)) if tokenizer.is_special(id) || looks_special(&text) => (text, CONTROL),
        (Some(text), Some(_)) => (text.replace('▁', " "), USER_DEFINED),
        (Some(text), None) => (text, NORMAL),
    };
    Ok((0..rows as u32).map(token).unzip())
}

/// `<0x0A>`
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

/// Whether a token is special though the tokenizer does not mark it, by the rule of llama.cpp's converter.
fn looks_special(text: &str) -> bool {
    text.starts_with("<|") && text.ends_with("|>")
}

fn merges(json: &Json) -> Result<Vec<(String, String)>> {
    let pair = |merge: &Json| match merge {
        Json::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        Json::Array(pair) => Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned())),
        _ => None,
    };
    let listed = json["model"]["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs: Option<Vec<_>> = listed.iter().map(pair).collect();
    pairs.ok_or_else(|| Error::data("GGUF: the merges in tokenizer.json have an unknown form"))
}

/// sentencepiece merges the pair whose result has the highest score. So a token scores higher the earlier
/// the merge that makes it.
fn scores<'a>(tokens: &'a [String], merges: &[(String, String)]) -> impl Iterator<Item = f32> + 'a {
    let mut rank: HashMap<String, usize> = HashMap::new();
    for (at, (left, right)) in merges.iter().enumerate() {
        rank.entry(format!("{left}{right}")).or_insert(at);
    }
    tokens.iter().map(move |token| rank.get(token).map_or(NO_MERGE, |&rank| -(rank as f32)))
}

/// Whether text gets a space in front, as sentencepiece's `add_dummy_prefix` does.
fn adds_space(json: &Json) -> bool {
    let prepends =
        |step: &Json| step["type"] == "Prepend" || (step["type"] == "Metaspace" && step["prepend_scheme"] != "never");
    steps(&json["normalizer"]).chain(steps(&json["pre_tokenizer"])).any(prepends)
}

/// The steps of a sequence, or the single step.
fn steps(part: &Json) -> impl Iterator<Item = &Json> {
    let inner = ["normalizers", "pretokenizers"].iter().find_map(|name| part[*name].as_array());
    inner.map_or(std::slice::from_ref(part), Vec::as_slice).iter()
}

fn special_ids(tokenizer: &Tokenizer) -> Vec<(&'static str, u32)> {
    let id = |token: Option<&Token>| token.map(|token| token.id);
    let end = id(tokenizer.eos()).or(tokenizer.end_ids().first().copied());
    let roles = [
        ("bos", id(tokenizer.bos())),
        ("eos", end),
        ("unknown", id(tokenizer.unk())),
        ("padding", id(tokenizer.pad())),
    ];
    roles.into_iter().filter_map(|(role, id)| Some((role, id?))).collect()
}
