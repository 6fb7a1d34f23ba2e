//! Python's `repr` of floats, and `strftime`.
//!
//! Elsewhere Python renders chat templates, so the text must agree byte for byte. `json.dumps` and the `repr` of other
//! values are in `jinja/`.
//!
//! Python's `strftime` is the C library's, which is called here too: chrono writes other texts for some codes (`%Z`) and
//! refuses unknown ones.

/// `repr(value)`: the shortest digits that read back as the same number, without an exponent from 1e-4 up to 1e16.
pub fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    // Of two equally near shortest texts, Python takes the even one.
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{value:.*e}", digits.saturating_sub(1));
    let scientific = if even.parse() == Ok(value) { even } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits = mantissa.replace('.', "");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let integer_digits = exponent as usize + 1;
    if digits.len() <= integer_digits {
        return format!("{sign}{digits}{}.0", "0".repeat(integer_digits - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..integer_digits], &digits[integer_digits..])
}

/// `datetime.now().strftime(format)`.
pub fn strftime_now(format: &str) -> Result<String, String> {
    // SAFETY: given a null pointer, `time` writes nothing.
    strftime(format, unsafe { libc::time(std::ptr::null_mut()) })
}

/// `strftime` of a time in seconds since 1970, in the local time zone.
pub fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    let format = std::ffi::CString::new(format).map_err(|_| "strftime_now: the format contains a NUL")?;
    if format.is_empty() {
        return Ok(String::new());
    }
    let mut text = [0_u8; 512];
    // SAFETY: `localtime_r` fills the zeroed `local`, `strftime` writes at
    // most `text.len()` bytes, and both pointers are valid for the calls.
    let length = unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut local).is_null() {
            return Err("strftime_now: no local time".into());
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &local)
    };
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_python() {
        let expected = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-0.0, "-0.0"),
            (1e15 + 0.3, "1000000000000000.2"),
            (123.456, "123.456"),
            (0.00123, "0.00123"),
            (5e-324, "5e-324"),
        ];
        for (value, text) in expected {
            assert_eq!(float_repr(value), text);
        }
    }
}
