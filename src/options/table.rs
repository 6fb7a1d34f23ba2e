//! The declarations of options, and the trait that reads and checks declared options.

use super::range::NumberRange;
use super::types::Mismatch;
use super::value::Value;
use crate::error::{Error, Result};

/// One option, as documents, completion and checks know it.
pub struct Declared {
    pub name: &'static str,
    /// Its names in Python's tools.
    pub aliases: &'static [&'static str],
    pub type_name: fn() -> String,
    pub choices: fn() -> &'static [&'static str],
    /// The options inside, where the value is a map of options.
    pub inner: fn() -> Option<&'static Table>,
    pub default: fn() -> Value,
    /// The default in words, where the value alone does not say it.
    pub default_words: Option<&'static str>,
    pub is_required: bool,
    pub range: Option<NumberRange>,
    /// The fix for a number outside of the range, or for a required option that is absent.
    pub hint: Option<&'static str>,
    /// Sentences on what it does, as Markdown; the first stands alone.
    pub about: &'static str,
}

impl Declared {
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// As a document shows the default: `8`, `"linear"`, `required`, `none`.
    pub fn default_text(&self) -> String {
        match (self.is_required, self.default_words) {
            (true, _) => "required".to_owned(),
            (false, Some(words)) => words.to_owned(),
            (false, None) => match (self.default)() {
                Value::Unit => "none".to_owned(),
                value => value.literal(),
            },
        }
    }

    /// As a document shows the type: `int of at least 1`, `"none", "all" or "lora_only"`.
    pub fn type_text(&self) -> String {
        let names = (self.choices)();
        match (names.split_last(), self.range) {
            (Some((last, [])), _) => format!("\"{last}\""),
            (Some((last, others)), _) => format!("{} or \"{last}\"", super::types::quoted(others)),
            (None, Some(range)) => range.expected(&(self.type_name)()),
            (None, None) => (self.type_name)(),
        }
    }

    /// The sentences in one line.
    pub fn about_text(&self) -> String {
        self.about.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "option `{}`", self.name)
    }
}

/// A line of a table: an option, the options of another set, or a field that is no option.
pub enum Entry {
    Option(Declared),
    Set(fn() -> &'static Table),
    None,
}

/// The options of a set, in the order of their declarations.
pub struct Table {
    pub entries: &'static [Entry],
}

impl Table {
    /// All options, those of the sets inside included.
    pub fn options(&'static self) -> Vec<&'static Declared> {
        let options = self.entries.iter().flat_map(|entry| match entry {
            Entry::Option(option) => vec![option],
            Entry::Set(table) => table().options(),
            Entry::None => Vec::new(),
        });
        options.collect()
    }

    /// The option of this name, or with this alias.
    pub fn find(&'static self, name: &str) -> Option<&'static Declared> {
        self.options().into_iter().find(|option| option.is_called(name))
    }
}

/// A source of options: a call in a script, a model's file.
pub trait Source {
    /// The value under the option's name or one of its aliases.
    ///
    /// # Errors
    /// Two of its names at once.
    fn take(&mut self, option: &Declared) -> Result<Option<Value>>;

    /// The error for a value that cannot be used.
    fn refuse(&self, refusal: Refusal) -> Error;
}

/// Why the value of an option cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub option: String,
    pub expected: String,
    pub found: String,
    pub hint: Option<String>,
}

impl Refusal {
    pub fn new(option: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Refusal { option: option.into(), expected: expected.into(), found: found.into(), hint: None }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Refusal { hint: Some(hint.into()), ..self }
    }

    /// The one form of such an error: ``train: option `batch`: expected int of at least 1, found 0``.
    pub fn error(self, call: &str) -> Error {
        let Refusal { option, expected, found, hint } = self;
        let error = Error::input(format!("{call}: option `{option}`: expected {expected}, found {found}"));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Values that are declared by [`options!`](crate::options!), or made from such values.
pub trait OptionSet: Sized {
    fn table() -> &'static Table;

    /// Overwrites the values of options that `source` has. Returns the names of these options.
    ///
    /// # Errors
    /// A value of another type.
    fn update(&mut self, source: &mut dyn Source) -> Result<Vec<&'static str>>;

    /// The options with their values, in the order of the table.
    fn values(&self) -> Vec<(&'static str, Value)>;

    /// Derives values from others, after all were read.
    fn resolve(&mut self) {}

    /// The first value outside of its range, or against a rule.
    fn problem(&self) -> Option<Refusal> {
        None
    }

    /// The options that `source` gives, over the defaults.
    ///
    /// # Errors
    /// A value of another type or outside of its range, or a required option that is absent.
    fn read(source: &mut dyn Source) -> Result<Self>
    where
        Self: Default,
    {
        Self::default().read_over(source)
    }

    /// The options that `source` gives, over the values that are there.
    ///
    /// # Errors
    /// As [`read`](OptionSet::read).
    fn read_over(mut self, source: &mut dyn Source) -> Result<Self> {
        let names = self.update(source)?;
        let missing =
            Self::table().options().into_iter().find(|option| option.is_required && !names.contains(&option.name));
        if let Some(option) = missing {
            let refusal = Refusal::new(option.name, option.type_text(), "nothing");
            return Err(source.refuse(Refusal { hint: option.hint.map(str::to_owned), ..refusal }));
        }
        self.resolve();
        match self.problem() {
            Some(refusal) => Err(source.refuse(refusal)),
            None => Ok(self),
        }
    }

    /// Checks values that were not read from a source.
    ///
    /// # Errors
    /// The first value outside of its range, or against a rule; `call` is what the error names.
    fn ensure_valid(&self, call: &str) -> Result<()> {
        match self.problem() {
            Some(refusal) => Err(refusal.error(call)),
            None => Ok(()),
        }
    }
}

/// Reads one option into its field, and adds its name to `names` if the source has it.
pub fn update_option<T: super::OptionType>(
    table: &'static Table,
    name: &str,
    field: &mut T,
    source: &mut dyn Source,
    names: &mut Vec<&'static str>,
) -> Result<()> {
    let option = table.entries.iter().find_map(|entry| match entry {
        Entry::Option(option) if option.name == name => Some(option),
        _ => None,
    });
    let Some(option) = option else { return Err(Error::bug(format!("the option `{name}` is not declared"))) };
    let Some(value) = source.take(option)? else { return Ok(()) };
    *field = T::from_value(&value).map_err(|Mismatch { expected, hint, inside }| {
        // The error for a value that is not a number states the range too.
        let is_number = ["int", "float", "number"].contains(&T::type_name().as_str());
        let range = option.range.filter(|_| is_number && inside.is_none());
        let expected = range.map_or(expected, |range| range.expected(&T::type_name()));
        let (name, found) = match inside {
            Some((key, found)) => (format!("{}.{key}", option.name), found),
            None => (option.name.to_owned(), value.describe()),
        };
        source.refuse(Refusal { option: name, expected, found, hint })
    })?;
    names.push(option.name);
    Ok(())
}

/// The refusal of a number outside of the option's range.
pub fn range_problem(
    option: &str,
    range: NumberRange,
    type_name: &str,
    hint: Option<&str>,
    value: &Value,
) -> Option<Refusal> {
    let outside = range.outside(value)?;
    // The number alone: a script may have written an int for a float.
    let number = outside.literal();
    let refusal = Refusal::new(option, range.expected(type_name), number.strip_suffix(".0").unwrap_or(&number));
    Some(Refusal { hint: hint.map(str::to_owned), ..refusal })
}
