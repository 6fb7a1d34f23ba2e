//! PiSSA (Meng and others, 2024) and OLoRA (Büyükakyüz, 2024): A and B are initialised from W, and
//! the base becomes the residual W - s B₀A₀.
//!
//! PEFT writes the residual into the base. Here the base is mapped, shared and never written to:
//! the adapter keeps the initial factors as a second low-rank part, frozen and subtracted,
//! `W x + s BA x - s B₀A₀ x`. So other adapters can share the base.

use super::spec::Init;
use super::targets::Target;
use crate::error::Result;
use tch::{Kind as Dtype, Tensor};

/// A₀ and B₀ of one layer: the initial A and B. Their scaled product is the difference of W and the residual.
#[derive(Debug)]
pub struct InitialFactors {
    /// `[r, in_features]`
    pub a: Tensor,
    /// `[out_features, r]`
    pub b: Tensor,
}

impl InitialFactors {
    pub fn shallow_clone(&self) -> Self {
        InitialFactors { a: self.a.shallow_clone(), b: self.b.shallow_clone() }
    }

    /// The factors of a weight `[out_features, in_features]` by the decomposition that `init` names; f32.
    ///
    /// PiSSA: W = U Σ Vᵀ; A₀ = √(Σᵣ/s) Vᵣᵀ and B₀ = Uᵣ √(Σᵣ/s).
    /// OLoRA: W = Q R; A₀ = the first r rows of R, B₀ = the first r columns of Q.
    ///
    /// Decomposed in f64: in f32 the leading singular vectors are exact only to eps · σ₁ / gap, so that processors
    /// disagree from the fifth digit on, and a saved adapter would act differently on another machine.
    pub fn of(init: Init, target: &Target, weight: &Tensor) -> Result<Self> {
        let weight = weight.f_detach()?.f_to_kind(Dtype::Double)?;
        let (columns, rows) = match init {
            Init::Olora => Tensor::f_linalg_qr(&weight, "reduced")?,
            _ => {
                let (u, sigma, v) = weight.f_svd(true, true)?;
                let root = sigma.f_div_scalar(target.scale)?.f_sqrt()?;
                (u.f_mul(&root)?, v.f_mul(&root)?.f_transpose(0, 1)?)
            }
        };
        // Narrowed first: the whole factors are as large as the weight.
        let a = rows.f_narrow(0, 0, target.r)?.f_to_kind(Dtype::Float)?.f_contiguous()?;
        let b = columns.f_narrow(1, 0, target.r)?.f_to_kind(Dtype::Float)?.f_contiguous()?;
        Ok(InitialFactors { a, b })
    }
}
