//! Tensors made, read, converted and changed in place; going backward. What is computed from them is in
//! `tensor_entries.rs`, `tensor_reduction.rs` and `tensor_shape.rs`.

use crate::model::device::{device_name, dtype_name, parse_device};
use crate::options;
use crate::options::{OptionSet, OptionType};
use crate::random::Key;
use crate::script::api::OptionsOfFunction;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::script::values::tensor::{
    entries, item as one_entry, of_arrays, operand, random, shape_mistake, sizes, wrap,
};
use crate::train::by_hand;
use crate::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use tch::{no_grad, Device, Kind as Dtype, Scalar};

options! {
    #[derive(Debug, Clone)]
    struct TensorOptions {
        /// "f32", "f64", "bf16", "f16", "i64" or "bool".
        dtype: Option<TensorDtype> = None, words "\"f32\", of truth values \"bool\"";
        /// "cpu", "cuda" or "cuda:1".
        device: String = "cpu".to_owned();
        /// Whether `backward` computes a gradient for it.
        requires_grad: bool = false;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TensorDtype(Dtype);

crate::choices!(
    TensorDtype,
    [
        ("f32", TensorDtype(Dtype::Float)),
        ("f64", TensorDtype(Dtype::Double)),
        ("bf16", TensorDtype(Dtype::BFloat16)),
        ("f16", TensorDtype(Dtype::Half)),
        ("i64", TensorDtype(Dtype::Int64)),
        ("bool", TensorDtype(Dtype::Bool))
    ]
);

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("tensor", TensorOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// A tensor from an array of numbers, or of equally long arrays of them.
    ///
    /// Numbers become f32, which holds whole numbers up to 16,777,216; `true` and `false` become bool.
    ///
    /// ```rhai
    /// let t = tensor([[1.0, 2.0], [3.0, 4.0]]);
    /// print(t.shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tensor(values: Array) -> RhaiResultOf<Tensor> {
        Ok(Handle::new(of_arrays(&values, None, Device::Cpu)?))
    }

    /// A tensor from arrays, of another dtype, on another device, or with a gradient.
    ///
    /// ```rhai
    /// let x = tensor([3.0], #{ requires_grad: true });
    /// (x * x).sum().backward();
    /// print(x.grad.item());
    /// print(tensor([1, 2], #{ dtype: "i64" }).dtype);
    /// ```
    #[rhai_fn(name = "tensor", return_raw)]
    pub fn tensor_with(values: Array, options: Map) -> RhaiResultOf<Tensor> {
        let TensorOptions { dtype, device, requires_grad } = Options::read("tensor", options)?;
        let x = of_arrays(&values, dtype.map(|dtype| dtype.0), parse_device(&device)?)?;
        wrap(x.f_set_requires_grad(requires_grad))
    }

    /// Zeros of a shape.
    ///
    /// ```rhai
    /// print(zeros([2, 3]).shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn zeros(shape: Array) -> RhaiResultOf<Tensor> {
        wrap(tch::Tensor::f_zeros(sizes("zeros", &shape)?, (Dtype::Float, Device::Cpu)))
    }

    /// Ones of a shape.
    ///
    /// ```rhai
    /// print(ones([2]).to_array());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ones(shape: Array) -> RhaiResultOf<Tensor> {
        wrap(tch::Tensor::f_ones(sizes("ones", &shape)?, (Dtype::Float, Device::Cpu)))
    }

    /// Zeros of the shape, dtype and device of a tensor.
    ///
    /// ```rhai
    /// print(zeros_like(tensor([1.0, 2.0])).to_array());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn zeros_like(x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_zeros_like())
    }

    /// Ones of the shape, dtype and device of a tensor.
    ///
    /// ```rhai
    /// print(ones_like(tensor([1.0, 2.0])).to_array());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ones_like(x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_ones_like())
    }

    /// The whole numbers from 0 to `end`, without it, as i64.
    ///
    /// ```rhai
    /// print(arange(3).to_array());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn arange(end: i64) -> RhaiResultOf<Tensor> {
        wrap(tch::Tensor::f_arange(Scalar::int(end), (Dtype::Int64, Device::Cpu)))
    }

    /// Uniform random numbers from 0 to 1, the same for the same seed.
    ///
    /// They are not those of torch for that seed.
    ///
    /// ```rhai
    /// print(rand([2], 0).shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn rand(shape: Array, seed: i64) -> RhaiResultOf<Tensor> {
        let key = Key::new(seed as u64).named("rand");
        Ok(random("rand", &shape, |at| key.uniform(at))?)
    }

    /// Standard normal random numbers, the same for the same seed.
    ///
    /// They are not those of torch for that seed.
    ///
    /// ```rhai
    /// print(randn([2], 0).shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn randn(shape: Array, seed: i64) -> RhaiResultOf<Tensor> {
        let key = Key::new(seed as u64).named("randn");
        Ok(random("randn", &shape, |at| key.normal(at))?)
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

    /// The type of the numbers: "f32", "bf16", "i64", "bool" and so on.
    ///
    /// ```rhai
    /// print(tensor([1.0]).dtype);
    /// ```
    #[rhai_fn(get = "dtype", global, pure, return_raw)]
    pub fn dtype(x: &mut Tensor) -> RhaiResultOf<String> {
        Ok(dtype_name(x.read()?.f_kind().map_err(Error::from)?).to_owned())
    }

    /// Where the numbers are: "cpu" or "cuda:0".
    ///
    /// ```rhai
    /// print(tensor([1.0]).device);
    /// ```
    #[rhai_fn(get = "device", global, pure, return_raw)]
    pub fn device(x: &mut Tensor) -> RhaiResultOf<String> {
        Ok(device_name(x.read()?.device()))
    }

    /// The tensor in another dtype, such as "f32", or on another device, such as "cuda".
    ///
    /// ```rhai
    /// print(tensor([1.0, 0.0]).to("bool").to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to(x: &mut Tensor, target: &str) -> RhaiResultOf<Tensor> {
        match TensorDtype::named(target) {
            Ok(TensorDtype(dtype)) => wrap(x.read()?.f_to_kind(dtype)),
            Err(_) if target == "cpu" || target.starts_with("cuda") => {
                wrap(x.read()?.f_to_device(parse_device(target)?))
            }
            Err(mismatch) => Err(mismatch.error("to: the dtype or device", target).into()),
        }
    }

    /// The one number that the tensor holds: a float, or a whole number or truth value by its dtype.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).sum().item());
    /// print(tensor([1, 3, 2]).argmax().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn item(x: &mut Tensor) -> RhaiResultOf<Dynamic> {
        Ok(one_entry(&*x.read()?)?)
    }

    /// The numbers as an array, row after row: floats, or whole numbers or truth values by the dtype.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_array(x: &mut Tensor) -> RhaiResultOf<Array> {
        Ok(entries(&*x.read()?)?)
    }

    /// The gradient that `backward` added up, or `()` before the first.
    ///
    /// ```rhai
    /// let x = tensor([2.0], #{ requires_grad: true });
    /// x.pow(3).sum().backward();
    /// print(x.grad.item());
    /// ```
    #[rhai_fn(get = "grad", global, pure, return_raw)]
    pub fn grad(x: &mut Tensor) -> RhaiResultOf<Dynamic> {
        let gradient = x.read()?.f_grad().map_err(Error::from)?;
        Ok(if gradient.defined() { Dynamic::from(Handle::new(gradient)) } else { Dynamic::UNIT })
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

    /// Adds a tensor or number in place, without a gradient.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.add_(tensor([10.0, 20.0]));
    /// print(x.to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn add_(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<()> {
        in_place("add_", x, &y, |x, y| x.f_add_(y))
    }

    /// Subtracts a tensor or number in place, without a gradient: `p.sub_(p.grad * lr)` is a step of SGD.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.sub_(1);
    /// print(x.to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn sub_(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<()> {
        in_place("sub_", x, &y, |x, y| x.f_sub_(y))
    }

    /// Multiplies by a tensor or number in place, without a gradient.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.mul_(0.5);
    /// print(x.to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn mul_(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<()> {
        in_place("mul_", x, &y, |x, y| x.f_mul_(y))
    }

    /// Overwrites the tensor with another or with a number, without a gradient.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// x.copy_(tensor([3.0, 4.0]));
    /// print(x.to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn copy_(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<()> {
        in_place("copy_", x, &y, |x, y| y.f_expand_as(&*x).and_then(|y| x.f_copy_(&y)).map(|()| x.shallow_clone()))
    }
}

/// Changes a tensor. `y` may be the tensor itself.
fn in_place(
    name: &str,
    x: &Handle<tch::Tensor>,
    y: &Dynamic,
    change: impl Fn(&mut tch::Tensor, &tch::Tensor) -> Result<tch::Tensor, tch::TchError>,
) -> RhaiResultOf<()> {
    let y = operand(name, &*x.read()?, y)?;
    let _ = no_grad(|| change(&mut *x.write()?, &y).map_err(|error| shape_mistake(error.into())))?;
    Ok(())
}
