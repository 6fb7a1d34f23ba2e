//! Parses and writes numbers as Python's `int`, `float`, `round` and format codes do.

use super::error::{fault, Result};
use super::unicode::{is_decimal, is_space};
use super::value::Value;

/// The integer part.
pub(super) fn truncate(value: f64) -> Result<i128> {
    if value.is_nan() {
        return fault("cannot convert float NaN to integer");
    }
    if value.is_infinite() {
        return fault("cannot convert float infinity to integer");
    }
    if value.abs() >= 1.7e38 {
        return fault("an integer beyond 128 bits");
    }
    Ok(value as i128)
}

/// `digits`, with leading zeros up to `count`.
pub(super) fn at_least(digits: &str, count: Option<usize>) -> String {
    let missing = count.unwrap_or(0).saturating_sub(digits.len());
    "0".repeat(missing) + digits
}

/// Writes a non-negative number by one of the codes `e E f F g G`.
pub(super) fn float(value: f64, code: char, precision: usize, alternate: bool) -> String {
    let upper = code.is_ascii_uppercase();
    let text = if value.is_finite() {
        match code.to_ascii_lowercase() {
            'e' => exponent(value, precision, alternate),
            'f' => {
                let text = format!("{value:.precision$}");
                if alternate && precision == 0 {
                    text + "."
                } else {
                    text
                }
            }
            _ => general(value, precision.max(1), alternate),
        }
    } else {
        super::print::float(value)
    };
    if upper {
        text.to_uppercase()
    } else {
        text
    }
}

fn exponent(value: f64, precision: usize, alternate: bool) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if alternate && precision == 0 { "." } else { "" };
    format!("{digits}{point}{}", power_of_ten(power.parse().unwrap_or(0)))
}

fn power_of_ten(power: i32) -> String {
    format!("e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// The decimal exponent of a number rounded to `digits` digits.
fn magnitude(value: f64, digits: usize) -> i32 {
    let text = format!("{value:.*e}", digits - 1);
    text.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0)
}

fn general(value: f64, digits: usize, alternate: bool) -> String {
    let power = magnitude(value, digits);
    let is_fixed = power >= -4 && (power as i64) < digits as i64;
    let text = if is_fixed {
        format!("{value:.*}", (digits as i64 - 1 - i64::from(power)).max(0) as usize)
    } else {
        format!("{value:.*e}", digits - 1)
    };
    let (mantissa, _) = text.split_once('e').unwrap_or((&text, ""));
    let mantissa = if !alternate && mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    if is_fixed {
        mantissa.to_owned()
    } else {
        format!("{mantissa}{}", power_of_ten(power))
    }
}

/// Removes single underscores between digits; `None` if they are elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let mut digits = String::new();
    let mut last = '_';
    for c in text.chars() {
        if c == '_' && last == '_' {
            return None;
        }
        if c != '_' {
            digits.push(ascii_digit(c)?);
        }
        last = c;
    }
    (last != '_').then_some(digits)
}

/// A decimal digit of any script, or a letter, as ASCII.
fn ascii_digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(c);
    }
    if !is_decimal(c) {
        return None;
    }
    // The digits of a script are consecutive, from its zero on.
    let mut value = 0;
    let mut code = u32::from(c);
    while value < 9 && char::from_u32(code - 1).is_some_and(is_decimal) {
        // The digits of two scripts can be adjacent; each zero is aligned.
        code -= 1;
        value += 1;
    }
    let row_starts_here = |zero: u32| zero.is_multiple_of(16) || zero % 16 == 6;
    if value == 9 || row_starts_here(u32::from(c) - value) {
        return char::from_digit(value % 10, 10);
    }
    None
}

/// `int(text, base)`; `None` if Python raises an error, `Err` beyond 128 bits.
pub(super) fn parse_int(text: &str, base: u32) -> Option<std::result::Result<i128, ()>> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let prefixed = match prefix.as_deref() {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 0,
    };
    let (digits, radix) = if prefixed != 0 && (base == 0 || base == prefixed) {
        let rest = &digits[2..];
        (rest.strip_prefix('_').unwrap_or(rest), prefixed)
    } else if base == 0 {
        // Only zero itself may have leading zeros.
        if digits.starts_with('0') && digits.chars().any(|c| c != '0' && c != '_') {
            return None;
        }
        (digits, 10)
    } else {
        (digits, base)
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    Some(i128::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| ()))
}

/// `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), "inf" | "infinity" | "nan") {
        return text.to_ascii_lowercase().parse().ok();
    }
    let mut ascii = String::new();
    let mut last = ' ';
    for c in text.chars() {
        // An underscore must be between two digits.
        if c == '_' && !last.is_ascii_digit() || last == '_' && ascii_digit(c).is_none_or(|c| !c.is_ascii_digit()) {
            return None;
        }
        let c = ascii_digit(c)?;
        if c != '_' {
            ascii.push(c);
        }
        last = c;
    }
    let numeric = ascii.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    if last == '_' || !numeric || !ascii.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    ascii.parse().ok()
}

/// `round(value, digits)`: halves round to even.
pub(super) fn round(value: &Value, digits: i128) -> Result<Value> {
    if let Some(integer) = value.as_int() {
        if digits >= 0 {
            return Ok(Value::Int(integer));
        }
        let Some(unit) = u32::try_from(-digits).ok().and_then(|digits| 10_i128.checked_pow(digits)) else {
            return Ok(Value::Int(0));
        };
        let below = integer.div_euclid(unit);
        let rest = integer.rem_euclid(unit);
        let up = rest * 2 > unit || rest * 2 == unit && below % 2 != 0;
        return Ok(Value::Int((below + i128::from(up)) * unit));
    }
    let Value::Float(float) = *value else {
        super::ops::fail_if_undefined(value)?;
        return fault(format!("type {} cannot be rounded", value.type_name()));
    };
    if !float.is_finite() || digits > 323 {
        return Ok(Value::Float(float));
    }
    if digits < -308 {
        return Ok(Value::Float(0.0_f64.copysign(float)));
    }
    let rounded = if digits >= 0 {
        // Rust rounds the exact value to even when printing, as Python does.
        format!("{float:.*}", digits as usize).parse().unwrap_or(float)
    } else {
        let size = (-digits) as usize;
        let whole = format!("{:.0}", float.abs().trunc());
        let fraction = float.abs().fract() != 0.0;
        let (kept, cut) = if whole.len() > size { whole.split_at(whole.len() - size) } else { ("0", whole.as_str()) };
        let cut = at_least(cut, Some(size));
        let half = format!("5{}", "0".repeat(size - 1));
        let odd = kept.ends_with(['1', '3', '5', '7', '9']);
        let up = match cut.as_str().cmp(half.as_str()) {
            std::cmp::Ordering::Equal => fraction || odd,
            other => other.is_gt(),
        };
        let kept: f64 = format!("{kept}{}", "0".repeat(size)).parse().unwrap_or(0.0);
        let unit: f64 = format!("1e{size}").parse().unwrap_or(0.0);
        (if up { kept + unit } else { kept }).copysign(float)
    };
    Ok(Value::Float(rounded))
}
