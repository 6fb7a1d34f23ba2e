//! Tensors in scripts: enough to build a loss of one's own from logits.

use crate::format::lower_first;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::{Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic};
use std::sync::atomic::{AtomicU64, Ordering};
use tch::{Kind as Dtype, Tensor as Values};

/// How often a script has gone backward.
pub static BACKWARDS: AtomicU64 = AtomicU64::new(0);

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// A tensor from an array of numbers, or of equally long arrays of them.
    ///
    /// ```rhai
    /// let t = tensor([[1.0, 2.0], [3.0, 4.0]]);
    /// print(t.shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tensor(values: Array) -> RhaiResultOf<Tensor> {
        let (mut flat, mut shape) = (Vec::new(), Vec::new());
        flatten(&values, 0, &mut shape, &mut flat)?;
        wrap(Values::f_from_slice(&flat).and_then(|flat| flat.f_reshape(&shape)))
    }

    /// The sizes of the dimensions.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).shape);
    /// ```
    #[rhai_fn(get = "shape", global, pure, return_raw)]
    pub fn shape(x: &mut Tensor) -> RhaiResultOf<Array> {
        Ok(x.read()?.size().into_iter().map(Dynamic::from).collect())
    }

    /// The one number that the tensor holds.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).sum().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn item(x: &mut Tensor) -> RhaiResultOf<f64> {
        let x = x.read()?;
        if x.numel() != 1 {
            return Err(
                Error::input(format!("item: expected a tensor of one number, found shape {:?}", x.size())).into()
            );
        }
        Ok(x.f_reshape([-1]).and_then(|flat| flat.f_double_value(&[0])).map_err(Error::from)?)
    }

    /// The numbers as an array, row after row.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_array(x: &mut Tensor) -> RhaiResultOf<Array> {
        let x = x.read()?;
        let flat = x
            .f_detach()
            .and_then(|x| x.f_to_kind(Dtype::Double))
            .and_then(|x| x.f_reshape([-1]))
            .map_err(Error::from)?;
        let values = Vec::<f64>::try_from(flat).map_err(Error::from)?;
        Ok(values.into_iter().map(Dynamic::from).collect())
    }

    /// Compute the gradients of everything that this number depends on.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     model.forward(batch).loss.backward();
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn backward(x: &mut Tensor) -> RhaiResultOf<()> {
        let x = x.read()?;
        if x.numel() != 1 {
            return Err(Error::input(format!("backward: expected a tensor of one number, found shape {:?}", x.size()))
                .with_hint("take the mean() or sum() first")
                .into());
        }
        if !x.requires_grad() {
            return Err(Error::input("backward: this number does not depend on any trainable parameter")
                .with_hint("add an adapter with add_lora, and run forward(batch) in training")
                .into());
        }
        x.f_backward().map_err(|error| already_used(error.into()))?;
        BACKWARDS.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The numbers without their history: no gradient goes through them.
    ///
    /// ```rhai
    /// print(tensor([1.0]).detach().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn detach(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_detach())
    }

    /// The sum of all numbers.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).sum().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sum(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sum(None))
    }

    /// The sum over one dimension; negative dimensions count from the last.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).sum(-1).to_array());
    /// ```
    #[rhai_fn(name = "sum", global, pure, return_raw)]
    pub fn sum_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sum_dim_intlist(dim, false, None))
    }

    /// The mean of all numbers.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).mean().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn mean(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mean(None))
    }

    /// The mean over one dimension.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).mean(0).to_array());
    /// ```
    #[rhai_fn(name = "mean", global, pure, return_raw)]
    pub fn mean_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mean_dim(dim, false, None))
    }

    /// The logarithm of the softmax over one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).log_softmax(-1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn log_softmax(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log_softmax(dim, None))
    }

    /// The softmax over one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).softmax(-1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn softmax(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_softmax(dim, None))
    }

    /// The exponential of each number.
    ///
    /// ```rhai
    /// print(tensor([0.0]).exp().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn exp(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_exp())
    }

    /// The natural logarithm of each number.
    ///
    /// ```rhai
    /// print(tensor([1.0]).log().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn log(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log())
    }

    /// The natural logarithm of each number, as `log`.
    ///
    /// ```rhai
    /// print(tensor([1.0]).ln().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn ln(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log())
    }

    /// The absolute value of each number.
    ///
    /// ```rhai
    /// print(tensor([-2.0]).abs().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn abs(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_abs())
    }

    /// Each number to a power.
    ///
    /// ```rhai
    /// print(tensor([3.0]).pow(2.0).item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn pow(x: &mut Tensor, exponent: f64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_pow_tensor_scalar(exponent))
    }

    /// Each number to a whole power.
    ///
    /// ```rhai
    /// print(tensor([3.0]).pow(2).item());
    /// ```
    #[rhai_fn(name = "pow", global, pure, return_raw)]
    pub fn pow_int(x: &mut Tensor, exponent: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_pow_tensor_scalar(exponent))
    }

    /// A part of one dimension: `length` entries from `start` on.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).narrow(0, 1, 2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn narrow(x: &mut Tensor, dim: i64, start: i64, length: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_narrow(dim, start, length))
    }

    /// The entries at the given numbers of one dimension, one for each position of the others.
    ///
    /// ```rhai
    /// let scores = tensor([[0.1, 0.9], [0.8, 0.2]]);
    /// print(scores.gather(1, tensor([[1], [0]])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn gather(x: &mut Tensor, dim: i64, index: Tensor) -> RhaiResultOf<Tensor> {
        let index = index.read()?.f_to_kind(Dtype::Int64).map_err(Error::from)?;
        wrap(x.read()?.f_gather(dim, &index, false))
    }
}

pub(super) fn wrap(result: std::result::Result<Values, tch::TchError>) -> RhaiResultOf<Handle<Values>> {
    Ok(Handle::new(result.map_err(|error| shape_mistake(error.into()))?))
}

/// What libtorch refuses in these functions is a shape or a dimension that the script gave.
/// What libtorch says of sizes and dimensions that do not fit, without its own name before it.
fn shape_mistake(error: Error) -> Error {
    if error.kind != crate::Kind::Bug {
        return error;
    }
    let text = error.message.trim_start_matches("libtorch: ").trim_end_matches('.');
    Error::input(lower_first(text)).with_hint("look at the shapes: print(x.shape)")
}

fn already_used(error: Error) -> Error {
    match error.message.contains("second time") {
        true => Error::input("backward: this number went backward already")
            .with_hint("run forward(batch) again, or add the losses before going backward once"),
        false => error,
    }
}

fn flatten(values: &[Dynamic], depth: usize, shape: &mut Vec<i64>, flat: &mut Vec<f32>) -> Result<()> {
    let length = values.len() as i64;
    match shape.get(depth) {
        None => shape.push(length),
        Some(&expected) if expected != length => {
            return Err(Error::input(format!("tensor: expected {expected} entries in each row, found {length}")));
        }
        Some(_) => {}
    }
    for value in values {
        if let Ok(row) = value.as_array_ref() {
            flatten(&row, depth + 1, shape, flat)?;
        } else if shape.len() > depth + 1 {
            return Err(Error::input("tensor: expected rows of equal depth, found a number beside a row"));
        } else {
            let number = value.as_float().or_else(|_| value.as_int().map(|int| int as f64));
            flat.push(number.map_err(|found| Error::input(format!("tensor: expected numbers, found {found}")))? as f32);
        }
    }
    Ok(())
}
