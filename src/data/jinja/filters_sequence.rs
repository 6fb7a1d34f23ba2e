//! The filters of sequences. Those that are generators in Python (`map`, `select`, `batch`, …) are evaluated when they are
//! first used, and can be used once.

use super::arguments::Call;
use super::arithmetic::binary;
use super::ast::Binary;
use super::attributes;
use super::error::{fault, Result};
use super::interpreter::Interpreter;
use super::ops;
use super::print;
use super::text;
use super::value::{Generator, Items, Key, Object, Pending, Text, Value, View};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

pub(super) fn call(interpreter: &mut Interpreter, name: &str, value: Value, arguments: Call) -> Result<Value> {
    match name {
        "list" => {
            let _ = arguments.positional::<0>(name, 0)?;
            Ok(Value::list(interpreter.iterate(&value)?))
        }
        "first" => {
            let _ = arguments.positional::<0>(name, 0)?;
            first(interpreter, &value)
        }
        "last" => {
            let _ = arguments.positional::<0>(name, 0)?;
            if matches!(value, Value::Object(_)) {
                return fault(format!("'{}' object is not reversible", value.type_name()));
            }
            let last = ops::items(&value)?.pop();
            Ok(last.unwrap_or_else(|| Value::hint("the sequence is empty: it has no last item")))
        }
        "reverse" => {
            let _ = arguments.positional::<0>(name, 0)?;
            if let Value::Str(text) = &value {
                return Ok(Value::text(text.chars().rev().collect::<String>(), text.markup));
            }
            let mut items = interpreter.iterate(&value)?;
            items.reverse();
            Ok(Value::generator("reversed", items))
        }
        "join" => join(interpreter, &value, arguments),
        "sum" => sum(interpreter, &value, arguments),
        "min" | "max" => extreme(interpreter, &value, name == "max", arguments),
        "sort" => sort(interpreter, &value, arguments),
        "dictsort" => dict_sort(&value, arguments),
        "groupby" => group_by(interpreter, &value, arguments),
        _ => defer(interpreter, name, value, arguments),
    }
}

/// A generator that evaluates the filter later.
fn defer(interpreter: &mut Interpreter, name: &str, value: Value, arguments: Call) -> Result<Value> {
    let names = ["map", "select", "reject", "selectattr", "rejectattr", "batch", "slice", "unique", "items"];
    let Some(filter) = names.into_iter().find(|filter| *filter == name) else {
        return fault(format!("no filter named `{name}`"));
    };
    // Generators of generators could nest without limit.
    let source = match &value {
        Value::Object(object) if matches!(**object, Object::Generator(_)) => Value::list(interpreter.iterate(&value)?),
        _ => value,
    };
    let pending = Pending { filter, source, positional: arguments.positional, named: arguments.named };
    let generator = Generator { name: "generator", pending: Some(pending), ready: VecDeque::new() };
    Ok(Value::object(Object::Generator(RefCell::new(generator))))
}

/// Evaluates a filter that [`defer`] deferred.
pub(super) fn run(interpreter: &mut Interpreter, mut pending: Pending) -> Result<Vec<Value>> {
    let source = std::mem::replace(&mut pending.source, Value::None);
    let items = match (pending.filter, &source) {
        ("items", Value::Dict(dict)) => dict.view(View::Items),
        ("items", Value::Undefined(_)) => Vec::new(),
        ("items", _) => return fault("Can only get item pairs from a mapping."),
        ("batch" | "slice" | "unique", _) => interpreter.iterate(&source)?,
        // Jinja2 yields nothing for any false value.
        _ if !ops::truth(&source) => return Ok(Vec::new()),
        _ => interpreter.iterate(&source)?,
    };
    let mut arguments =
        Call { positional: std::mem::take(&mut pending.positional), named: std::mem::take(&mut pending.named) };
    match pending.filter {
        "items" => Ok(items),
        "batch" => {
            let mut bound = arguments.bind("batch", ["linecount", "fill_with"], 1)?;
            let count = usize::try_from(bound.int(0, 1)?).unwrap_or(usize::MAX);
            let fill = bound.take(1).filter(|fill| !fill.is_none());
            batch(items, count, fill)
        }
        "slice" => {
            let mut bound = arguments.bind("slice", ["slices", "fill_with"], 1)?;
            let count = bound.int(0, 1)?;
            let fill = bound.take(1).filter(|fill| !fill.is_none());
            if count == 0 {
                return fault("slice: integer division or modulo by zero");
            }
            slices(&items, usize::try_from(count).unwrap_or(0), fill)
        }
        "unique" => {
            let bound = arguments.bind("unique", ["case_sensitive", "attribute"], 0)?;
            let getter = Getter::new(bound.some(1), bound.truth(0, false))?;
            let mut seen: HashSet<Key> = HashSet::new();
            let mut kept = Vec::new();
            for item in items {
                if seen.insert(getter.get(&item)?.key()?) {
                    kept.push(item);
                }
            }
            Ok(kept)
        }
        "map" => map(interpreter, items, arguments),
        filter => {
            let by_attribute = filter.ends_with("attr");
            let mut getter = Getter::default();
            if by_attribute {
                if arguments.positional.is_empty() {
                    return fault(format!("{filter}: the attribute's name is missing"));
                }
                getter = Getter::new(Some(&arguments.positional.remove(0)), true)?;
            }
            let test = if arguments.positional.is_empty() { None } else { Some(arguments.positional.remove(0)) };
            let mut kept = Vec::new();
            for item in items {
                let value = getter.get(&item)?;
                let holds = match &test {
                    None => ops::truth(&value),
                    Some(Value::Str(test)) => interpreter.is(test, &value, arguments.clone())?,
                    Some(_) => return fault(format!("{filter}: the test's name must be a string")),
                };
                if holds == filter.starts_with("select") {
                    kept.push(item);
                }
            }
            Ok(kept)
        }
    }
}

fn map(interpreter: &mut Interpreter, items: Vec<Value>, mut arguments: Call) -> Result<Vec<Value>> {
    let attribute = arguments.named.iter().position(|(name, _)| &**name == "attribute");
    if let (Some(attribute), true) = (attribute, arguments.positional.is_empty()) {
        let (_, attribute) = arguments.named.remove(attribute);
        let default = arguments.named.iter().position(|(name, _)| &**name == "default");
        let default = default.map(|at| arguments.named.remove(at).1);
        if let Some((name, _)) = arguments.named.first() {
            return fault(format!("map: unexpected argument `{name}`"));
        }
        let mut getter = Getter::new(Some(&attribute), true)?;
        getter.default = default.filter(|default| !default.is_none());
        return items.iter().map(|item| getter.get(item)).collect();
    }
    if arguments.positional.is_empty() {
        return fault("map: the filter's name is missing");
    }
    let Value::Str(filter) = arguments.positional.remove(0) else {
        return fault("map: the filter's name must be a string");
    };
    items.into_iter().map(|item| interpreter.filter(&filter, item, arguments.clone())).collect()
}

fn batch(items: Vec<Value>, count: usize, fill: Option<Value>) -> Result<Vec<Value>> {
    let mut batches = Vec::new();
    let mut batch: Vec<Value> = Vec::new();
    for item in items {
        if batch.len() == count {
            batches.push(Value::list(std::mem::take(&mut batch)));
        }
        batch.push(item);
    }
    if !batch.is_empty() {
        if let Some(fill) = fill {
            super::fuel::steps(count.saturating_sub(batch.len()))?;
            batch.resize(count.max(batch.len()), fill);
        }
        batches.push(Value::list(batch));
    }
    Ok(batches)
}

fn slices(items: &[Value], count: usize, fill: Option<Value>) -> Result<Vec<Value>> {
    super::fuel::steps(count)?;
    let mut rest = items;
    let mut slices = Vec::new();
    for index in 0..count {
        let longer = index < items.len() % count;
        let (head, tail) = rest.split_at((items.len() / count + usize::from(longer)).min(rest.len()));
        rest = tail;
        let mut slice = head.to_vec();
        if let Some(fill) = fill.as_ref().filter(|_| !longer) {
            slice.push(fill.clone());
        }
        slices.push(Value::list(slice));
    }
    Ok(slices)
}

/// Looks up an attribute such as `a.b.0` in each item.
#[derive(Default)]
struct Getter {
    parts: Vec<Value>,
    ignore_case: bool,
    default: Option<Value>,
}

impl Getter {
    fn new(attribute: Option<&Value>, case_sensitive: bool) -> Result<Self> {
        let parts = match attribute {
            None | Some(Value::None) => Vec::new(),
            Some(Value::Str(name)) => name.split('.').map(part).collect(),
            Some(other) => vec![other.clone()],
        };
        Ok(Getter { parts, ignore_case: !case_sensitive, default: None })
    }

    fn get(&self, item: &Value) -> Result<Value> {
        let mut value = item.clone();
        for part in &self.parts {
            value = attributes::item(&value, part)?;
            if let Some(default) = self.default.as_ref().filter(|_| value.is_undefined()) {
                value = default.clone();
            }
        }
        Ok(match value {
            Value::Str(text) if self.ignore_case => Value::text(text.to_lowercase(), text.markup),
            value => value,
        })
    }
}

fn part(name: &str) -> Value {
    match name.parse() {
        Ok(index) if name.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(index),
        _ => Value::str(name),
    }
}

fn first(interpreter: &mut Interpreter, value: &Value) -> Result<Value> {
    interpreter.force(value)?;
    let item = match value {
        Value::Object(object) => match &**object {
            Object::Generator(generator) => generator.borrow_mut().ready.pop_front(),
            _ => return fault(format!("'{}' object is not iterable", value.type_name())),
        },
        other => ops::items(other)?.into_iter().next(),
    };
    Ok(item.unwrap_or_else(|| Value::hint("the sequence is empty: it has no first item")))
}

fn join(interpreter: &mut Interpreter, value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("join", ["d", "attribute"], 0)?;
    let getter = Getter::new(bound.some(1), true)?;
    let mut parts = Vec::new();
    for item in interpreter.iterate(value)? {
        parts.push(Value::str(print::text(&getter.get(&item)?)?));
    }
    let separator = Text { text: bound.printed(0)?.into(), markup: false };
    text::join(&separator, &Value::list(parts))
}

fn sum(interpreter: &mut Interpreter, value: &Value, arguments: Call) -> Result<Value> {
    let mut bound = arguments.bind("sum", ["attribute", "start"], 0)?;
    let getter = Getter::new(bound.some(0), true)?;
    let mut total = bound.take(1).unwrap_or(Value::Int(0));
    if matches!(total, Value::Str(_) | Value::Bytes(_)) {
        return fault("sum() can't sum strings");
    }
    for item in interpreter.iterate(value)? {
        total = binary(Binary::Add, &total, &getter.get(&item)?)?;
    }
    Ok(total)
}

fn extreme(interpreter: &mut Interpreter, value: &Value, largest: bool, arguments: Call) -> Result<Value> {
    let name = if largest { "max" } else { "min" };
    let bound = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
    let getter = Getter::new(bound.some(1), bound.truth(0, false))?;
    let mut best: Option<(Value, Value)> = None;
    for item in interpreter.iterate(value)? {
        let key = getter.get(&item)?;
        let better = match &best {
            None => true,
            Some((other, _)) => {
                let (operator, wanted) = if largest { (">", Ordering::Greater) } else { ("<", Ordering::Less) };
                ops::order(&key, other, operator)? == Some(wanted)
            }
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Value::hint("the sequence is empty: it has no smallest or largest item"), |(_, item)| item))
}

/// Sorts pairs of a key and an item by the key; equal ones keep their order.
fn sorted(mut keyed: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<Value>> {
    super::fuel::steps(keyed.len())?;
    if reverse {
        keyed.reverse();
    }
    ops::sort_by_key(&mut keyed, |(key, _)| key)?;
    if reverse {
        keyed.reverse();
    }
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

fn sort(interpreter: &mut Interpreter, value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("sort", ["reverse", "case_sensitive", "attribute"], 0)?;
    let case_sensitive = bound.truth(1, false);
    let getters: Vec<Getter> = match bound.some(2) {
        Some(Value::Str(names)) => {
            names.split(',').map(|name| Getter::new(Some(&Value::str(name)), case_sensitive)).collect::<Result<_>>()?
        }
        other => vec![Getter::new(other, case_sensitive)?],
    };
    let mut keyed = Vec::new();
    for item in interpreter.iterate(value)? {
        let keys = getters.iter().map(|getter| getter.get(&item)).collect::<Result<_>>()?;
        keyed.push((Value::list(keys), item));
    }
    Ok(Value::list(sorted(keyed, bound.truth(0, false))?))
}

fn dict_sort(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let by = if bound.value(1).is_some() { bound.str(1)? } else { "key" };
    let at = match by {
        "key" => 0,
        "value" => 1,
        _ => return fault("dictsort: you can only sort by either \"key\" or \"value\""),
    };
    let Value::Dict(dict) = value else {
        ops::fail_if_undefined(value)?;
        return fault(format!("dictsort: expected a mapping, found {}", value.type_name()));
    };
    let getter = Getter::new(Some(&Value::Int(at)), bound.truth(0, false))?;
    let mut keyed = Vec::new();
    for pair in dict.view(View::Items) {
        keyed.push((getter.get(&pair)?, pair));
    }
    Ok(Value::list(sorted(keyed, bound.truth(2, false))?))
}

fn group_by(interpreter: &mut Interpreter, value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let case_sensitive = bound.truth(2, false);
    let mut getter = Getter::new(bound.value(0), case_sensitive)?;
    getter.default = bound.some(1).cloned();
    let mut keyed = Vec::new();
    for item in interpreter.iterate(value)? {
        keyed.push((getter.get(&item)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sorted(keyed, false)? {
        let key = getter.get(&item)?;
        match groups.last_mut() {
            Some((last, items)) if ops::equal(last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    // The name of a group is that of its first item, with its case.
    getter.ignore_case = false;
    let mut named = Vec::new();
    for (_, items) in groups {
        let name = getter.get(&items[0])?;
        let items = vec![name, Value::list(items)];
        named.push(Value::Tuple(Rc::new(Items { items, grouped: true, data: false })));
    }
    Ok(Value::list(named))
}
