//! An error as the user sees it: file, line, the source line with a caret, message, hint,
//! and the calls that led there.
//!
//! What the message says is `explain`'s.

use crate::error::{Error, Kind};
use crate::script::engine::state::State;
use crate::script::language::check::races;
use crate::script::language::explain;
use crate::script::values::convert::kind_name;
use rhai::{Engine, EvalAltResult, Position, Scope};
use serde_json::{json, Value};
use std::fmt;

/// Does it keep a script from running, or is it likely to be a slip?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// A failed run, or what `lorhai check` says of a script. Its `Display` is the whole report,
/// over several lines.
#[derive(Debug, Clone)]
pub struct Failure {
    pub error: Error,
    pub severity: Severity,
    /// Where it happened, if that is a known place in a script.
    pub place: Option<Box<Place>>,
    /// The calls that led there, the nearest first: "`f` called from FILE:LINE:COLUMN".
    pub calls: Vec<String>,
}

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters; 0 where only the line is known.
    pub column: usize,
    /// The line itself.
    pub text: Option<String>,
}

impl Failure {
    /// Did the user stop the run (Ctrl-C)?
    pub fn stopped(&self) -> bool {
        self.error.kind == Kind::Stopped
    }

    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// The report for a machine.
    pub fn to_json(&self) -> Value {
        let place = self.place.as_ref().map(|place| {
            let Place { file, line, column, text } = &**place;
            // As on the terminal: a column of 0 is one that is not known.
            json!({ "file": file, "line": line, "column": Some(column).filter(|column| **column > 0), "text": text })
        });
        let Error { kind, message, hint } = &self.error;
        json!({ "kind": kind_name(*kind), "message": message, "hint": hint, "place": place, "calls": self.calls })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, severity: Severity::Error, place: None, calls: Vec::new() }
    }
}

impl std::error::Error for Failure {}

/// Makes the report of a run that failed with `error`.
pub fn failure(error: &EvalAltResult, engine: &Engine, scope: &Scope, state: &State) -> Failure {
    let mut file = state.script();
    let mut calls = Vec::new();
    let mut inner = error;
    loop {
        let (next, source, call, position) = match inner {
            EvalAltResult::ErrorInFunctionCall(name, source, next, position) => (next, source, called(name), position),
            EvalAltResult::ErrorInModule(path, next, position) => (next, path, "imported".to_string(), position),
            _ => break,
        };
        calls.push(format!("{call} from {}", spot(&file, *position, state)));
        if !source.is_empty() {
            file.clone_from(source);
        }
        inner = next;
    }
    calls.reverse();
    if let EvalAltResult::ErrorDataRace(what, _) = inner {
        if let Some((error, position)) = races::explain(engine, &state.text(&file).unwrap_or_default(), what) {
            return Failure { error, severity: Severity::Error, place: place(&file, position, state), calls };
        }
    }
    let place = place(&file, inner.position(), state);
    let error = explain::explain(inner, &explain::Surroundings { engine, scope, state, place: place.as_deref() });
    Failure { error, severity: Severity::Error, place, calls }
}

/// The report of something wrong at a place of the script that was read last.
pub fn at(error: Error, position: Position, severity: Severity, state: &State) -> Failure {
    Failure { error, severity, place: place(&state.script(), position, state), calls: Vec::new() }
}

fn called(function: &str) -> String {
    match function.starts_with("anon$") {
        true => "closure called".to_string(),
        false => format!("`{function}` called"),
    }
}

fn spot(file: &str, position: Position, state: &State) -> String {
    let Some(line) = position.line() else { return file.to_string() };
    let (file, line) = state.locate(file, line);
    match position.position() {
        Some(column) => format!("{file}:{line}:{column}"),
        None => format!("{file}:{line}"),
    }
}

pub(in crate::script) fn place(file: &str, position: Position, state: &State) -> Option<Box<Place>> {
    let (file, line) = state.locate(file, position.line()?);
    let (file, column) = (file.as_str(), position.position().unwrap_or(0));
    let place = match (state.line(file, line), state.last_line(file)) {
        // At the end of the script, where no line is to be seen.
        (None, Some((line, text))) => {
            let column = text.trim_end().chars().count() + 1;
            Place { file: file.to_string(), line, column, text: Some(text) }
        }
        (text, _) => Place { file: file.to_string(), line, column, text },
    };
    Some(Box::new(place))
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.severity {
            Severity::Warning => "warning",
            Severity::Error if self.stopped() => "stopped",
            Severity::Error => "error",
        };
        let mut message = self.error.message.lines();
        write!(out, "{label}: {}", message.next().unwrap_or_default())?;
        message.try_for_each(|line| write!(out, "\n  {line}"))?;
        let margin = match &self.place {
            Some(place) => place.show(out)?,
            None => 1,
        };
        for (index, line) in self.error.hint.iter().flat_map(|hint| hint.lines()).enumerate() {
            let lead = if index == 0 { "= hint: " } else { "        " };
            write!(out, "\n{:margin$} {lead}{line}", "")?;
        }
        self.show_calls(out, margin)
    }
}

impl Failure {
    /// A recursion repeats itself: the nearest calls tell enough.
    fn show_calls(&self, out: &mut fmt::Formatter<'_>, margin: usize) -> fmt::Result {
        const SHOWN: usize = 8;
        for call in self.calls.iter().take(SHOWN) {
            write!(out, "\n{:margin$} = {call}", "")?;
        }
        match self.calls.len() > SHOWN {
            true => write!(out, "\n{:margin$} = and {} more calls", "", self.calls.len() - SHOWN),
            false => Ok(()),
        }
    }
}

impl Place {
    /// Writes the place and gives the width of the line number.
    fn show(&self, out: &mut fmt::Formatter<'_>) -> Result<usize, fmt::Error> {
        let Place { file, line, column, text } = self;
        let margin = line.to_string().len();
        write!(out, "\n{:margin$}--> {file}:{line}", "")?;
        if *column > 0 {
            write!(out, ":{column}")?;
        }
        if let Some(text) = text {
            write!(out, "\n{:margin$} |\n{line} | {}", "", text.trim_end().replace('\t', " "))?;
            if *column > 0 {
                write!(out, "\n{:margin$} | {}^", "", " ".repeat(width(text, column - 1)))?;
            }
        }
        Ok(margin)
    }
}

/// The columns that the first `count` characters take on a terminal.
fn width(text: &str, count: usize) -> usize {
    text.chars().take(count).map(|letter| if is_wide(letter) { 2 } else { 1 }).sum()
}

/// Hangul, Chinese and Japanese letters, full-width forms and pictographs take two columns.
fn is_wide(letter: char) -> bool {
    matches!(u32::from(letter),
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_line_with_a_caret_under_wide_letters_too() {
        let text = Some("let 이름 = \"가\" + y;".to_string());
        let place = Place { file: "x.rhai".into(), line: 12, column: 16, text };
        let error = Error::input("unknown variable `y`").with_hint("did you mean `x`?");
        let failure = Failure {
            error,
            severity: Severity::Error,
            place: Some(Box::new(place)),
            calls: vec!["`f` called from x.rhai:3:1".into()],
        };
        let expected = "error: unknown variable `y`\n  --> x.rhai:12:16\n   |\n\
                        12 | let 이름 = \"가\" + y;\n   |                   ^\n   \
                        = hint: did you mean `x`?\n   = `f` called from x.rhai:3:1";
        assert_eq!(failure.to_string(), expected);
    }
}
