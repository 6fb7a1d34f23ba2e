//! An error as the user sees it: file, line, the source line with a caret, message, hint,
//! and the calls that led there.
//!
//! Leaves to others: the message (`explain`), and where the error is (`locate`, `report`).

use crate::error::{Error, Kind};
use crate::foreign;
use crate::script::values::convert::kind_name;
use console::measure_text_width;
use serde_json::{json, Value};
use std::fmt::{self, Write};

/// An error keeps a script from running; a warning is for what is likely a slip.
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
    /// Whether the user stopped the run (Ctrl-C).
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
            // As on the terminal: column 0 stands for an unknown one.
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

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        out.write_str(&foreign::lines(&text))
    }
}

impl Failure {
    fn write(&self, out: &mut String) -> fmt::Result {
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

    /// The nearest calls are enough: a recursion repeats itself.
    fn show_calls(&self, out: &mut String, margin: usize) -> fmt::Result {
        const SHOWN: usize = 8;
        for call in self.calls.iter().take(SHOWN) {
            write!(out, "\n{:margin$} = {call}", "")?;
        }
        if self.calls.len() > SHOWN {
            write!(out, "\n{:margin$} = and {} more calls", "", self.calls.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Place {
    /// Writes the place. Returns the width of the line number.
    fn show(&self, out: &mut String) -> Result<usize, fmt::Error> {
        let Place { file, line, column, text } = self;
        let margin = line.to_string().len();
        write!(out, "\n{:margin$}--> {file}:{line}", "")?;
        if *column > 0 {
            write!(out, ":{column}")?;
        }
        if let Some(text) = text {
            write!(out, "\n{:margin$} |\n{line} | {}", "", text.trim_end().replace('\t', " "))?;
            if *column > 0 {
                write!(out, "\n{:margin$} | {}^", "", " ".repeat(columns(text, column - 1)))?;
            }
        }
        Ok(margin)
    }
}

/// The columns that the first `count` characters take on a terminal.
fn columns(text: &str, count: usize) -> usize {
    measure_text_width(&text.chars().take(count).collect::<String>().replace('\t', " "))
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
