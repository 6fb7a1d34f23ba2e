//! Rows of the embeddings that are trained by themselves: PEFT's `trainable_token_indices`.
//!
//! A trained row replaces the base's. Where head and embeddings share a weight, they share the
//! trained rows too, unless the head has others.

use super::spec::TrainableTokens;
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::shapes::{EMBEDDING, HEAD};
use crate::model::Config;
use tch::{Device, Kind as Dtype, Tensor};

/// The rows of each module.
pub type Tokens = TokenRows<Rows>;

#[derive(Debug, Clone, Default)]
pub struct TokenRows<T> {
    pub embedding: Option<T>,
    pub head: Option<T>,
    /// Does the head share the embeddings' rows?
    pub is_tied: bool,
}

/// Trained rows: their token ids, and the leaf of the adapter that holds them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub ids: Vec<i64>,
    /// `[ids, width]`
    pub leaf: usize,
}

impl<T> TokenRows<T> {
    /// The rows that act in the output head.
    pub fn of_head(&self) -> Option<&T> {
        self.head.as_ref().or(self.embedding.as_ref().filter(|_| self.is_tied))
    }
}

impl Tokens {
    /// By PEFT's rules (`set_additional_trainable_modules`).
    pub fn resolve(tokens: &TrainableTokens, config: &Config) -> Result<Self> {
        let mut rows = Tokens { is_tied: config.tie_word_embeddings, ..Tokens::default() };
        match tokens {
            TrainableTokens::None => {}
            TrainableTokens::Embeddings(ids) => rows.embedding = Some(checked(ids, config)?),
            TrainableTokens::ByModule(modules) => {
                for (name, ids) in modules {
                    let rows = match name.as_str() {
                        "" => None,
                        name if EMBEDDING.ends_with(name) => Some(&mut rows.embedding),
                        name if HEAD.ends_with(name) => Some(&mut rows.head),
                        _ => None,
                    };
                    match rows {
                        Some(rows @ None) => *rows = Some(checked(ids, config)?),
                        Some(_) => bail!(Kind::Input, "lora `trainable_token_indices`: `{name}` is named twice"),
                        None => bail!(
                            Kind::Input,
                            "lora `trainable_token_indices`: expected \"embed_tokens\" or \"lm_head\", found `{name}`"
                        ),
                    }
                }
            }
        }
        // Where head and embeddings are one weight, the same rows of both are one.
        let are_same = match (&rows.embedding, &rows.head) {
            (Some(embedding), Some(head)) => embedding.ids == head.ids,
            _ => false,
        };
        if rows.is_tied && are_same {
            rows.head = None;
        }
        Ok(rows)
    }
}

fn checked(ids: &[i64], config: &Config) -> Result<Rows> {
    if ids.is_empty() {
        bail!(Kind::Input, "lora `trainable_token_indices`: expected the ids of tokens, found none");
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!(Kind::Input, "lora `trainable_token_indices`: token {} is named twice", pair[0]);
    }
    if let Some(id) = ids.iter().find(|id| !(0..config.vocab_size).contains(*id)) {
        bail!(Kind::Input, "lora `trainable_token_indices`: expected ids below {}, the size of the vocabulary, found {id}", config.vocab_size; hint: "model.resize_token_embeddings(n) makes room for new tokens");
    }
    Ok(Rows { ids: ids.to_vec(), leaf: 0 })
}

/// Looks up trained rows by token, on the model's device.
#[derive(Debug)]
pub struct Index {
    /// int64 `[ids]`: the trained tokens.
    pub ids: Tensor,
    /// int64 `[vocabulary]`: the row of a trained token, -1 for every other token.
    row_of_id: Tensor,
}

impl Index {
    pub fn shallow_clone(&self) -> Self {
        Index { ids: self.ids.shallow_clone(), row_of_id: self.row_of_id.shallow_clone() }
    }

    pub fn new(rows: &Rows, vocabulary: i64, device: Device) -> Result<Self> {
        let ids = Tensor::f_from_slice(&rows.ids)?.f_to_device(device)?;
        let count = Tensor::f_arange(rows.ids.len() as i64, (Dtype::Int64, device))?;
        let row_of_id = Tensor::f_full([vocabulary], -1, (Dtype::Int64, device))?.f_index_copy(0, &ids, &count)?;
        Ok(Index { ids, row_of_id })
    }

    /// `x`, `[tokens, width]`, with the rows of trained tokens from `rows`, `[ids, width]`.
    pub fn replace(&self, x: &Tensor, tokens: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let row = self.row_of_id.f_index_select(0, tokens)?;
        let trained = rows.f_index_select(0, &row.f_clamp_min(0)?)?.f_to_kind(x.f_kind()?)?;
        Ok(trained.f_where_self(&row.f_ge(0)?.f_unsqueeze(1)?, x)?)
    }
}
