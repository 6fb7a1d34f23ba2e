//! Greedy continuation of a prompt.

use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::{Adapters, Decoder, Input};
use tch::no_grad;

/// Appends the most likely token until `max_new_tokens` or a token of `stop`, which is
/// kept. Returns the new tokens only.
pub fn greedy(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    prompt: &[u32],
    max_new_tokens: usize,
    stop: &[u32],
) -> Result<Vec<u32>> {
    if prompt.is_empty() {
        return Err(Error::input("the prompt is empty: expected at least one token"));
    }
    let mut ids: Vec<i64> = prompt.iter().map(|&id| i64::from(id)).collect();
    let mut fresh = Vec::new();
    while fresh.len() < max_new_tokens {
        interrupt::check()?;
        let next = no_grad(|| next_token(decoder, adapters, &ids))?;
        ids.push(i64::from(next));
        fresh.push(next);
        if stop.contains(&next) {
            break;
        }
    }
    Ok(fresh)
}

fn next_token(decoder: &Decoder, adapters: &dyn Adapters, ids: &[i64]) -> Result<u32> {
    let input = Input::from_ids(ids, decoder.config.vocab_size, decoder.device)?;
    let hidden = decoder.hidden(&input, adapters)?;
    let last = ids.len() as i64 - 1;
    let logits = decoder.logits(&hidden.f_narrow(0, last, 1)?, &input.tokens.select(&[last])?, adapters)?;
    Ok(logits.f_argmax(-1, false)?.f_int64_value(&[0])? as u32)
}
