//! The tasks of KoBEST and their questions: reads the test rows and asks them as lm-evaluation-harness 0.4.13 does
//! (`kobest_*`, version 1.0).
//!
//! The test rows are those of the authors' files (`BoolQ/test.tsv`) or of the data set on the hub
//! (`boolq/test-….parquet`), which names the columns differently.

use crate::data::{Dataset, Row, RowRef};
use crate::error::{Error, Kind, Result};
use crate::eval::multiple_choice::{Metric, Question};
use crate::hub::{self, Hub};
use crate::options::{self, Mismatch, OptionType};
use serde_json::Value;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    BoolQ,
    Copa,
    HellaSwag,
    SentiNeg,
    WiC,
}

const NAMES: [(&str, Task); 5] = [
    ("boolq", Task::BoolQ),
    ("copa", Task::Copa),
    ("hellaswag", Task::HellaSwag),
    ("sentineg", Task::SentiNeg),
    ("wic", Task::WiC),
];

/// A task by the name of its configuration on the hub, with or without the prefix `kobest_`.
impl OptionType for Task {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn choices() -> &'static [&'static str] {
        &["boolq", "copa", "hellaswag", "sentineg", "wic"]
    }
    fn from_value(value: &options::Value) -> std::result::Result<Self, Mismatch> {
        let name = value.as_str().map(|name| name.strip_prefix("kobest_").unwrap_or(name));
        let task = NAMES.iter().find(|(known, _)| Some(*known) == name).map(|(_, task)| *task);
        task.ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> options::Value {
        options::Value::Text(self.name().to_owned())
    }
}

impl Task {
    pub const ALL: [Task; 5] = [Task::BoolQ, Task::Copa, Task::HellaSwag, Task::SentiNeg, Task::WiC];

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, task)| *task == self).map_or("", |(name, _)| name)
    }

    /// The metrics that lm-evaluation-harness reports.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::HellaSwag => &[Metric::Acc, Metric::AccNorm, Metric::F1],
            _ => &[Metric::Acc, Metric::F1],
        }
    }

    /// The questions of the first `limit` test rows, in order.
    ///
    /// `data` is a folder with a folder for each task, or the name of a data set on the hub.
    pub fn questions(
        self,
        data: &str,
        limit: Option<usize>,
        hub: &Hub,
        observer: &mut dyn hub::FetchObserver,
    ) -> Result<Vec<Question>> {
        let rows = self.rows(data, hub, observer).map_err(|error| error.context(format!("kobest {}", self.name())))?;
        let question = |(number, row): (usize, Result<RowRef>)| {
            row.and_then(|row| self.question(&row))
                .map_err(|error| error.context(format!("kobest {}: row {number}", self.name())))
        };
        rows.iter().take(limit.unwrap_or(usize::MAX)).enumerate().map(question).collect()
    }

    /// Reads the test rows. Rows with an empty field are left out, as in the data set on the hub.
    fn rows(self, data: &str, hub: &Hub, observer: &mut dyn hub::FetchObserver) -> Result<Dataset> {
        let pattern = format!("{}/test**", self.folder(data)?);
        let files = hub::resolve_dataset(data, Some(&pattern), hub, observer)?;
        let paths = files.splits.get("test").map(Vec::as_slice).unwrap_or_default();
        Dataset::load_files(paths, None)?.filter(|row, _| Ok(!row.values().any(Value::is_null)))
    }

    /// The folder of the task in `data`, which the authors write with capitals.
    fn folder(self, data: &str) -> Result<String> {
        hub::ensure_may_load(data)?;
        let path = Path::new(data);
        if !path.is_dir() {
            return Ok(self.name().to_owned());
        }
        let entries = std::fs::read_dir(path).map_err(|error| Error::file("read the folder", path, &error))?;
        let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let name = names.find(|name| name.eq_ignore_ascii_case(self.name()));
        name.ok_or_else(|| {
            Error::new(Kind::File, format!("no folder `{}` in `{data}`", self.name()))
                .with_hint("`data` is the folder that holds BoolQ, COPA, HellaSwag, SentiNeg and WiC")
        })
    }

    /// The question of a row, with either set of column names.
    pub fn question(self, row: &Row) -> Result<Question> {
        let text = |names: &[&str]| text(row, names);
        let (context, choices, answer) = match self {
            Task::BoolQ => {
                let (paragraph, question) = (text(&["paragraph", "Text"])?, text(&["question", "Question"])?);
                let choices = vec!["아니오".to_owned(), "예".to_owned()];
                (format!("{paragraph} 질문: {question} 답변: "), choices, truth(row, "Answer")?)
            }
            Task::Copa => {
                let (premise, connector) = (text(&["premise", "sentence"])?, connector(&text(&["question"])?)?);
                let choices = vec![text(&["alternative_1", "1"])?, text(&["alternative_2", "2"])?];
                // The authors count the alternatives from 1.
                let answer = match row.get("label") {
                    Some(_) => number(row, "label")?,
                    None => number(row, "Answer")? - 1,
                };
                (format!("{premise} {connector}"), choices, answer)
            }
            Task::HellaSwag => {
                let ending = |n: usize| text(&[&format!("ending_{n}"), &format!("choice{n}")]);
                let choices = (1..=4).map(ending).collect::<Result<_>>()?;
                (format!("문장: {}", text(&["context"])?), choices, number(row, "label")?)
            }
            Task::SentiNeg => {
                let label = if row.contains_key("label") { "label" } else { "Label" };
                let choices = vec!["부정".to_owned(), "긍정".to_owned()];
                (format!("문장: {} 긍부정:", text(&["sentence", "Text"])?), choices, number(row, label)?)
            }
            Task::WiC => {
                let word = text(&["word", "Target"])?;
                let (first, second) = (text(&["context_1", "SENTENCE1"])?, text(&["context_2", "SENTENCE2"])?);
                let question = format!("문장1: {first} 문장2: {second} 두 문장에서 {word}가 같은 뜻으로 쓰였나?");
                (question, vec!["아니오".to_owned(), "예".to_owned()], truth(row, "ANSWER")?)
            }
        };
        let answer = usize::try_from(answer).ok().filter(|&answer| answer < choices.len());
        let answer = answer.ok_or_else(|| Error::data("the label names none of the choices"))?;
        Ok(Question { context, choices, answer })
    }
}

/// The word that asks for the cause of a premise, or for its result. It follows the premise after two spaces.
fn connector(question: &str) -> Result<&'static str> {
    match question.trim() {
        "원인" => Ok(" 왜냐하면"),
        "결과" => Ok(" 그래서"),
        other => Err(Error::data(format!("column `question`: expected 원인 or 결과, found {other}"))),
    }
}

fn column<'a>(row: &'a Row, names: &[&str]) -> Result<&'a Value> {
    names.iter().find_map(|name| row.get(*name)).ok_or_else(|| {
        let known: Vec<&str> = row.keys().map(String::as_str).collect();
        Error::data(format!("expected a column `{}`, found {}", names.join("` or `"), known.join(", ")))
            .with_hint("`data` must hold KoBEST v1 as its authors or skt/kobest_v1 publish it")
    })
}

fn text(row: &Row, names: &[&str]) -> Result<String> {
    let value = column(row, names)?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn number(row: &Row, name: &str) -> Result<i64> {
    let value = column(row, &[name])?;
    value.as_i64().ok_or_else(|| Error::data(format!("column `{name}`: expected a whole number, found {value}")))
}

/// Reads the label in the hub's data set, or the word in the authors' file.
fn truth(row: &Row, authors: &str) -> Result<i64> {
    if row.contains_key("label") {
        return number(row, "label");
    }
    let value = column(row, &["label", authors])?;
    match value.as_bool().map_or_else(|| text(row, &[authors]), |flag| Ok(flag.to_string()))?.to_lowercase().as_str() {
        "true" => Ok(1),
        "false" => Ok(0),
        other => Err(Error::data(format!("column `{authors}`: expected True or False, found {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn question(task: Task, row: Value) -> Result<Question> {
        task.question(row.as_object().unwrap())
    }

    #[test]
    fn both_sets_of_columns_ask_the_same() {
        let hub = json!({"premise": "비가 왔다.", "question": "결과", "alternative_1": "a", "alternative_2": "b", "label": 1});
        let authors = json!({"ID": 1, "sentence": "비가 왔다.", "question": "결과 ", "1": "a", "2": "b", "Answer": 2});
        let copa = question(Task::Copa, hub).unwrap();
        assert_eq!(copa, question(Task::Copa, authors).unwrap());
        assert_eq!((copa.context.as_str(), copa.answer), ("비가 왔다.  그래서", 1));
        let hub = json!({"word": "철", "context_1": "x", "context_2": "y", "label": 0});
        let authors = json!({"Target": "철", "SENTENCE1": "x", "SENTENCE2": "y", "ANSWER": false});
        assert_eq!(question(Task::WiC, hub).unwrap(), question(Task::WiC, authors).unwrap());
    }

    #[test]
    fn other_data_is_refused_by_name() {
        let error = question(Task::BoolQ, json!({"text": "t", "question": "q"})).unwrap_err();
        assert_eq!(error.message, "expected a column `paragraph` or `Text`, found text, question");
        let sentence = |label: Value| question(Task::SentiNeg, json!({"sentence": "t", "label": label}));
        assert_eq!(sentence(json!(2)).unwrap_err().message, "the label names none of the choices");
        assert!(sentence(json!("good")).unwrap_err().message.contains("expected a whole number"));
        let tasks = |name: &str| Vec::<Task>::from_value(&options::Value::from(&json!([name])));
        assert!(tasks("bolq").unwrap_err().hint.unwrap().contains("did you mean `boolq`"));
        assert_eq!(tasks("kobest_wic").unwrap(), [Task::WiC]);
    }
}
