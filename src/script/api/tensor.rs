//! Tensors in scripts: enough to compute your own loss from logits.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::{item as one_number, numbers, of_arrays, wrap};
use crate::train::by_hand;
use crate::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic};
use tch::Kind as Dtype;

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
        of_arrays(&values)
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
        Ok(one_number(&*x.read()?)?)
    }

    /// The numbers as an array, row after row.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_array(x: &mut Tensor) -> RhaiResultOf<Array> {
        Ok(numbers(&*x.read()?)?.into_iter().map(Dynamic::from).collect())
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
        Ok(by_hand::backward(&*x.read()?)?)
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
