//! `<`, `<=`, `>`, `>=`, `==` and `!=` of tensors that hold one number, which compare as that
//! number, with numbers and with each other. Without these the engine calls all of them unequal.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use crate::Error;
use rhai::plugin::*;
use rhai::Dynamic;
use tch::Tensor as Values;

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

/// In the tensor's own precision, as PyTorch compares: a tensor of 0.1 in f32 equals 0.1.
fn compared(operator: &str, x: &Handle<Values>, y: &Dynamic) -> RhaiResultOf<bool> {
    if y.is_unit() && ["==", "!="].contains(&operator) {
        return Ok(operator == "!=");
    }
    let x = x.read()?;
    one_number(operator, &x)?;
    let result = if let Some(y) = y.read_lock::<Handle<Values>>() {
        let y = y.read()?;
        one_number(operator, &y)?;
        let (x, y) = (flat(&x)?, flat(&y)?);
        let y = y.f_to_device(x.device()).map_err(Error::from)?;
        match operator {
            "<" => x.f_lt_tensor(&y),
            "<=" => x.f_le_tensor(&y),
            ">" => x.f_gt_tensor(&y),
            ">=" => x.f_ge_tensor(&y),
            "==" => x.f_eq_tensor(&y),
            _ => x.f_ne_tensor(&y),
        }
    } else {
        let y = match (y.as_int(), y.as_float()) {
            (Ok(int), _) => tch::Scalar::int(int),
            (_, Ok(float)) => tch::Scalar::float(float),
            _ => {
                let found = describe(y);
                let text = format!("`{operator}`: expected a number or a tensor beside a tensor, found {found}");
                return Err(Error::input(text).into());
            }
        };
        match operator {
            "<" => x.f_lt(y),
            "<=" => x.f_le(y),
            ">" => x.f_gt(y),
            ">=" => x.f_ge(y),
            "==" => x.f_eq(y),
            _ => x.f_ne(y),
        }
    };
    let truth = result.and_then(|truth| truth.f_reshape([-1])).and_then(|truth| truth.f_int64_value(&[0]));
    Ok(truth.map_err(Error::from)? != 0)
}

fn flat(x: &Values) -> RhaiResultOf<Values> {
    Ok(x.f_reshape([-1]).map_err(Error::from)?)
}

fn one_number(operator: &str, x: &Values) -> RhaiResultOf<()> {
    if x.numel() == 1 {
        return Ok(());
    }
    let text = format!("`{operator}`: expected a tensor of one number, found shape {:?}", x.size());
    Err(Error::input(text)
        .with_hint("compare x.mean() or x.sum(); to compare entry by entry, loop over x.to_array()")
        .into())
}
