//! The grid of a sweep as a script writes it: ranges as axes, and options that are functions of a point.

use crate::error::Error;
use crate::options::OptionSet;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::values_of_range;
use crate::script::values::json::to_map;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::sweep::Point;
use rhai::{Dynamic, Engine, FnPtr, Map, NativeCallContext};

/// Writes out ranges with steps among the values of axes, which only the engine can read.
pub fn list_ranges(options: &mut Map, engine: &Engine) {
    let Some(mut grid) = options.get_mut("grid").and_then(|grid| grid.write_lock::<Map>()) else { return };
    for values in grid.values_mut() {
        if let Some(listed) = values_of_range(values, engine) {
            *values = listed.into();
        }
    }
}

/// The options of `sweep` in the map `group` at one point: functions are called with it, and its own values put in.
pub fn options_at<T: OptionSet + Default>(
    options: &OptionsOf<T>,
    group: &str,
    point: &Point,
    context: &NativeCallContext,
) -> RhaiResultOf<T> {
    let values = to_map(&point.values);
    let mut resolved = Map::new();
    for (name, value) in &options.values {
        let value = match value.clone().try_cast::<FnPtr>() {
            None => value.clone(),
            Some(function) => {
                let callback = Callback::new(context, function);
                let result = callback.call::<Dynamic>([Dynamic::from_map(values.clone())]);
                callback.settle(result)?
            }
        };
        resolved.insert(name.clone(), value);
    }
    for (key, value) in &values {
        let Some(option) = T::table().find(key) else { continue };
        if let Some(twice) = resolved.keys().find(|name| option.is_called(name)) {
            let text = format!("sweep: `{key}` is an axis of the grid and `{group}.{twice}` is given too");
            return Err(Error::input(text).with_hint("leave one of them out").into());
        }
        resolved.insert(option.name.into(), value.clone());
    }
    Ok(Options::read_inner("sweep", group, resolved)?)
}
