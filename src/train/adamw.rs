//! AdamW (Loshchilov and Hutter, 2019) over one flat buffer, in torch's order of operations. The defaults are those
//! of transformers' `TrainingArguments`, except for the learning rate.

use super::loss_scale::LossScale;
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::Parameters;
use crate::native::{self, AdamStep};
use crate::options;
use crate::options::OptionSet;
use std::ops::Range;
use tch::{no_grad, Tensor};

options! {
    #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
    pub struct AdamWConfig {
        /// The learning rate.
        pub lr: f64 = 2e-4, alias ["learning_rate"], range at_least(0.0), words "2e-4 (TrainingArguments 5e-5, TRL 2e-5)";
        /// The decay of the running mean of the gradient.
        pub beta1: f64 = 0.9, alias ["adam_beta1"], range probability();
        /// The decay of the running mean of its square.
        pub beta2: f64 = 0.999, alias ["adam_beta2"], range probability();
        /// Added to the root of that mean, so that a gradient of 0 is not divided by 0.
        // The first gradient of A is 0 everywhere, because B is 0: without eps the first step would be 0/0.
        pub eps: f64 = 1e-8, alias ["adam_epsilon"], range at_least(LEAST_EPS),
            hint "it keeps a gradient of 0 from being divided by 0; 1e-8 is usual";
        /// The fraction of each weight that a step of rate 1 takes away.
        pub weight_decay: f64 = 0.0, range at_least(0.0);
        /// LoRA+ (Hayou and others, 2024): B, biases and magnitudes learn at `lr` times this ratio.
        pub loraplus_lr_ratio: Option<f64> = None, range above(0.0),
            hint "the LoRA+ paper uses 16; 1 is plain LoRA";
    }
}

/// Steps are computed in f32, where a smaller eps would be 0.
const LEAST_EPS: f64 = 1e-37;

/// The moments of every parameter, and the number of steps done.
#[derive(Debug)]
pub struct AdamW {
    pub config: AdamWConfig,
    steps: u64,
    /// Running mean of the gradient, f32 `[total]`.
    mean: Tensor,
    /// Running mean of the squared gradient, f32 `[total]`.
    square: Tensor,
    stretches: Vec<Stretch>,
    pub loss_scale: LossScale,
}

/// Adjacent parameters with the same learning rate.
#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    range: Range<i64>,
    /// The factor of the learning rate.
    ratio: f64,
}

/// Views of one stretch's values.
struct Slice {
    theta: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    decayed: Option<Tensor>,
}

impl AdamW {
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Result<Self> {
        config.ensure_valid("adamw")?;
        let zeros = || parameters.flat().f_detach().and_then(|flat| flat.f_zeros_like());
        Ok(AdamW {
            config,
            steps: 0,
            mean: zeros()?,
            square: zeros()?,
            stretches: stretches(config.loraplus_lr_ratio, parameters)?,
            loss_scale: LossScale::default(),
        })
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The running means of the gradient and of its square, f32 `[total]`.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.mean, &self.square)
    }

    /// Overwrites moments and number of steps with those of an optimizer for the same parameters.
    ///
    /// # Errors
    /// Moments of another number of parameters.
    pub fn restore(&mut self, steps: u64, mean: &Tensor, square: &Tensor) -> Result<()> {
        for moment in [mean, square] {
            if moment.size() != self.mean.size() {
                bail!(Kind::Input, "the optimizer is for {} parameters, the saved one for {}", self.mean.numel(), moment.numel(); hint: "train the adapter that was saved");
            }
        }
        no_grad(|| {
            self.mean.f_copy_(mean)?;
            self.square.f_copy_(square)
        })?;
        self.steps = steps;
        Ok(())
    }

    /// One update at learning rate `lr` from the gradients times `clip`:
    /// θ ← θ - lr·λ·θ - lr/(1-β₁ᵗ) · m / (√v/√(1-β₂ᵗ) + ε).
    pub fn step(&mut self, parameters: &Parameters, lr: f64, clip: f64) -> Result<()> {
        let gradient = parameters.flat_gradient();
        if gradient.size() != self.mean.size() {
            bail!(Kind::Input, "the optimizer was made for {} parameters, found {}", self.mean.numel(), gradient.numel(); hint: "make the optimizer after the last add_lora");
        }
        self.steps += 1;
        for Stretch { range, ratio } in &self.stretches {
            let slice = self.slice(parameters, range)?;
            if native::has_adamw(gradient) {
                self.step_in_one_pass(&slice, lr * ratio, clip)?;
            } else {
                self.step_by_tensors(slice, lr * ratio, clip)?;
            }
        }
        Ok(())
    }

    fn slice(&self, parameters: &Parameters, range: &Range<i64>) -> Result<Slice> {
        let view = |flat: &Tensor| flat.f_narrow(0, range.start, range.end - range.start);
        Ok(Slice {
            theta: view(parameters.flat())?,
            gradient: view(parameters.flat_gradient())?,
            mean: view(&self.mean)?,
            square: view(&self.square)?,
            decayed: parameters.decayed().map(view).transpose()?,
        })
    }

    /// (1 - β₁ᵗ, √(1 - β₂ᵗ)) of this step.
    fn corrections(&self) -> (f64, f64) {
        let AdamWConfig { beta1, beta2, .. } = self.config;
        (1.0 - beta1.powi(self.steps as i32), (1.0 - beta2.powi(self.steps as i32)).sqrt())
    }

    fn step_in_one_pass(&self, slice: &Slice, lr: f64, clip: f64) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let (bias1, bias2) = self.corrections();
        let step = AdamStep {
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            eps: eps as f32,
            decay: (lr * weight_decay) as f32,
            step_size: (lr / bias1) as f32,
            bias2: bias2 as f32,
            clip: clip as f32,
        };
        let Slice { theta, gradient, mean, square, decayed } = slice;
        native::adamw(theta, gradient, mean, square, decayed.as_ref(), step)
    }

    fn step_by_tensors(&self, slice: Slice, lr: f64, clip: f64) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let (bias1, bias2) = self.corrections();
        let Slice { mut theta, gradient, mut mean, mut square, decayed } = slice;
        no_grad(|| {
            let gradient = gradient.f_mul_scalar(clip)?;
            if weight_decay != 0.0 {
                let _ = match decayed {
                    None => theta.f_mul_scalar_(1.0 - lr * weight_decay)?,
                    Some(mask) => theta.f_mul_(&mask.f_mul_scalar(-lr * weight_decay)?.f_add_scalar_(1.0)?)?,
                };
            }
            let _ = mean.f_lerp_(&gradient, 1.0 - beta1)?;
            let _ = square.f_mul_scalar_(beta2)?.f_add_(&gradient.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
            let denominator = square.f_sqrt()?.f_div_scalar_(bias2)?.f_add_scalar_(eps)?;
            let _ = theta.f_sub_(&mean.f_div(&denominator)?.f_mul_scalar_(lr / bias1)?)?;
            Ok(())
        })
    }
}

/// Groups the parameters by learning rate, as PEFT does for LoRA+: B and vectors at `ratio` times the rate, the rest
/// at the rate itself.
fn stretches(ratio: Option<f64>, parameters: &Parameters) -> Result<Vec<Stretch>> {
    let Some(ratio) = ratio else {
        return Ok(vec![Stretch { range: 0..parameters.flat().numel() as i64, ratio: 1.0 }]);
    };
    if parameters.names().iter().any(|name| name.contains("lora_embedding_")) {
        bail!(Kind::Input, "`loraplus_lr_ratio`: expected an adapter of linear layers, found one on the embeddings"; hint: "peft gives those a rate of their own, 1e-6: leave the ratio out, or embed_tokens out of target_modules");
    }
    if !parameters.names().iter().any(|name| name.contains("lora_B")) {
        bail!(Kind::Input, "`loraplus_lr_ratio` is for LoRA adapters, which this model does not train"; hint: "call model.add_lora(…) first, or leave the ratio out");
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut begin = 0;
    for (name, leaf) in parameters.names().iter().zip(parameters.leaves()) {
        let end = begin + leaf.numel() as i64;
        let ratio = if name.contains("lora_B") || leaf.dim() == 1 { ratio } else { 1.0 };
        match stretches.last_mut() {
            Some(last) if last.ratio == ratio => last.range.end = end,
            _ => stretches.push(Stretch { range: begin..end, ratio }),
        }
        begin = end;
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eps_is_above_zero_in_f32() {
        let of = |eps| AdamWConfig { eps, ..AdamWConfig::default() }.ensure_valid("adamw");
        assert!([1e-8, 1e-30, LEAST_EPS, 1.0].into_iter().all(|eps| of(eps).is_ok()));
        assert!((LEAST_EPS as f32).is_normal());
        for eps in [0.0, 1e-50, -1e-8, f64::NAN, f64::INFINITY] {
            let error = of(eps).unwrap_err();
            assert!(
                error.message.starts_with("adamw: option `eps`: expected float of at least 1e-37, found "),
                "{error}"
            );
            assert!(error.hint.is_some_and(|hint| hint.contains("divided by 0")));
        }
    }
}
