//! Answers the line editor while a line is typed: completion, hints, colours, completeness.

use super::complete::{self, Candidate};
use super::hint::{self, Hint};
use super::shell::Shared;
use super::{completeness, highlight};
use rustyline::completion::{Candidate as EditorCandidate, Completer};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint as EditorHint, Hinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

pub struct LineHelper {
    pub shared: Rc<Shared>,
    pub colours: bool,
    /// Earlier inputs, the oldest first.
    pub history: RefCell<Vec<String>>,
}

impl Helper for LineHelper {}

impl EditorCandidate for Candidate {
    fn display(&self) -> &str {
        &self.shown
    }
    fn replacement(&self) -> &str {
        &self.text
    }
}

impl Completer for LineHelper {
    type Candidate = Candidate;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Candidate>)> {
        Ok(complete::complete(&self.shared.known.borrow(), &line[..position]))
    }
}

impl EditorHint for Hint {
    fn display(&self) -> &str {
        &self.shown
    }
    fn completion(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl Hinter for LineHelper {
    type Hint = Hint;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<Hint> {
        let at_end = position == line.len();
        at_end.then(|| hint::hint(&self.shared.known.borrow(), line, &self.history.borrow())).flatten()
    }
}

impl Highlighter for LineHelper {
    fn highlight<'l>(&self, line: &'l str, position: usize) -> Cow<'l, str> {
        if !self.colours {
            return Cow::Borrowed(line);
        }
        Cow::Owned(highlight::highlight(&self.shared.known.borrow(), line, position))
    }
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if !self.colours {
            return Cow::Borrowed(hint);
        }
        Cow::Owned(highlight::painted(hint, highlight::HINT))
    }
    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.colours && kind != CmdKind::ForcedRefresh
    }
}

impl Validator for LineHelper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let is_complete = completeness::is_complete(&self.shared.session.borrow(), context.input());
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}
