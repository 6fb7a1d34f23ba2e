//! Changes to scores that depend on the tokens so far: biases, penalties, bans and forced tokens, as
//! transformers' logits processors and in their order. Filters of a draw are in `sampling.rs`.

use super::token_ids::{LengthDecay, SequenceBiases, TokenId, TokenIds, TokenSequences};
use crate::bail;
use crate::error::{Kind, Result};
use crate::options;
use crate::options::{OptionType, Refusal};
use std::collections::BTreeMap;
use tch::{Kind as Dtype, Tensor};

options! {
    /// Names and defaults are those of transformers; each default changes nothing.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Processors {
        /// Divides the positive scores of tokens that the text holds already, the prompt's included, and multiplies
        /// negative ones (Keskar et al., 2019).
        pub repetition_penalty: f64 = 1.0, range above(0.0);
        /// Above 1 favours the tokens of the prompt.
        pub encoder_repetition_penalty: f64 = 1.0, range above(0.0);
        /// No sequence of this many tokens occurs twice; 0 for no limit.
        pub no_repeat_ngram_size: usize = 0;
        /// No sequence of this many tokens is repeated from the prompt; 0 for no limit.
        pub encoder_no_repeat_ngram_size: usize = 0;
        /// Sequences of token ids that are never completed.
        pub bad_words_ids: TokenSequences = TokenSequences::default(), words "none";
        /// Pairs of token ids and what is added to the score of the last one where the others end the text, as
        /// `[[[79], -10.0]]`.
        pub sequence_bias: SequenceBiases = SequenceBiases::default(), words "none";
        /// Ids of tokens that never occur.
        pub suppress_tokens: TokenIds = TokenIds::default(), words "none";
        /// Ids of tokens that never come first.
        pub begin_suppress_tokens: TokenIds = TokenIds::default(), words "none";
        /// The first new token behind a prompt of a single token.
        pub forced_bos_token_id: Option<TokenId> = None;
        /// One of these is the last token that the length allows.
        pub forced_eos_token_id: TokenIds = TokenIds::default(), words "none";
        /// No end token before the text has this many tokens, the prompt's included.
        pub min_length: usize = 0;
        /// No end token before this many new tokens; takes precedence over `min_length`.
        pub min_new_tokens: Option<usize> = None;
        /// `[start, factor]`: from `start` new tokens on, end tokens become likelier by the factor, again with each
        /// token.
        pub exponential_decay_length_penalty: Option<LengthDecay> = None;
        /// How far the scores move away from those without the prompt; 1 for not at all.
        pub guidance_scale: f64 = 1.0;
        /// Replace scores that are not finite by finite ones, instead of failing.
        pub remove_invalid_values: bool = false;
    }
    rule Processors::rule;
}

/// The tokens of a text when its next token is chosen.
#[derive(Debug, Clone, Copy)]
pub struct TokensSoFar<'a> {
    /// The tokens of the prompt, then the new ones.
    pub ids: &'a [u32],
    /// The number of tokens of the prompt.
    pub prompt: usize,
    /// The most tokens of the text.
    pub max_length: usize,
}

impl Processors {
    fn rule(&self) -> Option<Refusal> {
        if !self.guidance_scale.is_finite() {
            return Some(Refusal::new("guidance_scale", "a finite number", self.guidance_scale.to_value().describe()));
        }
        if self.sequence_bias.iter().any(|(ids, _)| ids.is_empty()) {
            return Some(Refusal::new("sequence_bias", "at least one token id for each bias", "none"));
        }
        let is_suppressed = |ids: &[u32]| !ids.is_empty() && ids.iter().all(|id| self.suppress_tokens.contains(id));
        let (name, ids) = self.forced().into_iter().find(|(_, ids)| is_suppressed(ids))?;
        let refusal = Refusal::new(name, "a token that `suppress_tokens` does not hold", format!("{ids:?}"));
        Some(refusal.with_hint("take it out of one of the two"))
    }

    fn forced(&self) -> [(&'static str, Vec<u32>); 2] {
        [
            ("forced_bos_token_id", self.forced_bos_token_id.iter().map(|id| id.0).collect()),
            ("forced_eos_token_id", self.forced_eos_token_id.to_vec()),
        ]
    }

    /// The first token that the model does not have; `vocabulary` is the number of scores.
    pub fn unknown_token(&self, vocabulary: usize) -> Option<Refusal> {
        let biases = self.sequence_bias.iter().map(|(ids, _)| ("sequence_bias", ids.clone()));
        let bad_words = self.bad_words_ids.iter().map(|ids| ("bad_words_ids", ids.clone()));
        for (name, ids) in biases.chain(bad_words).chain(self.forced()) {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                let expected = format!("ids below {vocabulary}, the size of the vocabulary");
                return Some(Refusal::new(name, expected, id.to_string()));
            }
        }
        None
    }

    /// Does [`Self::guided`] need the scores without the prompt?
    pub fn needs_unprompted(&self) -> bool {
        self.guidance_scale != 1.0
    }

    /// Scores that lean on the prompt: classifier-free guidance (Sanchez et al., 2023).
    pub fn guided(&self, scores: &Tensor, unprompted: &Tensor) -> Result<Tensor> {
        let (with, without) = (scores.f_log_softmax(-1, Dtype::Float)?, unprompted.f_log_softmax(-1, Dtype::Float)?);
        Ok(with.f_sub(&without)?.f_mul_scalar(self.guidance_scale)?.f_add(&without)?)
    }

    /// The scores of the next token of each row, f32 `[rows, vocab_size]`, -∞ where a token is banned.
    /// `eos` are the tokens that end a text.
    pub fn processed(&self, scores: &Tensor, rows: &[TokensSoFar], eos: &[u32]) -> Result<Tensor> {
        let mut scores = Scores(scores.f_to_kind(Dtype::Float)?);
        if !self.sequence_bias.is_empty() {
            let biases = self.sequence_bias.iter().map(|(ids, bias)| (ids.as_slice(), *bias as f32));
            scores.add(&completed(rows, &biases.collect::<Vec<_>>()))?;
        }
        if self.encoder_repetition_penalty != 1.0 {
            scores.penalise(rows, |row| &row.ids[..row.prompt], 1.0 / self.encoder_repetition_penalty)?;
        }
        if self.repetition_penalty != 1.0 {
            scores.penalise(rows, |row| row.ids, self.repetition_penalty)?;
        }
        if self.no_repeat_ngram_size > 0 {
            scores.ban(rows, |row| repeating(row.ids, row.ids, self.no_repeat_ngram_size))?;
        }
        if self.encoder_no_repeat_ngram_size > 0 {
            scores.ban(rows, |row| repeating(&row.ids[..row.prompt], row.ids, self.encoder_no_repeat_ngram_size))?;
        }
        if !self.bad_words_ids.is_empty() {
            let bad = self.bad_words_ids.iter().filter(|ids| !ids.is_empty());
            // An end token on its own is never a bad word.
            let bad = bad.filter(|ids| ids.len() > 1 || !eos.contains(&ids[0]));
            let bad: Vec<_> = bad.map(|ids| (ids.as_slice(), f32::NEG_INFINITY)).collect();
            scores.add(&completed(rows, &bad))?;
        }
        if self.min_length > 0 || self.min_new_tokens.is_some() {
            scores.ban(rows, |row| if self.is_too_short(row) { eos.to_vec() } else { Vec::new() })?;
        }
        if let Some(TokenId(id)) = self.forced_bos_token_id {
            scores.force(rows, &[id], |row| row.ids.len() == 1)?;
        }
        if !self.forced_eos_token_id.is_empty() {
            scores.force(rows, &self.forced_eos_token_id, |row| row.ids.len() + 1 == row.max_length)?;
        }
        if self.remove_invalid_values {
            let (least, most) = (f64::from(f32::MIN), f64::from(f32::MAX));
            scores.0 = scores.0.f_nan_to_num(0.0, most, least)?;
        }
        if let Some(decay) = self.exponential_decay_length_penalty {
            scores.favour_ends(rows, eos, decay)?;
        }
        scores.ban(rows, |_| self.suppress_tokens.to_vec())?;
        if !self.begin_suppress_tokens.is_empty() {
            scores.ban(rows, |row| if self.begins(row) { self.begin_suppress_tokens.to_vec() } else { Vec::new() })?;
        }
        Ok(scores.0)
    }

    fn is_too_short(&self, row: &TokensSoFar) -> bool {
        match self.min_new_tokens {
            Some(count) => row.ids.len() - row.prompt < count,
            None => row.ids.len() < self.min_length,
        }
    }

    /// Behind a forced first token, the second one begins.
    fn begins(&self, row: &TokensSoFar) -> bool {
        let is_forced = row.prompt <= 1 && self.forced_bos_token_id.is_some();
        row.ids.len() == row.prompt + usize::from(is_forced)
    }
}

/// The biases of the tokens that would complete one of `sequences`, by row and token.
fn completed(rows: &[TokensSoFar], sequences: &[(&[u32], f32)]) -> BTreeMap<(usize, u32), f32> {
    let mut biases = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        for (ids, bias) in sequences {
            let Some((last, before)) = ids.split_last() else { continue };
            if row.ids.ends_with(before) {
                *biases.entry((number, *last)).or_insert(0.0) += bias;
            }
        }
    }
    biases
}

/// The tokens that would complete a sequence of `size` tokens that `known` holds already.
fn repeating(known: &[u32], ids: &[u32], size: usize) -> Vec<u32> {
    let Some(end) = (ids.len() + 1).checked_sub(size).map(|start| &ids[start..]) else { return Vec::new() };
    let sequences = known.windows(size).filter_map(|window| window.split_last());
    sequences.filter(|(_, before)| *before == end).map(|(last, _)| *last).collect()
}

/// f32 `[rows, vocab_size]`
struct Scores(Tensor);

impl Scores {
    /// The indices of tokens in the flat scores; tokens without a score have none.
    fn indices(&self, tokens: impl Iterator<Item = (usize, u32)>) -> Vec<i64> {
        let vocabulary = self.0.size()[1];
        tokens
            .map(|(row, id)| (row as i64, i64::from(id)))
            .filter(|(_, id)| *id < vocabulary)
            .map(|(row, id)| row * vocabulary + id)
            .collect()
    }

    fn index(&self, indices: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(indices)?.f_to_device(self.0.device())?)
    }

    /// Applies `change` to the scores at `indices`.
    fn change(&mut self, indices: &[i64], change: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<()> {
        if indices.is_empty() {
            return Ok(());
        }
        let (index, flat) = (self.index(indices)?, self.0.f_reshape([-1])?);
        let changed = change(&flat.f_index_select(0, &index)?)?;
        self.0 = flat.f_index_copy(0, &index, &changed)?.f_view_as(&self.0)?;
        Ok(())
    }

    fn add(&mut self, biases: &BTreeMap<(usize, u32), f32>) -> Result<()> {
        let indices = self.indices(biases.keys().copied());
        let values: Vec<f32> = biases.values().copied().collect();
        let values = Tensor::f_from_slice(&values)?.f_to_device(self.0.device())?;
        self.change(&indices, |scores| Ok(scores.f_add(&values)?))
    }

    fn penalise<'a>(
        &mut self,
        rows: &[TokensSoFar<'a>],
        tokens: impl Fn(&TokensSoFar<'a>) -> &'a [u32],
        penalty: f64,
    ) -> Result<()> {
        let held = rows.iter().enumerate().flat_map(|(number, row)| tokens(row).iter().map(move |&id| (number, id)));
        let indices = self.indices(held);
        self.change(&indices, |scores| {
            let raised = scores.f_mul_scalar(penalty)?;
            Ok(raised.f_where_self(&scores.f_lt(0)?, &scores.f_div_scalar(penalty)?)?)
        })
    }

    fn ban(&mut self, rows: &[TokensSoFar], tokens: impl Fn(&TokensSoFar) -> Vec<u32>) -> Result<()> {
        let banned = rows.iter().enumerate();
        let banned = banned.flat_map(|(number, row)| tokens(row).into_iter().map(move |id| (number, id)));
        let indices = self.indices(banned);
        self.change(&indices, |scores| Ok(scores.f_full_like(f64::NEG_INFINITY)?))
    }

    /// Leaves only `tokens` in the rows that `applies` to, all alike.
    fn force(&mut self, rows: &[TokensSoFar], tokens: &[u32], applies: impl Fn(&TokensSoFar) -> bool) -> Result<()> {
        let numbers: Vec<usize> = (0..rows.len()).filter(|&number| applies(&rows[number])).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let index: Vec<i64> = numbers.iter().map(|&number| number as i64).collect();
        self.0 = self.0.f_index_fill(0, &self.index(&index)?, f64::NEG_INFINITY)?;
        let forced = numbers.iter().flat_map(|&number| tokens.iter().map(move |&id| (number, id)));
        let indices = self.indices(forced);
        self.change(&indices, |scores| Ok(scores.f_zeros_like()?))
    }

    /// Raises the scores of end tokens by their size times `factor` to the power of the number of tokens
    /// beyond `start`, less one.
    fn favour_ends(&mut self, rows: &[TokensSoFar], eos: &[u32], decay: LengthDecay) -> Result<()> {
        let LengthDecay { start, factor } = decay;
        let beyond = |row: &TokensSoFar| row.ids.len().saturating_sub(start + row.prompt);
        let late = || (0..rows.len()).filter(|&number| beyond(&rows[number]) > 0);
        let vocabulary = self.0.size()[1];
        let ends: Vec<u32> = eos.iter().copied().filter(|&id| i64::from(id) < vocabulary).collect();
        let indices = self.indices(late().flat_map(|number| ends.iter().map(move |&id| (number, id))));
        let raise = |number: usize| (factor.powf(beyond(&rows[number]) as f64) - 1.0) as f32;
        let raises: Vec<f32> = late().flat_map(|number| vec![raise(number); ends.len()]).collect();
        let raises = Tensor::f_from_slice(&raises)?.f_to_device(self.0.device())?;
        self.change(&indices, |scores| {
            let raised = scores.f_add(&scores.f_abs()?.f_mul(&raises)?)?;
            Ok(raised.f_where_self(&scores.f_isfinite()?, scores)?)
        })
    }
}

/// Fails if no token is left to choose.
pub fn ensure_choice(scores: &Tensor) -> Result<()> {
    let is_choice = scores.f_amax(-1, false)?.f_isfinite()?.f_all()?;
    if bool::try_from(is_choice)? {
        return Ok(());
    }
    bail!(Kind::Input, "the settings leave no token to choose: each is banned or filtered out";
        hint: "look at suppress_tokens, bad_words_ids, no_repeat_ngram_size and the forced tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionSet;

    #[test]
    fn repeated_sequences_are_found_at_any_size() {
        let ids = [1, 2, 3, 1, 2];
        assert_eq!(repeating(&ids, &ids, 3), [3]);
        assert_eq!(repeating(&ids, &ids, 2), [3]);
        assert_eq!(repeating(&ids, &ids, 1), ids, "each token once");
        assert!(repeating(&ids, &ids, 7).is_empty());
        assert!(repeating(&ids[..2], &ids, 3).is_empty(), "only what the prompt holds");
    }

    #[test]
    fn values_without_a_meaning_are_named() {
        let refused = |processors: Processors| processors.problem().map(|refusal| refusal.option);
        assert_eq!(refused(Processors::default()), None);
        let penalty = Processors { repetition_penalty: -1.0, ..Default::default() };
        assert_eq!(refused(penalty).as_deref(), Some("repetition_penalty"));
        let ids = |ids: &[u32]| TokenIds(ids.to_vec());
        let forced = Processors { forced_eos_token_id: ids(&[2]), suppress_tokens: ids(&[1, 2]), ..Default::default() };
        assert_eq!(refused(forced).as_deref(), Some("forced_eos_token_id"));
        let words = TokenSequences(vec![vec![3], vec![2, 10]]);
        let words = Processors { bad_words_ids: words, ..Default::default() };
        assert_eq!(words.unknown_token(10).unwrap().option, "bad_words_ids");
        assert_eq!(words.unknown_token(11), None);
    }
}
