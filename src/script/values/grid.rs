//! The grid of a sweep as a script writes it: ranges as axes, and options that are functions of a point.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::options::{OptionSet, OptionType};
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, values_of_range};
use crate::script::values::json::to_map;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::sweep::Point;
use rhai::{Dynamic, Engine, FnPtr, Map, NativeCallContext};
use std::collections::BTreeMap;

/// Writes out ranges with steps among the values of axes, which only the engine can read.
pub fn list_ranges(options: &mut Map, engine: &Engine) {
    let Some(mut grid) = options.get_mut("grid").and_then(|grid| grid.write_lock::<Map>()) else { return };
    for values in grid.values_mut() {
        if let Some(listed) = values_of_range(values, engine) {
            *values = listed.into();
        }
    }
}

/// The values of axes that have names: `data: #{ small: d1, all: d2 }`. In the grid, in tables and in folder names the
/// names stand for them.
#[derive(Default)]
pub struct NamedValues(BTreeMap<String, Map>);

impl NamedValues {
    /// Takes the values of the axes that are maps out of the grid among `options`, and leaves their names.
    pub fn take(options: &mut Map) -> Self {
        let Some(mut grid) = options.get_mut("grid").and_then(|grid| grid.write_lock::<Map>()) else {
            return Self::default();
        };
        let mut named = BTreeMap::new();
        for (axis, values) in grid.iter_mut() {
            let Some(map) = values.read_lock::<Map>().map(|map| map.clone()) else { continue };
            let names: rhai::Array = map.keys().map(|name| name.as_str().into()).collect();
            *values = names.into();
            named.insert(axis.to_string(), map);
        }
        NamedValues(named)
    }

    /// Fails for axes among these whose values have no names: each with what its values are, and how they are written.
    pub fn ensure_named(options: &Map, axes: &[(&str, &str, &str)]) -> Result<()> {
        let Some(grid) = options.get("grid").and_then(|grid| grid.read_lock::<Map>()) else { return Ok(()) };
        for (axis, values, example) in axes {
            let unnamed = grid.get(*axis).filter(|values| !values.is_map());
            if let Some(unnamed) = unnamed {
                let description = describe(unnamed);
                bail!(Kind::Input, "grid: {axis}: expected {values} by their names, found {description}"; hint: "as in {example}");
            }
        }
        Ok(())
    }

    /// The values at a point, those with names themselves.
    pub fn values_at(&self, point: &Point) -> Map {
        let mut values = to_map(&point.values);
        for (axis, value) in &mut values {
            let named = self.0.get(axis.as_str()).zip(value.clone().into_string().ok());
            if let Some(named) = named.and_then(|(named, name)| named.get(name.as_str())) {
                *value = named.clone();
            }
        }
        values
    }

    /// The values of an axis by their names; `None` for one without names.
    pub fn of(&self, axis: &str) -> Option<&Map> {
        self.0.get(axis)
    }

    /// The axes with names.
    pub fn axes(&self) -> impl Iterator<Item = (&str, &Map)> {
        self.0.iter().map(|(axis, values)| (axis.as_str(), values))
    }
}

/// The options of `sweep` in the map `group` at one point: functions are called with it, and its own values put in. Where
/// an option is a function itself, it is not called.
///
/// # Errors
/// Of a function: at once. Of the options: inside, so that they can be compared with those of other points.
pub fn options_at<T: OptionSet + Default>(
    options: &OptionsOf<T>,
    group: &str,
    values: &Map,
    context: &NativeCallContext,
) -> RhaiResultOf<Result<T>> {
    let mut resolved = Map::new();
    let is_function =
        |name: &str| T::table().find(name).is_some_and(|option| (option.type_name)() == FnPtr::type_name());
    for (name, value) in &options.values {
        let value = match value.clone().try_cast::<FnPtr>().filter(|_| !is_function(name)) {
            None => value.clone(),
            Some(function) => {
                let callback = Callback::new(context, function);
                let result = callback.call::<Dynamic>([Dynamic::from_map(values.clone())]);
                callback.settle(result)?
            }
        };
        resolved.insert(name.clone(), value);
    }
    for (key, value) in values {
        let Some(option) = T::table().find(key) else { continue };
        if let Some(twice) = resolved.keys().find(|name| option.is_called(name)) {
            let text = format!("sweep: `{key}` varies in this sweep and `{group}.{twice}` is given too");
            return Ok(Err(Error::input(text).with_hint("leave one of them out")));
        }
        resolved.insert(option.name.into(), value.clone());
    }
    Ok(Options::read_inner("sweep", group, resolved))
}
