//! Means of named numbers over batches or steps.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Weighted sums by name. A name that some batches lack is averaged over those that have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MeanMetrics(BTreeMap<String, (f64, f64)>);

impl MeanMetrics {
    /// Adds a sum over `weight` values.
    pub fn add(&mut self, name: &str, sum: f64, weight: f64) {
        let entry = self.0.entry(name.to_owned()).or_default();
        *entry = (entry.0 + sum, entry.1 + weight);
    }

    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, (sum, weight))| self.add(name, *sum, *weight));
    }

    pub fn mean(&self, name: &str) -> Option<f64> {
        self.0.get(name).filter(|(_, weight)| *weight > 0.0).map(|(sum, weight)| sum / weight)
    }

    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.keys().filter_map(|name| Some((name.as_str(), self.mean(name)?)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_averaged_over_the_batches_that_have_it() {
        let mut metrics = MeanMetrics::default();
        metrics.add("a", 6.0, 2.0);
        let mut other = MeanMetrics::default();
        other.add("a", 1.0, 1.0);
        other.add("b", 5.0, 1.0);
        metrics.extend(&other);
        assert_eq!(metrics.means().collect::<Vec<_>>(), [("a", 7.0 / 3.0), ("b", 5.0)]);
        assert_eq!(metrics.mean("c"), None);
    }
}
