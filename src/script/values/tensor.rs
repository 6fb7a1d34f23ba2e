//! Tensors as script values: made of nested arrays, compared as numbers, with errors in the script's words.

use crate::error::{Error, Kind, Result};
use crate::format::lower_first;
use crate::model::device::dtype_name;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use rhai::{Array, Dynamic, Map};
use std::ops::{Range, RangeInclusive};
use tch::{Device, Kind as Dtype, Scalar, TchError, Tensor};

/// The tensor that an operation of libtorch gives. What it refuses is a shape or a dimension that the script gave.
pub fn wrap(result: std::result::Result<Tensor, TchError>) -> RhaiResultOf<Handle<Tensor>> {
    Ok(Handle::new(result.map_err(|error| shape_mistake(error.into()))?))
}

/// An error of libtorch about shapes, as one of the script.
pub fn shape_mistake(error: Error) -> Error {
    if error.kind != Kind::Bug {
        return error;
    }
    let text = error.message.trim_start_matches("libtorch: ").trim_end_matches('.');
    Error::input(lower_first(text)).with_hint("look at the shapes: print(x.shape)")
}

/// A tensor of the numbers in nested arrays of equal lengths. Numbers become f32 and truth values bool, unless `dtype`
/// says otherwise.
///
/// # Errors
/// Rows of different lengths, other values than numbers, and whole numbers that the dtype cannot hold.
pub fn of_arrays(values: &[Dynamic], dtype: Option<Dtype>, device: Device) -> Result<Tensor> {
    let (mut flat, mut shape) = (Vec::new(), Vec::new());
    flatten(values, 0, &mut shape, &mut flat)?;
    let are_truths = !flat.is_empty() && flat.iter().all(|number| matches!(number, Number::Truth(_)));
    let dtype = dtype.unwrap_or(if are_truths { Dtype::Bool } else { Dtype::Float });
    let flat = if matches!(dtype, Dtype::Int64 | Dtype::Bool) {
        Tensor::f_from_slice(&flat.iter().map(|number| number.whole(dtype)).collect::<Result<Vec<i64>>>()?)?
    } else {
        Tensor::f_from_slice(&flat.iter().map(|number| number.float(dtype)).collect::<Result<Vec<f64>>>()?)?
    };
    Ok(flat.f_to_kind(dtype)?.f_reshape(&shape)?.f_to_device(device)?)
}

/// An entry of an array that becomes a tensor.
#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
    Truth(bool),
}

impl Number {
    fn of(value: &Dynamic) -> Result<Self> {
        let int = || value.as_int().ok().map(Number::Int);
        let truth = || value.as_bool().ok().map(Number::Truth);
        let number = value.as_float().ok().map(Number::Float).or_else(int).or_else(truth);
        number.ok_or_else(|| Error::input(format!("tensor: expected numbers, found {}", describe(value))))
    }

    fn whole(self, dtype: Dtype) -> Result<i64> {
        match self {
            Number::Int(int) if dtype == Dtype::Int64 || [0, 1].contains(&int) => Ok(int),
            Number::Truth(truth) => Ok(i64::from(truth)),
            Number::Int(int) => Err(Error::input(format!("tensor: expected true or false, found {int}"))),
            Number::Float(float) => Err(Error::input(format!("tensor: expected whole numbers, found {float}"))
                .with_hint("leave dtype out: floats become f32")),
        }
    }

    /// Fractions are rounded to the dtype, as everywhere; a whole number must be kept.
    fn float(self, dtype: Dtype) -> Result<f64> {
        let int = match self {
            Number::Float(float) => return Ok(float),
            Number::Truth(truth) => i64::from(truth),
            Number::Int(int) => int,
        };
        let digits = match dtype {
            Dtype::Double => 53,
            Dtype::Half => 11,
            Dtype::BFloat16 => 8,
            _ => 24,
        };
        let significant = 64 - int.unsigned_abs().leading_zeros() - int.unsigned_abs().trailing_zeros().min(63);
        if int == 0 || significant <= digits {
            return Ok(int as f64);
        }
        let name = dtype_name(dtype);
        Err(Error::input(format!("tensor: {name} cannot hold {int}: it would be rounded"))
            .with_hint("write #{ dtype: \"i64\" } or \"f64\", or give a float where rounding is meant"))
    }
}

fn flatten(values: &[Dynamic], depth: usize, shape: &mut Vec<i64>, flat: &mut Vec<Number>) -> Result<()> {
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
            flat.push(Number::of(value)?);
        }
    }
    Ok(())
}

/// All entries, row after row: floats, whole numbers or truth values, by the dtype.
pub fn entries(x: &Tensor) -> Result<Array> {
    let flat = x.f_detach()?.f_reshape([-1])?;
    Ok(match flat.f_kind()? {
        Dtype::Bool => {
            Vec::<i64>::try_from(flat.f_to_kind(Dtype::Int64)?)?.into_iter().map(|n| (n != 0).into()).collect()
        }
        Dtype::Int64 | Dtype::Int | Dtype::Int16 | Dtype::Int8 | Dtype::Uint8 => {
            Vec::<i64>::try_from(flat.f_to_kind(Dtype::Int64)?)?.into_iter().map(Dynamic::from).collect()
        }
        _ => Vec::<f64>::try_from(flat.f_to_kind(Dtype::Double)?)?.into_iter().map(Dynamic::from).collect(),
    })
}

/// The one entry of a tensor.
pub fn item(x: &Tensor) -> Result<Dynamic> {
    match (x.numel(), entries(x)?.pop()) {
        (1, Some(entry)) => Ok(entry),
        _ => Err(Error::input(format!("item: expected a tensor of one number, found shape {:?}", x.size()))),
    }
}

/// A number, or the one number of a tensor.
pub fn number(value: &Dynamic) -> Result<Option<f64>> {
    if let Some(tensor) = value.read_lock::<Handle<Tensor>>() {
        let entry = item(&*tensor.read()?)?;
        return Ok(entry.as_float().ok().or_else(|| entry.as_int().ok().map(|int| int as f64)));
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
    let one = match y.read_lock::<Handle<Tensor>>() {
        Some(y) => Some(one_number(operator, &*y.read()?)?.f_to_device(x.device())?),
        None => None,
    };
    let truth = match one {
        Some(y) => with_tensor(operator, &x, &y)?,
        None => with_number(operator, &x, scalar(operator, y)?)?,
    };
    Ok(truth.f_int64_value(&[0])? != 0)
}

/// Compares entry by entry with a tensor or a number; a tensor of truth values.
pub fn compared_by_entry(name: &str, x: &Tensor, y: &Dynamic) -> Result<Handle<Tensor>> {
    let result = match y.read_lock::<Handle<Tensor>>() {
        Some(y) => with_tensor(name, x, &*y.read()?),
        None => with_number(name, x, scalar(name, y)?),
    };
    Ok(Handle::new(result.map_err(|error| shape_mistake(error.into()))?))
}

fn with_tensor(operator: &str, x: &Tensor, y: &Tensor) -> std::result::Result<Tensor, TchError> {
    match operator {
        "<" | "lt" => x.f_lt_tensor(y),
        "<=" | "le" => x.f_le_tensor(y),
        ">" | "gt" => x.f_gt_tensor(y),
        ">=" | "ge" => x.f_ge_tensor(y),
        "==" | "eq" => x.f_eq_tensor(y),
        _ => x.f_ne_tensor(y),
    }
}

fn with_number(operator: &str, x: &Tensor, y: Scalar) -> std::result::Result<Tensor, TchError> {
    match operator {
        "<" | "lt" => x.f_lt(y),
        "<=" | "le" => x.f_le(y),
        ">" | "gt" => x.f_gt(y),
        ">=" | "ge" => x.f_ge(y),
        "==" | "eq" => x.f_eq(y),
        _ => x.f_ne(y),
    }
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
    Err(Error::input(format!("`{operator}`: expected a tensor of one number, found shape {:?}", x.size())).with_hint(
        "compare x.mean() or x.sum(); x.lt(y), x.le(y), x.gt(y), x.ge(y), x.eq(y) and x.ne(y) compare entry by entry",
    ))
}

/// A tensor, or a number as a tensor of no dimensions that goes with `like`: a float beside whole numbers is f32.
pub fn operand(name: &str, like: &Tensor, y: &Dynamic) -> Result<Tensor> {
    if let Some(y) = y.read_lock::<Handle<Tensor>>() {
        return Ok(y.read()?.shallow_clone());
    }
    let kind = like.f_kind()?;
    let kind = match (is_float(kind), y.is_float()) {
        (false, true) => Dtype::Float,
        (false, false) => Dtype::Int64,
        _ => kind,
    };
    Ok(Tensor::f_scalar_tensor(scalar(name, y)?, (kind, like.device()))?)
}

fn is_float(kind: Dtype) -> bool {
    matches!(kind, Dtype::Float | Dtype::Double | Dtype::Half | Dtype::BFloat16)
}

/// Truth values: every number but 0 is true.
pub fn as_mask(x: &Tensor) -> Result<Tensor> {
    match x.f_kind()? {
        Dtype::Bool => Ok(x.shallow_clone()),
        _ => Ok(x.f_ne(0)?),
    }
}

/// Whole numbers as i64; arrays of whole numbers become f32 tensors unless a dtype is given.
pub fn as_index(name: &str, x: &Tensor) -> Result<Tensor> {
    let index = x.f_to_kind(Dtype::Int64)?;
    let is_exact = !is_float(x.f_kind()?) || index.f_to_kind(x.f_kind()?)?.f_equal(x)?;
    if is_exact {
        return Ok(index);
    }
    Err(Error::input(format!("{name}: expected whole numbers as the index, found a fraction")))
}

/// A part of the first dimension.
pub fn indexed(x: &Tensor, index: &Dynamic) -> Result<Handle<Tensor>> {
    Ok(Handle::new(part(x, index)?))
}

fn part(x: &Tensor, index: &Dynamic) -> Result<Tensor> {
    let shape = x.size();
    let Some(&length) = shape.first() else {
        return Err(
            Error::input("index: expected a tensor with a dimension, found one number").with_hint("x.item() reads it")
        );
    };
    if let Ok(at) = index.as_int() {
        if !(-length..length).contains(&at) {
            let last = length - 1;
            return Err(Error::input(format!(
                "index {at} is out of bounds: expected {} to {last}, for shape {shape:?}",
                -length
            )));
        }
        return Ok(x.f_select(0, at)?);
    }
    if let Some(range) = range(index) {
        let (start, end) = (range.start, range.end.min(length));
        if start < 0 || end < start {
            return Err(Error::input(format!(
                "index: expected a range from 0 to {length}, found {}..{}",
                range.start, range.end
            ))
            .with_hint("ranges do not count from the end: write x.narrow(dim, start, length)"));
        }
        return Ok(x.f_narrow(0, start, end - start)?);
    }
    if let Ok(items) = index.as_array_ref() {
        let index = of_arrays(&items, Some(Dtype::Int64), x.device()).map_err(|error| error.context("index"))?;
        return select(x, &index);
    }
    let Some(index) = index.read_lock::<Handle<Tensor>>() else {
        let value = describe(index);
        return Err(Error::input(format!(
            "index: expected a whole number, a range, an array or a tensor, found {value}"
        )));
    };
    let index = index.read()?;
    match index.f_kind()? {
        Dtype::Bool => Ok(x.f_index(&[Some(&*index)]).map_err(|error| shape_mistake(error.into()))?),
        _ => select(x, &as_index("index", &index)?),
    }
}

fn select(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    x.f_index(&[Some(index)]).map_err(|error| shape_mistake(error.into()))
}

fn range(index: &Dynamic) -> Option<Range<i64>> {
    let inclusive = index.read_lock::<RangeInclusive<i64>>().map(|range| *range.start()..range.end().saturating_add(1));
    inclusive.or_else(|| index.read_lock::<Range<i64>>().map(|range| range.clone()))
}

/// The sizes or numbers of dimensions in an array.
pub fn sizes(name: &str, values: &[Dynamic]) -> Result<Vec<i64>> {
    let size = |value: &Dynamic| {
        value.as_int().map_err(|_| Error::input(format!("{name}: expected whole numbers, found {}", describe(value))))
    };
    values.iter().map(size).collect()
}

/// The tensors in an array.
pub fn tensors(name: &str, values: &[Dynamic]) -> Result<Vec<Tensor>> {
    let tensor = |value: &Dynamic| match value.read_lock::<Handle<Tensor>>() {
        Some(tensor) => Ok(tensor.read()?.shallow_clone()),
        None => Err(Error::input(format!("{name}: expected an array of tensors, found {} in it", describe(value)))),
    };
    values.iter().map(tensor).collect()
}

/// What torch returns as a pair, as a map of `values` and `indices`.
pub fn values_and_indices(result: std::result::Result<(Tensor, Tensor), TchError>) -> RhaiResultOf<Map> {
    let (values, indices) = result.map_err(|error| shape_mistake(error.into()))?;
    let fields = [("values", values), ("indices", indices)];
    Ok(fields.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(Handle::new(tensor)))).collect())
}

/// A tensor of random numbers; `number` gives that of each entry.
pub fn random(name: &str, shape: &[Dynamic], number: impl Fn(u64) -> f64) -> Result<Handle<Tensor>> {
    let shape = sizes(name, shape)?;
    if let Some(size) = shape.iter().find(|size| **size < 0) {
        return Err(Error::input(format!("{name}: expected sizes of at least 0, found {size}")));
    }
    let count = shape.iter().try_fold(1_u64, |count, size| count.checked_mul(*size as u64));
    // Room is asked for first: a shape may be too large for any memory.
    let mut x = Tensor::f_empty(&shape, (Dtype::Float, Device::Cpu))?;
    let numbers: Vec<f32> = (0..count.unwrap_or(0)).map(|at| number(at) as f32).collect();
    x.f_copy_(&Tensor::f_from_slice(&numbers)?.f_reshape(&shape)?)?;
    Ok(Handle::new(x))
}
