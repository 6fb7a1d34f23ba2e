//! `str.format`, and the format specifications of its fields.

use super::attributes;
use super::error::{fault, Result};
use super::fuel;
use super::html::escape;
use super::number;
use super::print;
use super::value::{Dict, Text, Value};

/// The levels of fields: in the text, in the specification of a field, and in a specification of that.
const NESTING: usize = 3;
/// A larger width or precision is an error.
const MAX_WIDTH: usize = 1 << 20;

struct Formatter<'a> {
    positional: &'a [Value],
    named: &'a Dict,
    markup: bool,
    automatic: Option<usize>,
    is_numbered: bool,
}

/// `template.format(*positional, **named)`.
pub(super) fn format(template: &Text, positional: &[Value], named: &Dict) -> Result<Value> {
    let mut formatter = Formatter { positional, named, markup: template.markup, automatic: None, is_numbered: false };
    Ok(Value::text(formatter.write(template, NESTING)?, template.markup))
}

impl Formatter<'_> {
    fn write(&mut self, template: &str, nesting: usize) -> Result<String> {
        if nesting == 0 {
            return fault("Max string recursion exceeded");
        }
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return fault("Single '}' encountered in format string");
            }
            let Some(end) = field_end(rest) else { return fault("expected '}' before end of string") };
            out.push_str(&self.field(&rest[..end], nesting)?);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        fuel::bytes(out.len())?;
        Ok(out)
    }

    fn field(&mut self, field: &str, nesting: usize) -> Result<String> {
        // Inside brackets, `:` and `!` are part of the key.
        let mut bracket = false;
        let end = field.find(|c| {
            match c {
                '[' => bracket = true,
                ']' => bracket = false,
                _ => {}
            }
            !bracket && matches!(c, ':' | '!')
        });
        let (name, mut rest) = field.split_at(end.unwrap_or(field.len()));
        let mut conversion = None;
        if let Some(after) = rest.strip_prefix('!') {
            let mut chars = after.chars();
            conversion = chars.next();
            rest = chars.as_str();
            if conversion.is_none() || !(rest.is_empty() || rest.starts_with(':')) {
                return fault("expected ':' after conversion specifier");
            }
        }
        let value = self.value(name)?;
        let value = match conversion {
            None => value,
            Some('s') => Value::str(print::text(&value)?),
            Some('r') => Value::str(print::repr(&value)?),
            Some('a') => Value::str(print::ascii(&value)?),
            Some(other) => return fault(format!("Unknown conversion specifier {other}")),
        };
        let spec = self.write(rest.strip_prefix(':').unwrap_or(rest), nesting - 1)?;
        match &value {
            Value::Str(text) if self.markup && text.markup => {
                if spec.is_empty() {
                    Ok(text.to_string())
                } else {
                    fault("Unsupported format specification for Markup.")
                }
            }
            value if self.markup => Ok(escape(&apply(value, &spec)?)),
            value => apply(value, &spec),
        }
    }

    fn value(&mut self, name: &str) -> Result<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let index = if name.is_empty() {
            if self.is_numbered {
                return fault("cannot switch from manual field specification to automatic field numbering");
            }
            let index = self.automatic.unwrap_or(0);
            self.automatic = Some(index + 1);
            Some(index)
        } else if first.bytes().all(|byte| byte.is_ascii_digit()) {
            if self.automatic.is_some() {
                return fault("cannot switch from automatic field numbering to manual field specification");
            }
            self.is_numbered = true;
            Some(first.parse().unwrap_or(usize::MAX))
        } else {
            None
        };
        let mut value = match index {
            Some(index) => match self.positional.get(index) {
                Some(value) => value.clone(),
                None => return fault(format!("Replacement index {index} out of range for positional args tuple")),
            },
            None => match self.named.get_str(first) {
                Some(value) => value,
                None => return fault(format!("KeyError: '{first}'")),
            },
        };
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = attributes::attribute(&value, &after[..end])?;
                rest = &after[end..];
            } else {
                let Some(end) = rest.find(']').filter(|_| rest.starts_with('[')) else {
                    return fault("Only '.' or '[' may follow ']' in format field specifier");
                };
                let key = &rest[1..end];
                let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
                let key = match key.parse::<i128>() {
                    Ok(index) if digits => Value::Int(index),
                    _ => Value::str(key),
                };
                value = attributes::item(&value, &key)?;
                rest = &rest[end + 1..];
            }
        }
        Ok(value)
    }
}

/// The end of the field that starts at `text`.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    code: Option<char>,
}

fn parse(spec: &str) -> Result<Spec> {
    let chars: Vec<char> = spec.chars().collect();
    let mut parsed = Spec::default();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| matches!(c, '<' | '>' | '=' | '^'));
    if is_align(chars.get(1)) {
        (parsed.fill, parsed.align, at) = (Some(chars[0]), Some(chars[1]), 2);
    } else if is_align(chars.first()) {
        (parsed.align, at) = (Some(chars[0]), 1);
    }
    if let Some(sign) = chars.get(at).filter(|c| matches!(c, '+' | '-' | ' ')) {
        parsed.sign = Some(*sign);
        at += 1;
    }
    if chars.get(at) == Some(&'z') {
        return fault("the format code `z` is not supported");
    }
    if chars.get(at) == Some(&'#') {
        parsed.alternate = true;
        at += 1;
    }
    if parsed.fill.is_none() && chars.get(at) == Some(&'0') {
        parsed.fill = Some('0');
        parsed.align = parsed.align.or(Some('='));
        at += 1;
    }
    let number = |at: &mut usize| {
        let begin = *at;
        while chars.get(*at).is_some_and(char::is_ascii_digit) {
            *at += 1;
        }
        let digits: String = chars[begin..*at].iter().collect();
        (begin < *at).then(|| digits.parse::<usize>().unwrap_or(usize::MAX))
    };
    parsed.width = number(&mut at).unwrap_or(0);
    if let Some(grouping) = chars.get(at).filter(|c| matches!(c, ',' | '_')) {
        parsed.grouping = Some(*grouping);
        at += 1;
    }
    if chars.get(at) == Some(&'.') {
        at += 1;
        parsed.precision = number(&mut at);
        if parsed.precision.is_none() {
            return fault("Format specifier missing precision");
        }
    }
    parsed.code = chars.get(at).copied();
    if chars.len() > at + 1 {
        return fault(format!("Invalid format specifier '{spec}'"));
    }
    if parsed.width > MAX_WIDTH || parsed.precision.is_some_and(|precision| precision > MAX_WIDTH) {
        return fault("a width or precision of more than a million");
    }
    fuel::bytes(parsed.width)?;
    Ok(parsed)
}

/// `format(value, spec)`.
fn apply(value: &Value, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return Ok(print::text(value)?.into_owned());
    }
    let unknown =
        |code: char| fault(format!("Unknown format code '{code}' for object of type '{}'", value.type_name()));
    match value {
        Value::Str(text) => {
            let spec = parse(spec)?;
            if let Some(code) = spec.code.filter(|code| *code != 's') {
                return unknown(code);
            }
            if spec.sign.is_some()
                || spec.alternate
                || spec.grouping.is_some()
                || spec.align == Some('=') && spec.fill != Some('0')
            {
                return fault("the format specification is not allowed for strings");
            }
            let text: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            // A zero before the width fills on the right.
            Ok(spec.pad("", &text, if spec.align == Some('=') { '<' } else { spec.align.unwrap_or('<') }))
        }
        Value::Float(float) => {
            let spec = parse(spec)?;
            spec.float(*float, value)
        }
        Value::Int(_) | Value::Bool(_) => {
            let spec = parse(spec)?;
            let integer = value.as_int().unwrap_or(0);
            match spec.code.unwrap_or('d') {
                'd' | 'n' | 'b' | 'o' | 'x' | 'X' => spec.integer(integer),
                'c' => match u32::try_from(integer).ok().and_then(char::from_u32) {
                    Some(c) => Ok(spec.pad("", &c.to_string(), spec.align.unwrap_or('<'))),
                    None => fault("%c arg not in range(0x110000)"),
                },
                'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' => spec.float(integer as f64, value),
                code => unknown(code),
            }
        }
        other => fault(format!("unsupported format string passed to {}.__format__", other.type_name())),
    }
}

impl Spec {
    fn sign(&self, negative: bool) -> String {
        let sign = if negative { Some('-') } else { self.sign.filter(|sign| *sign != '-') };
        sign.into_iter().collect()
    }

    fn integer(&self, value: i128) -> Result<String> {
        if self.precision.is_some() {
            return fault("Precision not allowed in integer format specifier");
        }
        let size = value.unsigned_abs();
        let code = self.code.unwrap_or('d');
        if self.grouping == Some(',') && !matches!(code, 'd') {
            return fault(format!("Cannot specify ',' with '{code}'."));
        }
        let (digits, prefix, group) = match code {
            'b' => (format!("{size:b}"), "0b", 4),
            'o' => (format!("{size:o}"), "0o", 4),
            'x' => (format!("{size:x}"), "0x", 4),
            'X' => (format!("{size:X}"), "0X", 4),
            _ => (size.to_string(), "", 3),
        };
        let mut lead = self.sign(value < 0);
        lead.push_str(if self.alternate { prefix } else { "" });
        Ok(self.grouped(&lead, &digits, "", group))
    }

    fn float(&self, value: f64, original: &Value) -> Result<String> {
        let size = value.abs();
        let mut tail = "";
        let digits = match self.code {
            Some('%') => {
                tail = "%";
                number::float(size * 100.0, 'f', self.precision.unwrap_or(6), self.alternate)
            }
            Some('n') => number::float(size, 'g', self.precision.unwrap_or(6), self.alternate),
            Some(code @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G')) => {
                number::float(size, code, self.precision.unwrap_or(6), self.alternate)
            }
            None => match self.precision {
                None => print::float(size),
                Some(precision) => without_code(size, precision.max(1)),
            },
            Some(code) => {
                return fault(format!("Unknown format code '{code}' for object of type '{}'", original.type_name()))
            }
        };
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (whole, fraction) = digits.split_at(end);
        let tail = format!("{fraction}{tail}");
        Ok(self.grouped(&self.sign(value.is_sign_negative() && !value.is_nan()), whole, &tail, 3))
    }

    /// Sign, grouped digits and the rest, padded.
    fn grouped(&self, lead: &str, digits: &str, tail: &str, group: usize) -> String {
        let mut digits = digits.to_owned();
        let zeros = self.fill == Some('0') && self.align == Some('=');
        if let Some(separator) = self.grouping.filter(|_| !digits.is_empty()) {
            let join = |digits: &str| {
                let mut parts: Vec<&str> =
                    digits.as_bytes().rchunks(group).filter_map(|part| std::str::from_utf8(part).ok()).collect();
                parts.reverse();
                parts.join(&separator.to_string())
            };
            let room = self.width.saturating_sub(lead.len() + tail.len());
            if zeros {
                // Zeros are grouped too, but the number never starts with a separator.
                while join(&digits).len() < room {
                    digits.insert(0, '0');
                }
            }
            digits = join(&digits);
        }
        self.pad(lead, &(digits + tail), self.align.unwrap_or('>'))
    }

    fn pad(&self, lead: &str, text: &str, align: char) -> String {
        let missing = self.width.saturating_sub(lead.chars().count() + text.chars().count());
        let fill = |count: usize| self.fill.unwrap_or(' ').to_string().repeat(count);
        match align {
            '<' => format!("{lead}{text}{}", fill(missing)),
            '^' => format!("{}{lead}{text}{}", fill(missing / 2), fill(missing - missing / 2)),
            '=' => format!("{lead}{}{text}", fill(missing)),
            _ => format!("{}{lead}{text}", fill(missing)),
        }
    }
}

/// A precision without a code: as `g`, but with at least one digit after the point.
fn without_code(size: f64, precision: usize) -> String {
    let text = number::float(size, 'g', precision, false);
    if !size.is_finite() || text.contains(['.', 'e']) {
        return text;
    }
    if text.len() >= precision && precision > 0 && text != "0" {
        // `g` would need an exponent to show that no digit follows the point.
        let exponent = number::float(size, 'e', precision.saturating_sub(1), false);
        let (mantissa, power) = exponent.split_once('e').unwrap_or((&exponent, "+00"));
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        return format!("{mantissa}e{power}");
    }
    text + ".0"
}
