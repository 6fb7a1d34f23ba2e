//! Compares settings: a fingerprint to find that they differ, and a list of the differences.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// One setting that differs between two runs; `None` if a run does not have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Nested keys joined by dots: `train.lr`.
    pub key: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

/// `train.lr: 0.0002 → 0.0001`.
impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or("(absent)".to_string(), Value::to_string);
        write!(out, "{}: {} → {}", self.key, text(&self.old), text(&self.new))
    }
}

/// SHA-256 in hexadecimal over the settings with their keys sorted.
pub fn fingerprint(settings: &Value) -> String {
    format!("{:x}", Sha256::digest(canonical(settings)))
}

/// Returns the differences, in the order of their keys.
pub fn between(old: &Value, new: &Value) -> Vec<Change> {
    let (old, new) = (leaves(old), leaves(&as_read_back(new)));
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| Change { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() })
        .filter(|change| change.old.as_ref().map(canonical) != change.new.as_ref().map(canonical))
        .collect()
}

/// The value as it would be read back from a file: a float may then differ in the last place, which is no change.
fn as_read_back(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or_else(|_| value.clone())
}

/// Text that is equal for equal values: keys sorted, 4.0 written as 4.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Number(n) if n.is_f64() => {
            let x = n.as_f64().unwrap_or(f64::NAN);
            let whole = x.fract() == 0.0 && x.abs() < 9e15;
            if whole {
                format!("{}", x as i64)
            } else {
                n.to_string()
            }
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, inner) in map {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    walk(&format!("{prefix}{dot}{key}"), inner, leaves);
                }
            }
            leaf => {
                leaves.insert(prefix.to_string(), leaf.clone());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_fingerprint_ignores_key_order_and_nothing_else() {
        let one = json!({"train": {"lr": 2e-4, "steps": 10}, "seed": 0});
        assert_eq!(fingerprint(&one), fingerprint(&json!({"seed": 0, "train": {"steps": 10, "lr": 2e-4}})));
        assert_ne!(fingerprint(&one), fingerprint(&json!({"seed": 0, "train": {"steps": 11, "lr": 2e-4}})));
        assert_ne!(fingerprint(&json!({"a": "1"})), fingerprint(&json!({"a": 1})));
        assert_ne!(fingerprint(&json!({"a": {"b": 1}})), fingerprint(&json!({"a.b": 1})));
    }

    #[test]
    fn changes_name_the_key_the_old_and_the_new() {
        let old = json!({"train": {"lr": 2e-4, "steps": 10}, "gone": true});
        let new = json!({"train": {"lr": 1e-4, "steps": 10.0}, "lora": {"r": 8}});
        let text: Vec<String> = between(&old, &new).iter().map(Change::to_string).collect();
        assert_eq!(text, ["gone: true → (absent)", "lora.r: (absent) → 8", "train.lr: 0.0002 → 0.0001"]);
        assert!(between(&old, &old).is_empty());
    }
}
