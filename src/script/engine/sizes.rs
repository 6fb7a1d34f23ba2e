//! Functions of the language that make much of little: `"x".pad(1000000000, ' ')`, `blob(n)`, `split`, printing an array
//! that holds one long text many times. Here they are again with their results, but each asks the budget before it
//! allocates.

use crate::error::Error;
use crate::heap::Held;
use crate::interrupt;
use crate::script::engine::budget::{charge, charge_or_end};
use crate::script::values::convert::RhaiResultOf;
use rhai::{Array, Blob, Dynamic, Engine, ImmutableString, Map, NativeCallContext};
use std::fmt::Write;

/// What a value in an array takes.
const VALUE: u128 = size_of::<Dynamic>() as u128;
/// What a short text of its own takes, with its place in an array.
const TEXT: u128 = VALUE + 64;
/// What a character of JSON can become at most: `[[],[],…]`, three of which are an empty array in an array.
const JSON: u128 = 40;

/// Registers them; functions of the engine go before those of its packages.
pub fn register(engine: &mut Engine) {
    padding(engine);
    replacing(engine);
    splitting(engine);
    printing(engine);
    engine.register_fn("parse_json", |text: &str| -> RhaiResultOf<Dynamic> {
        charge("parse_json", text.len() as u128 * JSON)?;
        serde_json::from_str(text).map_err(|error| error.to_string().into())
    });
}

fn padding(engine: &mut Engine) {
    engine.register_fn("blob", |size: i64| filled("blob", Blob::new(), size, 0));
    engine.register_fn("blob", |size: i64, value: i64| filled("blob", Blob::new(), size, value));
    engine.register_fn("pad", |blob: &mut Blob, size: i64, value: i64| -> RhaiResultOf<()> {
        *blob = filled("pad", std::mem::take(blob), size, value)?;
        Ok(())
    });
    engine.register_fn("pad", |array: &mut Array, size: i64, item: Dynamic| -> RhaiResultOf<()> {
        let more = usize::try_from(size).unwrap_or(0).saturating_sub(array.len());
        charge("pad", more as u128 * (VALUE + deep_size(&item)))?;
        // In pieces, between which Ctrl-C is heard.
        const PIECE: usize = 1 << 12;
        let size = array.len() + more;
        array.reserve(more);
        while array.len() < size {
            interrupt::check()?;
            array.resize(size.min(array.len() + PIECE), item.clone());
        }
        Ok(())
    });
    engine
        .register_fn("pad", |text: &mut ImmutableString, size: i64, with: char| padded(text, size, &with.to_string()));
    engine.register_fn("pad", |text: &mut ImmutableString, size: i64, with: &str| padded(text, size, with));
}

fn filled(function: &str, mut blob: Blob, size: i64, value: i64) -> RhaiResultOf<Blob> {
    let size = usize::try_from(size).unwrap_or(0).max(blob.len());
    charge(function, size as u128)?;
    blob.resize(size, (value & 0xff) as u8);
    Ok(blob)
}

fn padded(text: &mut ImmutableString, size: i64, with: &str) -> RhaiResultOf<()> {
    let more = usize::try_from(size).unwrap_or(0).saturating_sub(text.chars().count());
    if more == 0 {
        return Ok(());
    }
    if with.is_empty() {
        return Err(Error::input("pad: expected a text to fill with, found an empty one").into());
    }
    // A character of UTF-8 has at most four bytes.
    charge("pad", more as u128 * 4 + text.len() as u128)?;
    // In blocks: a character at a time takes seconds.
    const BLOCK: usize = 1024;
    let letters = with.chars().count();
    let block = with.repeat(BLOCK);
    let text = text.make_mut();
    (0..more / letters / BLOCK).for_each(|_| text.push_str(&block));
    (0..more / letters % BLOCK).for_each(|_| text.push_str(with));
    text.extend(with.chars().take(more % letters));
    Ok(())
}

fn replacing(engine: &mut Engine) {
    engine.register_fn("replace", |text: &mut ImmutableString, from: &str, to: &str| replaced(text, from, to));
    engine.register_fn("replace", |text: &mut ImmutableString, from: &str, to: char| {
        replaced(text, from, &to.to_string())
    });
    engine.register_fn("replace", |text: &mut ImmutableString, from: char, to: &str| {
        replaced(text, &from.to_string(), to)
    });
    engine.register_fn("replace", |text: &mut ImmutableString, from: char, to: char| {
        replaced(text, &from.to_string(), &to.to_string())
    });
}

fn replaced(text: &mut ImmutableString, from: &str, to: &str) -> RhaiResultOf<()> {
    if text.is_empty() {
        return Ok(());
    }
    // An empty text is there before each character and at the end.
    let count = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    charge("replace", text.len() as u128 + count as u128 * to.len() as u128)?;
    *text = text.replace(from, to).into();
    Ok(())
}

fn splitting(engine: &mut Engine) {
    engine.register_fn("to_chars", |text: &str| -> RhaiResultOf<Array> {
        charge("to_chars", text.len() as u128 * VALUE)?;
        Ok(text.chars().map(Dynamic::from).collect())
    });
    engine.register_fn("to_array", |blob: &mut Blob| -> RhaiResultOf<Array> {
        charge("to_array", blob.len() as u128 * VALUE)?;
        Ok(blob.iter().map(|&byte| i64::from(byte).into()).collect())
    });
    engine.register_fn("split", |text: &mut ImmutableString| {
        pieces("split", text, text.split_whitespace().count(), text.split_whitespace())
    });
    engine.register_fn("split", |text: &mut ImmutableString, at: &str| {
        pieces("split", text, text.matches(at).count() + 1, text.split(at))
    });
    engine.register_fn("split", |text: &mut ImmutableString, at: char| {
        pieces("split", text, text.matches(at).count() + 1, text.split(at))
    });
    engine.register_fn("split", |text: &mut ImmutableString, at: &str, count: i64| {
        pieces("split", text, most(count, text.matches(at).count()), text.splitn(parts(count), at))
    });
    engine.register_fn("split", |text: &mut ImmutableString, at: char, count: i64| {
        pieces("split", text, most(count, text.matches(at).count()), text.splitn(parts(count), at))
    });
    engine.register_fn("split_rev", |text: &mut ImmutableString, at: &str| {
        pieces("split_rev", text, text.matches(at).count() + 1, text.rsplit(at))
    });
    engine.register_fn("split_rev", |text: &mut ImmutableString, at: char| {
        pieces("split_rev", text, text.matches(at).count() + 1, text.rsplit(at))
    });
    engine.register_fn("split_rev", |text: &mut ImmutableString, at: &str, count: i64| {
        pieces("split_rev", text, most(count, text.matches(at).count()), text.rsplitn(parts(count), at))
    });
    engine.register_fn("split_rev", |text: &mut ImmutableString, at: char, count: i64| {
        pieces("split_rev", text, most(count, text.matches(at).count()), text.rsplitn(parts(count), at))
    });
}

/// As the engine counts them: one part at least.
fn parts(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0).max(1)
}

fn most(count: i64, matches: usize) -> usize {
    parts(count).min(matches + 1)
}

fn pieces<'a>(function: &str, text: &str, count: usize, pieces: impl Iterator<Item = &'a str>) -> RhaiResultOf<Array> {
    charge(function, count as u128 * TEXT + text.len() as u128)?;
    Ok(pieces.map(Into::into).collect())
}

/// Stands for a value that would take too much memory as text. An error here would not do: the engine would write the
/// value out by itself. The script ends at its next operation.
const LEFT_OUT: &str = "…";

fn printing(engine: &mut Engine) {
    for name in ["print", "debug", "to_string", "to_debug"] {
        engine.register_fn(name, move |context: NativeCallContext, array: &mut Array| -> ImmutableString {
            if charge_or_end(name, array.iter().map(text_size).sum()).is_err() {
                return LEFT_OUT.into();
            }
            let items: Vec<String> = array.iter_mut().map(|item| debugged(&context, item)).collect();
            format!("[{}]", items.join(", ")).into()
        });
        engine.register_fn(name, move |context: NativeCallContext, map: &mut Map| -> ImmutableString {
            if charge_or_end(name, map.values().map(text_size).sum()).is_err() {
                return LEFT_OUT.into();
            }
            let mut text = String::from("#{");
            for (at, (key, value)) in map.iter_mut().enumerate() {
                let separator = if at == 0 { "" } else { ", " };
                // Writing into a text cannot fail.
                let _ = write!(text, "{separator}{key:?}: {}", debugged(&context, value));
            }
            text.push('}');
            text.into()
        });
    }
}

/// As the engine shows a value inside another.
fn debugged(context: &NativeCallContext, value: &mut Dynamic) -> String {
    match context.call_native_fn_raw("to_debug", true, &mut [value]) {
        Ok(text) if text.is_string() => text.to_string(),
        Ok(other) => context.engine().map_type_name(other.type_name()).to_string(),
        Err(_) => context.engine().map_type_name(&format!("{value:?}")).to_string(),
    }
}

/// What a value holds beyond its place, at most. A variable that a closure shares stays where it is.
pub fn held_by(value: &Dynamic) -> Held {
    // A value of another type: a handle, or a function with what it is curried with.
    const OTHER: Held = Held { bytes: 256, blocks: 1 };
    const LIST: i64 = 64;
    // Entries lie in nodes of eleven; a map of one has such a node.
    const NODE: i64 = 560;
    const KEY: i64 = 88;
    if value.is_shared() {
        return OTHER;
    }
    if let Ok(items) = value.as_array_ref() {
        let mut held = Held { bytes: LIST + (items.capacity() * size_of::<Dynamic>()) as i64, blocks: 2 };
        for item in items.iter().filter(|item| !is_in_place(item)) {
            held = held + held_by(item);
        }
        return held;
    }
    if let Ok(map) = value.as_map_ref() {
        let mut held = Held { bytes: NODE, blocks: 2 };
        for (key, item) in map.iter() {
            held = held + Held { bytes: KEY + key.len() as i64, blocks: 2 } + held_by(item);
        }
        return held;
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Held { bytes: LIST + text.len() as i64, blocks: 2 };
    }
    match value.as_blob_ref() {
        Ok(blob) => Held { bytes: LIST + blob.capacity() as i64, blocks: 2 },
        Err(_) if is_in_place(value) => Held::default(),
        Err(_) => OTHER,
    }
}

fn is_in_place(value: &Dynamic) -> bool {
    value.is_int() || value.is_float() || value.is_unit() || value.is_bool() || value.is_char()
}

/// Bytes that a copy of the value takes beyond its place; texts are shared.
fn deep_size(value: &Dynamic) -> u128 {
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| VALUE + deep_size(item)).sum::<u128>() + TEXT;
    }
    if let Ok(map) = value.as_map_ref() {
        return map.values().map(|item| TEXT + deep_size(item)).sum::<u128>() + TEXT;
    }
    value.as_blob_ref().map_or(0, |blob| blob.len() as u128)
}

/// Bytes of the value as text, at least: a long text counts as often as it is there.
fn text_size(value: &Dynamic) -> u128 {
    if let Ok(text) = value.as_immutable_string_ref() {
        return text.len() as u128 + 2;
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(text_size).sum::<u128>() + 2;
    }
    if let Ok(map) = value.as_map_ref() {
        return map.iter().map(|(key, value)| key.len() as u128 + text_size(value) + 4).sum::<u128>() + 2;
    }
    value.as_blob_ref().map_or(8, |blob| 2 * blob.len() as u128)
}

#[cfg(test)]
mod tests {
    use crate::script::engine::session::printed_by;

    /// Each of these prints the same in an engine without our functions.
    const HONEST: &[&str] = &[
        r#"let s = "ab"; s.pad(5, 'x'); print(s); s.pad(9, "yz"); print(s); s.pad(5000, "éab"); print(s); s.pad(2, 'q'); s.pad(-3, 'q'); print(s);"#,
        r#"let a = [1]; a.pad(3, "x"); a.pad(2, 0); a.pad(-1, 0); print(a); print(a.len());"#,
        r#"let b = blob(3); b.pad(5, 300); print(b); print(blob(2, 65)); print(blob(-1)); b.pad(-2, 1); print(b.len());"#,
        r#"let s = "a-b-c"; s.replace("-", "++"); print(s); s.replace('a', 'z'); s.replace("b", 'y'); s.replace('c', "xx"); print(s); s.replace("", "é"); print(s);"#,
        r#"print("a b  c".split()); print("a,b,,c".split(",")); print("a,b,c".split(',')); print("a,b,c".split(",", 2));"#,
        r#"print("a,b,c".split(',', 0)); print("a,b,c".split(",", -4)); print("abc".split("")); print("".split(","));"#,
        r#"print("a,b,c".split_rev(",")); print("a,b,c".split_rev(',')); print("a,b,c".split_rev(",", 2)); print("a,b,c".split_rev(',', 1));"#,
        r#"print("héé".to_chars()); print(blob(2, 7).to_array());"#,
        r#"print([1, "a\n", 'b', (), 2.5, [], #{}]); print(#{ a: 1, "b c": ["x"] }); debug([1]); print(`${[1, "x"]} ${#{ a: "q" }}`);"#,
        r#"print([1, "a"].to_string()); print(#{ a: [1] }.to_debug()); print("x" + [1, "y"]); print(#{ a: 1 } + "x"); print([]); print(#{});"#,
        r#"print(parse_json("[1, {\"a\": null, \"b\": [2.5, true]}, \"x\"]"));"#,
        r#"print([1, Fn("x"), |x| x + 1].len()); print([blob(2, 1)]);"#,
    ];

    #[test]
    fn results_are_those_of_the_language() {
        use std::cell::RefCell;
        use std::rc::Rc;
        for script in HONEST {
            let printed = Rc::new(RefCell::new(String::new()));
            let (print, debug) = (printed.clone(), printed.clone());
            let mut engine = rhai::Engine::new();
            engine.on_print(move |text| print.borrow_mut().push_str(&format!("{text}\n")));
            engine.on_debug(move |text, _, _| debug.borrow_mut().push_str(&format!("{text}\n")));
            engine.run(script).unwrap_or_else(|error| panic!("{script}: {error}"));
            assert_eq!(printed_by(script).unwrap(), *printed.borrow(), "{script}");
        }
    }

    #[test]
    fn what_would_take_too_much_is_refused_before_it_is_allocated() {
        for script in [
            "let a = []; a.pad(100000000000, 1);",
            "let a = []; a.pad(9223372036854775807, 1);",
            "let s = \"x\"; s.pad(1000000000000, 'y');",
            "let s = \"x\"; s.pad(9223372036854775807, \"yz\");",
            "blob(100000000000);",
            "blob(9223372036854775807, 1);",
            "let b = blob(1); b.pad(100000000000, 1);",
            "let s = \"\"; s.pad(3000000, 'a'); let t = s; t.replace(\"a\", s);",
            "let s = \"\"; s.pad(3000000, 'a'); let a = []; a.pad(1000000, s); print(a);",
            "let s = \"\"; s.pad(3000000, 'a'); let a = []; a.pad(1000000, s); let t = `${a}`;",
            "let s = \"\"; s.pad(3000000, 'a'); let m = #{}; for i in 0..10000 { m[`${i}`] = s; } \"x\" + m;",
            "let s = \"\"; s.pad(3000000, 'a'); let a = []; a.pad(1000000, s); write_json(\"x.json\", a);",
            "let s = \"\"; s.pad(3000000, 'a'); let a = []; a.pad(100000, #{ text: s }); dataset(a);",
        ] {
            let error = printed_by(script).unwrap_err();
            assert!(error.contains("expected at most"), "{script}: {error}");
        }
        let error = printed_by("let s = \"x\"; s.pad(10, \"\");").unwrap_err();
        assert!(error.contains("pad: expected a text to fill with, found an empty one"), "{error}");
    }
}
