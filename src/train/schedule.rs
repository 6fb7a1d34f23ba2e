//! Learning-rate schedules, by the formulas of transformers' `get_scheduler`. Any of them may begin with
//! a warm-up; transformers has one before "constant" only under the name "constant_with_warmup".

use crate::bail;
use crate::error::{Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Constant,
    Linear,
    Cosine,
}

crate::choices!(
    Shape,
    [
        ("linear", Shape::Linear),
        ("cosine", Shape::Cosine),
        ("constant", Shape::Constant),
        ("constant_with_warmup", Shape::Constant),
    ]
);

/// The factor on the learning rate at each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub shape: Shape,
    pub steps: u64,
    pub warmup_steps: u64,
}

impl Schedule {
    /// `warmup` below 1 is a share of all steps, rounded up; from 1 on it is a number of steps.
    pub fn new(shape: Shape, steps: u64, warmup: f64) -> Result<Self> {
        if !warmup.is_finite() || warmup < 0.0 {
            bail!(Kind::Input, "`warmup`: expected a share of the steps below 1, or a number of steps, found {warmup}");
        }
        let warmup_steps = if warmup < 1.0 { (warmup * steps as f64).ceil() } else { warmup } as u64;
        Ok(Schedule { shape, steps, warmup_steps })
    }

    /// The factor for optimizer step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / rest;
        match self.shape {
            Shape::Constant => 1.0,
            // Not 1 - progress: they differ where all steps are warm-up.
            Shape::Linear => self.steps.saturating_sub(step) as f64 / rest,
            Shape::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
        }
    }
}
