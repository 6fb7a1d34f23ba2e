//! Functions of tensors entry by entry: activations, bounds, comparisons, and choices by a mask.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::{as_mask, compared_by_entry, operand, wrap};
use crate::Error;
use rhai::plugin::*;
use rhai::Dynamic;
use tch::Scalar;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

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

    /// The logistic function of each entry: 1 / (1 + e⁻ˣ).
    ///
    /// ```rhai
    /// print(tensor([0.0]).sigmoid().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sigmoid(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sigmoid())
    }

    /// The logarithm of the sigmoid of each entry, exact where the sigmoid would be 0.
    ///
    /// ```rhai
    /// print(tensor([-200.0]).log_sigmoid().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn log_sigmoid(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log_sigmoid())
    }

    /// Each entry, or 0 where it is negative.
    ///
    /// ```rhai
    /// print(tensor([-1.0, 2.0]).relu().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn relu(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_relu())
    }

    /// Each entry times its sigmoid.
    ///
    /// ```rhai
    /// print(tensor([1.0]).silu().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn silu(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_silu())
    }

    /// The Gaussian error linear unit of each entry, x · Φ(x), as torch's without approximation.
    ///
    /// ```rhai
    /// print(tensor([1.0]).gelu().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn gelu(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_gelu("none"))
    }

    /// The hyperbolic tangent of each entry.
    ///
    /// ```rhai
    /// print(tensor([0.5]).tanh().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn tanh(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_tanh())
    }

    /// The square root of each entry.
    ///
    /// ```rhai
    /// print(tensor([4.0]).sqrt().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sqrt(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sqrt())
    }

    /// The square of each entry.
    ///
    /// ```rhai
    /// print(tensor([3.0]).square().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn square(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_square())
    }

    /// The logarithm of 1 + x for each entry x, exact where x is small.
    ///
    /// ```rhai
    /// print(tensor([1e-6]).log1p().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn log1p(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log1p())
    }

    /// -1, 0 or 1 by the sign of each entry.
    ///
    /// ```rhai
    /// print(tensor([-2.5, 0.0, 3.0]).sign().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sign(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sign())
    }

    /// Each entry rounded to a whole number; halves go to the even one, as in torch.
    ///
    /// ```rhai
    /// print(tensor([0.5, 1.5, 2.4]).round().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn round(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_round())
    }

    /// True where the entry is neither NaN nor infinite.
    ///
    /// ```rhai
    /// print(tensor([1.0]).log().isfinite().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn isfinite(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_isfinite())
    }

    /// Each entry, but at least `min` and at most `max`; `()` leaves a side open.
    ///
    /// ```rhai
    /// print(tensor([-1.0, 0.5, 2.0]).clamp(0, 1).to_array());
    /// print(tensor([-1.0, 0.5, 2.0]).clamp((), 1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn clamp(x: &mut Tensor, min: Dynamic, max: Dynamic) -> RhaiResultOf<Tensor> {
        let x = x.read()?;
        match (bound("min", &min)?, bound("max", &max)?) {
            (Some(min), Some(max)) => wrap(x.f_clamp(min, max)),
            (Some(min), None) => wrap(x.f_clamp_min(min)),
            (None, Some(max)) => wrap(x.f_clamp_max(max)),
            (None, None) => wrap(Ok(x.shallow_clone())),
        }
    }

    /// The larger of two entries, of tensors or of a tensor and a number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 4.0]).maximum(tensor([3.0, 2.0])).to_array());
    /// print(tensor([1.0, 4.0]).maximum(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn maximum(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        let x = x.read()?;
        wrap(x.f_maximum(&operand("maximum", &x, &y)?))
    }

    /// The smaller of two entries, of tensors or of a tensor and a number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 4.0]).minimum(tensor([3.0, 2.0])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn minimum(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        let x = x.read()?;
        wrap(x.f_minimum(&operand("minimum", &x, &y)?))
    }

    /// True where the entry is less than the other, of a tensor or a number.
    ///
    /// `x < y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).lt(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn lt(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("lt", &*x.read()?, &y)?)
    }

    /// True where the entry is at most the other, of a tensor or a number.
    ///
    /// `x <= y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).le(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn le(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("le", &*x.read()?, &y)?)
    }

    /// True where the entry is greater than the other, of a tensor or a number.
    ///
    /// `x > y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).gt(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn gt(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("gt", &*x.read()?, &y)?)
    }

    /// True where the entry is at least the other, of a tensor or a number.
    ///
    /// `x >= y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).ge(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn ge(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("ge", &*x.read()?, &y)?)
    }

    /// True where the entry is equal to the other, of a tensor or a number.
    ///
    /// `x == y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).eq(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn eq(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("eq", &*x.read()?, &y)?)
    }

    /// True where the entry is different from the other, of a tensor or a number.
    ///
    /// `x != y` compares tensors of one number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).ne(2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn ne(x: &mut Tensor, y: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(compared_by_entry("ne", &*x.read()?, &y)?)
    }

    /// True where the entry is 0 or false.
    ///
    /// ```rhai
    /// print(tensor([0.0, 2.0]).logical_not().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn logical_not(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_logical_not())
    }

    /// True where both entries are neither 0 nor false.
    ///
    /// ```rhai
    /// print(tensor([0.0, 2.0]).logical_and(tensor([1.0, 1.0])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn logical_and(x: &mut Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_logical_and(&*y.read()?))
    }

    /// True where one of the entries is neither 0 nor false.
    ///
    /// ```rhai
    /// print(tensor([0.0, 2.0]).logical_or(tensor([0.0, 0.0])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn logical_or(x: &mut Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_logical_or(&*y.read()?))
    }

    /// The entries of `x` where the condition is true, and those of `y` elsewhere.
    ///
    /// In the condition, every number but 0 is true. `x` and `y` are tensors or numbers.
    ///
    /// ```rhai
    /// let x = tensor([-1.0, 2.0]);
    /// print(where(x.gt(0), x, 0).to_array());
    /// ```
    #[rhai_fn(name = "where", return_raw)]
    pub fn choose(condition: Tensor, x: Dynamic, y: Dynamic) -> RhaiResultOf<Tensor> {
        let condition = as_mask(&*condition.read()?)?;
        let like = match (x.read_lock::<Tensor>(), y.read_lock::<Tensor>()) {
            (Some(x), _) => x.read()?.shallow_clone(),
            (None, Some(y)) => y.read()?.shallow_clone(),
            (None, None) => condition.f_to_kind(tch::Kind::Float).map_err(Error::from)?,
        };
        let (x, y) = (operand("where", &like, &x)?, operand("where", &like, &y)?);
        wrap(x.f_where_self(&condition, &y))
    }

    /// The entries, with `value` where the mask is neither 0 nor false.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0]).masked_fill(tensor([0, 1]), -1e9).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn masked_fill(x: &mut Tensor, mask: Tensor, value: Dynamic) -> RhaiResultOf<Tensor> {
        let value = bound("value", &value)?.ok_or_else(|| Error::input("masked_fill: expected a number, found ()"))?;
        wrap(x.read()?.f_masked_fill(&as_mask(&*mask.read()?)?, value))
    }
}

/// A number, or `None` for `()`.
fn bound(name: &str, value: &Dynamic) -> Result<Option<Scalar>, Error> {
    match (value.is_unit(), value.as_int(), value.as_float()) {
        (true, ..) => Ok(None),
        (_, Ok(int), _) => Ok(Some(Scalar::int(int))),
        (_, _, Ok(float)) => Ok(Some(Scalar::float(float))),
        _ => Err(Error::input(format!("{name}: expected a number, found {}", describe(value)))),
    }
}
