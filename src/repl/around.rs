//! What stands around the cursor: a member behind a dot, a key in a call's map, a place
//! inside a string, the call whose arguments are being written.

use super::known::Step;
use super::syntax::{words, Kind, Word};

/// Where the word under the cursor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A variable, function or keyword may stand here.
    Name,
    /// Behind the dot of this expression; empty where it is of no known form.
    Member(Vec<Step>),
    /// A key of the options of `call`, or of the map at `path` inside them.
    Key { call: String, path: Vec<String>, given: Vec<String> },
    /// Inside a string, maybe an argument of a call.
    Text { call: Option<Call> },
    /// Nothing is known here: a comment, a number.
    Nothing,
}

/// A call that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// The number of arguments before the cursor's.
    pub argument: usize,
}

/// The place at the end of `text`, and the byte where its unfinished word begins.
pub fn place(text: &str) -> (usize, Place) {
    let all = words(text);
    let mut words: Vec<Word> = all.into_iter().filter(|word| word.kind != Kind::Space).collect();
    let touching = words.last().copied().filter(|last| last.end() == text.len());
    match touching.map(|last| (last, last.kind)) {
        Some((last, Kind::Text)) if last.open => {
            words.pop();
            (last.start + 1, Place::Text { call: call(&words) })
        }
        Some((last, Kind::Comment)) if last.open || last.text.starts_with("//") => (last.start, Place::Nothing),
        Some((last, Kind::Number)) => (last.start, Place::Nothing),
        Some((last, Kind::Name | Kind::Keyword)) => {
            words.pop();
            (last.start, of_word(&words))
        }
        _ => (text.len(), of_word(&words)),
    }
}

fn of_word(before: &[Word]) -> Place {
    let last = before.last().map_or("", |last| last.text);
    match last {
        "." if before.iter().rev().nth(1).is_none_or(|word| word.text != ".") => {
            Place::Member(chain(&before[..before.len() - 1]).unwrap_or_default())
        }
        "#{" | "," => key(before).unwrap_or(Place::Name),
        _ => Place::Name,
    }
}

/// The brackets that are open at the end, by their places among the words.
fn opened(words: &[Word]) -> Vec<usize> {
    let mut opened = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match word.kind {
            Kind::Open => opened.push(at),
            Kind::Close => drop(opened.pop()),
            _ => {}
        }
    }
    opened
}

/// The innermost call that is being written.
pub fn call(words: &[Word]) -> Option<Call> {
    let innermost = *opened(words).last()?;
    let before = innermost.checked_sub(1).map(|at| words[at])?;
    if words[innermost].text != "(" || before.kind != Kind::Name {
        return None;
    }
    Some(Call { name: before.text.to_string(), argument: commas(&words[innermost + 1..]) })
}

/// Commas outside inner brackets.
fn commas(words: &[Word]) -> usize {
    let mut depth = 0;
    let mut count = 0;
    for word in words {
        match word.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            _ if depth == 0 && word.text == "," => count += 1,
            _ => {}
        }
    }
    count
}

fn key(words: &[Word]) -> Option<Place> {
    let mut opened = opened(words);
    let map = opened.pop()?;
    if words[map].text != "#{" {
        return None;
    }
    let given = given(&words[map + 1..]);
    let (call, path) = owner(words, map, opened)?;
    Some(Place::Key { call, path, given })
}

/// The call that the map at `map` is an argument of, and the keys that lead to it there.
pub fn owner(words: &[Word], mut map: usize, mut opened: Vec<usize>) -> Option<(String, Vec<String>)> {
    let mut path = Vec::new();
    loop {
        let outer = opened.pop()?;
        match (words[outer].text, words[..map].last()?.text) {
            ("#{", ":") => path.insert(0, words[map.checked_sub(2)?].text.to_string()),
            ("(", _) => {
                let name = words[..outer].last().filter(|word| word.kind == Kind::Name)?;
                return Some((name.text.to_string(), path));
            }
            _ => return None,
        }
        map = outer;
    }
}

/// The option whose value is being written: call, path and name.
pub fn option(text: &str) -> Option<(String, Vec<String>, String)> {
    let words: Vec<Word> = words(text).into_iter().filter(|word| word.kind != Kind::Space).collect();
    let [.., name, colon] = words.as_slice() else { return None };
    let mut opened = opened(&words);
    let map = opened.pop().filter(|map| words[*map].text == "#{" && colon.text == ":")?;
    let (call, path) = owner(&words, map, opened)?;
    Some((call, path, name.text.to_string()))
}

fn given(words: &[Word]) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    for pair in words.windows(2) {
        match pair[0].kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            _ if depth == 0 && pair[1].text == ":" => found.push(pair[0].text.to_string()),
            _ => {}
        }
    }
    found
}

/// The chain of names, calls and elements that the words end with.
pub fn chain(words: &[Word]) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut end = words.len();
    loop {
        let mut elements = 0;
        while words[..end].last()?.text == "]" && is_behind_value(words, opening(&words[..end])?) {
            end = opening(&words[..end])?;
            elements += 1;
        }
        steps.extend(std::iter::repeat_n(Step::Element, elements));
        let last = words[..end].last()?;
        let (step, start) = match (last.kind, last.text) {
            (Kind::Text, _) => (Step::Literal("string"), end - 1),
            (Kind::Name, name) => (Step::Name(name.to_string()), end - 1),
            (Kind::Close, ")") => {
                let open = opening(&words[..end])?;
                let name = words[..open].last().filter(|word| word.kind == Kind::Name)?;
                (Step::Call(name.text.to_string()), open - 1)
            }
            (Kind::Close, "]") => (Step::Literal("array"), opening(&words[..end])?),
            _ => return None,
        };
        steps.push(step);
        match words[..start].last() {
            Some(dot) if dot.text == "." || dot.text == "?" => end = start - 1,
            _ => break,
        }
    }
    steps.reverse();
    Some(steps)
}

/// Is the bracket at `at` an index, and not the start of an array?
fn is_behind_value(words: &[Word], at: usize) -> bool {
    words[..at].last().is_some_and(|before| matches!(before.kind, Kind::Name | Kind::Close | Kind::Text))
}

/// The place of the bracket that the last of the words closes.
fn opening(words: &[Word]) -> Option<usize> {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().rev() {
        match word.kind {
            Kind::Close => depth += 1,
            Kind::Open => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Step {
        Step::Name(text.into())
    }

    #[test]
    fn behind_a_dot_the_chain_is_read() {
        assert_eq!(place("let a = model.fo"), (14, Place::Member(vec![name("model")])));
        let chain = vec![name("cfg"), Step::Call("f".into()), Step::Element, name("loss")];
        assert_eq!(place("x + cfg.f(1, [2])[0].loss."), (26, Place::Member(chain)));
        assert_eq!(place("\"ab\".l").1, Place::Member(vec![Step::Literal("string")]));
        assert_eq!(place("[1, 2].l").1, Place::Member(vec![Step::Literal("array")]));
        assert_eq!(place("(1 + 2).l").1, Place::Member(vec![]));
        assert_eq!(place("0..le").1, Place::Name);
    }

    #[test]
    fn keys_belong_to_the_call_around_the_map() {
        let key = |path: &[&str], given: &[&str]| Place::Key {
            call: "sweep".into(),
            path: path.iter().map(|part| part.to_string()).collect(),
            given: given.iter().map(|part| part.to_string()).collect(),
        };
        assert_eq!(place("sweep(base, data, #{ gr"), (21, key(&[], &[])));
        assert_eq!(place("sweep(base, data, #{ grid: #{ r: [1] }, t").1, key(&[], &["grid"]));
        assert_eq!(place("sweep(base, data, #{ train: #{ lr: 1, ").1, key(&["train"], &["lr"]));
        assert_eq!(place("let m = #{ a").1, Place::Name);
        assert_eq!(place("sweep(base, #{ a: f(b, c").1, Place::Name);
        let value = Some(("sweep".to_string(), vec!["train".to_string()], "lr".to_string()));
        assert_eq!(option("sweep(b, #{ train: #{ lr: "), value);
        assert_eq!(option("sweep(b, #{ train"), None);
    }

    #[test]
    fn texts_know_their_call() {
        let call = |name: &str, argument| Place::Text { call: Some(Call { name: name.into(), argument }) };
        assert_eq!(place("load_model(\"scr"), (12, call("load_model", 0)));
        assert_eq!(place("f(a, g(1, 2), \"").1, call("f", 2));
        assert_eq!(place("let a = \"scr").1, Place::Text { call: None });
        assert_eq!(place("// a").1, Place::Nothing);
    }
}
