//! The one reader of option maps: `#{ rank: 8, dropout: 0.05 }`.
//!
//! Every option is taken by name and typed; [`Options::finish`] refuses what is left over.
//! Ranges and sense are checked by the library functions that get the values.

use crate::error::{Error, Result};
use crate::options::{self, Declared, Mismatch, OptionSet, OptionType, Refusal, Source, Table};
use crate::script::language::python;
use crate::script::values::from_script::to_value;
use crate::suggest;
use rhai::{Dynamic, Map};

/// A function, as `Function::path` writes it (`train`, `dataset.split`), and the options that it takes.
pub type OptionsOfFunction = (&'static str, fn() -> &'static Table);

/// The options of one call. Take each, then [`finish`](Options::finish).
#[must_use = "call finish() so that misspelt options are refused"]
#[derive(Debug)]
pub struct Options {
    function: String,
    /// `"train."` while reading the map that is the option `train`.
    prefix: String,
    values: Map,
    known: Vec<String>,
    /// Other names for some of them, which no list needs.
    others: Vec<String>,
}

impl Options {
    /// The options of a call to `function`, which errors name.
    pub fn new(function: &str, values: Map) -> Self {
        Options { function: function.to_string(), prefix: String::new(), values, known: Vec::new(), others: Vec::new() }
    }

    /// All options of one call, as declared by [`options!`](crate::options!).
    ///
    /// # Errors
    /// A value of another type or outside of its range, a required option that is absent, or an unknown one.
    pub fn read<T: OptionSet + Default>(function: &str, values: Map) -> Result<T> {
        Self::read_over(T::default(), function, values)
    }

    /// As [`read`](Options::read), over defaults that depend on the call's other arguments.
    pub fn read_over<T: OptionSet>(default: T, function: &str, values: Map) -> Result<T> {
        let mut options = Options::new(function, values);
        let read = default.read_over(&mut options)?;
        options.finish()?;
        Ok(read)
    }

    /// As [`read`](Options::read), of a map that is the option `name` of the call.
    pub fn read_inner<T: OptionSet + Default>(function: &str, name: &str, values: Map) -> Result<T> {
        let mut options = Options { prefix: format!("{name}."), ..Options::new(function, values) };
        let read = T::read(&mut options)?;
        options.finish()?;
        Ok(read)
    }

    /// The option, or `default` where it is absent or `()`.
    pub fn take<T: OptionType>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.take_opt(name)?.unwrap_or(default))
    }

    /// The option; its absence is an error.
    pub fn take_required<T: OptionType>(&mut self, name: &str) -> Result<T> {
        match self.take_opt(name)? {
            Some(value) => Ok(value),
            None => Err(Error::input(format!(
                "{}: option `{}{name}` is missing: expected {}",
                self.function,
                self.prefix,
                T::expected()
            ))),
        }
    }

    /// The option, or `None` where it is absent or `()`.
    pub fn take_opt<T: OptionType>(&mut self, name: &str) -> Result<Option<T>> {
        match self.take_any(name) {
            Some(value) => self.typed(name, &value).map(Some),
            None => Ok(None),
        }
    }

    /// The option as the script wrote it, for options of several types.
    pub fn take_any(&mut self, name: &str) -> Option<Dynamic> {
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_string());
        }
        self.value(name)
    }

    /// As [`take_any`](Options::take_any), by its name or one of its other names; two of them are an error.
    pub fn take_any_of(&mut self, name: &str, others: &[&str]) -> Result<Option<Dynamic>> {
        let mut found = self.take_any(name);
        for other in others {
            self.others.push(other.to_string());
            let second = self.value(other);
            if found.is_some() && second.is_some() {
                let expected = format!("it or `{other}`, which are the same");
                return Err(self.wrong(name, &expected, "both").with_hint("leave one of them out"));
            }
            found = found.or(second);
        }
        Ok(found)
    }

    /// As [`take`](Options::take), for an option that has another name.
    pub fn take_either<T: OptionType>(&mut self, name: &str, other: &str, default: T) -> Result<T> {
        match self.take_any_of(name, &[other])? {
            Some(value) => self.typed(name, &value),
            None => Ok(default),
        }
    }

    fn value(&mut self, name: &str) -> Option<Dynamic> {
        self.values.remove(name).filter(|value| !value.is_unit()).map(Dynamic::flatten)
    }

    /// One of several named values: `take_choice("dtype", &[("f32", F32), ("bf16", BF16)], F32)`.
    pub fn take_choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)], default: T) -> Result<T> {
        let Some(given) = self.take_opt::<String>(name)? else {
            return Ok(default);
        };
        match choices.iter().find(|(known, _)| *known == given) {
            Some((_, value)) => Ok(*value),
            None => {
                let names: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
                Err(self
                    .wrong(name, &format!("one of {}", quoted(&names)), &format!("\"{given}\""))
                    .with_hint(suggest::hint(&given, names)))
            }
        }
    }

    /// The options inside the option `name`; none where it is absent.
    pub fn take_nested(&mut self, name: &str) -> Result<Options> {
        let values = self.take(name, Map::new())?;
        let prefix = format!("{}{name}.", self.prefix);
        Ok(Options { function: self.function.clone(), prefix, values, known: Vec::new(), others: Vec::new() })
    }

    /// Is the option given and not `()`? Does not take it.
    pub fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_unit())
    }

    /// What is wrong with an option of a type that only the caller can judge.
    pub fn wrong(&self, name: &str, expected: &str, found: &str) -> Error {
        let Options { function, prefix, .. } = self;
        Error::input(format!("{function}: option `{prefix}{name}`: expected {expected}, found {found}"))
    }

    /// As [`wrong`](Options::wrong), with how the value is to be written if that is known.
    pub fn mistyped(&self, name: &str, expected: &str, value: &Dynamic) -> Error {
        let value = to_value(value);
        let error = self.wrong(name, expected, &value.describe());
        match Mismatch::expected(expected, &value).hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// Refuses options that nothing took.
    pub fn finish(self) -> Result<()> {
        let Some(name) = self.values.keys().next() else {
            return Ok(());
        };
        let message = format!("{}: unknown option `{}{name}`", self.function, self.prefix);
        let error = Error::input(message);
        let known = self.known.iter().map(String::as_str);
        Err(error.with_hint(match python::option(self.innermost(), name) {
            None if self.known.is_empty() => "no options are known here".to_string(),
            _ => python::unknown_option(self.innermost(), name, known, self.others.iter().map(String::as_str)),
        }))
    }

    /// `train` for the options of a run, of a sweep's too.
    fn innermost(&self) -> &str {
        let function = self.function.rsplit(' ').next().unwrap_or_default();
        self.prefix.trim_end_matches('.').rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or(function)
    }

    fn typed<T: OptionType>(&self, name: &str, value: &Dynamic) -> Result<T> {
        T::from_value(&to_value(value)).map_err(|mismatch| self.mistyped(name, &mismatch.expected, value))
    }
}

impl Source for Options {
    fn take(&mut self, option: &Declared) -> Result<Option<options::Value>> {
        Ok(self.take_any_of(option.name, option.aliases)?.map(|value| to_value(&value)))
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        let option = format!("{}{}", self.prefix, refusal.option);
        Refusal { option, ..refusal }.error(&self.function)
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, Dynamic)]) -> Options {
        Options::new("sweep", pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    #[test]
    fn typed_values_and_defaults() {
        let mut given = options(&[("rank", 4_i64.into()), ("lr", 1_i64.into()), ("seed", Dynamic::UNIT)]);
        assert_eq!(given.take("rank", 8_usize).unwrap(), 4);
        assert_eq!(given.take("lr", 0.5).unwrap(), 1.0);
        assert_eq!(given.take("seed", 7_i64).unwrap(), 7, "() means: not given");
        assert_eq!(given.take_opt::<String>("out").unwrap(), None);
        given.finish().unwrap();
    }

    #[test]
    fn a_wrong_type_says_expected_and_found() {
        let error = options(&[("rank", "x".into())]).take("rank", 8_i64).unwrap_err();
        assert_eq!(error.message, "sweep: option `rank`: expected int, found string \"x\"");
        let error = options(&[("rank", (-1_i64).into())]).take("rank", 8_usize).unwrap_err();
        assert_eq!(error.message, "sweep: option `rank`: expected int of at least 0, found int -1");
        let error = options(&[]).take_required::<String>("out").unwrap_err();
        assert_eq!(error.message, "sweep: option `out` is missing: expected string");
    }

    #[test]
    fn leftovers_are_refused_with_the_nearest_name() {
        let mut given = options(&[("rnak", 4_i64.into())]);
        given.take("rank", 8_i64).unwrap();
        given.take("alpha", 16.0).unwrap();
        let error = given.finish().unwrap_err();
        assert_eq!(error.message, "sweep: unknown option `rnak`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `rank`? (known: rank, alpha)"));
    }

    #[test]
    fn nested_options_are_named_by_their_path() {
        let inner: Map = [("stpes".into(), Dynamic::from(3_i64))].into();
        let mut given = options(&[("train", inner.into())]);
        let mut train = given.take_nested("train").unwrap();
        train.take("steps", 1_i64).unwrap();
        assert_eq!(train.finish().unwrap_err().message, "sweep: unknown option `train.stpes`");
        given.finish().unwrap();
    }

    #[test]
    fn choices_name_the_alternatives() {
        let choices = [("linear", 1), ("cosine", 2)];
        let mut given = options(&[("schedule", "cosin".into())]);
        let error = given.take_choice("schedule", &choices, 1).unwrap_err();
        assert_eq!(error.message, "sweep: option `schedule`: expected one of \"linear\", \"cosine\", found \"cosin\"");
        assert!(error.hint.unwrap().starts_with("did you mean `cosine`?"));
    }
}
