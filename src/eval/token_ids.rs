//! Token ids as options: one or several, sequences of them, and what goes with a sequence or a length.

use crate::options::{Mismatch, OptionType, Value};
use std::ops::Deref;

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenId(pub u32);

/// Several tokens, of which a lone one may be written without an array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIds(pub Vec<u32>);

/// Sequences of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSequences(pub Vec<Vec<u32>>);

/// Sequences of tokens, each with what is added to the score of its last token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SequenceBiases(pub Vec<(Vec<u32>, f64)>);

/// A number of new tokens, and the factor that acts from there on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthDecay {
    pub start: usize,
    pub factor: f64,
}

impl Deref for TokenIds {
    type Target = Vec<u32>;

    fn deref(&self) -> &Vec<u32> {
        &self.0
    }
}

impl From<Vec<u32>> for TokenIds {
    fn from(ids: Vec<u32>) -> Self {
        TokenIds(ids)
    }
}

impl Deref for TokenSequences {
    type Target = Vec<Vec<u32>>;

    fn deref(&self) -> &Vec<Vec<u32>> {
        &self.0
    }
}

impl Deref for SequenceBiases {
    type Target = Vec<(Vec<u32>, f64)>;

    fn deref(&self) -> &Vec<(Vec<u32>, f64)> {
        &self.0
    }
}

impl OptionType for TokenId {
    fn type_name() -> String {
        "int".to_owned()
    }
    fn expected() -> String {
        "a token id".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        id(value).map(TokenId).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        Value::Int(i64::from(self.0))
    }
}

impl OptionType for TokenIds {
    fn type_name() -> String {
        "int or array of int".to_owned()
    }
    fn expected() -> String {
        "a token id or an array of them".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let one = std::slice::from_ref(value);
        let ids = value.as_array().unwrap_or(one).iter().map(int).collect::<Option<Vec<i64>>>();
        let ids = ids.ok_or_else(|| Mismatch::of::<Self>(value))?;
        // As transformers takes them: an id below 0 is no token's, and so has no effect.
        Ok(TokenIds(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()))
    }
    fn to_value(&self) -> Value {
        ids_value(self)
    }
}

impl OptionType for TokenSequences {
    fn type_name() -> String {
        "array of array of int".to_owned()
    }
    fn expected() -> String {
        "an array of arrays of token ids".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let sequences = value.as_array().and_then(|items| items.iter().map(sequence).collect());
        sequences.map(TokenSequences).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(|ids| ids_value(ids)).collect())
    }
}

impl OptionType for SequenceBiases {
    fn type_name() -> String {
        "array of pairs".to_owned()
    }
    fn expected() -> String {
        "an array of pairs, each an array of token ids and a number".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        biases(value).map(SequenceBiases).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        let pair = |(ids, bias): &(Vec<u32>, f64)| Value::Array(vec![ids_value(ids), Value::Float(*bias)]);
        Value::Array(self.iter().map(pair).collect())
    }
}

impl OptionType for LengthDecay {
    fn type_name() -> String {
        "array of int and float".to_owned()
    }
    fn expected() -> String {
        "an array of a number of tokens and a factor".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let pair = value.as_array().and_then(|pair| <&[Value; 2]>::try_from(pair).ok());
        let decay = pair.and_then(|[start, factor]| {
            Some(LengthDecay { start: usize::try_from(int(start)?).ok()?, factor: factor.as_f64()? })
        });
        decay.ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        Value::Array(vec![Value::Int(self.start as i64), Value::Float(self.factor)])
    }
}

fn int(value: &Value) -> Option<i64> {
    i64::from_value(value).ok()
}

fn id(value: &Value) -> Option<u32> {
    u32::try_from(int(value)?).ok()
}

fn sequence(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(id).collect()
}

fn ids_value(ids: &[u32]) -> Value {
    Value::Array(ids.iter().map(|&id| Value::Int(i64::from(id))).collect())
}

fn biases(value: &Value) -> Option<Vec<(Vec<u32>, f64)>> {
    let mut biases: Vec<(Vec<u32>, f64)> = Vec::new();
    for pair in value.as_array()? {
        let [ids, bias] = pair.as_array()? else { return None };
        let (ids, bias) = (sequence(ids)?, bias.as_f64()?);
        // The last one counts, as in the map that transformers makes of them.
        match biases.iter_mut().find(|(known, _)| *known == ids) {
            Some(known) => known.1 = bias,
            None => biases.push((ids, bias)),
        }
    }
    Some(biases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value as Json};

    fn read<T: OptionType>(json: Json) -> Result<T, String> {
        T::from_value(&Value::from(&json)).map_err(|mismatch| mismatch.expected)
    }

    #[test]
    fn ids_are_one_or_several_and_below_zero_none() {
        assert_eq!(read(json!(3)), Ok(TokenIds(vec![3])));
        assert_eq!(read(json!([3, -1, 5])), Ok(TokenIds(vec![3, 5])));
        assert_eq!(read::<TokenIds>(json!("3")), Err("a token id or an array of them".to_owned()));
        assert!(read::<TokenId>(json!(-1)).is_err());
    }

    #[test]
    fn of_equal_sequences_the_last_bias_counts() {
        assert_eq!(read(json!([[[7], 1], [[7], -2.5]])), Ok(SequenceBiases(vec![(vec![7], -2.5)])));
        assert!(read::<SequenceBiases>(json!([[7, 1]])).is_err());
        assert!(read::<TokenSequences>(json!([5])).is_err());
        assert_eq!(read(json!([4, 1.5])), Ok(LengthDecay { start: 4, factor: 1.5 }));
    }

    #[test]
    fn ids_are_written_as_they_are_read() {
        let json = json!([[[7, 8], 0.5]]);
        assert_eq!(read::<SequenceBiases>(json).unwrap().to_value().literal(), "[[[7, 8], 0.5]]");
        assert_eq!(TokenSequences(vec![vec![1], vec![2, 3]]).to_value().literal(), "[[1], [2, 3]]");
    }
}
