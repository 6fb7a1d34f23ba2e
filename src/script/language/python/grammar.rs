//! Python's grammar, by the line and place of an error: what was written, and what to write.

use crate::script::language::brackets;
use crate::script::values::number_format::Format;

pub const BACKTICKS: &str = "values stand inside a text between backticks: `rank ${rank}`";

/// Lines that no script of this language has: how they begin, what that is, what to do.
const LINES: &[(&str, &str, &str)] = &[
    ("from ", "Python's `import`", IMPORT),
    ("import ", "Python's `import`", IMPORT),
    ("!pip ", "a command of a notebook", "leave it out: nothing has to be installed"),
    ("%", "a command of a notebook", "leave it out"),
    ("@", "a decorator", "leave it out: there are none"),
    ("def ", "Python's `def`", "a function is written fn double(x) { 2 * x }"),
    ("class ", "Python's `class`", "there are no classes: values that belong together are a map, #{ rank: 8 }"),
    ("with ", "Python's `with`", "leave it out: evaluate(…), generate(…) and the like keep no gradients"),
    ("try:", "Python's `try:`", "write try { … } catch (error) { … }"),
    ("except", "Python's `except`", "write try { … } catch (error) { … }"),
    ("raise ", "Python's `raise`", "an error is raised by throw \"what is wrong\";"),
    ("elif ", "Python's `elif`", "write } else if … {"),
    ("} elif ", "Python's `elif`", "write } else if … {"),
];

const IMPORT: &str =
    "leave it out: every function is there already; a script of yours is imported by import \"name\" as name;";

const MAP: &str = "a map is written #{ r: 8, alpha: 16 }";
const BRANCH: &str = "write if quick { 10 } else { 200 }";

/// What begins at the place of the error, what that is, what to do.
const PLACES: &[(&str, &str, &str)] = &[
    ("# ", "Python's comment", "a comment begins with //"),
    ("#!", "a line for the shell", "leave it out: a script is run by lorhai run FILE"),
    ("f\"", "Python's f-string", BACKTICKS),
    ("f'", "Python's f-string", BACKTICKS),
    ("\"\"\"", "Python's triple quotes", "a text over several lines stands between backticks, `…`"),
    ("(**", "Python's `**`", "hand the map over as it is: model.add_lora(config)"),
    ("and ", "Python's `and`", "write &&"),
    ("or ", "Python's `or`", "write ||"),
    ("not ", "Python's `not`", "write !done, and !in for `not in`"),
    ("is ", "Python's `is`", "write == or !=; nothing is ()"),
    ("lambda ", "Python's `lambda`", "a function without a name is written |p| 2 * p.rank"),
    ("? ", "`?`", BRANCH),
    ("++", "`++`", "write step += 1"),
    ("--", "`--`", "write step -= 1"),
    ("“", "a typographic quote", "a text stands between plain quotes: \"…\""),
    ("”", "a typographic quote", "a text stands between plain quotes: \"…\""),
    ("‘", "a typographic quote", "a text stands between plain quotes: \"…\""),
];

/// What of Python's grammar an error at `column` (from 1) of `line` may come from: what it is,
/// and what to write instead.
pub fn grammar(line: &str, column: usize) -> Option<(&'static str, String)> {
    let at = line.char_indices().nth(column.checked_sub(1)?).map_or(line.len(), |(at, _)| at);
    let (before, after) = line.split_at(at);
    let (start, before) = (line.trim_start(), before.trim_end());
    let fixed = |(_, what, hint): &(&str, &'static str, &str)| (*what, hint.to_string());
    let begins = |(text, ..): &&(&str, &str, &str)| start.starts_with(text) && !start.contains("import \"");
    let stands = |(text, ..): &&(&str, &str, &str)| after.starts_with(text);
    LINES
        .iter()
        .find(begins)
        .map(fixed)
        .or_else(|| form_in_text(before, after))
        .or_else(|| comment(after))
        .or_else(|| PLACES.iter().find(stands).map(fixed))
        .or_else(|| by_context(start, before, after).map(|(what, hint)| (what, hint.to_string())))
        .or_else(|| keyword_argument(before, after))
}

/// `${x:.3f}`: a form behind a value in a text, which Python's f-strings have.
fn form_in_text(before: &str, after: &str) -> Option<(&'static str, String)> {
    let (_, value) = before.rsplit_once("${")?;
    let form = after.strip_prefix(':')?.split('}').next()?.trim();
    let is_one = !value.contains(['}', '{']) && !form.is_empty() && Format::read(form).is_some();
    is_one.then(|| {
        let value = value.trim();
        ("the form of a number in an f-string", format!("write ${{format({value}, \"{form}\")}}"))
    })
}

/// `#` and no map.
fn comment(after: &str) -> Option<(&'static str, String)> {
    let is_comment = after.starts_with('#') && !after.starts_with("#{") && !after.starts_with("#!");
    is_comment.then(|| ("Python's comment", "a comment begins with //".to_string()))
}

fn by_context(start: &str, before: &str, after: &str) -> Option<(&'static str, &'static str)> {
    let (colon, comma) = (after.starts_with(':'), after.starts_with(','));
    let word = |text: &str| start.starts_with(text);
    let opens =
        |bracket: char| before.ends_with(bracket) || before.rfind(bracket) > before.rfind(brackets::closing(bracket));
    let found = match () {
        _ if colon && after.trim_end() == ":" && word("for ") => {
            ("Python's `:`", "a block stands between braces: for rank in [2, 4] { … }")
        }
        _ if colon && after.trim_end() == ":" && word("while ") => {
            ("Python's `:`", "a block stands between braces: while step < 10 { … }")
        }
        _ if colon && after.trim_end() == ":" => {
            ("Python's `:`", "a block stands between braces: if rank > 4 { … } else { … }")
        }
        _ if colon && word("let ") && !before.contains('=') => {
            ("the type of a variable", "leave it out: let rank = 8;")
        }
        _ if colon && word("fn ") => {
            ("the type of a parameter", "leave it out, and defaults too: fn scaled(rank, factor) { … }")
        }
        _ if colon && opens('[') => ("Python's slice", "a part of a list: list.extract(0..2)"),
        _ if colon && before.ends_with('"') => ("Python's dict", MAP),
        _ if before.ends_with('{') && !before.ends_with("#{") && names_a_key(after) => ("Python's dict", MAP),
        _ if after.starts_with("if ") && before.contains('=') => ("Python's `if … else`", BRANCH),
        _ if after.contains(" not in ") => ("Python's `not in`", "write !in"),
        _ if after.starts_with('@') => ("Python's `@`", "the matrix product is a.matmul(b)"),
        _ if comma && word("for ") => ("two names in a loop", "write for (value, index) in list { … }"),
        _ if comma && word("let ") && !before.contains('=') => {
            ("two names for one value", "one `let` declares one name: let parts = …; let train = parts.train;")
        }
        _ if comma && (opens('(') && !before.ends_with('(') || word("return ")) => {
            ("Python's tuple", "several values are a list, [2, 4, 8], or a map")
        }
        _ if opens('[') && after.contains(" for ") && after.contains(" in ") => {
            ("Python's list comprehension", "write [1, 2, 3].map(|i| 2 ** i), or fill a list in a loop by .push(…)")
        }
        _ if after.starts_with('=') && before.contains("#{") => ("`=` in a map", MAP),
        _ => return None,
    };
    Some(found)
}

/// `r: 8`, as behind the brace of a dict.
fn names_a_key(text: &str) -> bool {
    let rest = text.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
    let rest = rest.trim_start();
    rest.len() < text.len() && rest.starts_with(':') && !rest.starts_with("::")
}

/// `r=8` behind a bracket or a comma.
fn keyword_argument(before: &str, after: &str) -> Option<(&'static str, String)> {
    let name: String = after.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    let value = after[name.len()..].trim_start().strip_prefix('=')?;
    let is_one = !name.is_empty() && !value.starts_with('=') && (before.ends_with('(') || before.ends_with(','));
    let value: String = value.trim_start().chars().take_while(|letter| !",)".contains(*letter)).collect();
    is_one.then(|| {
        ("Python's keyword argument", format!("options stand in a map, the last argument: #{{ {name}: {value} }}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_told_by_the_place_of_the_error() {
        for (line, column, what) in [
            ("import torch", 8, "Python's `import`"),
            ("let x = 1;  # one", 13, "Python's comment"),
            ("model.add_lora(r=8)", 16, "Python's keyword argument"),
            ("train(model, data, lr = 1e-4)", 20, "Python's keyword argument"),
            ("f({ r: 8 })", 5, "Python's dict"),
            ("let c = {\"r\": 8};", 13, "Python's dict"),
            ("print(ranks[1:]);", 14, "Python's slice"),
            ("print(`loss ${loss:.3f}`);", 19, "the form of a number in an f-string"),
            ("let y = a @ b;", 11, "Python's `@`"),
            ("for i in range(10):", 19, "Python's `:`"),
            ("    if a > 2 and b {", 14, "Python's `and`"),
            ("let a, b = f();", 6, "two names for one value"),
            ("let steps = 10 if quick else 200;", 16, "Python's `if … else`"),
            ("let 이름 = x ? 1 : 2;", 12, "`?`"),
        ] {
            assert_eq!(grammar(line, column).map(|(found, _)| found), Some(what), "{line}");
        }
        for (line, column) in [
            ("let c = #{ r: 8 };", 12),
            ("import \"common\" as c;", 8),
            ("rank = 8;", 1),
            ("f(a == b)", 3),
            ("let b = a + * 2;", 13),
            ("", 1),
            ("x", 7),
        ] {
            assert_eq!(grammar(line, column), None, "{line}");
        }
    }
}
