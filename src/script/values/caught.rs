//! What a script catches: every error has `kind`, `message` and `hint`, also those of the engine,
//! which have other fields and messages.
//!
//! The engine offers no way to change what `catch` binds, but calls back before each use of a
//! variable: one that `catch` has bound gets its shape then.

use crate::error::Error;
use crate::format::lower_first;
use crate::script::catalogue::docs::Catalog;
use crate::script::engine::state::State;
use crate::script::language::explain::explain;
use crate::script::language::locate;
use crate::script::language::unknown::ErrorContext;
use crate::script::values::convert::kind_name;
use rhai::{Dynamic, Engine, EvalAltResult, Map, Position, Scope};
use std::cell::LazyCell;

/// From now on, gives caught errors `kind`, `message` and `hint`.
pub fn shape_errors(engine: &mut Engine, state: &State) {
    let state = state.clone();
    // Marked as deprecated by its authors to say that it may change; the version is pinned.
    #[allow(deprecated)]
    engine.on_var(move |name, _, mut context| {
        if !state.catches(name) {
            return Ok(None);
        }
        let shaped = match context.scope().get(name).and_then(|value| value.as_map_ref().ok().map(|map| map.clone())) {
            Some(map) if is_raw(&map) => shaped(map, context.engine(), context.scope(), &state),
            _ => return Ok(None),
        };
        if let Some(mut value) = context.scope_mut().get_mut(name).and_then(|value| value.write_lock::<Map>()) {
            *value = shaped;
        }
        Ok(None)
    });
}

/// Whether it is an error of the engine, as `catch` binds it.
fn is_raw(map: &Map) -> bool {
    let is_error = map.get("error").is_some_and(|name| name.to_string().starts_with("Error"));
    is_error && map.contains_key("message") && !map.contains_key("kind")
}

fn shaped(mut map: Map, engine: &Engine, scope: &Scope, state: &State) -> Map {
    let number = |key: &str| map.get(key).and_then(|value| u16::try_from(value.as_int().ok()?).ok());
    let position = number("line").map_or(Position::NONE, |line| Position::new(line, number("position").unwrap_or(0)));
    let source = map.get("source").map_or_else(|| state.script(), ToString::to_string);
    let place = locate::place(&source, position, state);
    let catalog = LazyCell::new(|| Catalog::of(engine));
    let context = ErrorContext { engine, catalog: &catalog, scope, state, place: place.as_deref() };
    let Error { kind, message, hint } = match revived(&map) {
        Some(error) => explain(&error, &context),
        None => Error::input(lower_first(&map.get("message").map(ToString::to_string).unwrap_or_default())),
    };
    map.insert("kind".into(), kind_name(kind).into());
    map.insert("message".into(), message.into());
    map.insert("hint".into(), hint.map_or(Dynamic::UNIT, Dynamic::from));
    map
}

/// The error of the engine that has these fields.
fn revived(map: &Map) -> Option<EvalAltResult> {
    use EvalAltResult as E;
    let text = |key: &str| map.get(key).map(ToString::to_string).unwrap_or_default();
    let int = |key: &str| map.get(key).and_then(|value| value.as_int().ok());
    let nowhere = Position::NONE;
    Some(match text("error").as_str() {
        "ErrorFunctionNotFound" => E::ErrorFunctionNotFound(text("function"), nowhere),
        "ErrorNonPureMethodCallOnConstant" => E::ErrorNonPureMethodCallOnConstant(text("function"), nowhere),
        "ErrorMismatchDataType" => E::ErrorMismatchDataType(text("requested"), text("actual"), nowhere),
        "ErrorMismatchOutputType" => E::ErrorMismatchOutputType(text("requested"), text("actual"), nowhere),
        "ErrorArrayBounds" => E::ErrorArrayBounds(usize::try_from(int("length")?).ok()?, int("index")?, nowhere),
        "ErrorStringBounds" => E::ErrorStringBounds(usize::try_from(int("length")?).ok()?, int("index")?, nowhere),
        "ErrorVariableNotFound" => E::ErrorVariableNotFound(text("variable"), nowhere),
        "ErrorPropertyNotFound" => E::ErrorPropertyNotFound(text("variable"), nowhere),
        "ErrorDataRace" => E::ErrorDataRace(text("variable"), nowhere),
        "ErrorAssignmentToConstant" => E::ErrorAssignmentToConstant(text("variable"), nowhere),
        "ErrorModuleNotFound" => E::ErrorModuleNotFound(text("module"), nowhere),
        "ErrorDotExpr" => E::ErrorDotExpr(text("property"), nowhere),
        "ErrorIndexingType" => E::ErrorIndexingType(text("type"), nowhere),
        "ErrorArithmetic" => E::ErrorArithmetic(text("message"), nowhere),
        "ErrorFor" => E::ErrorFor(nowhere),
        "ErrorUnboundThis" => E::ErrorUnboundThis(nowhere),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::script::engine::session::printed_by;

    #[test]
    fn every_caught_error_has_one_shape() {
        for (failing, message) in [
            ("nowhere(1)", "unknown function `nowhere(int)`"),
            ("let m = #{ a: x }; m.b", "unknown property `b`"),
            ("[1, 2][5]", "expected an index from -2 to 1, found 5"),
            ("1 / 0", "division by zero: 1 / 0"),
            ("tensor([1, 2]).item()", "item: expected a tensor of one number, found shape [2]"),
            ("if 3 + x { print(x) }", "expected bool, found int"),
            ("for i in x { }", "`for` expected something to loop over, found a single value"),
            ("x.y", "unknown property `y` of int"),
            ("parse_int(\"a\")", "expected a text with a whole number, found \"a\""),
        ] {
            let script = format!(
                "let x = 1; try {{ {failing} }} catch (e) {{ print(e.message); print(e.kind); \
                 print(type_of(e.hint) != \"map\"); let f = || e.kind; print(f.call()); }}"
            );
            assert_eq!(printed_by(&script).unwrap(), format!("{message}\ninput\ntrue\ninput\n"), "{failing}");
        }
    }

    #[test]
    fn what_a_script_throws_keeps_its_value() {
        let script =
            "try { throw \"oh\"; } catch (e) { print(e); } try { throw #{ code: 3 }; } catch (e) { print(e.code); }
                      try { throw 7; } catch (e) { print(e + 1); }";
        assert_eq!(printed_by(script).unwrap(), "oh\n3\n8\n");
        let again = "try { nowhere(1); } catch (e) { throw e; }";
        let failure = printed_by(again).unwrap_err();
        assert!(failure.contains("unknown function `nowhere(int)`"), "{failure}");
        let again = "try { nowhere(1); } catch (e) { throw; }";
        assert!(printed_by(again).unwrap_err().contains("unknown function `nowhere(int)`"));
    }
}
