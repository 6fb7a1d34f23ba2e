//! Which frozen matrices of a decoder are packed for the CPU (`native/packed.cpp`), and why.
//!
//! Packing pays where laying a matrix out takes about as long as multiplying it: on processors that multiply tiles in
//! bf16 (AMX). The choice depends on the processor, the dtype and the memory, not on a stopwatch, because packed products
//! round differently.

use super::config::Config;
use super::decoder::Decoder;
use super::linear::{Linear, Weight};
use super::processor;
use super::shapes::linear_shapes;
use crate::bail;
use crate::error::{Kind, Result};
use crate::format;
use crate::hub::weights::Weights;
use crate::interrupt;
use crate::native::{self, tensor_bytes};
use crate::process_memory::free;
use tch::{Device, Kind as Dtype, Tensor};

/// The variable that chooses: 1 packs every frozen matrix that can be packed, 0 none.
pub const VARIABLE: &str = "LORHAI_PACKED_WEIGHTS";

/// The elements of the largest output head that is packed. Larger ones are a good part of a model: two packed copies would
/// raise the peak memory of a step by more than they speed it up.
const MAX_HEAD: i64 = 64 << 20;

/// The memory that must be free, in relation to the matrices: for two copies of each, and as much again for steps.
const FREE_FOR_EACH_BYTE: u64 = 3;

/// What the user or the processor chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// By the variable: also matrices that have no file to be read from again, and in dtypes in which it gains little.
    All,
    /// The matrices that stay mapped, where the processor gains.
    Mapped,
    None,
}

/// The choice for weights in `dtype`.
///
/// # Errors
/// A variable that is neither 0 nor 1.
pub fn choice(dtype: Dtype) -> Result<Packing> {
    chosen(std::env::var(VARIABLE).ok().as_deref(), dtype, processor::multiplies_tiles())
}

fn chosen(variable: Option<&str>, dtype: Dtype, multiplies_tiles: bool) -> Result<Packing> {
    let choice = match variable.map(str::trim) {
        None | Some("") if dtype == Dtype::BFloat16 && multiplies_tiles => Packing::Mapped,
        None | Some("" | "0") => Packing::None,
        Some("1") => Packing::All,
        Some(other) => bail!(Kind::Input, "{VARIABLE}: expected 0 or 1, found \"{other}\"";
            hint: "leave it out to pack weights where this processor gains from it"),
    };
    let can_pack = native::can_pack(dtype, processor::multiplies_bf16());
    Ok(if can_pack { choice } else { Packing::None })
}

/// What is packed here, and why, for `doctor`.
pub fn reason() -> Result<String> {
    if choice(Dtype::Float)? == Packing::All {
        return Ok(format!("all that can be: {VARIABLE}"));
    }
    Ok(match choice(Dtype::BFloat16)? {
        Packing::Mapped => format!("in bf16: this processor multiplies tiles ({})", processor::TILES),
        Packing::None if processor::multiplies_tiles() => format!("none: {VARIABLE}"),
        _ => format!("none: this processor does not multiply tiles ({})", processor::TILES),
    })
}

impl Decoder {
    /// Packs the matrices that `packing` names, if there is memory for it; `weights` are the mapped files that some of
    /// them lie in. Call it before another thread has a handle on the matrices.
    pub fn pack(&mut self, packing: Packing, weights: Option<&Weights>) -> Result<()> {
        if self.device != Device::Cpu || packing == Packing::None {
            return Ok(());
        }
        let is_mapped = |tensor: &Tensor| weights.is_some_and(|weights| weights.holds(tensor));
        let matrices: Vec<&Tensor> = self.linears().filter_map(|linear| matrix(linear, packing, &is_mapped)).collect();
        let bytes: u64 = matrices.iter().map(|matrix| tensor_bytes(matrix)).sum();
        let needed = bytes.saturating_mul(FREE_FOR_EACH_BYTE);
        if let Some(free) = free(Device::Cpu).filter(|free| packing == Packing::Mapped && *free < needed) {
            self.notes.push(format!(
                "the weights are not packed for this processor, though steps would be faster: that takes {} of free memory, and \
                 {} are free",
                format::bytes(needed),
                format::bytes(free)
            ));
            return Ok(());
        }
        for matrix in matrices {
            // SAFETY: the mappings are private, and nothing writes to the weights of a base.
            unsafe { native::pack(matrix, is_mapped(matrix))? };
        }
        Ok(())
    }

    /// The bytes of the packed copies beyond those of the weights, which a mapped matrix does not take in memory then.
    pub fn packed_bytes(&self) -> u64 {
        self.dense_matrices().map(native::packed_bytes).sum()
    }

    /// Makes the packed copies now, so that a step measured afterwards does not count them.
    pub fn make_packed_copies(&self) -> Result<()> {
        self.dense_matrices().try_for_each(|matrix| {
            interrupt::check()?;
            native::make_packed_copies(matrix)
        })
    }

    fn dense_matrices(&self) -> impl Iterator<Item = &Tensor> {
        self.linears().filter_map(|linear| linear.weight.dense().ok())
    }
}

/// The bytes of packed copies beyond those of the weights, of a model with `config` whose weights are mapped in `dtype`.
///
/// # Errors
/// As [`choice`].
pub fn planned_bytes(config: &Config, dtype: Dtype) -> Result<u64> {
    let packing = choice(dtype)?;
    let is_packed = |layer, elements| match packing {
        Packing::All => true,
        Packing::Mapped => is_packed_if_mapped(layer, elements),
        Packing::None => false,
    };
    let linears = linear_shapes(config).into_iter();
    let elements = linears.map(|linear| (linear.layer, linear.in_features * linear.out_features));
    let packed = elements.filter(|&(layer, elements)| is_packed(layer, elements));
    Ok(packed.map(|(_, elements)| elements as u64).sum::<u64>() * dtype.elt_size_in_bytes() as u64)
}

/// The matrix of a linear layer if it is to be packed.
fn matrix<'a>(linear: &'a Linear, packing: Packing, is_mapped: &dyn Fn(&Tensor) -> bool) -> Option<&'a Tensor> {
    let Weight::Dense(weight) = &linear.weight else { return None };
    let is_chosen = match packing {
        Packing::All => !weight.requires_grad(),
        Packing::Mapped => is_packed_if_mapped(linear.shape.layer, weight.numel() as i64) && is_mapped(weight),
        Packing::None => false,
    };
    (is_chosen && !native::is_packed(weight, i64::MAX)).then_some(weight)
}

/// Whether a matrix of so many elements is packed if it is mapped; `layer` is `None` for the output head.
fn is_packed_if_mapped(layer: Option<usize>, elements: i64) -> bool {
    layer.is_some() || elements <= MAX_HEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_processor() {
        let chosen = |variable, tiles| chosen(variable, Dtype::Float, tiles).unwrap();
        assert_eq!(chosen(None, true), Packing::None, "f32 gains little");
        assert_eq!(chosen(Some("0"), true), Packing::None);
        assert_eq!(chosen(Some(" "), true), Packing::None);
        let all = if cfg!(target_arch = "x86_64") { Packing::All } else { Packing::None };
        assert_eq!(chosen(Some("1"), false), all);
    }

    #[test]
    fn bf16_is_packed_where_the_processor_multiplies_tiles() {
        let chosen = |variable, tiles| chosen(variable, Dtype::BFloat16, tiles).unwrap();
        let by_tiles =
            if processor::multiplies_bf16() && cfg!(target_arch = "x86_64") { Packing::Mapped } else { Packing::None };
        assert_eq!(chosen(None, true), by_tiles);
        assert_eq!(chosen(None, false), Packing::None);
        assert_eq!(chosen(Some("0"), true), Packing::None);
    }

    #[test]
    fn another_value_is_refused_by_name() {
        let error = chosen(Some("yes"), Dtype::Float, false).unwrap_err();
        assert_eq!(error.message, "LORHAI_PACKED_WEIGHTS: expected 0 or 1, found \"yes\"");
    }
}
