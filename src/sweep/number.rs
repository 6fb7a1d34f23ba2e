//! Short text for numbers and JSON values: `0.3`, `2e-5`, `q_proj+v_proj`.
//!
//! For terminals, folder names and chart labels only: files hold the exact values.

use serde_json::Value;

/// `x` with at most `digits` significant digits, without trailing zeros: fixed notation
/// from 1e-4 up to 1e15, scientific outside, as C's `%g` chooses.
pub fn significant(x: f64, digits: usize) -> String {
    if !x.is_finite() {
        return special(x);
    }
    let scientific = format!("{:.*e}", digits.max(1) - 1, x);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..15).contains(&exponent) {
        return format!("{}e{exponent}", trimmed(mantissa));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{x:.decimals$}")).to_string()
}

/// `x` with exactly `decimals` decimals.
pub fn fixed(x: f64, decimals: usize) -> String {
    if x.is_finite() {
        format!("{x:.decimals$}")
    } else {
        special(x)
    }
}

/// The number of decimals, 0 to 6, that give the largest of `values` five significant digits.
pub fn decimals_for(values: impl IntoIterator<Item = f64>) -> usize {
    let largest = values.into_iter().filter(|x| x.is_finite()).fold(0.0_f64, |largest, x| largest.max(x.abs()));
    if largest > 0.0 {
        (4 - largest.log10().floor() as i64).clamp(0, 6) as usize
    } else {
        4
    }
}

/// A value in a label: strings bare, lists joined by `+`, numbers with six digits.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join("+"),
        Value::Number(number) if number.is_f64() => significant(number.as_f64().unwrap_or(f64::NAN), 6),
        other => other.to_string(),
    }
}

fn special(x: f64) -> String {
    match (x.is_nan(), x > 0.0) {
        (true, _) => "nan".to_string(),
        (false, true) => "inf".to_string(),
        (false, false) => "-inf".to_string(),
    }
}

fn trimmed(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_short_and_right() {
        let cases = [
            (0.1 + 0.2, "0.3"),
            (2e-4, "0.0002"),
            (2e-5, "2e-5"),
            (-1.25e-7, "-1.25e-7"),
            (16.0, "16"),
            (1234567.0, "1234567"),
            (1e20, "1e20"),
            (0.0, "0"),
            (100.0, "100"),
            (0.999_999_999, "1"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, expected) in cases {
            assert_eq!(significant(x, 7), expected);
        }
    }

    #[test]
    fn values_become_labels() {
        assert_eq!(value(&json!(["q_proj", "v_proj"])), "q_proj+v_proj");
        assert_eq!(value(&json!(0.30000000000000004)), "0.3");
        assert_eq!(value(&json!(true)), "true");
        assert_eq!(value(&json!(null)), "none");
    }

    #[test]
    fn decimals_follow_the_largest_value() {
        assert_eq!(decimals_for([2.3, 11.0]), 3);
        assert_eq!(decimals_for([0.012]), 6);
        assert_eq!(decimals_for([123_456.0]), 0);
        assert_eq!(decimals_for([0.0, f64::NAN]), 4);
    }
}
