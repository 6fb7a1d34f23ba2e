//! `+ - * / // % **` and signs. Integers have 128 bits; larger results are an error.

use super::ast::Binary;
use super::error::{fault, Result};
use super::fuel;
use super::html::escape;
use super::ops::fail_if_undefined;
use super::value::Value;

const BEYOND: &str = "an integer beyond 128 bits";

fn symbol(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "**",
    }
}

pub(super) fn binary(operator: Binary, left: &Value, right: &Value) -> Result<Value> {
    if let (Binary::Mod, Value::Str(format)) = (operator, left) {
        return super::printf::format(format, right);
    }
    fail_if_undefined(left)?;
    fail_if_undefined(right)?;
    match (left.as_int(), right.as_int()) {
        (Some(left), Some(right)) => return integers(operator, left, right),
        _ => {
            if let (Some(left), Some(right)) = (left.as_float(), right.as_float()) {
                return floats(operator, left, right);
            }
        }
    }
    match (operator, left, right) {
        (Binary::Add, _, _) => add(left, right),
        (Binary::Mul, _, times) | (Binary::Mul, times, _) if times.as_int().is_some() => {
            let sequence = if right.as_int().is_some() { left } else { right };
            repeat(sequence, times.as_int().unwrap_or(0))
        }
        _ => unsupported(operator, left, right),
    }
}

fn unsupported(operator: Binary, left: &Value, right: &Value) -> Result<Value> {
    fault(format!(
        "unsupported operand type(s) for {}: '{}' and '{}'",
        symbol(operator),
        left.type_name(),
        right.type_name()
    ))
}

fn add(left: &Value, right: &Value) -> Result<Value> {
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => {
            fuel::bytes(left.len() + right.len())?;
            if left.markup || right.markup {
                let side = |text: &super::value::Text| if text.markup { text.to_string() } else { escape(text) };
                return Ok(Value::text([side(left), side(right)].concat(), true));
            }
            Ok(Value::str([&**left, &**right].concat()))
        }
        (Value::List(left), Value::List(right)) => {
            fuel::steps(left.len() + right.len())?;
            Ok(Value::list([&***left, &***right].concat()))
        }
        (Value::Tuple(left), Value::Tuple(right)) => {
            fuel::steps(left.len() + right.len())?;
            Ok(Value::tuple([&***left, &***right].concat()))
        }
        (Value::Bytes(left), Value::Bytes(right)) => Ok(Value::Bytes([&**left, &**right].concat().into())),
        (Value::Str(_), other) => fault(format!("can only concatenate str (not \"{}\") to str", other.type_name())),
        _ => unsupported(Binary::Add, left, right),
    }
}

fn repeat(sequence: &Value, times: i128) -> Result<Value> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    let charge = |length: usize| fuel::bytes(length.saturating_mul(times));
    match sequence {
        Value::Str(text) => {
            charge(text.len())?;
            Ok(Value::text(text.repeat(times), text.markup))
        }
        Value::Bytes(bytes) => {
            charge(bytes.len())?;
            Ok(Value::Bytes(bytes.repeat(times).into()))
        }
        Value::List(items) | Value::Tuple(items) => {
            fuel::steps(items.len().saturating_mul(times))?;
            charge(items.len().saturating_mul(size_of::<Value>()))?;
            let repeated = items.iter().cycle().take(items.len() * times).cloned().collect();
            Ok(if matches!(sequence, Value::List(_)) { Value::list(repeated) } else { Value::tuple(repeated) })
        }
        other => unsupported(Binary::Mul, other, &Value::Int(times as i128)),
    }
}

fn integers(operator: Binary, left: i128, right: i128) -> Result<Value> {
    let checked = |value: Option<i128>| value.map_or_else(|| fault(BEYOND), |value| Ok(Value::Int(value)));
    match operator {
        Binary::Add => checked(left.checked_add(right)),
        Binary::Sub => checked(left.checked_sub(right)),
        Binary::Mul => checked(left.checked_mul(right)),
        Binary::Div if right == 0 => fault("division by zero"),
        Binary::Div if left.unsigned_abs() > 1 << 53 || right.unsigned_abs() > 1 << 53 => {
            fault("division of integers beyond 2**53 is not supported: use `//`")
        }
        Binary::Div => Ok(Value::Float(left as f64 / right as f64)),
        Binary::FloorDiv | Binary::Mod if right == 0 => fault("integer division or modulo by zero"),
        Binary::FloorDiv => {
            let Some(quotient) = left.checked_div(right) else { return fault(BEYOND) };
            let below = left % right != 0 && (left < 0) != (right < 0);
            Ok(Value::Int(quotient - i128::from(below)))
        }
        Binary::Mod => {
            let remainder = left.checked_rem(right).unwrap_or(0);
            let other_sign = remainder != 0 && (remainder < 0) != (right < 0);
            Ok(Value::Int(if other_sign { remainder + right } else { remainder }))
        }
        Binary::Pow if right < 0 => floats(operator, left as f64, right as f64),
        Binary::Pow => {
            if let Ok(exponent) = u32::try_from(right) {
                return checked(left.checked_pow(exponent));
            }
            match left {
                0 | 1 => Ok(Value::Int(left)),
                -1 => Ok(Value::Int(if right % 2 == 0 { 1 } else { -1 })),
                _ => fault(BEYOND),
            }
        }
    }
}

/// The remainder with the sign of the divisor.
fn float_mod(left: f64, right: f64) -> f64 {
    let remainder = left % right;
    if remainder == 0.0 {
        return 0.0_f64.copysign(right);
    }
    if (right < 0.0) != (remainder < 0.0) {
        remainder + right
    } else {
        remainder
    }
}

fn floats(operator: Binary, left: f64, right: f64) -> Result<Value> {
    let value = match operator {
        Binary::Add => left + right,
        Binary::Sub => left - right,
        Binary::Mul => left * right,
        Binary::Div | Binary::FloorDiv | Binary::Mod if right == 0.0 => return fault("float division by zero"),
        Binary::Div => left / right,
        Binary::Mod => float_mod(left, right),
        Binary::FloorDiv => {
            let quotient = (left - if left % right == 0.0 { left % right } else { float_mod(left, right) }) / right;
            if quotient == 0.0 {
                0.0_f64.copysign(left / right)
            } else {
                let floor = quotient.floor();
                if quotient - floor > 0.5 {
                    floor + 1.0
                } else {
                    floor
                }
            }
        }
        Binary::Pow if left == 0.0 && right < 0.0 => return fault("0.0 cannot be raised to a negative power"),
        Binary::Pow if left < 0.0 && left.is_finite() && right.is_finite() && right.fract() != 0.0 => {
            return fault("a power of a negative number is complex")
        }
        Binary::Pow => {
            let power = left.powf(right);
            if power.is_infinite() && left.is_finite() && right.is_finite() {
                return fault("the result of `**` is too large");
            }
            power
        }
    };
    Ok(Value::Float(value))
}

pub(super) fn negative(value: &Value) -> Result<Value> {
    fail_if_undefined(value)?;
    match (value, value.as_int()) {
        (_, Some(value)) => value.checked_neg().map_or_else(|| fault(BEYOND), |value| Ok(Value::Int(value))),
        (Value::Float(value), _) => Ok(Value::Float(-value)),
        (other, _) => fault(format!("bad operand type for unary -: '{}'", other.type_name())),
    }
}

pub(super) fn positive(value: &Value) -> Result<Value> {
    fail_if_undefined(value)?;
    match (value, value.as_int()) {
        (_, Some(value)) => Ok(Value::Int(value)),
        (Value::Float(value), _) => Ok(Value::Float(*value)),
        (other, _) => fault(format!("bad operand type for unary +: '{}'", other.type_name())),
    }
}

/// `abs`.
pub(super) fn absolute(value: &Value) -> Result<Value> {
    match value {
        Value::Float(value) => Ok(Value::Float(value.abs())),
        other => match other.as_int() {
            Some(value) if value < 0 => negative(&Value::Int(value)),
            Some(value) => Ok(Value::Int(value)),
            None => fault(format!("bad operand type for abs(): '{}'", other.type_name())),
        },
    }
}
