//! `format % values`, Python's printf-style formatting.

use super::error::{fault, Result};
use super::fuel;
use super::html::escape;
use super::number;
use super::ops;
use super::print;
use super::value::{Text, Value};

/// The flags, width and precision of one `%…`.
#[derive(Default)]
struct Directive {
    left: bool,
    sign: Option<char>,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// A larger width or precision is an error.
const MAX_WIDTH: usize = 1 << 20;

/// The values on the right of `%`, one after the other.
struct Values<'a> {
    all: &'a Value,
    tuple: Option<&'a [Value]>,
    next: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        let value = match self.tuple {
            Some(items) => items.get(self.next).cloned(),
            None => (self.next == 0).then(|| self.all.clone()),
        };
        self.next += 1;
        value.map_or_else(|| fault("not enough arguments for format string"), Ok)
    }
}

/// `format % values`.
pub(super) fn format(format: &Text, values: &Value) -> Result<Value> {
    let tuple = match values {
        Value::Tuple(items) => Some(&***items),
        _ => None,
    };
    let mut values = Values { all: values, tuple, next: 0 };
    let mut out = String::new();
    let mut by_name = false;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut name = None;
        if chars.next_if_eq(&'(').is_some() {
            let mut text = String::new();
            let mut depth = 1;
            loop {
                match chars.next() {
                    Some(')') if depth == 1 => break,
                    Some(c) => {
                        depth += i32::from(c == '(') - i32::from(c == ')');
                        text.push(c);
                    }
                    None => return fault("incomplete format key"),
                }
            }
            name = Some(text);
        }
        let mut directive = Directive::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | ' ' | '#' | '0')) {
            match flag {
                '-' => directive.left = true,
                '0' => directive.zero = true,
                '#' => directive.alternate = true,
                '+' => directive.sign = Some('+'),
                _ => directive.sign = directive.sign.or(Some(' ')),
            }
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars>, values: &mut Values| -> Result<(bool, usize)> {
            if chars.next_if_eq(&'*').is_some() {
                let Value::Int(value) = values.next()? else { return fault("* wants int") };
                let size = value.unsigned_abs().try_into().unwrap_or(usize::MAX);
                return Ok((value < 0, size));
            }
            let mut value = 0_usize;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                value = value.saturating_mul(10).saturating_add(digit.to_digit(10).unwrap_or(0) as usize);
            }
            Ok((false, value))
        };
        let (negative, width) = number(&mut chars, &mut values)?;
        directive.left |= negative;
        directive.width = width;
        if chars.next_if_eq(&'.').is_some() {
            let (negative, precision) = number(&mut chars, &mut values)?;
            directive.precision = Some(if negative { 0 } else { precision });
        }
        if directive.width > MAX_WIDTH || directive.precision.is_some_and(|precision| precision > MAX_WIDTH) {
            return fault("a width or precision of more than a million");
        }
        chars.next_if(|c| matches!(c, 'h' | 'l' | 'L'));
        let Some(conversion) = chars.next() else { return fault("incomplete format") };
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match name {
            Some(name) => {
                by_name = true;
                let Value::Dict(dict) = values.all else { return fault("format requires a mapping") };
                match dict.get_str(&name) {
                    Some(value) => value,
                    None => return fault(format!("KeyError: '{name}'")),
                }
            }
            None => values.next()?,
        };
        fuel::bytes(directive.width)?;
        out.push_str(&directive.write(conversion, &value, format.markup)?);
    }
    // A mapping may have unused values; so may an empty list and the like.
    let spare = match values.tuple {
        Some(items) => values.next < items.len(),
        None => {
            values.next == 0
                && !matches!(
                    values.all,
                    Value::Dict(_) | Value::List(_) | Value::Undefined(_) | Value::Range(_) | Value::Bytes(_)
                )
        }
    };
    if spare && !by_name {
        return fault("not all arguments converted during string formatting");
    }
    Ok(Value::text(out, format.markup))
}

impl Directive {
    fn write(&self, conversion: char, value: &Value, markup: bool) -> Result<String> {
        let cut = |text: String| match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        };
        let escaped = |text: String, value: &Value| match value {
            Value::Str(text) if text.markup => text.to_string(),
            _ if markup => escape(&text),
            _ => text,
        };
        let body = match conversion {
            's' => cut(escaped(print::text(value)?.into_owned(), value)),
            'r' => cut(escaped(print::repr(value)?, &Value::None)),
            'a' => cut(escaped(print::ascii(value)?, &Value::None)),
            'c' => match value {
                Value::Str(text) if text.chars().count() == 1 => text.to_string(),
                other => match other.as_int().and_then(|code| char::from_u32(code.try_into().ok()?)) {
                    Some(c) => c.into(),
                    None => return fault("%c requires int or char"),
                },
            },
            'd' | 'i' | 'u' => {
                let integer = match value {
                    Value::Float(float) => number::truncate(*float)?,
                    other => match other.as_int() {
                        Some(value) => value,
                        None => return self.wrong(conversion, "a real number", value),
                    },
                };
                return Ok(self.number(
                    integer < 0,
                    "",
                    number::at_least(&integer.unsigned_abs().to_string(), self.precision),
                ));
            }
            'x' | 'X' | 'o' => {
                let Some(integer) = value.as_int() else { return self.wrong(conversion, "an integer", value) };
                let size = integer.unsigned_abs();
                let (digits, prefix) = match conversion {
                    'x' => (format!("{size:x}"), "0x"),
                    'X' => (format!("{size:X}"), "0X"),
                    _ => (format!("{size:o}"), "0o"),
                };
                let prefix = if self.alternate { prefix } else { "" };
                return Ok(self.number(integer < 0, prefix, number::at_least(&digits, self.precision)));
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let Some(float) = value.as_float() else { return self.wrong(conversion, "a real number", value) };
                let digits = number::float(float.abs(), conversion, self.precision.unwrap_or(6), self.alternate);
                let padded = Directive { zero: self.zero && float.is_finite(), ..*self };
                return Ok(padded.number(float.is_sign_negative() && !float.is_nan(), "", digits));
            }
            other => return fault(format!("unsupported format character '{other}'")),
        };
        Ok(self.pad(body))
    }

    fn wrong(&self, conversion: char, expected: &str, value: &Value) -> Result<String> {
        ops::fail_if_undefined(value)?;
        fault(format!("%{conversion} format: {expected} is required, not {}", value.type_name()))
    }

    fn number(&self, negative: bool, prefix: &str, digits: String) -> String {
        let sign = if negative { Some('-') } else { self.sign };
        let mut text: String = sign.into_iter().collect();
        text.push_str(prefix);
        if self.zero && !self.left {
            let missing = self.width.saturating_sub(text.len() + digits.len());
            text.push_str(&"0".repeat(missing));
        }
        text.push_str(&digits);
        self.pad(text)
    }

    fn pad(&self, text: String) -> String {
        let missing = " ".repeat(self.width.saturating_sub(text.chars().count()));
        if self.left {
            format!("{text}{missing}")
        } else {
            format!("{missing}{text}")
        }
    }
}
