//! `<`, `<=`, `>`, `>=`, `==` and `!=` of tensors that hold one number, which compare as that
//! number, with numbers and with each other. Without these the engine calls all of them unequal.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::compared;
use rhai::plugin::*;
use rhai::Dynamic;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// True where the one number of the tensor is less than the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// let loss = tensor([2.0]).mean();
    /// if loss < 2.5 { print("better"); }
    /// ```
    #[rhai_fn(name = "<", return_raw)]
    pub fn less(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared("<", &x, &y)
    }

    /// True where the number is less than the one number of the tensor.
    ///
    /// ```rhai
    /// if 1.5 < tensor([2.0]) { print("better"); }
    /// ```
    #[rhai_fn(name = "<", return_raw)]
    pub fn number_less(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared(">", &y, &x)
    }

    /// True where the one number of the tensor is at most the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// print(tensor([2.0]) <= 2);
    /// ```
    #[rhai_fn(name = "<=", return_raw)]
    pub fn at_most(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared("<=", &x, &y)
    }

    /// True where the number is at most the one number of the tensor.
    ///
    /// ```rhai
    /// print(2 <= tensor([2.0]));
    /// ```
    #[rhai_fn(name = "<=", return_raw)]
    pub fn number_at_most(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared(">=", &y, &x)
    }

    /// True where the one number of the tensor is greater than the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// print(tensor([2.0]) > 1.5);
    /// ```
    #[rhai_fn(name = ">", return_raw)]
    pub fn greater(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared(">", &x, &y)
    }

    /// True where the number is greater than the one number of the tensor.
    ///
    /// ```rhai
    /// print(2.5 > tensor([2.0]));
    /// ```
    #[rhai_fn(name = ">", return_raw)]
    pub fn number_greater(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared("<", &y, &x)
    }

    /// True where the one number of the tensor is at least the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// print(tensor([2.0]) >= 2);
    /// ```
    #[rhai_fn(name = ">=", return_raw)]
    pub fn at_least(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared(">=", &x, &y)
    }

    /// True where the number is at least the one number of the tensor.
    ///
    /// ```rhai
    /// print(2 >= tensor([2.0]));
    /// ```
    #[rhai_fn(name = ">=", return_raw)]
    pub fn number_at_least(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared("<=", &y, &x)
    }

    /// True where the one number of the tensor is equal to the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// print(tensor([2.0]) == 2);
    /// ```
    #[rhai_fn(name = "==", return_raw)]
    pub fn equal(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared("==", &x, &y)
    }

    /// True where the number is equal to the one number of the tensor.
    ///
    /// ```rhai
    /// print(2 == tensor([2.0]));
    /// ```
    #[rhai_fn(name = "==", return_raw)]
    pub fn number_equal(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared("==", &y, &x)
    }

    /// True where the one number of the tensor differs from the other, a number or a tensor of one.
    ///
    /// ```rhai
    /// print(tensor([2.0]) != 3);
    /// ```
    #[rhai_fn(name = "!=", return_raw)]
    pub fn differs(x: Tensor, y: Dynamic) -> RhaiResultOf<bool> {
        compared("!=", &x, &y)
    }

    /// True where the number differs from the one number of the tensor.
    ///
    /// ```rhai
    /// print(3 != tensor([2.0]));
    /// ```
    #[rhai_fn(name = "!=", return_raw)]
    pub fn number_differs(x: Dynamic, y: Tensor) -> RhaiResultOf<bool> {
        compared("!=", &y, &x)
    }
}
