//! A metric with its uncertainty.

use super::bootstrap::{standard_deviation, Bootstrap};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub name: String,
    pub value: f64,
    /// `None` where there are too few items.
    pub standard_error: Option<f64>,
    /// The bootstrap's percentile interval.
    pub interval: Option<[f64; 2]>,
}

impl Measured {
    /// The mean of a score per item, with its standard error s/√n.
    pub fn mean(name: &str, scores: &[f64], bootstrap: &Bootstrap) -> Result<Self> {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / scores.len() as f64;
        let spread =
            bootstrap.spread(scores.len(), |drawn| mean(&mut drawn.iter().map(|&item| scores[item as usize])))?;
        let standard_error = standard_deviation(scores) / (scores.len() as f64).sqrt();
        Ok(Measured {
            name: name.to_owned(),
            value: mean(&mut scores.iter().copied()),
            standard_error: Some(standard_error).filter(|error| error.is_finite()),
            interval: spread.map(|spread| [spread.low, spread.high]),
        })
    }

    /// A statistic over `count` items that is not a mean: its standard error is the bootstrap's.
    pub fn of(name: &str, count: usize, bootstrap: &Bootstrap, statistic: impl Fn(&[u32]) -> f64) -> Result<Self> {
        let all: Vec<u32> = (0..count as u32).collect();
        let value = statistic(&all);
        let spread = bootstrap.spread(count, statistic)?;
        Ok(Measured {
            name: name.to_owned(),
            value,
            standard_error: spread.map(|spread| spread.standard_error),
            interval: spread.map(|spread| [spread.low, spread.high]),
        })
    }
}
