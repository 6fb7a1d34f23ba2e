//! Amounts as people read them: counts with separators, bytes in decimal units; and the case of a sentence's start.
//!
//! By hand, because crates group the digits of 64-bit integers only, and floats of any size are
//! shown here; their sizes of files have other decimals.

/// The text with a lower-case first letter.
pub fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// 1234567 as "1,234,567".
pub fn thousands(number: u64) -> String {
    grouped(&number.to_string())
}

/// Decimal digits with a comma before every third from the end.
pub fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people compare cards and files by: a GB is 10⁹ of them; below one, MB.
pub fn bytes(count: u64) -> String {
    match count {
        0 => "0".to_owned(),
        1_000_000_000.. => format!("{:.2} GB", count as f64 / 1e9),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_and_bytes_units() {
        assert_eq!([0, 999, 1000, 40_370_176].map(thousands), ["0", "999", "1,000", "40,370,176"]);
        assert_eq!([0, 12_345_678, 2_310_000_000].map(bytes), ["0", "12.3 MB", "2.31 GB"]);
    }
}
