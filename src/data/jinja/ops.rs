//! Truth, length, comparison, membership and iteration, by Python's protocols. Leaves to others: arithmetic
//! (`arithmetic.rs`), subscripts (`subscript.rs`).

use super::ast::Comparison;
use super::error::{fault, Cause, Failure, Result};
use super::fuel;
use super::value::{Object, Owner, Undefined, Value, View};
use std::cmp::Ordering;

/// The failure when an undefined value is used.
pub(super) fn undefined(undefined: &Undefined) -> Box<Failure> {
    let name = &undefined.name;
    match undefined.owner {
        Owner::Nobody => Failure::new(Cause::Template, format!("`{name}` is undefined")),
        Owner::Hint(hint) => Failure::new(Cause::Template, hint),
        Owner::Type(kind) => Failure::new(Cause::Runtime, format!("a {kind} has no attribute `{name}`")),
        Owner::Dict { data: false, .. } => Failure::new(Cause::Runtime, format!("a dict has no key `{name}`")),
        Owner::Dict { data: true, turn } => {
            let message = match turn {
                Some(turn) if name == "content" => format!("turn {turn} has no text (no `content`, or null)"),
                Some(turn) => format!("turn {turn} has no `{name}`"),
                None => format!("a mapping of the conversation has no `{name}`"),
            };
            let mut failure = Failure::new(Cause::Conversation, message);
            failure.turn = turn;
            failure
        }
    }
}

pub(super) fn fail_if_undefined(value: &Value) -> Result<()> {
    match value {
        Value::Undefined(info) => Err(undefined(info)),
        _ => Ok(()),
    }
}

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Undefined(_) | Value::None => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::List(items) | Value::Tuple(items) => !items.is_empty(),
        Value::Dict(dict) | Value::View(_, dict) => !dict.entries.is_empty(),
        Value::Range(range) => range.len() > 0,
        Value::Object(_) => true,
    }
}

/// `len(value)`.
pub(super) fn length(value: &Value) -> Result<usize> {
    Ok(match value {
        Value::Undefined(_) => 0,
        Value::Str(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) | Value::Tuple(items) => items.len(),
        Value::Dict(dict) | Value::View(_, dict) => dict.entries.len(),
        Value::Range(range) => range.len(),
        other => return fault(format!("object of type '{}' has no len()", other.type_name())),
    })
}

/// The items of an iterable that needs no interpreter.
pub(super) fn items(value: &Value) -> Result<Vec<Value>> {
    let items: Vec<Value> = match value {
        Value::Undefined(_) => Vec::new(),
        Value::Str(text) => text.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| Value::Int((*byte).into())).collect(),
        Value::List(items) | Value::Tuple(items) => items.to_vec(),
        Value::Dict(dict) => dict.view(View::Keys),
        Value::View(view, dict) => dict.view(*view),
        Value::Range(range) => {
            fuel::steps(range.len())?;
            (0..range.len()).map(|index| range.get(index)).collect()
        }
        other => return fault(format!("'{}' object is not iterable", other.type_name())),
    };
    fuel::steps(items.len())?;
    Ok(items)
}

fn int_with_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() || int.unsigned_abs() < 1 << 53 {
        return (int as f64).partial_cmp(&float);
    }
    if float.abs() >= 1.7e38 {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    Some(int.cmp(&(float.trunc() as i128)).then_with(|| float.trunc().total_cmp(&float)))
}

/// How two numbers compare; the inner `None` for NaN, the outer one if a value is not a number.
fn numbers(left: &Value, right: &Value) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Float(left), right) => int_with_float(right.as_int()?, *left).map(Ordering::reverse),
        (left, Value::Float(right)) => int_with_float(left.as_int()?, *right),
        (left, right) => Some(left.as_int()?.cmp(&right.as_int()?)),
    })
}

fn same_object(left: &Value, right: &Value) -> bool {
    use std::rc::Rc;
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (Value::Undefined(left), Value::Undefined(right)) => Rc::ptr_eq(left, right),
        (Value::Str(left), Value::Str(right)) => left.markup == right.markup && left.text == right.text,
        (Value::List(left), Value::List(right)) => Rc::ptr_eq(left, right),
        (Value::Tuple(left), Value::Tuple(right)) => Rc::ptr_eq(left, right) || left.is_empty() && right.is_empty(),
        (Value::Dict(left), Value::Dict(right)) => Rc::ptr_eq(left, right),
        (Value::Object(left), Value::Object(right)) => Rc::ptr_eq(left, right),
        _ => false,
    }
}

/// `is`. Python interns small integers and literal strings, so equal ones of a type are the same.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    same_object(left, right)
}

pub(super) fn equal(left: &Value, right: &Value) -> Result<bool> {
    fuel::descend()?;
    if let Some(order) = numbers(left, right) {
        return Ok(order == Some(Ordering::Equal));
    }
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(left), Value::Str(right)) => left.text == right.text,
        (Value::Bytes(left), Value::Bytes(right)) => left == right,
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            left.len() == right.len() && all_equal(left, right)?
        }
        (Value::Dict(left), Value::Dict(right)) => {
            if left.entries.len() != right.entries.len() {
                return Ok(false);
            }
            for (key, (_, value)) in &left.entries {
                let Some((_, other)) = right.entries.get(key) else { return Ok(false) };
                if !same_or_equal(value, other)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::View(View::Values, _), _) | (_, Value::View(View::Values, _)) => false,
        (Value::View(..), Value::View(..)) => {
            let (left, right) = (items(left)?, items(right)?);
            let mut equal = left.len() == right.len();
            for item in left {
                equal = equal && contains(&Value::list(right.clone()), &item)?;
            }
            equal
        }
        (Value::Range(left), Value::Range(right)) => {
            let len = left.len();
            len == right.len() && (len == 0 || left.start == right.start && (len == 1 || left.step == right.step))
        }
        _ => same_object(left, right),
    })
}

/// `is` or `==`, which Python uses to search containers.
fn same_or_equal(left: &Value, right: &Value) -> Result<bool> {
    Ok(same_object(left, right) || equal(left, right)?)
}

fn all_equal(left: &[Value], right: &[Value]) -> Result<bool> {
    for (left, right) in left.iter().zip(right) {
        if !same_or_equal(left, right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How two values compare; `None` for NaN.
pub(super) fn order(left: &Value, right: &Value, operator: &str) -> Result<Option<Ordering>> {
    fuel::descend()?;
    fail_if_undefined(left)?;
    fail_if_undefined(right)?;
    if let Some(order) = numbers(left, right) {
        return Ok(order);
    }
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => Ok(Some(left.text.cmp(&right.text))),
        (Value::Bytes(left), Value::Bytes(right)) => Ok(Some(left.cmp(right))),
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            for (left, right) in left.iter().zip(right.iter()) {
                if !same_or_equal(left, right)? {
                    return order(left, right, operator);
                }
            }
            Ok(Some(left.len().cmp(&right.len())))
        }
        _ => fault(format!(
            "'{operator}' not supported between instances of '{}' and '{}'",
            left.type_name(),
            right.type_name()
        )),
    }
}

pub(super) fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool> {
    let is = |operator: &str, accepts: fn(Ordering) -> bool| Ok(order(left, right, operator)?.is_some_and(accepts));
    match comparison {
        Comparison::Eq => equal(left, right),
        Comparison::Ne => Ok(!equal(left, right)?),
        Comparison::Lt => is("<", Ordering::is_lt),
        Comparison::Le => is("<=", Ordering::is_le),
        Comparison::Gt => is(">", Ordering::is_gt),
        Comparison::Ge => is(">=", Ordering::is_ge),
        Comparison::In => contains(right, left),
        Comparison::NotIn => Ok(!contains(right, left)?),
    }
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Str(text) => match item {
            Value::Str(part) => Ok(text.contains(&**part)),
            other => {
                fail_if_undefined(other)?;
                fault(format!("'in <string>' requires string as left operand, not {}", other.type_name()))
            }
        },
        Value::Dict(dict) | Value::View(View::Keys, dict) => Ok(dict.entries.contains_key(&item.key()?)),
        Value::Object(object) => match &**object {
            Object::Generator(generator) => loop {
                let next = generator.borrow_mut().ready.pop_front();
                let Some(next) = next else { return Ok(false) };
                if same_or_equal(&next, item)? {
                    return Ok(true);
                }
            },
            _ => fault(format!("argument of type '{}' is not iterable", container.type_name())),
        },
        other => {
            let items = items(other).map_err(|mut failure| {
                failure.message = format!("argument of type '{}' is not iterable", other.type_name());
                failure
            })?;
            for value in &items {
                if same_or_equal(value, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Sorts as Python's `sorted`: stable, and fails if two keys cannot be compared.
pub(super) fn sort_by_key<T>(items: &mut [T], key: impl Fn(&T) -> &Value) -> Result<()> {
    let mut failure = None;
    items.sort_by(|left, right| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        match order(key(left), key(right), "<") {
            Ok(order) => order.unwrap_or(Ordering::Equal),
            Err(error) => {
                failure = Some(error);
                Ordering::Equal
            }
        }
    });
    failure.map_or(Ok(()), Err)
}
