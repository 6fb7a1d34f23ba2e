//! Rows of preferences: a prompt with a chosen and a rejected answer, or with one answer and whether it is desirable.
//!
//! As TRL's `DPOTrainer` and `KTOTrainer` read them: texts or conversations, and the prompt may be the common beginning
//! of both answers. Leaves to others: their tokens (`tokenize.rs`), and what is trained on them (`train/objective/`).

use super::dataset::Row;
use super::example::{field, list, messages, string, with_context, Chat};
use super::messages::is_assistant;
use super::row_format::{RowFormat, CHOSEN, LABEL, REJECTED};
use super::share_gpt;
use super::store::TokenizedRow;
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use serde_json::Value;

/// A prompt with its answers: the chosen and the rejected one, or a single one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    pub answers: Prompted,
    /// Of a single answer: is it a desirable one?
    pub desirable: bool,
    /// Do the answers begin with a turn that is not the assistant's?
    pub prompts_differ: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Prompted {
    Text {
        prompt: String,
        answers: Vec<String>,
    },
    /// Conversations that begin with the prompt, [`Chat::prompt`] messages long.
    Chat(Vec<Chat>),
}

impl Answers {
    /// Reads a row of [`RowFormat::Preference`] or [`RowFormat::Labelled`].
    pub fn read(row: &Row, format: RowFormat) -> Result<Self> {
        if format == RowFormat::Labelled {
            let prompt = field(row, "prompt")?;
            let label = field(row, LABEL)?;
            let desirable = label.as_bool().ok_or_else(|| {
                Error::data(format!("column `label`: expected true or false, found {label}")).with_hint(
                    "true is a desirable completion; to train on all completions alike, leave the column out",
                )
            })?;
            let answers = Self::of(row, prompt, &[("completion", field(row, "completion")?)])?;
            return Ok(Answers { desirable, ..answers });
        }
        let (chosen, rejected) = (field(row, CHOSEN)?, field(row, REJECTED)?);
        if let Some(turns) = row.get("conversations").filter(|turns| !turns.is_null()) {
            // LLaMA-Factory's: the turns so far, and two turns that answer them.
            let prompt = Value::Array(share_gpt::messages(list(turns, "conversations")?)?);
            let one = |turn: &Value| share_gpt::messages(std::slice::from_ref(turn)).map(Value::Array);
            return Self::of(row, &prompt, &[(CHOSEN, &one(chosen)?), (REJECTED, &one(rejected)?)]);
        }
        match row.get("prompt").filter(|prompt| !prompt.is_null()) {
            // A prompt as text beside whole conversations is their beginning: as in TRL, it is not used.
            Some(prompt) if prompt.is_array() == chosen.is_array() => {
                Self::of(row, prompt, &[(CHOSEN, chosen), (REJECTED, rejected)])
            }
            _ => Self::with_implicit_prompt(row, chosen, rejected),
        }
    }

    fn of(row: &Row, prompt: &Value, answers: &[(&str, &Value)]) -> Result<Self> {
        if !prompt.is_array() && answers.iter().all(|(_, answer)| !answer.is_array()) {
            let answers = answers.iter().map(|(name, answer)| string(answer, name)).collect::<Result<_>>()?;
            return Ok(Self::from(Prompted::Text { prompt: string(prompt, "prompt")?, answers }));
        }
        if !prompt.is_array() || answers.iter().any(|(_, answer)| !answer.is_array()) {
            let names: Vec<String> = answers.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(Error::data(format!(
                "`prompt` and {} must all be texts or all be lists of messages",
                names.join(" and ")
            )));
        }
        let prompt = messages(prompt, "prompt")?;
        let mut prompts_differ = false;
        let mut chats = Vec::with_capacity(answers.len());
        for (name, answer) in answers {
            let answer = messages(answer, name)?;
            prompts_differ |= !answer.first().is_some_and(is_assistant);
            let turns = [prompt.clone(), answer].concat();
            chats.push(Chat { prompt: Some(prompt.len()), ..with_context(row, turns)? });
        }
        Ok(Answers { prompts_differ, ..Self::from(Prompted::Chat(chats)) })
    }

    fn with_implicit_prompt(row: &Row, chosen: &Value, rejected: &Value) -> Result<Self> {
        if chosen.is_array() && rejected.is_array() {
            let (chosen, rejected) = (messages(chosen, CHOSEN)?, messages(rejected, REJECTED)?);
            let split = common_length(&chosen, &rejected);
            if split == 0 {
                return Err(Error::data(
                    "`chosen` and `rejected` have no message in common, which would be the prompt",
                )
                .with_hint("give the prompt in a column `prompt`"));
            }
            let prompt = Value::Array(chosen[..split].to_vec());
            let (chosen, rejected) = (Value::Array(chosen[split..].to_vec()), Value::Array(rejected[split..].to_vec()));
            return Self::of(row, &prompt, &[(CHOSEN, &chosen), (REJECTED, &rejected)]);
        }
        let (chosen, rejected) = (string(chosen, CHOSEN)?, string(rejected, REJECTED)?);
        let (chosen, rejected): (Vec<char>, Vec<char>) = (chosen.chars().collect(), rejected.chars().collect());
        let mut split = common_length(&chosen, &rejected);
        // The space goes with the answer.
        if split > 0 && chosen.get(split) != rejected.get(split) && chosen[split - 1] == ' ' {
            split -= 1;
        }
        let answers = vec![chosen[split..].iter().collect(), rejected[split..].iter().collect()];
        Ok(Self::from(Prompted::Text { prompt: chosen[..split].iter().collect(), answers }))
    }
}

impl From<Prompted> for Answers {
    fn from(answers: Prompted) -> Self {
        Answers { answers, desirable: false, prompts_differ: false }
    }
}

/// The length of the common beginning; where one contains the other, all but the last of the shorter, as in TRL.
fn common_length<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    let shorter = one.len().min(other.len());
    one.iter().zip(other).position(|(left, right)| left != right).unwrap_or(shorter.saturating_sub(1))
}

/// Rows with the prompt of one row and the completion of another, as KTO compares. A completion that was cut to
/// `max_length` stays cut.
///
/// # Errors
/// A row that does not exist.
pub fn mismatched(data: &TokenizedDataset, pairs: &[(u32, u32)]) -> Result<TokenizedDataset> {
    let absent = |row: u32| Error::bug(format!("row {row} does not exist"));
    let rows = pairs.iter().map(|&(prompt, completion)| {
        let (prompt, completion) = (
            data.row(prompt as usize).ok_or_else(|| absent(prompt))?,
            data.row(completion as usize).ok_or_else(|| absent(completion))?,
        );
        let split = |trained: &[bool]| trained.iter().position(|&on| on).unwrap_or(trained.len());
        let (head, tail) = (split(&prompt.trained()), split(&completion.trained()));
        let mut ids = [&prompt.ids()[..head], &completion.ids()[tail..]].concat();
        ids.truncate(data.info().max_length.unwrap_or(usize::MAX));
        let trained = (0..ids.len()).map(|at| at >= head).collect();
        Ok(TokenizedRow { ids, trained, ..TokenizedRow::default() })
    });
    TokenizedDataset::from_rows(rows.collect::<Result<Vec<_>>>()?, data.info().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: Value) -> Result<Answers> {
        Answers::read(row.as_object().unwrap(), RowFormat::Preference)
    }

    fn text(row: Value) -> (String, Vec<String>) {
        match read(row).unwrap().answers {
            Prompted::Text { prompt, answers } => (prompt, answers),
            Prompted::Chat(_) => panic!("a text"),
        }
    }

    #[test]
    fn an_implicit_prompt_of_text_is_the_common_beginning_without_its_last_space() {
        let (prompt, answers) = text(json!({"chosen": "the fox sees a", "rejected": "the fox hears a"}));
        assert_eq!((prompt.as_str(), &answers[..]), ("the fox", &[" sees a".to_owned(), " hears a".to_owned()][..]));
        let (prompt, answers) = text(json!({"chosen": "finds", "rejected": "follows"}));
        assert_eq!((prompt.as_str(), answers[0].as_str()), ("f", "inds"));
        // As TRL does where nothing differs.
        let (prompt, answers) = text(json!({"chosen": "same", "rejected": "same"}));
        assert_eq!((prompt.as_str(), answers[1].as_str()), ("sam", "e"));
    }

    #[test]
    fn conversations_are_read_with_and_without_a_prompt_and_from_turns() {
        let user = json!({"role": "user", "content": "q"});
        let answer = |text: &str| json!({"role": "assistant", "content": text});
        let explicit = read(json!({"prompt": [user], "chosen": [answer("a")], "rejected": [answer("b")]})).unwrap();
        let implicit = json!({"chosen": [user, answer("a")], "rejected": [user, answer("b")]});
        assert_eq!(read(implicit).unwrap(), explicit);
        let beside = json!({"prompt": "q", "chosen": [user, answer("a")], "rejected": [user, answer("b")]});
        assert_eq!(read(beside).unwrap(), explicit);
        let turn = |from: &str, value: &str| json!({"from": from, "value": value});
        let turns =
            json!({"conversations": [turn("human", "q")], "chosen": turn("gpt", "a"), "rejected": turn("gpt", "b")});
        assert_eq!(read(turns).unwrap(), explicit);
        let Prompted::Chat(chats) = explicit.answers else { panic!("conversations") };
        assert_eq!((chats.len(), chats[0].prompt, &chats[1].messages[1]), (2, Some(1), &answer("b")));
        assert!(!explicit.prompts_differ);
    }

    #[test]
    fn conversations_with_other_questions_are_noticed() {
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let row = json!({
            "chosen": [turn("system", "s"), turn("user", "one"), turn("assistant", "a")],
            "rejected": [turn("system", "s"), turn("user", "two"), turn("assistant", "a")],
        });
        assert!(read(row).unwrap().prompts_differ);
        let nothing = json!({"chosen": [turn("user", "one")], "rejected": [turn("user", "two")]});
        assert!(read(nothing).unwrap_err().message.contains("no message in common"));
        assert!(read(json!({"prompt": "p", "chosen": "a", "rejected": [turn("user", "b")]})).is_err());
    }
}
