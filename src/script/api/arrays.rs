//! Arrays of the language where its own functions are traps: `sort` that ignores a comparer
//! which returns a float, `for_each` that hands over the index, `filter` that takes every value
//! but `true` for false. And what they lack: `sum`, `min`, `max`, `argmin`, `argmax`.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::elements::ElementFunction;
use crate::script::values::order::{extreme, natural, sorted, sorted_by, sum as total};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr};
use std::cmp::Ordering;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The sum of an array of numbers: an int where all are ints.
    ///
    /// ```rhai
    /// print([1, 2, 4.5].sum());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sum(values: &mut Array) -> RhaiResultOf<Dynamic> {
        total(values)
    }

    /// The least number of an array.
    ///
    /// ```rhai
    /// print([3, 1.5, 2].min());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn min(values: &mut Array) -> RhaiResultOf<Dynamic> {
        extreme("min", values, Ordering::Less).map(|(_, value)| value)
    }

    /// The greatest number of an array.
    ///
    /// ```rhai
    /// print([3, 1.5, 2].max());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn max(values: &mut Array) -> RhaiResultOf<Dynamic> {
        extreme("max", values, Ordering::Greater).map(|(_, value)| value)
    }

    /// The index of the least number of an array, the first of several.
    ///
    /// ```rhai
    /// let losses = [2.5, 2.1, 2.3];
    /// print(losses.argmin());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn argmin(values: &mut Array) -> RhaiResultOf<i64> {
        extreme("argmin", values, Ordering::Less).map(|(index, _)| index)
    }

    /// The index of the greatest number of an array, the first of several.
    ///
    /// ```rhai
    /// let scores = [0.4, 0.7, 0.6];
    /// print(scores.argmax());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn argmax(values: &mut Array) -> RhaiResultOf<i64> {
        extreme("argmax", values, Ordering::Greater).map(|(index, _)| index)
    }

    /// Sorts an array of numbers, or of texts, in its place.
    ///
    /// ```rhai
    /// let ranks = [8, 2, 4.0];
    /// ranks.sort();
    /// print(ranks);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn sort(values: &mut Array) -> RhaiResultOf<()> {
        *values = sorted(values.clone(), |a, b| natural("sort", a, b))?;
        Ok(())
    }

    /// Sorts in its place by a function of two elements, or by a key: a function of one.
    ///
    /// Of two elements the function returns a number, which is below 0 where the first comes first,
    /// or a bool, which is true where it does.
    ///
    /// ```rhai
    /// let trials = [#{ loss: 2.5 }, #{ loss: 2.1 }];
    /// trials.sort(|a, b| a.loss - b.loss);
    /// trials.sort(|trial| trial.loss);
    /// print(trials[0].loss);
    /// ```
    #[rhai_fn(name = "sort", global, return_raw)]
    pub fn sort_with(context: NativeCallContext, values: &mut Array, order: FnPtr) -> RhaiResultOf<()> {
        *values = sorted_by(&context, "sort", values, &order)?;
        Ok(())
    }

    /// As `sort` with a function.
    ///
    /// ```rhai
    /// let ranks = [8, 2, 4];
    /// ranks.sort_by(|a, b| b - a);
    /// print(ranks);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn sort_by(context: NativeCallContext, values: &mut Array, order: FnPtr) -> RhaiResultOf<()> {
        *values = sorted_by(&context, "sort_by", values, &order)?;
        Ok(())
    }

    /// Sorts an array of numbers, or of texts, in its place, the greatest first.
    ///
    /// ```rhai
    /// let ranks = [8, 2, 4];
    /// ranks.sort_desc();
    /// print(ranks);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn sort_desc(values: &mut Array) -> RhaiResultOf<()> {
        *values = sorted(values.clone(), |a, b| natural("sort_desc", b, a))?;
        Ok(())
    }

    /// A sorted copy of an array of numbers, or of texts.
    ///
    /// ```rhai
    /// print([8, 2, 4].order());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn order(values: &mut Array) -> RhaiResultOf<Array> {
        sorted(values.clone(), |a, b| natural("order", a, b))
    }

    /// A sorted copy, by a function as `sort` takes it.
    ///
    /// ```rhai
    /// print([#{ loss: 2.5 }, #{ loss: 2.1 }].order(|trial| trial.loss)[0].loss);
    /// ```
    #[rhai_fn(name = "order", global, pure, return_raw)]
    pub fn order_with(context: NativeCallContext, values: &mut Array, order: FnPtr) -> RhaiResultOf<Array> {
        sorted_by(&context, "order", values, &order)
    }

    /// A sorted copy, by a function as `sort` takes it.
    ///
    /// ```rhai
    /// print([8, 2, 4].order_by(|a, b| b - a));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn order_by(context: NativeCallContext, values: &mut Array, order: FnPtr) -> RhaiResultOf<Array> {
        sorted_by(&context, "order_by", values, &order)
    }

    /// A sorted copy of an array of numbers, or of texts, the greatest first.
    ///
    /// ```rhai
    /// print([8, 2, 4].order_desc());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn order_desc(values: &mut Array) -> RhaiResultOf<Array> {
        sorted(values.clone(), |a, b| natural("order_desc", b, a))
    }

    /// Calls a function with each element, or with element and index; without arguments it has the element as `this`.
    ///
    /// ```rhai
    /// let total = 0;
    /// [1, 2].for_each(|x| total += x);
    /// let list = [1, 2];
    /// list.for_each(|| this *= 10);
    /// print(`${total} ${list}`);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn for_each(context: NativeCallContext, values: &mut Array, work: FnPtr) -> RhaiResultOf<()> {
        let function = ElementFunction { context: &context, name: "for_each", function: work };
        values.iter_mut().enumerate().try_for_each(|(index, value)| function.run(index, value))
    }

    /// The elements for which a function of element, or of element and index, is true.
    ///
    /// ```rhai
    /// print([1, 2, 3].filter(|x| x > 1));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn filter(context: NativeCallContext, values: &mut Array, keep: FnPtr) -> RhaiResultOf<Array> {
        let function = ElementFunction { context: &context, name: "filter", function: keep };
        Ok(function.partition(values)?.0)
    }

    /// True where a function of element, or of element and index, is true for any element.
    ///
    /// ```rhai
    /// print([1, 2, 3].some(|x| x > 2));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn some(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<bool> {
        let function = ElementFunction { context: &context, name: "some", function: is_one };
        Ok(function.position(values, true)?.is_some())
    }

    /// True where a function of element, or of element and index, is true for every element.
    ///
    /// ```rhai
    /// print([1, 2, 3].all(|x| x > 0));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn all(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<bool> {
        let function = ElementFunction { context: &context, name: "all", function: is_one };
        Ok(function.position(values, false)?.is_none())
    }

    /// The first element for which a function of element, or of element and index, is true; else `()`.
    ///
    /// ```rhai
    /// print([1, 2, 3].find(|x| x > 1));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn find(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<Dynamic> {
        let function = ElementFunction { context: &context, name: "find", function: is_one };
        let position = function.position(values, true)?;
        Ok(position.and_then(|index| values.get(index).cloned()).unwrap_or_default())
    }

    /// Takes out, and returns, the elements for which a function is not true.
    ///
    /// ```rhai
    /// let list = [1, 2, 3];
    /// print(list.retain(|x| x > 1));
    /// print(list);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn retain(context: NativeCallContext, values: &mut Array, keep: FnPtr) -> RhaiResultOf<Array> {
        let function = ElementFunction { context: &context, name: "retain", function: keep };
        let (chosen, others) = function.partition(values)?;
        *values = chosen;
        Ok(others)
    }

    /// Takes out, and returns, the elements for which a function is true.
    ///
    /// ```rhai
    /// let list = [1, 2, 3];
    /// print(list.drain(|x| x > 1));
    /// print(list);
    /// ```
    #[rhai_fn(global, return_raw)]
    pub fn drain(context: NativeCallContext, values: &mut Array, is_out: FnPtr) -> RhaiResultOf<Array> {
        let function = ElementFunction { context: &context, name: "drain", function: is_out };
        let (chosen, others) = function.partition(values)?;
        *values = others;
        Ok(chosen)
    }
}
