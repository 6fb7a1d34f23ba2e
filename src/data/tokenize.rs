//! Rows to ids and labels.
//!
//! Leaves to others: the options (`options.rs`), row formats, templates and spans.

use super::audit;
use super::cache;
use super::dataset::{Dataset, Row};
use super::escapes::has_literal_newline;
use super::example::{Chat, Example};
use super::options::{LossOn, TokenizeOptions, Truncation};
use super::pack::pack;
use super::row_format::{RowFormat, TEXT};
use super::spans::{self, Habits};
use super::store::{flag, Origin, Store, TokenizedRow};
use super::template::ChatTemplate;
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::tokenizer::{Encoded, Tokenizer};
use crate::interrupt;
use rayon::prelude::*;
use std::ops::Range;

/// Rows per step: small enough to stop soon, large enough to keep all cores at work.
const CHUNK: usize = 2048;

/// Turns rows into ids and labels.
///
/// The result depends on rows, tokenizer files and options alone. Fails on an empty data
/// set, an unrecognised format, a row that the template refuses, and (with
/// [`TokenizeOptions::audit`]) on supervision that would silently ruin the run.
pub fn tokenize(data: &Dataset, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<TokenizedDataset> {
    let (work, key) = prepare(data, tokenizer, options)?;
    if let Some(found) = key.as_deref().and_then(cache::load) {
        return finish(found, tokenizer, options);
    }
    let made = TokenizedDataset::whole(work.run(data, &|row| row)?);
    if let Some(key) = &key {
        cache::store(key, &made);
    }
    finish(made, tokenizer, options)
}

/// As [`tokenize`], of about `most` rows where there are more, each then standing for its neighbours; gives the
/// number of rows that were read too. Tokens that are in the cache are taken whole; nothing is put there.
pub fn tokenize_sample(
    data: &Dataset,
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    most: usize,
) -> Result<(TokenizedDataset, usize)> {
    let (work, key) = prepare(data, tokenizer, options)?;
    if let Some(found) = key.as_deref().and_then(cache::load) {
        return Ok((finish(found, tokenizer, options)?, data.len()));
    }
    let count = data.len().min(most.max(1));
    let number = |row: usize| row * data.len() / count;
    let chosen: Vec<usize> = (0..count).map(number).collect();
    let made = TokenizedDataset::whole(work.run(&data.select(&chosen)?, &number)?);
    let made = finish(made, tokenizer, options)?;
    if chosen.len() == data.len() {
        return Ok((made, data.len()));
    }
    let count = (made.len() as f64 * data.len() as f64 / chosen.len() as f64).round() as usize;
    Ok((made.standing_for(count.max(1)), chosen.len()))
}

/// What is settled before the first row, and the name of the result in the cache.
fn prepare<'a>(
    data: &Dataset,
    tokenizer: &'a Tokenizer,
    options: &'a TokenizeOptions,
) -> Result<(Work<'a>, Option<String>)> {
    if data.is_empty() {
        return Err(
            Error::data("the data set has no rows").with_hint("look at what a filter or the file leaves: print(data)")
        );
    }
    check(options)?;
    let work = Work::new(data, tokenizer, options)?;
    let key = options.cache.then(|| cache::key(data, tokenizer, options, work.dated())).transpose()?;
    Ok((work, key))
}

/// Refuses what cannot be trained on.
fn finish(result: TokenizedDataset, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<TokenizedDataset> {
    if result.is_empty() {
        return Err(Error::data("no row is left: none has anything to train on")
            .with_hint("raise max_length, or look at one row with drop_unlabelled: false"));
    }
    if options.audit {
        audit::refuse(&result, tokenizer)?;
    }
    Ok(result)
}

fn check(options: &TokenizeOptions) -> Result<()> {
    match options.max_length {
        Some(found @ (0 | 1)) => {
            Err(Error::input(format!("option `max_length`: expected at least 2, or 0 for no limit, found {found}")))
        }
        None if options.packing => {
            Err(Error::input("option `packing` needs a `max_length`: the length of a packed row"))
        }
        _ => Ok(()),
    }
}

/// Everything that is settled before the first row.
struct Work<'a> {
    tokenizer: &'a Tokenizer,
    options: &'a TokenizeOptions,
    format: RowFormat,
    columns: Vec<String>,
    template: Option<ChatTemplate>,
    tool_template: Option<ChatTemplate>,
    habits: Habits,
    /// Whether rows are conversations, whose template ends every turn.
    conversations: bool,
}

impl<'a> Work<'a> {
    fn new(data: &Dataset, tokenizer: &'a Tokenizer, options: &'a TokenizeOptions) -> Result<Self> {
        let text = options.text_column.as_deref();
        text.map_or(Ok(()), |column| data.require_columns(&[column]))?;
        let columns = data.columns();
        let format = RowFormat::recognise(&columns, text)?;
        let (template, tool_template) = match &options.chat_template {
            Some(source) => (Some(ChatTemplate::new(source, tokenizer)?), None),
            None => {
                let own = tokenizer.chat_template_named("tool_use").is_some();
                (ChatTemplate::of(tokenizer, false)?, if own { ChatTemplate::of(tokenizer, true)? } else { None })
            }
        };
        let habits = template.as_ref().map(|template| spans::habits(template, tokenizer)).unwrap_or_default();
        let first = data.row(0).map(|row| Example::read(row, format, text.unwrap_or(TEXT), template.is_some()));
        let conversations = matches!(first, Some(Ok(Example::Chat(_))));
        Ok(Work { tokenizer, options, format, columns, template, tool_template, habits, conversations })
    }

    /// The column of plain text.
    fn text_column(&self) -> &str {
        self.options.text_column.as_deref().unwrap_or(TEXT)
    }

    /// Today's date, where the template writes it.
    fn dated(&self) -> bool {
        let given = self.options.template_variables.contains_key("date_string");
        !given && self.template.as_ref().is_some_and(ChatTemplate::is_dated)
    }

    /// `number` gives the number that errors call a row by.
    fn run(&self, data: &Dataset, number: &dyn Fn(usize) -> usize) -> Result<Store> {
        let mut store = Store { origin: self.origin(), ..Store::default() };
        let mut documents = Vec::new();
        for (chunk, rows) in data.rows().chunks(CHUNK).enumerate() {
            let made: Vec<Result<TokenizedRow>> = rows.par_iter().map(|row| self.row(row)).collect();
            for (index, row) in made.into_iter().enumerate() {
                let row = row.map_err(|error| error.context(format!("row {}", number(chunk * CHUNK + index))))?;
                if self.options.drop_unlabelled && !row.trained.iter().skip(1).any(|&trained| trained) {
                    store.origin.dropped += 1;
                } else if self.options.packing {
                    documents.push(row);
                } else {
                    store.push_document(&row);
                    store.end_row();
                }
            }
        }
        if let (true, Some(capacity)) = (self.options.packing, self.options.max_length) {
            pack(documents, capacity, &mut store);
        }
        Ok(store)
    }

    fn origin(&self) -> Origin {
        let mut end_ids = self.tokenizer.end_ids().to_vec();
        if let Some((id, _)) = self.habits.turn_end.as_ref().filter(|(id, _)| !end_ids.contains(id)) {
            end_ids.push(*id);
        }
        Origin {
            pad_id: self.tokenizer.pad().or(self.tokenizer.eos()).map_or(0, |token| token.id),
            end_ids,
            end_expected: self.options.append_eos || self.conversations,
            added_system: self.habits.added_system.clone(),
            dated: self.dated(),
            dropped: 0,
            max_length: self.options.max_length,
            read_as: self.format.describe(&self.columns, self.text_column(), self.template.is_some()),
        }
    }

    fn row(&self, row: &Row) -> Result<TokenizedRow> {
        interrupt::check()?;
        let example = Example::read(row, self.format, self.text_column(), self.template.is_some())?;
        let made = match example {
            Example::Chat(chat) => self.chat(chat)?,
            Example::Pair { prompt, completion } => self.pair(&prompt, &completion)?,
            Example::Text(text) => self.text(&text)?,
        };
        Ok(self.cut(made))
    }

    fn chat(&self, mut chat: Chat) -> Result<TokenizedRow> {
        let template = match &self.tool_template {
            Some(template) if chat.tools.is_some() => Some(template),
            _ => self.template.as_ref(),
        };
        let template = template.ok_or_else(|| {
            Error::data("the rows are conversations, but the tokenizer has no chat template").with_hint(
                "give one by option `chat_template`, or map the rows to `prompt` and `completion` or to `text`",
            )
        })?;
        for (name, value) in &self.options.template_variables {
            chat.variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let default = if chat.prompt.is_some() { LossOn::Completion } else { LossOn::Assistant };
        let loss_on = self.options.loss_on.unwrap_or(default);
        let found = spans::find(template, &chat, &self.habits, loss_on, self.options.assistant_span)?;
        // The template writes every special token itself: another BOS would be a second one.
        let encoded = self.tokenizer.encode_with_offsets(found.text(), false)?;
        let mut made = label(encoded, found.text(), found.trained(), Sharing::Refused);
        if loss_on == LossOn::Everything {
            made.flags &= !(flag::MERGED | flag::MERGED_WORDS);
        }
        for (bit, is_set) in [
            (flag::RECOVERED, found.recovered),
            (flag::SYSTEM_ADDED, self.adds_system(&chat)),
            (flag::ANSWER_LOST, found.lost.answer),
            (flag::THOUGHTS_LOST, found.lost.thoughts),
            (flag::PART_LOST, found.lost.part),
            (flag::LITERAL_NEWLINE, chat.messages.iter().any(has_escape)),
        ] {
            made.flags |= if is_set { bit } else { 0 };
        }
        Ok(made)
    }

    fn adds_system(&self, chat: &Chat) -> bool {
        let given =
            chat.messages.first().is_some_and(|first| first["role"] == "system" || first["role"] == "developer");
        self.habits.added_system.is_some() && !given && chat.tools.is_none()
    }

    fn pair(&self, prompt: &str, completion: &str) -> Result<TokenizedRow> {
        let text = format!("{prompt}{completion}");
        let start = match self.options.loss_on {
            Some(LossOn::Everything) => 0,
            _ => prompt.len(),
        };
        self.plain(&text, start)
    }

    fn text(&self, text: &str) -> Result<TokenizedRow> {
        match self.options.loss_on {
            None | Some(LossOn::Everything) => self.plain(text, 0),
            Some(_) => Err(Error::data(format!(
                "column `{}` is plain text: it has no answer to take the loss on",
                self.text_column()
            ))
            .with_hint("set loss_on: \"everything\", or map the rows to `prompt` and `completion`")),
        }
    }

    /// Plain text with its special tokens, trained on from byte `start`.
    fn plain(&self, text: &str, start: usize) -> Result<TokenizedRow> {
        let mut encoded = self.tokenizer.encode_with_offsets(text, true)?;
        if let Some(bos) = self.tokenizer.bos() {
            // The text brought its own.
            if encoded.ids.len() > 1 && encoded.ids[..2] == [bos.id, bos.id] && self.tokenizer.adds_bos() {
                encoded.ids.remove(0);
                encoded.offsets.remove(0);
            }
        }
        let mut end = text.len();
        if let Some(eos) = self.tokenizer.eos().filter(|_| self.options.append_eos) {
            let is_added = encoded.offsets.last().is_none_or(|(from, to)| from == to);
            if encoded.ids.last() != Some(&eos.id) {
                encoded.ids.push(eos.id);
                encoded.offsets.push((end, end + 1));
                end += 1;
            } else if let Some(offset) = encoded.offsets.last_mut().filter(|_| is_added) {
                // The tokenizer's own, which stands for no letter of the text.
                *offset = (end, end + 1);
                end += 1;
            }
        }
        let mut made = label(encoded, text, &[Range { start, end }], Sharing::Trained);
        made.flags |= if has_literal_newline(text) { flag::LITERAL_NEWLINE } else { 0 };
        Ok(made)
    }

    fn cut(&self, mut row: TokenizedRow) -> TokenizedRow {
        let Some(most) = self.options.max_length.filter(|&most| row.ids.len() > most) else { return row };
        row.flags |= flag::TRUNCATED;
        let keep = match self.options.truncation {
            Truncation::KeepStart => 0..most,
            Truncation::KeepEnd => row.ids.len() - most..row.ids.len(),
        };
        TokenizedRow { ids: row.ids[keep.clone()].to_vec(), trained: row.trained[keep].to_vec(), flags: row.flags }
    }
}

/// Whether a message's text holds a line break as two characters. What tools say is data, and holds JSON.
fn has_escape(message: &serde_json::Value) -> bool {
    let is_tool = matches!(message["role"].as_str(), Some("tool" | "ipython" | "function"));
    !is_tool && message["content"].as_str().is_some_and(has_literal_newline)
}

/// What becomes of a token that holds characters on both sides of a span's end.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    /// It is trained on, as in TRL; the audit refuses the row.
    Trained,
    /// It is not, for the characters outside are another speaker's; the audit refuses the row too.
    Refused,
}

/// Marks the tokens of each span, of which there is at least one byte in it. Spans and tokens ascend.
///
/// A token that holds white space or signs of the prompt beside the start of the answer is trained on, as in
/// transformers and TRL, and reported.
fn label(encoded: Encoded, text: &str, spans: &[Range<usize>], sharing: Sharing) -> TokenizedRow {
    let offsets = &encoded.offsets;
    let mut row = TokenizedRow { trained: vec![false; encoded.ids.len()], ids: encoded.ids, flags: 0 };
    let has_letters = |range: Range<usize>| text.get(range).is_some_and(|part| part.contains(char::is_alphanumeric));
    let mut at = 0;
    for (index, span) in spans.iter().enumerate() {
        // A token without text has no place of its own: it is trained on between two that are.
        while offsets.get(at).is_some_and(|&(start, end)| end <= span.start || start == end) {
            at += 1;
        }
        let mut last = None;
        for (token, &(start, end)) in offsets.iter().enumerate().skip(at) {
            if start >= span.end && start < end {
                break;
            }
            last = if start < end { Some(token) } else { last };
        }
        let Some(last) = last else { continue };
        row.trained[at..=last].fill(true);
        // What another span holds is no one else's.
        let before = index.checked_sub(1).map_or(0, |before| spans[before].end);
        let after = spans.get(index + 1).map_or(usize::MAX, |after| after.start);
        let outside = [offsets[at].0.max(before)..span.start, span.end..offsets[last].1.min(after)];
        for (token, outside) in [at, last].into_iter().zip(outside) {
            if has_letters(outside) {
                row.flags |= flag::MERGED_WORDS;
                row.trained[token] &= sharing == Sharing::Trained;
            }
        }
        row.flags |= if offsets[at].0.max(before) < span.start { flag::MERGED } else { 0 };
        // The last token may hold the start of the next span too.
        at = last;
    }
    row
}
