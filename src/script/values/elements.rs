//! Functions of the script called with the elements of an array: `filter`, `some`, `for_each` and their like.

use crate::error::Error;
use crate::heap::Held;
use crate::script::engine::budget;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use rhai::{Array, Dynamic, EvalAltResult, FnPtr, NativeCallContext};

/// A function of the script, for the elements of an array.
pub struct ElementFunction<'a> {
    pub context: &'a NativeCallContext<'a>,
    /// What errors name.
    pub name: &'a str,
    pub function: FnPtr,
}

impl ElementFunction<'_> {
    /// Calls it with the element as `this`, or with the element, or with element and index: as it takes them.
    pub fn run(&self, index: usize, value: &mut Dynamic) -> RhaiResultOf<()> {
        let (function, copy) = (&self.function, value.clone());
        let mut result = call(self.context, function, Some(value), []);
        if result.as_ref().is_err_and(|error| is_missing(error, function)) {
            result = call(self.context, function, None, [copy.clone()]);
        }
        if result.as_ref().is_err_and(|error| is_missing(error, function)) {
            result = call(self.context, function, None, [copy, (index as i64).into()]);
        }
        result.map(drop)
    }

    /// Whether it is true of the element; it takes the element, or element and index.
    pub fn is_true_of(&self, index: usize, value: &mut Dynamic) -> RhaiResultOf<bool> {
        let extra = [(index as i64).into()];
        let function = &self.function;
        let answer = budget::closure(
            || function.call_raw_with_extra_args(self.name, self.context, Some(value), [], extra, Some(0)),
            |_| Held::default(),
        )?;
        let answer = answer.flatten();
        let refusal = || {
            let error =
                Error::input(format!("{}: the function must return bool, found {}", self.name, describe(&answer)));
            error.with_hint("write the comparison out, as in |x| x > 0")
        };
        Ok(answer.as_bool().map_err(|_| refusal())?)
    }

    /// The index of the first element of which it is `answer`.
    pub fn position(&self, values: &mut Array, answer: bool) -> RhaiResultOf<Option<usize>> {
        for (index, value) in values.iter_mut().enumerate() {
            if self.is_true_of(index, value)? == answer {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The elements of which it is true, and the others.
    pub fn partition(&self, values: &mut Array) -> RhaiResultOf<(Array, Array)> {
        let answers = values.iter_mut().enumerate().map(|(index, value)| self.is_true_of(index, value));
        let answers = answers.collect::<RhaiResultOf<Vec<bool>>>()?;
        let (mut chosen, mut others) = (Array::new(), Array::new());
        for (value, is_true) in values.iter().zip(answers) {
            if is_true { &mut chosen } else { &mut others }.push(value.clone());
        }
        Ok((chosen, others))
    }
}

/// Calls a function of the script. What it returns is the script's.
pub fn call<const N: usize>(
    context: &NativeCallContext,
    function: &FnPtr,
    this: Option<&mut Dynamic>,
    arguments: [Dynamic; N],
) -> RhaiResultOf<Dynamic> {
    budget::closure(|| function.call_raw(context, this, arguments), |_| Held::default())
}

/// Is the error that the function takes another number of arguments?
pub fn is_missing(error: &EvalAltResult, function: &FnPtr) -> bool {
    matches!(error, EvalAltResult::ErrorFunctionNotFound(call, _) if call.split(" (").next() == Some(function.fn_name()))
}
