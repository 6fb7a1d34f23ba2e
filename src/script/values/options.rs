//! The one reader of option maps: `#{ rank: 8, dropout: 0.05 }`.
//!
//! What options there are, their types and their ranges is declared by [`options!`](crate::options!); this reads the
//! values that a script gives, and refuses names that are not declared.

use crate::error::{Error, Result};
use crate::options::{self, Declared, OptionSet, Refusal, Source, Table};
use crate::script::language::python;
use crate::script::values::from_script::to_value;
use rhai::{Dynamic, Map};

/// A function, as `Function::path` writes it (`train`, `dataset.split`), and the options that it takes.
pub type OptionsOfFunction = (&'static str, fn() -> &'static Table);

/// The options of one call.
#[derive(Debug)]
pub struct Options {
    function: String,
    /// `"train."` while reading the map that is the option `train`.
    prefix: String,
    values: Map,
}

impl Options {
    /// All options of a call to `function`, as declared by [`options!`](crate::options!).
    ///
    /// # Errors
    /// A value of another type or outside of its range, a required option that is absent, or an unknown one.
    pub fn read<T: OptionSet + Default>(function: &str, values: Map) -> Result<T> {
        Self::read_over(T::default(), function, values)
    }

    /// As [`read`](Options::read), over defaults that depend on the call's other arguments.
    pub fn read_over<T: OptionSet>(default: T, function: &str, values: Map) -> Result<T> {
        Self::read_all(default, function, String::new(), values)
    }

    /// As [`read`](Options::read), of a map that is the option `name` of the call.
    pub fn read_inner<T: OptionSet + Default>(function: &str, name: &str, values: Map) -> Result<T> {
        Self::read_all(T::default(), function, format!("{name}."), values)
    }

    fn read_all<T: OptionSet>(default: T, function: &str, prefix: String, values: Map) -> Result<T> {
        let mut options = Options { function: function.to_owned(), prefix, values };
        let read = default.read_over(&mut options)?;
        match options.values.keys().next() {
            Some(name) => Err(options.unknown(name, T::table())),
            None => Ok(read),
        }
    }

    /// The error for an option that nothing took.
    fn unknown(&self, name: &str, table: &'static Table) -> Error {
        let Options { function, prefix, .. } = self;
        let innermost = self.prefix.trim_end_matches('.');
        let innermost = if innermost.is_empty() { function.as_str() } else { innermost };
        let options = table.options();
        let names = options.iter().map(|option| option.name);
        let aliases = options.iter().flat_map(|option| option.aliases.iter().copied());
        Error::input(format!("{function}: unknown option `{prefix}{name}`"))
            .with_hint(python::unknown_option(innermost, name, names, aliases))
    }

    fn value(&mut self, name: &str) -> Option<Dynamic> {
        self.values.remove(name).filter(|value| !value.is_unit()).map(Dynamic::flatten)
    }
}

impl Source for Options {
    fn take(&mut self, option: &Declared) -> Result<Option<options::Value>> {
        let mut value = self.value(option.name);
        for alias in option.aliases {
            let second = self.value(alias);
            if value.is_some() && second.is_some() {
                let refusal = Refusal::new(option.name, format!("it or `{alias}`, which are the same"), "both");
                return Err(self.refuse(refusal.with_hint("leave one of them out")));
            }
            value = value.or(second);
        }
        Ok(value.map(|value| to_value(&value)))
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        let option = format!("{}{}", self.prefix, refusal.option);
        Refusal { option, ..refusal }.error(&self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    options! {
        #[derive(Debug, Clone)]
        struct Example {
            /// A count.
            rank: usize = 8, alias ["lora_r"];
            /// A number.
            alpha: f64 = 16.0;
            /// A seed.
            seed: Option<i64> = None;
            /// A schedule.
            shape: crate::train::schedule::SchedulerType = crate::train::schedule::SchedulerType::Linear;
        }
    }

    options! {
        #[derive(Debug, Clone)]
        struct Required {
            /// A folder.
            out: String = String::new(), is required;
        }
    }

    fn map(pairs: &[(&str, Dynamic)]) -> Map {
        pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect()
    }

    fn read(pairs: &[(&str, Dynamic)]) -> Result<Example> {
        Options::read("sweep", map(pairs))
    }

    #[test]
    fn typed_values_and_defaults() {
        let example = read(&[("rank", 4_i64.into()), ("alpha", 1_i64.into()), ("seed", Dynamic::UNIT)]).unwrap();
        assert_eq!((example.rank, example.alpha), (4, 1.0));
        assert_eq!(example.seed, None, "() is as if it was left out");
        assert_eq!(read(&[("lora_r", 2_i64.into())]).unwrap().rank, 2);
    }

    #[test]
    fn a_wrong_type_says_expected_and_found() {
        let message = |value: Dynamic| read(&[("rank", value)]).unwrap_err().message;
        assert_eq!(message("x".into()), "sweep: option `rank`: expected int of at least 0, found string \"x\"");
        assert_eq!(message((-1_i64).into()), "sweep: option `rank`: expected int of at least 0, found int -1");
        let error = Options::read::<Required>("sweep", Map::new()).unwrap_err();
        assert_eq!(error.message, "sweep: option `out`: expected string, found nothing");
    }

    #[test]
    fn two_names_of_one_option_are_refused() {
        let error = read(&[("rank", 4_i64.into()), ("lora_r", 4_i64.into())]).unwrap_err();
        assert_eq!(error.message, "sweep: option `rank`: expected it or `lora_r`, which are the same, found both");
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let error = read(&[("rnak", 4_i64.into())]).unwrap_err();
        assert_eq!(error.message, "sweep: unknown option `rnak`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `rank`? (known: rank, alpha, seed, shape)"));
        let inner = Options::read_inner::<Example>("sweep", "train", map(&[("rnak", 4_i64.into())]));
        assert_eq!(inner.unwrap_err().message, "sweep: unknown option `train.rnak`");
    }

    #[test]
    fn choices_name_the_alternatives() {
        let error = read(&[("shape", "cosin".into())]).unwrap_err();
        let expected = "sweep: option `shape`: expected one of \"linear\", \"cosine\", \"constant\"";
        assert!(
            error.message.starts_with(expected) && error.message.ends_with("found string \"cosin\""),
            "{}",
            error.message
        );
        assert!(error.hint.unwrap().starts_with("did you mean `cosine`?"));
    }
}
