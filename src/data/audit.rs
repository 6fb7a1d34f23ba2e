//! The supervision audit: what silently ruins a run, found before its first step.
//!
//! Looks at the tokens and labels themselves, with the row shown. Leaves to others: the
//! decision to go on all the same ([`super::TokenizeOptions::audit`]).

use super::store::{flag, DocumentView, Origin, RowView};
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::hub::tokenizer::Tokenizer;
use std::fmt;

/// Whether a finding stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One fault, with the number of rows that have it and the first of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    /// A short name that does not change: `no_label`, `end_untrained`, `pad_is_eos`,
    /// `two_bos`, `merged_boundary`, `shared_boundary`, `added_system`, `truncated`, `dated`, `recovered`,
    /// `answer_lost`, `thoughts_lost`, `part_lost`, `literal_newline`, `too_long`.
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

/// How many tokens of a run are shown before its middle is left out.
const SHOWN: usize = 40;

/// Looks for faults; errors first.
pub fn audit(data: &TokenizedDataset, tokenizer: &Tokenizer) -> Vec<Finding> {
    let case = Case { data, tokenizer };
    let mut findings: Vec<Finding> = [
        case.no_label(),
        case.end_untrained(),
        case.two_bos(),
        case.merged_boundary(),
        case.added_system(),
        case.shared_boundary(),
        case.answer_lost(),
        case.thoughts_lost(),
        case.part_lost(),
        case.prompt_differs(),
        case.literal_newline(),
        case.too_long(),
        case.truncated(),
        case.dated(),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Fails on the first error that the audit finds, with the row shown; gives the warnings.
pub fn refuse(data: &TokenizedDataset, tokenizer: &Tokenizer) -> Result<Vec<Finding>> {
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

struct Case<'a> {
    data: &'a TokenizedDataset,
    tokenizer: &'a Tokenizer,
}

impl Case<'_> {
    fn origin(&self) -> &Origin {
        self.data.origin()
    }

    /// A finding over the rows that `has` says true of, or nothing where there are none.
    /// `make` gets "3 of 10 rows".
    fn over(&self, has: impl Fn(RowView) -> bool, make: impl FnOnce(String) -> Finding) -> Option<Finding> {
        let rows: Vec<usize> = self.data.iter().enumerate().filter(|(_, row)| has(*row)).map(|(row, _)| row).collect();
        let first = *rows.first()?;
        let example = Some((first, self.data.show_part(first, self.tokenizer, SHOWN)));
        let found = make(format!("{} of {} rows", rows.len(), self.data.len()));
        Some(Finding { rows: rows.len(), example, ..found })
    }

    /// A finding over the rows where a bit of [`flag`] is set.
    fn flagged(&self, bit: u16, make: impl FnOnce(String) -> Finding) -> Option<Finding> {
        self.over(|row| row.documents().any(|document| document.flags() & bit != 0), make)
    }

    fn documents(&self) -> impl Iterator<Item = DocumentView<'_>> {
        self.data.iter().flat_map(RowView::documents)
    }

    fn no_label(&self) -> Option<Finding> {
        let none = |document: DocumentView| !document.trained().any(|trained| trained);
        let cut = self.documents().any(|document| none(document) && document.flags() & flag::TRUNCATED != 0);
        let lost = self.documents().any(|document| none(document) && document.flags() & flag::ANSWER_LOST != 0);
        let (why, hint) = match (cut, lost) {
            (_, true) => (": the chat template writes nothing of their answers", hint::ANSWER_LOST),
            (true, _) => (": truncation left no answer", hint::CUT),
            _ => ("", hint::NO_LABEL),
        };
        self.over(
            |row| row.documents().any(none) || row.is_empty(),
            |rows| error("no_label", format!("{rows} have no token to train on{why}"), hint),
        )
    }

    fn end_untrained(&self) -> Option<Finding> {
        let ends = &self.origin().end_ids;
        let trains = |row: RowView| row.ids().iter().zip(row.trained()).any(|(id, on)| on && ends.contains(id));
        if self.data.is_empty() || !self.origin().end_expected || self.data.iter().any(trains) {
            return None;
        }
        let Some(&first) = ends.first() else {
            let message = "the tokenizer names no eos token: the model is not taught to stop";
            return Some(warning("end_untrained", message.to_owned(), hint::NO_EOS));
        };
        let holds = |row: RowView| row.ids().iter().any(|id| ends.contains(id));
        if self.pad_is_eos() && self.data.iter().any(holds) {
            let message = |rows| format!("pad and eos are the same token, and {rows} hold it without a label");
            return self.over(holds, |rows| error("pad_is_eos", message(rows), hint::PAD_IS_EOS));
        }
        let end = self.tokenizer.token(first).unwrap_or_default();
        let message = format!("no row trains an end token (`{end}`): the model never learns to stop");
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
        let message = |rows| format!("in {rows} one token holds the end of the prompt and the start of the answer");
        self.flagged(flag::MERGED_WORDS, |rows| error("merged_boundary", message(rows), hint::MERGED))
    }

    fn shared_boundary(&self) -> Option<Finding> {
        let message = |rows| {
            format!("in {rows} one token holds the last white space or sign of the prompt and the start of the answer")
        };
        let only = |flags: u16| flags & (flag::MERGED | flag::MERGED_WORDS) == flag::MERGED;
        let has = |row: RowView| row.documents().any(|document| only(document.flags()));
        self.over(has, |rows| warning("shared_boundary", message(rows), hint::SHARED))
    }

    fn answer_lost(&self) -> Option<Finding> {
        let message = |rows| format!("in {rows} the chat template writes nothing of an answer: it is not trained on");
        self.flagged(flag::ANSWER_LOST, |rows| warning("answer_lost", message(rows), hint::ANSWER_LOST))
    }

    fn thoughts_lost(&self) -> Option<Finding> {
        let message = |rows| {
            format!(
                "in {rows} the chat template leaves out the thoughts of an answer (`reasoning_content`, or what \
                 stands before `</think>`): they are not trained on"
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

    fn literal_newline(&self) -> Option<Finding> {
        let message = |rows| format!("the text of {rows} holds `\\n` as two characters, a backslash and an n");
        self.flagged(flag::LITERAL_NEWLINE, |rows| warning("literal_newline", message(rows), hint::LITERAL_NEWLINE))
    }

    fn too_long(&self) -> Option<Finding> {
        let most = self.tokenizer.positions()?;
        let has = |row: RowView| row.documents().any(|document| document.ids().len() > most);
        let message = |rows| format!("{rows} are longer than the {} positions of the model", thousands(most as u64));
        self.over(has, |rows| warning("too_long", message(rows), hint::TOO_LONG))
    }

    fn added_system(&self) -> Option<Finding> {
        let head = self.origin().added_system.clone()?;
        let message = |rows| format!("the chat template adds a system prompt to {rows}: {head:?}");
        self.flagged(flag::SYSTEM_ADDED, |rows| warning("added_system", message(rows), hint::SYSTEM))
    }

    fn prompt_differs(&self) -> Option<Finding> {
        let message =
            |rows| format!("in {rows} an answer follows another text than the prompt that generation begins with");
        self.flagged(flag::PROMPT_DIFFERS, |rows| warning("recovered", message(rows), hint::RECOVERED))
    }

    fn truncated(&self) -> Option<Finding> {
        let most = self.origin().max_length?;
        let message = |rows| format!("{rows} are cut to max_length {most}");
        self.flagged(flag::TRUNCATED, |rows| warning("truncated", message(rows), hint::TRUNCATED))
    }

    fn dated(&self) -> Option<Finding> {
        let message = "the chat template writes today's date: the tokens change from day to day".to_owned();
        self.origin().dated.then(|| warning("dated", message, hint::DATED))
    }
}

/// The likely fixes.
mod hint {
    pub const CUT: &str = "raise max_length, set truncation: \"keep_end\", or drop_unlabelled: true";
    pub const NO_LABEL: &str =
        "answers are the messages of the role \"assistant\", or the completion: leave rows without \
        one out (drop_unlabelled: true), or look at loss_on";
    pub const NO_EOS: &str = "set eos_token in tokenizer_config.json";
    pub const PAD_IS_EOS: &str = "mask padding by position, or give the tokenizer a pad token of its own";
    pub const END_UNTRAINED: &str = "raise max_length so that answers are not cut; set append_eos: true, or false \
        where no end is meant; let the template's generation tags hold the end token";
    pub const TWO_BOS: &str = "take the BOS out of the text or the template: it is added once";
    pub const MERGED: &str = "the model would be trained on a prompt that it will not see: end the prompt without \
        white space and begin the answer with it (\"A:\" + \" yes\"), or trim the answer";
    pub const SHARED: &str = "the whole token is trained on, as in TRL; when generating, the model sees the prompt \
        end before it; a prompt of your own should end without white space (\"A:\" + \" yes\")";
    pub const ANSWER_LOST: &str = "it may be a tool call, a `function_call`, a list of parts, or null, of which this \
        template writes nothing: make it text, or give a template that writes it by option `chat_template`";
    pub const THOUGHTS_LOST: &str = "give a template that keeps them by option `chat_template` (a training template \
        with {% generation %} tags, as TRL ships them), or make a row of each answer so that it stands last";
    pub const PART_LOST: &str = "give a template that writes them by option `chat_template`, or put them into the text";
    pub const LITERAL_NEWLINE: &str =
        "a string in backticks keeps escapes as they are: break the line in it, or write \
        ${\"\\n\"}; if the text means the two characters, all is well";
    pub const TOO_LONG: &str =
        "set max_length to that number, or filter long rows: positions that the model never saw \
        give no sense";
    pub const SYSTEM: &str = "give each row a system message, or use the same prompt at inference";
    pub const RECOVERED: &str = "answers are trained on in a form that the model will not be asked for: set what the \
        template asks for (template_variables: #{ enable_thinking: false }), or give a training template with \
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
