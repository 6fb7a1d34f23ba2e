//! The one error type of the project: what went wrong, where, and the likely fix.
//!
//! Knows nothing of scripts: `script/` adds the place in the script. Messages are lower
//! case, say what was expected and what was found, and name the option, file or tensor.

use crate::suggest;
use std::{fmt, io, path::Path};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Few kinds, for callers that act on them; the text carries the detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value, option or argument that the user gave is wrong.
    Input,
    /// A file or folder cannot be read or written, or its bytes are not what they should be.
    File,
    /// The hub refused, is absent, or does not have what was asked for.
    Hub,
    /// A model, adapter or tensor does not fit.
    Model,
    /// Rows, columns, templates or tokens are not usable.
    Data,
    /// A number became infinite or not a number.
    Numeric,
    /// Host or device memory ran out.
    Memory,
    /// The user asked to stop (Ctrl-C).
    Stopped,
    /// Our own mistake: please report it.
    Bug,
}

#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(Kind::Model, message)
    }
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }
    pub fn stopped() -> Self {
        Self::new(Kind::Stopped, "stopped by the user (Ctrl-C)")
    }

    /// An I/O failure, with what was being done and to which path.
    pub fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let found = Self::new(Kind::File, format!("cannot {doing} `{}`: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => match suggest::nearest_path(path, |_| true) {
                Some(near) => found.with_hint(format!("did you mean `{near}`?")),
                None => found,
            },
            io::ErrorKind::FileTooLarge => found.with_hint("raise the limit on the size of files (ulimit -f)"),
            io::ErrorKind::StorageFull => found.with_hint("free some space on that disk, or choose another folder"),
            io::ErrorKind::PermissionDenied => found.with_hint("check the owner and the mode of that path"),
            _ => found,
        }
    }

    /// Adds the likely fix.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the place in front: `context("row 12")` gives "row 12: message".
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = match error {
            tch::TchError::Torch(text) => text,
            other => other.to_string(),
        };
        let first = text.lines().next().unwrap_or("unknown failure").trim();
        if text.contains("out of memory") || text.contains("not enough memory") {
            return Error::new(Kind::Memory, format!("out of memory: {first}"))
                .with_hint("use a smaller batch or max_length, or dtype \"bf16\"");
        }
        Error::new(Kind::Bug, format!("libtorch: {first}"))
    }
}

/// Returns early with an [`Error`]: `bail!(Kind::Data, "expected {a}, found {b}"; hint: "…")`.
#[macro_export]
macro_rules! bail {
    ($kind:expr, $($text:literal $(, $value:expr)* $(,)?)?; hint: $($hint:tt)+) => {
        return Err($crate::error::Error::new($kind, format!($($text $(, $value)*)?)).with_hint(format!($($hint)+)))
    };
    ($kind:expr, $($text:tt)+) => {
        return Err($crate::error::Error::new($kind, format!($($text)+)))
    };
}
