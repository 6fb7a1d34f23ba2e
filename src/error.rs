//! The one error type of the project: what went wrong, where, and the likely fix.
//!
//! Knows nothing of scripts: `script/` adds the line of the script. Messages are lower case, say what was
//! expected and what was found, and name the option, file or tensor. Text of files in them is made harmless here.

use crate::foreign;
use crate::format;
use crate::{sandbox, suggest};
use serde::{Deserialize, Serialize};
use std::{fmt, io, path::Path};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, for callers that decide by it. The details are in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A value, option or argument from the user is wrong.
    Input,
    /// A file or folder cannot be read or written, or its content is damaged.
    File,
    /// The hub refuses, cannot be reached, or does not have the file.
    Hub,
    /// A model, adapter or tensor does not fit.
    Model,
    /// Rows, columns, templates or tokens cannot be used.
    Data,
    /// A number became infinite or not a number.
    Numeric,
    /// Host or device memory ran out.
    Memory,
    /// The user asked to stop (Ctrl-C).
    Stopped,
    /// A bug in lorhai: please report it.
    Bug,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Error { kind, message: foreign::lines(&message).into_owned(), hint: None }
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

    /// An I/O error, with the verb of what failed ("read") and the path.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(Kind::File, format!("cannot {verb} `{}`: {}", path.display(), reason(error)));
        match error.kind() {
            io::ErrorKind::NotFound => failure.with_hint(missing_path_hint(path)),
            io::ErrorKind::IsADirectory => failure.with_hint("give the name of a file in it"),
            io::ErrorKind::FileTooLarge => failure.with_hint("raise the limit on file sizes (ulimit -f)"),
            io::ErrorKind::StorageFull => failure.with_hint("free some space on that disk, or choose another folder"),
            io::ErrorKind::PermissionDenied if sandbox::is_on() => {
                failure.with_hint("the sandbox may forbid it: see --allow-read and --allow-write in lorhai run --help")
            }
            io::ErrorKind::PermissionDenied => failure.with_hint("check the owner and permissions of that path"),
            _ => failure,
        }
    }

    /// Adds the likely fix.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(foreign::lines(&hint.into()).into_owned());
        self
    }

    /// Prefixes the message: `context("row 12")` makes it "row 12: message".
    pub fn context(mut self, prefix: impl fmt::Display) -> Self {
        self.message = format!("{}: {}", foreign::lines(&prefix.to_string()), self.message);
        self
    }
}

/// The system's description of the error, in simpler words and without the error number.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_string(),
        io::ErrorKind::IsADirectory => "it is a folder".to_string(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_string()
        }
    }
}

/// A hint for a path that does not exist.
fn missing_path_hint(path: &Path) -> String {
    if let Some(near) = suggest::nearest_path(path, |_| true) {
        return format!("did you mean `{near}`?");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.exists()) {
        Some(folder) => format!("there is no folder `{}` either", folder.display()),
        None => {
            let searched = std::path::absolute(folder.unwrap_or(Path::new("."))).unwrap_or_default();
            format!("check its name; looked in {}", searched.display())
        }
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
        const PHRASES: [&str; 5] =
            ["out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory", "std::bad_alloc"];
        if PHRASES.iter().any(|phrase| text.contains(phrase)) {
            return out_of_memory(first);
        }
        Error::new(Kind::Bug, format!("libtorch: {first}"))
    }
}

/// On a CPU, `text` is "… tried to allocate 133120000 bytes …", and the size is worth showing only if it
/// is large. For a GPU the text of libtorch says more.
fn out_of_memory(text: &str) -> Error {
    const GB: u64 = 1_000_000_000;
    let bytes = text.split("tried to allocate ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    let message = match bytes {
        Some(bytes) if bytes >= GB => format!("out of memory: cannot allocate a tensor of {}", format::bytes(bytes)),
        Some(_) => "out of memory: this machine has none left".to_string(),
        None if text.starts_with("std::bad_alloc") => "out of memory: this machine has none left".to_string(),
        None => format!("out of memory: {text}"),
    };
    Error::new(Kind::Memory, message).with_hint(
        "use a smaller batch (with accumulation the steps stay the same) or max_length, gradient_checkpointing: true, \
         or dtype \"bf16\"; memory_plan(name, #{ … }) shows how much is needed",
    )
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
