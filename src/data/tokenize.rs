//! Tokenises rows: ids and labels.
//!
//! Leaves to others: the options (`options.rs`), row formats, templates and spans.

use super::audit;
use super::cache;
use super::dataset::{Dataset, Row};
use super::escapes::has_literal_newline;
use super::example::{Chat, Example};
use super::options::{LossOn, TokenizeOptions, Truncation};
use super::pace::{Pace, TOKENIZED_ROWS};
use super::pack::pack;
use super::preference::{Answers, Prompted};
use super::profile::TemplateProfile;
use super::row_format::{RowFormat, LABEL, TEXT};
use super::spans;
use super::store::{flag, RowKind, Store, StoreWriter, TokenizedInfo, TokenizedRow};
use super::template::ChatTemplate;
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::hub::tokenizer::{Encoded, Tokenizer};
use crate::interrupt;
use crate::options::OptionSet;
use rayon::prelude::*;
use std::ops::Range;

/// Rows per chunk: small enough to stop soon, large enough to keep all cores busy.
const CHUNK: usize = 2048;

/// Gives each token of a row a weight in the loss.
pub type Weigh<'a> = dyn FnMut(&Row, &TokenizedRow) -> Result<Vec<f32>> + 'a;

/// Turns rows into ids and labels.
///
/// The result depends only on rows, tokenizer files and options. Fails on an empty data set, an unrecognised format, a row
/// that the template refuses, and (with [`TokenizeOptions::audit`]) on supervision that would silently ruin the run.
pub fn tokenize(data: &Dataset, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<TokenizedDataset> {
    let (row_tokenizer, key) = prepare(data, tokenizer, options)?;
    if let Some(cached) = key.as_deref().and_then(cache::load) {
        return finish(cached, tokenizer, options);
    }
    let tokenized = TokenizedDataset::of_store(row_tokenizer.run(data, &|row| row, None)?);
    let tokenized = match &key {
        Some(key) => cache::store(key, tokenized),
        None => tokenized,
    };
    finish(tokenized, tokenizer, options)
}

/// As [`tokenize`], every token with the weight that `weigh` gives it. Not cached.
///
/// # Errors
/// As [`tokenize`]; weights that are not as many as tokens, or not numbers of at least 0.
pub fn tokenize_weighted(
    data: &Dataset,
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    weigh: &mut Weigh,
) -> Result<TokenizedDataset> {
    let options = TokenizeOptions { cache: false, ..options.clone() };
    let (row_tokenizer, _) = prepare(data, tokenizer, &options)?;
    finish(TokenizedDataset::of_store(row_tokenizer.run(data, &|row| row, Some(weigh))?), tokenizer, &options)
}

/// As [`tokenize`], or with `weigh` as [`tokenize_weighted`]; in a rehearsal of a sample of the rows, with a note on how many these are.
pub fn tokenize_at(
    data: &Dataset,
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    pace: Pace,
    weigh: Option<&mut Weigh>,
) -> Result<(TokenizedDataset, Option<String>)> {
    if pace.is_full() {
        let tokenized = match weigh {
            Some(weigh) => tokenize_weighted(data, tokenizer, options, weigh),
            None => tokenize(data, tokenizer, options),
        };
        return Ok((tokenized?, None));
    }
    let (rows, read) = tokenize_sample(data, tokenizer, options, TOKENIZED_ROWS, weigh)?;
    let (read, all) = (read as u64, data.len() as u64);
    let (count, of) = (thousands(read), thousands(all));
    let note =
        || format!("tokenized {count} of {of} rows, each of which stands for its neighbours: tokens are estimates");
    Ok((rows, (read < all).then(note)))
}

/// As [`tokenize`], but of a sample of about `max_rows` rows if there are more. Each row of the sample is repeated in place of
/// its neighbours. Also returns how many rows were read. Reads the cache, which has all rows, but does not write it.
pub fn tokenize_sample(
    data: &Dataset,
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    max_rows: usize,
    weigh: Option<&mut Weigh>,
) -> Result<(TokenizedDataset, usize)> {
    let (row_tokenizer, key) = prepare(data, tokenizer, options)?;
    let key = key.filter(|_| weigh.is_none());
    if let Some(cached) = key.as_deref().and_then(cache::load) {
        return Ok((finish(cached, tokenizer, options)?, data.len()));
    }
    let count = data.len().min(max_rows.max(1));
    let number = |row: usize| row * data.len() / count;
    let sampled: Vec<usize> = (0..count).map(number).collect();
    let sample = TokenizedDataset::of_store(row_tokenizer.run(&data.select(&sampled)?, &number, weigh)?);
    let sample = finish(sample, tokenizer, options)?;
    if sampled.len() == data.len() {
        return Ok((sample, data.len()));
    }
    let count = (sample.len() as f64 * data.len() as f64 / sampled.len() as f64).round() as usize;
    Ok((sample.scaled_to(count.max(1)), sampled.len()))
}

/// Prepares everything that does not depend on single rows, and names the result in the cache.
fn prepare<'a>(
    data: &Dataset,
    tokenizer: &'a Tokenizer,
    options: &'a TokenizeOptions,
) -> Result<(RowTokenizer<'a>, Option<String>)> {
    if data.is_empty() {
        return Err(
            Error::data("the data set has no rows").with_hint("print(data) shows what a file or a filter gives")
        );
    }
    options.ensure_valid("tokenize")?;
    let row_tokenizer = RowTokenizer::new(data, tokenizer, options)?;
    row_tokenizer.ensure_options_fit()?;
    let (kind, is_dated) = (row_tokenizer.format.kind(), row_tokenizer.is_dated());
    let key = options.cache.then(|| cache::key(data, tokenizer, options, kind, is_dated)).transpose()?;
    Ok((row_tokenizer, key))
}

/// Fails on data that cannot be trained on.
fn finish(tokenized: TokenizedDataset, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<TokenizedDataset> {
    if tokenized.is_empty() {
        return Err(Error::data("no row has anything to train on")
            .with_hint("raise max_length, or look at one row with drop_unlabelled: false"));
    }
    if options.audit {
        audit::ensure_supervised(&tokenized, tokenizer)?;
    }
    Ok(tokenized)
}

/// Tokenises rows of one data set.
struct RowTokenizer<'a> {
    tokenizer: &'a Tokenizer,
    options: &'a TokenizeOptions,
    format: RowFormat,
    columns: Vec<String>,
    template: Option<ChatTemplate>,
    tool_template: Option<ChatTemplate>,
    profile: TemplateProfile,
    /// Whether rows are conversations, in which the template ends every turn.
    is_chat: bool,
}

impl<'a> RowTokenizer<'a> {
    fn new(data: &Dataset, tokenizer: &'a Tokenizer, options: &'a TokenizeOptions) -> Result<Self> {
        let text_column = options.text_column.as_deref();
        text_column.map_or(Ok(()), |column| data.ensure_columns(&[column]))?;
        let columns = data.columns();
        let first = data.row(0)?;
        let format = RowFormat::recognise(&columns, text_column)?.with_label(first.get(LABEL));
        let (template, tool_template) = match &options.chat_template {
            Some(source) => (Some(ChatTemplate::new(source, tokenizer)?), None),
            None => {
                let has_tool_template = tokenizer.chat_template_named("tool_use").is_some();
                let tool_template = if has_tool_template { ChatTemplate::of(tokenizer, true)? } else { None };
                (ChatTemplate::of(tokenizer, false)?, tool_template)
            }
        };
        let profile = template.as_ref().map(|template| TemplateProfile::probe(template, tokenizer)).unwrap_or_default();
        let is_chat = match format.kind() {
            RowKind::Examples => {
                let example = Example::read(&first, format, text_column.unwrap_or(TEXT), template.is_some());
                matches!(example, Ok(Example::Chat(_)))
            }
            _ => matches!(Answers::read(&first, format), Ok(Answers { answers: Prompted::Chat(_), .. })),
        };
        Ok(RowTokenizer { tokenizer, options, format, columns, template, tool_template, profile, is_chat })
    }

    /// The column of rows that are text.
    fn text_column(&self) -> &str {
        self.options.text_column.as_deref().unwrap_or(TEXT)
    }

    /// Whether the template writes today's date.
    fn is_dated(&self) -> bool {
        let has_date = self.options.template_variables.contains_key("date_string");
        !has_date && self.template.as_ref().is_some_and(ChatTemplate::is_dated)
    }

    /// Fails on options that preferences have no use for: as in TRL, the loss is on the answers.
    fn ensure_options_fit(&self) -> Result<()> {
        if self.format.kind() == RowKind::Examples {
            return Ok(());
        }
        let refuse = |option: &str, hint: &str| {
            Err(Error::input(format!("tokenize: option `{option}`: expected none for rows of preferences"))
                .with_hint(hint.to_owned()))
        };
        if self.options.packing {
            return refuse("packing", "leave it out: a pair is a row already, and padding costs no time");
        }
        if matches!(self.options.loss_on, Some(LossOn::Everything | LossOn::Assistant)) {
            return refuse("loss_on", "leave it out: the loss is on the answers alone");
        }
        Ok(())
    }

    /// Tokenises all rows. `number` maps the index of a row to the number that errors name.
    fn run(&self, data: &Dataset, number: &dyn Fn(usize) -> usize, mut weigh: Option<&mut Weigh>) -> Result<Store> {
        let mut store = StoreWriter::new(self.info());
        for start in (0..data.len()).step_by(CHUNK) {
            let chunk = start..data.len().min(start + CHUNK);
            let tokenized: Vec<Result<Vec<TokenizedRow>>> =
                chunk.clone().into_par_iter().map(|index| self.row(&*data.row(index)?)).collect();
            for (index, row) in chunk.zip(tokenized) {
                let in_row = |error: Error| error.context(format!("row {}", number(index)));
                let mut row = row.map_err(in_row)?;
                if let Some(weigh) = &mut weigh {
                    for document in &mut row {
                        let weights = data.row(index).and_then(|row| weigh(&row, document));
                        let weights = weights.and_then(|weights| checked_weights(weights, document.ids.len()));
                        document.weights = Some(weights.map_err(in_row)?);
                    }
                }
                let is_unlabelled = |document: &TokenizedRow| !document.trained.iter().skip(1).any(|&trained| trained);
                if self.options.drop_unlabelled && row.iter().any(is_unlabelled) {
                    store.info.dropped += 1;
                } else {
                    row.iter().try_for_each(|document| store.push_document(document))?;
                    store.end_row();
                }
            }
        }
        let store = store.finish()?;
        match self.options.max_length.filter(|_| self.options.packing) {
            Some(capacity) => pack(store, capacity),
            None => Ok(store),
        }
    }

    fn info(&self) -> TokenizedInfo {
        let mut end_ids = self.tokenizer.end_ids().to_vec();
        if let Some((id, _)) = self.profile.turn_end.as_ref().filter(|(id, _)| !end_ids.contains(id)) {
            end_ids.push(*id);
        }
        TokenizedInfo {
            pad_id: self.tokenizer.pad().or(self.tokenizer.eos()).map_or(0, |token| token.id),
            end_ids,
            end_expected: self.options.append_eos || self.is_chat,
            added_system: self.profile.added_system.clone(),
            dated: self.is_dated(),
            dropped: 0,
            max_length: self.options.max_length,
            read_as: self.format.describe(&self.columns, self.text_column(), self.template.is_some()),
            kind: self.format.kind(),
        }
    }

    /// The documents of a row: one, or two of a pair.
    fn row(&self, row: &Row) -> Result<Vec<TokenizedRow>> {
        interrupt::check()?;
        let documents = match self.format.kind() {
            RowKind::Examples => vec![self.example(row)?],
            _ => self.answers(&Answers::read(row, self.format)?)?,
        };
        Ok(documents.into_iter().map(|document| self.truncate(document)).collect())
    }

    fn example(&self, row: &Row) -> Result<TokenizedRow> {
        let example = Example::read(row, self.format, self.text_column(), self.template.is_some())?;
        match example {
            Example::Chat(chat) => self.chat(chat),
            Example::Pair { prompt, completion } => self.pair(&prompt, &completion),
            Example::Text(text) => self.text(&text),
        }
    }

    /// A document for each answer, as TRL's `DPOTrainer` and `KTOTrainer` make them: an answer begins where the tokens of
    /// the prompt alone and those of the prompt with an answer part, for both answers at the same token.
    fn answers(&self, Answers { answers, desirable, prompts_differ }: &Answers) -> Result<Vec<TokenizedRow>> {
        let (prompt, mut documents) = match answers {
            Prompted::Text { prompt, answers } => {
                let documents = answers.iter().map(|answer| self.pair(prompt, answer)).collect::<Result<Vec<_>>>()?;
                (self.tokenizer.encode_with_offsets(prompt, true)?.ids, documents)
            }
            Prompted::Chat(chats) => self.answering_chats(chats)?,
        };
        let start = documents.iter().map(|document| common_length(&prompt, &document.ids)).min().unwrap_or(0);
        for document in &mut documents {
            document.trained = (0..document.ids.len()).map(|at| at >= start).collect();
            for (bit, is_set) in [(flag::DESIRABLE, *desirable), (flag::PROMPTS_DIFFER, *prompts_differ)] {
                document.flags |= if is_set { bit } else { 0 };
            }
        }
        Ok(documents)
    }

    /// The tokens of the prompt of conversations, and those of the conversations.
    fn answering_chats(&self, chats: &[Chat]) -> Result<(Vec<u32>, Vec<TokenizedRow>)> {
        let (mut prompt, mut documents) = (Vec::new(), Vec::with_capacity(chats.len()));
        for chat in chats {
            let chat = self.with_template_variables(chat.clone());
            let template = self.template_of(&chat)?;
            let render = |count, is_prompt| {
                let text = template.render(&chat, count, is_prompt)?.text;
                Ok::<_, Error>(self.tokenizer.encode_with_offsets(&text, false)?.ids)
            };
            prompt = render(chat.prompt.unwrap_or(0), true)?;
            let ids = render(chat.messages.len(), false)?;
            let differs = common_length(&prompt, &ids) < prompt.len();
            let mut flags = if differs { flag::PROMPT_DIFFERS } else { 0 };
            flags |= if self.adds_system(&chat) { flag::SYSTEM_ADDED } else { 0 };
            flags |= if chat.messages.iter().any(has_escape) { flag::LITERAL_NEWLINE } else { 0 };
            documents.push(TokenizedRow { trained: vec![false; ids.len()], ids, flags, weights: None });
        }
        Ok((prompt, documents))
    }

    fn template_of(&self, chat: &Chat) -> Result<&ChatTemplate> {
        let template = match &self.tool_template {
            Some(template) if chat.tools.is_some() => Some(template),
            _ => self.template.as_ref(),
        };
        template.ok_or_else(|| {
            Error::data("the rows are conversations, but the tokenizer has no chat template").with_hint(
                "give one by option `chat_template`, or map the rows to `prompt` and `completion` or to `text`",
            )
        })
    }

    fn with_template_variables(&self, mut chat: Chat) -> Chat {
        for (name, value) in &self.options.template_variables {
            chat.variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        chat
    }

    fn chat(&self, chat: Chat) -> Result<TokenizedRow> {
        let chat = self.with_template_variables(chat);
        let template = self.template_of(&chat)?;
        let default = if chat.prompt.is_some() { LossOn::Completion } else { LossOn::Assistant };
        let loss_on = self.options.loss_on.unwrap_or(default);
        let spans = spans::find(template, &chat, &self.profile, loss_on, self.options.assistant_span)?;
        // The template writes every special token itself, so the tokenizer must not add a second BOS.
        let encoded = self.tokenizer.encode_with_offsets(spans.text(), false)?;
        let mut row = label(encoded, spans.text(), spans.trained(), BoundaryToken::Masked);
        if loss_on == LossOn::Everything {
            row.flags &= !(flag::MERGED | flag::MERGED_WORDS);
        }
        for (bit, is_set) in [
            (flag::PROMPT_DIFFERS, spans.prompt_differs),
            (flag::SYSTEM_ADDED, self.adds_system(&chat)),
            (flag::ANSWER_LOST, spans.lost.answer),
            (flag::THOUGHTS_LOST, spans.lost.thoughts),
            (flag::PART_LOST, spans.lost.calls_or_text),
            (flag::LITERAL_NEWLINE, chat.messages.iter().any(has_escape)),
        ] {
            row.flags |= if is_set { bit } else { 0 };
        }
        Ok(row)
    }

    fn adds_system(&self, chat: &Chat) -> bool {
        let has_system =
            chat.messages.first().is_some_and(|first| first["role"] == "system" || first["role"] == "developer");
        self.profile.added_system.is_some() && !has_system && chat.tools.is_none()
    }

    fn pair(&self, prompt: &str, completion: &str) -> Result<TokenizedRow> {
        let text = format!("{prompt}{completion}");
        let start = match self.options.loss_on {
            Some(LossOn::Everything) => 0,
            _ => prompt.len(),
        };
        self.without_template(&text, start)
    }

    fn text(&self, text: &str) -> Result<TokenizedRow> {
        match self.options.loss_on {
            None | Some(LossOn::Everything) => self.without_template(text, 0),
            Some(_) => Err(Error::data(format!(
                "column `{}` is plain text: it has no answer to take the loss on",
                self.text_column()
            ))
            .with_hint("set loss_on: \"everything\", or map the rows to `prompt` and `completion`")),
        }
    }

    /// Text without a chat template: with special tokens, and trained on from byte `start`.
    fn without_template(&self, text: &str, start: usize) -> Result<TokenizedRow> {
        let mut encoded = self.tokenizer.encode_with_offsets(text, true)?;
        if let Some(bos) = self.tokenizer.bos() {
            // The text begins with a BOS itself.
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
                // The tokenizer added it: it stands for no character of the text.
                *offset = (end, end + 1);
                end += 1;
            }
        }
        let mut row = label(encoded, text, &[Range { start, end }], BoundaryToken::Trained);
        row.flags |= if has_literal_newline(text) { flag::LITERAL_NEWLINE } else { 0 };
        Ok(row)
    }

    fn truncate(&self, mut row: TokenizedRow) -> TokenizedRow {
        let Some(max_length) = self.options.max_length.filter(|&max| row.ids.len() > max) else { return row };
        row.flags |= flag::TRUNCATED;
        let keep = match self.options.truncation {
            Truncation::KeepStart => 0..max_length,
            Truncation::KeepEnd => row.ids.len() - max_length..row.ids.len(),
        };
        TokenizedRow {
            ids: row.ids[keep.clone()].to_vec(),
            trained: row.trained[keep.clone()].to_vec(),
            flags: row.flags,
            weights: row.weights.map(|weights| weights[keep].to_vec()),
        }
    }
}

/// Weights from a column with a number for each row: all labels of a row count the same.
pub fn weights_of_column(column: &str) -> impl FnMut(&Row, &TokenizedRow) -> Result<Vec<f32>> + '_ {
    move |row, tokens| {
        let value = row.get(column).unwrap_or(&serde_json::Value::Null);
        let weight = value.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0).ok_or_else(|| {
            Error::data(format!("column `{column}`: expected a weight, a number of at least 0, found {value}"))
                .with_hint("for a weight of each token, give a function: weights: |row, tokens| [...]")
        })?;
        Ok(vec![weight as f32; tokens.ids.len()])
    }
}

/// The weights of a row's tokens, as a function gives them: as many as tokens.
///
/// # Errors
/// Another number of weights than of tokens; a weight that is negative or not finite.
fn checked_weights(weights: Vec<f32>, tokens: usize) -> Result<Vec<f32>> {
    if weights.len() != tokens {
        return Err(Error::data(format!("weights: expected one for each of {tokens} tokens, found {}", weights.len())));
    }
    match weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
        Some(weight) => Err(Error::data(format!("weights: expected numbers of at least 0, found {weight}"))),
        None => Ok(weights),
    }
}

/// How many tokens both begin with.
fn common_length(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(left, right)| left == right).count()
}

/// Whether the text of a message contains a line break as two characters. Results of tools may be JSON, which has them.
fn has_escape(message: &serde_json::Value) -> bool {
    let is_tool = matches!(message["role"].as_str(), Some("tool" | "ipython" | "function"));
    !is_tool && message["content"].as_str().is_some_and(has_literal_newline)
}

/// Whether a token with characters of words on both sides of a span's edge is trained on. The audit fails either way.
#[derive(Clone, Copy, PartialEq)]
enum BoundaryToken {
    /// As in TRL.
    Trained,
    /// Because the characters outside the span are another speaker's.
    Masked,
}

/// Labels the tokens that have at least one byte in one of the spans. Spans and tokens ascend.
///
/// A token that spans white space or punctuation of the prompt and the start of the answer is trained on, as in
/// transformers and TRL, and reported.
fn label(encoded: Encoded, text: &str, spans: &[Range<usize>], boundary_token: BoundaryToken) -> TokenizedRow {
    let offsets = &encoded.offsets;
    let trained = vec![false; encoded.ids.len()];
    let mut row = TokenizedRow { trained, ids: encoded.ids, ..TokenizedRow::default() };
    let has_words = |range: Range<usize>| text.get(range).is_some_and(|part| part.contains(char::is_alphanumeric));
    let mut at = 0;
    for (index, span) in spans.iter().enumerate() {
        // A token without text is trained on only between two tokens that are.
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
        // Text of a neighbouring span is not outside.
        let before = index.checked_sub(1).map_or(0, |before| spans[before].end);
        let after = spans.get(index + 1).map_or(usize::MAX, |after| after.start);
        let outside = [offsets[at].0.max(before)..span.start, span.end..offsets[last].1.min(after)];
        for (token, outside) in [at, last].into_iter().zip(outside) {
            if has_words(outside) {
                row.flags |= flag::MERGED_WORDS;
                row.trained[token] &= boundary_token == BoundaryToken::Trained;
            }
        }
        row.flags |= if offsets[at].0.max(before) < span.start { flag::MERGED } else { 0 };
        // The last token may contain the start of the next span too.
        at = last;
    }
    row
}
