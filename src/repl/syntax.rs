//! The words of a line as a reader sees them: for colours, brackets, and what stands
//! around the cursor. The language's own parser decides what is right.

/// A stretch of the text, without gaps from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// The byte it begins at.
    pub start: usize,
    /// A text or comment that the end of the input cuts off.
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
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(letter) = text[start..].chars().next() {
        let (kind, length, open) = next(&text[start..], letter);
        found.push(Word { kind, text: &text[start..start + length], start, open });
        start += length;
    }
    found
}

impl Word<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Does the text end inside a comment, or inside a string that may go on in the next line?
pub fn is_cut_off(text: &str) -> bool {
    let Some(last) = words(text).last().copied() else { return false };
    match last.kind {
        Kind::Comment => last.open,
        Kind::Text => last.open && (last.text.starts_with('`') || last.text.ends_with('\\')),
        _ => false,
    }
}

/// The bracket that belongs to the one at byte `at`, by their places.
pub fn matching(text: &str, at: usize) -> Option<usize> {
    let words = words(text);
    let brackets: Vec<&Word> = words.iter().filter(|word| matches!(word.kind, Kind::Open | Kind::Close)).collect();
    let mut opened: Vec<usize> = Vec::new();
    for bracket in brackets {
        let place = bracket.end() - 1;
        if bracket.kind == Kind::Open {
            opened.push(place);
            continue;
        }
        let partner = opened.pop()?;
        if place == at || partner == at {
            let fits = matches!((&text[partner..=partner], bracket.text), ("(", ")") | ("[", "]") | ("{", "}"));
            return fits.then_some(if place == at { partner } else { place });
        }
    }
    None
}

fn next(rest: &str, letter: char) -> (Kind, usize, bool) {
    let run = |belongs: fn(char) -> bool| rest.find(|next| !belongs(next)).unwrap_or(rest.len());
    match letter {
        _ if letter.is_whitespace() => (Kind::Space, run(char::is_whitespace), false),
        _ if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), false),
        _ if rest.starts_with("/*") => comment(rest),
        '"' | '`' | '\'' => string(rest, letter),
        _ if letter.is_ascii_digit() => (Kind::Number, number(rest), false),
        _ if is_name(letter) => {
            let name = &rest[..run(is_name)];
            (if KEYWORDS.contains(&name) { Kind::Keyword } else { Kind::Name }, name.len(), false)
        }
        '#' if rest.starts_with("#{") => (Kind::Open, 2, false),
        '(' | '[' | '{' => (Kind::Open, 1, false),
        ')' | ']' | '}' => (Kind::Close, 1, false),
        _ => (Kind::Symbol, letter.len_utf8(), false),
    }
}

pub fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// `1.5e-3`, but of `1.max(2)` and `0..9` the digits alone.
fn number(rest: &str) -> usize {
    let mut end = 0;
    let mut characters = rest.char_indices().peekable();
    while let Some((at, letter)) = characters.next() {
        let after = characters.peek().map(|(_, next)| *next);
        let belongs = match letter {
            '.' => after.is_some_and(|next| next.is_ascii_digit()),
            '-' | '+' => rest[..at].ends_with(['e', 'E']) && !rest.starts_with("0x"),
            _ => is_name(letter),
        };
        if !belongs {
            break;
        }
        end = at + letter.len_utf8();
    }
    end
}

/// Block comments nest.
fn comment(rest: &str) -> (Kind, usize, bool) {
    let (mut depth, mut at) = (0, 0);
    while let Some(found) = rest[at..].find(['/', '*']) {
        at += found;
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

/// Only between backticks a text may hold line breaks; `${…}` inside one is part of it here.
fn string(rest: &str, mark: char) -> (Kind, usize, bool) {
    let mut characters = rest.char_indices().skip(1).peekable();
    let mut inside = 0;
    while let Some((at, letter)) = characters.next() {
        match letter {
            '\\' if mark != '`' => drop(characters.next()),
            '{' if mark == '`' && (inside > 0 || rest[..at].ends_with('$')) => inside += 1,
            '}' if inside > 0 => inside -= 1,
            '\n' if mark != '`' => return (Kind::Text, at, true),
            _ if letter == mark && inside == 0 => return (Kind::Text, at + 1, false),
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
    fn words_are_told_apart() {
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
    fn open_comments_and_texts_are_cut_off() {
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
