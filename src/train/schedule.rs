//! Learning-rate schedules, by the formulas of transformers' `get_scheduler`. Each may begin with a warm-up;
//! transformers calls "constant" with a warm-up "constant_with_warmup".

use crate::bail;
use crate::error::{Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerType {
    Constant,
    Linear,
    Cosine,
}

crate::choices!(
    SchedulerType,
    [
        ("linear", SchedulerType::Linear),
        ("cosine", SchedulerType::Cosine),
        ("constant", SchedulerType::Constant),
        ("constant_with_warmup", SchedulerType::Constant),
    ]
);

/// Gives the factor of the learning rate at each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub kind: SchedulerType,
    pub steps: u64,
    pub warmup_steps: u64,
}

impl Schedule {
    /// `warmup` is a number of steps, or below 1 a fraction of all steps, rounded up.
    pub fn new(kind: SchedulerType, steps: u64, warmup: f64) -> Result<Self> {
        if !warmup.is_finite() || warmup < 0.0 {
            bail!(
                Kind::Input,
                "`warmup`: expected a number of steps, or a fraction of all steps below 1, found {warmup}"
            );
        }
        let warmup_steps = if warmup < 1.0 { (warmup * steps as f64).ceil() } else { warmup } as u64;
        Ok(Schedule { kind, steps, warmup_steps })
    }

    /// The factor for optimizer step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / rest;
        match self.kind {
            SchedulerType::Constant => 1.0,
            // Not 1 - progress, which differs where all steps are warm-up.
            SchedulerType::Linear => self.steps.saturating_sub(step) as f64 / rest,
            SchedulerType::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
        }
    }
}
