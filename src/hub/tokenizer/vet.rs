//! What is checked of a `tokenizer.json` before `tokenizers` parses it. That crate trusts its files: a number in one of
//! eight characters can make it ask for 16 GB, which ends the process, and no error of ours could say why.
//!
//! Refused is what no tokenizer needs: a table that claims to be longer than its file, replacements that make a text
//! thousands of times longer, tokens of thousands of characters, and expressions that repeat what they repeat. Others
//! can take exponential time as well, such as `(a|aa)+$`: the search itself counts its steps and gives up.

use crate::error::Result;
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use std::ffi::{c_int, c_ulong};

/// Characters of a token that is added to the vocabulary; finding longer ones takes a table that grows with the square.
const MAX_TOKEN: usize = 4096;
/// How much longer the normalizers, or the decoders, may make a text. Llama 2's make a blank three bytes.
const MAX_GROWTH: f64 = 1000.0;
const MAX_PATTERN: usize = 100_000;

/// How often a search may go back and try another way: some seconds. Oniguruma itself allows ten million at one place of
/// the text, and any number of places. An expression that honest files have goes back once or twice for a character.
const MAX_RETRIES: c_ulong = 100_000_000;

extern "C" {
    /// Of Oniguruma, which `tokenizers` brings along; the crate in between has no such function.
    fn onig_set_retry_limit_in_search(limit: c_ulong) -> c_int;
}

/// Has every search give up in time; by a panic, for `tokenizers` uses no other function.
pub fn bound_searches() {
    // SAFETY: sets a number that later searches copy. All calls set the same.
    unsafe { onig_set_retry_limit_in_search(MAX_RETRIES) };
}

/// Whether a search gave up, by the message of its panic.
pub fn is_search_without_end(message: &str) -> bool {
    message.contains("retry-limit-in-") || message.contains("match-stack limit over")
}

/// The parts that are checked. The vocabulary, which is most of the file, is skipped.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    added_tokens: Value,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Says what is wrong with the file, if `tokenizers` must not be given it.
pub fn problem(bytes: &[u8]) -> Option<String> {
    let parts: Parts = match serde_json::from_slice(bytes) {
        Ok(parts) => parts,
        // Two parts of one name: which one `tokenizers` would take is its own affair.
        Err(error) if error.to_string().contains("duplicate field") => return Some(error.to_string()),
        // Not JSON, or no object: `tokenizers` says so.
        Err(_) => return None,
    };
    let tokens = parts.added_tokens.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = tokens.iter().filter_map(|token| token.get("content")?.as_str());
    let stages = [&parts.normalizer, &parts.pre_tokenizer, &parts.post_processor, &parts.decoder];
    let grows = [("normalizer", &parts.normalizer), ("decoder", &parts.decoder)];
    long_token(texts)
        .or_else(|| stages.into_iter().find_map(stage_problem))
        .or_else(|| grows.into_iter().find_map(|(name, stage)| growth_problem(name, stage)))
}

/// Fails for the first of `texts` that is too long for a token.
pub fn ensure_token_lengths<'a>(texts: impl Iterator<Item = &'a str>) -> Result<()> {
    long_token(texts).map_or(Ok(()), |problem| Err(crate::Error::data(problem)))
}

fn long_token<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let long = texts.find(|text| text.chars().count() > MAX_TOKEN)?;
    Some(format!("expected added tokens of at most {MAX_TOKEN} characters, found one of {}", long.chars().count()))
}

/// A table or an expression, anywhere in the stage, that must not be read.
fn stage_problem(stage: &Value) -> Option<String> {
    match stage {
        Value::Array(items) => items.iter().find_map(stage_problem),
        // `tokenizers` panics on it for each text, in threads of its own.
        Value::Object(fields) if is_fixed_length_of_none(fields) => {
            Some("expected pieces of a FixedLength of at least one character, found 0".to_owned())
        }
        Value::Object(fields) => fields.iter().find_map(|(key, value)| match (key.as_str(), value.as_str()) {
            ("precompiled_charsmap", Some(text)) => charsmap_problem(text),
            ("Regex", Some(pattern)) => pattern_problem(pattern),
            _ => stage_problem(value),
        }),
        _ => None,
    }
}

fn is_fixed_length_of_none(fields: &serde_json::Map<String, Value>) -> bool {
    fields.get("type").is_some_and(|name| name == "FixedLength")
        && fields.get("length").is_some_and(|length| length.as_u64() == Some(0))
}

/// The map begins with the length of its first part in bytes, for which `tokenizers` reserves memory unseen.
fn charsmap_problem(text: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let header: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let (claimed, rest) = (u32::from_le_bytes(header) as usize, bytes.len() - 4);
    (claimed > rest).then(|| format!("expected a precompiled_charsmap of {claimed} bytes, found {rest}"))
}

/// A repeated group in which something is repeated, as `(a+)+`, is tried in exponentially many ways.
fn pattern_problem(pattern: &str) -> Option<String> {
    if pattern.len() > MAX_PATTERN {
        return Some(format!("expected expressions of at most {MAX_PATTERN} bytes, found one of {}", pattern.len()));
    }
    let shown: String = pattern.chars().take(60).collect();
    has_nested_repeats(pattern).then(|| format!("the expression `{}` repeats what it repeats", shown.escape_debug()))
}

fn has_nested_repeats(pattern: &str) -> bool {
    let letters: Vec<char> = pattern.chars().collect();
    // Whether each open group holds something that repeats without end; the first stands for the whole.
    let mut groups = vec![false];
    let mut at = 0;
    while at < letters.len() {
        let mut closed = false;
        match letters[at] {
            '\\' => at += 1,
            '[' => at = end_of_class(&letters, at),
            '(' => groups.push(false),
            ')' if groups.len() > 1 => closed = groups.pop().unwrap_or(false),
            _ => {}
        }
        at += 1;
        let (length, is_endless) = repeat_at(&letters[at.min(letters.len())..]);
        at += length;
        if closed && is_endless {
            return true;
        }
        if let Some(group) = groups.last_mut() {
            *group |= closed || is_endless;
        }
    }
    false
}

/// The place of the bracket that closes the class at `at`; classes nest.
fn end_of_class(letters: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 1,
            '[' => depth += 1,
            ']' if depth == 1 => return at,
            ']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The length of the repetition that the letters begin with, and whether it has no end. With a `+` behind it gives
/// nothing back, and is harmless.
fn repeat_at(letters: &[char]) -> (usize, bool) {
    let (length, is_endless) = match letters {
        ['*' | '+', ..] => (1, true),
        ['?', ..] => (1, false),
        ['{', rest @ ..] => {
            let bounds: String = rest.iter().take_while(|letter| **letter != '}').collect();
            let is_bounds = !bounds.is_empty() && bounds.chars().all(|letter| letter.is_ascii_digit() || letter == ',');
            if !is_bounds {
                return (0, false);
            }
            (bounds.len() + 2, bounds.ends_with(','))
        }
        _ => return (0, false),
    };
    match letters.get(length) {
        Some('+') => (length + 1, false),
        Some('?') => (length + 1, is_endless),
        _ => (length, is_endless),
    }
}

fn growth_problem(name: &str, stage: &Value) -> Option<String> {
    let growth = growth(stage);
    (growth > MAX_GROWTH).then(|| format!("the {name} could make a text {growth:.0} times as long"))
}

/// How many times as long the stage can make a text, at most.
fn growth(stage: &Value) -> f64 {
    match stage {
        Value::Array(items) => items.iter().map(growth).product(),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::len);
            let factor = match fields.get("type").and_then(Value::as_str) {
                Some("Replace") => {
                    let pattern = fields.get("pattern").and_then(|pattern| pattern.get("String")?.as_str());
                    // An expression can match one character, or the place before each.
                    let matched = pattern.map_or(1, |pattern| pattern.len().max(1));
                    let empty = if pattern.is_some_and(|pattern| !pattern.is_empty()) { 0.0 } else { 1.0 };
                    (text("content").unwrap_or(0) as f64 / matched as f64 + empty).max(1.0)
                }
                // Of one character: a text can be as short.
                Some("Prepend") => 1.0 + text("prepend").unwrap_or(0) as f64,
                _ => 1.0,
            };
            factor * fields.values().filter(|value| value.is_array() || value.is_object()).map(growth).product::<f64>()
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(normalizer: Value) -> Option<String> {
        problem(json!({ "normalizer": normalizer, "model": { "vocab": {} } }).to_string().as_bytes())
    }

    #[test]
    fn hostile_files_are_refused() {
        let charsmap = of(json!({ "type": "Precompiled", "precompiled_charsmap": "/////w==" }));
        assert_eq!(charsmap.unwrap(), "expected a precompiled_charsmap of 4294967295 bytes, found 0");
        let replace = json!({ "type": "Replace", "pattern": { "String": "e" }, "content": "e".repeat(100) });
        let ten = of(json!({ "type": "Sequence", "normalizers": vec![replace.clone(); 10] }));
        assert_eq!(ten.unwrap(), "the normalizer could make a text 100000000000000000000 times as long");
        assert_eq!(of(replace), None, "a hundred times is bounded");
        let token = json!({ "added_tokens": [{ "id": 0, "content": "x".repeat(100_000) }] }).to_string();
        let expected = "expected added tokens of at most 4096 characters, found one of 100000";
        assert_eq!(problem(token.as_bytes()).unwrap(), expected);
        let fixed = json!({ "pre_tokenizer": { "type": "FixedLength", "length": 0 } }).to_string();
        assert!(problem(fixed.as_bytes()).is_some());
        assert!(problem(br#"{"normalizer": null, "normalizer": {}}"#).is_some(), "the same part twice");
    }

    #[test]
    fn honest_files_pass() {
        let llama = json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] });
        assert_eq!(of(llama), None);
        // A map whose header is true, as SentencePiece writes it.
        assert_eq!(of(json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA" })), None);
        let tiny = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tiny/tokenizer.json")).unwrap();
        assert_eq!(problem(&tiny), None);
        assert_eq!(problem(b"not json"), None);
    }

    #[test]
    fn expressions_that_repeat_repeats_are_refused() {
        for pattern in
            ["(a+)+", "(a*)*b", "(?:a+b?)*", "((a+))+", "(a|b+)+", "([a-z]+){2,}", "(x(a+)y)*", r"(\w+\s*)+$"]
        {
            assert!(has_nested_repeats(pattern), "{pattern}");
        }
        for pattern in [
            // GPT-2, Llama 3, Qwen2.5, o200k.
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\s+(?!\S)|\s+",
            r"(abc)+",
            r"(a{1,3})+",
            r"\(a+\)+",
            r"[(a+)+]",
            "(a++)+",
            "(ab)*(cd)*",
        ] {
            assert!(!has_nested_repeats(pattern), "{pattern}");
        }
    }
}
