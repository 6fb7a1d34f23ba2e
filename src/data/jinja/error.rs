//! Why a template failed, and whether the template or the conversation is at fault.

/// The cause of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The template is not valid Jinja2, or names an unknown filter or test.
    Syntax,
    /// The template called `raise_exception`.
    Raised,
    /// Too many steps or too much text.
    OutOfFuel,
    /// The conversation lacks a value, or has one of another type.
    Conversation,
    /// The template uses a name that does not exist.
    Template,
    /// Python would raise an error; whether template or conversation is at fault is not known here.
    Runtime,
}

/// A failure with its line in the template and the turn of the conversation, where known.
#[derive(Debug, Clone)]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
    pub line: Option<u32>,
    /// The message at which the innermost loop over the conversation was.
    pub turn: Option<usize>,
}

pub type Result<T> = std::result::Result<T, Box<Failure>>;

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Box<Self> {
        Box::new(Failure { cause, message: message.into(), line: None, turn: None })
    }

    pub fn syntax(line: u32, message: impl Into<String>) -> Box<Self> {
        Box::new(Failure { cause: Cause::Syntax, message: message.into(), line: Some(line), turn: None })
    }
}

/// A failure of cause [`Cause::Runtime`].
pub(super) fn fault<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure::new(Cause::Runtime, message))
}
