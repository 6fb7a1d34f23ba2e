//! ShareGPT's `conversations`: turns of `from` and `value`, as messages of `role` and `content`.

use super::messages::WEIGHTS;
use crate::error::{Error, Result};
use serde_json::{json, Value};

/// The turns as messages. A turn that has a `role` is one already.
pub(super) fn messages(turns: &[Value]) -> Result<Vec<Value>> {
    let convert = |(index, turn): (usize, &Value)| {
        if turn.get("role").is_some() {
            return Ok(turn.clone());
        }
        let (Some(from), Some(value)) = (turn.get("from").and_then(Value::as_str), turn.get("value")) else {
            return Err(Error::data(format!("column `conversations`, turn {index}: expected `from` and `value`")));
        };
        if value.is_null() {
            return Err(Error::data(format!("column `conversations`, turn {index} has no text: its `value` is null"))
                .with_hint("leave such rows out, or give the turn a text"));
        }
        let role = match from {
            "human" | "user" => "user",
            "gpt" | "assistant" | "chatgpt" | "model" | "function_call" => "assistant",
            "system" => "system",
            "tool" | "observation" => "tool",
            other => {
                let unknown = format!("column `conversations`, turn {index}: unknown speaker `{other}`");
                return Err(Error::data(unknown)
                    .with_hint("known: human, user, gpt, assistant, system, function_call, observation, tool"));
            }
        };
        let mut message = match from {
            "function_call" => calls(value).ok_or_else(|| {
                Error::data(format!("column `conversations`, turn {index}: expected JSON with `name` and `arguments`"))
            })?,
            _ => json!({"role": role, "content": value}),
        };
        // Whether the turn is trained on.
        for key in WEIGHTS {
            turn.get(key).into_iter().for_each(|value| message[key] = value.clone());
        }
        Ok(message)
    };
    turns.iter().enumerate().map(convert).collect()
}

/// The message of a `function_call` turn, whose value is JSON text of one call or of a list of them.
fn calls(value: &Value) -> Option<Value> {
    let parsed: Value = serde_json::from_str(value.as_str()?).ok()?;
    let calls = if parsed.is_array() { parsed } else { json!([parsed]) };
    let wrap = |call: &Value| call.get("name").map(|_| json!({"type": "function", "function": call}));
    let calls: Option<Vec<Value>> = calls.as_array()?.iter().map(wrap).collect();
    Some(json!({"role": "assistant", "content": "", "tool_calls": calls?}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(turns: Value) -> Result<Vec<Value>> {
        messages(turns.as_array().unwrap())
    }

    #[test]
    fn speakers_become_roles() {
        let messages = read(json!([
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a"}]))
        .unwrap();
        let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
        assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"]["x"], 1);
    }

    #[test]
    fn weights_of_turns_are_kept_and_turns_without_text_are_refused() {
        let turns = |value: Value, weight: Value| json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": value, "weight": weight}]);
        let messages = read(turns(json!("a"), json!(0))).unwrap();
        assert_eq!(messages[1], json!({"role": "assistant", "content": "a", "weight": 0}));
        let error = read(turns(Value::Null, json!(1))).unwrap_err();
        assert!(error.message.contains("turn 1 has no text"), "{error}");
    }
}
