//! A tokenised data set: an immutable store and a list of its rows, so clones, splits and selections copy no tokens.
//!
//! Leaves to others: making the tokens (`tokenize.rs`), caching them on disk (`cache.rs`), printing them (`show.rs`).

use super::batch::{Batch, IGNORE};
use super::split::{split_rows, Like};
use super::store::{flag, RowKind, RowView, Store, StoreWriter, TokenizedInfo, TokenizedRow};
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::lora::Model;
use crate::random::Key;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

/// Ids and labels of a data set. A clone refers to the same tokens.
#[derive(Debug, Clone)]
pub struct TokenizedDataset {
    store: Arc<Store>,
    rows: Arc<[u32]>,
    fingerprint: Arc<OnceLock<String>>,
    /// Whether rows represent others that were not tokenised.
    is_sample: bool,
}

impl TokenizedDataset {
    /// Rows of one document each, from ids and labels made elsewhere.
    ///
    /// Fails if a row's `trained` is not as long as its `ids`.
    pub fn from_rows(rows: impl IntoIterator<Item = TokenizedRow>, info: TokenizedInfo) -> Result<Self> {
        let mut store = StoreWriter::new(info);
        for (index, row) in rows.into_iter().enumerate() {
            if row.ids.len() != row.trained.len() {
                crate::bail!(crate::Kind::Data, "row {index}: {} ids but {} labels", row.ids.len(), row.trained.len());
            }
            store.push_document(&row)?;
            store.end_row();
        }
        Ok(Self::of_store(store.finish()?))
    }

    /// All rows of a store.
    pub(super) fn of_store(store: Store) -> Self {
        let rows = (0..store.row_ends.len() as u32).collect();
        TokenizedDataset { store: Arc::new(store), rows, fingerprint: Arc::default(), is_sample: false }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    fn choose(&self, rows: impl Into<Arc<[u32]>>) -> Self {
        let (store, is_sample) = (self.store.clone(), self.is_sample);
        TokenizedDataset { store, rows: rows.into(), fingerprint: Arc::default(), is_sample }
    }

    /// As many rows as the whole data set has, where `self` is a sample of it: each row is repeated in place of its
    /// neighbours.
    pub(super) fn scaled_to(&self, count: usize) -> Self {
        let rows: Vec<u32> = (0..count).filter_map(|row| self.rows.get(row * self.len() / count).copied()).collect();
        TokenizedDataset { is_sample: true, ..self.choose(rows) }
    }

    /// Do rows stand for others that were not tokenized?
    pub fn is_sample(&self) -> bool {
        self.is_sample
    }

    /// The `count` shortest rows, those with labels first.
    pub fn shortest(&self, count: usize) -> Self {
        let mut rows: Vec<u32> = self.rows.to_vec();
        let view = |row: u32| RowView { store: &self.store, row: row as usize };
        rows.sort_by_cached_key(|&row| (view(row).label_count() == 0, view(row).len()));
        rows.truncate(count);
        self.choose(rows)
    }

    /// The largest number of tokens a row can have: `max_length` for rows that were not tokenised.
    pub fn longest_possible(&self) -> usize {
        self.info().max_length.filter(|_| self.is_sample).unwrap_or_else(|| self.longest())
    }

    /// The number of rows; packed documents count once.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn info(&self) -> &TokenizedInfo {
        &self.store.info
    }

    pub fn kind(&self) -> RowKind {
        self.store.info.kind
    }

    pub fn row(&self, row: usize) -> Option<RowView<'_>> {
        self.rows.get(row).map(|&row| RowView { store: &self.store, row: row as usize })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RowView<'_>> {
        self.rows.iter().map(|&row| RowView { store: &self.store, row: row as usize })
    }

    /// Whether any row has more than one document.
    pub fn is_packed(&self) -> bool {
        self.iter().any(|row| row.documents().len() > 1)
    }

    /// Tokens of all rows, without padding.
    pub fn token_count(&self) -> usize {
        self.iter().map(RowView::len).sum()
    }

    /// Tokens of all rows that are trained on.
    pub fn label_count(&self) -> usize {
        self.iter().map(RowView::label_count).sum()
    }

    /// Do labels count differently in the loss?
    pub fn has_weights(&self) -> bool {
        self.store.has_weights()
    }

    /// The tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.iter().map(RowView::len).max().unwrap_or(0)
    }

    /// The rows with these indices, in their order. Fails on a row that does not exist.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        let stored: Result<Vec<u32>> = rows.iter().map(|&row| self.stored(row)).collect();
        Ok(self.choose(stored?))
    }

    /// The first `count` rows, or all if there are fewer.
    pub fn take(&self, count: usize) -> Self {
        self.choose(&self.rows[..count.min(self.rows.len())])
    }

    /// Splits into (train, test), in a random order that `seed` determines.
    ///
    /// `test` is a fraction of the rows if it is below 1, and a number of rows otherwise. Fails if one side would be
    /// empty.
    pub fn split(&self, test: f64, seed: u64) -> Result<(Self, Self)> {
        self.split_like(test, seed, Like::default())
    }

    /// As [`split`](Self::split), with the random numbers of `like`.
    pub fn split_like(&self, test: f64, seed: u64, like: Like) -> Result<(Self, Self)> {
        let (train, test) = split_rows(self.len(), test, seed, like)?;
        Ok((self.select(&train)?, self.select(&test)?))
    }

    /// A warning where rows are longer than the positions of the model that reads them.
    pub fn length_warning(&self, model: &Model) -> Option<String> {
        let positions = model.decoder().config.max_position_embeddings;
        let most = usize::try_from(positions).unwrap_or(usize::MAX);
        let is_long = |row: &RowView| row.documents().any(|document| document.ids().len() > most);
        let count = self.iter().filter(is_long).count();
        let (all, most) = (self.len(), thousands(most as u64));
        let text = || format!("warning: {count} of {all} rows are longer than the {most} positions of the model");
        (count > 0).then(text)
    }

    /// The rows of `self`, then those of `other`.
    ///
    /// # Errors
    /// A disk that is full or fails.
    pub fn concatenate(&self, other: &Self) -> Result<Self> {
        if Arc::ptr_eq(&self.store, &other.store) {
            return Ok(self.choose([&self.rows[..], &other.rows[..]].concat()));
        }
        let mut store = StoreWriter::new(self.store.info.clone());
        store.info.dropped += other.store.info.dropped;
        if self.kind() != other.kind() {
            store.info.kind = RowKind::Mixed;
        }
        for row in self.iter().chain(other.iter()) {
            for document in row.documents() {
                store.push_document(&document.to_row())?;
            }
            store.end_row();
        }
        Ok(TokenizedDataset { is_sample: self.is_sample || other.is_sample, ..Self::of_store(store.finish()?) })
    }

    /// The order of the rows in one epoch: a pure function of (seed, epoch, number of rows).
    pub fn epoch_order(&self, seed: u64, epoch: u64) -> Vec<u32> {
        Key::new(seed).named("data order").numbered(epoch).permutation(self.len())
    }

    /// The rows with these indices as a batch, padded on the right to the longest of them.
    ///
    /// Padding has no label, and segment -1 if a row is packed. Fails on an empty list and on a row that does not exist.
    pub fn batch(&self, rows: &[u32]) -> Result<Batch> {
        let views: Result<Vec<RowView>> = rows
            .iter()
            .map(|&row| Ok(RowView { store: &self.store, row: self.stored(row as usize)? as usize }))
            .collect();
        let views = views?;
        let seq_len = views.iter().map(|row| row.len()).max().unwrap_or(0);
        if seq_len == 0 {
            return Err(Error::data("a batch needs at least one row with at least one token"));
        }
        let is_packed = views.iter().any(|row| row.documents().len() > 1);
        let cells = views.len() * seq_len;
        let mut batch = Batch {
            rows: views.len(),
            seq_len,
            input_ids: vec![i64::from(self.store.info.pad_id); cells],
            labels: vec![IGNORE; cells],
            position_ids: vec![0; cells],
            segments: is_packed.then(|| vec![-1; cells]),
            weights: self.store.has_weights().then(|| vec![1.0; cells]),
            samples: None,
            shares_prefixes: false,
            part_of: None,
        };
        for (index, row) in views.iter().enumerate() {
            fill(&mut batch, index * seq_len, *row);
        }
        Ok(batch)
    }

    /// SHA-256 (hex) of the ids, labels, weights and document ends of the rows, in their order; of preferences also of their
    /// kind and labels.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            let is_preference = self.kind() != RowKind::Examples;
            if is_preference {
                hash.update(format!("{:?}", self.kind()));
            }
            for row in self.iter() {
                hash.update((row.documents().len() as u64).to_le_bytes());
                for document in row.documents() {
                    hash.update((document.ids().len() as u64).to_le_bytes());
                    if is_preference {
                        hash.update([u8::from(document.flags() & flag::DESIRABLE != 0)]);
                    }
                    for (id, trained) in document.ids().iter().zip(document.trained()) {
                        hash.update((u64::from(*id) << 1 | u64::from(trained)).to_le_bytes());
                    }
                    for weight in document.weights().unwrap_or_default() {
                        hash.update(weight.to_le_bytes());
                    }
                }
            }
            format!("{:x}", hash.finalize())
        })
    }

    fn stored(&self, row: usize) -> Result<u32> {
        self.rows.get(row).copied().ok_or_else(|| {
            Error::input(format!("row {row} does not exist: the data set has {} rows, from 0", self.rows.len()))
        })
    }
}

fn fill(batch: &mut Batch, start: usize, row: RowView) {
    let mut cell = start;
    for (segment, document) in row.documents().enumerate() {
        let weights = document.weights();
        for (position, (&id, trained)) in document.ids().iter().zip(document.trained()).enumerate() {
            batch.input_ids[cell] = i64::from(id);
            batch.position_ids[cell] = position as i64;
            if trained {
                batch.labels[cell] = i64::from(id);
            }
            if let Some(segments) = &mut batch.segments {
                segments[cell] = segment as i64;
            }
            if let (Some(all), Some(weights)) = (&mut batch.weights, weights) {
                all[cell] = weights[position];
            }
            cell += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ids: &[u32], trained: &[u8]) -> TokenizedRow {
        TokenizedRow {
            ids: ids.to_vec(),
            trained: trained.iter().map(|&bit| bit == 1).collect(),
            ..TokenizedRow::default()
        }
    }

    fn sample() -> TokenizedDataset {
        let info = TokenizedInfo { pad_id: 9, ..TokenizedInfo::default() };
        let rows =
            [row(&[1, 2, 3], &[1, 0, 1]), row(&[4, 5], &[0, 1]), row(&[6], &[1]), row(&[7, 8, 7, 8], &[0, 0, 1, 1])];
        TokenizedDataset::from_rows(rows, info).unwrap()
    }

    #[test]
    fn a_batch_is_padded_on_the_right_and_its_first_tokens_have_no_label() {
        let batch = sample().batch(&[0, 1]).unwrap();
        assert_eq!(batch.input_ids, [1, 2, 3, 4, 5, 9]);
        assert_eq!(batch.labels, [IGNORE, IGNORE, 3, IGNORE, 5, IGNORE]);
        assert_eq!(batch.position_ids, [0, 1, 2, 0, 1, 0]);
        assert_eq!(batch.segments, None);
        assert!(sample().batch(&[4]).is_err() && sample().batch(&[]).is_err());
    }

    #[test]
    fn packed_rows_restart_positions_and_number_their_documents() {
        let mut store = StoreWriter::default();
        store.push_document(&row(&[1, 2], &[0, 1])).unwrap();
        store.push_document(&row(&[3, 4, 5], &[1, 1, 1])).unwrap();
        store.end_row();
        store.push_document(&row(&[6], &[0])).unwrap();
        store.end_row();
        let batch = TokenizedDataset::of_store(store.finish().unwrap()).batch(&[0, 1]).unwrap();
        assert_eq!(batch.position_ids[..5], [0, 1, 0, 1, 2]);
        assert_eq!(batch.segments, Some(vec![0, 0, 1, 1, 1, 0, -1, -1, -1, -1]));
        assert_eq!(batch.labels[..5], [IGNORE, 2, IGNORE, 4, 5]);
        assert_eq!(batch.token_count(), 6);
    }

    #[test]
    fn views_keep_contents_and_fingerprints() {
        let data = sample();
        assert_eq!((data.len(), data.token_count(), data.label_count()), (4, 10, 4));
        let (train, test) = data.split(1.0, 3).unwrap();
        assert_eq!((train.len(), test.len()), (3, 1));
        let other = sample();
        assert_eq!(data.fingerprint(), other.fingerprint());
        assert_ne!(data.fingerprint(), data.take(3).fingerprint());
        assert_eq!(data.concatenate(&data).unwrap().fingerprint(), data.concatenate(&other).unwrap().fingerprint());
        assert_eq!(data.select(&[3, 0]).unwrap().row(1).unwrap().ids(), [1, 2, 3]);
        assert!(data.split(0.0, 0).is_err() && data.split(4.0, 0).is_err() && data.split(f64::NAN, 0).is_err());
    }

    #[test]
    fn an_epoch_visits_every_row_once_in_another_order() {
        let data = sample();
        let mut order = data.epoch_order(1, 0);
        assert_eq!(order, data.clone().epoch_order(1, 0));
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
        assert!((1..10).any(|epoch| data.epoch_order(1, epoch) != data.epoch_order(1, 0)));
    }
}
