//! Messages as a chat template sees them, and the fields of a message that matter to training.
//!
//! As in transformers, keys whose value is null are absent; reasoning is available under every name that templates read.
//! Leaves to others: where the text of a message appears in a rendering (`marks.rs`).

use super::dataset::Row;
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::Value;

/// Names of an answer's reasoning; the first that is not null counts.
pub const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Removes the keys of a message whose value is null. Columnar files set every optional key to null, and templates test
/// whether a key exists.
pub fn without_nulls(message: Value) -> Value {
    match message {
        Value::Object(fields) if fields.values().any(Value::is_null) => {
            Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
        }
        message => message,
    }
}

/// A message as the template gets it: without nulls, and with its reasoning under both names that templates read.
pub fn normalise(message: Value) -> Value {
    let message = without_nulls(message);
    let Value::Object(fields) = &message else { return message };
    let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() else { return message };
    let mut aliased = Row::new();
    aliased.insert("thinking".into(), reasoning.clone());
    aliased.extend(fields.clone());
    aliased.insert("reasoning_content".into(), reasoning);
    Value::Object(aliased)
}

pub fn is_assistant(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("assistant")
}

/// Whether the message has any content, call or reasoning; an empty text counts as content.
pub fn says_something(message: &Value) -> bool {
    let has = |name: &str| message.get(name).is_some_and(|value| !value.is_null());
    let calls = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    calls || has("content") || has("function_call") || REASONING.iter().any(|name| has(name))
}

/// Keys that say whether a message is trained on: OpenAI's, axolotl's and LLaMA-Factory's.
pub const WEIGHTS: [&str; 3] = ["weight", "train", "loss_weight"];

/// Whether the message says that it is not trained on: `weight: 0` or `train: false`.
///
/// Fails on any other value than 0, 1, true and false.
pub fn is_masked(message: &Value) -> Result<bool> {
    let mut masked = false;
    for key in WEIGHTS {
        let Some(value) = message.get(key).filter(|value| !value.is_null()) else { continue };
        let trained = match value {
            Value::Bool(trained) => *trained,
            Value::Number(number) if number.as_f64() == Some(0.0) => false,
            Value::Number(number) if number.as_f64() == Some(1.0) => true,
            other => bail!(Kind::Data, "`{key}`: expected 0 or 1, true or false, found {other}";
                hint: "an answer is either trained on or not: repeat rows to give them more weight"),
        };
        masked |= !trained;
    }
    Ok(masked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_keys_are_absent_and_reasoning_has_both_names() {
        let message = json!({"role": "assistant", "content": null, "reasoning_content": null, "thinking": "t",
            "tool_calls": [{"id": null}]});
        let expected = json!({"role": "assistant", "thinking": "t", "reasoning_content": "t",
            "tool_calls": [{"id": null}]});
        assert_eq!(normalise(message), expected);
        assert_eq!(normalise(json!("text")), json!("text"));
    }

    #[test]
    fn weights_are_zero_or_one() {
        let masked = |fields: Value| is_masked(&fields);
        for (fields, expected) in [
            (json!({}), false),
            (json!({"weight": null, "train": null}), false),
            (json!({"weight": 0}), true),
            (json!({"weight": 0.0}), true),
            (json!({"weight": 1.0, "train": true}), false),
            (json!({"train": false}), true),
            (json!({"loss_weight": 0.0}), true),
            (json!({"weight": 1, "train": false}), true),
        ] {
            assert_eq!(masked(fields.clone()).unwrap(), expected, "{fields}");
        }
        for wrong in [json!({"weight": 0.5}), json!({"weight": "0"}), json!({"train": "no"}), json!({"weight": -1})] {
            assert!(masked(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
