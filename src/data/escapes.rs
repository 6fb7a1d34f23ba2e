//! A backslash and an n where a line break was meant.
//!
//! A Rhai string in backticks keeps escapes as they are, and prompts are built with backticks. Text also holds
//! the two characters for good reasons: in quoted strings of code and JSON, and as the start of a LaTeX command.

/// LaTeX commands that begin with n; mathematical data is full of them.
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

/// Whether a text holds a backslash and an n that stand for a line break, as far as can be seen.
pub(super) fn has_literal_newline(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut quoted = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => quoted = !quoted,
            b'\n' => quoted = false,
            b'\\' => {
                // `at + 2` is no boundary of a character only where the escaped one is longer than a byte.
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
    fn line_breaks_that_were_meant_are_seen_and_code_and_formulas_are_left_alone() {
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
