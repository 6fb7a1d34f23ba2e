//! Module names as PEFT matches them: an expression that must match the whole name, and values by
//! such expressions, of which the first match counts.
//!
//! Python's expressions have look-around and back-references, which the crate `regex` lacks:
//! `fancy-regex` has them, by backtracking that is bounded here.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::options::{Mismatch, OptionType, Value};
use fancy_regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// Backtracking steps allowed in matching one name: the expressions of real adapters take a few hundred.
const MOST_BACKTRACKING: usize = 100_000;

/// An expression that must match the whole name, as Python's `re.fullmatch` does.
#[derive(Debug)]
pub struct WholeName {
    option: &'static str,
    written: String,
    compiled: Regex,
}

impl WholeName {
    /// `option` is named in errors.
    pub fn new(option: &'static str, pattern: &str) -> Result<Self> {
        Self::compile(option, pattern, format!("^(?:{pattern})$"))
    }

    /// As a key of `rank_pattern` matches: the name itself, or what follows a dot in it.
    fn suffix(option: &'static str, key: &str) -> Result<Self> {
        Self::compile(option, key, format!(r"^(?:.*\.)?(?:{key})$"))
    }

    fn compile(option: &'static str, written: &str, anchored: String) -> Result<Self> {
        let compiled = RegexBuilder::new(&anchored).backtrack_limit(MOST_BACKTRACKING).build().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("").trim().trim_start_matches("error: ");
            // The position counts what is put around the expression here, so it would mislead.
            let reason = match reason.strip_prefix("Parsing error at position ").and_then(|rest| rest.split_once(": "))
            {
                Some((_, reason)) => reason.to_lowercase(),
                None => reason.to_owned(),
            };
            Error::input(format!("lora `{option}`: `{written}` is not a regular expression: {reason}"))
                .with_hint("a list of names may do")
        })?;
        Ok(WholeName { option, written: written.to_owned(), compiled })
    }

    pub fn matches(&self, name: &str) -> Result<bool> {
        self.compiled.is_match(name).map_err(|_| {
            let WholeName { option, written, .. } = self;
            Error::input(format!(
                "lora `{option}`: matching `{written}` against `{name}` takes more than {MOST_BACKTRACKING} steps"
            ))
            .with_hint("nested repetitions take that long: simplify the expression, or write a list of names")
        })
    }
}

/// Values by expressions over names: `rank_pattern` and `alpha_pattern`.
///
/// The first key that matches counts, as in PEFT. A script's map has no order: keys of one that give a
/// layer different values are refused ([`Compiled::ensure_unambiguous`]).
#[derive(Debug, Clone)]
pub struct Pattern<T> {
    entries: Vec<(String, T)>,
    is_ordered: bool,
}

impl<T> Pattern<T> {
    /// A pattern whose keys have no order.
    pub fn unordered(entries: impl IntoIterator<Item = (String, T)>) -> Self {
        Pattern { entries: entries.into_iter().collect(), is_ordered: false }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The same keys with other values.
    pub fn map<U>(&self, value: impl Fn(&T) -> U) -> Pattern<U> {
        let entries = self.entries.iter().map(|(key, old)| (key.clone(), value(old))).collect();
        Pattern { entries, is_ordered: self.is_ordered }
    }
}

impl<T> Default for Pattern<T> {
    fn default() -> Self {
        Pattern { entries: Vec::new(), is_ordered: true }
    }
}

impl<T> FromIterator<(String, T)> for Pattern<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        Pattern { entries: entries.into_iter().collect(), is_ordered: true }
    }
}

impl<T, const N: usize> From<[(String, T); N]> for Pattern<T> {
    fn from(entries: [(String, T); N]) -> Self {
        entries.into_iter().collect()
    }
}

/// A map, whose keys have no order, or an array of pairs, of which the first that matches counts.
impl<T: OptionType> OptionType for Pattern<T> {
    fn type_name() -> String {
        format!("map to {}", T::type_name())
    }
    fn expected() -> String {
        format!("a map from name to {} or an array of such pairs", T::expected())
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mismatch = |_| Mismatch::of::<Self>(value);
        if let Some(map) = value.as_map() {
            let entry = |(key, value): &(String, Value)| match T::from_value(value) {
                Ok(read) => Ok((key.clone(), read)),
                Err(mismatch) => Err(mismatch.at(key, value)),
            };
            return Ok(Pattern::unordered(map.iter().map(entry).collect::<Result<Vec<_>, Mismatch>>()?));
        }
        let pair = |pair: &Vec<Value>| match pair.as_slice() {
            [Value::Text(key), value] => Ok((key.clone(), T::from_value(value).map_err(mismatch)?)),
            _ => Err(Mismatch::of::<Self>(value)),
        };
        Vec::from_value(value).map_err(mismatch)?.iter().map(pair).collect()
    }
    fn to_value(&self) -> Value {
        Value::Map(self.entries.iter().map(|(key, value)| (key.clone(), value.to_value())).collect())
    }
}

/// Patterns with the same entries are equal, ordered or not.
impl<T: PartialEq> PartialEq for Pattern<T> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// A map if there is no order, pairs if there is one: the hash of a trial's settings must differ
/// between two orders.
impl<T: Serialize> Serialize for Pattern<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.is_ordered && !self.is_empty() {
            return serializer.collect_seq(&self.entries);
        }
        serializer.collect_map(self.iter())
    }
}

/// A [`Pattern`] with its keys compiled.
#[derive(Debug)]
pub struct Compiled<T> {
    entries: Vec<(WholeName, T)>,
    is_ordered: bool,
}

impl<T: Copy + PartialEq + std::fmt::Display> Compiled<T> {
    pub fn new(option: &'static str, pattern: &Pattern<T>) -> Result<Self> {
        let compiled = pattern.entries.iter().map(|(key, value)| Ok((WholeName::suffix(option, key)?, *value)));
        Ok(Compiled { entries: compiled.collect::<Result<_>>()?, is_ordered: pattern.is_ordered })
    }

    /// The value of the first key that matches.
    pub fn first_match(&self, name: &str) -> Result<Option<T>> {
        for (key, value) in &self.entries {
            if key.matches(name)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// Fails if keys without an order give this layer different values.
    pub fn ensure_unambiguous(&self, name: &str) -> Result<()> {
        if self.is_ordered {
            return Ok(());
        }
        let mut first: Option<&(WholeName, T)> = None;
        for entry in &self.entries {
            if !entry.0.matches(name)? {
                continue;
            }
            let Some((key, value)) = first.replace(entry) else { continue };
            if *value != entry.1 {
                let (option, one, other) = (key.option, &key.written, &entry.0.written);
                bail!(Kind::Input, "lora `{option}`: `{one}` gives `{name}` {value} and `{other}` gives it {}: a map has no order that decides", entry.1; hint: "write pairs, of which the first match counts: {option}: [[\"{one}\", {value}], [\"{other}\", {}]]", entry.1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_pythons() {
        let ahead = WholeName::new("target_modules", r"model\.layers\.[\d]{1,}(?!.*\.experts\.)(?:.*?)q_proj").unwrap();
        assert!(ahead.matches("model.layers.10.self_attn.q_proj").unwrap());
        assert!(!ahead.matches("model.layers.10.experts.3.q_proj").unwrap());
        assert!(!ahead.matches("model.layers.10.self_attn.q_proj.more").unwrap());
        let back = WholeName::new("target_modules", r"(.)_\1").unwrap();
        assert!(back.matches("a_a").unwrap() && !back.matches("a_b").unwrap());
    }

    #[test]
    fn endless_backtracking_is_an_error() {
        let slow = WholeName::new("target_modules", r"(?=(a+)+$)(\w+\w+)+b").unwrap();
        let error = slow.matches(&"a".repeat(60)).unwrap_err();
        assert!(error.message.contains("takes more than"), "{error}");
    }

    #[test]
    fn the_first_key_counts() {
        let name = "model.layers.0.self_attn.q_proj";
        let entries = || [("q_proj".to_owned(), 3), ("layers.0.self_attn.q_proj".to_owned(), 6)];
        let ordered = Compiled::new("rank_pattern", &Pattern::from(entries())).unwrap();
        assert_eq!(ordered.first_match(name).unwrap(), Some(3));
        ordered.ensure_unambiguous(name).unwrap();
        let unordered = Compiled::new("rank_pattern", &Pattern::unordered(entries())).unwrap();
        let error = unordered.ensure_unambiguous(name).unwrap_err();
        assert!(error.message.contains(name) && error.message.contains("`q_proj`"), "{error}");
        unordered.ensure_unambiguous("model.layers.1.self_attn.q_proj").unwrap();
    }
}
