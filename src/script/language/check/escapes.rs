//! Backslashes in texts between backticks: Python's f-strings read `\n` as a line break, a
//! backtick text keeps both characters.

use super::problem::Problem;
use rhai::{ASTNode, Expr, Position, AST};

pub fn problems(ast: &AST, text: &str) -> Vec<Problem> {
    let lines: Vec<&str> = text.lines().collect();
    let mut problems = Vec::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::StringConstant(content, position))) = path.last() {
            // A piece of an interpolated text, or a text that begins with a backtick.
            let around = path.len().checked_sub(2).and_then(|at| path.get(at));
            let is_piece = matches!(around, Some(ASTNode::Expr(Expr::InterpolatedString(..))));
            if is_piece || begins_with_backtick(&lines, *position) {
                problems.extend(first_escape(content, *position, &lines));
            }
        }
        true
    });
    problems
}

fn begins_with_backtick(lines: &[&str], position: Position) -> bool {
    let at = position.line().zip(position.position());
    at.and_then(|(line, column)| lines.get(line - 1)?.chars().nth(column - 1)) == Some('`')
}

/// One warning for a piece of text: the others in it are seen with the first.
fn first_escape(content: &str, position: Position, lines: &[&str]) -> Option<Problem> {
    let at = content.match_indices('\\').map(|(at, _)| at).find(|at| escape(&content[*at..]).is_some())?;
    let (written, meaning) = escape(&content[at..])?;
    let place = place(&content[..at], position, lines)?;
    let hint = match meaning {
        "a line break" => {
            "break the line itself, or write ${\"\\n\"} for a line break; where backslash and n are meant, \
                           write them between double quotes, \"\\\\n\""
                .to_string()
        }
        "a quote" => "leave the backslash out: quotes stand in a backtick text as they are".to_string(),
        _ => format!("write ${{\"{written}\"}} for {meaning}"),
    };
    let message = format!("`{written}` between backticks is no escape: the backslash stays in the text");
    Some(Problem::warning(message, hint, place))
}

/// The place in the source: the lines of a text between backticks are those of the source.
fn place(before: &str, start: Position, lines: &[&str]) -> Option<Position> {
    let breaks = before.matches('\n').count();
    let line = start.line()? + breaks;
    let from = if breaks == 0 { start.position()?.saturating_sub(1) } else { 0 };
    let behind = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let characters: Vec<char> = lines.get(line - 1)?.chars().collect();
    // An opening backtick, and backticks that are written twice, move it to the right.
    let column = (from + behind..characters.len()).find(|at| characters.get(*at) == Some(&'\\'))?;
    Some(Position::new(u16::try_from(line).ok()?, u16::try_from(column + 1).ok()?))
}

/// What of Python's strings begins here, and what it means there.
fn escape(text: &str) -> Option<(&str, &'static str)> {
    let rest = text.strip_prefix('\\')?;
    let digits = |from: usize, count: usize| rest.get(from..from + count).filter(|text| text.chars().all(is_hex));
    let first = rest.chars().next()?;
    if is_formula(rest) {
        return None;
    }
    Some(match first {
        'n' => (&text[..2], "a line break"),
        't' => (&text[..2], "a tab"),
        'r' => (&text[..2], "a carriage return"),
        '"' => (&text[..2], "a quote"),
        'x' => (&text[..2 + digits(1, 2)?.len()], "a character by its number"),
        'u' if rest.starts_with("u{") => (&text[..=text.find('}')?], "a character by its number"),
        'u' => (&text[..2 + digits(1, 4)?.len()], "a character by its number"),
        _ => return None,
    })
}

fn is_hex(letter: char) -> bool {
    letter.is_ascii_hexdigit()
}

/// A command of LaTeX, as data of mathematics have them.
fn is_formula(rest: &str) -> bool {
    const COMMANDS: [&str; 36] = [
        "nabla",
        "neq",
        "ne",
        "neg",
        "nu",
        "not",
        "notin",
        "nmid",
        "newline",
        "nonumber",
        "nolimits",
        "times",
        "theta",
        "tau",
        "text",
        "textbf",
        "textit",
        "textrm",
        "tan",
        "tanh",
        "tfrac",
        "therefore",
        "tilde",
        "to",
        "top",
        "triangle",
        "rho",
        "right",
        "rightarrow",
        "rangle",
        "rceil",
        "rfloor",
        "rm",
        "rvert",
        "Rightarrow",
        "root",
    ];
    let word: &str = rest.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    COMMANDS.contains(&word)
}
