//! Recognises by its columns which kind of training example the rows of a data set are.
//!
//! TRL's dataset types and two older ones: `messages`, `prompt` + `completion`, Alpaca's `instruction` (+ `input`) +
//! `output`, preferences of `chosen` and `rejected`, ShareGPT's `conversations`, and `text`, tried in this order. Leaves to
//! others: reading a row as an example (`example.rs`) or as a preference (`preference.rs`).

use super::store::RowKind;
use crate::error::{Error, Result};
use crate::suggest;
use serde_json::Value;

/// A dataset type, in TRL's sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    Messages,
    /// ShareGPT: `conversations` of `from` and `value`.
    Conversations,
    PromptCompletion,
    Alpaca,
    /// `chosen` and `rejected`, with `prompt` or without.
    Preference,
    /// `prompt`, `completion` and a `label` that is true or false.
    Labelled,
    Text,
}

/// The column of language-modelling text, unless the option `text_column` names another.
pub const TEXT: &str = "text";

pub const CHOSEN: &str = "chosen";
pub const REJECTED: &str = "rejected";
pub const LABEL: &str = "label";

const ALPACA: [&str; 6] = ["instruction", "input", "output", "system", "tools", "chat_template_kwargs"];

const EXPECTED: &str =
    "`messages`, `conversations`, `prompt` + `completion`, `instruction` (+ `input`) + `output`, `text`, or (for preferences) `chosen` + `rejected`";
const KNOWN: [&str; 8] =
    ["messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text"];

/// Names that data sets give to the question, to the text it is about, and to the answer; the likelier first.
const QUESTIONS: [&str; 8] = ["instruction", "prompt", "question", "query", "problem", "user", "input", "source"];
const CONTEXTS: [&str; 5] = ["context", "input", "passage", "document", "article"];
const ANSWERS: [&str; 11] = [
    "completion",
    "output",
    "response",
    "answer",
    "chosen",
    "target",
    "reply",
    "assistant",
    "solution",
    "summary",
    "label",
];

impl RowFormat {
    /// Recognises the format by the columns of a table. `text_column` is the column that the user named; if the table
    /// has it, the rows are text whatever the other columns are.
    pub fn recognise(columns: &[String], text_column: Option<&str>) -> Result<Self> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        if text_column.is_some_and(has) {
            Ok(RowFormat::Text)
        } else if has("messages") {
            Ok(RowFormat::Messages)
        } else if has("prompt") && has("completion") {
            Ok(RowFormat::PromptCompletion)
        } else if has("instruction") && has("output") {
            Ok(RowFormat::Alpaca)
        } else if has(CHOSEN) && has(REJECTED) {
            Ok(RowFormat::Preference)
        } else if has("conversations") {
            Ok(RowFormat::Conversations)
        } else if has(TEXT) {
            Ok(RowFormat::Text)
        } else {
            Err(unrecognised(columns))
        }
    }

    /// The format where the first row's `label` decides: true or false beside a completion is KTO's.
    pub fn with_label(self, label: Option<&Value>) -> Self {
        if self == RowFormat::PromptCompletion && label.is_some_and(Value::is_boolean) {
            RowFormat::Labelled
        } else {
            self
        }
    }

    pub fn kind(self) -> RowKind {
        match self {
            RowFormat::Preference => RowKind::Pairs,
            RowFormat::Labelled => RowKind::Labelled,
            _ => RowKind::Examples,
        }
    }

    /// One line for the user: what the rows are read as, from which columns, and which columns are not used.
    pub fn describe(self, columns: &[String], text_column: &str, has_template: bool) -> String {
        let (kind, names): (&str, &[&str]) = match self {
            RowFormat::Messages => ("as conversations", &["messages", "tools", "chat_template_kwargs"]),
            RowFormat::Conversations => {
                ("as conversations", &["conversations", "system", "tools", "chat_template_kwargs"])
            }
            RowFormat::PromptCompletion => {
                ("as prompts and completions", &["prompt", "completion", "tools", "chat_template_kwargs"])
            }
            RowFormat::Preference => {
                ("as preferences", &["prompt", "conversations", CHOSEN, REJECTED, "tools", "chat_template_kwargs"])
            }
            RowFormat::Labelled => {
                ("as labelled completions", &["prompt", "completion", LABEL, "tools", "chat_template_kwargs"])
            }
            RowFormat::Alpaca if has_template => ("as conversations for the chat template", &ALPACA),
            RowFormat::Alpaca => ("as \"### Instruction:\" text, because there is no chat template,", &ALPACA[..4]),
            RowFormat::Text => ("as plain text", &[]),
        };
        let is_used = |column: &str| names.contains(&column) || (self == RowFormat::Text && column == text_column);
        let (used, unused): (Vec<&str>, Vec<&str>) = columns.iter().map(String::as_str).partition(|name| is_used(name));
        let unused = if unused.is_empty() { String::new() } else { format!("; not used: {}", unused.join(", ")) };
        format!("rows are read {kind} from {}{unused}", used.join(", "))
    }
}

fn unrecognised(columns: &[String]) -> Error {
    let error = Error::data(format!("expected columns {EXPECTED}, found [{}]", columns.join(", ")));
    if let Some(hint) = by_role(columns) {
        return error.with_hint(hint);
    }
    let misspelt = columns.iter().filter(|column| !KNOWN.contains(&column.as_str()));
    let near = misspelt.filter_map(|column| Some((column, suggest::nearest(column, KNOWN)?))).next();
    error.with_hint(match near {
        Some((column, known)) => {
            format!("did you mean `{known}` for `{column}`? rename the column, or map the rows")
        }
        _ => by_hand(columns),
    })
}

/// How to map the rows, where column names such as `question` and `answer` say which is which.
fn by_role(columns: &[String]) -> Option<String> {
    let find = |names: &[&'static str], except: &[&str]| {
        names.iter().copied().find(|name| !except.contains(name) && columns.iter().any(|column| column == name))
    };
    let answer = find(&ANSWERS, &[])?;
    let question = find(&QUESTIONS, &[answer])?;
    let pair = |text: String| format!("map the rows, as in data.map(|row| {text})");
    Some(match find(&CONTEXTS, &[answer, question]) {
        Some(context) => {
            pair(format!("#{{ instruction: row.{question}, input: row.{context}, output: row.{answer} }}"))
        }
        None if question == "prompt" || answer == "completion" => {
            pair(format!("#{{ prompt: row.{question}, completion: row.{answer} }}"))
        }
        None => pair(format!("#{{ instruction: row.{question}, output: row.{answer} }}")),
    })
}

/// How to map the rows, where the column names say nothing.
fn by_hand(columns: &[String]) -> String {
    match columns {
        [_, _, ..] => "map the rows, with the names of your columns: data.map(|row| #{ prompt: row.QUESTION, \
                       completion: row.ANSWER })"
            .to_owned(),
        [only] => format!("for plain text give the column: text_column: \"{only}\""),
        [] => "map each row to one of these formats".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_names_of_the_columns() {
        let hint = |columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
            RowFormat::recognise(&columns, None).unwrap_err().hint.unwrap()
        };
        for (columns, expected) in [
            (&["question", "answer"][..], "#{ instruction: row.question, output: row.answer }"),
            (&["id", "prompt", "response"], "#{ prompt: row.prompt, completion: row.response }"),
            (&["context", "instruction", "response"], "input: row.context, output: row.response }"),
            (
                &["instruction", "context", "response", "category"],
                "#{ instruction: row.instruction, input: row.context,",
            ),
            (&["input", "output"], "#{ instruction: row.input, output: row.output }"),
            (&["input", "target"], "#{ instruction: row.input, output: row.target }"),
            (&["question", "context", "answer"], "instruction: row.question, input: row.context, output: row.answer"),
            (&["prompt", "chosen"], "#{ prompt: row.prompt, completion: row.chosen }"),
            (&["article", "summary", "question"], "instruction: row.question, input: row.article, output: row.summary"),
        ] {
            assert!(hint(columns).contains(expected), "{columns:?}: {}", hint(columns));
        }
        assert!(!hint(&["left", "right"]).contains("row.left"), "columns that say nothing are not guessed");
    }

    #[test]
    fn a_named_text_column_comes_first() {
        let columns: Vec<String> = ["instruction", "input", "output", "text"].map(String::from).into();
        assert_eq!(RowFormat::recognise(&columns, Some("text")).unwrap(), RowFormat::Text);
        assert_eq!(RowFormat::recognise(&columns, None).unwrap(), RowFormat::Alpaca);
        let read = |shape: RowFormat, chat| shape.describe(&columns, "text", chat);
        assert_eq!(
            read(RowFormat::Text, true),
            "rows are read as plain text from text; not used: instruction, input, output"
        );
        assert!(read(RowFormat::Alpaca, true)
            .contains("conversations for the chat template from instruction, input, output; "));
        assert!(read(RowFormat::Alpaca, false).contains("text, because there is no chat template, from instruction"));
    }

    #[test]
    fn unrecognised_columns_are_listed() {
        let columns = ["question".to_owned(), "message".to_owned()];
        let error = RowFormat::recognise(&columns, None).unwrap_err();
        assert!(
            error.message.contains("found [question, message]") && error.message.contains("`prompt` + `completion`")
        );
        assert!(error.hint.unwrap().contains("`messages` for `message`"));
    }
}
