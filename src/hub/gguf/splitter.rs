//! llama.cpp's name (`tokenizer.ggml.pre`) for the way in which a byte-level BPE tokenizer splits text
//! before merging.
//!
//! llama.cpp has the patterns built in. So a name fits only a tokenizer with the same patterns in the same
//! order; with a merely similar one llama.cpp would make other tokens.

use crate::bail;
use crate::error::{Error, Kind, Result};
use serde_json::Value as Json;
use std::collections::HashSet;

/// The pattern of GPT-2, which `ByteLevel` applies by default.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const CHINESE: &str = "[一-龥ࠀ-一가-퟿]+";

/// A way of splitting that llama.cpp has a name for.
struct Known {
    name: &'static str,
    /// Whether llama.cpp keeps a word that is itself a token, without applying merges.
    ignores_merges: bool,
    /// Applied one after another, each to the pieces that the previous ones left.
    patterns: &'static [&'static str],
}

const fn known(name: &'static str, ignores_merges: bool, patterns: &'static [&'static str]) -> Known {
    Known { name, ignores_merges, patterns }
}

const KNOWN: [Known; 14] = [
    known("gpt-2", false, &[GPT2]),
    known("smollm", false, &[DIGIT, GPT2]),
    known(
        "qwen2",
        false,
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    known(
        "qwen35",
        false,
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    known("llama-bpe", true, &[LLAMA3]),
    known("dbrx", false, &[LLAMA3]),
    known(
        "jais-2",
        false,
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"],
    ),
    known(
        "tekken",
        true,
        &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    known(
        "gpt-4o",
        false,
        &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    known("deepseek-coder", false, &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE, DIGIT]),
    known("deepseek-llm", false, &["[\r\n]", LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CHINESE, DIGIT]),
    known(
        "deepseek-v3",
        false,
        &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
        ],
    ),
    known(
        "seed-coder",
        false,
        &["(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"],
    ),
    known("bloom", false, &[r" ?[^(\s|[.,!?…。，、।۔،])]+"]),
];

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Stands for DeepSeek's long list of letters in alphabets with two cases, compared by its start and end.
const LETTERS: &str = "letters";
const LETTERS_BEGIN: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷ";
const LETTERS_END: &str = "]+";

/// llama.cpp's name for how the tokenizer of this tokenizer.json splits text.
pub fn splitter(json: &Json) -> Result<&'static str> {
    ensure_not_normalized(&json["normalizer"])?;
    let patterns = patterns(&json["pre_tokenizer"]).unwrap_or_default();
    let same = |known: &&Known| {
        known.patterns.len() == patterns.len()
            && known.patterns.iter().zip(&patterns).all(|(known, pattern)| is_same(known, pattern))
    };
    let ignores_merges = json["model"]["ignore_merges"] == true;
    let fitting: Vec<&Known> = KNOWN.iter().filter(same).collect();
    let exact = fitting.iter().find(|known| known.ignores_merges == ignores_merges);
    match (exact, fitting.first()) {
        (Some(known), _) => Ok(known.name),
        // If merges make every token, `ignore_merges` makes no difference.
        (None, Some(known)) if merges_make_all_tokens(json) => Ok(known.name),
        (None, Some(known)) => bail!(
            Kind::Data,
            "GGUF: the tokenizer splits text as llama.cpp's `{}` does, but its `ignore_merges` differs, and no merge makes some of its tokens", known.name;
            hint: "llama.cpp would make other tokens than this model was trained with"
        ),
        (None, None) => {
            let names = KNOWN.map(|known| known.name).join(", ");
            Err(Error::data(format!("GGUF: the tokenizer splits text in a way that lorhai cannot name to llama.cpp (known: {names})"))
                .with_hint("llama.cpp would split text differently than in training: save the merged model for transformers or vLLM with save_merged"))
        }
    }
}

fn is_same(known: &str, pattern: &str) -> bool {
    match known {
        LETTERS => pattern.starts_with(LETTERS_BEGIN) && pattern.ends_with(LETTERS_END),
        // A pattern may spell a line end in two ways.
        _ => {
            pattern == known
                || pattern.replace("\\r", "\r").replace("\\n", "\n") == known.replace("\\r", "\r").replace("\\n", "\n")
        }
    }
}

/// llama.cpp does not normalise the text of a byte-level tokenizer. NFC is ignored, as in its converter:
/// nearly all text is composed already.
fn ensure_not_normalized(normalizer: &Json) -> Result<()> {
    let steps = steps(normalizer);
    match steps.iter().find(|step| !step.is_null() && step["type"] != "NFC") {
        None => Ok(()),
        Some(step) => {
            bail!(Kind::Data, "GGUF: the tokenizer normalises text ({}) before it splits it, and llama.cpp would not", step["type"]; hint: "save the merged model for transformers or vLLM with save_merged")
        }
    }
}

/// The regular expressions of the steps, in order; `None` if a step is of another kind.
fn patterns(pre_tokenizer: &Json) -> Option<Vec<String>> {
    let steps = steps(pre_tokenizer);
    let (last, before) = steps.split_last()?;
    let byte_level = last["type"] == "ByteLevel" && last["add_prefix_space"] != true;
    let mut patterns: Vec<String> = before.iter().map(pattern).collect::<Option<_>>()?;
    if last["use_regex"] != false {
        patterns.push(GPT2.to_owned());
    }
    byte_level.then_some(patterns)
}

fn pattern(step: &&Json) -> Option<String> {
    match step["type"].as_str()? {
        "Digits" if step["individual_digits"] == true => Some(DIGIT.to_owned()),
        "Digits" => Some(format!("{DIGIT}+")),
        "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
            step["pattern"]["Regex"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The steps of a sequence, or the single step.
fn steps(part: &Json) -> Vec<&Json> {
    let inner = ["normalizers", "pretokenizers"].iter().find_map(|name| part[*name].as_array());
    inner.map_or_else(|| vec![part], |steps| steps.iter().collect())
}

fn merges_make_all_tokens(json: &Json) -> bool {
    let merged = |merge: &Json| match merge {
        Json::String(text) => text.split_once(' ').map(|(a, b)| format!("{a}{b}")),
        Json::Array(pair) => Some(format!("{}{}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    };
    let merge_results: HashSet<String> =
        json["model"]["merges"].as_array().into_iter().flatten().filter_map(merged).collect();
    let added = json["added_tokens"].as_array().into_iter().flatten().filter_map(|token| token["content"].as_str());
    let added: HashSet<&str> = added.collect();
    let tokens = json["model"]["vocab"].as_object().into_iter().flatten().map(|(token, _)| token.as_str());
    tokens
        .filter(|token| !added.contains(token))
        .all(|token| token.chars().nth(1).is_none() || merge_results.contains(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn split(pattern: &str) -> Json {
        json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
    }

    fn tokenizer(steps: Vec<Json>, ignore_merges: bool, extra: &str) -> Json {
        json!({
            "normalizer": null, "added_tokens": [],
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
            "model": { "ignore_merges": ignore_merges, "vocab": { "a": 0, "b": 1, "ab": 2, extra: 3 }, "merges": ["a b"] },
        })
    }

    /// The pre-tokenizers of SmolLM, Mistral Nemo, DeepSeek (LLM, Coder, V3), Llama 3, GPT-4o and Qwen 2,
    /// with the names that llama.cpp's converter gives them.
    #[test]
    fn families_that_llama_cpp_names_are_known() {
        let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let digits = || json!({ "type": "Digits", "individual_digits": true });
        let pattern = |name: &str| KNOWN.iter().find(|known| known.name == name).unwrap().patterns;
        let letters = format!("{LETTERS_BEGIN}Ａ-Ｚａ-ｚ{LETTERS_END}");
        let cases = [
            ("smollm", vec![digits(), bytes(true)], false),
            ("gpt-2", vec![bytes(true)], false),
            ("tekken", vec![split(pattern("tekken")[0]), bytes(false)], true),
            ("gpt-4o", vec![split(pattern("gpt-4o")[0]), bytes(false)], false),
            ("qwen2", vec![split(pattern("qwen2")[0]), bytes(false)], false),
            ("llama-bpe", vec![split(LLAMA3), bytes(false)], true),
            ("dbrx", vec![split(LLAMA3), bytes(false)], false),
            (
                "deepseek-coder",
                vec![split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CHINESE), digits(), bytes(false)],
                false,
            ),
            (
                "deepseek-llm",
                vec![
                    split("[\r\n]"),
                    split(&letters),
                    split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                    split(r"\s+$"),
                    split(CHINESE),
                    digits(),
                    bytes(false),
                ],
                false,
            ),
            ("deepseek-v3", pattern("deepseek-v3").iter().map(|one| split(one)).chain([bytes(false)]).collect(), false),
        ];
        for (name, steps, ignore_merges) in cases {
            assert_eq!(splitter(&tokenizer(steps, ignore_merges, "c")).unwrap(), name);
        }
    }

    #[test]
    fn splitters_that_would_give_other_tokens_are_errors() {
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
        let tekken = || vec![split(KNOWN[7].patterns[0]), bytes.clone()];
        assert_eq!(splitter(&tokenizer(tekken(), false, "c")).unwrap(), "tekken", "merges make every token");
        assert!(splitter(&tokenizer(tekken(), false, "cd")).unwrap_err().message.contains("ignore_merges"));
        for steps in [vec![split(r"\p{L}+"), bytes.clone()], vec![split(LLAMA3)], vec![json!({ "type": "Metaspace" })]]
        {
            assert!(splitter(&tokenizer(steps, false, "c")).unwrap_err().message.contains("cannot name"));
        }
        let mut lower = tokenizer(tekken(), true, "c");
        lower["normalizer"] = json!({ "type": "Lowercase" });
        assert!(splitter(&lower).unwrap_err().message.contains("Lowercase"));
        lower["normalizer"] = json!({ "type": "NFC" });
        assert_eq!(splitter(&lower).unwrap(), "tekken");
    }
}
