//! Script closures as Rust closures: `data.map(|row| …)`, `alpha: |p| 2 * p.rank`.
//!
//! The library takes closures that fail with [`Error`], which knows no place in a script.
//! A [`Callback`] keeps the script's own error aside, and puts the place back at the end.

use crate::error::{Error, Result};
use crate::heap::Held;
use crate::options::OptionType;
use crate::script::engine::budget;
use crate::script::engine::sizes::held_by;
use crate::script::language::explain::explain_alone;
use crate::script::language::messages::wrong_closure;
use crate::script::values::convert::{from_thrown, RhaiResultOf};
use crate::script::values::from_script::{describe, to_value};
use crate::{interrupt, suggest};
use rhai::{Dynamic, EvalAltResult, FnPtr, Map, NativeCallContext};
use std::cell::{OnceCell, RefCell};

/// A script function, callable as long as the native call that it was given to runs.
///
/// ```text
/// let callback = Callback::new(&context, function);
/// let mapped = dataset.map(|row| callback.call::<Map>([to_dynamic(row)]));
/// let mapped = callback.settle(mapped)?;
/// ```
pub struct Callback<'a> {
    context: &'a NativeCallContext<'a>,
    function: FnPtr,
    failure: RefCell<Option<Failed>>,
    /// The keys of the first map it was called with, to find misspelt ones.
    keys: OnceCell<Vec<String>>,
    /// What to say of a function that takes another number of values.
    arity_hint: Option<&'static str>,
}

struct Failed {
    cause: Box<EvalAltResult>,
    message: String,
}

impl<'a> Callback<'a> {
    pub fn new(context: &'a NativeCallContext<'a>, function: FnPtr) -> Self {
        Callback { context, function, failure: RefCell::new(None), keys: OnceCell::new(), arity_hint: None }
    }

    /// `hint` is for a function that takes another number of values.
    #[must_use]
    pub fn with_arity_hint(self, hint: &'static str) -> Self {
        Callback { arity_hint: Some(hint), ..self }
    }

    /// Calls the function. Polls the stop flag, so that a long loop over rows can be stopped.
    pub fn call<T: OptionType>(&self, arguments: impl IntoIterator<Item = Dynamic>) -> Result<T> {
        let value = self.value(arguments)?;
        T::from_value(&to_value(&value)).map_err(|mismatch| wrong_result(&mismatch.expected, &value))
    }

    /// As [`call`](Callback::call), for a function that returns a map: without copying what is in it.
    pub fn call_for_map(&self, arguments: impl IntoIterator<Item = Dynamic>) -> Result<Map> {
        let value = self.value(arguments)?;
        value.try_cast_result().map_err(|value| wrong_result(&Map::expected(), &value))
    }

    /// As [`call`](Callback::call), for a function that may return anything.
    pub fn call_for_any(&self, arguments: impl IntoIterator<Item = Dynamic>) -> Result<Dynamic> {
        self.value(arguments)
    }

    /// As [`call`](Callback::call), for a function that returns an object of scripts, which `expected` names.
    pub fn call_for_object<T: Clone + 'static>(
        &self,
        expected: &str,
        arguments: impl IntoIterator<Item = Dynamic>,
    ) -> Result<T> {
        let value = self.value(arguments)?;
        value.try_cast_result().map_err(|value| wrong_result(expected, &value))
    }

    fn value(&self, arguments: impl IntoIterator<Item = Dynamic>) -> Result<Dynamic> {
        interrupt::check()?;
        let mut arguments: Vec<Dynamic> = arguments.into_iter().collect();
        self.keys.get_or_init(|| keys(&arguments));
        let result = budget::closure(
            || self.function.call_raw(self.context, None, &mut arguments),
            |result| result.as_ref().map_or(Held::default(), held_by),
        );
        result.map(Dynamic::flatten).map_err(|cause| self.keep(cause))
    }

    /// The library's result, with the place in the script where the function failed.
    pub fn settle<T>(&self, result: Result<T>) -> RhaiResultOf<T> {
        Self::settle_any([self], result)
    }

    /// As [`settle`](Callback::settle), where one of several functions may have failed.
    pub fn settle_any<'c, T>(callbacks: impl IntoIterator<Item = &'c Self>, result: Result<T>) -> RhaiResultOf<T>
    where
        Self: 'c,
    {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let mut failures = callbacks.into_iter().filter_map(|callback| callback.failure.take());
        // The library may have added context ("row 12: …") or failed for another reason.
        match failures.find(|failed| error.message.ends_with(&failed.message)) {
            Some(failed) => Err(relabelled(*failed.cause, error)),
            None => Err(error.into()),
        }
    }

    /// The line of the script where the function failed last.
    pub fn failed_line(&self) -> Option<usize> {
        self.failure.borrow().as_ref().and_then(|failed| failed.cause.unwrap_inner().position().line())
    }

    fn keep(&self, cause: Box<EvalAltResult>) -> Error {
        let error = match cause.unwrap_inner() {
            EvalAltResult::ErrorRuntime(value, _) => from_thrown(value),
            EvalAltResult::ErrorPropertyNotFound(name, _) => self.unknown_property(name),
            EvalAltResult::ErrorFunctionNotFound(call, _)
                if call.split(" (").next() == Some(self.function.fn_name()) =>
            {
                let error = wrong_closure();
                match self.arity_hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            inner => explain_alone(inner),
        };
        self.failure.replace(Some(Failed { cause, message: error.message.clone() }));
        error
    }

    fn unknown_property(&self, name: &str) -> Error {
        let known = self.keys.get().map(Vec::as_slice).unwrap_or_default();
        let error = Error::input(format!("unknown property `{name}`"));
        if known.is_empty() {
            return error.with_hint("map.keys() lists the properties of a map");
        }
        // The keys are those of the first map: a later one may have fewer.
        if known.iter().any(|key| key == name) {
            return error.with_hint(format!(
                "some maps have `{name}` and this one has not: test it by \"{name}\" in map, or read it by map.get(\"{name}\")"
            ));
        }
        error.with_hint(suggest::hint(name, known.iter().map(String::as_str)))
    }
}

/// The error for a function that returns a value of another type than `expected`.
fn wrong_result(expected: &str, value: &Dynamic) -> Error {
    let error = Error::input(format!("the function must return {expected}, found {}", describe(value)));
    match expected {
        _ if value.is_unit() => error.with_hint("a function returns its last expression if no `;` follows it"),
        "bool" => error.with_hint("write the comparison out, as in |row| row.n > 0"),
        "map" => error.with_hint("return a map of columns, as in |row| #{ text: row.content }"),
        "array of string" => error.with_hint("return a list, as in |row| [row.first, row.second]"),
        _ => error,
    }
}

fn keys(arguments: &[Dynamic]) -> Vec<String> {
    let maps = arguments.iter().filter_map(|argument| argument.as_map_ref().ok());
    maps.flat_map(|map| map.keys().map(|key| key.to_string()).collect::<Vec<_>>()).collect()
}

/// The same chain of calls around another innermost error.
fn relabelled(cause: EvalAltResult, error: Error) -> Box<EvalAltResult> {
    use EvalAltResult::{ErrorInFunctionCall, ErrorInModule};
    match cause {
        ErrorInFunctionCall(name, source, inner, place) => {
            Box::new(ErrorInFunctionCall(name, source, relabelled(*inner, error), place))
        }
        ErrorInModule(path, inner, place) => Box::new(ErrorInModule(path, relabelled(*inner, error), place)),
        inner => {
            let place = inner.position();
            let mut inner: Box<EvalAltResult> = error.into();
            inner.set_position(place);
            inner
        }
    }
}
