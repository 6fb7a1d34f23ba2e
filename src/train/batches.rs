//! The batches of one epoch, for training loops that callers write themselves.

use super::sampler::grouped_by_length;
use crate::data::{Batch, Pace, TokenizedDataset};
use crate::error::Result;
use crate::format::thousands;
use crate::options;
use std::fmt;

options! {
    /// How rows are put into batches.
    #[derive(Debug, Clone)]
    pub struct BatchesOptions {
        /// Rows per batch.
        pub size: usize = 8, alias ["batch_size"], range at_least(1.0);
        /// The seed of a random order.
        pub shuffle: Option<u64> = None, words "in file order";
        /// The number of the epoch: each has its own random order.
        pub epoch: u64 = 0;
        /// Leaves out the last batch if it has fewer rows than the others.
        pub drop_last: bool = false;
        /// Puts rows of similar length into one batch, as in `train`.
        pub group_by_length: bool = false;
        /// Batches at the beginning that are left out: those that a loop which goes on had before.
        pub skip: usize = 0, alias ["skip_first_batches"];
    }
}

/// The rows of each batch of one epoch.
#[derive(Clone)]
pub struct Batches {
    data: TokenizedDataset,
    rows: Vec<Vec<u32>>,
}

impl Batches {
    /// All batches.
    pub fn new(data: &TokenizedDataset, options: &BatchesOptions) -> Self {
        let BatchesOptions { size, shuffle, epoch, drop_last, group_by_length, skip } = *options;
        let order = match shuffle {
            Some(seed) => data.epoch_order(seed, epoch),
            None => (0..data.len() as u32).collect(),
        };
        let length = |row: u32| data.row(row as usize).map_or(0, |row| row.len());
        let order = if group_by_length { grouped_by_length(order, length, size) } else { order };
        let mut batches = Self::in_order(data.clone(), &order, size, drop_last);
        batches.rows.drain(..skip.min(batches.rows.len()));
        batches
    }

    /// At the pace of a rehearsal a few batches of the shortest rows, and a sentence that says so.
    pub fn at(data: &TokenizedDataset, options: &BatchesOptions, pace: Pace) -> (Self, Option<String>) {
        if pace.is_full() {
            return (Self::new(data, options), None);
        }
        let size = options.size;
        let all = if options.drop_last { data.len() / size } else { data.len().div_ceil(size) };
        let (count, rows) = (pace.count(all), pace.count(size));
        let shortest = data.shortest(count * rows);
        let order: Vec<u32> = (0..shortest.len() as u32).collect();
        let note = format!(
            "a loop of the script's own over {} batches of {size} rows: {count} of up to {rows} were run, and no time \
             is known",
            thousands(all as u64)
        );
        (Self::in_order(shortest, &order, rows, false), Some(note))
    }

    fn in_order(data: TokenizedDataset, order: &[u32], size: usize, drop_last: bool) -> Self {
        let count = if drop_last { order.len() / size * size } else { order.len() };
        let rows = order.iter().take(count).copied().collect::<Vec<_>>();
        Batches { data, rows: rows.chunks(size).map(<[u32]>::to_vec).collect() }
    }
}

impl IntoIterator for Batches {
    type Item = Result<Batch>;
    type IntoIter = Box<dyn Iterator<Item = Result<Batch>>>;

    fn into_iter(self) -> Self::IntoIter {
        let data = self.data;
        Box::new(self.rows.into_iter().map(move |rows| data.batch(&rows)))
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        write!(out, "{} of up to {longest} rows", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::{TokenizedInfo, TokenizedRow};

    fn data(lengths: &[usize]) -> TokenizedDataset {
        let row = |length: &usize| TokenizedRow {
            ids: vec![1; *length],
            trained: vec![true; *length],
            ..TokenizedRow::default()
        };
        TokenizedDataset::from_rows(lengths.iter().map(row), TokenizedInfo::default()).unwrap()
    }

    fn sizes(batches: Batches) -> Vec<usize> {
        batches.into_iter().map(|batch| batch.unwrap().rows).collect()
    }

    #[test]
    fn the_last_batch_may_be_smaller_or_left_out() {
        let options = BatchesOptions { size: 2, ..BatchesOptions::default() };
        assert_eq!(sizes(Batches::new(&data(&[3, 4, 5]), &options)), [2, 1]);
        assert_eq!(sizes(Batches::new(&data(&[3, 4, 5]), &BatchesOptions { drop_last: true, ..options })), [2]);
    }

    #[test]
    fn the_first_batches_may_be_left_out() {
        let options = BatchesOptions { size: 2, shuffle: Some(1), ..BatchesOptions::default() };
        let all = Batches::new(&data(&[3; 7]), &options);
        for skip in [0, 1, 3, 4, 9] {
            let rest = Batches::new(&data(&[3; 7]), &BatchesOptions { skip, ..options.clone() });
            assert_eq!(rest.rows, all.rows[skip.min(4)..], "{skip}");
        }
    }

    #[test]
    fn a_rehearsal_runs_two_batches_of_the_shortest_rows_and_says_so() {
        let (batches, note) = Batches::at(&data(&[9; 20]), &BatchesOptions::default(), Pace::Rehearsal);
        assert_eq!(sizes(batches), [2, 2]);
        assert!(note.unwrap().contains("over 3 batches of 8 rows: 2 of up to 2 were run"));
        assert!(Batches::at(&data(&[9]), &BatchesOptions::default(), Pace::Full).1.is_none());
    }
}
