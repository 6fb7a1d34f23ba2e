//! Python's grammar, by the line and column of an error: a message, and what to write instead.

use crate::script::language::brackets;
use crate::script::values::number_format::Format;

pub const BACKTICKS: &str = "values stand inside a text between backticks: `rank ${rank}`";

/// Lines that no script has: how they begin, the message, what to do.
const LINES: &[(&str, &str, &str)] = &[
    ("from ", "`import` is Python syntax", IMPORT),
    ("import ", "`import` is Python syntax", IMPORT),
    ("!pip ", "this is a notebook command", "leave it out: there is nothing to install"),
    ("%", "this is a notebook command", "leave it out"),
    ("@", "decorators are Python syntax", "leave it out: there are none"),
    ("def ", "`def` is Python syntax", "a function is written fn double(x) { 2 * x }"),
    ("class ", "`class` is Python syntax", "there are no classes: values that belong together are a map, #{ rank: 8 }"),
    ("with ", "`with` is Python syntax", "leave it out: evaluate(…), generate(…) and the like keep no gradients"),
    ("try:", "`try:` is Python syntax", "write try { … } catch (error) { … }"),
    ("except", "`except` is Python syntax", "write try { … } catch (error) { … }"),
    ("raise ", "`raise` is Python syntax", "an error is raised by throw \"what is wrong\";"),
    ("elif ", "`elif` is Python syntax", "write } else if … {"),
    ("} elif ", "`elif` is Python syntax", "write } else if … {"),
];

const IMPORT: &str =
    "leave it out: every function is there already; a script of yours is imported by import \"name\" as name;";

const MAP: &str = "a map is written #{ r: 8, alpha: 16 }";
const BRANCH: &str = "write if quick { 10 } else { 200 }";

/// What begins at the column of the error, the message, what to do.
const TOKENS: &[(&str, &str, &str)] = &[
    ("# ", "`#` comments are Python syntax", "a comment begins with //"),
    ("#!", "`#!` lines are for a shell", "leave it out: a script is run by lorhai run FILE"),
    ("f\"", "f-strings are Python syntax", BACKTICKS),
    ("f'", "f-strings are Python syntax", BACKTICKS),
    ("\"\"\"", "triple quotes are Python syntax", "a text over several lines stands between backticks, `…`"),
    ("(**", "`**` before an argument is Python syntax", "hand the map over as it is: model.add_lora(config)"),
    ("and ", "`and` is Python syntax", "write &&"),
    ("or ", "`or` is Python syntax", "write ||"),
    ("not ", "`not` is Python syntax", "write !done, and !in for `not in`"),
    ("is ", "`is` is Python syntax", "write == or !=; nothing is ()"),
    ("lambda ", "`lambda` is Python syntax", "a function without a name is written |p| 2 * p.rank"),
    ("? ", "`?` is no operator of this language", BRANCH),
    ("++", "`++` is no operator of this language", "write step += 1"),
    ("--", "`--` is no operator of this language", "write step -= 1"),
    ("“", "typographic quotes are not part of this language", "a text stands between plain quotes: \"…\""),
    ("”", "typographic quotes are not part of this language", "a text stands between plain quotes: \"…\""),
    ("‘", "typographic quotes are not part of this language", "a text stands between plain quotes: \"…\""),
];

/// The message about Python's grammar that an error at `column` (from 1) of `line` may come from, and what to write
/// instead.
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
        .or_else(|| TOKENS.iter().find(stands).map(fixed))
        .or_else(|| by_context(start, before, after).map(|(what, hint)| (what, hint.to_string())))
        .or_else(|| keyword_argument(before, after))
}

/// `${x:.3f}`: a format behind a value in a text, as in Python's f-strings.
fn form_in_text(before: &str, after: &str) -> Option<(&'static str, String)> {
    let (_, value) = before.rsplit_once("${")?;
    let form = after.strip_prefix(':')?.split('}').next()?.trim();
    let is_one = !value.contains(['}', '{']) && !form.is_empty() && Format::read(form).is_some();
    is_one.then(|| {
        let value = value.trim();
        ("a number format behind `:` is f-string syntax", format!("write ${{format({value}, \"{form}\")}}"))
    })
}

/// `#` and no map.
fn comment(after: &str) -> Option<(&'static str, String)> {
    let is_comment = after.starts_with('#') && !after.starts_with("#{") && !after.starts_with("#!");
    is_comment.then(|| ("`#` comments are Python syntax", "a comment begins with //".to_string()))
}

fn by_context(start: &str, before: &str, after: &str) -> Option<(&'static str, &'static str)> {
    let (colon, comma) = (after.starts_with(':'), after.starts_with(','));
    let word = |text: &str| start.starts_with(text);
    let opens =
        |bracket: char| before.ends_with(bracket) || before.rfind(bracket) > before.rfind(brackets::closing(bracket));
    let message_and_hint = match () {
        _ if colon && after.trim_end() == ":" && word("for ") => {
            ("`:` before a block is Python syntax", "a block stands between braces: for rank in [2, 4] { … }")
        }
        _ if colon && after.trim_end() == ":" && word("while ") => {
            ("`:` before a block is Python syntax", "a block stands between braces: while step < 10 { … }")
        }
        _ if colon && after.trim_end() == ":" => {
            ("`:` before a block is Python syntax", "a block stands between braces: if rank > 4 { … } else { … }")
        }
        _ if colon && word("let ") && !before.contains('=') => {
            ("variables have no type annotations", "leave it out: let rank = 8;")
        }
        _ if colon && word("fn ") => {
            ("parameters have no type annotations", "leave it out, and defaults too: fn scaled(rank, factor) { … }")
        }
        _ if colon && opens('[') => ("slices are Python syntax", "a part of a list: list.extract(0..2)"),
        _ if colon && before.ends_with('"') => ("dicts are Python syntax", MAP),
        _ if before.ends_with('{') && !before.ends_with("#{") && names_a_key(after) => ("dicts are Python syntax", MAP),
        _ if after.starts_with("if ") && before.contains('=') => ("`… if … else …` is Python syntax", BRANCH),
        _ if after.contains(" not in ") => ("`not in` is Python syntax", "write !in"),
        _ if after.starts_with('@') => ("`@` is Python syntax", "the matrix product is a.matmul(b)"),
        _ if comma && word("for ") => {
            ("two loop variables without brackets are Python syntax", "write for (value, index) in list { … }")
        }
        _ if comma && word("let ") && !before.contains('=') => (
            "several names for one value are Python syntax",
            "one `let` declares one name: let parts = …; let train = parts.train;",
        ),
        _ if comma && (opens('(') && !before.ends_with('(') || word("return ")) => {
            ("tuples are Python syntax", "several values are a list, [2, 4, 8], or a map")
        }
        _ if opens('[') && after.contains(" for ") && after.contains(" in ") => (
            "list comprehensions are Python syntax",
            "write [1, 2, 3].map(|i| 2 ** i), or fill a list in a loop by .push(…)",
        ),
        _ if after.starts_with('=') && before.contains("#{") => ("`=` in a map is not part of this language", MAP),
        _ => return None,
    };
    Some(message_and_hint)
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
        (
            "keyword arguments are Python syntax",
            format!("options stand in a map, the last argument: #{{ {name}: {value} }}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_grammar_is_recognised_at_the_column_of_the_error() {
        for (line, column, what) in [
            ("import torch", 8, "`import` is Python syntax"),
            ("let x = 1;  # one", 13, "`#` comments are Python syntax"),
            ("model.add_lora(r=8)", 16, "keyword arguments are Python syntax"),
            ("train(model, data, lr = 1e-4)", 20, "keyword arguments are Python syntax"),
            ("f({ r: 8 })", 5, "dicts are Python syntax"),
            ("let c = {\"r\": 8};", 13, "dicts are Python syntax"),
            ("print(ranks[1:]);", 14, "slices are Python syntax"),
            ("print(`loss ${loss:.3f}`);", 19, "a number format behind `:` is f-string syntax"),
            ("let y = a @ b;", 11, "`@` is Python syntax"),
            ("for i in range(10):", 19, "`:` before a block is Python syntax"),
            ("    if a > 2 and b {", 14, "`and` is Python syntax"),
            ("let a, b = f();", 6, "several names for one value are Python syntax"),
            ("let steps = 10 if quick else 200;", 16, "`… if … else …` is Python syntax"),
            ("let 이름 = x ? 1 : 2;", 12, "`?` is no operator of this language"),
        ] {
            assert_eq!(grammar(line, column).map(|(message, _)| message), Some(what), "{line}");
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
