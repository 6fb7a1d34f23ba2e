//! From scores to the next token: penalties and filters as transformers' logits processors, in
//! their order, and a draw by key.

use crate::bail;
use crate::error::{Error, Kind, Result};
use tch::{Device, Kind as Dtype, Tensor};

/// How the next token is chosen. Names and defaults are those of transformers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Draw by probability; the most likely token otherwise.
    pub do_sample: bool,
    /// Divides the scores.
    pub temperature: f64,
    /// So many of the most likely tokens stay; 0 for all.
    pub top_k: i64,
    /// The fewest most likely tokens stay whose probabilities reach this sum.
    pub top_p: f64,
    /// Positive scores of tokens that are there already, the prompt's included, are divided by it,
    /// negative ones multiplied (Keskar et al., 2019).
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { do_sample: false, temperature: 1.0, top_k: 50, top_p: 1.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Fails on values without a meaning.
    pub fn check(&self) -> Result<()> {
        let positive = [("temperature", self.temperature), ("repetition_penalty", self.repetition_penalty)];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                let error = Error::input(format!("`{name}`: expected a number above 0, found {value}"));
                return Err(match value == 0.0 && name == "temperature" {
                    true => error.with_hint("for the most likely token at each step: do_sample: false"),
                    false => error,
                });
            }
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            bail!(Kind::Input, "`top_p`: expected a number from 0 to 1, found {}", self.top_p; hint: "90 % is 0.9");
        }
        if self.top_k < 0 {
            bail!(Kind::Input, "`top_k`: expected at least 0, found {}", self.top_k; hint: "0 keeps every token");
        }
        Ok(())
    }

    /// Whether [`Self::processed`] asks which tokens were there.
    pub fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// The scores to choose from, f32 `[rows, vocab_size]`, -∞ where a token is filtered out.
    /// `seen` is bool of the same shape: the tokens that each row holds already.
    pub fn processed(&self, scores: &Tensor, seen: Option<&Tensor>) -> Result<Tensor> {
        let mut scores = scores.f_to_kind(Dtype::Float)?;
        if let Some(seen) = seen.filter(|_| self.penalises()) {
            scores = penalised(&scores, seen, self.repetition_penalty)?;
        }
        if !self.do_sample {
            return Ok(scores);
        }
        if self.temperature != 1.0 {
            scores = scores.f_div_scalar(self.temperature)?;
        }
        if self.top_k > 0 {
            scores = top_k(&scores, self.top_k)?;
        }
        match self.top_p < 1.0 {
            true => top_p(&scores, self.top_p),
            false => Ok(scores),
        }
    }

    /// The next token of each row from [`Self::processed`] scores; `uniform` has a number in
    /// [0, 1) for each.
    pub fn choose(&self, scores: &Tensor, uniform: &[f64]) -> Result<Vec<u32>> {
        let best: Vec<f32> = Vec::try_from(scores.f_amax(-1, false)?.f_to_device(Device::Cpu)?)?;
        if best.iter().any(|score| !score.is_finite()) {
            return Err(Error::model("the model's scores are not finite numbers: it cannot choose a token")
                .with_hint("the weights or the adapter are damaged: did its training diverge?"));
        }
        let chosen = match self.do_sample {
            true => draw(scores, uniform)?,
            false => scores.f_argmax(-1, false)?,
        };
        let chosen: Vec<i64> = Vec::try_from(chosen.f_to_device(Device::Cpu)?)?;
        Ok(chosen.into_iter().map(|id| id as u32).collect())
    }
}

fn penalised(scores: &Tensor, seen: &Tensor, penalty: f64) -> Result<Tensor> {
    let raised = scores.f_mul_scalar(penalty)?;
    let changed = raised.f_where_self(&scores.f_lt(0)?, &scores.f_div_scalar(penalty)?)?;
    Ok(changed.f_where_self(seen, scores)?)
}

/// Tokens as likely as the last that is kept are kept too.
fn top_k(scores: &Tensor, count: i64) -> Result<Tensor> {
    let vocabulary = scores.size()[1];
    let (best, _) = scores.f_topk(count.min(vocabulary), -1, true, true)?;
    let least = best.f_narrow(1, best.size()[1] - 1, 1)?;
    Ok(scores.f_masked_fill(&scores.f_lt_tensor(&least)?, f64::NEG_INFINITY)?)
}

fn top_p(scores: &Tensor, share: f64) -> Result<Tensor> {
    let (ascending, places) = scores.f_sort(-1, false)?;
    let below = ascending.f_softmax(-1, Dtype::Float)?.f_cumsum(-1, Dtype::Float)?;
    let removed = below.f_le(1.0 - share)?;
    // The most likely token stays, whatever the sum.
    let last = removed.size()[1] - 1;
    let _ = removed.f_narrow(1, last, 1)?.f_fill_(0)?;
    let removed = removed.f_scatter(1, &places, &removed)?;
    Ok(scores.f_masked_fill(&removed, f64::NEG_INFINITY)?)
}

/// Inverts the distribution function, in f64 and in the order of the vocabulary.
fn draw(scores: &Tensor, uniform: &[f64]) -> Result<Tensor> {
    let sums = scores.f_softmax(-1, Dtype::Double)?.f_cumsum(-1, Dtype::Double)?;
    let total = sums.f_narrow(1, sums.size()[1] - 1, 1)?;
    // A hair below 1, so that rounding cannot lead past the last token.
    let below = Tensor::f_from_slice(uniform)?.f_mul_scalar(1.0 - f64::EPSILON)?;
    let reached = below.f_to_device(scores.device())?.f_unsqueeze(-1)?.f_mul(&total)?;
    // The first sum above it: a token without probability adds nothing and is passed over.
    Ok(reached.f_searchsorted(&sums, false, true, "right", None::<&Tensor>)?.f_squeeze_dim(-1)?)
}
