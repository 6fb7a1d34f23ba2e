//! `args(#{ defaults })`: the `--set key=value` texts, typed by the script's defaults.
//!
//! The native function is in `api/host.rs`; the help text of a script in `help`.

use crate::error::{Error, Result};
use crate::eval::config::GenerationConfig;
use crate::lora::LoraSpec;
use crate::options::OptionSet;
use crate::script::values::from_script::describe;
use crate::suggest;
use crate::train::TrainConfig;
use rhai::{Array, Dynamic, Map};

/// The defaults with these values in their places.
pub fn resolve(defaults: &Map, values: &[(String, String)]) -> Result<Map> {
    let mut settings = defaults.clone();
    for (key, text) in values {
        set(&mut settings, key, key, text).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.with_hint("see the settings of this script: lorhai run FILE --help"),
        })?;
    }
    Ok(settings)
}

/// All settings by their full names: a map inside the defaults gives `outer.inner`.
pub fn names(defaults: &Map) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in defaults {
        match value.as_map_ref() {
            Ok(inner) => names.extend(self::names(&inner).into_iter().map(|name| format!("{key}.{name}"))),
            Err(_) => names.push(key.to_string()),
        }
    }
    names
}

/// `--set` was given to a script that never calls `args`.
pub fn takes_none(key: &str) -> Error {
    Error::input(format!("--set {key}: the script has no settings"))
        .with_hint("a script declares them by its call args(#{ name: default })")
}

fn set(settings: &mut Map, full: &str, path: &str, text: &str) -> Result<()> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let known = names(settings);
    let Some(value) = settings.get_mut(first) else {
        return Err(unknown(full, path, &known));
    };
    match (rest, value.is_map()) {
        (None, false) => *value = typed(full, value, text)?,
        (Some(rest), true) => {
            let mut inner = value.as_map_mut().map_err(|_| Error::bug("a map is no map"))?;
            set(&mut inner, full, rest, text)?;
        }
        (None, true) => return Err(unknown(full, path, &known)),
        (Some(_), false) => return Err(unknown(full, path, &known)),
    }
    Ok(())
}

fn unknown(full: &str, path: &str, known: &[String]) -> Error {
    let prefix = full.strip_suffix(path).unwrap_or_default();
    let known: Vec<String> = known.iter().map(|name| format!("{prefix}{name}")).collect();
    let error = Error::input(format!("--set {full}: the script has no such setting"));
    // Python's name of an option, where the setting has ours.
    let tables = [LoraSpec::table(), TrainConfig::table(), GenerationConfig::table()];
    let option = tables.into_iter().find_map(|table| table.find(full));
    match option.filter(|option| known.iter().any(|name| name == option.name)) {
        Some(option) => error.with_hint(format!("did you mean `{}`?", option.name)),
        None if known.is_empty() => error.with_hint("this script has no settings"),
        None => error.with_hint(suggest::hint(full, known.iter().map(String::as_str))),
    }
}

/// Reads `text` as a value of the type that `default` has.
fn typed(key: &str, default: &Dynamic, text: &str) -> Result<Dynamic> {
    let wrong = |expected: &str| Error::input(format!("--set {key}: expected {expected}, found `{text}`"));
    if default.is_unit() {
        return Ok(guessed(text));
    }
    if default.is_bool() {
        return text.parse::<bool>().map(Dynamic::from).map_err(|_| wrong("true or false"));
    }
    if default.is_int() {
        return int(text).map(Dynamic::from).ok_or_else(|| wrong("an int"));
    }
    if default.is_float() {
        return float(text).map(Dynamic::from).ok_or_else(|| wrong("a number"));
    }
    if default.is_string() {
        return Ok(text.into());
    }
    match default.as_array_ref() {
        Ok(items) => array(key, &items, text),
        Err(_) => Err(Error::input(format!("--set {key}: {} cannot be set from outside", describe(default)))),
    }
}

/// Accepts whole numbers however they are written: `8`, `1_000`, `2e3`, `4.0`.
fn int(text: &str) -> Option<i64> {
    let plain = text.trim().replace('_', "");
    if let Ok(int) = plain.parse() {
        return Some(int);
    }
    let float: f64 = plain.parse().ok()?;
    // Beyond 2^53 a float no longer says which int was meant.
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
}

fn float(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse().ok().filter(|float: &f64| float.is_finite())
}

/// Comma-separated, brackets allowed; elements take the type of the default's elements.
fn array(key: &str, default: &Array, text: &str) -> Result<Dynamic> {
    let inner = text.trim();
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner);
    if inner.trim().is_empty() {
        return Ok(Array::new().into());
    }
    let kind = match default.iter().find(|item| item.is_float()) {
        Some(float) => float.clone(),
        None => default.first().cloned().unwrap_or(Dynamic::UNIT),
    };
    let items = inner.split(',').map(|item| typed(key, &kind, item.trim().trim_matches(['"', '\''])));
    Ok(items.collect::<Result<Array>>()?.into())
}

/// For defaults that say nothing of a type: `()` and `[]`.
fn guessed(text: &str) -> Dynamic {
    match (text.trim().parse::<i64>(), float(text), text.trim().parse::<bool>()) {
        (Ok(int), _, _) => int.into(),
        (_, Some(float), _) => float.into(),
        (_, _, Ok(flag)) => flag.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Map {
        rhai::Engine::new()
            .eval(
                r#"#{ model: "tiny", ranks: [2, 4], lr: 2e-4, steps: 200, mix: [0.5], names: ["a"], quick: false,
                        seed: (), any: [], train: #{ batch: 8, inner: #{ x: 1 } } }"#,
            )
            .unwrap()
    }

    fn one(key: &str, text: &str) -> Result<String> {
        let settings = resolve(&defaults(), &[(key.into(), text.into())])?;
        let mut value = Dynamic::from_map(settings);
        for part in key.split('.') {
            let inner = value.as_map_ref().unwrap()[part].clone();
            value = inner;
        }
        Ok(format!("{value:?}"))
    }

    #[test]
    fn values_take_the_type_of_the_default() {
        for (key, text, expected) in [
            ("model", "8", "\"8\""),
            ("ranks", "1,2, 8", "[1, 2, 8]"),
            ("ranks", "[16]", "[16]"),
            ("ranks", "", "[]"),
            ("mix", "1,0.25", "[1.0, 0.25]"),
            ("names", "q_proj,\"v_proj\"", "[\"q_proj\", \"v_proj\"]"),
            ("lr", "1", "1.0"),
            ("lr", "1e-3", "0.001"),
            ("steps", "1e3", "1000"),
            ("steps", "2_000", "2000"),
            ("quick", "true", "true"),
            ("seed", "7", "7"),
            ("seed", "x", "\"x\""),
            ("any", "1,b", "[1, \"b\"]"),
            ("train.batch", "4", "4"),
            ("train.inner.x", "5", "5"),
        ] {
            assert_eq!(one(key, text).unwrap(), expected, "{key}={text}");
        }
    }

    #[test]
    fn wrong_values_say_expected_and_found() {
        for (key, text, expected) in [
            ("steps", "2.5", "--set steps: expected an int, found `2.5`"),
            ("steps", "1,2", "--set steps: expected an int, found `1,2`"),
            ("ranks", "2,x", "--set ranks: expected an int, found `x`"),
            ("lr", "fast", "--set lr: expected a number, found `fast`"),
            ("lr", "nan", "--set lr: expected a number, found `nan`"),
            ("quick", "1", "--set quick: expected true or false, found `1`"),
        ] {
            assert_eq!(one(key, text).unwrap_err().message, expected);
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let error = one("rank", "1").unwrap_err();
        assert_eq!(error.message, "--set rank: the script has no such setting");
        assert!(error.hint.unwrap().starts_with("did you mean `ranks`?"));
        assert!(one("train.bach", "1").unwrap_err().hint.unwrap().starts_with("did you mean `train.batch`?"));
        assert!(one("train", "1").is_err(), "a group is not a setting");
        assert!(one("steps.x", "1").is_err());
    }
}
