//! Arrays of the language where its own functions are traps: `sort` that ignores a comparer
//! which returns a float, `for_each` that hands over the index, `filter` that takes every value
//! but `true` for false. And what they lack: `sum`, `min`, `max`, `argmin`, `argmax`.
//!
//! Sorting is written here: the standard library's takes no comparison that can fail, and
//! panics where a comparison contradicts itself.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::handles::Handle;
use crate::{Error, Kind};
use rhai::plugin::*;
use rhai::{Array, Dynamic, EvalAltResult, FnPtr};
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
        if let Some(ints) = values.iter().map(|value| value.as_int().ok()).collect::<Option<Vec<i64>>>() {
            let total = ints.iter().try_fold(0_i64, |total, int| total.checked_add(*int));
            let too_large = || Error::input("sum: the sum of these ints is beyond 64 bits");
            return Ok(total.ok_or_else(too_large)?.into());
        }
        Ok(numbers("sum", values, 0)?.iter().sum::<f64>().into())
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
        for (index, value) in values.iter_mut().enumerate() {
            let copy = value.clone();
            let outcome = match work.call_raw(&context, Some(value), []) {
                Err(error) if is_missing(&error, &work) => match work.call_raw(&context, None, [copy.clone()]) {
                    Err(error) if is_missing(&error, &work) => {
                        work.call_raw(&context, None, [copy, (index as i64).into()])
                    }
                    outcome => outcome,
                },
                outcome => outcome,
            };
            drop(outcome?);
        }
        Ok(())
    }

    /// The elements for which a function of element, or of element and index, is true.
    ///
    /// ```rhai
    /// print([1, 2, 3].filter(|x| x > 1));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn filter(context: NativeCallContext, values: &mut Array, keep: FnPtr) -> RhaiResultOf<Array> {
        let mut kept = Array::new();
        for (index, value) in values.iter_mut().enumerate() {
            if judged(&context, "filter", &keep, value, index)? {
                kept.push(value.clone());
            }
        }
        Ok(kept)
    }

    /// True where a function of element, or of element and index, is true for any element.
    ///
    /// ```rhai
    /// print([1, 2, 3].some(|x| x > 2));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn some(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<bool> {
        for (index, value) in values.iter_mut().enumerate() {
            if judged(&context, "some", &is_one, value, index)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True where a function of element, or of element and index, is true for every element.
    ///
    /// ```rhai
    /// print([1, 2, 3].all(|x| x > 0));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn all(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<bool> {
        for (index, value) in values.iter_mut().enumerate() {
            if !judged(&context, "all", &is_one, value, index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first element for which a function of element, or of element and index, is true; else `()`.
    ///
    /// ```rhai
    /// print([1, 2, 3].find(|x| x > 1));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn find(context: NativeCallContext, values: &mut Array, is_one: FnPtr) -> RhaiResultOf<Dynamic> {
        for (index, value) in values.iter_mut().enumerate() {
            if judged(&context, "find", &is_one, value, index)? {
                return Ok(value.clone());
            }
        }
        Ok(Dynamic::UNIT)
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
        parted(&context, "retain", values, &keep, true)
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
        parted(&context, "drain", values, &is_out, false)
    }
}

/// Leaves those in `values` for which the function gives `stays`, and returns the others.
fn parted(
    context: &NativeCallContext,
    name: &str,
    values: &mut Array,
    function: &FnPtr,
    stays: bool,
) -> RhaiResultOf<Array> {
    let verdicts = values.iter_mut().enumerate().map(|(index, value)| judged(context, name, function, value, index));
    let verdicts = verdicts.collect::<RhaiResultOf<Vec<bool>>>()?;
    let (mut left, mut out) = (Array::new(), Array::new());
    for (value, verdict) in std::mem::take(values).into_iter().zip(verdicts) {
        if verdict == stays { &mut left } else { &mut out }.push(value);
    }
    *values = left;
    Ok(out)
}

/// Is the error that the closure takes another number of arguments?
fn is_missing(error: &EvalAltResult, function: &FnPtr) -> bool {
    matches!(error, EvalAltResult::ErrorFunctionNotFound(call, _) if call.split(" (").next() == Some(function.fn_name()))
}

fn judged(
    context: &NativeCallContext,
    name: &str,
    function: &FnPtr,
    value: &mut Dynamic,
    index: usize,
) -> RhaiResultOf<bool> {
    let extra = [(index as i64).into()];
    let answer = function.call_raw_with_extra_args(name, context, Some(value), [], extra, Some(0))?.flatten();
    let refusal = || {
        let error = Error::input(format!("{name}: the function must return bool, found {}", describe(&answer)));
        error.with_hint("write the comparison out, as in |x| x > 0")
    };
    Ok(answer.as_bool().map_err(|_| refusal())?)
}

/// A number, or the one number of a tensor.
pub(super) fn number(value: &Dynamic) -> RhaiResultOf<Option<f64>> {
    if let Some(tensor) = value.read_lock::<Handle<tch::Tensor>>() {
        return super::tensor::functions::item(&mut tensor.clone()).map(Some);
    }
    Ok(value.as_float().ok().or_else(|| value.as_int().ok().map(|int| int as f64)))
}

pub(super) fn numbers(function: &str, values: &Array, least: usize) -> RhaiResultOf<Vec<f64>> {
    if values.len() < least {
        let found = values.len();
        return Err(Error::input(format!("{function}: expected at least {least} numbers, found {found}")).into());
    }
    let number = |value: &Dynamic| {
        let refusal = || Error::input(format!("{function}: expected numbers, found {}", describe(value)));
        Ok(number(value)?.ok_or_else(refusal)?)
    };
    values.iter().map(number).collect()
}

/// The first of the extreme elements, with its index.
fn extreme(function: &str, values: &Array, side: Ordering) -> RhaiResultOf<(i64, Dynamic)> {
    let found = numbers(function, values, 1)?;
    if let Some(index) = found.iter().position(|number| number.is_nan()) {
        return Err(Error::new(Kind::Numeric, format!("{function}: the element {index} is NaN"))
            .with_hint("leave such elements out: list.filter(|x| !x.is_nan)")
            .into());
    }
    let mut best = 0;
    for index in 1..found.len() {
        if compare(&values[index], found[index], &values[best], found[best]) == side {
            best = index;
        }
    }
    Ok((best as i64, values[best].clone()))
}

/// Ints beyond 2^53 differ as ints where they are one float.
fn compare(a: &Dynamic, a_number: f64, b: &Dynamic, b_number: f64) -> Ordering {
    match (a.as_int(), b.as_int()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a_number.partial_cmp(&b_number).unwrap_or(Ordering::Equal),
    }
}

/// The order of two numbers, texts, characters or bools.
fn natural(function: &str, a: &Dynamic, b: &Dynamic) -> RhaiResultOf<Ordering> {
    if let (Some(x), Some(y)) = (number(a)?, number(b)?) {
        if x.is_nan() || y.is_nan() {
            return Err(Error::new(Kind::Numeric, format!("{function}: NaN has no place in an order"))
                .with_hint("leave such elements out: list.filter(|x| !x.is_nan)")
                .into());
        }
        return Ok(compare(a, x, b, y));
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Ok(a.cmp(&*b));
    }
    match (a.as_char(), b.as_char(), a.as_bool(), b.as_bool()) {
        (Ok(a), Ok(b), ..) => Ok(a.cmp(&b)),
        (_, _, Ok(a), Ok(b)) => Ok(a.cmp(&b)),
        _ if a.is_unit() && b.is_unit() => Ok(Ordering::Equal),
        _ => {
            let text = format!("{function}: expected numbers or texts, found {} and {}", describe(a), describe(b));
            Err(Error::input(text).with_hint("sort by a key: list.sort(|x| x.loss)").into())
        }
    }
}

fn sorted_by(context: &NativeCallContext, name: &str, values: &Array, order: &FnPtr) -> RhaiResultOf<Array> {
    let [first, ..] = values.as_slice() else { return Ok(values.clone()) };
    match order.call_raw(context, None, [first.clone(), first.clone()]) {
        Err(error) if is_missing(&error, order) => by_key(context, name, values, order),
        Err(error) => Err(error),
        Ok(_) => sorted(values.clone(), |a, b| by_comparer(context, name, order, a, b)),
    }
}

fn by_key(context: &NativeCallContext, name: &str, values: &Array, key: &FnPtr) -> RhaiResultOf<Array> {
    let keyed = values.iter().map(|value| {
        let key = key.call_raw(context, None, [value.clone()])?.flatten();
        Ok(Dynamic::from_array(vec![key, value.clone()]))
    });
    let part = |pair: &Dynamic, at: usize| {
        let pair = pair.as_array_ref().ok();
        pair.and_then(|pair| pair.get(at).cloned()).unwrap_or_default()
    };
    let keyed = keyed.collect::<RhaiResultOf<Array>>()?;
    let keyed = sorted(keyed, |a, b| natural(name, &part(a, 0), &part(b, 0)))?;
    Ok(keyed.iter().map(|pair| part(pair, 1)).collect())
}

fn by_comparer(
    context: &NativeCallContext,
    name: &str,
    order: &FnPtr,
    a: &Dynamic,
    b: &Dynamic,
) -> RhaiResultOf<Ordering> {
    let ask = |a: &Dynamic, b: &Dynamic| order.call_raw(context, None, [a.clone(), b.clone()]).map(Dynamic::flatten);
    let answer = ask(a, b)?;
    if let Ok(int) = answer.as_int() {
        return Ok(int.cmp(&0));
    }
    if let Ok(is_first) = answer.as_bool() {
        // Of two that are equal `<=` is true both ways, and `<` false.
        return Ok(match (is_first, ask(b, a)?.as_bool().unwrap_or(!is_first)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => Ordering::Equal,
        });
    }
    match number(&answer)?.and_then(|number| number.partial_cmp(&0.0)) {
        Some(order) => Ok(order),
        None => {
            let text = format!("{name}: the function must return a number or bool, found {}", describe(&answer));
            Err(Error::input(text).with_hint("as in list.sort(|a, b| a.loss - b.loss)").into())
        }
    }
}

/// Merge sort: stable, and whatever the comparison says, each element is there once.
fn sorted(
    mut values: Array,
    mut order: impl FnMut(&Dynamic, &Dynamic) -> RhaiResultOf<Ordering>,
) -> RhaiResultOf<Array> {
    let mut width = 1;
    while width < values.len() {
        let mut merged = Array::with_capacity(values.len());
        for run in values.chunks(2 * width) {
            let (left, right) = run.split_at(width.min(run.len()));
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let next = if order(a, b)? == Ordering::Greater { right.next() } else { left.next() };
                merged.extend(next.cloned());
            }
            merged.extend(left.chain(right).cloned());
        }
        values = merged;
        width *= 2;
    }
    Ok(values)
}
