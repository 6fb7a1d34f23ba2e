//! Trainable parameters: f32 leaves of autograd that are views of one flat buffer, and gradients that are
//! views of another.
//!
//! The model uses the leaves, the optimizer the flat buffers: autograd accumulates gradients where the
//! optimizer reads them.

use crate::error::{Error, Result};
use crate::native;
use tch::{no_grad, Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Parameters {
    names: Vec<String>,
    leaves: Vec<Tensor>,
    /// The gradients of the leaves, which autograd accumulates into.
    gradients: Vec<Tensor>,
    /// f32 `[total]`: the leaves one after another.
    flat: Tensor,
    /// f32 `[total]`: the gradients one after another.
    flat_gradient: Tensor,
    /// `[total]`: 1 if weight decay applies to the value, 0 if not; `None` if it applies to all.
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
        let flat_gradient = flat.f_zeros_like()?;
        let (mut leaves, mut gradients) = (Vec::with_capacity(shapes.len()), Vec::with_capacity(shapes.len()));
        let mut offset = 0;
        for ((_, shape), size) in shapes.iter().zip(&sizes) {
            let view = |flat: &Tensor| flat.f_narrow(0, offset, *size)?.f_view(shape.as_slice())?.f_detach();
            let leaf = view(&flat)?.f_set_requires_grad(true)?;
            let gradient = view(&flat_gradient)?;
            native::set_grad(&leaf, &gradient)?;
            leaves.push(leaf);
            gradients.push(gradient);
            offset += size;
        }
        let names = shapes.iter().map(|(name, _)| name.clone()).collect();
        Ok(Parameters { names, leaves, gradients, flat, flat_gradient, decayed: None })
    }

    /// The same parameters: leaves, values and gradients are shared.
    pub fn shallow_clone(&self) -> Self {
        let shared = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        Parameters {
            names: self.names.clone(),
            leaves: shared(&self.leaves),
            gradients: shared(&self.gradients),
            flat: self.flat.shallow_clone(),
            flat_gradient: self.flat_gradient.shallow_clone(),
            decayed: self.decayed.as_ref().map(Tensor::shallow_clone),
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    /// The gradients of the leaves, in their order.
    pub fn gradients(&self) -> &[Tensor] {
        &self.gradients
    }

    pub fn leaf(&self, name: &str) -> Option<&Tensor> {
        self.names.iter().position(|known| known == name).map(|at| &self.leaves[at])
    }

    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// 1 for values that weight decay applies to, 0 for others; `None` if it applies to all.
    pub fn decayed(&self) -> Option<&Tensor> {
        self.decayed.as_ref()
    }

    /// Limits weight decay to the parameters whose name `is_decayed` accepts.
    pub fn limit_decay(&mut self, is_decayed: impl Fn(&str) -> bool) -> Result<()> {
        let decay = |name: &str| if is_decayed(name) { 1.0 } else { 0.0 };
        let pieces = self.names.iter().zip(&self.leaves);
        let pieces = pieces.map(|(name, leaf)| leaf.f_detach()?.f_flatten(0, -1)?.f_full_like(decay(name)));
        let pieces = pieces.collect::<std::result::Result<Vec<_>, _>>()?;
        self.decayed = Some(Tensor::f_cat(&pieces, 0)?);
        Ok(())
    }

    /// The number of trainable values.
    pub fn count(&self) -> u64 {
        self.flat.numel() as u64
    }

    /// What the values take on disk, in f32.
    pub fn bytes(&self) -> u64 {
        self.count() * 4
    }

    /// Overwrites one leaf in place. The shapes must be equal.
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

    /// The gradients as one flat tensor; zero for a leaf that the loss does not depend on.
    pub fn flat_gradient(&self) -> &Tensor {
        &self.flat_gradient
    }

    /// The Euclidean norm of all gradients together.
    pub fn gradient_norm(&self) -> Result<f64> {
        let gradient = &self.flat_gradient;
        match (gradient.device(), gradient.f_kind()?) {
            (Device::Cpu, Dtype::Float) => Ok(native::norm(gradient)),
            _ => Ok(gradient.f_norm()?.f_double_value(&[])?),
        }
    }

    /// A value that is NaN or infinite, if there is one. Makes no copy, because the values may be all weights of
    /// a model.
    pub fn not_finite(&self) -> Result<Option<f64>> {
        if self.count() == 0 {
            return Ok(None);
        }
        // Both are NaN if any value is.
        let (min, max) = self.flat.f_detach()?.f_aminmax(None, false)?;
        let ends = [min.f_double_value(&[])?, max.f_double_value(&[])?];
        Ok(ends.into_iter().find(|value| !value.is_finite()))
    }

    /// Overwrites all gradients from a flat copy.
    pub fn restore_gradients(&mut self, flat: &Tensor) -> Result<()> {
        Ok(no_grad(|| self.flat_gradient.f_copy_(flat))?)
    }

    /// Sets every gradient to zero.
    pub fn zero_gradients(&mut self) -> Result<()> {
        let _ = no_grad(|| self.flat_gradient.f_zero_())?;
        Ok(())
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale_gradients(&mut self, factor: f64) -> Result<()> {
        let _ = no_grad(|| self.flat_gradient.f_mul_scalar_(factor))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_is_found() {
        let shapes = [("a".to_owned(), vec![300, 70]), ("b".to_owned(), vec![5])];
        let mut parameters = Parameters::zeros(&shapes, Device::Cpu).unwrap();
        assert_eq!(parameters.not_finite().unwrap(), None);
        for (value, at) in [(f64::INFINITY, 0), (f64::NEG_INFINITY, 20_999), (f64::NAN, 21_004)] {
            let mut flat = parameters.snapshot().unwrap();
            let _ = flat.narrow(0, at, 1).fill_(value);
            parameters.restore(&flat).unwrap();
            let actual = parameters.not_finite().unwrap().unwrap();
            assert!(actual == value || (actual.is_nan() && value.is_nan()), "{actual} for {value}");
            let _ = flat.zero_();
            parameters.restore(&flat).unwrap();
        }
        assert_eq!(Parameters::zeros(&[], Device::Cpu).unwrap().not_finite().unwrap(), None);
    }
}
