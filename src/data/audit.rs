//! The supervision audit: finds faults that silently ruin a run, before its first step.
//!
//! Checks the tokens and labels themselves, and shows a row with each finding. Leaves to others: whether the audit runs
//! ([`super::TokenizeOptions::audit`]).

use super::store::{flag, DocumentView, RowKind, RowView, TokenizedInfo};
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::hub::tokenizer::Tokenizer;
use std::fmt;

/// Whether a finding stops the run or only warns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One fault, with the number of rows that have it, and the first of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    /// A short name, which never changes: `no_label`, `end_untrained`, `pad_is_eos`,
    /// `two_bos`, `merged_boundary`, `shared_boundary`, `added_system`, `truncated`, `dated`, `recovered`,
    /// `answer_lost`, `thoughts_lost`, `part_lost`, `literal_newline`, `too_long`, `equal_pair`, `prompts_differ`.
    pub code: &'static str,
    pub message: String,
    pub hint: &'static str,
    /// How many rows have it.
    pub rows: usize,
    /// The first row that has it, and that row as tokens and labels.
    pub example: Option<(usize, String)>,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(out, "{severity}: {}\n  hint: {}", self.message, self.hint)?;
        match &self.example {
            Some((_, shown)) => write!(out, "\n{}", shown.trim_end()),
            None => Ok(()),
        }
    }
}

/// The most tokens to show of a run; the middle of a longer one is left out.
const MAX_SHOWN: usize = 40;

/// Finds faults; errors come first.
pub fn audit(data: &TokenizedDataset, tokenizer: &Tokenizer) -> Vec<Finding> {
    let audit = Audit { data, tokenizer };
    let mut findings: Vec<Finding> = [
        audit.no_label(),
        audit.end_untrained(),
        audit.two_bos(),
        audit.merged_boundary(),
        audit.added_system(),
        audit.shared_boundary(),
        audit.answer_lost(),
        audit.thoughts_lost(),
        audit.part_lost(),
        audit.prompt_differs(),
        audit.equal_pair(),
        audit.prompts_differ(),
        audit.literal_newline(),
        audit.too_long(),
        audit.truncated(),
        audit.dated(),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Fails on the first error that the audit finds, and shows the row. Returns the warnings.
pub fn ensure_supervised(data: &TokenizedDataset, tokenizer: &Tokenizer) -> Result<Vec<Finding>> {
    let findings = audit(data, tokenizer);
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => {
            let shown =
                finding.example.as_ref().map_or_else(String::new, |(_, shown)| format!("\n{}", shown.trim_end()));
            Err(Error::data(format!("supervision audit: {}{shown}", finding.message)).with_hint(finding.hint))
        }
        None => Ok(findings),
    }
}

struct Audit<'a> {
    data: &'a TokenizedDataset,
    tokenizer: &'a Tokenizer,
}

impl Audit<'_> {
    fn info(&self) -> &TokenizedInfo {
        self.data.info()
    }

    /// A finding over the rows for which `has` is true; `None` if there are none. `make` gets "3 of 10 rows".
    fn over(&self, has: impl Fn(RowView) -> bool, make: impl FnOnce(String) -> Finding) -> Option<Finding> {
        let rows: Vec<usize> = self.data.iter().enumerate().filter(|(_, row)| has(*row)).map(|(row, _)| row).collect();
        let first = *rows.first()?;
        let example = Some((first, self.data.show_part(first, self.tokenizer, MAX_SHOWN)));
        let finding = make(format!("{} of {} rows", rows.len(), self.data.len()));
        Some(Finding { rows: rows.len(), example, ..finding })
    }

    /// A finding over the rows that have a bit of [`flag`].
    fn flagged(&self, bit: u16, make: impl FnOnce(String) -> Finding) -> Option<Finding> {
        self.over(|row| row.documents().any(|document| document.flags() & bit != 0), make)
    }

    fn documents(&self) -> impl Iterator<Item = DocumentView<'_>> {
        self.data.iter().flat_map(RowView::documents)
    }

    fn no_label(&self) -> Option<Finding> {
        let is_unlabelled = |document: DocumentView| !document.trained().any(|trained| trained);
        let any_has =
            |bit: u16| self.documents().any(|document| is_unlabelled(document) && document.flags() & bit != 0);
        let (why, hint) = if any_has(flag::ANSWER_LOST) {
            (": the chat template leaves out their answers", hint::ANSWER_LOST)
        } else if any_has(flag::TRUNCATED) {
            (": truncation left no answer", hint::TRUNCATED_ANSWER)
        } else {
            ("", hint::NO_LABEL)
        };
        self.over(
            |row| row.documents().any(is_unlabelled) || row.is_empty(),
            |rows| error("no_label", format!("{rows} have no token to train on{why}"), hint),
        )
    }

    fn end_untrained(&self) -> Option<Finding> {
        let ends = &self.info().end_ids;
        let trains = |row: RowView| row.ids().iter().zip(row.trained()).any(|(id, on)| on && ends.contains(id));
        if self.data.is_empty() || !self.info().end_expected || self.data.iter().any(trains) {
            return None;
        }
        let Some(&first) = ends.first() else {
            let message = "the tokenizer has no eos token: the model does not learn to stop";
            return Some(warning("end_untrained", message.to_owned(), hint::NO_EOS));
        };
        let has_end = |row: RowView| row.ids().iter().any(|id| ends.contains(id));
        if self.pad_is_eos() && self.data.iter().any(has_end) {
            let message = |rows| format!("pad and eos are the same token, and {rows} have it without a label");
            return self.over(has_end, |rows| error("pad_is_eos", message(rows), hint::PAD_IS_EOS));
        }
        let end = self.tokenizer.token(first).unwrap_or_default();
        let message = format!("no end token (`{end}`) is trained on in any row: the model never learns to stop");
        self.over(|_| true, |_| error("end_untrained", message, hint::END_UNTRAINED))
    }

    fn pad_is_eos(&self) -> bool {
        self.tokenizer.pad().zip(self.tokenizer.eos()).is_some_and(|(pad, eos)| pad.id == eos.id)
    }

    fn two_bos(&self) -> Option<Finding> {
        let bos = self.tokenizer.bos()?.id;
        self.over(
            |row| row.documents().any(|document| document.ids().starts_with(&[bos, bos])),
            |rows| error("two_bos", format!("{rows} begin with two BOS tokens"), hint::TWO_BOS),
        )
    }

    fn merged_boundary(&self) -> Option<Finding> {
        let message = |rows| format!("in {rows} one token spans the end of the prompt and the start of the answer");
        self.flagged(flag::MERGED_WORDS, |rows| error("merged_boundary", message(rows), hint::MERGED))
    }

    fn shared_boundary(&self) -> Option<Finding> {
        let message = |rows| {
            format!("in {rows} one token spans white space or punctuation at the end of the prompt and the start of the answer")
        };
        let only = |flags: u16| flags & (flag::MERGED | flag::MERGED_WORDS) == flag::MERGED;
        let has = |row: RowView| row.documents().any(|document| only(document.flags()));
        self.over(has, |rows| warning("shared_boundary", message(rows), hint::SHARED))
    }

    fn answer_lost(&self) -> Option<Finding> {
        let message = |rows| format!("in {rows} the chat template leaves out an answer, which is not trained on");
        self.flagged(flag::ANSWER_LOST, |rows| warning("answer_lost", message(rows), hint::ANSWER_LOST))
    }

    fn thoughts_lost(&self) -> Option<Finding> {
        let message = |rows| {
            format!(
                "in {rows} the chat template leaves out the reasoning of an answer (`reasoning_content`, or the text \
                 before `</think>`), which is not trained on"
            )
        };
        self.flagged(flag::THOUGHTS_LOST, |rows| warning("thoughts_lost", message(rows), hint::THOUGHTS_LOST))
    }

    fn part_lost(&self) -> Option<Finding> {
        let message = |rows| {
            format!(
                "in {rows} the chat template leaves out a part of an answer: its tool calls, or the text beside them"
            )
        };
        self.flagged(flag::PART_LOST, |rows| warning("part_lost", message(rows), hint::PART_LOST))
    }

    fn equal_pair(&self) -> Option<Finding> {
        if self.data.kind() != RowKind::Pairs {
            return None;
        }
        let is_equal = |row: RowView| {
            let documents: Vec<&[u32]> = row.documents().map(DocumentView::ids).collect();
            documents.windows(2).all(|pair| pair[0] == pair[1])
        };
        let is_cut = |row: RowView| row.documents().all(|document| document.flags() & flag::TRUNCATED != 0);
        let cut = self.data.iter().filter(|row| is_equal(*row) && is_cut(*row)).count();
        let why = if cut > 0 { format!(", {cut} of them because of max_length") } else { String::new() };
        let message = |rows| format!("in {rows} the chosen answer equals the rejected one{why}");
        self.over(is_equal, |rows| warning("equal_pair", message(rows), hint::EQUAL_PAIR))
    }

    fn prompts_differ(&self) -> Option<Finding> {
        let message = |rows| format!("in {rows} an answer begins with a turn that is not the assistant's");
        self.flagged(flag::PROMPTS_DIFFER, |rows| warning("prompts_differ", message(rows), hint::PROMPTS_DIFFER))
    }

    fn literal_newline(&self) -> Option<Finding> {
        let message = |rows| format!("the text of {rows} contains `\\n` as two characters, a backslash and an n");
        self.flagged(flag::LITERAL_NEWLINE, |rows| warning("literal_newline", message(rows), hint::LITERAL_NEWLINE))
    }

    fn too_long(&self) -> Option<Finding> {
        let positions = self.tokenizer.positions()?;
        let has = |row: RowView| row.documents().any(|document| document.ids().len() > positions);
        let message =
            |rows| format!("{rows} are longer than the {} positions of the model", thousands(positions as u64));
        self.over(has, |rows| warning("too_long", message(rows), hint::TOO_LONG))
    }

    fn added_system(&self) -> Option<Finding> {
        let head = self.info().added_system.clone()?;
        let message = |rows| format!("the chat template adds a system prompt to {rows}: {head:?}");
        self.flagged(flag::SYSTEM_ADDED, |rows| warning("added_system", message(rows), hint::SYSTEM))
    }

    fn prompt_differs(&self) -> Option<Finding> {
        let message =
            |rows| format!("in {rows} the text before an answer is not the prompt that generation starts from");
        self.flagged(flag::PROMPT_DIFFERS, |rows| warning("recovered", message(rows), hint::PROMPT_DIFFERS))
    }

    fn truncated(&self) -> Option<Finding> {
        let max_length = self.info().max_length?;
        let message = |rows| format!("{rows} are truncated to max_length {max_length}");
        self.flagged(flag::TRUNCATED, |rows| warning("truncated", message(rows), hint::TRUNCATED))
    }

    fn dated(&self) -> Option<Finding> {
        let message = "the chat template writes today's date: the tokens change from day to day".to_owned();
        self.info().dated.then(|| warning("dated", message, hint::DATED))
    }
}

/// The likely fixes.
mod hint {
    pub const TRUNCATED_ANSWER: &str = "raise max_length, set truncation: \"keep_end\", or drop_unlabelled: true";
    pub const NO_LABEL: &str =
        "answers are the messages with the role \"assistant\", or the completion: drop rows without \
        one (drop_unlabelled: true), or check loss_on";
    pub const NO_EOS: &str = "set eos_token in tokenizer_config.json";
    pub const PAD_IS_EOS: &str = "mask padding by position, or give the tokenizer another pad token";
    pub const END_UNTRAINED: &str =
        "raise max_length so that answers are not truncated; set append_eos: true, or false \
        if the text should not end; put the end token inside the template's generation tags";
    pub const TWO_BOS: &str = "remove the BOS from the text or the template: the tokenizer adds one";
    pub const MERGED: &str = "the model would be trained on a prompt that it will not see: end the prompt without \
        white space and start the answer with it (\"A:\" + \" yes\"), or trim the answer";
    pub const SHARED: &str = "the whole token is trained on, as in TRL, but when generating the prompt ends before \
        it; if you write the prompt, end it without white space (\"A:\" + \" yes\")";
    pub const ANSWER_LOST: &str =
        "the answer may be a tool call, a `function_call`, a list of parts, or null, which this \
        template does not write: make it text, or give a template that writes it by option `chat_template`";
    pub const THOUGHTS_LOST: &str = "give a template that keeps them by option `chat_template` (a training template \
        with {% generation %} tags, as TRL ships them), or make one row for each answer, with that answer last";
    pub const PART_LOST: &str = "give a template that writes them by option `chat_template`, or put them into the text";
    pub const EQUAL_PAIR: &str = "such a pair teaches no preference: leave it out, as in \
        data.filter(|row| row.chosen != row.rejected), or raise max_length";
    pub const PROMPTS_DIFFER: &str = "the two conversations part before their last answer, or `chosen` and `rejected` \
        repeat the prompt: such turns are trained on as if the model had written them";
    pub const LITERAL_NEWLINE: &str = "a string in backticks has no escapes: break the line in it, or write \
        ${\"\\n\"}; ignore this if the two characters are meant";
    pub const TOO_LONG: &str =
        "set max_length to that number, or filter long rows: the model was not trained on later \
        positions";
    pub const SYSTEM: &str = "give each row a system message, or use the same prompt at inference";
    pub const PROMPT_DIFFERS: &str =
        "the model is trained on another form than it generates: set the variables of the \
        template (template_variables: #{ enable_thinking: false }), or give a training template with \
        {% generation %} tags";
    pub const TRUNCATED: &str = "raise max_length, or filter long rows";
    pub const DATED: &str = "set template_variables: #{ date_string: \"26 Jul 2024\" }";
}

fn error(code: &'static str, message: String, hint: &'static str) -> Finding {
    Finding { severity: Severity::Error, code, message, hint, rows: 0, example: None }
}

fn warning(code: &'static str, message: String, hint: &'static str) -> Finding {
    Finding { severity: Severity::Warning, ..error(code, message, hint) }
}
