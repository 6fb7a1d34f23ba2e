//! The order of script values: their extremes, and sorting by value, by key or by a function of two.
//!
//! Sorting is written here: the standard library's takes no comparison that can fail, and panics where a comparison
//! contradicts itself.

use crate::error::{Error, Kind};
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::elements::{call, is_missing};
use crate::script::values::from_script::describe;
use crate::script::values::tensor::number;
use rhai::{Array, Dynamic, FnPtr, NativeCallContext};
use std::cmp::Ordering;

/// The sum: an int where all are ints.
pub fn sum(values: &Array) -> RhaiResultOf<Dynamic> {
    if let Some(ints) = values.iter().map(|value| value.as_int().ok()).collect::<Option<Vec<i64>>>() {
        let total = ints.iter().try_fold(0_i64, |total, int| total.checked_add(*int));
        let too_large = || Error::input("sum: the sum of these ints is beyond 64 bits");
        return Ok(total.ok_or_else(too_large)?.into());
    }
    Ok(numbers("sum", values, 0)?.iter().sum::<f64>().into())
}

pub fn numbers(function: &str, values: &Array, least: usize) -> RhaiResultOf<Vec<f64>> {
    let count = values.len();
    if count < least {
        return Err(Error::input(format!("{function}: expected at least {least} numbers, found {count}")).into());
    }
    let as_number = |value: &Dynamic| {
        let refusal = || Error::input(format!("{function}: expected numbers, found {}", describe(value)));
        Ok(number(value)?.ok_or_else(refusal)?)
    };
    values.iter().map(as_number).collect()
}

/// The first of the extreme elements, with its index.
pub fn extreme(function: &str, values: &Array, side: Ordering) -> RhaiResultOf<(i64, Dynamic)> {
    let numbers = numbers(function, values, 1)?;
    if let Some(index) = numbers.iter().position(|number| number.is_nan()) {
        return Err(Error::new(Kind::Numeric, format!("{function}: the element {index} is NaN"))
            .with_hint("leave such elements out: list.filter(|x| !x.is_nan)")
            .into());
    }
    let mut best = 0;
    for index in 1..numbers.len() {
        if compare(&values[index], numbers[index], &values[best], numbers[best]) == side {
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
pub fn natural(function: &str, a: &Dynamic, b: &Dynamic) -> RhaiResultOf<Ordering> {
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

pub fn sorted_by(context: &NativeCallContext, name: &str, values: &Array, order: &FnPtr) -> RhaiResultOf<Array> {
    let [first, ..] = values.as_slice() else { return Ok(values.clone()) };
    match call(context, order, None, [first.clone(), first.clone()]) {
        Err(error) if is_missing(&error, order) => by_key(context, name, values, order),
        Err(error) => Err(error),
        Ok(_) => sorted(values.clone(), |a, b| by_comparer(context, name, order, a, b)),
    }
}

fn by_key(context: &NativeCallContext, name: &str, values: &Array, key: &FnPtr) -> RhaiResultOf<Array> {
    let keyed = values.iter().map(|value| {
        let key = call(context, key, None, [value.clone()])?.flatten();
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
    let ask = |a: &Dynamic, b: &Dynamic| call(context, order, None, [a.clone(), b.clone()]).map(Dynamic::flatten);
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
pub fn sorted(
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
