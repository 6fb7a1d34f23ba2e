//! The grey suggestion after the cursor: the arguments of the call that is being written, the
//! default of an option, or the rest of an earlier input.

use super::cursor;
use super::known::Known;
use super::syntax::{words, Kind, Word};
use crate::script::catalogue::docs::{Form, Function};
use crate::table::truncate;

/// A suggestion; `text` is what the Right key inserts, if it inserts anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub shown: String,
    pub text: Option<String>,
}

/// The most columns that a hint takes.
const WIDEST: usize = 60;

/// The hint at the end of `line`; `history` begins with the oldest input.
pub fn hint(known: &Known, line: &str, history: &[String]) -> Option<Hint> {
    if line.trim().is_empty() {
        return None;
    }
    let earlier = history.iter().rev().find(|entry| entry.starts_with(line) && entry.len() > line.len());
    let earlier = earlier.filter(|entry| !entry.contains('\n')).map(|entry| &entry[line.len()..]);
    match earlier {
        Some(rest) => Some(Hint { shown: rest.to_string(), text: Some(rest.to_string()) }),
        None => default(known, line)
            .or_else(|| arguments(known, line))
            .map(|shown| Hint { shown: truncate(&shown, WIDEST), text: None }),
    }
}

fn default(known: &Known, line: &str) -> Option<String> {
    let (call, path, name) = cursor::option(line)?;
    let option = known.options(&call, &path).into_iter().find(|option| option.name == name)?;
    Some(option.summary()).filter(|summary| !summary.is_empty())
}

/// The arguments still to be written, directly after a bracket or comma.
fn arguments(known: &Known, line: &str) -> Option<String> {
    let words: Vec<Word> = words(line).into_iter().filter(|word| word.kind != Kind::Space).collect();
    let last = words.last()?;
    if last.text != "(" && last.text != "," {
        return None;
    }
    let call = cursor::call(&words)?;
    let is_method = words.windows(2).any(|pair| pair[0].text == "." && pair[1].text == call.name);
    let left = |function: &Function| {
        let receivers = usize::from(is_method || function.form == Form::Method);
        let left = function.parameters.iter().skip(receivers + call.argument).map(shown).collect::<Vec<_>>();
        (!left.is_empty()).then(|| format!("{})", left.join(", ")))
    };
    let mut signatures: Vec<String> = known.callable(&call.name).filter_map(left).collect();
    signatures.sort_by_key(String::len);
    signatures.dedup();
    (!signatures.is_empty()).then(|| signatures.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" or "))
}

fn shown((name, kind): &(String, String)) -> String {
    if kind.is_empty() {
        name.clone()
    } else {
        format!("{name}: {kind}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::complete::tests::known;
    use super::*;

    #[test]
    fn arguments_defaults_and_earlier_inputs() {
        let known = known(&["fn mine(a, b) { a }"]);
        let shown = |line: &str| hint(&known, line, &[]).map(|hint| hint.shown);
        assert_eq!(shown("load_model("), Some("name: string) or name: string, options: map)".into()));
        assert_eq!(shown("load_model(\"a\", "), Some("options: map)".into()));
        assert_eq!(shown("mine("), Some("a, b)".into()));
        assert_eq!(shown("m.add_lora("), Some("options: map)".into()));
        assert_eq!(shown("lr_schedule(\"cosine\", #{ steps: "), Some("int, required: The steps of the run.".into()));
        assert_eq!(shown("let x = 1"), None);
        let history = ["let x = 1;".to_string(), "let y = 2;".to_string()];
        let shown = hint(&known, "let x", &history).unwrap();
        assert_eq!(shown, Hint { shown: " = 1;".into(), text: Some(" = 1;".into()) });
    }
}
