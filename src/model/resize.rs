//! Resizes the vocabulary, as transformers' `resize_token_embeddings` does.
//!
//! New rows are the mean of the old ones. transformers adds random noise (normal, 1e-9 times the covariance
//! of the rows), so its own runs differ from one another as well. An adapter saved after a resize contains the
//! rows that it needs.

use super::decoder::Decoder;
use super::linear::Weight;
use crate::bail;
use crate::error::{Kind, Result};
use tch::{Kind as Dtype, Tensor};

impl Decoder {
    /// Cuts embeddings and output head to `count` rows, or adds rows to both.
    pub fn resize_token_embeddings(&mut self, count: i64) -> Result<()> {
        const LIMIT: i64 = 1 << 31;
        if !(1..LIMIT).contains(&count) {
            bail!(
                Kind::Input,
                "resize_token_embeddings: expected a number of tokens from 1 to {}, found {count}",
                LIMIT - 1
            );
        }
        if count == self.config.vocab_size {
            return Ok(());
        }
        let head = match &self.lm_head.weight {
            Weight::Dense(_) if self.config.tie_word_embeddings => None,
            Weight::Dense(weight) => Some(resized(weight, count)?),
            _ => {
                bail!(Kind::Input, "resize_token_embeddings: expected a dense output head, found a 4-bit one"; hint: "load the model without load_in_4bit")
            }
        };
        self.embed_tokens = resized(&self.embed_tokens, count)?;
        self.lm_head.weight = Weight::Dense(head.unwrap_or_else(|| self.embed_tokens.shallow_clone()));
        self.lm_head.shape.out_features = count;
        self.config.vocab_size = count;
        Ok(())
    }
}

/// `weight`, `[vocabulary, width]`, with `count` rows.
fn resized(weight: &Tensor, count: i64) -> Result<Tensor> {
    let rows = weight.size()[0];
    if count <= rows {
        return Ok(weight.f_narrow(0, 0, count)?.f_contiguous()?);
    }
    let wide = weight.f_detach()?.f_to_kind(Dtype::Float)?;
    let mean = wide.f_mean_dim([0].as_slice(), true, Dtype::Float)?.f_to_kind(weight.f_kind()?)?;
    let added = mean.f_expand([count - rows, weight.size()[1]], false)?;
    Ok(Tensor::f_cat(&[&weight.f_detach()?, &added], 0)?)
}
