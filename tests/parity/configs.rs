//! config.json: how transformers resolves a key that is missing, null, or spelt in two ways.

use crate::common::files::golden;
use lorhai::model::activation::Activation;
use lorhai::model::Config;
use serde_json::{json, Map, Value};
use tch::Kind;

/// The description of a model, as from `tests/golden/resolved/generate.py`, or the message of the error.
fn resolve(json: &Value) -> Result<Value, String> {
    let config = Config::from_json(json).map_err(|error| error.to_string())?;
    let windows = match &config.sliding_window {
        None => vec![Value::Null],
        Some(window) => {
            let each =
                |uses_sliding_window: &bool| if *uses_sliding_window { json!(window.width) } else { Value::Null };
            let all: Vec<Value> = window.layers.iter().map(each).collect();
            if all.iter().all(|one| *one == all[0]) {
                vec![all[0].clone()]
            } else {
                all
            }
        }
    };
    let frequencies = config.rope_scaling.frequencies(config.head_dim, config.rope_theta, 0).unwrap();
    let frequencies = Vec::<f64>::try_from(frequencies.to_kind(Kind::Double)).unwrap();
    Ok(json!({
        "parameters": config.parameter_count(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "hidden_act": match config.hidden_act { Activation::Silu => "silu", Activation::Gelu => "gelu", _ => "other" },
        "qkv_bias": config.qkv_bias,
        "o_bias": config.o_bias,
        "mlp_bias": config.mlp_bias,
        "windows": windows,
        "dtype": config.saved_dtype,
        "rope": { "inv_freq": frequencies, "attention_scaling": config.rope_scaling.attention_factor() },
    }))
}

/// The rounding of a frequency to nine digits, and of a power in f32 on both sides.
const FREQUENCY: f64 = 1e-6;

fn same_rope(actual: &Value, expected: &Value) -> bool {
    let close = |a: &Value, b: &Value| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        (a - b).abs() <= FREQUENCY * b.abs()
    };
    let places = expected["at"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize);
    let frequencies = places.zip(expected["inv_freq"].as_array().unwrap());
    close(&actual["attention_scaling"], &expected["attention_scaling"])
        && frequencies.into_iter().all(|(at, expected)| close(&actual["inv_freq"][at], expected))
}

#[test]
fn settings_are_resolved_as_transformers_resolves_them() {
    let path = golden("resolved/golden.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 300, "only {} configurations", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (family, changes) = (case["family"].as_str().unwrap(), case["changes"].as_object().unwrap());
        let mut config: Map<String, Value> = golden["small"].as_object().unwrap().clone();
        config.insert("model_type".into(), family.into());
        config.extend(changes.clone());
        case["drop"].as_array().unwrap().iter().for_each(|key| {
            config.remove(key.as_str().unwrap());
        });
        let actual = resolve(&config.into());
        let about = format!("{family} {} without {}", case["changes"], case["drop"]);
        let (actual, resolved) = match (actual, case["resolved"].as_object()) {
            (Err(_), None) => continue,
            (Err(error), Some(_)) => {
                wrong.push(format!("{about}: refused: {error}"));
                continue;
            }
            (Ok(_), None) => {
                wrong.push(format!("{about}: transformers refuses it ({})", case["error"]));
                continue;
            }
            (Ok(actual), Some(resolved)) => (actual, resolved),
        };
        for (key, usual) in golden["usual"][family].as_object().unwrap() {
            let expected = resolved.get(key).unwrap_or(usual);
            let same = if key == "rope" { same_rope(&actual[key], expected) } else { actual[key] == *expected };
            if !same {
                wrong.push(format!("{about}: {key}: {} expected {expected}", actual[key]));
            }
        }
    }
    println!("{} configurations", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
