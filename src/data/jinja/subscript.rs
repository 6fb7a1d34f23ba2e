//! `value[key]` and slices, as `__getitem__` defines them.

use super::error::{fault, Result};
use super::fuel;
use super::ops;
use super::value::{Range, Value};

/// `value[key]`; `None` if Python raises an error, which Jinja2 turns into an undefined value.
pub(super) fn item(value: &Value, key: &Value) -> Result<Option<Value>> {
    if let Value::Dict(dict) = value {
        // An unhashable key is a TypeError in Python, so the value is undefined.
        return Ok(key.key().ok().and_then(|key| dict.entries.get(&key)).map(|(_, value)| value.clone()));
    }
    ops::fail_if_undefined(value)?;
    let Some(index) = key.as_int() else { return Ok(None) };
    let length = match value {
        Value::Str(_) | Value::Bytes(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_) => ops::length(value)?,
        _ => return Ok(None),
    };
    let index = if index < 0 { index + length as i128 } else { index };
    let Some(index) = usize::try_from(index).ok().filter(|index| *index < length) else { return Ok(None) };
    Ok(match value {
        Value::Str(text) => text.chars().nth(index).map(|c| Value::text(c.encode_utf8(&mut [0; 4]), text.markup)),
        Value::Bytes(bytes) => bytes.get(index).map(|byte| Value::Int((*byte).into())),
        Value::List(items) | Value::Tuple(items) => items.get(index).cloned(),
        Value::Range(range) => Some(range.get(index)),
        _ => None,
    })
}

/// The start, the stop and the step of a slice of `length` items.
fn bounds(parts: &[Value; 3], length: usize) -> Result<Range> {
    let part = |value: &Value| -> Result<Option<i128>> {
        match value {
            Value::None => Ok(None),
            other => match other.as_int() {
                Some(value) => Ok(Some(value)),
                None => fault("slice indices must be integers or None"),
            },
        }
    };
    let length = length as i128;
    let step = part(&parts[2])?.unwrap_or(1);
    if step == 0 {
        return fault("slice step cannot be zero");
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |value: i128| if value < 0 { value.saturating_add(length).max(low) } else { value.min(high) };
    let start = part(&parts[0])?.map_or(if step > 0 { low } else { high }, clamp);
    let stop = part(&parts[1])?.map_or(if step > 0 { high } else { low }, clamp);
    // A larger step would reach no other index, and could overflow.
    let step = step.clamp(-length - 1, length + 1);
    Ok(Range { start, stop, step })
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, parts: &[Value; 3]) -> Result<Value> {
    ops::fail_if_undefined(value)?;
    let indices = |length: usize| -> Result<Vec<usize>> {
        let range = bounds(parts, length)?;
        fuel::steps(range.len() / 8)?;
        Ok((0..range.len()).map(|at| (range.start + range.step * at as i128) as usize).collect())
    };
    match value {
        Value::Str(text) => {
            fuel::bytes(text.len())?;
            let chars: Vec<char> = text.chars().collect();
            let sliced: String = indices(chars.len())?.into_iter().map(|at| chars[at]).collect();
            Ok(Value::text(sliced, text.markup))
        }
        Value::Bytes(bytes) => Ok(Value::Bytes(indices(bytes.len())?.into_iter().map(|at| bytes[at]).collect())),
        Value::List(items) => Ok(Value::list(indices(items.len())?.into_iter().map(|at| items[at].clone()).collect())),
        Value::Tuple(items) => {
            Ok(Value::tuple(indices(items.len())?.into_iter().map(|at| items[at].clone()).collect()))
        }
        Value::Range(range) => {
            let part = bounds(parts, range.len())?;
            Ok(Value::Range(Range {
                start: range.start + range.step * part.start,
                stop: range.start + range.step * part.stop,
                step: range.step * part.step,
            }))
        }
        other => fault(format!("a {} cannot be sliced", other.type_name())),
    }
}
