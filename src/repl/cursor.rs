//! What the text before the cursor calls for: a name, a member after a dot, a key of a call's
//! map, the content of a string; and the call whose arguments are being written.

use super::known::Step;
use super::syntax::{words, Kind, Word};

/// What can be written at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A variable, function or keyword.
    Name,
    /// A member of this expression; empty where its form is unknown.
    Member(Vec<Step>),
    /// A key of the options of `call`, or of the map at `path` inside them; `written` are those before it.
    Key { call: String, path: Vec<String>, written: Vec<String> },
    /// The content of a string, which may be an argument of a call.
    Text { call: Option<Call> },
    /// Nothing to complete: a comment, a number.
    Nothing,
}

/// A call that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// The index of the argument at the cursor.
    pub argument: usize,
}

/// What the end of `text` calls for, and the byte where its unfinished word begins.
pub fn context(text: &str) -> (usize, Context) {
    let all = words(text);
    let mut words: Vec<Word> = all.into_iter().filter(|word| word.kind != Kind::Space).collect();
    let unfinished = words.last().copied().filter(|last| last.end() == text.len());
    match unfinished.map(|last| (last, last.kind)) {
        Some((last, Kind::Text)) if last.open => {
            words.pop();
            (last.start + 1, Context::Text { call: call(&words) })
        }
        Some((last, Kind::Comment)) if last.open || last.text.starts_with("//") => (last.start, Context::Nothing),
        Some((last, Kind::Number)) => (last.start, Context::Nothing),
        Some((last, Kind::Name | Kind::Keyword)) => {
            words.pop();
            (last.start, after(&words))
        }
        _ => (text.len(), after(&words)),
    }
}

fn after(before: &[Word]) -> Context {
    let last = before.last().map_or("", |last| last.text);
    match last {
        "." if before.iter().rev().nth(1).is_none_or(|word| word.text != ".") => {
            Context::Member(chain(&before[..before.len() - 1]).unwrap_or_default())
        }
        "#{" | "," => key(before).unwrap_or(Context::Name),
        _ => Context::Name,
    }
}

/// The indices of the brackets that are still open at the end.
fn open_brackets(words: &[Word]) -> Vec<usize> {
    let mut open = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match word.kind {
            Kind::Open => open.push(at),
            Kind::Close => drop(open.pop()),
            _ => {}
        }
    }
    open
}

/// The innermost call that is being written.
pub fn call(words: &[Word]) -> Option<Call> {
    let innermost = *open_brackets(words).last()?;
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

fn key(words: &[Word]) -> Option<Context> {
    let mut open = open_brackets(words);
    let map = open.pop()?;
    if words[map].text != "#{" {
        return None;
    }
    let written = keys(&words[map + 1..]);
    let (call, path) = owning_call(words, map, open)?;
    Some(Context::Key { call, path, written })
}

/// The call that the map at `map` is an argument of, and the keys that lead to it there.
fn owning_call(words: &[Word], mut map: usize, mut open: Vec<usize>) -> Option<(String, Vec<String>)> {
    let mut path = Vec::new();
    loop {
        let outer = open.pop()?;
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
    let mut open = open_brackets(&words);
    let map = open.pop().filter(|map| words[*map].text == "#{" && colon.text == ":")?;
    let (call, path) = owning_call(&words, map, open)?;
    Some((call, path, name.text.to_string()))
}

/// The keys of a map, inner maps left out.
fn keys(words: &[Word]) -> Vec<String> {
    let mut depth = 0;
    let mut keys = Vec::new();
    for pair in words.windows(2) {
        match pair[0].kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            _ if depth == 0 && pair[1].text == ":" => keys.push(pair[0].text.to_string()),
            _ => {}
        }
    }
    keys
}

/// The chain of names, calls and elements that the words end with.
pub fn chain(words: &[Word]) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut end = words.len();
    loop {
        let mut elements = 0;
        while words[..end].last()?.text == "]" && follows_value(words, opening(&words[..end])?) {
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
fn follows_value(words: &[Word], at: usize) -> bool {
    words[..at].last().is_some_and(|before| matches!(before.kind, Kind::Name | Kind::Close | Kind::Text))
}

/// The index of the bracket that the last word closes.
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
    fn after_a_dot_the_chain_is_read() {
        assert_eq!(context("let a = model.fo"), (14, Context::Member(vec![name("model")])));
        let chain = vec![name("cfg"), Step::Call("f".into()), Step::Element, name("loss")];
        assert_eq!(context("x + cfg.f(1, [2])[0].loss."), (26, Context::Member(chain)));
        assert_eq!(context("\"ab\".l").1, Context::Member(vec![Step::Literal("string")]));
        assert_eq!(context("[1, 2].l").1, Context::Member(vec![Step::Literal("array")]));
        assert_eq!(context("(1 + 2).l").1, Context::Member(vec![]));
        assert_eq!(context("0..le").1, Context::Name);
    }

    #[test]
    fn keys_belong_to_the_call_around_the_map() {
        let key = |path: &[&str], written: &[&str]| Context::Key {
            call: "sweep".into(),
            path: path.iter().map(|part| part.to_string()).collect(),
            written: written.iter().map(|part| part.to_string()).collect(),
        };
        assert_eq!(context("sweep(base, data, #{ gr"), (21, key(&[], &[])));
        assert_eq!(context("sweep(base, data, #{ grid: #{ r: [1] }, t").1, key(&[], &["grid"]));
        assert_eq!(context("sweep(base, data, #{ train: #{ lr: 1, ").1, key(&["train"], &["lr"]));
        assert_eq!(context("let m = #{ a").1, Context::Name);
        assert_eq!(context("sweep(base, #{ a: f(b, c").1, Context::Name);
        let value = Some(("sweep".to_string(), vec!["train".to_string()], "lr".to_string()));
        assert_eq!(option("sweep(b, #{ train: #{ lr: "), value);
        assert_eq!(option("sweep(b, #{ train"), None);
    }

    #[test]
    fn strings_know_their_call() {
        let call = |name: &str, argument| Context::Text { call: Some(Call { name: name.into(), argument }) };
        assert_eq!(context("load_model(\"scr"), (12, call("load_model", 0)));
        assert_eq!(context("f(a, g(1, 2), \"").1, call("f", 2));
        assert_eq!(context("let a = \"scr").1, Context::Text { call: None });
        assert_eq!(context("// a").1, Context::Nothing);
    }
}
