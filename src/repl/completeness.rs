//! Whether an input is complete, or continues on the next line.

use super::{commands, syntax};
use crate::script::Session;

pub fn is_complete(session: &Session, input: &str) -> bool {
    if input.trim().is_empty() || commands::parse(input).is_some() {
        return true;
    }
    !syntax::is_cut_off(input) && !session.ends_early(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_brackets_operators_comments_and_strings_continue() {
        let session = Session::new();
        for input in [
            "fn f(x) {",
            "fn f(x) {\n  x + 1",
            "let x =",
            "let x = 1 +",
            "print(",
            "print(1,",
            "[1, 2",
            "#{ a: 1",
            "#{ a: 1,",
            "#{",
            "if true {",
            "for i in 0..3 {",
            "/* a comment",
            "let t = `two",
            "while true",
            "switch 1 {",
            "load_model(\"a\", #{\n  dtype: \"f32\",\n",
            "fn f",
            "let",
            "let x = \"a\\",
            "try { 1",
        ] {
            assert!(!is_complete(&session, input), "{input:?} should continue");
        }
    }

    #[test]
    fn whole_inputs_commands_and_mistakes_do_not() {
        let session = Session::new();
        for input in [
            "",
            "1 + 1",
            "let x = 1;",
            "fn f(x) { x + 1 }",
            "/* a */ 1",
            "`a\nb`",
            "// {",
            "\"{\"",
            ":load (",
            "?(",
            "let x = \"open",
            "f(1))",
            "let = 3",
            "unknown_name",
            "1 2",
            "let x = 1 let",
            ")",
            "if true { 1 } else { 2 }",
        ] {
            assert!(is_complete(&session, input), "{input:?} should be complete");
        }
    }
}
