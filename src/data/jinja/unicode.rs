//! Properties of characters in Python, where Rust's `char` differs or has none.
//!
//! Written by hand: Rust has no title case, case folding or digit values, and crates for them bring whole tables for a few
//! rules. General categories come from `regex`.

use regex::Regex;
use std::sync::LazyLock;

type Class = LazyLock<Option<Regex>>;
static LETTER: Class = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
static TITLE: Class = LazyLock::new(|| Regex::new(r"^\p{Lt}$").ok());
static DECIMAL: Class = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
static HIDDEN: Class = LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]$").ok());

fn of_class(class: &Class, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

/// White space for `str.isspace`, `\s`, `strip` and `split`.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{1c}'..=' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Line ends for `splitlines`; `\r\n` is one line end.
pub(super) fn ends_line(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether `repr` writes the character without escaping it.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    !of_class(&HIDDEN, c)
}

pub(super) fn is_alpha(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    of_class(&LETTER, c)
}

pub(super) fn is_decimal(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    of_class(&DECIMAL, c)
}

/// Decimals, and digits outside positional numbers, such as `²` and `③`.
pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(u32::from(c), 0xb2 | 0xb3 | 0xb9 | 0x1369..=0x1371 | 0x19da | 0x2070 | 0x2074..=0x2079
            | 0x2080..=0x2089 | 0x2460..=0x2468 | 0x2474..=0x247c | 0x2488..=0x2490 | 0x24ea | 0x24f5..=0x24fd
            | 0x24ff | 0x2776..=0x277e | 0x2780..=0x2788 | 0x278a..=0x2792 | 0x10a40..=0x10a43 | 0x10e60..=0x10e68
            | 0x11052..=0x1105a | 0x1f100..=0x1f10a)
}

/// Numbers of any kind; ideographs that are numbers are letters by category.
const IDEOGRAPHS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零\u{f96b}\u{f973}\
    \u{f978}\u{f9b2}\u{f9d1}\u{f9d3}\u{f9fd}\u{20001}\u{20064}\u{200e2}\u{20121}\
    \u{2092a}\u{20983}\u{2098c}\u{2099c}\u{20aea}\u{20afd}\u{20b19}\u{22390}\
    \u{22998}\u{23b1b}\u{2626d}\u{2f890}";

pub(super) fn is_numeric(c: char) -> bool {
    c.is_numeric() || (!c.is_ascii() && IDEOGRAPHS.contains(c))
}

pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || is_digit(c) || is_numeric(c)
}

/// `\w`.
pub(super) fn is_word(c: char) -> bool {
    c == '_' || is_alnum(c)
}

fn is_title(c: char) -> bool {
    !c.is_ascii() && of_class(&TITLE, c)
}

pub(super) fn title_case(c: char) -> String {
    let code = u32::from(c);
    let single = match code {
        0x1c4..=0x1c6 => 0x1c5,
        0x1c7..=0x1c9 => 0x1c8,
        0x1ca..=0x1cc => 0x1cb,
        0x1f1..=0x1f3 => 0x1f2,
        0x10d0..=0x10ff => code,
        0x1f80..=0x1faf => code | 8,
        0x1fb3 | 0x1fbc => 0x1fbc,
        0x1fc3 | 0x1fcc => 0x1fcc,
        0x1ff3 | 0x1ffc => 0x1ffc,
        _ => 0,
    };
    if let Some(single) = char::from_u32(single).filter(|_| single != 0) {
        return single.into();
    }
    let several = match code {
        0x1fb2 => "\u{1fba}\u{345}",
        0x1fb4 => "\u{386}\u{345}",
        0x1fb7 => "\u{391}\u{342}\u{345}",
        0x1fc2 => "\u{1fca}\u{345}",
        0x1fc4 => "\u{389}\u{345}",
        0x1fc7 => "\u{397}\u{342}\u{345}",
        0x1ff2 => "\u{1ffa}\u{345}",
        0x1ff4 => "\u{38f}\u{345}",
        0x1ff7 => "\u{3a9}\u{342}\u{345}",
        _ => "",
    };
    if !several.is_empty() {
        return several.into();
    }
    let mut upper = c.to_uppercase();
    let first: String = upper.next().into_iter().collect();
    format!("{first}{}", upper.collect::<String>().to_lowercase())
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

/// `str.title`: a word starts after every uncased character.
pub(super) fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let lowered = lower_each(text);
    let mut inside = false;
    for (c, lower) in text.chars().zip(lowered) {
        if inside {
            titled.push_str(&lower);
        } else {
            titled.push_str(&title_case(c));
        }
        inside = is_cased(c);
    }
    titled
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => std::iter::once(title_case(first)).chain(lower_each(text).into_iter().skip(1)).collect(),
        None => String::new(),
    }
}

pub(super) fn swap_case(text: &str) -> String {
    let swapped = text.chars().zip(lower_each(text)).map(|(c, lower)| {
        if c.is_uppercase() {
            lower
        } else if c.is_lowercase() {
            c.to_uppercase().collect()
        } else {
            c.into()
        }
    });
    swapped.collect()
}

/// Each character in lower case; a sigma depends on whether it ends its word.
fn lower_each(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    // These characters inside a word neither start nor end it.
    let ignorable = |c: &char| {
        matches!(*c, '\'' | '.' | ':' | '^' | '`' | '\u{a8}' | '\u{ad}' | '\u{b7}' | '\u{2019}' | '\u{300}'..='\u{36f}')
    };
    let lower = |(at, c): (usize, &char)| {
        if *c != 'Σ' {
            return c.to_lowercase().collect();
        }
        let before = chars[..at].iter().rev().find(|c| !ignorable(c)).is_some_and(|c| is_cased(*c));
        let after = chars[at + 1..].iter().find(|c| !ignorable(c)).is_some_and(|c| is_cased(*c));
        (if before && !after { "ς" } else { "σ" }).to_owned()
    };
    chars.iter().enumerate().map(lower).collect()
}

pub(super) fn case_fold(text: &str) -> String {
    let fold = |c: char| match u32::from(c) {
        0x131 | 0x13a0..=0x13f5 => c.to_string(),
        0x13f8..=0x13fd | 0xab70..=0xabbf => c.to_uppercase().collect(),
        0x1e9e => "ss".into(),
        _ => c.to_uppercase().flat_map(char::to_lowercase).collect(),
    };
    text.chars().map(fold).collect()
}

/// Whether there are cased characters and all have the same case: `islower`, `isupper`.
pub(super) fn all_cased(text: &str, upper: bool) -> bool {
    let wrong = |c: char| is_title(c) || if upper { c.is_lowercase() } else { c.is_uppercase() };
    let right = |c: char| if upper { c.is_uppercase() } else { c.is_lowercase() };
    text.chars().any(right) && !text.chars().any(wrong)
}

/// `str.istitle`.
pub(super) fn is_titled(text: &str) -> bool {
    let mut any = false;
    let mut inside = false;
    for c in text.chars() {
        if c.is_uppercase() || is_title(c) {
            if inside {
                return false;
            }
            (inside, any) = (true, true);
        } else if c.is_lowercase() {
            if !inside {
                return false;
            }
            any = true;
        } else {
            inside = false;
        }
    }
    any
}

/// `str.isidentifier`.
pub(super) fn is_identifier(text: &str) -> bool {
    let starts = |c: char| c == '_' || is_alpha(c);
    let mut chars = text.chars();
    chars.next().is_some_and(starts) && chars.all(|c| is_word(c) || matches!(c, '\u{300}'..='\u{36f}' | '\u{b7}'))
}
