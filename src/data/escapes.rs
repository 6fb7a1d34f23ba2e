//! Detects a backslash and an n in place of a line break.
//!
//! Prompts are built with Rhai strings in backticks, which have no escapes. But the two characters are also right in quoted
//! strings of code and JSON, and at the start of a LaTeX command.

/// LaTeX commands that start with n, which are frequent in mathematical data.
const COMMANDS: [&str; 37] = [
    "nabla",
    "natural",
    "ncong",
    "ne",
    "nearrow",
    "neg",
    "neq",
    "newcommand",
    "newenvironment",
    "newline",
    "newpage",
    "nexists",
    "ngeq",
    "ngtr",
    "ni",
    "nleftarrow",
    "nleq",
    "nless",
    "nmid",
    "nocite",
    "noindent",
    "nolimits",
    "nonumber",
    "normalsize",
    "not",
    "notag",
    "notin",
    "nparallel",
    "nprec",
    "nrightarrow",
    "nsim",
    "nsubseteq",
    "nsucc",
    "nsupseteq",
    "nu",
    "num",
    "nwarrow",
];

/// Whether a text contains a backslash and an n that probably stand for a line break.
pub(super) fn has_literal_newline(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut quoted = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => quoted = !quoted,
            b'\n' => quoted = false,
            b'\\' => {
                // `at + 2` is a character boundary unless the escaped character is longer than a byte.
                let is_newline = !quoted && bytes.get(at + 1) == Some(&b'n');
                if is_newline && text.get(at + 1..).is_some_and(|rest| !is_command(rest)) {
                    return true;
                }
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

fn is_command(rest: &str) -> bool {
    let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    COMMANDS.contains(&&rest[..length])
}

#[cfg(test)]
mod tests {
    use super::has_literal_newline;

    #[test]
    fn line_breaks_are_detected_but_not_in_code_and_formulas() {
        for text in [r"### Q: hi\n\n### A:", r"한글\n둘", r"a\n", r"one\nnext", "x\n\"quoted\" then \\n end"] {
            assert!(has_literal_newline(text), "{text}");
        }
        for text in
            ["a\nb", r#"printf("a\n");"#, r"$a \neq b \nabla f$", r"C:\\new", r"\\n", r#"{"code": "x\ny"}"#, "", "\\"]
        {
            assert!(!has_literal_newline(text), "{text}");
        }
    }
}
