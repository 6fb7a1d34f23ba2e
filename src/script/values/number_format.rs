//! Numbers as text by the forms of Python's f-strings: `.3f`, `.2e`, `,`, `.1%`, `8.3f`, `04d`.
//!
//! Rust's own forms are read when a program is compiled, and crates for them know no `,` and `%`
//! or bring more than numbers.

use crate::format::grouped;

/// A form that was read: `[<>][0][width][,][.precision][f|e|g|d|%]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Format {
    left: bool,
    zeros: bool,
    width: usize,
    thousands: bool,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Wider or more exact is no number for a reader.
const MOST: usize = 100;

impl Format {
    pub fn read(text: &str) -> Option<Format> {
        let mut form = Format::default();
        let mut rest = text.strip_prefix(':').unwrap_or(text);
        if let Some(after) = rest.strip_prefix(['<', '>']) {
            form.left = rest.starts_with('<');
            rest = after;
        }
        form.zeros = rest.starts_with('0');
        (form.width, rest) = leading_number(rest);
        if let Some(after) = rest.strip_prefix(',') {
            form.thousands = true;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, behind) = leading_number(after);
            (behind.len() < after.len()).then_some(())?;
            form.precision = Some(precision);
            rest = behind;
        }
        if let Some(kind) = rest.chars().next() {
            ['f', 'e', 'g', 'd', '%'].contains(&kind).then_some(())?;
            form.kind = Some(kind);
            rest = &rest[1..];
        }
        let fits = rest.is_empty() && form.width <= MOST && form.precision.unwrap_or(0) <= MOST;
        let has_sense = form.kind != Some('d') || form.precision.is_none();
        (fits && has_sense).then_some(form)
    }

    /// As Python writes an int: other kinds than `d` turn it into a float.
    pub fn int(&self, number: i64) -> String {
        match (self.kind, self.precision) {
            (None | Some('d'), None) => self.padded(number < 0, number.unsigned_abs().to_string()),
            _ => self.float(number as f64).unwrap_or_default(),
        }
    }

    /// `None` where the form is one of ints.
    pub fn float(&self, number: f64) -> Option<String> {
        let size = number.abs();
        let digits = match self.kind {
            _ if size.is_nan() => "nan".to_string(),
            _ if size.is_infinite() => "inf".to_string() + if self.kind == Some('%') { "%" } else { "" },
            Some('d') => return None,
            Some('f') => format!("{size:.0$}", self.precision.unwrap_or(6)),
            Some('%') => format!("{:.1$}%", size * 100.0, self.precision.unwrap_or(6)),
            Some('e') => exponential(size, self.precision.unwrap_or(6)),
            Some('g') => general(size, self.precision.unwrap_or(6)),
            _ => match self.precision {
                Some(precision) => general(size, precision),
                None => format!("{size:?}"),
            },
        };
        Some(self.padded(number.is_sign_negative() && !number.is_nan(), digits))
    }

    fn padded(&self, negative: bool, digits: String) -> String {
        let sign = if negative { "-" } else { "" };
        let digits = if self.thousands { with_thousands(&digits) } else { digits };
        let missing = self.width.saturating_sub(sign.len() + digits.len());
        match (self.zeros, self.left) {
            (true, false) => format!("{sign}{}{digits}", "0".repeat(missing)),
            (_, true) => format!("{sign}{digits}{}", " ".repeat(missing)),
            _ => format!("{}{sign}{digits}", " ".repeat(missing)),
        }
    }
}

fn leading_number(text: &str) -> (usize, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().unwrap_or(if end == 0 { 0 } else { usize::MAX }), &text[end..])
}

/// `1.50e-03`: at least two digits of the exponent, with its sign.
fn exponential(size: f64, precision: usize) -> String {
    let text = format!("{size:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// So many significant digits, without zeros at the end.
fn general(size: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let written = exponential(size, precision - 1);
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        return format!("{}e{}", without_zeros(digits), &written[digits.len() + 1..]);
    }
    let after = (precision as i32 - 1 - exponent).max(0) as usize;
    without_zeros(&format!("{size:.after$}")).to_string()
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

fn with_thousands(digits: &str) -> String {
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    grouped(&digits[..end]) + &digits[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Python's `format(value, form)`.
    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, form, text) in [
            (std::f64::consts::PI, ".3f", "3.142"),
            (2.5, ".0f", "2"),
            (0.8125, ".1%", "81.2%"),
            (1234567.891, ",.2f", "1,234,567.89"),
            (0.0015, ".2e", "1.50e-03"),
            (0.000012345, ".3g", "1.23e-05"),
            (123456.0, ".3g", "1.23e+05"),
            (0.5, ".3g", "0.5"),
            (-1.5, "8.2f", "   -1.50"),
            (-1.5, "08.2f", "-0001.50"),
            (1.5, "<8.2f", "1.50    "),
            (1e22, "f", "10000000000000000000000.000000"),
            (f64::NAN, ".2f", "nan"),
            (f64::NEG_INFINITY, ".2f", "-inf"),
            (-0.0, ".1f", "-0.0"),
            (100.0, ".4", "100"),
        ] {
            assert_eq!(Format::read(form).and_then(|form| form.float(value)).as_deref(), Some(text), "{value} {form}");
        }
        for (value, form, text) in
            [(12345, ",", "12,345"), (7, "03d", "007"), (3, ".2f", "3.00"), (-42, "6d", "   -42"), (1, ".0%", "100%")]
        {
            assert_eq!(Format::read(form).map(|form| form.int(value)).as_deref(), Some(text), "{value} {form}");
        }
        for form in ["x", ".f", ".3q", "3.", ".3d", "1000f"] {
            assert_eq!(Format::read(form), None, "{form}");
        }
    }
}
