//! Why a template failed, and whose fault it is: the template's or the conversation's.

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Not Jinja2, or names a filter or test that does not exist.
    Syntax,
    /// The template called `raise_exception`.
    Raised,
    /// Too many steps or too much text.
    OutOfFuel,
    /// A value that the conversation should have, or has in another type.
    Conversation,
    /// The template uses what does not exist.
    Template,
    /// Python refuses an operation; whose values are wrong is not known here.
    Runtime,
}

/// A failure with its line in the template and the turn of the conversation, where known.
#[derive(Debug, Clone)]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
    pub line: Option<u32>,
    /// The message that the innermost loop over the conversation was at.
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
