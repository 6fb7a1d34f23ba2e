//! Matrices in 4-bit NormalFloat (NF4; Dettmers et al. 2023, "QLoRA"), as in bitsandbytes: quantised from a dense
//! matrix, dequantised, and used as the frozen weight of a linear layer.
//!
//! Codes, scales and dequantised values equal those of bitsandbytes' CPU build, bit for bit.

use super::{checked, new_tensor, raw, Raw};
use crate::error::{Error, Kind, Result};
use std::convert::Infallible;
use std::ffi::{c_char, c_void};
use std::ptr::null;
use tch::{Device, Kind as Dtype, Tensor};

/// Values that share a scale.
const BLOCK: i64 = 64;
/// The number of values that are converted at a time; a multiple of the block.
const PIECE: i64 = 1 << 19;
/// Nested scales that share a scale.
const NESTED_BLOCK: i64 = 256;

/// As `RawNf4` in `nf4.h`.
#[repr(C)]
pub(super) struct RawNf4 {
    codes: Raw,
    scales: Raw,
    map: Raw,
    nested_scales: Raw,
    pairs: Raw,
    offset: f64,
    block: i64,
    nested_block: i64,
    rows: i64,
    columns: i64,
}

extern "C" {
    fn lorhai_nf4_quantize(x: Raw, block: i64, codes: Raw, scales: Raw) -> *mut c_char;
    fn lorhai_nf4_dense(w: *const RawNf4, out: Raw) -> *mut c_char;
    fn lorhai_nf4_pairs(out: *mut *mut c_void) -> *mut c_char;
}

/// The largest magnitude of each block ("absmax").
#[derive(Debug)]
pub enum Scales {
    /// f32 `[blocks]`
    Flat(Tensor),
    /// Quantised themselves ("double quantisation"): scale i is
    /// `map[codes[i]] · absmax[i / block] + offset`.
    Nested {
        /// uint8 `[blocks]`
        codes: Tensor,
        /// f32 `[256]`
        map: Tensor,
        /// f32 `[ceil(blocks / block)]`
        absmax: Tensor,
        offset: f32,
        block: i64,
    },
}

/// A 4-bit matrix: value i, counted row by row, is `NF4[code i] · scale[i / block]`.
#[derive(Debug)]
pub struct Nf4 {
    /// uint8 `[ceil(rows · columns / 2), 1]`: two codes a byte, the first in the upper half.
    pub codes: Tensor,
    pub scales: Scales,
    /// Values that share a scale.
    pub block: i64,
    /// `[rows, columns]`
    pub shape: [i64; 2],
    /// f32 `[256, 2]`: the two values of each byte, for devices without our own loops.
    pairs: Tensor,
}

impl Nf4 {
    /// Quantises a matrix of any floating-point dtype, after rounding it to `dtype` (f32, bf16 or f16; any other is
    /// treated as f32). Converts it on the CPU, piece by piece, so that it needs little memory besides the result,
    /// which is on the device of the matrix.
    ///
    /// # Errors
    /// `Kind::Model` for values that are not finite.
    pub fn quantize(dense: &Tensor, dtype: Dtype, double_quant: bool) -> Result<Nf4> {
        let &[rows, columns] = dense.size().as_slice() else {
            return Err(Error::bug(format!("expected a matrix to quantise, found shape {:?}", dense.size())));
        };
        // The loops support f32 and bf16.
        let loop_dtype = if dtype == Dtype::BFloat16 { Dtype::BFloat16 } else { Dtype::Float };
        let rounded = if dtype == Dtype::Half { Dtype::Half } else { loop_dtype };
        let (count, flat) = (rows * columns, dense.f_detach()?.f_reshape([-1])?);
        let codes = Tensor::f_empty([(count + 1) / 2, 1], (Dtype::Uint8, Device::Cpu))?;
        let absmax = Tensor::f_empty([(count + BLOCK - 1) / BLOCK], (Dtype::Float, Device::Cpu))?;
        for begin in (0..count).step_by(PIECE as usize) {
            let length = PIECE.min(count - begin);
            let piece = flat.f_narrow(0, begin, length)?.f_to_device(Device::Cpu)?.f_to_kind(rounded)?;
            let piece = piece.f_to_kind(loop_dtype)?.f_contiguous()?;
            let codes = codes.f_narrow(0, begin / 2, (length + 1) / 2)?;
            let absmax = absmax.f_narrow(0, begin / BLOCK, (length + BLOCK - 1) / BLOCK)?;
            // SAFETY (here and below): the tensors outlive the call, and C++ exceptions are caught.
            checked(unsafe { lorhai_nf4_quantize(raw(&piece), BLOCK, raw(&codes), raw(&absmax)) })?;
        }
        if !absmax.f_isfinite()?.f_all()?.f_is_nonzero()? {
            return Err(Error::new(Kind::Model, "expected finite numbers to quantise, found NaN or infinity"));
        }
        let scales = if double_quant { nested(&absmax)? } else { Scales::Flat(absmax) };
        Nf4::new(codes, scales, BLOCK, [rows, columns])?.to_device(dense.device())
    }

    /// Builds it from stored parts. Checks that their dtypes and sizes match.
    pub fn new(codes: Tensor, scales: Scales, block: i64, shape: [i64; 2]) -> Result<Nf4> {
        let count = shape[0].checked_mul(shape[1]).filter(|_| shape.iter().all(|&size| size > 0));
        let count = count.ok_or_else(|| Error::model(format!("expected a matrix, found shape {shape:?}")))?;
        // Blocks begin at whole bytes.
        if block < 2 || block % 2 != 0 || block > 1 << 16 {
            return Err(Error::model(format!("expected an even block size, found {block}")));
        }
        ensure_elements("codes", &codes, Dtype::Uint8, (count + 1) / 2)?;
        let blocks = (count + block - 1) / block;
        match &scales {
            Scales::Flat(absmax) => ensure_elements("absmax", absmax, Dtype::Float, blocks)?,
            Scales::Nested { codes, map, absmax, block, .. } => {
                if *block < 1 {
                    return Err(Error::model(format!("expected a nested block size of at least 1, found {block}")));
                }
                ensure_elements("absmax", codes, Dtype::Uint8, blocks)?;
                ensure_elements("nested_quant_map", map, Dtype::Float, 256)?;
                ensure_elements("nested_absmax", absmax, Dtype::Float, (blocks + block - 1) / block)?;
            }
        }
        let pairs = new_tensor(|out| unsafe { lorhai_nf4_pairs(out) })?.f_to_device(codes.device())?;
        Ok(Nf4 { codes: codes.f_contiguous()?, scales, block, shape, pairs })
    }

    /// The 16 values of NF4, ascending: f32 `[16]`.
    pub fn values() -> Result<Tensor> {
        Ok(new_tensor(|out| unsafe { lorhai_nf4_pairs(out) })?.f_narrow(0, 0, 16)?.f_select(1, 1)?.f_contiguous()?)
    }

    /// The matrix in `dtype`: `[rows, columns]`.
    pub fn dense(&self, dtype: Dtype) -> Result<Tensor> {
        let out = Tensor::f_empty(self.shape, (dtype, self.codes.device()))?;
        checked(unsafe { lorhai_nf4_dense(&self.raw(), raw(&out)) })?;
        Ok(out)
    }

    /// Another handle on the same matrix. Copies nothing.
    pub fn shallow_clone(&self) -> Nf4 {
        match self.each(|tensor| Ok::<_, Infallible>(tensor.shallow_clone())) {
            Ok(clone) => clone,
            Err(never) => match never {},
        }
    }

    pub fn to_device(&self, device: Device) -> Result<Nf4> {
        self.each(|tensor| Ok(tensor.f_to_device(device)?))
    }

    /// The same matrix with `change` applied to every tensor.
    fn each<E>(&self, change: impl Fn(&Tensor) -> Result<Tensor, E>) -> Result<Nf4, E> {
        let scales = match &self.scales {
            Scales::Flat(absmax) => Scales::Flat(change(absmax)?),
            Scales::Nested { codes, map, absmax, offset, block } => Scales::Nested {
                codes: change(codes)?,
                map: change(map)?,
                absmax: change(absmax)?,
                offset: *offset,
                block: *block,
            },
        };
        let (codes, pairs) = (change(&self.codes)?, change(&self.pairs)?);
        Ok(Nf4 { codes, scales, block: self.block, shape: self.shape, pairs })
    }

    /// The bytes of codes and scales.
    pub fn bytes(&self) -> u64 {
        let scales: Vec<&Tensor> = match &self.scales {
            Scales::Flat(absmax) => vec![absmax],
            Scales::Nested { codes, map, absmax, .. } => vec![codes, map, absmax],
        };
        scales.into_iter().chain([&self.codes]).map(tensor_bytes).sum()
    }

    pub(super) fn raw(&self) -> RawNf4 {
        let (scales, map, nested_scales, offset, nested_block) = match &self.scales {
            Scales::Flat(absmax) => (raw(absmax), null(), null(), 0.0, 1),
            Scales::Nested { codes, map, absmax, offset, block } => {
                (raw(codes), raw(map), raw(absmax), f64::from(*offset), *block)
            }
        };
        let [rows, columns] = self.shape;
        let (codes, pairs, block) = (raw(&self.codes), raw(&self.pairs), self.block);
        RawNf4 { codes, scales, map, nested_scales, pairs, offset, block, nested_block, rows, columns }
    }
}

/// The bytes of a tensor's elements.
pub fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

fn ensure_elements(name: &str, tensor: &Tensor, kind: Dtype, count: i64) -> Result<()> {
    let tensor_kind = tensor.f_kind()?;
    if tensor_kind == kind && tensor.numel() as i64 == count && tensor.is_contiguous() {
        return Ok(());
    }
    let size = tensor.size();
    Err(Error::model(format!("{name}: expected {count} elements of {kind:?}, found shape {size:?} of {tensor_kind:?}")))
}

/// Quantises the scales to 8 bits, after subtracting their mean. The mean is libtorch's, as in bitsandbytes, because
/// its rounding depends on the number of threads.
fn nested(absmax: &Tensor) -> Result<Scales> {
    let offset = absmax.f_mean(Dtype::Float)?;
    let map = dynamic_map()?;
    let (codes, scales) = quantize_blockwise(&absmax.f_sub(&offset)?, &map, NESTED_BLOCK)?;
    let offset = offset.f_double_value(&[])? as f32;
    Ok(Scales::Nested { codes, map, absmax: scales, offset, block: NESTED_BLOCK })
}

/// bitsandbytes' "dynamic" 8-bit values, ascending: f32 `[256]`. Each of seven powers of ten has twice as many
/// fractions as the one before, of both signs; 0 and 1 are added (Dettmers 2015, "8-Bit Approximations for
/// Parallelism in Deep Learning").
pub fn dynamic_map() -> Result<Tensor> {
    let mut values = vec![0.0, 1.0];
    for power in 0..7 {
        let edges = Tensor::f_linspace(0.1, 1.0, (1 << power) + 1, (Dtype::Float, Device::Cpu))?;
        let count = edges.size()[0] - 1;
        let middles = edges.f_narrow(0, 0, count)?.f_add(&edges.f_narrow(0, 1, count)?)?.f_div_scalar(2.0)?;
        let scaled = middles.f_mul_scalar(10_f64.powi(power - 6))?;
        for value in Vec::<f64>::try_from(scaled.f_to_kind(Dtype::Double)?)? {
            values.extend([value, -value]);
        }
    }
    values.sort_by(f64::total_cmp);
    Ok(Tensor::f_from_slice(&values)?.f_to_kind(Dtype::Float)?)
}

/// Divides each value of `x` by the largest magnitude of its block and replaces it by the nearest value of `map`:
/// codes uint8 `[count]` and magnitudes f32 `[blocks]`. Looks up the nearest value in a table of 65,536 values
/// evenly spaced from -1 to 1, as bitsandbytes' CPU build does, so that the codes are equal.
fn quantize_blockwise(x: &Tensor, map: &Tensor, block: i64) -> Result<(Tensor, Tensor)> {
    const TABLE_SIZE: i64 = 1 << 16;
    let count = x.size()[0];
    let blocks = (count + block - 1) / block;
    let padded = x.f_constant_pad_nd([0, blocks * block - count])?.f_view([blocks, block])?;
    let absmax = padded.f_abs()?.f_amax([1], false)?;
    let relative = padded.f_mul(&absmax.f_reciprocal()?.f_unsqueeze(1)?)?.f_clamp(-1.0, 1.0)?;
    let half = (TABLE_SIZE - 1) as f64 / 2.0;
    let index = relative.f_add_scalar(1.0)?.f_mul_scalar(half)?.f_add_scalar(0.5)?.f_floor()?;
    // In a block of zeros the relative values are NaN; its codes are 0.
    let is_zero = absmax.f_eq(0.0)?.f_unsqueeze(1)?;
    let index = index.f_masked_fill(&is_zero, 0.0)?.f_to_kind(Dtype::Int)?.f_view([-1])?;
    let codes = nearest(map, TABLE_SIZE)?.f_index_select(0, &index)?.f_narrow(0, 0, count)?;
    Ok((codes.f_contiguous()?, absmax))
}

/// For `count` numbers evenly spaced from -1 to 1, the index of the nearest of `values`: uint8 `[count]`.
fn nearest(values: &Tensor, count: i64) -> Result<Tensor> {
    let rest = values.size()[0] - 1;
    let bounds = values.f_narrow(0, 0, rest)?.f_add(&values.f_narrow(0, 1, rest)?)?.f_div_scalar(2.0)?;
    let at = Tensor::f_arange(count, (Dtype::Double, Device::Cpu))?;
    let at = at.f_div_scalar((count - 1) as f64)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
    Ok(Tensor::f_bucketize(&at.f_to_kind(Dtype::Float)?, &bounds, true, false)?.f_to_kind(Dtype::Uint8)?)
}
