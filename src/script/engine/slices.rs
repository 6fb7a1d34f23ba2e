//! Functions of the language that take a range of positions, with the meaning of a slice in Python: negative bounds count
//! from the end.
//!
//! The language reads a negative start as 0, so that `list.extract(-5..)` would be the whole list, and `drain(-2..)` would
//! empty it. `text[-3..]` and `extract(-3)` count from the end there too.

use rhai::{Dynamic, Engine, ImmutableString, Variant};
use std::ops::{Range, RangeInclusive};

/// Registers them; functions of the engine go before those of its packages.
pub fn register(engine: &mut Engine) {
    lists::<Dynamic, Range<i64>>(engine);
    lists::<Dynamic, RangeInclusive<i64>>(engine);
    lists::<u8, Range<i64>>(engine);
    lists::<u8, RangeInclusive<i64>>(engine);
    texts::<Range<i64>>(engine);
    texts::<RangeInclusive<i64>>(engine);
}

/// A range as a script writes it: `2..5`, `2..=4`, `-3..`.
trait Bounds: Clone {
    /// The first position and the one behind the last, possibly negative.
    fn ends(&self) -> (i64, i64);

    /// The positions in a list of `len`.
    fn within(&self, len: usize) -> Range<usize> {
        let position = |bound: i64| {
            let from_the_end = usize::try_from(bound.unsigned_abs()).unwrap_or(usize::MAX);
            if bound < 0 {
                len.saturating_sub(from_the_end)
            } else {
                len.min(from_the_end)
            }
        };
        let (start, end) = self.ends();
        let start = position(start);
        start..position(end).max(start)
    }
}

impl Bounds for Range<i64> {
    fn ends(&self) -> (i64, i64) {
        (self.start, self.end)
    }
}

impl Bounds for RangeInclusive<i64> {
    fn ends(&self) -> (i64, i64) {
        match *self.end() {
            // `..=-1` holds the last item, behind which there is no negative position.
            -1 => (*self.start(), i64::MAX),
            last => (*self.start(), last.saturating_add(1)),
        }
    }
}

fn lists<T, R>(engine: &mut Engine)
where
    T: Clone + 'static,
    R: Bounds + Variant,
    Vec<T>: Variant,
{
    engine.register_fn("extract", |list: &mut Vec<T>, range: R| list[range.within(list.len())].to_vec());
    engine.register_fn("drain", |list: &mut Vec<T>, range: R| list.drain(range.within(list.len())).collect::<Vec<T>>());
    engine.register_fn("retain", |list: &mut Vec<T>, range: R| {
        let Range { start, end } = range.within(list.len());
        let after = list.split_off(end);
        let kept = list.split_off(start);
        let mut removed = std::mem::replace(list, kept);
        removed.extend(after);
        removed
    });
    engine.register_fn("splice", |list: &mut Vec<T>, range: R, other: Vec<T>| {
        list.splice(range.within(list.len()), other);
    });
}

/// By characters, as all positions in texts.
fn texts<R: Bounds + Variant>(engine: &mut Engine) {
    let part = |text: &str, range: R| -> ImmutableString {
        let Range { start, end } = range.within(text.chars().count());
        text.chars().skip(start).take(end - start).collect::<String>().into()
    };
    engine.register_fn("sub_string", move |text: &str, range: R| part(text, range));
    engine.register_fn("crop", move |text: &mut ImmutableString, range: R| *text = part(text, range));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `list(range(7))[start:end]` in Python.
    #[test]
    fn bounds_are_those_of_python() {
        let cases = [
            (-5, i64::MAX, 2..7),
            (2, 5, 2..5),
            (-3, -1, 4..6),
            (0, -2, 0..5),
            (-100, 3, 0..3),
            (5, 100, 5..7),
            (6, 2, 6..6),
            (-1, -3, 6..6),
            (9, 12, 7..7),
            (i64::MIN, i64::MAX, 0..7),
        ];
        for (start, end, expected) in cases {
            assert_eq!((start..end).within(7), expected, "{start}..{end}");
        }
        assert_eq!((-3..=-1).within(7), 4..7);
        assert_eq!((2..=4).within(7), 2..5);
        assert_eq!((0..=i64::MAX).within(7), 0..7);
        assert_eq!((-2..5).within(0), 0..0);
    }

    #[test]
    fn functions_of_the_language_go_by_them() {
        let mut engine = Engine::new();
        register(&mut engine);
        let cases = [
            ("[1, 2, 3, 4].extract(-3..)", "[2, 3, 4]"),
            ("[1, 2, 3, 4].extract(..=-2)", "[1, 2, 3]"),
            ("[1, 2, 3, 4].extract(1..9)", "[2, 3, 4]"),
            ("let a = [1, 2, 3, 4]; [a.drain(-2..), a]", "[[3, 4], [1, 2]]"),
            ("let a = [1, 2, 3, 4]; [a.retain(1..-1), a]", "[[1, 4], [2, 3]]"),
            ("let a = [1, 2, 3, 4]; a.splice(-1.., [7, 8]); a", "[1, 2, 3, 7, 8]"),
            ("let b = blob(3, 1); b.splice(-1.., blob(2, 5)); b.extract(-3..)", "[010505]"),
            ("\"größer\".sub_string(-4..)", "ößer"),
            ("let t = \"größer\"; t.crop(2..-1); t", "öße"),
            ("\"größer\".sub_string(2..=3)", "öß"),
        ];
        for (script, expected) in cases {
            assert_eq!(engine.eval::<Dynamic>(script).unwrap().to_string(), expected, "{script}");
        }
        assert!(!engine.eval::<bool>("let a = [1, 2, 3]; a.drain(5..); a.is_empty()").unwrap());
    }
}
