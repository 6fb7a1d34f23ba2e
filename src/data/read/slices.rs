//! Parses split expressions as `datasets` does: `train`, `train[:10%]`, `train[10:20]+validation`.

use super::options::CALL;
use crate::error::{Error, Result};
use crate::options::Refusal;
use crate::{bail, Kind};
use std::ops::Range;

/// Rows of one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub split: String,
    from: Option<i64>,
    to: Option<i64>,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rows,
    /// Rounded to the nearest row.
    Percent,
    /// Multiples of one percent, so that equal slices have equal lengths.
    WholePercent,
}

impl Slice {
    /// All rows of a split.
    pub fn full(split: &str) -> Self {
        Slice { split: split.to_owned(), from: None, to: None, unit: Unit::Rows }
    }

    /// The slices of `a[from:to]+b`.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        text.split('+').map(|part| parse_slice(part.trim()).ok_or_else(|| malformed(text))).collect()
    }

    /// The rows of a split of `len` rows.
    pub fn range(&self, len: usize) -> Result<Range<usize>> {
        if self.unit == Unit::WholePercent && len < 100 {
            bail!(
                Kind::Input,
                "{CALL}: option `split`: `pct1_dropremainder` needs at least 100 rows, and `{}` has {len}",
                self.split
            );
        }
        let bound = |bound: i64| {
            let rows = match self.unit {
                Unit::Rows => bound,
                Unit::Percent => (bound as f64 * len as f64 / 100.0).round_ties_even() as i64,
                Unit::WholePercent => bound.saturating_mul((len / 100) as i64),
            };
            let rows = if rows < 0 { (len as i64).saturating_add(rows).max(0) } else { rows };
            (rows as usize).min(len)
        };
        let (from, to) = (self.from.map_or(0, bound), self.to.map_or(len, bound));
        Ok(from..to.max(from))
    }
}

fn malformed(text: &str) -> Error {
    Refusal::new("split", "a split, or rows of one", format!("\"{text}\""))
        .with_hint("as in \"train\", \"train[:10%]\", \"train[100:200]\", \"train+validation\"")
        .error(CALL)
}

fn parse_slice(part: &str) -> Option<Slice> {
    let (part, rounding) = match part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        Some((part, rounding)) => (part, Some(rounding)),
        None => (part, None),
    };
    let Some((split, bounds)) = part.strip_suffix(']').and_then(|part| part.split_once('[')) else {
        let is_name = !part.is_empty() && !part.contains(['[', ']', '(', ')', ':', '%']) && rounding.is_none();
        return is_name.then(|| Slice::full(part));
    };
    let (from, to) = bounds.split_once(':')?;
    let is_percent = [from, to].iter().any(|bound| bound.trim().ends_with('%'));
    let unit = match (is_percent, rounding) {
        (false, None) => Unit::Rows,
        (true, None | Some("closest")) => Unit::Percent,
        (true, Some("pct1_dropremainder")) => Unit::WholePercent,
        _ => return None,
    };
    let bound = |text: &str| match text.trim() {
        "" => Some(None),
        text => text.trim_end_matches('%').replace('_', "").parse().ok().map(Some),
    };
    (!split.is_empty()).then_some(())?;
    Some(Slice { split: split.to_owned(), from: bound(from)?, to: bound(to)?, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_the_same_as_in_datasets() {
        // From datasets 5.2: ReadInstruction.from_spec(text).to_absolute({"train": len}).
        for (text, len, expected) in [
            ("train", 7, 0..7),
            ("train[:1%]", 250, 0..2),
            ("train[:1%]", 350, 0..4),
            ("train[50%:]", 5, 2..5),
            ("train[-10%:]", 95, 85..95),
            ("train[10:20]", 15, 10..15),
            ("train[-3:]", 10, 7..10),
            ("train[:-3]", 10, 0..7),
            ("train[5:2]", 10, 5..5),
            ("train[1_0:]", 12, 10..12),
            ("train[:20%](pct1_dropremainder)", 199, 0..20),
        ] {
            let slices = Slice::parse(text).unwrap();
            assert_eq!(slices[0].range(len).unwrap(), expected, "{text} of {len}");
        }
        assert_eq!(Slice::parse("train + validation[:2]").unwrap().len(), 2);
        for wrong in ["", "train[", "train[1]", "train[a:b]", "train+", "[1:2]", "train[:5](closest)", "train[:5%](up)"]
        {
            assert!(Slice::parse(wrong).is_err(), "{wrong}");
        }
    }
}
