//! The difference between two models on the same tokens: logits, distributions, perplexities.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::interrupt;
use crate::model::{Adapters, Decoder, Input};
use crate::random::Key;
use serde::Serialize;
use std::path::Path;
use tch::{no_grad, Kind as Dtype, Tensor};

/// The default text that models are compared on: prose, speech, numbers, code, Korean.
const TEXT: &str = "The small boat left the harbour at six in the morning, when the water was still grey. \
\"Did you bring the rope?\" asked Mina. \"Of course,\" said her brother, \"and bread, two apples and 12 candles.\" \
They rowed for 3.5 kilometres before the wind came up from the west.\n\
Question: what is 17 + 25? Answer: 17 + 25 = 42.\n\
def area(width, height):\n    return width * height\n\
오늘은 날씨가 맑아서 우리는 강가를 따라 오래 걸었다.\n\
In the evening they counted what they had seen: five gulls, one seal, and a ship so far away that nobody could \
say which way it went.";

/// Tokens in one forward pass.
const WINDOW: usize = 512;
/// Positions whose scores of the whole vocabulary are held at once.
const SLICE: i64 = 64;

/// A model: a base and what joins it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub decoder: &'a Decoder,
    pub adapters: &'a dyn Adapters,
}

/// The result of [`divergence`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Divergence {
    /// Positions compared.
    pub tokens: usize,
    /// max |Δlogit|
    pub max_logit_difference: f64,
    /// Σ Δlogit² over Σ (logit − mean of its position)² of the reference.
    pub logit_error: f64,
    /// Mean over positions of KL(reference ‖ candidate), in nats.
    pub mean_kl: f64,
    pub reference_perplexity: f64,
    pub candidate_perplexity: f64,
}

impl Divergence {
    /// What was compared, for the user.
    pub fn line(&self, path: &Path) -> String {
        let Divergence { tokens, max_logit_difference: difference, mean_kl, .. } = self;
        let path = path.display();
        format!("{path}: read back and compared on {tokens} tokens, max |Δlogit| {difference:.3e}, KL {mean_kl:.3e}")
    }

    /// Where nothing was compared.
    pub fn unmeasured(tokens: usize) -> Self {
        let unknown = f64::NAN;
        Divergence {
            tokens,
            max_logit_difference: unknown,
            logit_error: unknown,
            mean_kl: unknown,
            reference_perplexity: unknown,
            candidate_perplexity: unknown,
        }
    }
}

/// The ids of `text`, or of the default text; without a tokenizer, random ones. At least two.
pub fn sample(text: Option<&str>, tokenizer: Option<&Tokenizer>, vocab_size: i64) -> Result<Vec<i64>> {
    let ids: Vec<i64> = match (tokenizer, text) {
        (Some(tokenizer), text) => tokenizer.encode(text.unwrap_or(TEXT), true)?.into_iter().map(i64::from).collect(),
        (None, Some(_)) => {
            bail!(Kind::Input, "`text` needs a tokenizer, and this model has none"; hint: "put tokenizer.json into the model's folder, or leave `text` out")
        }
        (None, None) => {
            let key = Key::new(0).named("sample");
            (0..256).map(|at| (key.uniform(at) * vocab_size as f64) as i64).collect()
        }
    };
    if ids.len() < 2 {
        bail!(Kind::Input, "expected a text of at least two tokens to compare on, found {}", ids.len(); hint: "give a longer `text`, or leave it out for the default one");
    }
    Ok(ids)
}

/// Compares `candidate` with `reference` on `ids`, two at least, in windows of at most 512
/// tokens.
///
/// # Errors
/// `Kind::Numeric` where scores are not finite.
pub fn divergence(ids: &[i64], reference: Side, candidate: Side) -> Result<Divergence> {
    let window = WINDOW.min(reference.decoder.config.max_position_embeddings.max(2) as usize);
    let mut sums = Sums::default();
    let mut windows = ids.chunks(window);
    let files = [&reference.decoder.files, &candidate.decoder.files];
    let mut compare = || windows.try_for_each(|ids| no_grad(|| sums.add_window(ids, reference, candidate)));
    files[0].unless_changed(|| files[1].unless_changed(&mut compare))?;
    let means = sums.means();
    // NaN fails this too.
    if !(means.logit_error + means.mean_kl).is_finite() {
        bail!(Kind::Numeric, "the logits are not finite"; hint: "the weights are damaged or their values too large for the dtype");
    }
    Ok(means)
}

#[derive(Default)]
struct Sums {
    tokens: usize,
    predicted: usize,
    largest: f64,
    squared_difference: f64,
    squared: f64,
    kl: f64,
    reference_loss: f64,
    candidate_loss: f64,
}

impl Sums {
    fn add_window(&mut self, ids: &[i64], reference: Side, candidate: Side) -> Result<()> {
        let (ours, theirs) = (Scored::new(ids, reference)?, Scored::new(ids, candidate)?);
        let time = ids.len() as i64;
        for begin in (0..time).step_by(SLICE as usize) {
            interrupt::check()?;
            let length = SLICE.min(time - begin);
            let (ours, theirs) = (ours.logits(begin, length)?, theirs.logits(begin, length)?);
            self.add_slice(&ours, &theirs)?;
            let next: Vec<i64> = ids[begin as usize + 1..ids.len().min((begin + length) as usize + 1)].to_vec();
            let next = Tensor::f_from_slice(&next)?;
            self.predicted += next.size()[0] as usize;
            self.reference_loss += loss(&ours, &next)?;
            self.candidate_loss += loss(&theirs, &next)?;
        }
        self.tokens += ids.len();
        Ok(())
    }

    fn add_slice(&mut self, ours: &Tensor, theirs: &Tensor) -> Result<()> {
        let difference = theirs.f_sub(ours)?;
        self.largest = self.largest.max(number(&difference.f_abs()?.f_max()?)?);
        self.squared_difference += number(&difference.f_square()?.f_sum(Dtype::Double)?)?;
        let centred = ours.f_sub(&ours.f_mean_dim(-1, true, Dtype::Double)?)?;
        self.squared += number(&centred.f_square()?.f_sum(Dtype::Double)?)?;
        let (ours, theirs) = (ours.f_log_softmax(-1, Dtype::Double)?, theirs.f_log_softmax(-1, Dtype::Double)?);
        self.kl += number(&ours.f_exp()?.f_mul(&ours.f_sub(&theirs)?)?.f_sum(Dtype::Double)?)?;
        Ok(())
    }

    fn means(&self) -> Divergence {
        let (tokens, predicted) = (self.tokens as f64, self.predicted as f64);
        Divergence {
            tokens: self.tokens,
            max_logit_difference: self.largest,
            logit_error: if self.squared_difference == 0.0 { 0.0 } else { self.squared_difference / self.squared },
            mean_kl: self.kl / tokens,
            reference_perplexity: (self.reference_loss / predicted).exp(),
            candidate_perplexity: (self.candidate_loss / predicted).exp(),
        }
    }
}

/// The hidden states of a window, from which logits are made slice by slice.
struct Scored<'a> {
    side: Side<'a>,
    input: Input,
    hidden: Tensor,
}

impl<'a> Scored<'a> {
    fn new(ids: &[i64], side: Side<'a>) -> Result<Self> {
        let input = Input::from_ids(ids, side.decoder.config.vocab_size, side.decoder.device)?;
        let hidden = side.decoder.hidden(&input, side.adapters)?;
        Ok(Scored { side, input, hidden })
    }

    /// f64 `[length, vocab_size]`, on the CPU.
    fn logits(&self, begin: i64, length: i64) -> Result<Tensor> {
        let positions: Vec<i64> = (begin..begin + length).collect();
        let hidden = self.hidden.f_narrow(0, begin, length)?;
        let logits = self.side.decoder.logits(&hidden, &self.input.tokens.select(&positions)?, self.side.adapters)?;
        Ok(logits.f_to_kind(Dtype::Double)?.f_to_device(tch::Device::Cpu)?)
    }
}

/// Summed cross-entropy of the `next` tokens, which the first rows of `logits` predict.
fn loss(logits: &Tensor, next: &Tensor) -> Result<f64> {
    let count = next.size()[0];
    if count == 0 {
        return Ok(0.0);
    }
    number(&logits.f_narrow(0, 0, count)?.f_cross_entropy_loss(
        next,
        None::<&Tensor>,
        tch::Reduction::Sum,
        -100,
        0.0,
    )?)
}

fn number(x: &Tensor) -> Result<f64> {
    Ok::<f64, Error>(x.f_double_value(&[])?)
}
