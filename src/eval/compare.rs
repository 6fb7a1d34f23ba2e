//! The same prompts answered by several adapters, and by the base without one, in one pass.

use super::candidate::{adapter_set, Candidate};
use super::config::GenerationConfig;
use super::generate::{generate, Continuation, Finish, NewToken};
use super::prompt::Prompt;
use super::text::before_stop;
use crate::error::{Error, Result};
use crate::foreign;
use crate::lora::Model;
use crate::options::Refusal;
use crate::table;
use serde_json::{json, Value};

/// Answers side by side.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The adapters, in the order of the call; `base` is none.
    pub names: Vec<String>,
    pub rows: Vec<Compared>,
    /// Model and options that decide the texts, with their values as text.
    pub settings: Vec<(String, String)>,
}

/// A prompt with its answers.
#[derive(Debug, Clone)]
pub struct Compared {
    pub prompt: String,
    /// The expected answer, where it is known.
    pub reference: Option<String>,
    /// One for each name.
    pub answers: Vec<Answer>,
}

/// A continuation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// New tokens, with the one that ended the text.
    pub tokens: usize,
    pub finish: Finish,
}

impl Comparison {
    /// Gives all of `prompts` the answers of the first of them, in turn: for a rehearsal, in which answers mean nothing.
    pub fn repeat(&mut self, prompts: &[Prompt], references: Option<&[String]>) {
        let rows = prompts.iter().zip(self.rows.iter().cycle()).enumerate().map(|(number, (prompt, row))| Compared {
            prompt: prompt.shown.clone(),
            reference: references.and_then(|all| all.get(number).cloned()),
            answers: row.answers.clone(),
        });
        self.rows = rows.collect();
    }
}

impl Comparison {
    /// The rows as objects: `prompt`, `reference`, and by adapter `texts`, `tokens` and `finish`.
    pub fn rows_as_json(&self) -> Vec<Value> {
        let by_name = |row: &Compared, value: fn(&Answer) -> Value| -> Value {
            Value::Object(self.names.iter().cloned().zip(row.answers.iter().map(value)).collect())
        };
        let object = |row: &Compared| {
            json!({
                "prompt": row.prompt,
                "reference": row.reference,
                "texts": by_name(row, |answer| answer.text.as_str().into()),
                "tokens": by_name(row, |answer| answer.tokens.into()),
                "finish": by_name(row, |answer| answer.finish.name().into()),
            })
        };
        self.rows.iter().map(object).collect()
    }
}

/// Continues prompts with the active adapter, or the base without one: one answer for each prompt.
pub fn answers(
    model: &Model,
    prompts: &[Prompt],
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(NewToken) -> Result<()>,
) -> Result<Vec<Answer>> {
    let set = model.adapted.adapter_set(None);
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let parts = generate(model.decoder(), &set, 1, &ids, config, on_token)?;
    parts.into_iter().flatten().map(|continuation| answer(model, &continuation, config)).collect()
}

/// Continues prompts with each adapter of `names`, all in one batch.
///
/// Fails where a name is unknown or there twice, while an adapter is merged, or where `references` are given and
/// not as many as prompts.
pub fn compare(
    model: &Model,
    names: &[String],
    prompts: &[Prompt],
    references: Option<Vec<String>>,
    config: &GenerationConfig,
) -> Result<Comparison> {
    ensure_comparable(names, prompts, references.as_deref())?;
    let candidates = names.iter().map(|name| Candidate::one(&model.adapted, name)).collect::<Result<Vec<_>>>()?;
    let set = adapter_set(&candidates);
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let parts = generate(model.decoder(), &set, names.len(), &ids, config, &mut |_| Ok(()))?;
    let row = |(number, prompt): (usize, &Prompt)| {
        let continuations = parts.iter().filter_map(|part| part.get(number));
        Ok(Compared {
            prompt: prompt.shown.clone(),
            reference: references.as_ref().and_then(|all| all.get(number).cloned()),
            answers: continuations.map(|one| answer(model, one, config)).collect::<Result<_>>()?,
        })
    };
    let rows = prompts.iter().enumerate().map(row).collect::<Result<_>>()?;
    let settings = [vec![("model".to_owned(), model.name.clone())], config.described()].concat();
    Ok(Comparison { names: names.to_vec(), rows, settings })
}

/// Fails where [`compare`] would fail.
pub fn ensure_comparable(names: &[String], prompts: &[Prompt], references: Option<&[String]>) -> Result<()> {
    if names.is_empty() || prompts.is_empty() {
        let (names, prompts) = (names.len(), prompts.len());
        return Err(Error::input(format!(
            "compare: expected at least one name and one prompt, found {names} and {prompts}"
        ))
        .with_hint("as in compare(model, [\"base\", \"default\"], [\"a prompt\"])"));
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Error::input(format!("compare: `{}` is named twice", twice.1)));
    }
    match references.map(<[String]>::len).filter(|&count| count != prompts.len()) {
        None => Ok(()),
        Some(count) => {
            let expected = format!("one for each of the {} prompts", prompts.len());
            Err(Refusal::new("references", expected, count.to_string()).error("compare"))
        }
    }
}

fn answer(model: &Model, continuation: &Continuation, config: &GenerationConfig) -> Result<Answer> {
    let Continuation { ids, finish, .. } = continuation;
    let text = model.tokenizer()?.decode(ids, true)?;
    Ok(Answer { text: before_stop(&text, &config.stop).to_owned(), tokens: ids.len(), finish: *finish })
}

/// The widest a table gets, in terminal columns, where its columns leave that choice.
const WIDTH: usize = 120;
/// A column is not made narrower than this.
const NARROWEST: usize = 20;

impl Comparison {
    /// Prompts, expected answers and answers in columns, long texts over several lines.
    pub fn table(&self) -> String {
        let has_references = self.rows.iter().any(|row| row.reference.is_some());
        let wanted = has_references.then(|| "wanted".to_owned());
        let header: Vec<String> = ["prompt".to_owned()].into_iter().chain(wanted).chain(self.names.clone()).collect();
        let cells = |row: &Compared| {
            let reference = has_references.then(|| row.reference.clone().unwrap_or_default());
            let answers = row.answers.iter().map(Answer::shown);
            [row.prompt.clone()].into_iter().chain(reference).chain(answers).collect::<Vec<String>>()
        };
        let most = (WIDTH / header.len()).saturating_sub(2).max(NARROWEST);
        let rows: Vec<Vec<Vec<String>>> = [header]
            .into_iter()
            .chain(self.rows.iter().map(cells))
            .map(|cells| cells.iter().map(|cell| wrapped(cell, most)).collect())
            .collect();
        ruled(&rows)
    }
}

impl Answer {
    /// The text, marked where it was cut.
    pub fn shown(&self) -> String {
        match self.finish {
            Finish::Length => format!("{}…", self.text),
            Finish::Eos | Finish::Stop => self.text.clone(),
        }
    }
}

/// Cells of several lines in columns, a rule behind each row.
fn ruled(rows: &[Vec<Vec<String>>]) -> String {
    let lines: Vec<Vec<Vec<String>>> = rows.iter().map(|row| side_by_side(row)).collect();
    let widths = table::widths(lines.iter().flatten());
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    lines.iter().flat_map(|lines| lines.iter().chain([&rule])).map(|line| table::line(line, &widths, &[])).collect()
}

/// The lines that cells of several lines make together.
fn side_by_side(cells: &[Vec<String>]) -> Vec<Vec<String>> {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |at: usize| cells.iter().map(|cell| cell.get(at).cloned().unwrap_or_default()).collect();
    (0..height).map(line).collect()
}

/// Lines of at most `columns` terminal columns, broken between words where that can be.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let options = textwrap::Options::new(columns).word_splitter(textwrap::WordSplitter::NoHyphenation);
    let wrap = |paragraph: &str| {
        let words: Vec<String> = paragraph.split_whitespace().map(printable).collect();
        textwrap::wrap(&words.join(" "), &options).into_iter().map(|line| line.into_owned()).collect::<Vec<_>>()
    };
    text.trim().lines().flat_map(wrap).collect()
}

fn printable(word: &str) -> String {
    word.chars().filter(|character| !foreign::is_harmful(*character)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_wraps_and_lines_up() {
        let answer = |text: &str, finish| Answer { text: text.to_owned(), tokens: 3, finish };
        let comparison = Comparison {
            names: vec!["base".to_owned(), "tuned".to_owned()],
            rows: vec![
                Compared {
                    prompt: "안녕하세요 여러분 오늘은 날씨가 참 좋습니다".to_owned(),
                    reference: None,
                    answers: vec![answer("yes", Finish::Eos), answer("no\n\nnever", Finish::Length)],
                },
                Compared {
                    prompt: "b".repeat(45),
                    reference: None,
                    answers: vec![answer("", Finish::Eos), answer("x", Finish::Stop)],
                },
            ],
            settings: Vec::new(),
        };
        let expected = "\
prompt                                  base  tuned
──────────────────────────────────────  ────  ──────
안녕하세요 여러분 오늘은 날씨가 참      yes   no
좋습니다
                                              never…
──────────────────────────────────────  ────  ──────
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb        x
bbbbbbb
──────────────────────────────────────  ────  ──────
";
        assert_eq!(comparison.table(), expected, "\n{}", comparison.table());
    }
}
