//! Tensors as script values: made of nested arrays, compared as numbers, with errors in the script's words.

use crate::error::{Error, Kind, Result};
use crate::format::lower_first;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use rhai::Dynamic;
use tch::{Scalar, TchError, Tensor};

/// The tensor that an operation of libtorch gives. What it refuses is a shape or a dimension that the script gave.
pub fn wrap(result: std::result::Result<Tensor, TchError>) -> RhaiResultOf<Handle<Tensor>> {
    Ok(Handle::new(result.map_err(|error| shape_mistake(error.into()))?))
}

fn shape_mistake(error: Error) -> Error {
    if error.kind != Kind::Bug {
        return error;
    }
    let text = error.message.trim_start_matches("libtorch: ").trim_end_matches('.');
    Error::input(lower_first(text)).with_hint("look at the shapes: print(x.shape)")
}

/// A tensor of the numbers in nested arrays of equal lengths.
pub fn of_arrays(values: &[Dynamic]) -> RhaiResultOf<Handle<Tensor>> {
    let (mut flat, mut shape) = (Vec::new(), Vec::new());
    flatten(values, 0, &mut shape, &mut flat)?;
    wrap(Tensor::f_from_slice(&flat).and_then(|flat| flat.f_reshape(&shape)))
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
            flat.push(number.map_err(|kind| Error::input(format!("tensor: expected numbers, found {kind}")))? as f32);
        }
    }
    Ok(())
}

/// All numbers, row after row.
pub fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(x.f_detach()?.f_to_kind(tch::Kind::Double)?.f_reshape([-1])?)?)
}

/// The one number of a tensor.
pub fn item(x: &Tensor) -> Result<f64> {
    if x.numel() != 1 {
        return Err(Error::input(format!("item: expected a tensor of one number, found shape {:?}", x.size())));
    }
    Ok(x.f_reshape([-1])?.f_double_value(&[0])?)
}

/// A number, or the one number of a tensor.
pub fn number(value: &Dynamic) -> Result<Option<f64>> {
    if let Some(tensor) = value.read_lock::<Handle<Tensor>>() {
        return item(&*tensor.read()?).map(Some);
    }
    Ok(value.as_float().ok().or_else(|| value.as_int().ok().map(|int| int as f64)))
}

/// Compares the one number of a tensor with a number, or with that of a tensor. In the tensor's own precision, as
/// PyTorch compares: a tensor of 0.1 in f32 equals 0.1.
pub fn compared(operator: &str, x: &Handle<Tensor>, y: &Dynamic) -> RhaiResultOf<bool> {
    if y.is_unit() && ["==", "!="].contains(&operator) {
        return Ok(operator == "!=");
    }
    Ok(truth(operator, &*x.read()?, y)?)
}

fn truth(operator: &str, x: &Tensor, y: &Dynamic) -> Result<bool> {
    let x = one_number(operator, x)?;
    let result = if let Some(y) = y.read_lock::<Handle<Tensor>>() {
        let y = one_number(operator, &*y.read()?)?.f_to_device(x.device())?;
        match operator {
            "<" => x.f_lt_tensor(&y),
            "<=" => x.f_le_tensor(&y),
            ">" => x.f_gt_tensor(&y),
            ">=" => x.f_ge_tensor(&y),
            "==" => x.f_eq_tensor(&y),
            _ => x.f_ne_tensor(&y),
        }
    } else {
        let y = scalar(operator, y)?;
        match operator {
            "<" => x.f_lt(y),
            "<=" => x.f_le(y),
            ">" => x.f_gt(y),
            ">=" => x.f_ge(y),
            "==" => x.f_eq(y),
            _ => x.f_ne(y),
        }
    };
    Ok(result?.f_int64_value(&[0])? != 0)
}

fn scalar(operator: &str, y: &Dynamic) -> Result<Scalar> {
    match (y.as_int(), y.as_float()) {
        (Ok(int), _) => Ok(Scalar::int(int)),
        (_, Ok(float)) => Ok(Scalar::float(float)),
        _ => {
            let value = describe(y);
            Err(Error::input(format!("`{operator}`: expected a number or a tensor beside a tensor, found {value}")))
        }
    }
}

/// Flat, with one entry.
fn one_number(operator: &str, x: &Tensor) -> Result<Tensor> {
    if x.numel() == 1 {
        return Ok(x.f_reshape([-1])?);
    }
    Err(Error::input(format!("`{operator}`: expected a tensor of one number, found shape {:?}", x.size()))
        .with_hint("compare x.mean() or x.sum(); to compare entry by entry, loop over x.to_array()"))
}
