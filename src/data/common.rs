//! How much two texts have in common at their start, without cutting a token or a tag in two.

use regex::Regex;
use std::sync::LazyLock;

/// A tag that must not be cut: `<|im_start|>`, `[INST]`.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^(?:<[^<>\s]{1,60}>|\[/?[A-Z_]{2,20}\])").ok());

/// The longest token or tag that is looked for, in bytes.
const LONGEST: usize = 80;

/// The length of the longest common prefix that ends neither inside one of `tokens` nor inside a tag.
pub(super) fn common_prefix(left: &str, right: &str, tokens: &[String]) -> usize {
    let mut length = left.bytes().zip(right.bytes()).take_while(|(left, right)| left == right).count();
    while !left.is_char_boundary(length) || !right.is_char_boundary(length) {
        length -= 1;
    }
    if length == left.len() || length == right.len() {
        return length;
    }
    for text in [left, right] {
        let starts = (length.saturating_sub(LONGEST)..length).filter(|&at| text.is_char_boundary(at));
        for at in starts {
            let rest = &text[at..];
            let crosses = |unit: usize| at + unit > length;
            let is_cut = tokens.iter().any(|token| rest.starts_with(token.as_str()) && crosses(token.len()))
                || TAG.as_ref().and_then(|tag| tag.find(rest)).is_some_and(|tag| crosses(tag.end()));
            if is_cut {
                length = at;
                break;
            }
        }
    }
    length
}

/// The length of the part of `prompt` at the start of `text`, in bytes of `text`, and whether that is the whole prompt. White
/// space at the start may differ: it belongs to the message before.
pub(super) fn follows_prompt(text: &str, prompt: &str, tokens: &[String]) -> (usize, bool) {
    if text.starts_with(prompt) {
        return (prompt.len(), true);
    }
    let (trimmed, expected) = (text.trim_start(), prompt.trim_start());
    let length = common_prefix(trimmed, expected, tokens);
    (text.len() - trimmed.len() + length, length == expected.len() && length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_prefix_cuts_no_token_and_no_tag() {
        let tokens = ["<|end|>".to_owned()];
        assert_eq!(common_prefix("a<|end|>", "a<|eot|>", &tokens), 1);
        assert_eq!(common_prefix("a[INST]", "a[INSX]", &[]), 1);
        assert_eq!(common_prefix("가나", "가다", &[]), "가".len());
        assert_eq!(common_prefix("same", "same and more", &[]), 4);
        assert_eq!(follows_prompt("\n<|im_start|>assistant\nyes", "<|im_start|>assistant\n", &[]), (23, true));
    }
}
