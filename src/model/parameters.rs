//! Trainable parameters: f32 leaves of autograd over one flat buffer.
//!
//! The optimizer works on the flat buffer in a few large operations; the model works on
//! the leaves, which are views of it.

use crate::error::{Error, Result};
use tch::{no_grad, Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Parameters {
    names: Vec<String>,
    leaves: Vec<Tensor>,
    /// f32 `[total]`: the leaves one after another.
    flat: Tensor,
    /// 1 where weight decay applies, 0 elsewhere, `[total]`; absent if it applies to all.
    decayed: Option<Tensor>,
}

impl Parameters {
    /// Zeros of the given shapes.
    pub fn zeros(shapes: &[(String, Vec<i64>)], device: Device) -> Result<Self> {
        Self::of_kind(shapes, Dtype::Float, device)
    }

    /// As [`Self::zeros`], in f64 for gradient checks.
    pub fn of_kind(shapes: &[(String, Vec<i64>)], dtype: Dtype, device: Device) -> Result<Self> {
        let sizes: Vec<i64> = shapes.iter().map(|(_, shape)| shape.iter().product()).collect();
        let flat = Tensor::f_zeros([sizes.iter().sum::<i64>()], (dtype, device))?;
        let mut leaves = Vec::with_capacity(shapes.len());
        let mut offset = 0;
        for ((_, shape), size) in shapes.iter().zip(&sizes) {
            let leaf = flat.f_narrow(0, offset, *size)?.f_view(shape.as_slice())?.f_detach()?;
            leaves.push(leaf.f_set_requires_grad(true)?);
            offset += size;
        }
        Ok(Parameters { names: shapes.iter().map(|(name, _)| name.clone()).collect(), leaves, flat, decayed: None })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    pub fn leaf(&self, name: &str) -> Option<&Tensor> {
        self.names.iter().position(|known| known == name).map(|at| &self.leaves[at])
    }

    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// 1 where weight decay applies, 0 elsewhere; `None` if it applies to every value.
    pub fn decayed(&self) -> Option<&Tensor> {
        self.decayed.as_ref()
    }

    /// Keeps weight decay to the parameters whose name `keeps` accepts.
    pub fn limit_decay(&mut self, keeps: impl Fn(&str) -> bool) -> Result<()> {
        let share = |name: &str| if keeps(name) { 1.0 } else { 0.0 };
        let pieces = self.names.iter().zip(&self.leaves);
        let pieces = pieces.map(|(name, leaf)| leaf.f_detach()?.f_flatten(0, -1)?.f_full_like(share(name)));
        let pieces = pieces.collect::<std::result::Result<Vec<_>, _>>()?;
        self.decayed = Some(Tensor::f_cat(&pieces, 0)?);
        Ok(())
    }

    /// The number of trainable values.
    pub fn count(&self) -> u64 {
        self.flat.numel() as u64
    }

    /// Overwrites one leaf in place; the shape must be equal.
    pub fn set(&mut self, index: usize, value: &Tensor) -> Result<()> {
        let (name, leaf) = (&self.names[index], &mut self.leaves[index]);
        if leaf.size() != value.size() {
            return Err(Error::model(format!("`{name}`: expected shape {:?}, found {:?}", leaf.size(), value.size())));
        }
        Ok(no_grad(|| leaf.f_copy_(value))?)
    }

    /// Overwrites all values from a flat copy made by [`Self::snapshot`].
    pub fn restore(&mut self, flat: &Tensor) -> Result<()> {
        Ok(no_grad(|| self.flat.f_copy_(flat))?)
    }

    /// A copy of all values.
    pub fn snapshot(&self) -> Result<Tensor> {
        let mut copy = self.flat.f_zeros_like()?;
        no_grad(|| copy.f_copy_(&self.flat))?;
        Ok(copy)
    }

    /// The gradients as one flat tensor; zeros where a leaf took no part in the loss.
    /// `None` if no leaf has a gradient at all.
    pub fn flat_gradient(&self) -> Result<Option<Tensor>> {
        let mut any = false;
        let mut pieces = Vec::with_capacity(self.leaves.len());
        for leaf in &self.leaves {
            let gradient = leaf.f_grad()?;
            any |= gradient.defined();
            pieces.push(if gradient.defined() {
                gradient.f_flatten(0, -1)?
            } else {
                leaf.f_detach()?.f_zeros_like()?.f_flatten(0, -1)?
            });
        }
        Ok(if any { Some(no_grad(|| Tensor::f_cat(&pieces, 0))?) } else { None })
    }

    /// Sets every gradient to zero.
    pub fn zero_gradients(&mut self) -> Result<()> {
        for leaf in &mut self.leaves {
            let mut gradient = leaf.f_grad()?;
            if gradient.defined() {
                let _ = gradient.f_detach_()?.f_zero_()?;
            }
        }
        Ok(())
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale_gradients(&mut self, factor: f64) -> Result<()> {
        for leaf in &self.leaves {
            let mut gradient = leaf.f_grad()?;
            if gradient.defined() {
                let _ = no_grad(|| gradient.f_mul_scalar_(factor))?;
            }
        }
        Ok(())
    }
}
