//! Files of every kind that is read, damaged: cut, with changed bytes, with hostile numbers and texts in JSON.

use super::{copy_model, guarded, put, Job};
use lorhai::random::Key;
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

/// Variants in one folder, which one process reads.
const VARIANTS: usize = 10;
const ROUNDS: usize = 11;

pub fn all(folder: &Path) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (name, read) in [
        ("model.safetensors", "generate(load_model(P), \"a\", #{ max_new_tokens: 1 })"),
        ("config.json", "generate(load_model(P), \"a\", #{ max_new_tokens: 1 })"),
        ("tokenizer.json", "load_dataset(\"tiny/train.jsonl\").take(2).tokenize(load_model(P), #{ max_length: 32 })"),
        (
            "tokenizer_config.json",
            "load_dataset(\"tiny/train.jsonl\").take(2).tokenize(load_model(P), #{ max_length: 32 })",
        ),
        ("train.jsonl", "load_dataset(P + \"/train.jsonl\").describe()"),
    ] {
        for round in 0..ROUNDS {
            let mut script = String::new();
            for variant in 0..VARIANTS {
                let key = Key::new((1000 * round + variant) as u64);
                let inner = format!("{}-{round}-{variant}", name.replace('.', "-"));
                let place = folder.join(&inner);
                copy_model(&place);
                let whole = fs::read(place.join(name)).unwrap();
                put(&place.join(name), damaged(&whole, &key, name.ends_with(".json"), variant));
                let read = read.replace('P', &format!("\"{inner}\""));
                script.push_str(&guarded(variant, &read));
            }
            jobs.push(Job { name: format!("{name} {round}"), script });
        }
    }
    jobs.push(hostile_tokenizers(folder));
    jobs
}

/// Text is drawn from these for numbers and texts of JSON.
fn hostile() -> Vec<Value> {
    vec![
        json!(0),
        json!(-1),
        json!(1u64 << 40),
        json!(u64::MAX),
        json!(1e308),
        json!(-0.5),
        json!(null),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!([[]]),
        json!("/////w=="),
        json!(true),
        json!("(a+)+"),
        json!(4294967295u64),
    ]
}

fn damaged(whole: &[u8], key: &Key, is_json: bool, variant: usize) -> Vec<u8> {
    let draw = |at: u64, count: usize| ((key.uniform(at) * count as f64) as usize).min(count.max(1) - 1);
    let mut bytes = whole.to_vec();
    match variant % 4 {
        0 => bytes.truncate(draw(0, whole.len())),
        1 => (0..8).for_each(|at| {
            let place = draw(2 * at, bytes.len());
            bytes[place] ^= 1 << draw(2 * at + 1, 8);
        }),
        // The beginning, where headers are.
        2 => (0..4).for_each(|at| {
            let place = draw(2 * at, bytes.len().min(64));
            bytes[place] = draw(2 * at + 1, 256) as u8;
        }),
        _ if is_json => {
            let mut value: Value = serde_json::from_slice(whole).unwrap();
            let hostile = hostile();
            for at in 0..3 {
                replace(&mut value, &hostile[draw(10 + at, hostile.len())], &mut |count| {
                    draw(100 + at * 7 + count as u64, count)
                });
            }
            return value.to_string().into_bytes();
        }
        _ => bytes.splice(0..draw(0, bytes.len()), vec![0xff; draw(1, 100)]).for_each(drop),
    }
    bytes
}

/// Walks down to some value, and puts another in its place.
fn replace(value: &mut Value, with: &Value, draw: &mut dyn FnMut(usize) -> usize) {
    let inner = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = draw(fields.len());
            fields.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() => {
            let at = draw(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) if inner.is_object() || (inner.is_array() && draw(4) > 0) => replace(inner, with, draw),
        Some(inner) => *inner = with.clone(),
        None => *value = with.clone(),
    }
}

/// The three that once ended the program or never came back, and others of their kind.
fn hostile_tokenizers(folder: &Path) -> Job {
    let replace =
        |pattern: Value, content: String| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let of_letters = |count: usize| replace(json!({ "String": "e" }), "e".repeat(count));
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let token = |text: String| json!([{ "id": 5000, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }]);
    let cases = [
        ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "/////w==" })),
        ("normalizer", json!({ "type": "Sequence", "normalizers": vec![of_letters(100); 10] })),
        ("added_tokens", token("x".repeat(100_000))),
        ("normalizer", of_letters(100_000)),
        ("normalizer", replace(json!({ "Regex": "" }), "ab".repeat(10_000))),
        ("normalizer", json!({ "type": "Prepend", "prepend": "x".repeat(1_000_000) })),
        ("pre_tokenizer", split("(a+)+$")),
        ("pre_tokenizer", split("(a|aa)+$")),
        ("pre_tokenizer", split("(.|..)+\u{0}")),
        ("pre_tokenizer", split("(")),
        ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
        ("decoder", json!({ "type": "Sequence", "decoders": vec![of_letters(1000); 5] })),
        ("post_processor", json!({ "type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {} })),
        (
            "padding",
            json!({ "strategy": { "Fixed": u64::MAX }, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": "x" }),
        ),
        ("truncation", json!({ "direction": "Left", "max_length": 0, "strategy": "LongestFirst", "stride": 5 })),
    ];
    let mut script = String::new();
    for (at, (part, value)) in cases.into_iter().enumerate() {
        let inner = format!("hostile-{at}");
        let place = folder.join(&inner);
        copy_model(&place);
        let mut file: Value = serde_json::from_slice(&fs::read(place.join("tokenizer.json")).unwrap()).unwrap();
        file[part] = value;
        put(&place.join("tokenizer.json"), file.to_string());
        let read = format!("load_dataset(\"tiny/train.jsonl\").take(2).tokenize(load_model(\"{inner}\"), #{{}})");
        script.push_str(&guarded(at, &read));
    }
    Job { name: "hostile tokenizers".into(), script }
}
