//! Held-out rows, measured by several processes: each its part, and the mean over all labels of all.

use super::Processes;
use crate::data::TokenizedDataset;
use crate::error::{Error, Result};
use crate::model::Decoder;
use crate::train::step::total_weight;
use std::cmp::Reverse;

/// Rows whose labels are counted at a time.
const PIECE: usize = 64;

/// The held-out rows that this process measures.
pub struct HeldOutPart<'a> {
    processes: &'a Processes,
    rows: TokenizedDataset,
    /// Of the labels of these rows.
    weight: f64,
}

impl<'a> HeldOutPart<'a> {
    /// Sorts the rows by length and deals them in turn. If rotary frequencies depend on the longest row of a batch, the
    /// first process gets all rows.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn new(processes: &'a Processes, data: &TokenizedDataset, decoder: &Decoder) -> Result<Self> {
        let mut rows: Vec<usize> = (0..data.len()).collect();
        let length = |row: usize| data.row(row).map_or(0, |row| row.len());
        rows.sort_by_key(|&row| (Reverse(length(row)), row));
        let lengths: Vec<i64> = rows.iter().map(|&row| length(row) as i64).collect();
        let own: Vec<usize> = if decoder.computes_prefixes_alike(&lengths) {
            rows.into_iter().skip(processes.rank()).step_by(processes.size()).collect()
        } else if processes.is_first() {
            rows
        } else {
            Vec::new()
        };
        let rows: Vec<u32> = own.iter().map(|&row| row as u32).collect();
        let weights = rows.chunks(PIECE).map(|rows| Ok(total_weight(&data.batch(rows)?)));
        let weight = weights.collect::<Result<Vec<f64>>>()?.into_iter().sum();
        Ok(HeldOutPart { processes, rows: data.select(&own)?, weight })
    }

    /// The mean losses over the rows of all processes, of `count` runs: `measure` gives those over rows.
    ///
    /// # Errors
    /// Those of `measure`, in any process; labels that all have the weight 0.
    pub fn mean_losses(
        &self,
        count: usize,
        measure: impl FnOnce(&TokenizedDataset) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let losses = if self.weight > 0.0 { measure(&self.rows) } else { Ok(vec![0.0; count]) };
        let losses = self.processes.meet("an evaluation", losses)?;
        let mut sums: Vec<f64> = losses.into_iter().map(|loss| loss * self.weight).collect();
        sums.push(self.weight);
        let mut sums = self.processes.sum_numbers(&sums)?;
        let weight = sums.pop().unwrap_or(0.0);
        if weight == 0.0 {
            return Err(Error::data(
                "every label of the evaluation split has the weight 0: there is nothing to measure",
            ));
        }
        Ok(sums.into_iter().map(|sum| sum / weight).collect())
    }
}
