//! Errors across the border: [`Error`] to what a script can catch, and back again.
//!
//! A script sees `err.message`, `err.kind` and `err.hint`, which is `()` where no fix is known.
//! Where the error happened is added by `render`.

use crate::error::{Error, Kind};
use rhai::{Dynamic, EvalAltResult, Map, Position};

/// What a native function returns. Rhai's documentation generator knows the name.
pub type RhaiResultOf<T> = Result<T, Box<EvalAltResult>>;

const KINDS: [(&str, Kind); 9] = [
    ("input", Kind::Input),
    ("file", Kind::File),
    ("hub", Kind::Hub),
    ("model", Kind::Model),
    ("data", Kind::Data),
    ("numeric", Kind::Numeric),
    ("memory", Kind::Memory),
    ("stopped", Kind::Stopped),
    ("bug", Kind::Bug),
];

/// The name of a kind in scripts, `err.kind`.
pub fn kind_name(kind: Kind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("bug", |(name, _)| name)
}

fn kind_named(name: &str) -> Kind {
    KINDS.iter().find(|(known, _)| *known == name).map_or(Kind::Input, |(_, kind)| *kind)
}

/// So that `?` works in native functions. Stopping cannot be caught by a script's `try`.
impl From<Error> for Box<EvalAltResult> {
    fn from(error: Error) -> Self {
        let is_stopped = error.kind == Kind::Stopped;
        let value = Dynamic::from_map(to_map(error));
        Box::new(if is_stopped {
            EvalAltResult::ErrorTerminated(value, Position::NONE)
        } else {
            EvalAltResult::ErrorRuntime(value, Position::NONE)
        })
    }
}

/// The map that stands for an error in a script.
pub fn to_map(error: Error) -> Map {
    let mut map = Map::new();
    map.insert("kind".into(), kind_name(error.kind).into());
    map.insert("message".into(), error.message.into());
    // There in any case, so that a script can ask for it.
    map.insert("hint".into(), error.hint.map_or(Dynamic::UNIT, Dynamic::from));
    map
}

/// The error in a thrown value: one of ours, or whatever a script gave to `throw`.
pub fn from_thrown(value: &Dynamic) -> Error {
    let Ok(map) = value.as_map_ref() else {
        return Error::input(thrown_text(value));
    };
    let text = |key: &str| map.get(key).map(thrown_text);
    let Some(message) = text("message") else {
        return Error::input(thrown_text(value));
    };
    let kind = text("kind").map_or(Kind::Input, |name| kind_named(&name));
    let hint = map.get("hint").filter(|hint| !hint.is_unit()).map(thrown_text);
    Error { kind, message, hint }
}

fn thrown_text(value: &Dynamic) -> String {
    if value.is_unit() {
        return "the script threw an error without a message: throw \"what is wrong\" has one".to_string();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_round_trip() {
        let error = Error::data("row 3 has no label").with_hint("set loss_on to \"all\"");
        let boxed: Box<EvalAltResult> = error.into();
        let EvalAltResult::ErrorRuntime(value, _) = *boxed else { panic!("expected a runtime error") };
        let back = from_thrown(&value);
        assert_eq!((back.kind, back.message.as_str()), (Kind::Data, "row 3 has no label"));
        assert_eq!(back.hint.as_deref(), Some("set loss_on to \"all\""));
    }

    #[test]
    fn stopping_is_not_catchable() {
        let boxed: Box<EvalAltResult> = Error::stopped().into();
        assert!(!boxed.is_catchable());
    }

    #[test]
    fn a_thrown_string_or_map_is_a_message() {
        assert_eq!(from_thrown(&"oh".into()).message, "oh");
        assert_eq!(from_thrown(&Dynamic::from(3_i64)).message, "3");
        assert!(from_thrown(&Dynamic::UNIT).message.contains("without a message"));
    }
}
