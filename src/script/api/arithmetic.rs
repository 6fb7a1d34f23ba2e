//! `+`, `-`, `*` and `/` of tensors, with tensors and with numbers of either kind on either side.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::wrap;
use rhai::plugin::*;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// Numbers and tensors are added entry by entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// let y = tensor([3.0, 4.0]);
    /// print((x + y).to_array());
    /// ```
    #[rhai_fn(name = "+", return_raw)]
    pub fn add(x: Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_add(&*y.read()?))
    }

    /// Subtracts entry by entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// let y = tensor([3.0, 4.0]);
    /// print((x - y).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract(x: Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sub(&*y.read()?))
    }

    /// Multiplies entry by entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// let y = tensor([3.0, 4.0]);
    /// print((x * y).to_array());
    /// ```
    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply(x: Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mul(&*y.read()?))
    }

    /// Divides entry by entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// let y = tensor([3.0, 4.0]);
    /// print((x / y).to_array());
    /// ```
    #[rhai_fn(name = "/", return_raw)]
    pub fn divide(x: Tensor, y: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_div(&*y.read()?))
    }

    /// Adds a number to each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x + 2.0).to_array());
    /// ```
    #[rhai_fn(name = "+", return_raw)]
    pub fn add_number(x: Tensor, y: f64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_add_scalar(y))
    }

    /// Adds each entry to a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2.0 + x).to_array());
    /// ```
    #[rhai_fn(name = "+", return_raw)]
    pub fn number_add(y: f64, x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_add_scalar(y))
    }

    /// Adds a number to each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x + 2).to_array());
    /// ```
    #[rhai_fn(name = "+", return_raw)]
    pub fn add_int(x: Tensor, y: i64) -> RhaiResultOf<Tensor> {
        add_number(x, y as f64)
    }

    /// Adds each entry to a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2 + x).to_array());
    /// ```
    #[rhai_fn(name = "+", return_raw)]
    pub fn int_add(y: i64, x: Tensor) -> RhaiResultOf<Tensor> {
        add_number(x, y as f64)
    }

    /// Subtracts a number from each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x - 2.0).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_number(x: Tensor, y: f64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sub_scalar(y))
    }

    /// Subtracts each entry from a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2.0 - x).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn number_subtract(y: f64, x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_rsub_scalar(y))
    }

    /// Subtracts a number from each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x - 2).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_int(x: Tensor, y: i64) -> RhaiResultOf<Tensor> {
        subtract_number(x, y as f64)
    }

    /// Subtracts each entry from a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2 - x).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn int_subtract(y: i64, x: Tensor) -> RhaiResultOf<Tensor> {
        number_subtract(y as f64, x)
    }

    /// Multiplies each entry by a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x * 2.0).to_array());
    /// ```
    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_number(x: Tensor, y: f64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mul_scalar(y))
    }

    /// Multiplies a number by each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2.0 * x).to_array());
    /// ```
    #[rhai_fn(name = "*", return_raw)]
    pub fn number_multiply(y: f64, x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mul_scalar(y))
    }

    /// Multiplies each entry by a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x * 2).to_array());
    /// ```
    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_int(x: Tensor, y: i64) -> RhaiResultOf<Tensor> {
        multiply_number(x, y as f64)
    }

    /// Multiplies a number by each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2 * x).to_array());
    /// ```
    #[rhai_fn(name = "*", return_raw)]
    pub fn int_multiply(y: i64, x: Tensor) -> RhaiResultOf<Tensor> {
        multiply_number(x, y as f64)
    }

    /// Divides each entry by a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x / 2.0).to_array());
    /// ```
    #[rhai_fn(name = "/", return_raw)]
    pub fn divide_number(x: Tensor, y: f64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_div_scalar(y))
    }

    /// Divides a number by each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2.0 / x).to_array());
    /// ```
    #[rhai_fn(name = "/", return_raw)]
    pub fn number_divide(y: f64, x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_reciprocal().and_then(|x| x.f_mul_scalar(y)))
    }

    /// Divides each entry by a number.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((x / 2).to_array());
    /// ```
    #[rhai_fn(name = "/", return_raw)]
    pub fn divide_int(x: Tensor, y: i64) -> RhaiResultOf<Tensor> {
        divide_number(x, y as f64)
    }

    /// Divides a number by each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((2 / x).to_array());
    /// ```
    #[rhai_fn(name = "/", return_raw)]
    pub fn int_divide(y: i64, x: Tensor) -> RhaiResultOf<Tensor> {
        number_divide(y as f64, x)
    }

    /// The matrix product, which Python writes `a @ b`.
    ///
    /// ```rhai
    /// let a = tensor([[1.0, 2.0]]);
    /// let b = tensor([[3.0], [4.0]]);
    /// print(a.matmul(b).item());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn matmul(a: Tensor, b: Tensor) -> RhaiResultOf<Tensor> {
        wrap(a.read()?.f_matmul(&*b.read()?))
    }

    /// The negative of each entry.
    ///
    /// ```rhai
    /// let x = tensor([1.0, 2.0]);
    /// print((-x).to_array());
    /// ```
    #[rhai_fn(name = "-", return_raw)]
    pub fn negate(x: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_neg())
    }
}
