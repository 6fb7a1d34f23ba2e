//! The tokens of a line while it is typed, for colours, brackets and completion.
//!
//! Written by hand: Rhai's own lexer refuses unfinished input and drops spaces and comments,
//! but an editor needs them. Whether an input is valid only Rhai decides.

/// A token; one begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// The byte where it begins.
    pub start: usize,
    /// A string or comment that the input ends inside.
    pub open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Space,
    Comment,
    Text,
    Number,
    Keyword,
    Name,
    Open,
    Close,
    Symbol,
}

pub const KEYWORDS: [&str; 27] = [
    "let",
    "const",
    "fn",
    "private",
    "if",
    "else",
    "switch",
    "do",
    "while",
    "until",
    "loop",
    "for",
    "in",
    "continue",
    "break",
    "return",
    "throw",
    "try",
    "catch",
    "import",
    "export",
    "as",
    "global",
    "this",
    "true",
    "false",
    "is_shared",
];

/// All words of the text.
pub fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let (kind, length, open) = next(&text[start..], first);
        words.push(Word { kind, text: &text[start..start + length], start, open });
        start += length;
    }
    words
}

impl Word<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Whether the text ends inside a comment, or inside a string that may continue on the next line.
pub fn is_cut_off(text: &str) -> bool {
    let Some(last) = words(text).last().copied() else { return false };
    match last.kind {
        Kind::Comment => last.open,
        Kind::Text => last.open && (last.text.starts_with('`') || last.text.ends_with('\\')),
        _ => false,
    }
}

/// The position of the bracket that belongs to the one at byte `at`.
pub fn matching(text: &str, at: usize) -> Option<usize> {
    let words = words(text);
    let brackets: Vec<&Word> = words.iter().filter(|word| matches!(word.kind, Kind::Open | Kind::Close)).collect();
    let mut open: Vec<usize> = Vec::new();
    for bracket in brackets {
        let position = bracket.end() - 1;
        if bracket.kind == Kind::Open {
            open.push(position);
            continue;
        }
        let partner = open.pop()?;
        if position == at || partner == at {
            let fits = matches!((&text[partner..=partner], bracket.text), ("(", ")") | ("[", "]") | ("{", "}"));
            return fits.then_some(if position == at { partner } else { position });
        }
    }
    None
}

fn next(rest: &str, first: char) -> (Kind, usize, bool) {
    let run = |belongs: fn(char) -> bool| rest.find(|next| !belongs(next)).unwrap_or(rest.len());
    match first {
        _ if first.is_whitespace() => (Kind::Space, run(char::is_whitespace), false),
        _ if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), false),
        _ if rest.starts_with("/*") => comment(rest),
        '"' | '`' | '\'' => string(rest, first),
        _ if first.is_ascii_digit() => (Kind::Number, number(rest), false),
        _ if is_name(first) => {
            let name = &rest[..run(is_name)];
            (if KEYWORDS.contains(&name) { Kind::Keyword } else { Kind::Name }, name.len(), false)
        }
        '#' if rest.starts_with("#{") => (Kind::Open, 2, false),
        '(' | '[' | '{' => (Kind::Open, 1, false),
        ')' | ']' | '}' => (Kind::Close, 1, false),
        _ => (Kind::Symbol, first.len_utf8(), false),
    }
}

pub fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `1.5e-3`, but of `1.max(2)` and `0..9` the digits alone.
fn number(rest: &str) -> usize {
    let mut end = 0;
    let mut characters = rest.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let after = characters.peek().map(|(_, next)| *next);
        let belongs = match character {
            '.' => after.is_some_and(|next| next.is_ascii_digit()),
            '-' | '+' => rest[..at].ends_with(['e', 'E']) && !rest.starts_with("0x"),
            _ => is_name(character),
        };
        if !belongs {
            break;
        }
        end = at + character.len_utf8();
    }
    end
}

/// Block comments nest.
fn comment(rest: &str) -> (Kind, usize, bool) {
    let (mut depth, mut at) = (0, 0);
    while let Some(distance) = rest[at..].find(['/', '*']) {
        at += distance;
        let step = match rest[at..].get(..2) {
            Some("/*") => 1,
            Some("*/") => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            return (Kind::Comment, at, false);
        }
    }
    (Kind::Comment, rest.len(), true)
}

/// Only a string in backticks may hold line breaks; `${…}` inside one counts as part of it here.
fn string(rest: &str, mark: char) -> (Kind, usize, bool) {
    let mut characters = rest.char_indices().skip(1).peekable();
    let mut inside = 0;
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if mark != '`' => drop(characters.next()),
            '{' if mark == '`' && (inside > 0 || rest[..at].ends_with('$')) => inside += 1,
            '}' if inside > 0 => inside -= 1,
            '\n' if mark != '`' => return (Kind::Text, at, true),
            _ if character == mark && inside == 0 => return (Kind::Text, at + 1, false),
            _ => {}
        }
    }
    (Kind::Text, rest.len(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        words(text).into_iter().filter(|word| word.kind != Kind::Space).map(|word| (word.kind, word.text)).collect()
    }

    #[test]
    fn kinds_of_tokens() {
        use Kind::*;
        assert_eq!(
            kinds("let 이름 = 1.5e-3;"),
            [(Keyword, "let"), (Name, "이름"), (Symbol, "="), (Number, "1.5e-3"), (Symbol, ";")]
        );
        assert_eq!(kinds("1.max(0..9)")[..3], [(Number, "1"), (Symbol, "."), (Name, "max")]);
        assert_eq!(
            kinds("#{ a: `x${ #{b: 1}.b }` } // c"),
            [(Open, "#{"), (Name, "a"), (Symbol, ":"), (Text, "`x${ #{b: 1}.b }`"), (Close, "}"), (Comment, "// c")]
        );
        let text = "f(\"a\\\"b\", /* /* */ */ 2)";
        assert_eq!(words(text).iter().map(|word| word.text).collect::<String>(), text);
    }

    #[test]
    fn open_comments_and_strings_are_cut_off() {
        for text in ["/* a", "/* /* */", "print(`a", "\"a\\"] {
            assert!(is_cut_off(text), "{text}");
        }
        for text in ["", "/* a */", "`a`", "\"a", "// a", "let x = 1;"] {
            assert!(!is_cut_off(text), "{text}");
        }
    }

    #[test]
    fn brackets_find_their_partners() {
        assert_eq!(matching("f(\")\", [1])", 1), Some(10));
        assert_eq!(matching("f(\")\", [1])", 10), Some(1));
        assert_eq!(matching("#{ a: 1 }", 1), Some(8));
        assert_eq!(matching("(]", 0), None);
        assert_eq!(matching("f(", 1), None);
    }
}
