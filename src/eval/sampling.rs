//! From scores to the next token: filters as transformers' logits warpers, in their order, and a
//! draw by key. Changes that depend on the tokens so far are in `processors.rs`.

use crate::error::{Error, Result};
use crate::options;
use crate::options::OptionSet;
use tch::{Device, Kind as Dtype, Tensor};

options! {
    /// How the next token is chosen. Names and defaults are those of transformers.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Sampling {
        /// Draw each token by its probability, instead of taking the most likely one at each step.
        pub do_sample: bool = false;
        /// Divides the scores. Acts only with `do_sample`, as the seven filters below.
        pub temperature: f64 = 1.0, range above(0.0), hint "for the most likely token at each step: do_sample: false";
        /// Keep only the most likely tokens whose part of the entropy is at most this.
        pub top_h: Option<f64> = None, range above_up_to(0.0, 1.0), hint "90 % is 0.9";
        /// Keep only this many of the most likely tokens; 0 keeps all.
        pub top_k: i64 = 50, range at_least(0.0), hint "0 keeps every token";
        /// Keep only the fewest most likely tokens whose probabilities add up to this.
        pub top_p: f64 = 1.0, range between(0.0, 1.0), hint "90 % is 0.9";
        /// Keep only tokens whose probability is at least this times that of the most likely one.
        pub min_p: Option<f64> = None, range between(0.0, 1.0), hint "90 % is 0.9";
        /// Keep only the fewest tokens that are nearest to the expected surprise and whose probabilities add up to
        /// this.
        pub typical_p: f64 = 1.0, range above_up_to(0.0, 1.0), hint "90 % is 0.9";
        /// Keep only tokens whose probability is at least this; 0 keeps all.
        pub epsilon_cutoff: f64 = 0.0, range between(0.0, 1.0), hint "90 % is 0.9";
        /// As `epsilon_cutoff`, lower where the entropy is high; 0 keeps all.
        pub eta_cutoff: f64 = 0.0, range between(0.0, 1.0), hint "90 % is 0.9";
    }
    when Sampling::is_drawn;
}

/// `top_h` looks at this many of the most likely tokens, as in transformers.
const TOP_H_TOKENS: i64 = 100;

impl Sampling {
    /// The options that act only where tokens are drawn: all but `do_sample`.
    pub fn filters() -> impl Iterator<Item = &'static str> {
        Self::table().options().into_iter().map(|option| option.name).filter(|name| *name != "do_sample")
    }

    fn is_drawn(&self) -> bool {
        self.do_sample
    }

    /// The scores to choose from, f32 `[rows, vocab_size]`, -∞ where a token is filtered out.
    pub fn filtered(&self, scores: &Tensor) -> Result<Tensor> {
        let mut scores = scores.f_to_kind(Dtype::Float)?;
        if !self.do_sample {
            return Ok(scores);
        }
        if self.temperature != 1.0 {
            scores = scores.f_div_scalar(self.temperature)?;
        }
        if let Some(fraction) = self.top_h {
            scores = top_h(&scores, fraction)?;
        }
        if self.top_k > 0 {
            scores = top_k(&scores, self.top_k)?;
        }
        if self.top_p < 1.0 {
            scores = top_p(&scores, self.top_p)?;
        }
        if let Some(factor) = self.min_p {
            let probabilities = scores.f_softmax(-1, Dtype::Float)?;
            let least = probabilities.f_amax(-1, true)?.f_mul_scalar(factor)?;
            scores = without(&scores, &probabilities.f_lt_tensor(&least)?)?;
        }
        if self.typical_p < 1.0 {
            scores = typical(&scores, self.typical_p)?;
        }
        if self.epsilon_cutoff > 0.0 && self.epsilon_cutoff < 1.0 {
            let unlikely = scores.f_softmax(-1, Dtype::Float)?.f_lt(self.epsilon_cutoff)?;
            scores = without_but_best(&scores, &unlikely)?;
        }
        if self.eta_cutoff > 0.0 && self.eta_cutoff < 1.0 {
            scores = eta(&scores, self.eta_cutoff)?;
        }
        Ok(scores)
    }

    /// The next token of each row from [`Self::filtered`] scores; `uniform` has a number in
    /// [0, 1) for each.
    pub fn choose(&self, scores: &Tensor, uniform: &[f64]) -> Result<Vec<u32>> {
        let chosen = if self.do_sample { draw(scores, uniform)? } else { scores.f_argmax(-1, false)? };
        let chosen: Vec<i64> = Vec::try_from(chosen.f_to_device(Device::Cpu)?)?;
        Ok(chosen.into_iter().map(|id| id as u32).collect())
    }
}

/// Refuses scores that are not finite: only a damaged model returns them.
pub fn ensure_finite(scores: &Tensor) -> Result<()> {
    let best: Vec<f32> = Vec::try_from(scores.f_amax(-1, false)?.f_to_device(Device::Cpu)?)?;
    if best.iter().all(|score| score.is_finite()) {
        return Ok(());
    }
    Err(Error::model("the model's scores are not finite numbers: it cannot choose a token")
        .with_hint("the weights or the adapter are damaged: did its training diverge?"))
}

fn without(scores: &Tensor, removed: &Tensor) -> Result<Tensor> {
    Ok(scores.f_masked_fill(removed, f64::NEG_INFINITY)?)
}

/// The most likely tokens stay, whatever `removed` says.
fn without_but_best(scores: &Tensor, removed: &Tensor) -> Result<Tensor> {
    let lower = scores.f_lt_tensor(&scores.f_amax(-1, true)?)?;
    without(scores, &removed.f_logical_and(&lower)?)
}

/// Tokens as likely as the last that is kept are kept too.
fn top_k(scores: &Tensor, count: i64) -> Result<Tensor> {
    let vocabulary = scores.size()[1];
    let (best, _) = scores.f_topk(count.min(vocabulary), -1, true, true)?;
    let least = best.f_narrow(1, best.size()[1] - 1, 1)?;
    without(scores, &scores.f_lt_tensor(&least)?)
}

fn top_p(scores: &Tensor, sum: f64) -> Result<Tensor> {
    let (ascending, order) = scores.f_sort(-1, false)?;
    let below = ascending.f_softmax(-1, Dtype::Float)?.f_cumsum(-1, Dtype::Float)?;
    let removed = below.f_le(1.0 - sum)?;
    // The most likely token stays, whatever the sum.
    let last = removed.size()[1] - 1;
    let _ = removed.f_narrow(1, last, 1)?.f_fill_(0)?;
    without(scores, &removed.f_scatter(1, &order, &removed)?)
}

/// Nats, f32 `[rows, 1]`, as torch's `Categorical` adds them up.
fn entropy(scores: &Tensor) -> Result<Tensor> {
    let logs = scores.f_sub(&scores.f_logsumexp([-1], true)?)?;
    let terms = logs.f_clamp_min(f64::from(f32::MIN))?.f_mul(&logs.f_softmax(-1, Dtype::Float)?)?;
    Ok(terms.f_sum_dim_intlist([-1].as_slice(), true, Dtype::Float)?.f_neg()?)
}

fn top_h(scores: &Tensor, fraction: f64) -> Result<Tensor> {
    let (best, order) = scores.f_topk(TOP_H_TOKENS.min(scores.size()[1]), -1, true, true)?;
    let probabilities = best.f_softmax(-1, Dtype::Float)?;
    let terms = probabilities.f_neg()?.f_mul(&probabilities.f_log()?)?;
    let kept = terms.f_cumsum(-1, Dtype::Float)?.f_le_tensor(&entropy(&best)?.f_mul_scalar(fraction)?)?;
    let _ = kept.f_narrow(1, 0, 1)?.f_fill_(1)?;
    let removed = scores.f_ones_like()?.f_to_kind(Dtype::Bool)?;
    without(scores, &removed.f_scatter(1, &order, &kept.f_logical_not()?)?)
}

fn typical(scores: &Tensor, sum: f64) -> Result<Tensor> {
    let logs = scores.f_log_softmax(-1, Dtype::Float)?;
    let expected = logs.f_mul(&logs.f_exp()?)?.f_nansum([-1].as_slice(), true, Dtype::Float)?.f_neg()?;
    let (distances, order) = logs.f_neg()?.f_sub(&expected)?.f_abs()?.f_sort(-1, false)?;
    let sums = scores.f_gather(-1, &order, false)?.f_softmax(-1, Dtype::Float)?.f_cumsum(-1, Dtype::Float)?;
    let last = sums.f_lt(sum)?.f_sum_dim_intlist([-1].as_slice(), true, Dtype::Int64)?;
    let last = last.f_clamp_max(distances.size()[1] - 1)?;
    let removed = distances.f_gt_tensor(&distances.f_gather(1, &last, false)?)?;
    let _ = removed.f_narrow(1, 0, 1)?.f_fill_(0)?;
    without(scores, &removed.f_scatter(1, &order, &removed)?)
}

fn eta(scores: &Tensor, cutoff: f64) -> Result<Tensor> {
    // In f32 from the start, as transformers has it.
    let cutoff = Tensor::f_from_slice(&[cutoff as f32])?.f_to_device(scores.device())?;
    let by_entropy = entropy(scores)?.f_neg()?.f_exp()?.f_mul(&cutoff.f_sqrt()?)?;
    let least = by_entropy.f_minimum(&cutoff)?;
    without_but_best(scores, &scores.f_softmax(-1, Dtype::Float)?.f_lt_tensor(&least)?)
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
